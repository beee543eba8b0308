//! The detection loss: from the head's raw maps to loss terms and their gradient by the maps.
//!
//! Three terms: binary cross-entropy of the class logits against the class targets of the task-aligned assignment,
//! CIoU of the boxes, and the distribution focal loss of their sides. The sums are divided by the sum of the class
//! targets over the batch (at least 1); the box terms of an anchor weigh as much as its class target. The total is
//! multiplied by the number of images. Assignment happens in pixels, the box terms in units of the level's stride.
//! No gradient flows through the assignment.

mod boxes;
pub(crate) mod ciou;
mod class_weights;
mod classes;
mod cross_entropy;
pub mod distill;
mod distill_softmax;
pub(crate) mod math;

use rayon::prelude::*;

use crate::models::Task;

use super::assign::{Assigner, Foreground, Grid, ImageMaps, TalConfig, Truth};

pub use crate::data::batch::Target;
pub use class_weights::class_weights;
pub use cross_entropy::{CrossEntropy, log_softmax};
use distill::{DistillConfig, DistillScales, ImageTaught, LevelPair, Taught};

/// What each loss term is multiplied by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gains {
    /// CIoU term.
    pub box_: f32,
    /// Class term.
    pub cls: f32,
    /// Distribution focal loss term.
    pub dfl: f32,
}

impl Default for Gains {
    fn default() -> Self {
        Self { box_: 7.5, cls: 0.5, dfl: 1.5 }
    }
}

/// What the loss has to know of the head.
#[derive(Clone, Debug, PartialEq)]
pub struct LossConfig {
    /// Number of classes.
    pub nc: usize,
    /// Bins of a side's distribution.
    pub reg_max: usize,
    /// Pixels of the network's input per cell, one for each level.
    pub strides: Vec<usize>,
    /// Weights of the terms.
    pub gains: Gains,
    /// What each class's cross-entropy is multiplied by: `nc` numbers, 0 for what the labels do not cover.
    pub class_weights: Vec<f32>,
    /// Settings of the assignment.
    pub tal: TalConfig,
    /// What is learned of a starting model; none but where classes are added. Its sources' class weights then count in the
    /// place of `class_weights` wherever a starting model teaches.
    pub distill: Option<DistillConfig>,
}

impl LossConfig {
    /// The default recipe for `nc` classes: 16 bins, strides 8, 16 and 32.
    pub fn new(nc: usize) -> Self {
        Self {
            nc,
            reg_max: 16,
            strides: vec![8, 16, 32],
            gains: Gains::default(),
            class_weights: vec![1.0; nc],
            tal: TalConfig::default(),
            distill: None,
        }
    }
}

impl LossConfig {
    /// What each class's cross-entropy is multiplied by in an image of that source.
    fn class_weights_of(&self, source: Option<usize>) -> &[f32] {
        match (&self.distill, source) {
            (Some(distill), Some(source)) => &distill.sources[source].class_weights,
            _ => &self.class_weights,
        }
    }
}

/// The loss of a batch, gains applied. A classifier's cross-entropy stands as the class term, the others are 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossItems {
    /// CIoU term.
    pub box_: f64,
    /// Class term.
    pub cls: f64,
    /// Distribution focal loss term.
    pub dfl: f64,
    /// What differs from the starting model, where that teaches; else none.
    pub distill: Option<f64>,
    /// (box + class + dfl + distillation) * number of images: what the gradient belongs to.
    pub total: f64,
    /// Number of anchors with a positive class target.
    pub foreground: usize,
}

impl LossItems {
    /// The terms that the task has, in the order of [`term_names`].
    pub fn terms(&self, task: Task) -> Vec<f64> {
        let mut terms = match task {
            Task::Detect => vec![self.box_, self.cls, self.dfl],
            Task::Classify => vec![self.cls],
        };
        terms.extend(self.distill);
        terms
    }
}

/// Names of a task's loss terms; the last belongs to a run that a starting model teaches.
pub fn term_names(task: Task, taught: bool) -> &'static [&'static str] {
    match (task, taught) {
        (Task::Detect, false) => &["box", "cls", "dfl"],
        (Task::Detect, true) => &["box", "cls", "dfl", "distill"],
        (Task::Classify, false) => &["loss"],
        (Task::Classify, true) => &["loss", "distill"],
    }
}

