//! The kernels' parameter structures, field by field as the `.cu` files declare them.

/// conv.cu, simple.cu: `ConvClass`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConvClass {
    pub taps_y: i32,
    pub taps_x: i32,
    pub base_y: i32,
    pub base_x: i32,
    pub grid_h: i32,
    pub grid_w: i32,
    pub phase_y: i32,
    pub phase_x: i32,
    pub weights: i32,
    pub inner: i32,
    pub padded: i32,
    pub pixels: i32,
}

/// Classes at most: the product of the steps of a convolution.
pub(super) const MAX_CLASSES: usize = 16;

/// conv.cu, simple.cu: `ConvProblem`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ConvProblem {
    pub x: u64,
    pub w: u64,
    pub y: u64,
    pub bias: u64,
    pub residual: u64,
    pub partials: u64,
    pub tickets: u64,
    pub mean: u64,
    pub var: u64,
    pub gamma: u64,
    pub beta: u64,
    pub affine: u64,
    pub eps: f32,
    pub h: i32,
    pub width: i32,
    pub xs: i32,
    pub cin: i32,
    pub oh: i32,
    pub ow: i32,
    pub ys: i32,
    pub out: i32,
    pub rs: i32,
    pub stride_y: i32,
    pub stride_x: i32,
    pub step_y: i32,
    pub step_x: i32,
    pub activation: i32,
    pub add: i32,
    pub total: i32,
    pub classes: [ConvClass; MAX_CLASSES],
}

/// weight_grad.cu, simple.cu: `WeightGrad`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct WeightGradProblem {
    pub x: u64,
    pub dy: u64,
    pub partials: u64,
    pub h: i32,
    pub width: i32,
    pub xs: i32,
    pub cin: i32,
    pub oh: i32,
    pub ow: i32,
    pub ys: i32,
    pub out: i32,
    pub taps_x: i32,
    pub rows: i32,
    pub pad_y: i32,
    pub pad_x: i32,
    pub stride_y: i32,
    pub stride_x: i32,
    pub pixels: i32,
    pub split: i32,
    pub real: i32,
}

/// depthwise.cu: `Depthwise`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DepthwiseProblem {
    pub n: i32,
    pub h: i32,
    pub w: i32,
    pub oh: i32,
    pub ow: i32,
    pub channels: i32,
    pub kh: i32,
    pub kw: i32,
    pub stride_y: i32,
    pub stride_x: i32,
    pub pad_y: i32,
    pub pad_x: i32,
    pub xs: i64,
    pub ys: i64,
    pub rs: i64,
    pub activation: i32,
    pub add: i32,
    pub flipped: i32,
}

/// norm.cu: `NormFinish`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct NormFinish {
    pub mean: u64,
    pub var: u64,
    pub gamma: u64,
    pub beta: u64,
    pub affine: u64,
    pub coefficients: u64,
    pub d_gamma: u64,
    pub d_beta: u64,
    pub eps: f32,
    pub batch_stats: i32,
}

/// elementwise.cu: `Image`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Image {
    pub n: i32,
    pub h: i32,
    pub w: i32,
    pub oh: i32,
    pub ow: i32,
    pub groups: i32,
    pub kernel: i32,
    pub stride: i32,
    pub pad: i32,
    pub add: i32,
    pub xs: i64,
    pub ys: i64,
}

/// matmul.cu: `Operand`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Operand {
    pub data: u64,
    pub batch: i64,
    pub head: i64,
    pub stride: i32,
}

/// matmul.cu: `Product`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Product {
    pub a: Operand,
    pub b: Operand,
    pub c: Operand,
    pub m: i32,
    pub n: i32,
    pub k: i32,
    pub heads: i32,
    pub add: i32,
    pub scale: f32,
}

/// Number of 32-bit words of a table's row; the rows are uploaded as words.
pub(super) trait Words {
    fn words(&self) -> Vec<u32>;
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default)]
        pub(super) struct $name {
            $(pub $field: $type),*
        }
        impl Words for $name {
            fn words(&self) -> Vec<u32> {
                vec![$(self.$field.to_bits_word()),*]
            }
        }
    };
}

trait Word {
    fn to_bits_word(self) -> u32;
}
impl Word for i32 {
    fn to_bits_word(self) -> u32 {
        self as u32
    }
}
impl Word for f32 {
    fn to_bits_word(self) -> u32 {
        self.to_bits()
    }
}

words! {
    /// prepare.cu: `FixedNorm`.
    FixedNorm {
        gamma: i32, beta: i32, mean: i32, var: i32, saved: i32, channels: i32, bias: i32, folded: i32, keep: i32, eps: f32,
    }
}
words! {
    /// prepare.cu: `WeightTap`.
    WeightTap {
        from: i32, inputs: i32, out: i32, scale: i32, forward: i32, forward_pitch: i32, backward: i32,
        backward_pitch: i32, first_tile: i32,
    }
}
words! {
    /// norm.cu: `RunningNorm`.
    RunningNorm { mean: i32, var: i32, saved: i32, channels: i32, momentum: f32, unbiased: f32 }
}
