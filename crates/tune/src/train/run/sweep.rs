//! The learning-rate range test: real training steps at rates that rise from step to step (Smith, 2017, "Cyclical
//! learning rates for training neural networks", arXiv:1506.01186).

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Run, gather, on_gpu};
use crate::data::loader::TrainLoader;
use crate::engine::{Place, StepError};
use crate::gpu::loader::TableLoader;
use crate::train::clip::clip_global_norm;
use crate::train::error::TrainError;
use crate::train::finite;
use crate::train::loss::LossItems;
use crate::train::observer::Observer;
use crate::train::optimiser::Kind;
use crate::train::recipe::Recipe;
use crate::train::recipe::values::{Optimizer, SaveEvery};
use crate::train::schedule::Rates;
use crate::train::start::{Prepared, choose_optimiser};

/// The rates that are tried.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sweep {
    /// The first rate.
    pub from: f64,
    /// The last rate, above `from`.
    pub to: f64,
    /// Optimiser steps from the first to the last, at least 2.
    pub steps: u32,
}

impl Sweep {
    /// The rate of step `i` (from 0): the logarithm rises evenly.
    pub fn rate(&self, i: u32) -> f64 {
        let share = f64::from(i) / f64::from(self.steps - 1);
        self.from * (self.to / self.from).powf(share)
    }
}

/// A step of the sweep.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Swept {
    /// The learning rate.
    pub rate: f64,
    /// The loss of the step's images before the step, the mean of its batches; not finite where it could not be computed.
    pub loss: f64,
}

/// Trains with rising rates, in memory alone: no file is touched, the weights of the sweep are dropped. `go_on(losses)` is
/// asked after every step. Fewer steps than asked for come back where it said no, the weights ceased to be finite, or
/// `stop` turned true.
///
/// # Errors
/// See [`TrainError`].
pub fn sweep(
    recipe: &Recipe,
    prepared: Prepared,
    place: &Place,
    sweep: &Sweep,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
    go_on: &mut dyn FnMut(&[Swept]) -> bool,
) -> Result<Vec<Swept>, TrainError> {
    let recipe = Recipe {
        strategy: prepared.strategy,
        plots: false,
        save_every: SaveEvery::Epoch,
        close_mosaic: 0,
        ..recipe.clone()
    };
    let recipe = on_gpu::with_batch(&recipe, &prepared, place, observer)?;
    let (classes, images) = (prepared.opened.names.len(), prepared.dataset.train.len());
    let choice = choose_optimiser(&recipe, classes, images);
    let momentum = choice.momentum;
    // The loader ends with the recipe's epochs, and the sweep takes as many as it needs; auto's optimiser stays that of the
    // recipe as it is.
    let optimizer = match choice.kind {
        Kind::Sgd => Optimizer::Sgd,
        Kind::MuSgd => Optimizer::MuSgd,
        Kind::Adam | Kind::AdamW => Optimizer::AdamW,
    };
    let recipe = &Recipe { optimizer, momentum, epochs: u32::MAX, ..recipe };
    let mut run = Run::new(recipe, prepared, Default::default(), place, observer)?;
    let batches = (recipe.nbs as usize / (recipe.batch as usize).max(1)).max(1);
    let decay = run.schedule.weight_decay();
    let mut found = Vec::new();
    match run.feed()? {
        on_gpu::Feed::Host(mut loader) => {
            for i in 0..sweep.steps {
                let rates = Rates::constant(sweep.rate(i), momentum, decay);
                let Some(loss) = run.swept_step(&mut loader, &rates, batches, stop)? else { break };
                found.push(Swept { rate: sweep.rate(i), loss });
                if !go_on(&found) || !loss.is_finite() {
                    break;
                }
            }
        }
        on_gpu::Feed::Tables(mut loader) => {
            for i in 0..sweep.steps {
                let rates = Rates::constant(sweep.rate(i), momentum, decay);
                let loss = run.swept_step_on_gpu(&mut loader, &rates, batches)?;
                found.push(Swept { rate: sweep.rate(i), loss });
                if !go_on(&found) || !loss.is_finite() || stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        }
    }
    Ok(found)
}

/// A batch's loss by image: a detector's total counts images, a classifier's is a mean.
fn value(items: &LossItems) -> f64 {
    items.box_ + items.cls + items.dfl
}

impl Run<'_> {
    /// The gradients of some batches, and one step of the optimiser. None where `stop` turned true.
    fn swept_step(
        &mut self,
        loader: &mut TrainLoader,
        rates: &Rates,
        batches: usize,
        stop: &AtomicBool,
    ) -> Result<Option<f64>, TrainError> {
        let mut sum = 0.0;
        self.gathered.fill(0.0);
        for _ in 0..batches {
            let batch = loader.next().ok_or(TrainError::LoaderEnded)??.batch;
            match self.step.run_until(&batch, &mut self.params, &mut self.grads, stop) {
                Ok(items) => sum += value(&items),
                Err(StepError::Stopped) => return Ok(None),
                // Rates that are far too high end here: that is what the sweep looks for.
                Err(StepError::Loss(_)) => return Ok(Some(f64::NAN)),
                Err(error) => return Err(error.into()),
            }
            loader.recycle(batch);
            let (gathered, grads) = (&mut self.gathered, &self.grads);
            self.step.pool().install(|| gather(gathered, grads));
        }
        let (params, gathered, optimiser) = (&mut self.params, &mut self.gathered, &mut self.optimiser);
        let sound = self.step.pool().install(|| {
            if clip_global_norm(gathered, optimiser.slots(), super::MAX_GRADIENT_NORM).is_err() {
                return false;
            }
            optimiser.step(&mut params.values, gathered, rates);
            finite::first_bad(params).is_none()
        });
        let mean = sum / batches as f64;
        Ok(Some(if sound { mean } else { f64::NAN }))
    }

    fn swept_step_on_gpu(
        &mut self,
        loader: &mut TableLoader,
        rates: &Rates,
        batches: usize,
    ) -> Result<f64, TrainError> {
        let gpu = self.gpu.as_mut().expect("tables are made for a GPU");
        gpu.swept_step(loader, rates, batches)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_rise_evenly_in_their_logarithm() {
        let sweep = Sweep { from: 1e-6, to: 1e-2, steps: 5 };
        let rates: Vec<f64> = (0..5).map(|i| sweep.rate(i)).collect();
        for (got, want) in rates.iter().zip([1e-6, 1e-5, 1e-4, 1e-3, 1e-2]) {
            assert!((got / want - 1.0).abs() < 1e-12, "{rates:?}");
        }
    }
}
