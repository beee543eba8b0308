//! Backward lowering: each unit's gradient steps, in reverse.
//!
//! A value's gradient is the sum over its consumers. The first that writes a channel stores, the later ones add; where
//! a view is only partly written, the rest is zeroed first. Gradients lie as their values do: those of slices and of
//! concatenated inputs are views of the whole's gradient.

use crate::graph::{Op, Value};

use super::forward::{Lowering, Unit};
use super::{Step, View};

impl Lowering<'_> {
    /// Appends the backward steps; returns where the caller writes the outputs' gradients.
    pub fn backward(&mut self) -> Vec<View> {
        let outputs: Vec<Value> = self.graph.outputs().iter().map(|(_, value)| *value).collect();
        let mut output_grads = Vec::new();
        for output in outputs {
            let view = self.places.grad(output);
            self.places.set_written(&view);
            output_grads.push(view);
        }
        let units = std::mem::take(&mut self.units);
        for unit in units.iter().rev() {
            self.backward_unit(unit);
        }
        self.units = units;
        output_grads
    }

    /// The finished gradient of a value that all its consumers have written; None if nothing depends on it.
    fn finished(&mut self, value: Value) -> Option<View> {
        if !self.needs_grad[value.index()] {
            return None;
        }
        let view = self.places.grad(value);
        if self.places.written(&view).iter().all(|&w| !w) {
            return None;
        }
        self.zero_unwritten(view);
        Some(view)
    }

    /// Zeroes the channels that nothing has written yet.
    fn zero_unwritten(&mut self, view: View) {
        let written = self.places.written(&view).to_vec();
        let mut c = 0;
        while c < written.len() {
            let run = written[c..].iter().take_while(|&&w| !w).count();
            if run > 0 {
                self.steps.push(Step::Zero { y: view.slice(c, run) });
            }
            c += run.max(1);
        }
        self.places.set_written(&view);
    }

    /// A place to write a value's gradient to, and whether to add to what is there.
    fn destination(&mut self, value: Value) -> (View, bool) {
        let view = self.places.grad(value);
        let written = self.places.written(&view);
        let (any, all) = (written.contains(&true), !written.contains(&false));
        if any && !all {
            self.zero_unwritten(view);
        }
        self.places.set_written(&view);
        (view, any)
    }

    fn backward_unit(&mut self, unit: &Unit) {
        match *unit {
            Unit::Folded { .. } => {}
            Unit::Conv { node, conv, .. } => {
                let Some(dy) = self.finished(Value(node as u32)) else { return };
                let input = self.graph.nodes()[node].inputs[0];
                let info = &self.convs[conv];
                let (weight, bias) = (info.weight, info.bias);
                if self.trainable.params[weight.index()] {
                    let x = self.places.view(input);
                    self.steps.push(Step::ConvGradWeight { conv, x, dy });
                }
                if let Some(bias) = bias.filter(|b| self.trainable.params[b.index()]) {
                    self.steps.push(Step::ConvGradBias { bias, dy });
                }
                if self.needs_grad[input.index()] {
                    self.convs[conv].data_grad = true;
                    let (dx, add) = self.destination(input);
                    self.steps.push(Step::ConvGradData { conv, dy, dx, add });
                }
            }
            Unit::Norm { input, norm, activation, residual, result } => {
                let Some(dy) = self.finished(result) else { return };
                if let Some(residual) = residual.filter(|r| self.needs_grad[r.index()]) {
                    let (y, add) = self.destination(residual);
                    self.steps.push(Step::Copy { x: dy, y, add });
                }
                if !self.needs_grad[input.index()] && !self.norms[norm].trained {
                    return;
                }
                let z = self.places.view(input);
                // A norm's input is as a rule read by the norm alone: its gradient can overwrite the result's.
                let reads =
                    self.graph.nodes().iter().flat_map(|n| &n.inputs).filter(|&&v| v == input).count();
                let is_output = self.graph.outputs().iter().any(|(_, v)| *v == input || *v == result);
                let (dz, add) = if reads == 1 && !is_output {
                    self.places.alias_grad(input, result);
                    (dy, false)
                } else {
                    self.destination(input)
                };
                self.steps.push(Step::NormGrad { norm, z, dy, dz, add, activation });
            }
            Unit::Other { node } => self.backward_other(node),
        }
    }

    fn backward_other(&mut self, index: usize) {
        let node = &self.graph.nodes()[index];
        let op = node.op.clone();
        let inputs = node.inputs.clone();
        let value = Value(index as u32);
        if matches!(op, Op::Input | Op::Slice { .. }) {
            return;
        }
        let Some(dy) = self.finished(value) else { return };
        match op {
            Op::Concat => {
                let mut channel = 0;
                for input in inputs {
                    let c = self.graph.shape(input)[3];
                    if !self.places.is_inside(input, value, channel) && self.needs_grad[input.index()] {
                        let (y, add) = self.destination(input);
                        self.steps.push(Step::Copy { x: dy.slice(channel, c), y, add });
                    }
                    channel += c;
                }
            }
            Op::Add => {
                let is_sum_of_two = inputs[0] != inputs[1];
                for input in inputs {
                    // A convolution only reads its result's gradient: it may read the sum's, where that is all of it.
                    let only_read = matches!(self.graph.nodes()[input.index()].op, Op::Conv2d { .. });
                    if is_sum_of_two && only_read && self.sole_consumer(input).is_some() {
                        self.places.alias_grad(input, value);
                    } else if self.needs_grad[input.index()] {
                        let (y, add) = self.destination(input);
                        self.steps.push(Step::Copy { x: dy, y, add });
                    }
                }
            }
            Op::ScaleChannels { scale } => {
                let trained = self.trainable.params[scale.index()];
                let x = self.places.view(inputs[0]);
                let dx = self.needs_grad[inputs[0].index()].then(|| self.destination(inputs[0]));
                self.steps.push(Step::ScaleChannelsGrad { scale, trained, x, dy, dx });
            }
            Op::Gate => {
                let (x, factors) = (self.places.view(inputs[0]), self.places.view(inputs[1]));
                let dx = self.needs_grad[inputs[0].index()].then(|| self.destination(inputs[0]));
                let d_factors = self.needs_grad[inputs[1].index()].then(|| self.destination(inputs[1]));
                self.steps.push(Step::GateGrad { x, factors, dy, dx, d_factors });
            }
            Op::GatherHeads { heads, start, len } => {
                let dx = self.places.grad(inputs[0]);
                self.zero_unwritten(dx);
                self.steps.push(Step::GatherHeadsGrad { heads, start, len, dy, dx });
            }
            _ => {
                let x = self.places.view(inputs[0]);
                let (dx, add) = self.destination(inputs[0]);
                self.steps.push(match op {
                    Op::Activation(activation) => Step::ActivationGrad { activation, x, dy, dx, add },
                    Op::MaxPool { kernel, stride, pad } => {
                        Step::MaxPoolGrad { kernel, stride, pad, x, dy, dx, add }
                    }
                    Op::Upsample2 => Step::Upsample2Grad { dy, dx, add },
                    Op::Attention(attention) => Step::AttentionGrad { attention, x, dy, dx, add },
                    Op::GlobalAvgPool => Step::GlobalAvgPoolGrad { dy, dx, add },
                    _ => unreachable!("handled above"),
                });
            }
        }
    }
}
