//! Forward lowering: fusion and the step list.

use crate::graph::{Activation, Graph, Op, Value};

use super::place::Places;
use super::{ConvInfo, Mode, NormInfo, Step, Trainable};

/// One unit of lowering: what becomes one forward step, and is differentiated as one.
#[derive(Clone, Debug)]
pub(super) enum Unit {
    /// A convolution on its own; `norm`: the norm (of a later unit) that wants its batch statistics.
    Conv { node: usize, conv: usize, norm: Option<usize> },
    /// A convolution with its fixed norm, activation and residual, no gradient passes.
    Folded { node: usize, conv: usize, activation: Activation, residual: Option<Value>, result: Value },
    /// A norm with its activation and residual.
    Norm { input: Value, norm: usize, activation: Activation, residual: Option<Value>, result: Value },
    /// Any other node.
    Other { node: usize },
}

/// The chain of nodes that one norm takes in: its activation and residual sum.
struct Chain {
    activation: Activation,
    residual: Option<Value>,
    result: Value,
}

pub(super) struct Lowering<'a> {
    pub graph: &'a Graph,
    pub mode: Mode,
    pub trainable: &'a Trainable,
    pub places: Places,
    pub steps: Vec<Step>,
    pub convs: Vec<ConvInfo>,
    pub norms: Vec<NormInfo>,
    pub units: Vec<Unit>,
    /// For each value: whether a gradient flows through it.
    pub needs_grad: Vec<bool>,
    consumers: Vec<Vec<usize>>,
}