/// Why a loss could not be computed. The gradients are then of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LossError {
    /// A raw output is infinite or not a number.
    #[error(
        "the network's output for image {image} of the batch is not finite; \
         the weights have diverged: lower the learning rate, or resume from the last good checkpoint"
    )]
    NonFinite {
        /// Index of the image in the batch.
        image: usize,
    },
    /// A target's box is infinite or not a number.
    #[error("a box of image {image} of the batch is not finite; check its label file")]
    Target {
        /// Index of the image in the batch.
        image: usize,
    },
    /// A target's class is not one of the model's.
    #[error(
        "a box of image {image} of the batch has class {class}, but the model has {nc} classes (0 to {nc} - 1)"
    )]
    Class {
        /// Index of the image in the batch.
        image: usize,
        /// The class found.
        class: usize,
        /// Number of classes of the model.
        nc: usize,
    },
    /// An image to be classified without a class.
    #[error("image {image} of the batch has no class; check the data set")]
    Unlabelled {
        /// Index of the image in the batch.
        image: usize,
    },
    /// A target belongs to no image of the batch.
    #[error("a target belongs to image {image}, but the batch has {n} images")]
    Image {
        /// The index found.
        image: usize,
        /// Number of images in the batch.
        n: usize,
    },
    /// The number of levels is not that of the head that was configured.
    #[error("{found} levels are given where {expected} are needed; the maps do not fit the head")]
    Levels {
        /// Number of levels given.
        found: usize,
        /// Number of levels needed.
        expected: usize,
    },
    /// The maps are not those of the head that was configured.
    #[error("level {level} has {found} values where {expected} are needed; the maps do not fit the head")]
    Shape {
        /// Index of the level.
        level: usize,
        /// Number of values given.
        found: usize,
        /// Number of values needed.
        expected: usize,
    },
}

/// One image's assignment and sums.
#[derive(Debug, Default)]
struct ImageState {
    assigner: Assigner,
    score_sum: f64,
    bins: Vec<f32>,
    box_: f64,
    cls: f64,
    dfl: f64,
    finite_boxes: bool,
    class_sums: Vec<f32>,
    /// What the image's labels cover: a source of [`DistillConfig`]; none without a starting model that teaches.
    source: Option<usize>,
    taught: ImageTaught,
}

/// The loss with its scratch memory, which is reused from batch to batch.
#[derive(Debug)]
pub struct DetectLoss {
    config: LossConfig,
    grid: Grid,
    shapes: Vec<(usize, usize)>,
    images: Vec<ImageState>,
}

/// Weights of the terms in the total, the batch's normaliser applied.
#[derive(Clone, Copy)]
struct Scales {
    box_: f64,
    cls: f64,
    dfl: f64,
    distill: DistillScales,
}

impl DetectLoss {
    /// A loss for the head that `config` describes.
    pub fn new(config: LossConfig) -> Self {
        Self { config, grid: Grid::default(), shapes: Vec::new(), images: Vec::new() }
    }

    /// The settings.
    pub fn config(&self) -> &LossConfig {
        &self.config
    }

    /// The loss of a batch of `n` images and its gradient.
    ///
    /// `maps` holds for each level the values [n, h, w, 4 * reg_max + nc] (box logits left, top, right, bottom, each
    /// `reg_max` bins; then class logits); `shapes` its (h, w); `grads`, of the same sizes, is overwritten with the
    /// derivative of [`LossItems::total`]. The network's input is (h * stride, w * stride) pixels of the first level.
    /// The result has the same bits for any number of threads.
    ///
    /// # Errors
    /// See [`LossError`]; `grads` is then undefined.
    pub fn compute<M, G>(
        &mut self,
        maps: &[M],
        shapes: &[(usize, usize)],
        n: usize,
        targets: &[Target],
        grads: &mut [G],
    ) -> Result<LossItems, LossError>
    where
        M: AsRef<[f32]> + Sync,
        G: AsMut<[f32]>,
    {
        self.compute_taught(maps, shapes, (n, targets), None, grads)
    }

