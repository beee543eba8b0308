//! TensorProto: an initialiser's type, shape and data.

use super::super::error::CheckpointError;
use super::super::tensor::{Dtype, Tensor, elements};
use super::wire::{Field, fields};
use crate::limits::{MAX_DIMS, MAX_TENSOR_NAME};

/// The name alone, without looking at the data.
pub fn name(message: &[u8]) -> Result<&str, CheckpointError> {
    let mut name = "";
    for field in fields(message) {
        if let (8, value) = field? {
            name = value.text()?;
        }
    }
    if name.len() > MAX_TENSOR_NAME {
        return Err(CheckpointError::Limit {
            what: "the length of a tensor's name",
            limit: MAX_TENSOR_NAME as u64,
        });
    }
    Ok(name)
}

/// Shape and type of a tensor, and where its data lies; nothing is copied yet.
pub struct Head<'a> {
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    message: &'a [u8],
    raw: Option<&'a [u8]>,
    count: usize,
}

/// Checks a TensorProto; `name` is for messages. `None` for an initialiser of texts, which is no weight.
pub fn head<'a>(message: &'a [u8], name: &str) -> Result<Option<Head<'a>>, CheckpointError> {
    let bad = |reason: &str| CheckpointError::bad(name, reason);
    let (mut dtype, mut shape, mut raw) = (0, Vec::new(), None);
    let (mut external, mut location) = (false, String::new());
    let mut typed = false;
    for field in fields(message) {
        match field? {
            (1, dims) => dims.ints(|d| {
                if shape.len() == MAX_DIMS {
                    return Err(bad("it has too many dimensions"));
                }
                shape.push(usize::try_from(d).map_err(|_| bad("a dimension is negative"))?);
                Ok(())
            })?,
            (2, value) => dtype = value.int()?,
            (3, _) => return Err(bad("it is split into segments")),
            (9, value) => raw = Some(value.bytes()?),
            (13, value) => {
                external = true;
                location.push_str(&external_location(value.bytes()?)?);
            }
            (14, value) => external |= value.int()? != 0,
            (4 | 5 | 7 | 10 | 11, value) => typed |= !matches!(value, Field::Bytes([])),
            _ => {}
        }
    }
    if external {
        return Err(CheckpointError::ExternalData { tensor: name.to_owned(), location });
    }
    let dtype = match dtype {
        1 => Dtype::Float32,
        2 => Dtype::Uint8,
        3 => Dtype::Int8,
        4 => Dtype::Uint16,
        5 => Dtype::Int16,
        6 => Dtype::Int32,
        7 => Dtype::Int64,
        8 => return Ok(None),
        9 => Dtype::Bool,
        10 => Dtype::Float16,
        11 => Dtype::Float64,
        12 => Dtype::Uint32,
        13 => Dtype::Uint64,
        16 => Dtype::Bfloat16,
        other => return Err(bad(&format!("its element type (number {other}) is not supported"))),
    };
    let count =
        elements(&shape).filter(|n| n.checked_mul(dtype.size()).is_some_and(|b| b <= isize::MAX as usize));
    let count = count.ok_or_else(|| bad("its shape is larger than any memory"))?;
    let head = Head { dtype, shape, message, raw, count };
    if let Some(raw) = raw
        && raw.len() != head.bytes()
    {
        return Err(bad(&format!(
            "its shape {:?} needs {} bytes, but it has {}",
            head.shape,
            head.bytes(),
            raw.len()
        )));
    }
    if raw.is_some() && typed {
        return Err(bad("its data stands in two fields"));
    }
    // Each element in a typed field takes a byte at least.
    if raw.is_none() && head.count > message.len() {
        return Err(bad(&format!("its shape {:?} needs more elements than it has", head.shape)));
    }
    Ok(Some(head))
}

/// StringStringEntryProto with the key "location".
fn external_location(entry: &[u8]) -> Result<String, CheckpointError> {
    let (mut key, mut value) = ("", "");
    for field in fields(entry) {
        match field? {
            (1, v) => key = v.text()?,
            (2, v) => value = v.text()?,
            _ => {}
        }
    }
    let shown = if key == "location" { value } else { "" };
    Ok(shown.escape_debug().take(200).collect())
}

impl Head<'_> {
    /// Bytes of the elements.
    pub fn bytes(&self) -> usize {
        self.count * self.dtype.size()
    }

    /// Copies the data out.
    pub fn load(self, name: String) -> Result<Tensor, CheckpointError> {
        let data = match self.raw {
            Some(raw) => raw.to_vec(),
            None => self.typed(&name)?,
        };
        Ok(Tensor { name, dtype: self.dtype, shape: self.shape, data })
    }

    /// Data in the field of its type: float_data 4, int32_data 5 (all types of up to 32 bits but float32 and uint32),
    /// int64_data 7, double_data 10, uint64_data 11 (uint32 too).
    fn typed(&self, name: &str) -> Result<Vec<u8>, CheckpointError> {
        let bad = |reason: &str| CheckpointError::bad(name, reason);
        let field_number = match self.dtype {
            Dtype::Float32 => 4,
            Dtype::Float64 => 10,
            Dtype::Int64 => 7,
            Dtype::Uint64 | Dtype::Uint32 => 11,
            _ => 5,
        };
        let size = self.dtype.size();
        let mut data = Vec::with_capacity(self.bytes());
        for field in fields(self.message) {
            let (number, value) = field?;
            if number != field_number {
                if [4, 5, 7, 10, 11].contains(&number) {
                    return Err(bad("its data stands in the field of another type"));
                }
                continue;
            }
            match (self.dtype, value) {
                (Dtype::Float32 | Dtype::Float64, Field::Bytes(packed)) => {
                    if data.len() + packed.len() > self.bytes() {
                        return Err(bad("it has more elements than its shape says"));
                    }
                    data.extend_from_slice(packed);
                }
                (Dtype::Float32, Field::Fixed32(bits)) => data.extend_from_slice(&bits.to_le_bytes()),
                (Dtype::Float64, Field::Fixed64(bits)) => data.extend_from_slice(&bits.to_le_bytes()),
                (Dtype::Float32 | Dtype::Float64, _) => return Err(bad("its data is malformed")),
                (_, value) => value.ints(|i| {
                    let bytes = i.to_le_bytes();
                    if !fits(self.dtype, i) {
                        return Err(bad(&format!("the element {i} does not fit its type {}", self.dtype)));
                    }
                    data.extend_from_slice(&bytes[..size]);
                    if data.len() > self.bytes() {
                        return Err(bad("it has more elements than its shape says"));
                    }
                    Ok(())
                })?,
            }
        }
        if data.len() != self.bytes() {
            return Err(bad(&format!(
                "its shape {:?} needs {} bytes, but it has {}",
                self.shape,
                self.bytes(),
                data.len()
            )));
        }
        Ok(data)
    }
}

/// float16 and bfloat16 stand as their bits.
fn fits(dtype: Dtype, i: i64) -> bool {
    match dtype {
        Dtype::Int32 => i32::try_from(i).is_ok(),
        Dtype::Int16 => i16::try_from(i).is_ok(),
        Dtype::Int8 => i8::try_from(i).is_ok(),
        Dtype::Uint32 => u32::try_from(i).is_ok(),
        Dtype::Uint16 | Dtype::Float16 | Dtype::Bfloat16 => u16::try_from(i).is_ok(),
        Dtype::Uint8 => u8::try_from(i).is_ok(),
        Dtype::Bool => (0..=1).contains(&i),
        _ => true,
    }
}
