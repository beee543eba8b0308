//! The steps of a plan and what they refer to.

use crate::graph::{Activation, Attention, ConvGeometry, ParamId};

/// Where a tensor lies: some of the channels of a dense `[n, h, w, pixel_stride]` buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Index of the buffer.
    pub buffer: u32,
    /// First channel within the buffer.
    pub channel: usize,
    /// Elements from one pixel to the next: the buffer's channels.
    pub pixel_stride: usize,
    /// Shape `[n, h, w, c]`.
    pub shape: [usize; 4],
}

impl View {
    /// n * h * w.
    pub fn pixels(&self) -> usize {
        self.shape[0] * self.shape[1] * self.shape[2]
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.shape[3]
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the view is a whole buffer.
    pub fn is_dense(&self) -> bool {
        self.pixel_stride == self.channels()
    }

    /// Some of the channels.
    pub fn slice(&self, start: usize, len: usize) -> View {
        let [n, h, w, _] = self.shape;
        View { channel: self.channel + start, shape: [n, h, w, len], ..*self }
    }
}

/// A convolution that steps refer to.
#[derive(Clone, Debug)]
pub struct ConvInfo {
    /// Its weight.
    pub weight: ParamId,
    /// Its window.
    pub geometry: ConvGeometry,
    /// Input shape `[n, h, w, c]`.
    pub input: [usize; 4],
    /// Output shape `[n, h, w, c]`.
    pub output: [usize; 4],
    /// A norm with fixed statistics that is folded into the weight.
    pub folded: Option<usize>,
    /// A bias; where a norm is folded, the norm's shift takes it in.
    pub bias: Option<ParamId>,
    /// Whether the plan has a step for the gradient with respect to its input.
    pub data_grad: bool,
}

/// A batch norm that steps refer to.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub struct NormInfo {
    pub name: String,
    pub scale: ParamId,
    pub shift: ParamId,
    pub mean: ParamId,
    pub var: ParamId,
    pub eps: f32,
    pub momentum: f32,
    pub channels: usize,
    /// Whether it normalises with the batch's statistics (and updates the running ones).
    pub batch_stats: bool,
    /// Whether scale or shift are trained.
    pub trained: bool,
    /// First of its channels in the tables of saved statistics.
    pub saved: usize,
}

/// One kernel's work. `add` says whether a gradient is added to what its destination holds.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Step {
    /// y = act(conv(x) + bias) + residual; where `stats` names a norm, y's batch statistics are taken on the way.
    Conv {
        conv: usize,
        x: View,
        y: View,
        activation: Activation,
        residual: Option<View>,
        stats: Option<usize>,
    },
    /// The batch statistics of z.
    NormStats {
        norm: usize,
        z: View,
    },
    /// y = act(norm(z)) + residual.
    Norm {
        norm: usize,
        z: View,
        y: View,
        activation: Activation,
        residual: Option<View>,
    },
    Activation {
        activation: Activation,
        x: View,
        y: View,
    },
    Add {
        a: View,
        b: View,
        y: View,
    },
    ScaleChannels {
        scale: ParamId,
        x: View,
        y: View,
    },
    /// y = x * factors, where factors is `[n, 1, 1, c]`.
    Gate {
        x: View,
        factors: View,
        y: View,
    },
    GatherHeads {
        heads: usize,
        start: usize,
        len: usize,
        x: View,
        y: View,
    },
    MaxPool {
        kernel: usize,
        stride: usize,
        pad: usize,
        x: View,
        y: View,
    },
    Upsample2 {
        x: View,
        y: View,
    },
    Attention {
        attention: Attention,
        x: View,
        y: View,
    },
    GlobalAvgPool {
        x: View,
        y: View,
    },
    /// y = x, or y += x.
    Copy {
        x: View,
        y: View,
        add: bool,
    },
    Zero {
        y: View,
    },
    ConvGradData {
        conv: usize,
        dy: View,
        dx: View,
        add: bool,
    },
    ConvGradWeight {
        conv: usize,
        x: View,
        dy: View,
    },
    ConvGradBias {
        bias: ParamId,
        dy: View,
    },
    /// From dy = dL/d(act(norm(z))) to dz; dz may be dy's own place.
    NormGrad {
        norm: usize,
        z: View,
        dy: View,
        dz: View,
        add: bool,
        activation: Activation,
    },
    ActivationGrad {
        activation: Activation,
        x: View,
        dy: View,
        dx: View,
        add: bool,
    },
    ScaleChannelsGrad {
        scale: ParamId,
        trained: bool,
        x: View,
        dy: View,
        dx: Option<(View, bool)>,
    },
    /// dx (+)= dy * factors; d_factors (+)= the sum of dy * x over an image's pixels.
    GateGrad {
        x: View,
        factors: View,
        dy: View,
        dx: Option<(View, bool)>,
        d_factors: Option<(View, bool)>,
    },
    /// dx += scattered dy.
    GatherHeadsGrad {
        heads: usize,
        start: usize,
        len: usize,
        dy: View,
        dx: View,
    },
    MaxPoolGrad {
        kernel: usize,
        stride: usize,
        pad: usize,
        x: View,
        dy: View,
        dx: View,
        add: bool,
    },
    Upsample2Grad {
        dy: View,
        dx: View,
        add: bool,
    },
    AttentionGrad {
        attention: Attention,
        x: View,
        dy: View,
        dx: View,
        add: bool,
    },
    GlobalAvgPoolGrad {
        dy: View,
        dx: View,
        add: bool,
    },
}

