//! The frozen model that a run starts from, run beside the one that learns.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use onsa_compute::cpu::Memory;
use onsa_compute::{Executor, Mode, Params, Plan, Storage, Trainable};

use super::input;
use crate::data::batch::Batch;
use crate::models::{Model, ModelError};

/// Sizes of batch whose plans are kept, as in training.
const KEPT: usize = 2;

/// A model whose outputs on the training batches are learned from. It never changes: its norms use their own statistics.
pub struct Teacher {
    model: Model,
    params: Params,
    pool: Arc<rayon::ThreadPool>,
    /// The first item that is replayed from old data.
    replay_from: usize,
    /// Most recently used last: it has the arena, which all share.
    runs: Vec<([usize; 3], Executor)>,
}

impl Teacher {
    /// Takes the model and its parameters; items from `replay_from` on are the second source.
    pub fn new(model: &Model, params: Params, replay_from: usize, pool: Arc<rayon::ThreadPool>) -> Teacher {
        Teacher { model: model.clone(), params, pool, replay_from, runs: Vec::new() }
    }

    /// The source of each of a batch's images: 0 for the new data, 1 for what is replayed.
    pub fn sources(&self, batch: &Batch) -> Vec<usize> {
        batch.items.iter().map(|&item| usize::from(item >= self.replay_from)).collect()
    }

    /// The outputs for a batch, level by level; none where `stop` turned true.
    ///
    /// # Errors
    /// A size that the model's strides do not divide.
    pub fn run(&mut self, batch: &Batch, stop: &AtomicBool) -> Result<Option<Vec<&[f32]>>, ModelError> {
        let size = [batch.n, batch.h, batch.w];
        let memory = self.runs.last_mut().map_or_else(Memory::default, |(_, run)| run.give_memory());
        let mut run = match self.runs.iter().position(|(made, _)| *made == size) {
            Some(at) => self.runs.remove(at),
            None => {
                let graph = self.model.resized(size)?.graph;
                if self.runs.len() == KEPT {
                    self.runs.remove(0);
                }
                let plan = Plan::new(&graph, Mode::Inference, &Trainable::nothing(&graph));
                let pool = Arc::clone(&self.pool);
                let mut executor = Executor::without_memory(Arc::new(plan), pool, Storage::Float32);
                executor.prepare(&self.params);
                (size, executor)
            }
        };
        run.1.take_memory(memory);
        self.runs.push(run);
        let (_, executor) = self.runs.last_mut().expect("just pushed");
        input::enter(batch, &self.model.architecture, &self.pool, executor.input_mut(0));
        if !executor.forward_until(stop) {
            return Ok(None);
        }
        let outputs = executor.plan().outputs.len();
        let executor = &*executor;
        Ok(Some((0..outputs).map(|i| executor.output(i)).collect()))
    }

    /// Bytes of its arena.
    pub fn arena_bytes(&self) -> usize {
        self.runs.iter().map(|(_, run)| run.arena_bytes()).max().unwrap_or(0)
    }
}
