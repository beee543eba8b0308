//! Forward and backward passes of training batches.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use onsa_compute::cpu::Memory;
use onsa_compute::{Executor, Mode, Params, Plan, Trainable};

use crate::data::batch::Batch;
use crate::models::{Model, ModelError};
use crate::train::loss::{DetectLoss, LossConfig, LossError, LossItems};

/// Sizes of batch whose plans are kept: each has an arena of its own. A set has at most two (the last batch of an epoch may
/// be smaller); with batches of many shapes a plan is made anew when its turn comes, which costs less than the memory.
const KEPT: usize = 2;

/// Training passes of one model: a plan for each size of batch.
pub struct TrainStep {
    model: Model,
    trainable: Trainable,
    pool: Arc<rayon::ThreadPool>,
    loss: DetectLoss,
    /// Most recently used last: it has the arena, which all share.
    runs: Vec<SizedRun>,
}

/// The passes of one size of batch.
struct SizedRun {
    size: [usize; 3],
    /// Height and width of each feature level, finest first.
    levels: Vec<(usize, usize)>,
    executor: Executor,
}

/// A step that gave no gradient.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// The batch's size fits no plan.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// It was asked to stop.
    #[error("the step was stopped")]
    Stopped,
    /// The loss is not a number, or the batch is malformed.
    #[error(transparent)]
    Loss(#[from] LossError),
}

impl TrainStep {
    /// Takes a model and what of it is trained.
    pub fn new(
        model: &Model,
        trainable: Trainable,
        loss: LossConfig,
        pool: Arc<rayon::ThreadPool>,
    ) -> TrainStep {
        TrainStep { model: model.clone(), trainable, pool, loss: DetectLoss::new(loss), runs: Vec::new() }
    }

    /// Forward, loss and backward. `grads` (in the layout of the parameters) receives the gradient of the loss times the
    /// number of images; the running statistics in `params` move on. On an error neither changes meaningfully: grads are
    /// undefined, the running statistics untouched.
    ///
    /// # Errors
    /// See [`StepError`].
    pub fn run(
        &mut self,
        batch: &Batch,
        params: &mut Params,
        grads: &mut [f32],
    ) -> Result<LossItems, StepError> {
        self.run_until(batch, params, grads, &AtomicBool::new(false))
    }

    /// As [`TrainStep::run`]; stops amid the passes where `stop` turns true, so that nobody waits for a long step.
    ///
    /// # Errors
    /// See [`StepError`].
    pub fn run_until(
        &mut self,
        batch: &Batch,
        params: &mut Params,
        grads: &mut [f32],
        stop: &AtomicBool,
    ) -> Result<LossItems, StepError> {
        let size = [batch.n, batch.h, batch.w];
        let kept = self.runs.iter().position(|run| run.size == size);
        let memory = self.runs.last_mut().map_or_else(Memory::default, |run| run.executor.give_memory());
        let mut run = match kept {
            Some(at) => self.runs.remove(at),
            None => {
                let model = self.model.resized(size)?;
                if self.runs.len() == KEPT {
                    self.runs.remove(0);
                }
                let plan = Plan::new(&model.graph, Mode::Training, &self.trainable);
                let levels = model.levels.iter().map(|l| (l.height, l.width)).collect();
                let executor = Executor::without_memory(Arc::new(plan), Arc::clone(&self.pool));
                SizedRun { size, levels, executor }
            }
        };
        run.executor.take_memory(memory);
        self.runs.push(run);
        let SizedRun { levels, executor, .. } = self.runs.last_mut().expect("just pushed");
        executor.prepare(params);
        executor.input_mut(0).copy_from_slice(&batch.images);
        if !executor.forward_until(stop) {
            return Err(StepError::Stopped);
        }
        let items = {
            let (outputs, mut gradients) = executor.outputs_and_grads();
            let loss = &mut self.loss;
            self.pool.install(|| loss.compute(&outputs, levels, batch.n, &batch.targets, &mut gradients))?
        };
        if !executor.backward_until(grads, stop) {
            return Err(StepError::Stopped);
        }
        executor.update_running(params);
        Ok(items)
    }

    /// The threads that compute.
    pub fn pool(&self) -> &Arc<rayon::ThreadPool> {
        &self.pool
    }

    /// Bytes of the largest arena made so far.
    pub fn arena_bytes(&self) -> usize {
        self.runs.iter().map(|run| run.executor.plan().arena_bytes()).max().unwrap_or(0)
    }

    /// The executor of the largest batch, for its profile.
    pub fn largest_executor(&mut self) -> Option<&mut Executor> {
        self.runs.iter_mut().map(|run| &mut run.executor).max_by_key(|run| run.plan().arena_len)
    }
}
