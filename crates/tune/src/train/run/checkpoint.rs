//! What a run writes while it goes on, weights and all that resuming needs, and how it is read back.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use super::{Ema, Run, TrainError, files, strategy};
use crate::durable;
use crate::train::added::Added;
use crate::train::files::ModelFile;
use crate::train::observer::Silent;
use crate::train::saver::Saver;
use crate::train::state::{self, Arenas, Checkpoint, Counters};

/// Where a run's checkpoint lies.
pub(super) fn checkpoint_path(run_dir: &Path) -> PathBuf {
    run_dir.join("checkpoint/state.safetensors")
}

/// What does not change of the files that a run writes after each epoch.
struct Subject {
    run_dir: PathBuf,
    model: crate::models::Model,
    names: Vec<String>,
    licence: Option<String>,
    imgsz: u32,
}

impl Subject {
    fn model_file(&self, values: &[f32]) -> ModelFile {
        ModelFile::new(&self.model, values, &self.names, self.licence.as_deref(), self.imgsz)
    }

    /// Writes weights as `weights/NAME.safetensors`.
    fn write(&self, name: &str, file: &ModelFile) -> Result<(), TrainError> {
        Ok(file.write(&self.run_dir.join(format!("weights/{name}.safetensors")))?)
    }
}

/// An epoch's weights and table, not yet written.
struct EpochFiles {
    last: Arc<Vec<f32>>,
    /// The best epoch's, where that is not written yet.
    best: Option<Arc<Vec<f32>>>,
    /// The name that the weights are kept under beside.
    kept: Option<String>,
    csv: String,
}

impl EpochFiles {
    fn write(&self, subject: &Subject) -> Result<(), TrainError> {
        let last = subject.model_file(&self.last);
        if let Some(name) = &self.kept {
            subject.write(name, &last)?;
        }
        subject.write("last", &last)?;
        match &self.best {
            Some(best) if Arc::ptr_eq(best, &self.last) => subject.write("best", &last)?,
            Some(best) => subject.write("best", &subject.model_file(best))?,
            None => {}
        }
        durable::write(&subject.run_dir.join("results.csv"), self.csv.as_bytes())?;
        Ok(())
    }
}

/// The saving of a run's epochs. On a GPU, where an epoch can take less time than its files, they are written beside the epochs
/// that follow; an epoch that ends meanwhile is written with the next. What stands on the disk is always that of one epoch,
/// in the same order as without this: weights, table, checkpoint.
#[derive(Default)]
pub(super) struct Saving {
    saver: Saver<TrainError>,
    subject: Option<Arc<Subject>>,
    postponed: Option<EpochFiles>,
}

