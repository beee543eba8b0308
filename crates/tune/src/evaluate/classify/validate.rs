//! Validation: a classifier over a data set's images, and the figures.

use std::sync::Arc;

use super::metrics::{ClassifyMetrics, Guess};
use crate::data::cache::ImageCache;
use crate::data::val_loader::{ValConfig, ValLoader};
use crate::engine::Inference;
use crate::evaluate::EvaluateError;
use crate::evaluate::validate::ValidateError;
use crate::train::loss::log_softmax;

/// What a validation gave.
#[derive(Clone, Debug)]
pub struct ClassifyValidation {
    /// The figures.
    pub metrics: ClassifyMetrics,
    /// What was said of each image, by item.
    pub guesses: Vec<Guess>,
}

/// Runs the network over the middle squares of all of `cache`'s items. `progress(done, all)` is called after each batch,
/// and ends the validation early, with the figures so far, by returning false.
///
/// # Errors
/// See [`ValidateError`].
pub fn validate_classifier(
    network: &mut Inference,
    cache: &Arc<ImageCache>,
    names: &[String],
    loader: ValConfig,
    mut progress: impl FnMut(usize, usize) -> bool,
) -> Result<ClassifyValidation, ValidateError> {
    let mut guesses = Vec::with_capacity(cache.items().len());
    let mut loader =
        ValLoader::new(Arc::clone(cache), ValConfig { centre: true, rect: false, stride: 1, ..loader })?;
    while let Some(next) = loader.next() {
        let batch = next?.batch;
        let logits = network.logits([batch.n, batch.h, batch.w], &batch.images)?;
        for (place, (row, &item)) in logits.chunks_exact(names.len()).zip(&batch.items).enumerate() {
            if row.iter().any(|v| !v.is_finite()) {
                return Err(EvaluateError::NonFiniteOutput { image: place, anchor: 0 }.into());
            }
            let scores = log_softmax(row).into_iter().map(f64::exp).collect();
            let truth = cache.items()[item].labels.first().map_or(0, |label| label.class as usize);
            guesses.push(Guess { item, truth, scores });
        }
        loader.recycle(batch);
        if !progress(guesses.len(), cache.items().len()) {
            break;
        }
    }
    Ok(ClassifyValidation { metrics: ClassifyMetrics::new(names, &guesses), guesses })
}

/// The same from logits (`[items, classes]`) that are there already, with the items' true classes.
///
/// # Errors
/// A logit that is not finite.
pub fn validate_logits(
    logits: &[f32],
    truths: &[usize],
    names: &[String],
) -> Result<ClassifyValidation, ValidateError> {
    let mut guesses = Vec::with_capacity(truths.len());
    for (item, (row, &truth)) in logits.chunks_exact(names.len()).zip(truths).enumerate() {
        if row.iter().any(|v| !v.is_finite()) {
            return Err(EvaluateError::NonFiniteOutput { image: item, anchor: 0 }.into());
        }
        guesses.push(Guess { item, truth, scores: log_softmax(row).into_iter().map(f64::exp).collect() });
    }
    Ok(ClassifyValidation { metrics: ClassifyMetrics::new(names, &guesses), guesses })
}
