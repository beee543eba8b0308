//! Forward and backward passes of training batches.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use onsa_compute::cpu::Memory;
use onsa_compute::{Executor, Mode, Params, Plan, Storage, Trainable};

use super::features::{Features, FeaturesError, cut};
use super::input;
use super::teacher::Teacher;
use crate::data::batch::{Batch, Target};
use crate::models::{Model, ModelError, Task};
use crate::train::loss::distill::Taught;
use crate::train::loss::{CrossEntropy, DetectLoss, LossConfig, LossError, LossItems};

/// Sizes of batch whose plans are kept: each has an arena of its own. A set has at most two (the last batch of an epoch may
/// be smaller); with batches of many shapes a plan is made anew when its turn comes, which costs less than the memory.
const KEPT: usize = 2;

/// Training passes of one model: a plan for each size of batch.
pub struct TrainStep {
    model: Model,
    trainable: Trainable,
    pool: Arc<rayon::ThreadPool>,
    storage: Storage,
    loss: Loss,
    /// Where the frozen part has been run once for all items: then the trained part alone runs.
    features: Option<Features>,
    /// The starting model, where what it says is learned too.
    teacher: Option<Teacher>,
    /// Most recently used last: it has the arena, which all share.
    runs: Vec<SizedRun>,
}

/// The loss of the model's task.
enum Loss {
    Detect(DetectLoss),
    Classify(CrossEntropy),
}

impl Loss {
    fn compute(
        &mut self,
        outputs: &[&[f32]],
        levels: &[(usize, usize)],
        (n, targets): (usize, &[Target]),
        taught: Option<Taught<'_>>,
        gradients: &mut [&mut [f32]],
    ) -> Result<LossItems, LossError> {
        match self {
            Loss::Detect(loss) => loss.compute_taught(outputs, levels, (n, targets), taught, gradients),
            Loss::Classify(loss) => {
                loss.compute_taught(outputs[0], n, targets, taught, Some(&mut *gradients[0]))
            }
        }
    }
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
    /// The kept features do not fit.
    #[error(transparent)]
    Features(#[from] FeaturesError),
    /// The loss is not a number, or the batch is malformed.
    #[error(transparent)]
    Loss(#[from] LossError),
}

impl TrainStep {
    /// Takes a model and what of it is trained; tensors are stored in float32.
    pub fn new(
        model: &Model,
        trainable: Trainable,
        loss: LossConfig,
        pool: Arc<rayon::ThreadPool>,
    ) -> TrainStep {
        let loss = match model.task() {
            Task::Detect => Loss::Detect(DetectLoss::new(loss)),
            Task::Classify => Loss::Classify(CrossEntropy::new(loss.class_weights).taught(loss.distill)),
        };
        TrainStep {
            model: model.clone(),
            trainable,
            pool,
            storage: Storage::Float32,
            loss,
            features: None,
            teacher: None,
            runs: Vec::new(),
        }
    }

    /// The same step with tensors stored so.
    pub fn stored_in(self, storage: Storage) -> TrainStep {
        TrainStep { storage, ..self }
    }

    /// What tensors are stored in.
    pub fn storage(&self) -> Storage {
        self.storage
    }

    /// Learns from this model too from now on (see [`crate::train::loss::distill`]); the loss is configured for it.
    pub fn learn_from(&mut self, teacher: Option<Teacher>) {
        self.teacher = teacher;
    }

    /// The model that is learned from, for a step that goes on in this one's place.
    pub fn take_teacher(&mut self) -> Option<Teacher> {
        self.teacher.take()
    }

    /// Trains on these features of the training items from now on: batches need name their items alone.
    pub fn keep_features(&mut self, features: Features) {
        self.features = Some(features);
        self.runs.clear();
    }

    /// Forward, loss and backward. `grads` (in the layout of the parameters) receives the gradient of the loss, of a
    /// detector's times the number of images; the running statistics in `params` move on. On an error neither changes meaningfully: grads are
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
                let graph = match &self.features {
                    None => model.graph.clone(),
                    Some(_) => cut(&model.graph, &self.trainable)?.head,
                };
                // bfloat16 takes half the memory: forming values again, a few percent of the time, would save what is not
                // missed.
                let plan = match self.storage {
                    Storage::Float32 => Plan::new(&graph, Mode::Training, &self.trainable),
                    Storage::Bf16 => Plan::keeping_all(&graph, Mode::Training, &self.trainable),
                };
                let levels = model.levels.iter().map(|l| (l.height, l.width)).collect();
                let executor = Executor::without_memory(Arc::new(plan), Arc::clone(&self.pool), self.storage);
                SizedRun { size, levels, executor }
            }
        };
        run.executor.take_memory(memory);
        self.runs.push(run);
        let SizedRun { levels, executor, .. } = self.runs.last_mut().expect("just pushed");
        executor.prepare(params);
        let kept;
        let targets = match &self.features {
            None => {
                input::enter(batch, &self.model.architecture, &self.pool, executor.input_mut(0));
                &batch.targets
            }
            Some(features) => {
                features.gather(&batch.items, executor);
                kept = features.targets(&batch.items);
                &kept
            }
        };
        if !executor.forward_until(stop) {
            return Err(StepError::Stopped);
        }
        let (sources, said) = match &mut self.teacher {
            None => (Vec::new(), None),
            Some(teacher) => {
                let sources = teacher.sources(batch);
                (sources, Some(teacher.run(batch, stop)?.ok_or(StepError::Stopped)?))
            }
        };
        let taught = said.as_deref().map(|maps| Taught { maps, sources: &sources });
        let items = {
            let (outputs, mut gradients) = executor.outputs_and_grads();
            let loss = &mut self.loss;
            self.pool
                .install(|| loss.compute(&outputs, levels, (batch.n, targets), taught, &mut gradients))?
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

    /// The model's task.
    pub fn task(&self) -> Task {
        self.model.task()
    }

    /// Bytes of the largest arena made so far, the teacher's with it.
    pub fn arena_bytes(&self) -> usize {
        let own = self.runs.iter().map(|run| run.executor.arena_bytes()).max().unwrap_or(0);
        own + self.teacher.as_ref().map_or(0, Teacher::arena_bytes)
    }

    /// The executor of the largest batch, for its profile.
    pub fn largest_executor(&mut self) -> Option<&mut Executor> {
        self.runs.iter_mut().map(|run| &mut run.executor).max_by_key(|run| run.plan().arena_len)
    }
}
