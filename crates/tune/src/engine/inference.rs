//! Forward passes for images of any size.

use std::sync::Arc;

use onsa_compute::{Executor, Mode, Params, Plan, Trainable};

use crate::evaluate::{EvaluateError, HeadMaps, Level};
use crate::models::blocks::BOX_BINS;
use crate::models::{Model, ModelError};

/// Shapes whose plans are kept. Validation's rectangular batches have a few.
const KEPT: usize = 6;

/// A model with its parameters, ready for batches of any size that its strides divide.
pub struct Inference {
    model: Model,
    params: Params,
    mode: Mode,
    pool: Arc<rayon::ThreadPool>,
    /// Most recently used last.
    runs: Vec<Run>,
}

struct Run {
    size: [usize; 3],
    levels: Vec<(usize, usize, usize)>,
    executor: Executor,
}

impl Inference {
    /// Takes a model and its parameters.
    pub fn new(model: &Model, params: Params, pool: Arc<rayon::ThreadPool>) -> Inference {
        Inference { model: model.clone(), params, mode: Mode::Inference, pool, runs: Vec::new() }
    }

    /// The same, collecting the statistics of each norm's input ([`Inference::norm_statistics`]).
    pub fn calibrating(model: &Model, params: Params, pool: Arc<rayon::ThreadPool>) -> Inference {
        Inference { mode: Mode::Calibration, ..Inference::new(model, params, pool) }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Takes other parameters of the same model; the plans are kept.
    pub fn set_params(&mut self, params: &Params) {
        self.params.clone_from(params);
        for run in &mut self.runs {
            run.executor.prepare(&self.params);
        }
    }

    /// Runs a batch: `images` are `[n, h, w, channels]`, RGB, 0 to 1.
    ///
    /// # Errors
    /// A size that the strides do not divide.
    pub fn run(&mut self, size: [usize; 3], images: &[f32]) -> Result<Maps<'_>, ModelError> {
        let at = match self.runs.iter().position(|run| run.size == size) {
            Some(at) => at,
            None => {
                let model = self.model.resized(size)?;
                let plan = Plan::new(&model.graph, self.mode, &Trainable::nothing(&model.graph));
                let mut executor = Executor::new(Arc::new(plan), Arc::clone(&self.pool));
                executor.prepare(&self.params);
                let levels = model.levels.iter().map(|l| (l.height, l.width, l.stride)).collect();
                if self.runs.len() == KEPT {
                    self.runs.remove(0);
                }
                self.runs.push(Run { size, levels, executor });
                self.runs.len() - 1
            }
        };
        let run = self.runs.remove(at);
        self.runs.push(run);
        let run = self.runs.last_mut().expect("just pushed");
        run.executor.input_mut(0).copy_from_slice(images);
        run.executor.forward();
        Ok(Maps {
            executor: &run.executor,
            levels: &run.levels,
            batch: size[0],
            classes: self.model.architecture.classes,
        })
    }

    /// The threads that the network runs on; what is computed beside it uses them too.
    pub fn pool(&self) -> Arc<rayon::ThreadPool> {
        Arc::clone(&self.pool)
    }

    /// The executor of the last run, for its profile.
    pub fn last_executor(&mut self) -> Option<&mut Executor> {
        self.runs.last_mut().map(|run| &mut run.executor)
    }

    /// Of the last run in calibration: each norm's name, and mean and variance of its input.
    pub fn norm_statistics(&self) -> Vec<(String, Vec<f32>, Vec<f32>)> {
        let Some(run) = self.runs.last() else { return Vec::new() };
        run.executor
            .norm_statistics()
            .map(|(name, mean, var)| (name.to_owned(), mean.to_vec(), var.to_vec()))
            .collect()
    }
}

/// The head's raw maps of one batch.
pub struct Maps<'a> {
    executor: &'a Executor,
    levels: &'a [(usize, usize, usize)],
    batch: usize,
    classes: usize,
}

impl Maps<'_> {
    /// Each level's values `[n, h, w, 4 * 16 + classes]`.
    pub fn values(&self) -> Vec<&[f32]> {
        (0..self.levels.len()).map(|i| self.executor.output(i)).collect()
    }

    /// Each level's rows and columns.
    pub fn shapes(&self) -> Vec<(usize, usize)> {
        self.levels.iter().map(|&(h, w, _)| (h, w)).collect()
    }

    /// The maps as the decoder takes them.
    ///
    /// # Errors
    /// None with a model of the zoo: sizes that do not fit.
    pub fn head(&self) -> Result<HeadMaps<'_>, EvaluateError> {
        let levels = self
            .levels
            .iter()
            .enumerate()
            .map(|(i, &(height, width, stride))| Level {
                values: self.executor.output(i),
                height,
                width,
                stride: stride as f32,
            })
            .collect();
        HeadMaps::new(self.batch, self.classes, BOX_BINS, levels)
    }
}
