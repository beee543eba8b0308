//! A network as it is deployed: norms folded into convolutions, weights in PyTorch's order, ready for any format.

use onsa_compute::Params;
use onsa_compute::graph::{Activation, Attention, ConvGeometry, Graph, Op, ParamId};

/// Values are numbered as in the graph that the network was made from; shapes are `[n, h, w, c]`.
#[derive(Clone, Debug)]
pub struct Network {
    /// The nodes, in the order of computation.
    pub nodes: Vec<Node>,
    /// Each value's shape; values that folding took away keep theirs and are not produced.
    pub shapes: Vec<[usize; 4]>,
    /// The input's value.
    pub input: usize,
    /// The outputs' values, in the graph's order.
    pub outputs: Vec<usize>,
}

/// One operator.
#[derive(Clone, Debug)]
pub struct Node {
    /// A name that is unique in the network: the layer's dotted name, or one made from the value's number.
    pub name: String,
    /// What is computed.
    pub kind: Kind,
    /// From which values.
    pub inputs: Vec<usize>,
    /// Into which.
    pub output: usize,
}

/// What a node computes.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum Kind {
    Conv(Conv),
    Activation(Activation),
    Add,
    /// `x * scale + shift`, one of each a channel.
    Affine {
        scale: Vec<f32>,
        shift: Option<Vec<f32>>,
    },
    Concat,
    Slice {
        start: usize,
        len: usize,
    },
    /// Of each of `heads` equal groups of channels, those at `start..start + len`.
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
    /// The first input times the second, a factor an image and channel.
    Gate,
}

/// A convolution with its norm folded in, and the activation that cuts its result off.
#[derive(Clone, Debug)]
pub struct Conv {
    /// Window, step, padding, groups.
    pub geometry: ConvGeometry,
    /// Channels in.
    pub input: usize,
    /// Channels out.
    pub out: usize,
    /// `[out, in / groups, kh, kw]`.
    pub weight: Vec<f32>,
    /// `[out]`.
    pub bias: Vec<f32>,
    /// What its result goes through at once: `Relu`, `Relu6`, or `Identity` for nothing. Together they are one operator for
    /// every runtime, and in integers only what is left after the cut needs steps.
    pub activation: Activation,
}

impl Conv {
    /// Whether each channel has a kernel of its own.
    pub fn is_depthwise(&self) -> bool {
        self.geometry.groups > 1
    }

    /// Values of one output channel's kernel.
    pub fn kernel_len(&self) -> usize {
        self.weight.len() / self.out
    }
}

