//! The plan: a graph lowered to steps over one arena.
//!
//! Lowering fuses convolution, norm, activation and residual sum; writes the inputs of a concatenation in place;
//! makes slices views; derives the gradient steps in reverse; drops what can be formed again; and gives every buffer its
//! offset by liveness. A step
//! names views and parameters only, so that each device interprets the same list.

mod backward;
mod forward;
mod memory;
mod place;
mod rematerialise;
mod step;

use std::collections::{BTreeSet, HashSet};

pub use step::{ConvInfo, NormInfo, Step, View};

use crate::graph::{Graph, ParamInfo};

/// What a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Forward with running statistics; norms folded into the convolutions before them.
    Inference,
    /// Forward with batch statistics, then backward.
    Training,
    /// Forward with running statistics, and each norm's input statistics collected on the way.
    Calibration,
}

/// What is trained, and which norms keep their running statistics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trainable {
    /// For each of [`Graph::params`]: whether its gradient is wanted.
    pub params: Vec<bool>,
    /// Names of batch norms that normalise with, and do not update, their running statistics.
    pub frozen_norms: HashSet<String>,
}

impl Trainable {
    /// Everything that has gradients.
    pub fn all(graph: &Graph) -> Trainable {
        Trainable {
            params: graph.params().iter().map(|p| p.role.is_trained()).collect(),
            frozen_norms: HashSet::new(),
        }
    }

    /// Nothing: for plans without a backward pass.
    pub fn nothing(graph: &Graph) -> Trainable {
        Trainable { params: vec![false; graph.params().len()], frozen_norms: HashSet::new() }
    }
}

/// Steps over one arena, for one graph, mode and set of trained parameters.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the plan is for.
    pub mode: Mode,
    /// The steps: forward, then (in [`Mode::Training`]) backward.
    pub steps: Vec<Step>,
    /// Index of the first backward step.
    pub backward_start: usize,
    /// Each buffer's first element in the arena.
    pub buffer_offsets: Vec<usize>,
    /// Elements of the arena.
    pub arena_len: usize,
    /// The graph's inputs.
    pub inputs: Vec<(String, View)>,
    /// The graph's outputs.
    pub outputs: Vec<(String, View)>,
    /// In training, where the caller writes the loss's gradient with respect to each output.
    pub output_grads: Vec<View>,
    /// The convolutions that steps refer to.
    pub convs: Vec<ConvInfo>,
    /// The norms that steps refer to.
    pub norms: Vec<NormInfo>,
    /// The graph's parameters.
    pub params: Vec<ParamInfo>,
}

impl Plan {
    /// Lowers a graph. `trainable` matters in [`Mode::Training`] alone, where what light steps wrote is dropped after the
    /// forward pass and formed again for the backward one, the smallest left out: about a third of the arena, for a few percent of
    /// the time.
    pub fn new(graph: &Graph, mode: Mode, trainable: &Trainable) -> Plan {
        Plan::lower(graph, mode, trainable, true)
    }

    /// As [`Plan::new`], but every value is kept until the backward pass has read it.
    pub fn keeping_all(graph: &Graph, mode: Mode, trainable: &Trainable) -> Plan {
        Plan::lower(graph, mode, trainable, false)
    }

    fn lower(graph: &Graph, mode: Mode, trainable: &Trainable, drop: bool) -> Plan {
        let mut lowering = forward::Lowering::new(graph, mode, trainable);
        lowering.forward();
        let backward_start = lowering.steps.len();
        let output_grads = if mode == Mode::Training { lowering.backward() } else { Vec::new() };
        let view = |lowering: &forward::Lowering, value| lowering.places.view(value);
        let inputs: Vec<_> =
            graph.inputs().iter().map(|(name, v)| (name.clone(), view(&lowering, *v))).collect();
        let outputs: Vec<_> =
            graph.outputs().iter().map(|(name, v)| (name.clone(), view(&lowering, *v))).collect();
        let (mut steps, mut lens) = (lowering.steps, lowering.places.buffer_lens);
        if drop && mode == Mode::Training {
            let ends = inputs.iter().chain(&outputs).map(|(_, view)| view).chain(&output_grads);
            let kept: BTreeSet<u32> = ends.map(|view| view.buffer).collect();
            rematerialise::rematerialise(&mut steps, backward_start, &mut lens, &kept);
        }
        let lives = memory::Lives {
            inputs: &inputs,
            outputs: &outputs,
            output_grads: &output_grads,
            backward_start,
            slack: 0,
        };
        let (buffer_offsets, arena_len) = memory::assign(&steps, &lens, &lives);
        Plan {
            mode,
            steps,
            backward_start,
            buffer_offsets,
            arena_len,
            inputs,
            outputs,
            output_grads,
            convs: lowering.convs,
            norms: lowering.norms,
            params: graph.params().to_vec(),
        }
    }

    /// The same plan in a larger arena: what the gradients of weights and biases read stays as it is for `slack` steps
    /// more, so that a device can form them beside the steps that follow.
    pub fn with_slack(&self, slack: usize) -> Plan {
        let mut lens = vec![0; self.buffer_offsets.len()];
        let views = self.steps.iter().flat_map(Step::views);
        let ends = self.inputs.iter().chain(&self.outputs).map(|(_, view)| *view);
        for view in views.chain(ends).chain(self.output_grads.iter().copied()) {
            let len: &mut usize = &mut lens[view.buffer as usize];
            *len = (*len).max(view.pixels() * view.pixel_stride);
        }
        let lives = memory::Lives {
            inputs: &self.inputs,
            outputs: &self.outputs,
            output_grads: &self.output_grads,
            backward_start: self.backward_start,
            slack,
        };
        let (buffer_offsets, arena_len) = memory::assign(&self.steps, &lens, &lives);
        Plan { buffer_offsets, arena_len, ..self.clone() }
    }

    /// A view's first element in the arena.
    pub fn offset(&self, view: &View) -> usize {
        self.buffer_offsets[view.buffer as usize] + view.channel
    }
}
