//! How a run ends: the best weights' figures, what old classes lost where some were added, plots and the report.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{ADDED_CLASSES, Run, TrainError, TrainOutcome, finish};
use crate::data::cache::ImageCache;
use crate::durable;
use crate::evaluate::Validated;
use crate::evaluate::kept::Kept;
use crate::evaluate::validate::ImageResult;
use crate::models::Task;
use crate::models::open::{self, Opened};
use crate::train::added::{self, Added, Measured};
use crate::train::finish::FinishInput;
use crate::train::observer::Observer;

/// Images, and what was found on each.
type LookedOver = (Arc<ImageCache>, Vec<ImageResult>);

/// Training images whose labels are looked over at the end of a run, at most: spread over the set.
const LOOKED_OVER: usize = 10_000;

impl Run<'_> {
    /// The best weights' figures, plots and the report.
    pub(super) fn finish(
        &mut self,
        outcome: &mut TrainOutcome,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<(), TrainError> {
        observer.message("validating the best weights");
        let best = open::find(&outcome.best.display().to_string(), &[], true)?;
        let imgsz = self.recipe.imgsz as usize;
        let whole = open::open(&best, None, [imgsz, imgsz], true, 0)?;
        let is_branch = self.prepared.added.as_ref().is_some_and(|added| added.joined.is_some());
        let trained = match is_branch {
            // Opened for its classes, a model with branches gives the one that has them.
            true => open::open(&best, Some(&self.prepared.opened.names), [imgsz, imgsz], true, 0)?,
            false => whole.clone(),
        };
        let validation = self.validation(&trained.params, true, observer, stop)?;
        if let Some(added) = &self.prepared.added {
            let Some(kept) = self.measure_kept(added, &whole, &validation, observer, stop)? else {
                outcome.stopped = true;
                observer.message(&format!("stopped; `onsa resume {}` continues", self.run_dir.display()));
                return Ok(());
            };
            outcome.kept = Some(kept);
        }
        if self.recipe.plots {
            let trained_on = self.look_over_training(&trained, observer, stop)?;
            if stop.load(Ordering::Relaxed) {
                outcome.stopped = true;
                observer.message(&format!("stopped; `onsa resume {}` continues", self.run_dir.display()));
                return Ok(());
            }
            self.draw_again()?;
            let input = FinishInput {
                recipe: self.recipe,
                run_dir: &self.run_dir,
                prepared: &self.prepared,
                rows: &self.counters.rows,
                validation: &validation,
                before: outcome.before.as_ref(),
                kept: outcome.kept.as_ref(),
                val_cache: &self.val_cache,
                trained_on: trained_on.as_ref().map(|(images, results)| (images, results.as_slice())),
                drawn: &self.drawn,
                images_per_second: outcome.images_per_second,
            };
            finish::write(&input)?;
        }
        outcome.metrics = Some(validation.metrics());
        Ok(())
    }

    /// What the best weights of a detector find on the training images, whose labels may be wrong too; none where that is not
    /// wanted.
    fn look_over_training(
        &mut self,
        best: &Opened,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Option<LookedOver>, TrainError> {
        // Replayed images stand behind the new ones; their labels are not this data set's.
        let own = self.prepared.added.as_ref().map(|added| added.replay_from);
        let all = own.unwrap_or(self.train_cache.items().len());
        let looks = self.recipe.suspects && self.step.task() == Task::Detect && all > 0;
        if !looks || stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let count = all.min(LOOKED_OVER);
        let chosen: Vec<usize> = (0..count).map(|i| i * all / count).collect();
        observer.message(&format!(
            "looking over the labels of {count} training images (suspects=false leaves it out)"
        ));
        let images = Arc::new(self.train_cache.subset(&chosen));
        let found = self.validation_on(&images, &best.params, true, observer, stop)?;
        Ok(match found {
            Validated::Detect(found) => Some((images, found.images)),
            Validated::Classify(_) => None,
        })
    }

    /// What the old classes lost, written into the run's folder; none where it was stopped.
    fn measure_kept(
        &self,
        added: &Added,
        best: &Opened,
        validation: &Validated,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Option<Kept>, TrainError> {
        observer.message("measuring what the old classes lost");
        let progress = |done, all| {
            observer.validating(done, all);
            !stop.load(Ordering::Relaxed)
        };
        let kept = match validation {
            Validated::Detect(found) => {
                added::measure(added, &self.measured(best, &found.metrics), progress)?
            }
            Validated::Classify(found) => {
                added::measure_images(added, &self.measured(best, &found.metrics), progress)?
            }
        };
        if let Some(kept) = &kept {
            let text = serde_json::to_string_pretty(kept).expect("plain values are JSON");
            durable::write(&self.run_dir.join(ADDED_CLASSES), text.as_bytes())?;
        }
        Ok(kept)
    }

    fn measured<'a, M>(&'a self, best: &'a Opened, metrics: &'a M) -> Measured<'a, M> {
        Measured {
            model: &best.model,
            params: &best.params,
            names: &best.names,
            val: self.val_cache.items(),
            metrics,
            loader: self.val_config(),
            pool: self.network.pool(),
        }
    }
}
