//! Many pictures through a classifier.

use std::sync::atomic::AtomicBool;

use super::ahead::{Next, Ready, pictures};
use super::source::Input;
use super::video::{self, Video};
use super::{Guessed, PredictError, View};
use crate::engine::Inference;
use crate::evaluate::EvaluateError;
use crate::evaluate::classify::top_classes;
use crate::train::loss::log_softmax;

/// How pictures are classified.
#[derive(Clone, Copy, Debug)]
pub struct GuessOptions {
    /// Side of the network's input, pixels.
    pub imgsz: usize,
    /// Most pictures of a batch.
    pub batch: usize,
    /// Threads that decode.
    pub workers: usize,
}

/// Classifies the middle square of every picture in turn and hands over each result in their order; `each` says whether to go
/// on.
///
/// # Errors
/// The first picture that cannot be read, once those before it are done; the network; or what `each` returns.
pub fn guess<E: From<PredictError>>(
    network: &mut Inference,
    inputs: &[Input],
    options: GuessOptions,
    each: impl FnMut(Guessed) -> Result<bool, E>,
) -> Result<(), E> {
    let fit = |view: &View| view.centre(options.imgsz as u32);
    let channels = network.channels();
    pictures(inputs, (channels, options.workers), fit, |next| batches(network, options, next, each))
}

/// The same for a video's frames. Where `stop` turns true it ends before the next frame, also where none comes.
///
/// # Errors
/// As [`guess`], and what the decoder says.
pub fn guess_video<E: From<PredictError>>(
    network: &mut Inference,
    video: &Video,
    options: GuessOptions,
    stop: &AtomicBool,
    each: impl FnMut(Guessed) -> Result<bool, E>,
) -> Result<(), E> {
    let fit = |view: &View| view.centre(options.imgsz as u32);
    video::frames(video, network.channels(), fit, stop, |next| batches(network, options, next, each))
}

fn batches<E: From<PredictError>>(
    network: &mut Inference,
    options: GuessOptions,
    next: Next<'_, Vec<f32>>,
    mut each: impl FnMut(Guessed) -> Result<bool, E>,
) -> Result<(), E> {
    let mut failed = None;
    let mut ended = false;
    while failed.is_none() && !ended {
        let mut batch: Vec<Ready<Vec<f32>>> = Vec::new();
        while batch.len() < options.batch.max(1) && !ended && failed.is_none() {
            match next() {
                None => ended = true,
                Some(Ok(one)) => batch.push(one),
                Some(Err(error)) => failed = Some(error),
            }
        }
        for guessed in run(network, batch, options.imgsz)? {
            if !each(guessed)? {
                return Ok(());
            }
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}

fn run(
    network: &mut Inference,
    batch: Vec<Ready<Vec<f32>>>,
    side: usize,
) -> Result<Vec<Guessed>, PredictError> {
    if batch.is_empty() {
        return Ok(Vec::new());
    }
    let pixels: Vec<f32> = batch.iter().flat_map(|ready| &ready.fitted).copied().collect();
    let logits = network.logits([batch.len(), side, side], &pixels)?;
    let found = likeliest(logits, batch.len())?;
    let make = |(ready, top5): (Ready<Vec<f32>>, Vec<(u32, f64)>)| Guessed {
        path: ready.path,
        frame: ready.frame,
        top5,
    };
    Ok(batch.into_iter().zip(found).map(make).collect())
}

/// Of the logits of `images` images, each one's likeliest classes (five, or all where there are fewer) and their
/// probabilities, the likeliest first.
///
/// # Errors
/// A logit that is not finite.
pub fn likeliest(logits: &[f32], images: usize) -> Result<Vec<Vec<(u32, f64)>>, EvaluateError> {
    let classes = logits.len() / images.max(1);
    let one = |(image, row): (usize, &[f32])| {
        if row.iter().any(|v| !v.is_finite()) {
            return Err(EvaluateError::NonFiniteOutput { image, anchor: 0 });
        }
        let scores: Vec<f64> = log_softmax(row).into_iter().map(f64::exp).collect();
        Ok(top_classes(&scores, 5).into_iter().map(|class| (class as u32, scores[class])).collect())
    };
    logits.chunks_exact(classes.max(1)).enumerate().map(one).collect()
}
