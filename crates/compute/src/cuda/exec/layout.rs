//! Where everything of a plan lies on the device: known from the plan alone, so memory is too.

use crate::graph::{Attention, ConvGeometry};
use crate::plan::{ConvInfo, Mode, Plan, Step, View};

use super::super::Precision;
use super::attention;
use super::dense::DenseConv;
use super::structures::{FixedNorm, RunningNorm, WeightTap};
use super::tiles::split_floats;
use super::workspace::{Part, WorkspaceBytes};

/// Rows of partial sums at most, groups' sums included: see `finish_sums` in common.cuh.
pub(super) const MAX_SUM_BLOCKS: usize = 1024;
pub(super) const SUM_ROWS: usize = MAX_SUM_BLOCKS + MAX_SUM_BLOCKS / 16;
/// Steps for which the gradients of weights may lag behind.
pub(super) const SLACK: usize = 6;
/// Counters of `finish_sums` for one column of blocks.
const COUNTERS: usize = 65;
/// Floats of partial weight gradients that a convolution may use.
pub(super) const SPLIT_FLOATS: usize = 16 << 20;

/// The places and tables of a plan.
pub(super) struct Layout {
    pub arena_bytes: usize,
    /// Elements of the packed weights.
    pub weights: usize,
    /// Elements of padded inputs.
    pub copies: usize,
    /// Of each convolution: its products, unless it is depthwise.
    pub dense: Vec<Option<DenseConv>>,
    pub taps: Vec<WeightTap>,
    /// Blocks of the packing kernel.
    pub tap_tiles: usize,
    /// Floats of statistics, one table's.
    pub statistics: usize,
    pub fixed: Vec<FixedNorm>,
    pub running: Vec<RunningNorm>,
    /// Of each convolution with a folded norm: first of its bias in the table.
    pub folded_bias: Vec<Option<usize>>,
    pub biases: usize,
    /// Of each depthwise convolution with a folded norm: first of its weights in the table.
    pub folded_depthwise: Vec<Option<usize>>,
    pub depthwise_weights: usize,
    /// Floats of partial sums.
    pub partials: usize,
    /// Floats of partial weight gradients.
    pub splits: usize,
    pub counters: usize,
    /// Bytes of places of maxima.
    pub places: usize,
    /// Elements of attention's scores.
    pub scores: usize,
}

impl Layout {
    pub fn new(plan: &Plan, precision: Precision) -> Layout {
        let offset = |id: crate::graph::ParamId| plan.params[id.index()].offset as i32;
        let mut layout = Layout {
            arena_bytes: plan.arena_len * precision.bytes(),
            weights: 0,
            copies: 0,
            dense: Vec::new(),
            taps: Vec::new(),
            tap_tiles: 0,
            statistics: plan.norms.last().map_or(0, |n| (n.saved + n.channels).next_multiple_of(16)),
            fixed: Vec::new(),
            running: Vec::new(),
            folded_bias: Vec::new(),
            biases: 0,
            folded_depthwise: Vec::new(),
            depthwise_weights: 0,
            partials: 0,
            splits: 0,
            counters: 0,
            places: 0,
            scores: 0,
        };
        let pixels = norm_pixels(plan);
        for (i, norm) in plan.norms.iter().enumerate() {
            if norm.batch_stats {
                let count = pixels[i] as f32;
                layout.running.push(RunningNorm {
                    mean: offset(norm.mean),
                    var: offset(norm.var),
                    saved: norm.saved as i32,
                    channels: norm.channels as i32,
                    momentum: norm.momentum,
                    unbiased: count / (count.max(2.0) - 1.0),
                });
            }
        }
        for info in &plan.convs {
            layout.add_conv(plan, info, precision);
        }
        for (i, norm) in plan.norms.iter().enumerate().filter(|(_, norm)| !norm.batch_stats) {
            let conv = plan.convs.iter().position(|conv| conv.folded == Some(i));
            let folded = conv.and_then(|conv| layout.folded_bias[conv]);
            layout.fixed.push(FixedNorm {
                gamma: offset(norm.scale),
                beta: offset(norm.shift),
                mean: offset(norm.mean),
                var: offset(norm.var),
                saved: norm.saved as i32,
                channels: norm.channels as i32,
                bias: conv.and_then(|conv| plan.convs[conv].bias).map_or(-1, offset),
                folded: folded.map_or(-1, |at| at as i32),
                keep: i32::from(plan.mode == Mode::Training),
                eps: norm.eps,
            });
        }
        for step in &plan.steps {
            layout.scratch_of(plan, step);
        }
        layout
    }

    fn add_conv(&mut self, plan: &Plan, info: &ConvInfo, precision: Precision) {
        let scale = info.folded.map(|norm| 2 * plan.norms[norm].saved);
        let out = info.output[3];
        self.folded_bias.push(scale.map(|_| take(&mut self.biases, out)));
        if info.geometry.groups > 1 {
            let (kh, kw) = info.geometry.kernel;
            self.folded_depthwise.push(scale.map(|_| take(&mut self.depthwise_weights, kh * kw * out)));
            self.dense.push(None);
            return;
        }
        self.folded_depthwise.push(None);
        let from = plan.params[info.weight.index()].offset;
        let dense = DenseConv::new(info, precision, &mut self.weights, &mut self.copies);
        dense.taps(info, from, scale, &mut self.taps, &mut self.tap_tiles);
        self.dense.push(Some(dense));
    }

