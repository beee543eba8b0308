//! Many pictures through a detector: batches of those that are ready.

use std::sync::atomic::AtomicBool;

use super::ahead::{Next, Ready, pictures};
use super::source::Input;
use super::tiles::{Tiling, tiled};
use super::video::{self, Video};
use super::{Fit, PredictError, Prediction, Reduction, View};
use crate::data::letterbox::Letterbox;
use crate::engine::Inference;
use crate::evaluate::Postprocess;

/// How a stream is predicted.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// Long side of the network's input.
    pub imgsz: usize,
    /// How pictures are fitted to it.
    pub fit: (Fit, Reduction),
    /// Which boxes are kept.
    pub rules: Postprocess,
    /// Most pictures of a batch; pictures of one shape that follow one another share one.
    pub batch: usize,
    /// Threads that decode.
    pub workers: usize,
    /// How pictures larger than a tile are cut; none: they are made smaller.
    pub tiling: Option<Tiling>,
}

/// A picture's place in the network's input.
struct Fitted {
    letterbox: Letterbox,
    pixels: Vec<f32>,
    /// Larger than a tile: its pixels are cut later.
    is_tiled: bool,
}

impl StreamOptions {
    fn fit(&self, view: &View) -> Fitted {
        let (letterbox, pixels) = view.preprocess(self.imgsz, self.fit.0, self.fit.1);
        let is_tiled = self.tiling.as_ref().is_some_and(|tiling| tiling.applies(view.size()));
        Fitted { letterbox, pixels, is_tiled }
    }
}

/// Predicts on every picture in turn and hands over each result in their order; `each` says whether to go on.
///
/// # Errors
/// The first picture that cannot be read, once those before it are done; the network; or what `each` returns.
pub fn stream<E: From<PredictError>>(
    network: &mut Inference,
    inputs: &[Input],
    options: &StreamOptions,
    each: impl FnMut(Prediction) -> Result<bool, E>,
) -> Result<(), E> {
    let fit = |view: &View| options.fit(view);
    let channels = network.channels();
    pictures(inputs, (channels, options.workers), fit, |next| batches(network, options, next, each))
}

/// The same for a video's frames. Where `stop` turns true it ends before the next frame, also where none comes.
///
/// # Errors
/// As [`stream`], and what the decoder says.
pub fn stream_video<E: From<PredictError>>(
    network: &mut Inference,
    video: &Video,
    options: &StreamOptions,
    stop: &AtomicBool,
    each: impl FnMut(Prediction) -> Result<bool, E>,
) -> Result<(), E> {
    let fit = |view: &View| options.fit(view);
    video::frames(video, network.channels(), fit, stop, |next| batches(network, options, next, each))
}

fn batches<E: From<PredictError>>(
    network: &mut Inference,
    options: &StreamOptions,
    next: Next<'_, Fitted>,
    mut each: impl FnMut(Prediction) -> Result<bool, E>,
) -> Result<(), E> {
    let mut held: Option<Ready<Fitted>> = None;
    let mut failed = None;
    let mut ended = false;
    while failed.is_none() && (!ended || held.is_some()) {
        let mut batch: Vec<Ready<Fitted>> = held.take().into_iter().collect();
        while batch.len() < options.batch.max(1) && !ended {
            match next() {
                None => ended = true,
                Some(Ok(one)) if batch.first().is_none_or(|first| fits(first, &one)) => batch.push(one),
                Some(Ok(other)) => {
                    held = Some(other);
                    break;
                }
                Some(Err(error)) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        for prediction in run(network, batch, options)? {
            if !each(prediction)? {
                return Ok(());
            }
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}

fn fits(a: &Ready<Fitted>, b: &Ready<Fitted>) -> bool {
    let size = |of: &Ready<Fitted>| (of.fitted.letterbox.height, of.fitted.letterbox.width);
    !a.fitted.is_tiled && !b.fitted.is_tiled && size(a) == size(b)
}

fn run(
    network: &mut Inference,
    batch: Vec<Ready<Fitted>>,
    options: &StreamOptions,
) -> Result<Vec<Prediction>, PredictError> {
    let rules = &options.rules;
    let Some(first) = batch.first().map(|ready| &ready.fitted) else { return Ok(Vec::new()) };
    if let (true, Some(tiling)) = (first.is_tiled, &options.tiling) {
        let mut out = Vec::new();
        for Ready { path, frame, view, .. } in batch {
            let detections = tiled(network, &view, options.imgsz, options.fit.1, rules, tiling)?;
            out.push(Prediction { path, frame, image: view.shown(), detections });
        }
        return Ok(out);
    }
    let size = [batch.len(), first.letterbox.height, first.letterbox.width];
    let joined;
    let pixels = match &batch[..] {
        [one] => &one.fitted.pixels,
        all => {
            joined = all.iter().flat_map(|ready| &ready.fitted.pixels).copied().collect::<Vec<f32>>();
            &joined
        }
    };
    let pool = network.pool();
    let maps = network.run(size, pixels)?;
    let head = maps.head()?;
    let found = pool.install(|| crate::evaluate::detections(&head, rules))?;
    let make = |(ready, mut detections): (Ready<Fitted>, Vec<crate::boxes::Detection>)| {
        for detection in &mut detections {
            detection.bbox = ready.fitted.letterbox.box_to_source(&detection.bbox);
        }
        Prediction { path: ready.path, frame: ready.frame, image: ready.view.shown(), detections }
    };
    Ok(batch.into_iter().zip(found).map(make).collect())
}