impl Step {
    /// The views that the step reads or writes.
    pub fn views(&self) -> Vec<View> {
        let mut views = Vec::with_capacity(4);
        self.clone().for_each_view(|view| views.push(*view));
        views
    }

    /// Calls `change` with each view that the step reads or writes.
    pub fn for_each_view(&mut self, mut change: impl FnMut(&mut View)) {
        use Step::*;
        match self {
            Conv { x, y, residual, .. } | Norm { z: x, y, residual, .. } => {
                change(x);
                change(y);
                residual.iter_mut().for_each(change);
            }
            NormStats { z: x, .. } | Zero { y: x } | ConvGradBias { dy: x, .. } => change(x),
            Activation { x, y, .. }
            | ScaleChannels { x, y, .. }
            | GatherHeads { x, y, .. }
            | MaxPool { x, y, .. }
            | Upsample2 { x, y }
            | Attention { x, y, .. }
            | GlobalAvgPool { x, y }
            | Copy { x, y, .. }
            | ConvGradData { dy: x, dx: y, .. }
            | GatherHeadsGrad { dy: x, dx: y, .. }
            | Upsample2Grad { dy: x, dx: y, .. }
            | GlobalAvgPoolGrad { dy: x, dx: y, .. }
            | ConvGradWeight { x, dy: y, .. } => [x, y].into_iter().for_each(change),
            Add { a, b, y } | Gate { x: a, factors: b, y } => [a, b, y].into_iter().for_each(change),
            NormGrad { z: x, dy, dz: dx, .. }
            | ActivationGrad { x, dy, dx, .. }
            | AttentionGrad { x, dy, dx, .. }
            | MaxPoolGrad { x, dy, dx, .. } => [x, dy, dx].into_iter().for_each(change),
            ScaleChannelsGrad { x, dy, dx, .. } => {
                change(x);
                change(dy);
                dx.iter_mut().for_each(|(view, _)| change(view));
            }
            GateGrad { x, factors, dy, dx, d_factors } => {
                [x, factors, dy].into_iter().for_each(&mut change);
                [dx, d_factors].into_iter().flatten().for_each(|(view, _)| change(view));
            }
        }
    }

    /// The views that the step writes.
    pub fn written(&self) -> Vec<View> {
        use Step::*;
        match *self {
            Conv { y, .. }
            | Norm { y, .. }
            | Activation { y, .. }
            | Add { y, .. }
            | ScaleChannels { y, .. }
            | Gate { y, .. }
            | GatherHeads { y, .. }
            | MaxPool { y, .. }
            | Upsample2 { y, .. }
            | Attention { y, .. }
            | GlobalAvgPool { y, .. }
            | Copy { y, .. }
            | Zero { y } => vec![y],
            ConvGradData { dx, .. }
            | ActivationGrad { dx, .. }
            | GatherHeadsGrad { dx, .. }
            | MaxPoolGrad { dx, .. }
            | Upsample2Grad { dx, .. }
            | AttentionGrad { dx, .. }
            | GlobalAvgPoolGrad { dx, .. } => vec![dx],
            NormGrad { dz, .. } => vec![dz],
            ScaleChannelsGrad { dx, .. } => dx.map(|(view, _)| view).into_iter().collect(),
            GateGrad { dx, d_factors, .. } => {
                [dx, d_factors].into_iter().flatten().map(|(view, _)| view).collect()
            }
            NormStats { .. } | ConvGradWeight { .. } | ConvGradBias { .. } => vec![],
        }
    }

    /// The operator's name in reports.
    pub fn name(&self) -> &'static str {
        use Step::*;
        match self {
            Conv { .. } => "conv",
            NormStats { .. } => "norm_stats",
            Norm { .. } => "norm",
            Activation { .. } => "activation",
            Add { .. } => "add",
            ScaleChannels { .. } => "scale_channels",
            Gate { .. } => "gate",
            GatherHeads { .. } => "gather_heads",
            MaxPool { .. } => "max_pool",
            Upsample2 { .. } => "upsample",
            Attention { .. } => "attention",
            GlobalAvgPool { .. } => "global_avg_pool",
            Copy { .. } => "copy",
            Zero { .. } => "zero",
            ConvGradData { .. } => "conv_grad_data",
            ConvGradWeight { .. } => "conv_grad_weight",
            ConvGradBias { .. } => "conv_grad_bias",
            NormGrad { .. } => "norm_grad",
            ActivationGrad { .. } => "activation_grad",
            ScaleChannelsGrad { .. } => "scale_channels_grad",
            GateGrad { .. } => "gate_grad",
            GatherHeadsGrad { .. } => "gather_heads_grad",
            MaxPoolGrad { .. } => "max_pool_grad",
            Upsample2Grad { .. } => "upsample_grad",
            AttentionGrad { .. } => "attention_grad",
            GlobalAvgPoolGrad { .. } => "global_avg_pool_grad",
        }
    }
}