impl<'a> Lowering<'a> {
    pub fn new(graph: &'a Graph, mode: Mode, trainable: &'a Trainable) -> Lowering<'a> {
        let nodes = graph.nodes();
        let mut consumers = vec![Vec::new(); nodes.len()];
        for (i, node) in nodes.iter().enumerate() {
            for input in &node.inputs {
                consumers[input.index()].push(i);
            }
        }
        // An output is read by the caller: never fused away.
        for (_, output) in graph.outputs() {
            consumers[output.index()].push(usize::MAX);
        }
        let mut needs_grad = vec![false; nodes.len()];
        for (i, node) in nodes.iter().enumerate() {
            let trains = |id: crate::graph::ParamId| trainable.params[id.index()];
            let own = match &node.op {
                Op::Conv2d { weight, bias, .. } => trains(*weight) || bias.is_some_and(trains),
                Op::BatchNorm { scale, shift, .. } => trains(*scale) || trains(*shift),
                Op::ScaleChannels { scale } => trains(*scale),
                _ => false,
            };
            needs_grad[i] =
                mode == Mode::Training && (own || node.inputs.iter().any(|input| needs_grad[input.index()]));
        }
        Lowering {
            graph,
            mode,
            trainable,
            places: Places::new(graph),
            steps: Vec::new(),
            convs: Vec::new(),
            norms: Vec::new(),
            units: Vec::new(),
            needs_grad,
            consumers,
        }
    }

    /// The only consumer of a value, if there is one and no more.
    pub(super) fn sole_consumer(&self, value: Value) -> Option<usize> {
        match self.consumers[value.index()][..] {
            [node] if node != usize::MAX => Some(node),
            _ => None,
        }
    }

    /// Takes in the activation and residual sum behind a norm. `taken` marks nodes that belong to a chain.
    fn chain(&self, norm_node: usize, taken: &mut [bool]) -> Chain {
        let nodes = self.graph.nodes();
        let mut result = Value(norm_node as u32);
        let mut activation = Activation::Identity;
        if let Some(next) = self.sole_consumer(result)
            && let Op::Activation(a) = nodes[next].op
        {
            (activation, result) = (a, Value(next as u32));
            taken[next] = true;
        }
        let mut residual = None;
        if let Some(next) = self.sole_consumer(result)
            && matches!(nodes[next].op, Op::Add)
            && !taken[next]
            && nodes[next].inputs[0] != nodes[next].inputs[1]
        {
            residual = nodes[next].inputs.iter().copied().find(|&input| input != result);
            result = Value(next as u32);
            taken[next] = true;
        }
        Chain { activation, residual, result }
    }

    /// Cuts the graph into units, each at the place of its last node.
    fn find_units(&mut self) {
        let nodes = self.graph.nodes();
        let mut taken = vec![false; nodes.len()];
        let mut at: Vec<Vec<Unit>> = vec![Vec::new(); nodes.len()];
        let mut folded_convs = vec![false; nodes.len()];
        let mut wants_stats: Vec<Option<usize>> = vec![None; nodes.len()];
        for (i, node) in nodes.iter().enumerate() {
            let Op::BatchNorm { name, scale, shift, mean, var, eps, momentum } = &node.op else { continue };
            let chain = self.chain(i, &mut taken);
            let frozen = self.mode != Mode::Training || self.trainable.frozen_norms.contains(name);
            let trained = self.trainable.params[scale.index()] || self.trainable.params[shift.index()];
            let norm = self.norms.len();
            self.norms.push(NormInfo {
                name: name.clone(),
                scale: *scale,
                shift: *shift,
                mean: *mean,
                var: *var,
                eps: *eps,
                momentum: *momentum,
                channels: node.shape[3],
                batch_stats: !frozen,
                trained: self.mode == Mode::Training && trained,
                saved: self
                    .norms
                    .last()
                    .map_or(0, |n: &NormInfo| (n.saved + n.channels).next_multiple_of(16)),
            });
            let input = node.inputs[0];
            let producer = &nodes[input.index()];
            let Chain { activation, residual, result } = chain;
            let alone = matches!(producer.op, Op::Conv2d { .. }) && self.sole_consumer(input).is_some();
            let flows = self.needs_grad[i];
            if alone && frozen && !flows && self.mode != Mode::Calibration {
                let conv = self.add_conv(input.index(), Some(norm));
                folded_convs[input.index()] = true;
                at[result.index()].push(Unit::Folded {
                    node: input.index(),
                    conv,
                    activation,
                    residual,
                    result,
                });
            } else {
                if alone && (!frozen || self.mode == Mode::Calibration) {
                    wants_stats[input.index()] = Some(norm);
                }
                at[result.index()].push(Unit::Norm { input, norm, activation, residual, result });
            }
        }
        for (i, node) in nodes.iter().enumerate() {
            match node.op {
                Op::Conv2d { .. } if folded_convs[i] => {}
                Op::Conv2d { .. } => {
                    let conv = self.add_conv(i, None);
                    self.units.push(Unit::Conv { node: i, conv, norm: wants_stats[i] });
                }
                Op::BatchNorm { .. } => {}
                _ if taken[i] => {}
                _ => self.units.push(Unit::Other { node: i }),
            }
            self.units.append(&mut at[i]);
        }
    }

    fn add_conv(&mut self, node: usize, folded: Option<usize>) -> usize {
        let node = &self.graph.nodes()[node];
        let Op::Conv2d { weight, bias, geometry } = &node.op else {
            unreachable!("called with convolutions only")
        };
        self.convs.push(ConvInfo {
            weight: *weight,
            geometry: *geometry,
            input: self.graph.shape(node.inputs[0]),
            output: node.shape,
            folded,
            bias: *bias,
            data_grad: false,
        });
        self.convs.len() - 1
    }

    pub fn forward(&mut self) {
        self.find_units();
        for i in 0..self.units.len() {
            let unit = self.units[i].clone();
            self.forward_unit(&unit);
        }
    }

    fn forward_unit(&mut self, unit: &Unit) {
        match *unit {
            Unit::Conv { node, conv, norm } => {
                let x = self.places.view(self.graph.nodes()[node].inputs[0]);
                let y = self.places.make(Value(node as u32));
                let activation = Activation::Identity;
                self.steps.push(Step::Conv { conv, x, y, activation, residual: None, stats: norm });
            }
            Unit::Folded { node, conv, activation, residual, result } => {
                let x = self.places.view(self.graph.nodes()[node].inputs[0]);
                let residual = residual.map(|r| self.places.view(r));
                let y = self.places.make(result);
                self.steps.push(Step::Conv { conv, x, y, activation, residual, stats: None });
            }
            Unit::Norm { input, norm, activation, residual, result } => {
                let z = self.places.view(input);
                let wants_stats = self.norms[norm].batch_stats || self.mode == Mode::Calibration;
                let has_stats =
                    self.units.iter().any(|u| matches!(u, Unit::Conv { norm: Some(n), .. } if *n == norm));
                if wants_stats && !has_stats {
                    self.steps.push(Step::NormStats { norm, z });
                }
                let residual = residual.map(|r| self.places.view(r));
                let y = self.places.make(result);
                self.steps.push(Step::Norm { norm, z, y, activation, residual });
            }
            Unit::Other { node } => self.forward_other(node),
        }
    }

    fn forward_other(&mut self, index: usize) {
        let node = &self.graph.nodes()[index];
        let value = Value(index as u32);
        let inputs = node.inputs.clone();
        let step = match node.op {
            Op::Input => {
                self.places.make(value);
                return;
            }
            Op::Slice { .. } => return,
            Op::Concat => {
                let whole = self.places.make(value);
                let mut channel = 0;
                for input in inputs {
                    let c = self.graph.shape(input)[3];
                    if !self.places.is_inside(input, value, channel) {
                        let x = self.places.view(input);
                        self.steps.push(Step::Copy { x, y: whole.slice(channel, c), add: false });
                    }
                    channel += c;
                }
                return;
            }
            Op::Activation(activation) => {
                Step::Activation { activation, x: self.places.view(inputs[0]), y: self.places.make(value) }
            }
            Op::Add => Step::Add {
                a: self.places.view(inputs[0]),
                b: self.places.view(inputs[1]),
                y: self.places.make(value),
            },
            Op::ScaleChannels { scale } => {
                Step::ScaleChannels { scale, x: self.places.view(inputs[0]), y: self.places.make(value) }
            }
            Op::Gate => Step::Gate {
                x: self.places.view(inputs[0]),
                factors: self.places.view(inputs[1]),
                y: self.places.make(value),
            },
            Op::GatherHeads { heads, start, len } => Step::GatherHeads {
                heads,
                start,
                len,
                x: self.places.view(inputs[0]),
                y: self.places.make(value),
            },
            Op::MaxPool { kernel, stride, pad } => Step::MaxPool {
                kernel,
                stride,
                pad,
                x: self.places.view(inputs[0]),
                y: self.places.make(value),
            },
            Op::Upsample2 => Step::Upsample2 { x: self.places.view(inputs[0]), y: self.places.make(value) },
            Op::Attention(attention) => {
                Step::Attention { attention, x: self.places.view(inputs[0]), y: self.places.make(value) }
            }
            Op::GlobalAvgPool => {
                Step::GlobalAvgPool { x: self.places.view(inputs[0]), y: self.places.make(value) }
            }
            Op::Conv2d { .. } | Op::BatchNorm { .. } => unreachable!("units of their own"),
        };
        self.steps.push(step);
    }
}
