//! Tensors on the device as kernels see them.

/// Element type of activations on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precision {
    /// bfloat16; sums, statistics and parameters stay float32.
    Bf16,
    /// float32.
    Float32,
    /// float32, but the factors of dense convolutions' products are rounded to TF32 (10 bits of mantissa) on the tensor cores.
    Tf32,
}

impl Precision {
    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            Precision::Bf16 => 2,
            Precision::Float32 | Precision::Tf32 => 4,
        }
    }

    /// Its name in the kernels' names.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Precision::Bf16 => "bf16",
            Precision::Float32 | Precision::Tf32 => "float",
        }
    }

    /// Elements of 16 bytes.
    pub(crate) fn vector(self) -> usize {
        16 / self.bytes()
    }
}

/// A view of the executor's arena: some of the channels of a dense `[n, h, w, pixel_stride]` buffer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tensor {
    /// The first element's address on the device.
    pub address: u64,
    /// Type of the elements.
    pub precision: Precision,
    /// Elements from one pixel to the next.
    pub pixel_stride: usize,
    /// `[n, h, w, c]`.
    pub shape: [usize; 4],
}

impl Tensor {
    /// n * h * w.
    pub fn pixels(&self) -> usize {
        self.shape[0] * self.shape[1] * self.shape[2]
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.shape[3]
    }

    /// Whether groups of `v` elements from the first channel on can be read at once.
    pub(crate) fn allows(&self, v: usize) -> bool {
        self.address.is_multiple_of((v * self.precision.bytes()) as u64)
            && self.pixel_stride.is_multiple_of(v)
            && self.channels().is_multiple_of(v)
    }
}

/// Elements that can be read at once from all of these: 16 bytes, or one.
pub(crate) fn common_vector(tensors: &[&Tensor]) -> usize {
    let most = tensors[0].precision.vector();
    if tensors.iter().all(|tensor| tensor.allows(most)) { most } else { 1 }
}