    fn scratch_of(&mut self, plan: &Plan, step: &Step) {
        let mut sums = |channels: usize| {
            self.partials = self.partials.max(SUM_ROWS * 2 * channels);
            // A column of blocks has at least 8 channels.
            self.counters = self.counters.max(channels.div_ceil(8) * COUNTERS);
        };
        match step {
            Step::Conv { y, stats: Some(_), .. } => sums(y.channels()),
            Step::NormStats { z, .. } | Step::NormGrad { z, .. } => sums(z.channels()),
            Step::ConvGradBias { dy, .. } => sums(dy.channels()),
            Step::ScaleChannelsGrad { dy, trained: true, .. } => sums(dy.channels()),
            Step::ConvGradWeight { conv, .. } => {
                let info = &plan.convs[*conv];
                let (kh, kw) = info.geometry.kernel;
                let len = kh * kw * info.input[3] / info.geometry.groups * info.output[3];
                self.splits = self.splits.max(split_floats(len, pixels_of(info.output)));
            }
            Step::MaxPoolGrad { dy, .. } => self.places = self.places.max(dy.len()),
            Step::Attention { attention, x, .. } | Step::AttentionGrad { attention, x, .. } => {
                self.scores = self.scores.max(attention_scores(attention, x));
            }
            _ => {}
        }
    }

    /// Bytes of what is needed only while the plan runs.
    pub fn workspace(&self, precision: Precision) -> WorkspaceBytes {
        let e = precision.bytes();
        WorkspaceBytes::default()
            .with(Part::Arena, self.arena_bytes)
            .with(Part::Copies, self.copies * e)
            .with(Part::Partials, self.partials * 4)
            .with(Part::SidePartials, self.partials.max(self.splits) * 4)
            .with(Part::Places, self.places)
            .with(Part::Scores, self.scores * 4)
            .with(Part::Probabilities, self.scores * e)
            .with(Part::Slopes, self.scores * e)
    }

    /// Bytes of all allocations.
    pub fn needed(&self, precision: Precision) -> MemoryNeeded {
        let floats = 6 * self.statistics + self.biases + self.depthwise_weights;
        let tables = self.taps.len() * 9 + self.fixed.len() * 10 + self.running.len() * 6 + 2 * self.counters;
        let own = self.weights * precision.bytes() + (floats + tables) * 4;
        MemoryNeeded { workspace: self.workspace(precision), own }
    }
}

/// Bytes of the device's memory that a plan's executor takes, parameters and gradients left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryNeeded {
    /// What executors that run one after the other may share.
    pub workspace: WorkspaceBytes,
    /// What each has for itself.
    pub own: usize,
}

impl MemoryNeeded {
    /// Of an executor alone.
    pub fn total(self) -> usize {
        self.workspace.total() + self.own
    }

    /// Of an executor that runs within the workspace of another, or the other within its.
    pub fn beside(self, other: MemoryNeeded) -> MemoryNeeded {
        MemoryNeeded { workspace: self.workspace.shared_with(other.workspace), own: self.own + other.own }
    }
}

/// What a plan's executor will take; none where a tensor is longer than the kernels reach.
pub fn memory_needed(plan: &Plan, precision: Precision) -> Option<MemoryNeeded> {
    (longest_tensor(plan) <= LONGEST)
        .then(|| Layout::new(&plan.with_slack(SLACK), precision).needed(precision))
}

/// Elements of a tensor at most: places are 32-bit numbers.
pub(super) const LONGEST: usize = i32::MAX as usize;

/// Elements of a plan's longest tensor, gaps included.
pub(super) fn longest_tensor(plan: &Plan) -> usize {
    plan.steps.iter().flat_map(Step::views).map(|v| v.pixels() * v.pixel_stride).max().unwrap_or(0)
}

fn take(total: &mut usize, len: usize) -> usize {
    let at = *total;
    *total = (at + len).next_multiple_of(16);
    at
}

pub(super) fn pixels_of([n, h, w, _]: [usize; 4]) -> usize {
    n * h * w
}

fn attention_scores(attention: &Attention, x: &View) -> usize {
    let [n, h, w, _] = x.shape;
    let run = h * w / attention.areas;
    attention::images_at_once(attention, n, run)
        * attention.areas
        * attention.heads
        * run
        * attention::pitch(run)
}

/// Pixels that each norm's statistics are taken over.
fn norm_pixels(plan: &Plan) -> Vec<usize> {
    let mut pixels = vec![0; plan.norms.len()];
    for step in &plan.steps {
        if let Step::Norm { norm, z, .. } = step {
            pixels[*norm] = z.pixels();
        }
    }
    pixels
}

/// Classes of a convolution's data gradient.
pub(super) fn classes(geometry: &ConvGeometry) -> usize {
    geometry.stride.0 * geometry.stride.1
}
