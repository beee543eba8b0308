//! The graph: what is computed, with every shape known.

mod adapt;
mod branch;
mod op;
mod params;
mod split;

use std::ops::Range;

pub use adapt::Adapter;
pub use op::{Activation, Attention, Conv, ConvGeometry, Node, Op};
pub use params::{ParamInfo, Params, Role};
pub use split::Split;

/// A node's output: a tensor of four dimensions, `[n, h, w, c]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub(crate) u32);

impl Value {
    /// The node's place in [`Graph::nodes`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A parameter's place in [`Graph::params`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParamId(pub(crate) u32);

impl ParamId {
    /// Index into [`Graph::params`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A model: nodes in the order in which they can be computed, parameters, named inputs and outputs.
///
/// Building a graph panics on shapes that do not fit: it is the model code's mistake, never the user's data.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    params: Vec<ParamInfo>,
    inputs: Vec<(String, Value)>,
    outputs: Vec<(String, Value)>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Graph {
        Graph::default()
    }

    /// An input tensor `[n, h, w, c]` that the caller fills before each run.
    pub fn input(&mut self, name: &str, shape: [usize; 4]) -> Value {
        let value = self.push(Op::Input, vec![], shape);
        self.inputs.push((name.to_owned(), value));
        value
    }

    /// 2-D convolution (cross-correlation, as every framework has it) with parameters `NAME.weight` and, where
    /// `bias` is set, `NAME.bias`. `groups` is 1, or the number of channels with as many outputs (depthwise).
    pub fn conv2d(&mut self, x: Value, conv: Conv) -> Value {
        let [n, h, w, c] = self.shape(x);
        let (kh, kw) = conv.kernel;
        let geometry =
            ConvGeometry { kernel: conv.kernel, stride: conv.stride, pad: conv.pad, groups: conv.groups };
        assert!(
            conv.groups == 1 || (conv.groups == c && conv.out == c),
            "{}: groups must be 1 or equal to the channels in and out",
            conv.name
        );
        let (oh, ow) = geometry.output_size(h, w);
        let weight = self.param(
            format!("{}.weight", conv.name),
            vec![conv.out, c / conv.groups, kh, kw],
            Role::Weight,
        );
        let bias = conv.bias.then(|| self.param(format!("{}.bias", conv.name), vec![conv.out], Role::Bias));
        self.push(Op::Conv2d { weight, bias, geometry }, vec![x], [n, oh, ow, conv.out])
    }

    /// Fully connected layer over `[n, 1, 1, c]`: parameters `NAME.weight` (`[out, c]`) and `NAME.bias`.
    pub fn linear(&mut self, x: Value, name: &str, out: usize, bias: bool) -> Value {
        let [n, h, w, c] = self.shape(x);
        assert!(h == 1 && w == 1, "{name}: a linear layer takes [n, 1, 1, c]");
        let geometry = ConvGeometry { kernel: (1, 1), stride: (1, 1), pad: [0; 4], groups: 1 };
        let weight = self.param(format!("{name}.weight"), vec![out, c], Role::Weight);
        let bias = bias.then(|| self.param(format!("{name}.bias"), vec![out], Role::Bias));
        self.push(Op::Conv2d { weight, bias, geometry }, vec![x], [n, 1, 1, out])
    }

    /// Batch normalisation (Ioffe and Szegedy, 2015) over n, h, w: parameters `NAME.weight`, `NAME.bias`, buffers
    /// `NAME.running_mean`, `NAME.running_var`. `momentum` is the new batch's share of the running statistics.
    pub fn batch_norm(&mut self, x: Value, name: &str, eps: f32, momentum: f32) -> Value {
        let shape = self.shape(x);
        let c = shape[3];
        let scale = self.param(format!("{name}.weight"), vec![c], Role::NormScale);
        let shift = self.param(format!("{name}.bias"), vec![c], Role::NormShift);
        let mean = self.param(format!("{name}.running_mean"), vec![c], Role::RunningMean);
        let var = self.param(format!("{name}.running_var"), vec![c], Role::RunningVar);
        self.push(
            Op::BatchNorm { name: name.to_owned(), scale, shift, mean, var, eps, momentum },
            vec![x],
            shape,
        )
    }

    /// An elementwise non-linearity.
    pub fn activation(&mut self, x: Value, activation: Activation) -> Value {
        self.push(Op::Activation(activation), vec![x], self.shape(x))
    }

    /// `a + b`, of equal shapes.
    pub fn add(&mut self, a: Value, b: Value) -> Value {
        assert_eq!(self.shape(a), self.shape(b), "add takes equal shapes");
        self.push(Op::Add, vec![a, b], self.shape(a))
    }

    /// `x` times one parameter a channel, named `name` (layer scale).
    pub fn scale_channels(&mut self, x: Value, name: &str) -> Value {
        let scale = self.param(name.to_owned(), vec![self.shape(x)[3]], Role::ChannelScale);
        self.push(Op::ScaleChannels { scale }, vec![x], self.shape(x))
    }

    /// `x` times one factor an image and channel, `factors` of `[n, 1, 1, c]`: the excitation of squeeze-and-excitation
    /// blocks (Hu, Shen and Sun, 2018, arXiv:1709.01507).
    pub fn gate(&mut self, x: Value, factors: Value) -> Value {
        let [n, _, _, c] = self.shape(x);
        assert_eq!(self.shape(factors), [n, 1, 1, c], "gate takes one factor an image and channel");
        self.push(Op::Gate, vec![x, factors], self.shape(x))
    }