impl Network {
    /// Folds a graph's parameters.
    pub fn new(graph: &Graph, params: &Params) -> Network {
        let nodes = graph.nodes();
        let mut uses = vec![0; nodes.len()];
        for value in nodes.iter().flat_map(|n| &n.inputs).chain(graph.outputs().iter().map(|(_, v)| v)) {
            uses[value.index()] += 1;
        }
        let mut out = Network {
            nodes: Vec::new(),
            shapes: nodes.iter().map(|n| n.shape).collect(),
            input: graph.inputs()[0].1.index(),
            outputs: graph.outputs().iter().map(|(_, v)| v.index()).collect(),
        };
        for (output, node) in nodes.iter().enumerate() {
            let inputs: Vec<usize> = node.inputs.iter().map(|v| v.index()).collect();
            let mut name = format!("value{output}");
            let kind = match &node.op {
                Op::Input => continue,
                Op::Conv2d { weight, bias, geometry } => {
                    let info = &params.infos[weight.index()];
                    name = info.name.strip_suffix(".weight").unwrap_or(&info.name).to_owned();
                    let channels = info.shape[0];
                    Kind::Conv(Conv {
                        geometry: *geometry,
                        input: graph.shape(node.inputs[0])[3],
                        out: channels,
                        weight: params.get_torch(weight.index()),
                        bias: bias.map_or_else(|| vec![0.0; channels], |b| params.get_torch(b.index())),
                        activation: Activation::Identity,
                    })
                }
                Op::BatchNorm { scale, shift, mean, var, eps, name: norm, .. } => {
                    let get = |id: &ParamId| params.get(id.index());
                    let factors: Vec<f64> = get(scale)
                        .iter()
                        .zip(get(var))
                        .map(|(&gamma, &var)| f64::from(gamma) / (f64::from(var) + f64::from(*eps)).sqrt())
                        .collect();
                    let offsets: Vec<f64> = get(shift)
                        .iter()
                        .zip(get(mean))
                        .zip(&factors)
                        .map(|((&beta, &mean), factor)| f64::from(beta) - f64::from(mean) * factor)
                        .collect();
                    // Folded where nothing else reads the convolution's own result.
                    if uses[inputs[0]] == 1
                        && let Some(last) = out.nodes.iter_mut().find(|n| n.output == inputs[0])
                        && let Kind::Conv(conv) = &mut last.kind
                        && conv.activation == Activation::Identity
                    {
                        fold(conv, &factors, &offsets);
                        last.output = output;
                        continue;
                    }
                    name.clone_from(norm);
                    Kind::Affine {
                        scale: factors.iter().map(|&v| v as f32).collect(),
                        shift: Some(offsets.iter().map(|&v| v as f32).collect()),
                    }
                }
                Op::Activation(activation @ (Activation::Relu | Activation::Relu6))
                    if uses[inputs[0]] == 1 && out.cut_off(inputs[0], *activation, output) =>
                {
                    continue;
                }
                Op::Activation(activation) => Kind::Activation(*activation),
                Op::Add => Kind::Add,
                Op::ScaleChannels { scale } => {
                    name.clone_from(&params.infos[scale.index()].name);
                    Kind::Affine { scale: params.get_torch(scale.index()), shift: None }
                }
                Op::Concat => Kind::Concat,
                Op::Slice { start } => Kind::Slice { start: *start, len: node.shape[3] },
                Op::GatherHeads { heads, start, len } => {
                    Kind::GatherHeads { heads: *heads, start: *start, len: *len }
                }
                Op::MaxPool { kernel, stride, pad } => {
                    Kind::MaxPool { kernel: *kernel, stride: *stride, pad: *pad }
                }
                Op::Upsample2 => Kind::Upsample2,
                Op::Attention(attention) => Kind::Attention(*attention),
                Op::GlobalAvgPool => Kind::GlobalAvgPool,
                Op::Gate => Kind::Gate,
            };
            out.nodes.push(Node { name, kind, inputs, output });
        }
        out
    }

    /// Lets the convolution that gives `value`, if one does, give its activated form `output` instead.
    fn cut_off(&mut self, value: usize, activation: Activation, output: usize) -> bool {
        let Some(last) = self.nodes.iter_mut().find(|n| n.output == value) else { return false };
        let Kind::Conv(conv) = &mut last.kind else { return false };
        if conv.activation != Activation::Identity {
            return false;
        }
        conv.activation = activation;
        last.output = output;
        true
    }

    /// The convolutions with the places of their nodes.
    pub fn convs(&self) -> impl Iterator<Item = (usize, &Node, &Conv)> {
        self.nodes.iter().enumerate().filter_map(|(i, node)| match &node.kind {
            Kind::Conv(conv) => Some((i, node, conv)),
            _ => None,
        })
    }
}

/// `factor * conv(x) + offset`, in double precision.
fn fold(conv: &mut Conv, factors: &[f64], offsets: &[f64]) {
    let len = conv.kernel_len();
    for ((kernel, bias), (factor, offset)) in
        conv.weight.chunks_exact_mut(len).zip(&mut conv.bias).zip(factors.iter().zip(offsets))
    {
        for weight in kernel {
            *weight = (f64::from(*weight) * factor) as f32;
        }
        *bias = (f64::from(*bias) * factor + offset) as f32;
    }
}