    /// As [`DetectLoss::compute`]; with `taught` the loss also has what [`distill`] describes, and each image's labels
    /// count for the classes of its source alone.
    ///
    /// # Errors
    /// See [`LossError`]; `grads` is then undefined.
    ///
    /// # Panics
    /// If there is a `taught` without [`LossConfig::distill`], or it names a source that this does not have.
    pub fn compute_taught<M, G>(
        &mut self,
        maps: &[M],
        shapes: &[(usize, usize)],
        (n, targets): (usize, &[Target]),
        taught: Option<Taught<'_>>,
        grads: &mut [G],
    ) -> Result<LossItems, LossError>
    where
        M: AsRef<[f32]> + Sync,
        G: AsMut<[f32]>,
    {
        if grads.len() != maps.len() {
            return Err(LossError::Levels { found: grads.len(), expected: maps.len() });
        }
        for (level, (map, grad)) in maps.iter().zip(grads.iter_mut()).enumerate() {
            let (expected, found) = (map.as_ref().len(), grad.as_mut().len());
            if found != expected {
                return Err(LossError::Shape { level, found, expected });
            }
        }
        self.assign(maps, shapes, n, targets)?;
        if let Some(taught) = &taught {
            self.select(taught)?;
        }
        let (scales, channels) = (self.scales(), self.channels());
        let Self { config, grid, images, .. } = self;
        for (level, (map, grad)) in maps.iter().zip(grads.iter_mut()).enumerate() {
            let run = grid.levels()[level].cells() * channels;
            let grads = grad.as_mut().par_chunks_exact_mut(run);
            let images = map.as_ref().par_chunks_exact(run).zip(grads).zip(images.par_iter_mut());
            images.enumerate().for_each(|(index, ((map, grad), image))| {
                image.level(config, grid, level, map, Some(grad), scales);
                if let (Some(taught), Some(distill)) = (&taught, &config.distill) {
                    let maps = taught.maps[level];
                    let run = maps.len() / n;
                    let taught = &maps[index * run..(index + 1) * run];
                    let box_channels = 4 * config.reg_max;
                    let pair = LevelPair { maps: map, taught, grads: grad, box_channels, level };
                    image.distil(pair, distill, grid, scales.distill);
                }
            });
        }
        self.items(scales)
    }

    /// Checks what the starting model says and finds where it is confident.
    fn select(&mut self, taught: &Taught<'_>) -> Result<(), LossError> {
        let Self { config, grid, images, .. } = self;
        let distill = config.distill.as_ref().expect("the caller configured what is distilled");
        let box_channels = 4 * config.reg_max;
        if taught.maps.len() != grid.levels().len() {
            return Err(LossError::Levels { found: taught.maps.len(), expected: grid.levels().len() });
        }
        for (level, (map, place)) in taught.maps.iter().zip(grid.levels()).enumerate() {
            let (found, expected) = (map.len(), images.len() * place.cells() * (box_channels + distill.old));
            if found != expected {
                return Err(LossError::Shape { level, found, expected });
            }
        }
        let n = images.len();
        images.par_iter_mut().zip(taught.sources).enumerate().for_each(|(index, (image, &source))| {
            image.source = Some(source);
            let mut slices = [[].as_slice(); MAX_LEVELS];
            for (slice, map) in slices.iter_mut().zip(taught.maps) {
                let run = map.len() / n;
                *slice = &map[index * run..(index + 1) * run];
            }
            let levels = &slices[..taught.maps.len()];
            image.taught.select(levels, box_channels, &distill.sources[source].unlabelled);
        });
        Ok(())
    }

    /// The loss of a batch without its gradient; otherwise as [`DetectLoss::compute`].
    ///
    /// # Errors
    /// See [`LossError`].
    pub fn evaluate<M: AsRef<[f32]> + Sync>(
        &mut self,
        maps: &[M],
        shapes: &[(usize, usize)],
        n: usize,
        targets: &[Target],
    ) -> Result<LossItems, LossError> {
        self.assign(maps, shapes, n, targets)?;
        let (scales, channels) = (self.scales(), self.channels());
        let Self { config, grid, images, .. } = self;
        for (level, map) in maps.iter().enumerate() {
            let run = grid.levels()[level].cells() * channels;
            map.as_ref()
                .par_chunks_exact(run)
                .zip(images.par_iter_mut())
                .for_each(|(map, image)| image.level(config, grid, level, map, None, scales));
        }
        self.items(scales)
    }

