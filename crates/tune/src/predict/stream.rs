//! Many pictures: decoded ahead by threads of their own while the network runs batches of those that are ready.

use std::sync::mpsc::{Receiver, sync_channel};

use super::source::Input;
use super::tiles::{Tiling, tiled};
use super::{Fit, PredictError, Prediction, Reduction, View};
use crate::data::letterbox::Letterbox;
use crate::engine::Inference;
use crate::evaluate::Postprocess;

/// Pictures that each thread decodes ahead.
const AHEAD: usize = 4;

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

struct Ready {
    input: usize,
    view: View,
    letterbox: Letterbox,
    pixels: Vec<f32>,
    /// Larger than a tile: its pixels are cut later.
    is_tiled: bool,
}

/// Predicts on every input in turn and hands over each result in their order; `each` says whether to go on.
///
/// # Errors
/// The first picture that cannot be read, once those before it are done; the network; or what `each` returns.
pub fn stream<E: From<PredictError>>(
    network: &mut Inference,
    inputs: &[Input],
    options: &StreamOptions,
    mut each: impl FnMut(Prediction) -> Result<bool, E>,
) -> Result<(), E> {
    let channels = network.channels();
    let workers = options.workers.clamp(1, inputs.len().max(1));
    std::thread::scope(|scope| {
        // Thread k decodes inputs k, k + workers, …: read in turn, they come in order, and none runs far ahead.
        let mut sources: Vec<Receiver<Result<Ready, PredictError>>> = Vec::new();
        for k in 0..workers {
            let (sender, receiver) = sync_channel(AHEAD);
            sources.push(receiver);
            scope.spawn(move || {
                for i in (k..inputs.len()).step_by(workers) {
                    if sender.send(ready(&inputs[i], i, channels, options)).is_err() {
                        return;
                    }
                }
            });
        }
        let mut held: Option<Ready> = None;
        let mut next = 0;
        let mut failed = None;
        while failed.is_none() && (next < inputs.len() || held.is_some()) {
            let mut batch: Vec<Ready> = held.take().into_iter().collect();
            while batch.len() < options.batch && next < inputs.len() {
                let Ok(got) = sources[next % workers].recv() else { break };
                next += 1;
                match got {
                    Ok(one) if batch.first().is_none_or(|first| fits(first, &one)) => batch.push(one),
                    Ok(other) => {
                        held = Some(other);
                        break;
                    }
                    Err(error) => {
                        failed = Some(error);
                        break;
                    }
                }
            }
            for prediction in run(network, batch, inputs, options)? {
                if !each(prediction)? {
                    return Ok(());
                }
            }
        }
        failed.map_or(Ok(()), |error| Err(error.into()))
    })
}

fn fits(a: &Ready, b: &Ready) -> bool {
    !a.is_tiled
        && !b.is_tiled
        && (a.letterbox.height, a.letterbox.width) == (b.letterbox.height, b.letterbox.width)
}

fn ready(
    input: &Input,
    index: usize,
    channels: usize,
    options: &StreamOptions,
) -> Result<Ready, PredictError> {
    let view = View::open(input, channels)?;
    let (letterbox, pixels) = view.preprocess(options.imgsz, options.fit.0, options.fit.1);
    let is_tiled = options.tiling.as_ref().is_some_and(|tiling| tiling.applies(view.size()));
    Ok(Ready { input: index, view, letterbox, pixels, is_tiled })
}

fn run(
    network: &mut Inference,
    batch: Vec<Ready>,
    inputs: &[Input],
    options: &StreamOptions,
) -> Result<Vec<Prediction>, PredictError> {
    let rules = &options.rules;
    let Some(first) = batch.first() else { return Ok(Vec::new()) };
    if let (true, Some(tiling)) = (first.is_tiled, &options.tiling) {
        let mut out = Vec::new();
        for Ready { input, view, .. } in batch {
            let detections = tiled(network, &view, options.imgsz, options.fit.1, rules, tiling)?;
            out.push(Prediction { path: inputs[input].name(), image: view.shown(), detections });
        }
        return Ok(out);
    }
    let size = [batch.len(), first.letterbox.height, first.letterbox.width];
    let joined;
    let pixels = match &batch[..] {
        [one] => &one.pixels,
        all => {
            joined = all.iter().flat_map(|ready| &ready.pixels).copied().collect::<Vec<f32>>();
            &joined
        }
    };
    let pool = network.pool();
    let maps = network.run(size, pixels)?;
    let head = maps.head()?;
    let found = pool.install(|| crate::evaluate::detections(&head, rules))?;
    let make = |(ready, mut detections): (Ready, Vec<crate::boxes::Detection>)| {
        for detection in &mut detections {
            detection.bbox = ready.letterbox.box_to_source(&detection.bbox);
        }
        Prediction { path: inputs[ready.input].name(), image: ready.view.shown(), detections }
    };
    Ok(batch.into_iter().zip(found).map(make).collect())
}
