//! A tensor as plain bytes.

use half::{bf16, f16};
use serde::{Deserialize, Serialize};

/// Element type. Bytes are little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum Dtype {
    Float64,
    Float32,
    Float16,
    Bfloat16,
    Int64,
    Int32,
    Int16,
    Int8,
    Uint64,
    Uint32,
    Uint16,
    Uint8,
    /// One byte, 0 or 1.
    Bool,
}

impl Dtype {
    /// Bytes of one element.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Dtype::Float64 | Dtype::Int64 | Dtype::Uint64 => 8,
            Dtype::Float32 | Dtype::Int32 | Dtype::Uint32 => 4,
            Dtype::Float16 | Dtype::Bfloat16 | Dtype::Int16 | Dtype::Uint16 => 2,
            Dtype::Int8 | Dtype::Uint8 | Dtype::Bool => 1,
        }
    }

    /// PyTorch's name without `torch.`: "float32", "bfloat16", "int64" …
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Dtype::Float64 => "float64",
            Dtype::Float32 => "float32",
            Dtype::Float16 => "float16",
            Dtype::Bfloat16 => "bfloat16",
            Dtype::Int64 => "int64",
            Dtype::Int32 => "int32",
            Dtype::Int16 => "int16",
            Dtype::Int8 => "int8",
            Dtype::Uint64 => "uint64",
            Dtype::Uint32 => "uint32",
            Dtype::Uint16 => "uint16",
            Dtype::Uint8 => "uint8",
            Dtype::Bool => "bool",
        }
    }

    /// Inverse of [`Dtype::name`], with PyTorch's second names (`float`, `half`, `long` …).
    #[must_use]
    pub fn from_torch(name: &str) -> Option<Dtype> {
        Some(match name {
            "float64" | "double" => Dtype::Float64,
            "float32" | "float" => Dtype::Float32,
            "float16" | "half" => Dtype::Float16,
            "bfloat16" => Dtype::Bfloat16,
            "int64" | "long" => Dtype::Int64,
            "int32" | "int" => Dtype::Int32,
            "int16" | "short" => Dtype::Int16,
            "int8" => Dtype::Int8,
            "uint64" => Dtype::Uint64,
            "uint32" => Dtype::Uint32,
            "uint16" => Dtype::Uint16,
            "uint8" => Dtype::Uint8,
            "bool" => Dtype::Bool,
            _ => return None,
        })
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A named tensor: contiguous, row-major, little-endian.
#[derive(Clone, PartialEq)]
pub struct Tensor {
    /// Dotted name, as in a state dict.
    pub name: String,
    /// Element type.
    pub dtype: Dtype,
    /// Lengths of the dimensions, outermost first (a convolution's weight: out, in/groups, height, width). Empty: a scalar.
    pub shape: Vec<usize>,
    /// The elements; always `shape` product times `dtype` size bytes.
    pub data: Vec<u8>,
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor({} {} {:?})", self.name, self.dtype, self.shape)
    }
}

