//! Validation on the GPU: the letterboxed batches are brought there once, and each epoch runs network, loss and search for
//! boxes over them; the host thins a batch's boxes while the GPU works on the next.

use std::collections::HashMap;
use std::sync::Arc;

use onsa_compute::cuda::{CudaError, DeviceBuffer, Executor, Precision, Workspace};
use onsa_compute::{Mode, Plan, Trainable};
use rayon::prelude::*;

use super::augment::{DeviceAugment, InputView};
use super::candidates::{DeviceCandidates, Found};
use super::loss::{DeviceLoss, HeadLevel, ItemsRow, LossPlaces, TargetRow};
use super::val_batches::{Batch, ValBatches, run_within};
use super::{Gpu, Machine, Memory};
use crate::boxes::Detection;
use crate::data::cache::ImageCache;
use crate::data::val_loader::Placed;
use crate::evaluate::validate::{ImageResult, ValidateError, ValidateOptions, Validation, truths};
use crate::evaluate::{Evaluator, HeadMaps, Level, nms};
use crate::models::Model;
use crate::models::blocks::BOX_BINS;
use crate::train::loss::LossConfig;

/// Shapes whose plans are kept.
const KEPT: usize = 4;

/// Validates one model on one GPU, again and again.
pub struct GpuValidator {
    gpu: Arc<Gpu>,
    machine: Arc<dyn Machine>,
    model: Model,
    precision: Precision,
    loss: LossConfig,
    augment: DeviceAugment,
    params: DeviceBuffer<f32>,
    /// Training's, between its steps; else that of the first shape.
    workspace: Option<Workspace>,
    /// The last used last.
    runs: Vec<([usize; 3], SizedRun)>,
    batches: ValBatches,
}

/// What one size of batch needs.
struct SizedRun {
    executor: Executor,
    input: InputView,
    loss: DeviceLoss,
    finder: DeviceCandidates,
    targets: Memory,
    starts: Memory,
    items: Memory,
    capacity: usize,
}

impl GpuValidator {
    /// A validator of models like `model`.
    ///
    /// # Errors
    /// The memory does not suffice.
    pub fn new(
        gpu: &Arc<Gpu>,
        model: &Model,
        loss: LossConfig,
        precision: Precision,
    ) -> Result<GpuValidator, CudaError> {
        let machine: Arc<dyn Machine> = Arc::clone(gpu) as Arc<dyn Machine>;
        Ok(GpuValidator {
            augment: DeviceAugment::new(&machine, model.architecture.normalise())?,
            params: DeviceBuffer::zeros(gpu.device(), model.blank_params().values.len())?,
            gpu: Arc::clone(gpu),
            machine,
            model: model.clone(),
            precision,
            loss,
            workspace: None,
            runs: Vec::new(),
            batches: ValBatches::default(),
        })
    }

    /// Validates these parameters over all of `cache`'s items. Otherwise as
    /// [`validate`](crate::evaluate::validate::validate).
    ///
    /// # Errors
    /// See [`ValidateError`].
    pub fn validate(
        &mut self,
        params: &[f32],
        cache: &Arc<ImageCache>,
        names: &[String],
        options: &ValidateOptions,
        mut progress: impl FnMut(usize, usize) -> bool,
    ) -> Result<Validation, ValidateError> {
        self.params.upload(params)?;
        let mut evaluator = Evaluator::new(names.to_vec());
        let mut images = Vec::new();
        let mut losses = [0.0; 3];
        let all = cache.items().len();
        let mut feed = self.batches.feed(&self.gpu, cache, &options.loader)?;
        let count = feed.count;
        let mut prepared = HashMap::new();
        let mut waiting: Option<(Vec<Placed>, Vec<Vec<Detection>>)> = None;
        let mut done = 0;
        loop {
            let next = feed.next(&self.gpu, self.loss.nc)?;
            if let Some(batch) = &next {
                let bytes = feed.bring(self.gpu.device(), batch)?;
                self.enqueue((batch, bytes), options, &mut prepared)?;
            }
            // The host's part of the batch before, while the GPU works.
            if let Some((placed, found)) = waiting.take() {
                done += placed.len();
                let thinned: Vec<Vec<Detection>> = found
                    .into_par_iter()
                    .map(|candidates| {
                        let p = &options.postprocess;
                        nms(&candidates, p.iou, p.max_det, p.agnostic)
                    })
                    .collect();
                for (mut detections, placed) in thinned.into_iter().zip(&placed) {
                    for detection in &mut detections {
                        detection.bbox = placed.to_image(&detection.bbox);
                    }
                    let truths = truths(&cache.items()[placed.item], options.loader.single_cls);
                    let score = evaluator.add(&detections, &truths)?;
                    if options.keep {
                        images.push(ImageResult { item: placed.item, detections, score });
                    }
                }
                if !progress(done, all) {
                    break;
                }
            }
            let Some(batch) = next else { break };
            let (row, found) = self.collect(&batch, options)?;
            let items = row.items()?;
            for (sum, item) in losses.iter_mut().zip([items.box_, items.cls, items.dfl]) {
                *sum += item / count as f64;
            }
            waiting = Some((batch.placed.clone(), found));
            feed.keep(batch);
        }
        self.batches.keep(feed);
        images.sort_by_key(|image| image.item);
        Ok(Validation { metrics: evaluator.finish(), losses, images })
    }

