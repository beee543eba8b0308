//! Task-aligned assignment: which anchors learn which target, and how strongly.
//!
//! Feng et al., "TOOD: Task-aligned One-stage Object Detection", ICCV 2021, section 3.2: an anchor's alignment with
//! a target is t = s^alpha * u^beta, with s the predicted score of the target's class and u the overlap of the
//! predicted box (here CIoU, at least 0). Each target takes the `topk` anchors of largest t among those whose centre
//! it holds; an anchor that several targets take goes to the one that it overlaps most. The class target of an
//! anchor is t, scaled so that the largest t of a target becomes the largest overlap of that target.

mod candidates;
mod grid;

use crate::boxes::Xyxy;
pub(crate) use candidates::Decoded;
pub use grid::{Grid, Level};

/// Settings of the assignment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TalConfig {
    /// Anchors that one target takes at most.
    pub topk: usize,
    /// Exponent of the class score.
    pub alpha: f32,
    /// Exponent of the overlap.
    pub beta: f32,
}

impl Default for TalConfig {
    fn default() -> Self {
        Self { topk: 10, alpha: 0.5, beta: 6.0 }
    }
}

/// A box to learn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truth {
    /// Index below the number of classes.
    pub class: usize,
    /// Corners in pixels of the network's input.
    pub bbox: Xyxy,
}

/// An anchor that learns a target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Foreground {
    /// Index over all levels, each row by row.
    pub anchor: usize,
    /// Index into the image's truths.
    pub truth: usize,
    /// Class target, above 0 and at most 1; also the weight of the box terms.
    pub score: f32,
}

/// One image's raw maps, level by level: [h * w, 4 * reg_max + nc].
#[derive(Clone, Copy, Debug)]
pub(crate) struct ImageMaps<'a> {
    pub levels: &'a [&'a [f32]],
    pub reg_max: usize,
    pub nc: usize,
}

impl<'a> ImageMaps<'a> {
    /// Channels of one cell: 4 * reg_max box logits, then nc class logits.
    pub fn row(&self, level: usize, cell: usize) -> &'a [f32] {
        let channels = 4 * self.reg_max + self.nc;
        &self.levels[level][cell * channels..(cell + 1) * channels]
    }
}

/// An anchor's alignment with one target.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    anchor: usize,
    metric: f32,
    overlap: f32,
}

/// Who holds an anchor.
#[derive(Clone, Copy, Debug, Default)]
struct Claim {
    /// How many targets took the anchor.
    takers: u32,
    truth: usize,
    metric: f32,
    overlap: f32,
}

/// The assignment of one image and its scratch memory, which is reused from step to step.
#[derive(Debug, Default)]
pub(crate) struct Assigner {
    /// The image's targets; set by the caller before [`Assigner::assign`].
    pub truths: Vec<Truth>,
    /// Result: in the order of the anchors.
    pub foreground: Vec<Foreground>,
    decoded: Decoded,
    claims: Vec<Claim>,
    best: Vec<Candidate>,
    /// Per truth: largest metric and largest overlap of the anchors that it kept.
    peaks: Vec<(f32, f32)>,
}

impl Assigner {
    /// Fills `foreground` from `truths`; returns the sum of the class targets.
    ///
    /// Only anchors of positive alignment are taken: others would have a class target and a weight of 0. Equal
    /// alignments go to the lower anchor.
    pub fn assign(&mut self, config: &TalConfig, grid: &Grid, maps: ImageMaps<'_>) -> f64 {
        self.foreground.clear();
        if self.truths.is_empty() {
            return 0.0;
        }
        self.decoded.reset(grid.anchors());
        self.claims.clear();
        self.claims.resize(grid.anchors(), Claim::default());
        for (index, truth) in self.truths.iter().enumerate() {
            self.best.clear();
            self.decoded.search(truth, config, grid, maps, &mut self.best);
            for c in &self.best {
                let claim = &mut self.claims[c.anchor];
                claim.takers += 1;
                (claim.truth, claim.metric, claim.overlap) = (index, c.metric, c.overlap);
            }
        }
        self.settle_conflicts(config, grid, maps);

        self.peaks.clear();
        self.peaks.resize(self.truths.len(), (0.0, 0.0));
        for claim in self.claims.iter().filter(|c| c.takers > 0) {
            let peak = &mut self.peaks[claim.truth];
            *peak = (peak.0.max(claim.metric), peak.1.max(claim.overlap));
        }
        let mut sum = 0.0;
        for (anchor, claim) in self.claims.iter().enumerate().filter(|(_, c)| c.takers > 0) {
            let (metric, overlap) = self.peaks[claim.truth];
            let score = claim.metric * (overlap / (metric + 1e-9));
            if score > 0.0 {
                self.foreground.push(Foreground { anchor, truth: claim.truth, score });
                sum += f64::from(score);
            }
        }
        sum
    }

    /// Gives each anchor that several targets took to the target of largest overlap among all whose box holds its
    /// centre, whether or not that target took it.
    fn settle_conflicts(&mut self, config: &TalConfig, grid: &Grid, maps: ImageMaps<'_>) {
        for anchor in 0..self.claims.len() {
            if self.claims[anchor].takers < 2 {
                continue;
            }
            let mut winner: Option<(usize, f32)> = None;
            for (index, truth) in self.truths.iter().enumerate() {
                let overlap = self.decoded.overlap(truth, anchor, grid);
                if winner.is_none_or(|(_, most)| overlap > most) {
                    winner = Some((index, overlap));
                }
            }
            let (truth, overlap) = winner.expect("an anchor is taken only where there are truths");
            let metric = candidates::metric(config, grid, maps, &self.truths[truth], anchor, overlap);
            let claim = &mut self.claims[anchor];
            (claim.truth, claim.metric, claim.overlap) = (truth, metric, overlap);
        }
    }
}

#[cfg(test)]
mod tests;
