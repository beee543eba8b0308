//! A training run of which nothing is kept but its figures: what a search compares.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{EpochEnded, Run, on_gpu};
use crate::engine::Place;
use crate::evaluate::Validated;
use crate::train::error::TrainError;
use crate::train::observer::{Observer, RunStart};
use crate::train::recipe::Recipe;
use crate::train::recipe::values::SaveEvery;
use crate::train::start::Prepared;
use crate::train::strategy;

/// What a trial gave.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The last epoch's weights on the validation images. Not the best epoch's: one that is chosen on the images that
    /// measure it flatters. None where the trial was stopped.
    pub validated: Option<Validated>,
    /// Time of the last epoch's training.
    pub epoch: Duration,
}

/// Trains as the recipe says, and validates once, after the last epoch. Writes nothing.
///
/// # Errors
/// See [`TrainError`].
pub fn trial(
    recipe: &Recipe,
    prepared: Prepared,
    place: &Place,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<Trial, TrainError> {
    let recipe = Recipe {
        strategy: prepared.strategy,
        plots: false,
        val: false,
        save_every: SaveEvery::Epoch,
        ..recipe.clone()
    };
    let recipe = &on_gpu::with_batch(&recipe, &prepared, place, observer)?;
    let mut run = Run::new(recipe, prepared, Default::default(), place, observer)?;
    let mut feed = run.feed()?;
    observer.start(&RunStart {
        run_dir: &run.run_dir,
        epochs: recipe.epochs,
        first_epoch: 1,
        train_images: run.prepared.dataset.train.len(),
        val_images: run.prepared.dataset.val.len(),
        losses: run.term_names(),
    });
    let mut epoch = Duration::ZERO;
    let mut whole = true;
    while whole && run.counters.epoch < recipe.epochs {
        let stage = strategy::stage_at(recipe, run.counters.epoch);
        if stage != run.stage {
            run.pull()?;
            run.enter_stage(stage, observer)?;
        }
        let started = Instant::now();
        let (ended, _) = match &mut feed {
            on_gpu::Feed::Host(loader) => run.epoch(loader, observer, stop)?,
            on_gpu::Feed::Tables(loader) => run.epoch_on_gpu(loader, observer, stop)?,
        };
        epoch = started.elapsed();
        whole = !matches!(ended, EpochEnded::Stopped);
        run.counters.epoch += 1;
        run.counters.batch = 0;
        run.counters.loss_sums.clear();
        run.counters.loss_count = 0;
    }
    drop(feed);
    let mut validated = None;
    if whole {
        run.pull()?;
        let averaged = run.averaged();
        let found = run.validation(&averaged, false, observer, stop)?;
        validated = (!stop.load(Ordering::Relaxed)).then_some(found);
    }
    Ok(Trial { validated, epoch })
}
