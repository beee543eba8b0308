//! Distillation: what a detector that is given new classes learns of its old ones, from the frozen model that it started from.
//!
//! The labels of the new images say nothing of most old classes. Taken as they are, they would teach that an unlabelled old
//! object is background. Per source of images (the new data, the replayed old data) let U be the old classes that its
//! labels do not cover; x the network's class logits, y those of the starting model on the same image, q = sigmoid(y). The
//! cross-entropy with the labels leaves out U (and new classes that the source does not label), and these terms come in:
//!
//! **Classes.** In the place of the missing labels stand the starting model's probabilities, at every anchor a:
//!
//! ```text
//! class = sum_a sum_(c in U) [ BCE(x_ac, q_ac) - H(q_ac) ] = sum_a sum_(c in U) KL(q_ac || sigmoid(x_ac))
//! ```
//!
//! the sigmoid form of Li and Hoiem, "Learning without Forgetting" (ECCV 2016), as Rebuffi et al., "iCaRL" (CVPR 2017),
//! section 3.3, have it; for detectors compare Shmelkov et al., "Incremental Learning of Object Detectors without
//! Catastrophic Forgetting" (ICCV 2017). The entropy H is a constant: it makes the term 0 where both models agree.
//!
//! **Boxes.** Where the starting model is confident, its distributions of the four sides are learned, after Feng et al.,
//! "Overcoming Catastrophic Forgetting in Incremental Object Detection via Elastic Response Distillation" (CVPR 2022): with
//! p_a = max_(c in U) q_ac, an anchor is selected where p_a > mean + 2 standard deviations of p over the image's anchors.
//! Otherwise than there, p_a is also the anchor's weight (as the class target weighs the box terms of a labelled anchor),
//! one selection serves both terms, and anchors that learn a labelled box are left out:
//!
//! ```text
//! box = sum_(a selected) p_a / 4 * sum_(sides) KL(softmax(y side) || softmax(x side))
//! ```
//!
//! **Together.** total = n * gain * (gain_cls * class + gain_dfl * box) / max(1, sum over the batch's selected anchors of p_a).

use super::math;
use crate::train::assign::{Foreground, Grid};

/// Rows over which a class's divergences are summed in float32.
const ROWS: usize = 32;
/// Standard deviations above the mean from which an anchor is confident.
const DEVIATIONS: f64 = 2.0;

/// What a run distils.
#[derive(Clone, Debug, PartialEq)]
pub struct DistillConfig {
    /// What the distillation is multiplied by.
    pub gain: f32,
    /// Number of classes of the starting model: the first of the network's.
    pub old: usize,
    /// The new data, then the replayed data where there are some.
    pub sources: Vec<Source>,
}

/// What the labels of a source of images cover.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// What each class's cross-entropy is multiplied by: 0 where the labels do not cover the class.
    pub class_weights: Vec<f32>,
    /// For each old class 1 where the labels do not cover it, else 0.
    pub unlabelled: Vec<f32>,
}

impl Source {
    /// The source whose labels cover `labelled` (one for each class); `weights` multiply the cross-entropy of those.
    pub fn new(labelled: &[bool], weights: &[f32], old: usize) -> Source {
        let class_weights = weights.iter().zip(labelled).map(|(&w, &l)| if l { w } else { 0.0 }).collect();
        let unlabelled = labelled[..old].iter().map(|&l| if l { 0.0 } else { 1.0 }).collect();
        Source { class_weights, unlabelled }
    }
}

/// What the starting model says of a batch.
#[derive(Clone, Copy, Debug)]
pub struct Taught<'a> {
    /// Its raw maps, level by level: `[n, h, w, 4 * reg_max + old]`.
    pub maps: &'a [&'a [f32]],
    /// The source of each image.
    pub sources: &'a [usize],
}

/// Weights of the two terms in the total.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct DistillScales {
    pub cls: f64,
    pub dfl: f64,
}

/// One image's confident anchors and sums.
#[derive(Debug, Default)]
pub(super) struct ImageTaught {
    /// The largest probability of an unlabelled old class at each anchor; 0 where it is not selected.
    confidence: Vec<f32>,
    /// Sum of the selected confidences.
    pub selected: f64,
    /// The class term, without its scale.
    pub cls: f64,
    /// The box term, without its scale.
    pub dfl: f64,
    sums: Vec<f32>,
    theirs: Vec<f32>,
    ours: Vec<f32>,
}

/// One level of one image, from both models.
pub(super) struct LevelPair<'a> {
    /// The network's maps [cells, 4 * reg_max + nc].
    pub maps: &'a [f32],
    /// The starting model's [cells, 4 * reg_max + old].
    pub taught: &'a [f32],
    /// Gradient, like `maps`: added to.
    pub grads: &'a mut [f32],
    /// 4 * reg_max.
    pub box_channels: usize,
    /// Index of the level.
    pub level: usize,
}