impl Run<'_> {
    fn subject(&mut self) -> Arc<Subject> {
        let (opened, run_dir, imgsz) = (&self.prepared.opened, &self.run_dir, self.recipe.imgsz);
        // Of a branch, the model that it joins.
        let (model, names) = match &self.prepared.added {
            Some(Added { joined: Some(joined), .. }) => (&joined.model, &joined.names),
            _ => (&opened.model, &opened.names),
        };
        let subject = self.saving.subject.get_or_insert_with(|| {
            Arc::new(Subject {
                run_dir: run_dir.clone(),
                model: model.clone(),
                names: names.clone(),
                licence: opened.weights.as_ref().map(|w| w.licence.clone()),
                imgsz,
            })
        });
        Arc::clone(subject)
    }

    /// Writes the averaged weights of the epoch that has just ended (as the best too, where they are), its table and a checkpoint.
    /// `now`: not beside the epochs that follow.
    pub(super) fn save_epoch(&mut self, best: bool, now: bool) -> Result<(), TrainError> {
        let subject = self.subject();
        let trained = self.averaged();
        let last = Arc::new(match &self.prepared.added {
            Some(Added { joined: Some(joined), start, .. }) => joined.params(&start.params, &trained).values,
            _ => trained.values,
        });
        let owed = self.saving.postponed.take().and_then(|postponed| postponed.best);
        let best = if best { Some(Arc::clone(&last)) } else { owed };
        let period = self.recipe.save_period;
        let kept = period > 0 && self.counters.epoch.is_multiple_of(period as u32);
        let kept = kept.then(|| format!("epoch{}", self.counters.epoch));
        let must_wait = now || kept.is_some() || self.gpu.is_none();
        let csv = files::results_csv(self.task(), &self.counters.rows);
        let files = EpochFiles { last, best, kept, csv };
        if must_wait {
            self.saving.saver.wait()?;
            return self.save_after(Some((files, subject)));
        }
        if !self.saving.saver.is_idle()? {
            self.saving.postponed = Some(files);
            return Ok(());
        }
        let begun = Instant::now();
        self.count();
        let counters = self.counters.clone();
        let arenas: Vec<(String, Vec<f32>)> =
            self.arenas().into_iter().map(|(name, values)| (name, values.to_vec())).collect();
        self.saving.saver.begin(move || {
            files.write(&subject)?;
            let arenas = arenas.iter().map(|(name, values)| (name.clone(), values.as_slice()));
            Ok(state::save(&checkpoint_path(&subject.run_dir), &counters, arenas)?)
        });
        self.pace.saved(begun.elapsed());
        Ok(())
    }

    /// Waits until all epochs that have ended are on the disk.
    pub(super) fn settle(&mut self) -> Result<(), TrainError> {
        self.saving.saver.wait()?;
        if self.saving.postponed.is_some() { self.save() } else { Ok(()) }
    }

    /// Saves what resuming needs, after all that was begun to be written.
    pub(super) fn save(&mut self) -> Result<(), TrainError> {
        self.saving.saver.wait()?;
        let files = self.saving.postponed.take().map(|files| (files, self.subject()));
        self.save_after(files)
    }

    /// Writes these files, then what resuming needs. Its digest is worked out on a thread beside, which touches no file: the
    /// order on the disk stays weights, table, checkpoint.
    fn save_after(&mut self, files: Option<(EpochFiles, Arc<Subject>)>) -> Result<(), TrainError> {
        let begun = Instant::now();
        self.count();
        let (path, arenas) = (checkpoint_path(&self.run_dir), self.arenas());
        std::thread::scope(|scope| {
            let counters = &self.counters;
            let path = &path;
            let digest = scope.spawn(move || Checkpoint::new(path, counters, arenas));
            if let Some((files, subject)) = files {
                files.write(&subject)?;
            }
            let checkpoint = digest.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            Ok::<_, TrainError>(checkpoint.write()?)
        })?;
        self.pace.saved(begun.elapsed());
        Ok(())
    }

    fn count(&mut self) {
        self.counters.optimiser_steps = self.optimiser.steps();
        self.counters.ema_updates = self.ema.updates();
    }

    /// All arenas of a checkpoint, by name.
    fn arenas(&self) -> Vec<(String, &[f32])> {
        let mut arenas = vec![
            ("params".to_owned(), &self.params.values[..]),
            ("gathered".to_owned(), &self.gathered),
            ("ema".to_owned(), self.ema.values()),
        ];
        let optimiser = self.optimiser.arenas();
        arenas.extend(optimiser.map(|(name, values)| (format!("optimiser.{name}"), values)));
        arenas
    }

    /// Takes the state of a checkpoint.
    pub(super) fn restore(&mut self, counters: Counters, mut arenas: Arenas) -> Result<(), TrainError> {
        let len = self.params.values.len();
        let mut take = |name: &str| {
            arenas.remove(name).filter(|values| values.len() == len).ok_or_else(|| {
                TrainError::State(state::StateError::Damaged {
                    path: checkpoint_path(&self.run_dir),
                    reason: format!("{name} is missing or of another model"),
                })
            })
        };
        self.params.values = take("params")?;
        self.gathered = take("gathered")?;
        self.ema = Ema::restore(take("ema")?, counters.ema_updates);
        let state: Vec<(String, Vec<f32>)> = arenas
            .into_iter()
            .filter_map(|(name, values)| Some((name.strip_prefix("optimiser.")?.to_owned(), values)))
            .collect();
        // At an epoch's start the state is that of the epoch before; the loop then enters the next stage as it would have.
        let epoch = if counters.batch == 0 { counters.epoch.saturating_sub(1) } else { counters.epoch };
        self.enter_stage(strategy::stage_at(self.recipe, epoch), &mut Silent)?;
        self.optimiser.restore(counters.optimiser_steps, &state)?;
        self.counters = counters;
        Ok(())
    }
}
