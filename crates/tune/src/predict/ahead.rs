//! Pictures made ready by threads of their own while the network computes.

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, sync_channel};

use super::source::Input;
use super::{Frame, PredictError, View};

/// Pictures that each thread makes ready ahead.
pub(super) const AHEAD: usize = 4;

/// A picture or a video's frame, and what the network takes of it.
pub struct Ready<F> {
    /// The file.
    pub path: PathBuf,
    /// Which of a video's frames it is.
    pub frame: Option<Frame>,
    /// The image, upright.
    pub view: View,
    /// The network's input.
    pub fitted: F,
}

/// Hands over what is ready, in order; nothing at the end.
pub type Next<'a, F> = &'a mut dyn FnMut() -> Option<Result<Ready<F>, PredictError>>;

/// Decodes `inputs` (pictures) for a network of `channels` channels in `workers` threads, fits each, and lets `take` have them in their order while it computes.
///
/// # Errors
/// What `take` returns.
pub fn pictures<F: Send, E>(
    inputs: &[Input],
    (channels, workers): (usize, usize),
    fit: impl Fn(&View) -> F + Sync,
    take: impl FnOnce(Next<'_, F>) -> Result<(), E>,
) -> Result<(), E> {
    let workers = workers.clamp(1, inputs.len().max(1));
    let fit = &fit;
    std::thread::scope(|scope| {
        // Thread k decodes inputs k, k + workers, …: read in turn, they come in order, and none runs far ahead.
        let mut sources: Vec<Receiver<Result<Ready<F>, PredictError>>> = Vec::new();
        for k in 0..workers {
            let (sender, receiver) = sync_channel(AHEAD);
            sources.push(receiver);
            scope.spawn(move || {
                for input in inputs.iter().skip(k).step_by(workers) {
                    if sender.send(ready(input, channels, fit)).is_err() {
                        return;
                    }
                }
            });
        }
        let mut next = 0;
        take(&mut || {
            if next == inputs.len() {
                return None;
            }
            next += 1;
            sources[(next - 1) % workers].recv().ok()
        })
    })
}

fn ready<F>(input: &Input, channels: usize, fit: impl Fn(&View) -> F) -> Result<Ready<F>, PredictError> {
    let view = View::open(input, channels)?;
    let fitted = fit(&view);
    Ok(Ready { path: input.name(), frame: None, view, fitted })
}
