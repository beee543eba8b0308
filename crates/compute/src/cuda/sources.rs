//! The kernels' texts.

/// A `.cu` text with kernels declared `extern "C"`. It may include `"common.cuh"`.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name, one of its kind in the program.
    pub name: &'static str,
    /// CUDA C++.
    pub text: &'static str,
}

/// What every source may include as `"common.cuh"`: bfloat16, vectors, reductions in a block.
pub const COMMON: &str = include_str!("kernels/common.cuh");

/// Every source of this crate.
pub const SOURCES: &[Source] = &[ELEMENTWISE];

/// Copies, sums, activations.
pub(crate) const ELEMENTWISE: Source =
    Source { name: "elementwise", text: include_str!("kernels/elementwise.cu") };
