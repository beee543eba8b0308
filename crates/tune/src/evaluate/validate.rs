//! Validation: a network over a data set's images, and the figures.

use std::sync::Arc;

use super::{DetectMetrics, EvaluateError, Evaluator, ImageScore, Postprocess, Truth, detections};
use crate::boxes::Detection;
use crate::data::cache::ImageCache;
use crate::data::loader::LoaderError;
use crate::data::val_loader::{ValConfig, ValLoader};
use crate::engine::Inference;
use crate::models::ModelError;
use crate::train::loss::{DetectLoss, LossError};

/// How validation goes.
#[derive(Clone, Debug)]
pub struct ValidateOptions {
    /// Batches and sizes.
    pub loader: ValConfig,
    /// From raw output to detections.
    pub postprocess: Postprocess,
    /// Keep every image's detections and score.
    pub keep: bool,
}

/// What one image gave.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageResult {
    /// Index of the item.
    pub item: usize,
    /// Detections in pixels of the original image, best first.
    pub detections: Vec<Detection>,
    /// Against the truth.
    pub score: ImageScore,
}

/// What a validation gave.
#[derive(Clone, Debug)]
pub struct Validation {
    /// The figures.
    pub metrics: DetectMetrics,
    /// Mean losses over batches (box, class, dfl, gains applied), where a loss was given.
    pub losses: [f64; 3],
    /// Each image's result, by item, where asked for.
    pub images: Vec<ImageResult>,
}

/// A validation that failed.
#[derive(Debug, thiserror::Error)]
pub enum ValidateError {
    /// An image or the loader.
    #[error(transparent)]
    Loader(#[from] LoaderError),
    /// The network.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The network's output.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// The validation loss.
    #[error(transparent)]
    Loss(#[from] LossError),
    /// The GPU.
    #[error(transparent)]
    Cuda(#[from] onsa_compute::cuda::CudaError),
}

/// Runs the network over all of `cache`'s items. `progress(done, all)` is called after each batch, and ends the
/// validation early, with the figures so far, by returning false.
///
/// # Errors
/// See [`ValidateError`].
pub fn validate(
    network: &mut Inference,
    cache: &Arc<ImageCache>,
    names: &[String],
    options: &ValidateOptions,
    mut loss: Option<&mut DetectLoss>,
    mut progress: impl FnMut(usize, usize) -> bool,
) -> Result<Validation, ValidateError> {
    let mut evaluator = Evaluator::new(names.to_vec());
    let mut images = Vec::new();
    let mut losses = [0.0; 3];
    let mut loader = ValLoader::new(Arc::clone(cache), options.loader.clone())?;
    let batches = loader.batches();
    let mut done = 0;
    while let Some(next) = loader.next() {
        let val = next?;
        let batch = val.batch;
        let pool = network.pool();
        let maps = network.run([batch.n, batch.h, batch.w], &batch.images)?;
        if let Some(loss) = loss.as_deref_mut() {
            let items =
                pool.install(|| loss.evaluate(&maps.values(), &maps.shapes(), batch.n, &batch.targets))?;
            for (sum, item) in losses.iter_mut().zip([items.box_, items.cls, items.dfl]) {
                *sum += item / batches as f64;
            }
        }
        let head = maps.head()?;
        let found = pool.install(|| detections(&head, &options.postprocess))?;
        for (mut detections, placed) in found.into_iter().zip(&val.placed) {
            for detection in &mut detections {
                detection.bbox = placed.to_image(&detection.bbox);
            }
            let item = &cache.items()[placed.item];
            let truths = truths(item, options.loader.single_cls);
            let score = evaluator.add(&detections, &truths)?;
            if options.keep {
                images.push(ImageResult { item: placed.item, detections, score });
            }
        }
        done += batch.n;
        loader.recycle(batch);
        if !progress(done, cache.items().len()) {
            break;
        }
    }
    images.sort_by_key(|image| image.item);
    Ok(Validation { metrics: evaluator.finish(), losses, images })
}

/// An item's labels as truths in pixels of the original image.
pub fn truths(item: &crate::data::dataset::Item, single_cls: bool) -> Vec<Truth> {
    item.labels
        .iter()
        .map(|label| Truth {
            class: if single_cls { 0 } else { label.class },
            bbox: label.to_xyxy(item.width as f32, item.height as f32),
            crowd: false,
        })
        .collect()
}
