//! The kernels' texts.

/// A `.cu` text with kernels declared `extern "C"`. It may include `"common.cuh"`. Where its first line is `// exact`,
/// multiplications and additions are not contracted.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name, one of its kind in the program.
    pub name: &'static str,
    /// CUDA C++.
    pub text: &'static str,
}

/// What every source may include as `"common.cuh"`: bfloat16, vectors, reductions in a block.
pub const COMMON: &str = include_str!("kernels/common.cuh");

macro_rules! text {
    ($name:literal) => {
        include_str!(concat!("kernels/", $name, ".cu"))
    };
    ($name:literal, $file:literal, $first:literal) => {
        concat!($first, include_str!(concat!("kernels/", $file, ".cu")))
    };
}

macro_rules! sources {
    ($($(#[$doc:meta])* $constant:ident = $name:literal $(, of $file:literal with $first:literal)?;)*) => {
        $(
            $(#[$doc])*
            pub(crate) static $constant: Source = Source { name: $name, text: text!($name $(, $file, $first)?) };
        )*
        /// Every source of this crate.
        pub static SOURCES: &[&Source] = &[$(&$constant),*];
    };
}

sources! {
    /// Dense convolutions and their input's gradients on the tensor cores.
    CONV = "conv";
    /// Their weights' gradients.
    WEIGHT_GRAD = "weight_grad";
    /// Dense convolutions of float32, their products rounded to TF32.
    CONV_TF32 = "conv_tf32", of "conv" with "#define TF32\n";
    /// Their weights' gradients.
    WEIGHT_GRAD_TF32 = "weight_grad_tf32", of "weight_grad" with "#define TF32\n";
    /// Both for any type, shape and alignment.
    SIMPLE = "simple";
    /// Depthwise convolutions.
    DEPTHWISE = "depthwise";
    /// Batched matrix products and softmax: attention.
    MATMUL = "matmul";
    /// Batch norm, and sums over pixels.
    NORM = "norm";
    /// Copies, sums, activations, pooling.
    ELEMENTWISE = "elementwise";
    /// Parameters to the kernels' layouts.
    PREPARE = "prepare";
}