    /// Anchors of image `image` of the last batch that learn a target, in the order of the anchors. A truth's index
    /// counts the image's targets in the order given, empty boxes left out.
    ///
    /// # Panics
    /// If the last batch had no such image.
    pub fn assignment(&self, image: usize) -> &[Foreground] {
        &self.images[image].assigner.foreground
    }

    fn channels(&self) -> usize {
        4 * self.config.reg_max + self.config.nc
    }

    /// Checks the batch and assigns its anchors.
    fn assign<M: AsRef<[f32]> + Sync>(
        &mut self,
        maps: &[M],
        shapes: &[(usize, usize)],
        n: usize,
        targets: &[Target],
    ) -> Result<(), LossError> {
        let levels = self.config.strides.len();
        for (found, expected) in
            [(maps.len(), levels), (shapes.len(), levels), (levels, levels.clamp(1, MAX_LEVELS))]
        {
            if found != expected {
                return Err(LossError::Levels { found, expected });
            }
        }
        let channels = self.channels();
        for (level, (map, &(h, w))) in maps.iter().zip(shapes).enumerate() {
            let (found, expected) = (map.as_ref().len(), n * h * w * channels);
            if found != expected || h * w == 0 {
                return Err(LossError::Shape { level, found, expected });
            }
        }
        if self.shapes != shapes {
            self.grid = Grid::new(shapes, &self.config.strides);
            self.shapes = shapes.to_vec();
        }
        self.images.resize_with(n, ImageState::default);
        self.set_targets(targets)?;

        let Self { config, grid, images, .. } = self;
        // A level's maps as slices of one image: at most as many as a head can have.
        images.par_iter_mut().enumerate().for_each(|(index, image)| {
            let mut slices = [[].as_slice(); MAX_LEVELS];
            for (slice, (map, level)) in
                slices.iter_mut().zip(maps.iter().map(AsRef::as_ref).zip(grid.levels()))
            {
                let run = level.cells() * channels;
                *slice = &map[index * run..(index + 1) * run];
            }
            let maps = ImageMaps { levels: &slices[..levels], reg_max: config.reg_max, nc: config.nc };
            image.score_sum = image.assigner.assign(&config.tal, grid, maps);
            (image.box_, image.cls, image.dfl, image.finite_boxes) = (0.0, 0.0, 0.0, true);
            image.source = None;
            image.bins.resize(4 * config.reg_max, 0.0);
        });
        Ok(())
    }

    fn set_targets(&mut self, targets: &[Target]) -> Result<(), LossError> {
        let n = self.images.len();
        for image in &mut self.images {
            image.assigner.truths.clear();
        }
        let (h, w) = self.shapes[0];
        let stride = self.config.strides[0];
        let (height, width) = ((h * stride) as f32, (w * stride) as f32);
        for target in targets {
            if let Some(truth) = truth_of(target, n, self.config.nc, (height, width))? {
                self.images[target.image as usize].assigner.truths.push(truth);
            }
        }
        Ok(())
    }

    fn scales(&self) -> Scales {
        let sum: f64 = self.images.iter().map(|i| i.score_sum).sum();
        let batch = self.images.len() as f64 / sum.max(1.0);
        let Gains { box_, cls, dfl } = self.config.gains;
        let (box_, cls, dfl) = (f64::from(box_), f64::from(cls), f64::from(dfl));
        let distill = self.config.distill.as_ref().map_or(DistillScales::default(), |distill| {
            let selected: f64 =
                self.images.iter().filter(|i| i.source.is_some()).map(|i| i.taught.selected).sum();
            let gain = f64::from(distill.gain) * self.images.len() as f64 / selected.max(1.0);
            DistillScales { cls: gain * cls, dfl: gain * dfl }
        });
        Scales { box_: box_ * batch, cls: cls * batch, dfl: dfl * batch, distill }
    }

