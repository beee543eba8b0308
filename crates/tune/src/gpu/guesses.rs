//! A classifier's validation on the GPU: the middle squares are brought there once, and each epoch runs the network over
//! them.

use std::sync::Arc;

use onsa_compute::cuda::{DeviceBuffer, Executor, Precision, Workspace};
use onsa_compute::{Mode, Plan, Trainable};

use super::augment::{DeviceAugment, InputView};
use super::val_batches::{ValBatches, run_within};
use super::{Gpu, Machine};
use crate::data::cache::ImageCache;
use crate::data::val_loader::ValConfig;
use crate::evaluate::classify::{ClassifyValidation, validate_logits};
use crate::evaluate::validate::ValidateError;
use crate::models::Model;

/// Validates one classifier on one GPU, again and again.
pub struct GuessValidator {
    gpu: Arc<Gpu>,
    model: Model,
    precision: Precision,
    augment: DeviceAugment,
    params: DeviceBuffer<f32>,
    /// Training's, between its steps; else that of the first size.
    workspace: Option<Workspace>,
    /// Full batches, and the last, which may be smaller.
    runs: Vec<([usize; 3], Executor)>,
    batches: ValBatches,
}

impl GuessValidator {
    /// A validator of models like `model`.
    ///
    /// # Errors
    /// The memory does not suffice.
    pub fn new(gpu: &Arc<Gpu>, model: &Model, precision: Precision) -> Result<GuessValidator, ValidateError> {
        let machine: Arc<dyn Machine> = Arc::clone(gpu) as Arc<dyn Machine>;
        Ok(GuessValidator {
            augment: DeviceAugment::new(&machine, model.architecture.normalise())?,
            params: DeviceBuffer::zeros(gpu.device(), model.blank_params().values.len())?,
            gpu: Arc::clone(gpu),
            model: model.clone(),
            precision,
            workspace: None,
            runs: Vec::new(),
            batches: ValBatches::default(),
        })
    }

    /// Lets the runs use this memory, which others may use between calls of [`GuessValidator::validate`], on the same stream.
    pub fn share(&mut self, workspace: &Workspace) {
        run_within(workspace, &mut self.workspace, &mut self.runs);
    }

    /// Validates these parameters over all of `cache`'s items. Otherwise as
    /// [`validate_classifier`](crate::evaluate::classify::validate_classifier).
    ///
    /// # Errors
    /// See [`ValidateError`].
    pub fn validate(
        &mut self,
        params: &[f32],
        cache: &Arc<ImageCache>,
        names: &[String],
        loader: ValConfig,
        mut progress: impl FnMut(usize, usize) -> bool,
    ) -> Result<ClassifyValidation, ValidateError> {
        self.params.upload(params)?;
        let config = ValConfig { centre: true, rect: false, stride: 1, ..loader };
        let mut feed = self.batches.feed(&self.gpu, cache, &config)?;
        let stream = self.gpu.device().stream();
        let (mut logits, mut items, mut prepared) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(batch) = feed.next(&self.gpu, names.len())? {
            if !self.runs.iter().any(|(size, _)| *size == batch.size) {
                let model = self.model.resized(batch.size)?;
                let plan = Plan::new(&model.graph, Mode::Inference, &Trainable::nothing(&model.graph));
                let shared = self.workspace.as_ref();
                let executor = Executor::within(self.gpu.device(), Arc::new(plan), self.precision, shared)?;
                self.workspace.get_or_insert_with(|| executor.workspace().clone());
                self.runs.push((batch.size, executor));
            }
            let known = self.runs.iter_mut().find(|(size, _)| *size == batch.size);
            let (_, executor) = known.expect("made above");
            if !prepared.contains(&batch.size) {
                executor.prepare(&stream, &self.params)?;
                prepared.push(batch.size);
            }
            let [n, height, width] = batch.size;
            let input = InputView::of(&executor.input(0));
            let bytes = feed.bring(self.gpu.device(), &batch)?;
            self.augment.enqueue_bytes(bytes, input, n * height * width)?;
            executor.forward(&stream)?;
            let start = logits.len();
            logits.resize(start + n * names.len(), 0.0);
            executor.read_output(0, &mut logits[start..])?;
            items.extend(batch.placed.iter().map(|placed| placed.item));
            feed.keep(batch);
            if !progress(items.len(), cache.items().len()) {
                break;
            }
        }
        self.batches.keep(feed);
        let class =
            |&item: &usize| cache.items()[item].labels.first().map_or(0, |label| label.class as usize);
        let truths: Vec<usize> = items.iter().map(class).collect();
        let mut validation = validate_logits(&logits, &truths, names)?;
        validation.guesses.iter_mut().zip(&items).for_each(|(guess, &item)| guess.item = item);
        Ok(validation)
    }
}
