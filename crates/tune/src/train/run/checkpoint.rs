//! What a run writes while it goes on, weights and all that resuming needs, and how it is read back.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{Ema, Run, TrainError, files, strategy};
use crate::train::added::Added;
use crate::train::observer::Silent;
use crate::train::state::{self, Arenas, Counters};

/// Where a run's checkpoint lies.
pub(super) fn checkpoint_path(run_dir: &Path) -> PathBuf {
    run_dir.join("checkpoint/state.safetensors")
}

impl Run<'_> {
    /// Writes the averaged weights as `weights/NAME.safetensors`; of a branch, the model that it joins.
    pub(super) fn write_weights(&self, name: &str) -> Result<(), TrainError> {
        let opened = &self.prepared.opened;
        let path = self.run_dir.join(format!("weights/{name}.safetensors"));
        let licence = opened.weights.as_ref().map(|w| w.licence.as_str());
        let trained = self.averaged();
        let (model, names, params) = match &self.prepared.added {
            Some(Added { joined: Some(joined), start, .. }) => {
                (&joined.model, &joined.names, joined.params(&start.params, &trained))
            }
            _ => (&opened.model, &opened.names, trained),
        };
        files::write_weights(&path, model, &params.values, names, licence, self.recipe.imgsz)?;
        Ok(())
    }

    /// Saves what resuming needs.
    pub(super) fn save(&mut self) -> Result<(), TrainError> {
        let begun = Instant::now();
        self.counters.optimiser_steps = self.optimiser.steps();
        self.counters.ema_updates = self.ema.updates();
        let mut arenas = vec![
            ("params".to_owned(), &self.params.values[..]),
            ("gathered".to_owned(), &self.gathered),
            ("ema".to_owned(), self.ema.values()),
        ];
        let optimiser = self.optimiser.arenas();
        arenas.extend(optimiser.map(|(name, values)| (format!("optimiser.{name}"), values)));
        state::save(&checkpoint_path(&self.run_dir), &self.counters, arenas)?;
        self.pace.saved(begun.elapsed());
        Ok(())
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
