//! The operators.

use super::{Graph, ParamId, Value};

/// What [`Graph::conv2d`] needs.
#[derive(Clone, Debug)]
pub struct Conv {
    /// Prefix of the parameters' names.
    pub name: String,
    /// Output channels.
    pub out: usize,
    /// Height and width of the kernel.
    pub kernel: (usize, usize),
    /// Vertical and horizontal step.
    pub stride: (usize, usize),
    /// Zero padding: top, left, bottom, right.
    pub pad: [usize; 4],
    /// 1, or the number of channels (depthwise).
    pub groups: usize,
    /// Whether a bias is added.
    pub bias: bool,
}

/// A convolution's window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvGeometry {
    /// Height and width of the kernel.
    pub kernel: (usize, usize),
    /// Vertical and horizontal step.
    pub stride: (usize, usize),
    /// Zero padding: top, left, bottom, right.
    pub pad: [usize; 4],
    /// 1, or the number of channels (depthwise).
    pub groups: usize,
}

impl ConvGeometry {
    /// Output height and width for an input of `h` x `w`.
    pub fn output_size(&self, h: usize, w: usize) -> (usize, usize) {
        let [top, left, bottom, right] = self.pad;
        (
            (h + top + bottom - self.kernel.0) / self.stride.0 + 1,
            (w + left + right - self.kernel.1) / self.stride.1 + 1,
        )
    }

    /// Whether this is a matrix product over pixels: 1x1, dense, step 1, no padding.
    pub fn is_pointwise(&self) -> bool {
        self.kernel == (1, 1) && self.stride == (1, 1) && self.pad == [0; 4] && self.groups == 1
    }
}

/// Elementwise non-linearities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x`.
    Identity,
    /// `x * sigmoid(x)`.
    Silu,
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x * relu6(x + 3) / 6`.
    Hardswish,
    /// `relu6(x + 3) / 6`.
    Hardsigmoid,
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
}

/// The shape of an attention operator.
///
/// The input's channels are `heads` groups of `[query (key_dim) | key (key_dim) | value (value_dim)]`. The h*w positions,
/// row by row, are cut into `areas` runs of equal length; each run attends to itself alone.
/// Result a head and run: `softmax(q k^T / sqrt(key_dim)) v`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attention {
    /// Number of heads.
    pub heads: usize,
    /// Channels of a head's query and of its key.
    pub key_dim: usize,
    /// Channels of a head's value.
    pub value_dim: usize,
    /// Number of runs that the positions are cut into.
    pub areas: usize,
}

/// An operator with its parameters.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Op {
    Input,
    Conv2d {
        weight: ParamId,
        bias: Option<ParamId>,
        geometry: ConvGeometry,
    },
    BatchNorm {
        name: String,
        scale: ParamId,
        shift: ParamId,
        mean: ParamId,
        var: ParamId,
        eps: f32,
        momentum: f32,
    },
    Activation(Activation),
    Add,
    ScaleChannels {
        scale: ParamId,
    },
    /// The first input times the second's one factor an image and channel.
    Gate,
    Concat,
    Slice {
        start: usize,
    },
    GatherHeads {
        heads: usize,
        start: usize,
        len: usize,
    },
    MaxPool {
        kernel: usize,
        stride: usize,
        pad: usize,
    },
    Upsample2,
    Attention(Attention),
    GlobalAvgPool,
}

/// One operator in the graph.
#[derive(Clone, Debug)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// From which values.
    pub inputs: Vec<Value>,
    /// The result's `[n, h, w, c]`.
    pub shape: [usize; 4],
}

impl Node {
    /// Multiply-adds of one forward pass.
    pub fn multiply_adds(&self, graph: &Graph) -> u64 {
        let [n, h, w, c] = self.shape.map(|d| d as u64);
        match &self.op {
            Op::Conv2d { geometry, .. } => {
                let channels = graph.shape(self.inputs[0])[3] / geometry.groups;
                n * h * w * c * (channels * geometry.kernel.0 * geometry.kernel.1) as u64
            }
            Op::Attention(a) => {
                let run = h * w / a.areas as u64;
                n * h * w * run * (a.heads * (a.key_dim + a.value_dim)) as u64
            }
            _ => 0,
        }
    }
}