impl Tensor {
    /// A float32 tensor.
    ///
    /// # Panics
    /// If `values` is not as long as `shape` says: both come from the caller's own code.
    #[must_use]
    pub fn from_f32(name: impl Into<String>, shape: &[usize], values: &[f32]) -> Tensor {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "a tensor's shape and values must agree");
        let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Tensor { name: name.into(), dtype: Dtype::Float32, shape: shape.to_vec(), data }
    }

    /// Number of elements.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.data.len() / self.dtype.size()
    }

    /// The elements as float32, row-major. float16 and bfloat16 are exact; float64 and wide integers are rounded to nearest.
    #[must_use]
    pub fn to_f32(&self) -> Vec<f32> {
        fn each<const N: usize>(data: &[u8], f: impl Fn([u8; N]) -> f32) -> Vec<f32> {
            data.as_chunks::<N>().0.iter().map(|&c| f(c)).collect()
        }
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            reason = "rounding is the documented result"
        )]
        match self.dtype {
            Dtype::Float64 => each(&self.data, |b| f64::from_le_bytes(b) as f32),
            Dtype::Float32 => each(&self.data, f32::from_le_bytes),
            Dtype::Float16 => each(&self.data, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::Bfloat16 => each(&self.data, |b| bf16::from_le_bytes(b).to_f32()),
            Dtype::Int64 => each(&self.data, |b| i64::from_le_bytes(b) as f32),
            Dtype::Int32 => each(&self.data, |b| i32::from_le_bytes(b) as f32),
            Dtype::Int16 => each(&self.data, |b| f32::from(i16::from_le_bytes(b))),
            Dtype::Int8 => each(&self.data, |b| f32::from(i8::from_le_bytes(b))),
            Dtype::Uint64 => each(&self.data, |b| u64::from_le_bytes(b) as f32),
            Dtype::Uint32 => each(&self.data, |b| u32::from_le_bytes(b) as f32),
            Dtype::Uint16 => each(&self.data, |b| f32::from(u16::from_le_bytes(b))),
            Dtype::Uint8 => each(&self.data, |b| f32::from(u8::from_le_bytes(b))),
            Dtype::Bool => each(&self.data, |b: [u8; 1]| f32::from(u8::from(b[0] != 0))),
        }
    }
}

/// Number of elements of a shape, or `None` where it has too many dimensions or overflows.
pub(super) fn elements(shape: &[usize]) -> Option<usize> {
    if shape.len() > crate::limits::MAX_DIMS {
        return None;
    }
    shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dtype_converts_to_f32() {
        let of = |dtype: Dtype, data: &[u8]| {
            Tensor { name: "t".into(), dtype, shape: vec![data.len() / dtype.size()], data: data.to_vec() }
                .to_f32()
        };
        assert_eq!(of(Dtype::Float16, &[0x00, 0x3e, 0x00, 0xc0]), [1.5, -2.0]);
        assert_eq!(of(Dtype::Bfloat16, &[0xc0, 0x3f]), [1.5]);
        assert_eq!(of(Dtype::Float64, &(-0.25f64).to_le_bytes()), [-0.25]);
        assert_eq!(of(Dtype::Float32, &3.5f32.to_le_bytes()), [3.5]);
        assert_eq!(of(Dtype::Int64, &(-7i64).to_le_bytes()), [-7.0]);
        assert_eq!(of(Dtype::Int32, &(-7i32).to_le_bytes()), [-7.0]);
        assert_eq!(of(Dtype::Int16, &(-7i16).to_le_bytes()), [-7.0]);
        assert_eq!(of(Dtype::Int8, &[0xf9]), [-7.0]);
        assert_eq!(of(Dtype::Uint64, &7u64.to_le_bytes()), [7.0]);
        assert_eq!(of(Dtype::Uint32, &u32::MAX.to_le_bytes()), [4_294_967_296.0]);
        assert_eq!(of(Dtype::Uint16, &[0xff, 0xff]), [65_535.0]);
        assert_eq!(of(Dtype::Uint8, &[200]), [200.0]);
        assert_eq!(of(Dtype::Bool, &[0, 1, 2]), [0.0, 1.0, 1.0]);
    }

    #[test]
    fn names_of_dtypes_read_back() {
        for d in [
            Dtype::Float64,
            Dtype::Float32,
            Dtype::Float16,
            Dtype::Bfloat16,
            Dtype::Int64,
            Dtype::Int32,
            Dtype::Int16,
        ] {
            assert_eq!(Dtype::from_torch(d.name()), Some(d));
        }
        for d in [Dtype::Int8, Dtype::Uint64, Dtype::Uint32, Dtype::Uint16, Dtype::Uint8, Dtype::Bool] {
            assert_eq!(Dtype::from_torch(d.name()), Some(d));
        }
        assert_eq!(Dtype::from_torch("complex64"), None);
    }

    #[test]
    fn shapes_that_overflow_have_no_size() {
        assert_eq!(elements(&[]), Some(1));
        assert_eq!(elements(&[2, 0, 3]), Some(0));
        assert_eq!(elements(&[usize::MAX, 2]), None);
        assert_eq!(elements(&[1; 9]), None);
    }
}