    /// The channels of `xs` one after the other. Where it can be, the inputs are written in place.
    pub fn concat(&mut self, xs: &[Value]) -> Value {
        let [n, h, w, _] = self.shape(xs[0]);
        for &x in xs {
            assert_eq!(self.shape(x)[..3], [n, h, w], "concat takes equal n, h, w");
        }
        let c = xs.iter().map(|&x| self.shape(x)[3]).sum();
        self.push(Op::Concat, xs.to_vec(), [n, h, w, c])
    }

    /// A range of the channels; a view, never a copy.
    pub fn slice(&mut self, x: Value, channels: Range<usize>) -> Value {
        let [n, h, w, c] = self.shape(x);
        assert!(channels.start < channels.end && channels.end <= c, "slice {channels:?} of {c} channels");
        let len = channels.len();
        self.push(Op::Slice { start: channels.start }, vec![x], [n, h, w, len])
    }

    /// Of each of `heads` equal groups of channels, those at `start..start + len`, one group after the other.
    pub fn gather_heads(&mut self, x: Value, heads: usize, start: usize, len: usize) -> Value {
        let [n, h, w, c] = self.shape(x);
        assert!(
            c.is_multiple_of(heads) && start + len <= c / heads,
            "gather_heads {start}+{len} of {c} in {heads}"
        );
        self.push(Op::GatherHeads { heads, start, len }, vec![x], [n, h, w, heads * len])
    }

    /// Maximum over windows of `kernel` x `kernel`; padding never wins.
    pub fn max_pool(&mut self, x: Value, kernel: usize, stride: usize, pad: usize) -> Value {
        let [n, h, w, c] = self.shape(x);
        assert!(2 * pad <= kernel, "padding {pad} leaves empty windows of {kernel}");
        let size = |s: usize| (s + 2 * pad - kernel) / stride + 1;
        self.push(Op::MaxPool { kernel, stride, pad }, vec![x], [n, size(h), size(w), c])
    }

    /// Each pixel four times: nearest-neighbour enlargement by 2.
    pub fn upsample2(&mut self, x: Value) -> Value {
        let [n, h, w, c] = self.shape(x);
        self.push(Op::Upsample2, vec![x], [n, 2 * h, 2 * w, c])
    }

    /// Multi-head self-attention (Vaswani et al., 2017), in areas: see [`Attention`]. Out: `[n, h, w, heads * value_dim]`.
    pub fn attention(&mut self, qkv: Value, attention: Attention) -> Value {
        let [n, h, w, c] = self.shape(qkv);
        assert_eq!(
            c,
            attention.heads * (2 * attention.key_dim + attention.value_dim),
            "attention's channels"
        );
        assert!((h * w).is_multiple_of(attention.areas), "{h}x{w} positions in {} areas", attention.areas);
        self.push(Op::Attention(attention), vec![qkv], [n, h, w, attention.heads * attention.value_dim])
    }

    /// Mean over h and w: `[n, 1, 1, c]`.
    pub fn global_avg_pool(&mut self, x: Value) -> Value {
        let [n, _, _, c] = self.shape(x);
        self.push(Op::GlobalAvgPool, vec![x], [n, 1, 1, c])
    }

    /// Gives every batch norm so far this `eps` and `momentum`; see [`Graph::batch_norm`].
    pub fn set_norm_constants(&mut self, new_eps: f32, new_momentum: f32) {
        for node in &mut self.nodes {
            if let Op::BatchNorm { eps, momentum, .. } = &mut node.op {
                (*eps, *momentum) = (new_eps, new_momentum);
            }
        }
    }

    /// Names a value as a result of the graph, kept to the end of a run.
    pub fn output(&mut self, name: &str, x: Value) {
        self.outputs.push((name.to_owned(), x));
    }

    /// A value's `[n, h, w, c]`.
    pub fn shape(&self, x: Value) -> [usize; 4] {
        self.nodes[x.index()].shape
    }

    /// Every parameter and buffer, in the order of creation.
    pub fn params(&self) -> &[ParamInfo] {
        &self.params
    }

    /// The nodes, in the order of computation.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The inputs by name.
    pub fn inputs(&self) -> &[(String, Value)] {
        &self.inputs
    }

    /// The outputs by name.
    pub fn outputs(&self) -> &[(String, Value)] {
        &self.outputs
    }

    /// Multiply-adds of one forward pass, convolutions and attention only.
    pub fn multiply_adds(&self) -> u64 {
        self.nodes.iter().map(|node| node.multiply_adds(self)).sum()
    }

    fn param(&mut self, name: String, shape: Vec<usize>, role: Role) -> ParamId {
        assert!(self.params.iter().all(|p| p.name != name), "two parameters are named {name}");
        let offset = self.params.last().map_or(0, |p| (p.offset + p.len).next_multiple_of(16));
        let len = shape.iter().product();
        self.params.push(ParamInfo { name, shape, role, offset, len });
        ParamId(self.params.len() as u32 - 1)
    }

    fn push(&mut self, op: Op, inputs: Vec<Value>, shape: [usize; 4]) -> Value {
        self.nodes.push(Node { op, inputs, shape });
        Value(self.nodes.len() as u32 - 1)
    }
}