    fn items(&self, scales: Scales) -> Result<LossItems, LossError> {
        let mut items = LossItems::default();
        for (index, image) in self.images.iter().enumerate() {
            // Terms that overflow are caught here too.
            let taught = if image.source.is_some() { image.taught.cls + image.taught.dfl } else { 0.0 };
            let sum = image.box_ + image.cls + image.dfl + taught;
            if !sum.is_finite() || !image.finite_boxes {
                return Err(LossError::NonFinite { image: index });
            }
            items.box_ += image.box_;
            items.cls += image.cls;
            items.dfl += image.dfl;
            items.foreground += image.assigner.foreground.len();
            if image.source.is_some() {
                let DistillScales { cls, dfl } = scales.distill;
                *items.distill.get_or_insert(0.0) += image.taught.cls * cls + image.taught.dfl * dfl;
            }
        }
        let n = self.images.len().max(1) as f64;
        items.box_ *= scales.box_ / n;
        items.cls *= scales.cls / n;
        items.dfl *= scales.dfl / n;
        items.distill = items.distill.map(|sum| sum / n);
        items.total = (items.box_ + items.cls + items.dfl + items.distill.unwrap_or(0.0)) * n;
        Ok(items)
    }
}

/// A target as the assignment takes it; none for a box of zeros, the reference's mark for no box. `n` images of
/// (height, width) pixels, `nc` classes.
pub(crate) fn truth_of(
    target: &Target,
    n: usize,
    nc: usize,
    (height, width): (f32, f32),
) -> Result<Option<Truth>, LossError> {
    let image = target.image as usize;
    let class = target.label.class as usize;
    if image >= n {
        return Err(LossError::Image { image, n });
    }
    if class >= nc {
        return Err(LossError::Class { image, class, nc });
    }
    let bbox = target.label.to_xyxy(width, height);
    let sum = bbox.x1 + bbox.y1 + bbox.x2 + bbox.y2;
    if !sum.is_finite() {
        return Err(LossError::Target { image });
    }
    Ok((sum > 0.0).then_some(Truth { class, bbox }))
}

/// More levels than any detection head has.
const MAX_LEVELS: usize = 8;

impl ImageState {
    /// Adds one level's terms and, with `grads`, writes their gradient.
    fn level(
        &mut self,
        config: &LossConfig,
        grid: &Grid,
        level: usize,
        maps: &[f32],
        mut grads: Option<&mut [f32]>,
        scales: Scales,
    ) {
        let box_channels = 4 * config.reg_max;
        let channels = box_channels + config.nc;
        let class_weights = config.class_weights_of(self.source);
        let sums = classes::Pass {
            maps,
            grads: grads.as_deref_mut(),
            box_channels,
            channels,
            scale: scales.cls as f32,
            weights: class_weights,
            sums: &mut self.class_sums,
        }
        .run();
        self.cls += sums.loss;
        self.finite_boxes &= sums.finite_boxes;

        let (first, stride) = (grid.levels()[level].first, grid.levels()[level].stride as f64);
        let foreground = &self.assigner.foreground;
        let from = foreground.partition_point(|f| f.anchor < first);
        let to = foreground.partition_point(|f| f.anchor < first + grid.levels()[level].cells());
        for f in &foreground[from..to] {
            let cell = f.anchor - first;
            let run = cell * channels..(cell + 1) * channels;
            let row = &maps[run.clone()];
            let mut grad = grads.as_deref_mut().map(|g| &mut g[run]);
            let truth = &self.assigner.truths[f.truth];
            let score = f64::from(f.score);

            let at = box_channels + truth.class;
            let weighted = score * f64::from(class_weights[truth.class]);
            self.cls -= weighted * f64::from(row[at]);
            if let Some(grad) = grad.as_deref_mut() {
                grad[at] -= (weighted * scales.cls) as f32;
            }
            let b = truth.bbox;
            let target = [b.x1, b.y1, b.x2, b.y2].map(|v| f64::from(v) / stride);
            let weights = boxes::BoxWeights { iou: score * scales.box_, dfl: score * scales.dfl };
            let terms = boxes::terms(
                &row[..box_channels],
                grad.map(|g| &mut g[..box_channels]),
                &mut self.bins,
                grid.centre(level, cell),
                target,
                weights,
            );
            self.box_ += score * terms.iou;
            self.dfl += score * terms.dfl;
        }
    }

    /// Adds what one level's maps differ from the starting model's.
    fn distil(&mut self, pair: LevelPair<'_>, config: &DistillConfig, grid: &Grid, scales: DistillScales) {
        let Some(source) = self.source else { return };
        let unlabelled = &config.sources[source].unlabelled;
        self.taught.level(pair, unlabelled, (grid, &self.assigner.foreground), scales);
    }
}

#[cfg(test)]
mod tests;