impl ImageTaught {
    /// Finds the confident anchors in the starting model's maps of one image, level by level.
    pub fn select(&mut self, levels: &[&[f32]], box_channels: usize, unlabelled: &[f32]) {
        let channels = box_channels + unlabelled.len();
        self.confidence.clear();
        for maps in levels {
            self.confidence.extend(maps.chunks_exact(channels).map(|row| {
                let logits = row[box_channels..].iter().zip(unlabelled).filter(|(_, u)| **u > 0.0);
                let most = logits.fold(f32::NEG_INFINITY, |most, (&y, _)| most.max(y));
                if most == f32::NEG_INFINITY { 0.0 } else { math::sigmoid_softplus(most).0 }
            }));
        }
        let n = self.confidence.len().max(1) as f64;
        let mean = self.confidence.iter().map(|&p| f64::from(p)).sum::<f64>() / n;
        let variance = self.confidence.iter().map(|&p| (f64::from(p) - mean).powi(2)).sum::<f64>() / n;
        let threshold = mean + DEVIATIONS * variance.sqrt();
        self.selected = 0.0;
        for p in &mut self.confidence {
            if f64::from(*p) > threshold {
                self.selected += f64::from(*p);
            } else {
                *p = 0.0;
            }
        }
        (self.cls, self.dfl) = (0.0, 0.0);
    }

    /// Adds one level's terms and their gradient.
    pub fn level(
        &mut self,
        pair: LevelPair<'_>,
        unlabelled: &[f32],
        (grid, foreground): (&Grid, &[Foreground]),
        scales: DistillScales,
    ) {
        let LevelPair { maps, taught, grads, box_channels, level } = pair;
        let cells = grid.levels()[level].cells();
        let (channels, taught_channels) = (maps.len() / cells, taught.len() / cells);
        self.cls += Pass {
            maps,
            taught,
            grads,
            box_channels,
            channels,
            scale: scales.cls as f32,
            unlabelled,
            sums: &mut self.sums,
        }
        .run();
        let first = grid.levels()[level].first;
        self.theirs.resize(box_channels, 0.0);
        self.ours.resize(box_channels, 0.0);
        for cell in 0..cells {
            let confidence = f64::from(self.confidence[first + cell]);
            if confidence == 0.0 || foreground.binary_search_by_key(&(first + cell), |f| f.anchor).is_ok() {
                continue;
            }
            let x = &maps[cell * channels..][..box_channels];
            let y = &taught[cell * taught_channels..][..box_channels];
            let grad = &mut grads[cell * channels..][..box_channels];
            let push = (confidence * scales.dfl / 4.0) as f32;
            let reg_max = box_channels / 4;
            for side in 0..4 {
                let run = side * reg_max..(side + 1) * reg_max;
                let (x, y, grad) = (&x[run.clone()], &y[run.clone()], &mut grad[run.clone()]);
                let (p, q) = (&mut self.ours[run.clone()], &mut self.theirs[run]);
                let ours = f64::from(math::softmax(x, p).log_sum);
                let theirs = f64::from(math::softmax(y, q).log_sum);
                let mut divergence = 0.0;
                for ((&x, &y), ((g, &p), &q)) in x.iter().zip(y).zip(grad.iter_mut().zip(&*p).zip(&*q)) {
                    divergence += f64::from(q) * ((f64::from(y) - theirs) - (f64::from(x) - ours));
                    *g += push * (p - q);
                }
                self.dfl += confidence * divergence / 4.0;
            }
        }
    }
}

/// The class term over the cells of one image and level.
struct Pass<'a> {
    maps: &'a [f32],
    taught: &'a [f32],
    grads: &'a mut [f32],
    box_channels: usize,
    channels: usize,
    scale: f32,
    unlabelled: &'a [f32],
    sums: &'a mut Vec<f32>,
}

impl Pass<'_> {
    /// Runs on the widest registers that the machine has; not a number where a logit is not.
    fn run(self) -> f64 {
        pulp::Arch::new().dispatch(self)
    }
}

impl pulp::NullaryFnOnce for Pass<'_> {
    type Output = f64;

    // Elementwise, one accumulator for each class, as in `classes`: it vectorises, with the same bits everywhere.
    #[inline(always)]
    fn call(self) -> f64 {
        let Self { maps, taught, grads, box_channels, channels, scale, unlabelled, sums } = self;
        let old = unlabelled.len();
        let taught_channels = box_channels + old;
        let mut loss = 0.0;
        let rows = maps.chunks(ROWS * channels).zip(taught.chunks(ROWS * taught_channels));
        for ((maps, taught), grads) in rows.zip(grads.chunks_mut(ROWS * channels)) {
            sums.clear();
            sums.resize(old, 0.0);
            let rows = maps.chunks_exact(channels).zip(taught.chunks_exact(taught_channels));
            for ((x, y), grad) in rows.zip(grads.chunks_exact_mut(channels)) {
                let (x, y) = (&x[box_channels..][..old], &y[box_channels..][..old]);
                let grad = &mut grad[box_channels..][..old];
                let classes = grad.iter_mut().zip(unlabelled).zip(sums.iter_mut());
                for ((&x, &y), ((g, &mask), sum)) in x.iter().zip(y).zip(classes) {
                    let (s, l) = math::sigmoid_softplus(x);
                    let (q, m) = math::sigmoid_softplus(y);
                    *g += mask * scale * (s - q);
                    *sum += mask * ((l - m) - q * (x - y));
                }
            }
            loss += sums.iter().map(|&v| f64::from(v)).sum::<f64>();
        }
        loss
    }
}

#[cfg(test)]
mod tests;