    /// Lets the runs use this memory, which others may use between calls of [`GpuValidator::validate`], on the same stream.
    pub fn share(&mut self, workspace: &Workspace) {
        run_within(workspace, &mut self.workspace, &mut self.runs);
    }

    /// The run of a size, made where there is none with enough room for targets.
    fn run(&mut self, size: [usize; 3], targets: usize) -> Result<&mut SizedRun, ValidateError> {
        if let Some(at) = self.runs.iter().position(|(known, run)| *known == size && run.capacity >= targets)
        {
            let run = self.runs.remove(at);
            self.runs.push(run);
        } else {
            self.runs.retain(|(known, _)| *known != size);
            if self.runs.len() == KEPT {
                self.runs.remove(0);
            }
            let run = match self.make(size, targets) {
                // What other shapes hold may be what is missing.
                Err(ValidateError::Cuda(CudaError::OutOfMemory { .. })) if !self.runs.is_empty() => {
                    self.runs.clear();
                    self.make(size, targets)?
                }
                made => made?,
            };
            self.workspace.get_or_insert_with(|| run.executor.workspace().clone());
            self.runs.push((size, run));
        }
        Ok(&mut self.runs.last_mut().expect("just pushed").1)
    }

    fn make(&self, size: [usize; 3], targets: usize) -> Result<SizedRun, ValidateError> {
        let model = self.model.resized(size)?;
        let plan = Plan::new(&model.graph, Mode::Inference, &Trainable::nothing(&model.graph));
        let shared = self.workspace.as_ref();
        let executor = Executor::within(self.gpu.device(), Arc::new(plan), self.precision, shared)?;
        let machine = &self.machine;
        let capacity = targets.next_power_of_two();
        let target_rows = Memory::zeros::<TargetRow>(machine, capacity)?;
        let starts = Memory::zeros::<i32>(machine, size[0] + 1)?;
        let items = Memory::zeros::<ItemsRow>(machine, 1)?;
        let places =
            LossPlaces { targets: target_rows.address(), starts: starts.address(), items: items.address() };
        let levels: Vec<HeadLevel> =
            (0..model.levels.len()).map(|level| HeadLevel::of(&executor.output(level), None)).collect();
        let loss = DeviceLoss::new(machine, &self.loss, size[0], &levels, places, capacity)?;
        let finder = DeviceCandidates::new(machine, &loss)?;
        let input = InputView::of(&executor.input(0));
        Ok(SizedRun { executor, input, loss, finder, targets: target_rows, starts, items, capacity })
    }

    /// Hands a batch, whose pixels are at an address there, to the GPU. `prepared`: the sizes whose runs have these parameters.
    fn enqueue(
        &mut self,
        (batch, bytes): (&Batch, u64),
        options: &ValidateOptions,
        prepared: &mut HashMap<[usize; 3], u64>,
    ) -> Result<(), ValidateError> {
        let [n, height, width] = batch.size;
        self.run(batch.size, batch.targets.rows.len())?;
        let stream = self.gpu.device().stream();
        let (_, run) = self.runs.last_mut().expect("the run of this size was just used");
        run.targets.write(&batch.targets.rows)?;
        run.starts.write(&batch.targets.starts)?;
        // A run made anew has other buffers.
        let identity = run.items.address();
        if prepared.insert(batch.size, identity) != Some(identity) {
            run.executor.prepare(&stream, &self.params)?;
        }
        self.augment.enqueue_bytes(bytes, run.input, n * height * width)?;
        run.executor.forward(&stream)?;
        run.loss.enqueue(false)?;
        run.finder.enqueue(options.postprocess.conf)?;
        Ok(())
    }

    /// Loss and candidates of the batch that was just handed over.
    fn collect(
        &mut self,
        batch: &Batch,
        options: &ValidateOptions,
    ) -> Result<(ItemsRow, Vec<Vec<Detection>>), ValidateError> {
        let (_, run) = self.runs.last_mut().expect("the run of this batch");
        let row = run.items.read::<ItemsRow>(1)?[0];
        let found = run.finder.collect(options.postprocess.max_candidates)?;
        let mut all = Vec::with_capacity(found.len());
        let mut maps: Option<Vec<Vec<f32>>> = None;
        for (image, found) in found.into_iter().enumerate() {
            match found {
                Found::All(boxes) => all.push(boxes),
                // The processor's search has no bound, and names what is not finite.
                Found::TooMany | Found::NotFinite => {
                    if maps.is_none() {
                        maps = Some(read_maps(&mut run.executor, self.loss.strides.len())?);
                    }
                    let maps = maps.as_ref().expect("read above");
                    let levels = maps
                        .iter()
                        .enumerate()
                        .map(|(level, values)| {
                            let [_, height, width, _] = run.executor.output(level).shape;
                            let (stride, classes) = (self.loss.strides[level] as f32, 0..self.loss.nc);
                            Level { values, height, width, stride, classes }
                        })
                        .collect();
                    let head = HeadMaps::new(batch.size[0], BOX_BINS, levels)?;
                    let p = &options.postprocess;
                    all.push(head.candidates(image, p.conf, true, p.max_candidates)?);
                }
            }
        }
        Ok((row, all))
    }
}

fn read_maps(executor: &mut Executor, levels: usize) -> Result<Vec<Vec<f32>>, CudaError> {
    (0..levels)
        .map(|level| {
            let mut values = vec![0.0; executor.output(level).shape.iter().product()];
            executor.read_output(level, &mut values)?;
            Ok(values)
        })
        .collect()
}
