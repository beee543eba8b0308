//! What a run does differently on a GPU: batches come as tables, steps are handed over and their losses read a few steps
//! later. Between epochs everything lies on the host again, where it is validated, saved and resumed as on the processor.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use onsa_compute::Trainable;
use onsa_compute::cuda::{CudaError, Device, Precision};

use super::{
    DRAWN_BATCHES, Ema, EpochEnded, MAX_GRADIENT_NORM, Observer, Optimiser, Place, Prepared, Run, Step,
    TrainError, describe, finish, finite,
};
use crate::data::cache::ImageCache;
use crate::data::loader::{LoaderConfig, LoaderError, Position, TrainLoader};
use crate::engine::Features;
use crate::evaluate::Validated;
use crate::evaluate::validate::{ValidateError, ValidateOptions};
use crate::gpu::crops::OPERATIONS;
use crate::gpu::features::DeviceFeatures;
use crate::gpu::guesses::GuessValidator;
use crate::gpu::loader::TableLoader;
use crate::gpu::memory::{MemoryUse, largest_batch};
use crate::gpu::optimiser::CountersRow;
use crate::gpu::pixels::{FEW, Home, PixelStore};
use crate::gpu::step::{Finished, GpuTrainer, Material, OptimiserChoice, Snapshot, SubmitError};
use crate::gpu::validate::GpuValidator;
use crate::gpu::{Gpu, Machine};
use crate::models::{Model, Task};
use crate::train::loss::LossConfig;
use crate::train::recipe::Recipe;
use crate::train::recipe::values::{self, Cache, Strategy};
use crate::train::schedule::Rates;
use crate::train::start;

/// The share of the GPU's free memory that images may take.
const PIXEL_SHARE: usize = 2;

/// A run's part on the GPU.
pub(super) struct GpuSide {
    gpu: Arc<Gpu>,
    precision: Precision,
    material: Material,
    trainer: GpuTrainer,
    validator: Validator,
    store: Arc<PixelStore>,
    home: Home,
    /// The store's items; keeps no pixels that the GPU keeps.
    cache: Arc<ImageCache>,
    usage: MemoryUse,
    /// See [`MemoryUse::passing`].
    passing: usize,
}

/// The validation of the model's task.
enum Validator {
    Detect(Box<GpuValidator>),
    Classify(Box<GuessValidator>),
}

/// The training images, and what becomes of them.
#[derive(Clone, Copy)]
pub(super) struct Images<'a> {
    cache: &'a Arc<ImageCache>,
    /// Whether the processor draws some batches.
    drawn_on_host: bool,
    /// Where they may be kept.
    keeping: Keeping,
}

/// Where the recipe lets decoded images be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeping {
    /// Where they cost least.
    Free,
    /// On the GPU before the host.
    Gpu,
    /// Nowhere.
    Nowhere,
}

impl<'a> Images<'a> {
    /// As the recipe has it: `cache=False` keeps none.
    pub(super) fn new(cache: &'a Arc<ImageCache>, recipe: &Recipe) -> Images<'a> {
        let keeping = match recipe.cache {
            _ if recipe.strategy == Strategy::Head => Keeping::Nowhere,
            Cache::Off if recipe.is_given("cache") => Keeping::Nowhere,
            Cache::Gpu => Keeping::Gpu,
            Cache::Off | Cache::Ram | Cache::Disk => Keeping::Free,
        };
        Images { cache, drawn_on_host: recipe.multi_scale > 0.0, keeping }
    }

    /// Bytes of the images that a sample is drawn from, on the mean, where the GPU does not keep them.
    fn passing(&self, home: Home, recipe: &Recipe) -> usize {
        if home == Home::Gpu || recipe.strategy == Strategy::Head {
            return 0;
        }
        let detects = recipe.task == values::Task::Detect;
        let tiles = if detects && recipe.mosaic > 0.0 { 4 } else { 1 };
        let mixed = if detects && (recipe.mixup > 0.0 || recipe.cutmix > 0.0) { 2 } else { 1 };
        let images = self.cache.items().len().max(1);
        tiles * mixed * (self.cache.bytes_needed() as usize).div_ceil(images)
    }

    /// Where they stay, with `free` bytes of the GPU's memory.
    fn home(&self, free: usize) -> Home {
        let bytes = self.cache.bytes_needed() as usize;
        let fits = bytes <= free / PIXEL_SHARE;
        match self.keeping {
            Keeping::Nowhere => Home::Cache,
            Keeping::Gpu if fits => Home::Gpu,
            _ if fits && bytes <= FEW => Home::Gpu,
            _ if self.cache.fits() => Home::Host,
            _ if fits => Home::Gpu,
            _ => Home::Cache,
        }
    }
}

/// Where batches come from.
pub(super) enum Feed {
    /// Pixels that the processor draws.
    Host(TrainLoader),
    /// Tables from which the GPU draws.
    Tables(TableLoader),
}

impl Feed {
    pub(super) fn wait(&self) -> Duration {
        match self {
            Feed::Host(loader) => loader.wait(),
            Feed::Tables(loader) => loader.wait(),
        }
    }
}

impl GpuSide {
    /// Brings model and optimiser to the GPU (`deployed` is the network as it is validated, without adapters), and the features of the training images where the frozen part has run.
    pub(super) fn new(
        (device, precision): (&Device, Precision),
        ((model, trainable, params), deployed): ((&Model, Trainable, &[f32]), &Model),
        loss: LossConfig,
        optimiser: &Optimiser,
        (recipe, images, features): (&Recipe, Images<'_>, Option<Features>),
    ) -> Result<GpuSide, TrainError> {
        let Images { cache: train_cache, drawn_on_host, .. } = images;
        let gpu = Gpu::new(device);
        let machine: Arc<dyn Machine> = Arc::clone(&gpu) as Arc<dyn Machine>;
        let material = match (features, model.task()) {
            (Some(features), _) => Material::Features(Arc::new(DeviceFeatures::new(&machine, features)?)),
            (None, Task::Detect) => Material::Samples,
            (None, Task::Classify) => {
                let random = start::classify_augmentation(recipe).rand_augment;
                Material::Crops { operations: if random { OPERATIONS } else { 0 }, jitter: !random }
            }
        };
        let (free, _) = device.memory()?;
        let home = images.home(free);
        // One copy suffices, unless batches are still drawn by the processor.
        let cache = if home != Home::Cache && !drawn_on_host {
            Arc::new(train_cache.without_memory())
        } else {
            Arc::clone(train_cache)
        };
        let store = PixelStore::new(device, Arc::clone(&cache), home)?;
        let passing = images.passing(home, recipe);
        let usage = usage(model, &trainable, precision, &material).passing(passing);
        let validator = match model.task() {
            Task::Detect => {
                Validator::Detect(Box::new(GpuValidator::new(&gpu, deployed, loss.clone(), precision)?))
            }
            Task::Classify => Validator::Classify(Box::new(GuessValidator::new(&gpu, deployed, precision)?)),
        };
        let network = (model, trainable);
        let trainer = trainer(&gpu, network, params, (loss, material.clone()), optimiser, precision)?;
        Ok(GpuSide { gpu, precision, material, trainer, validator, store, home, cache, usage, passing })
    }

    /// Trains another part of the model from now on, with an optimiser that starts afresh. The state still has to be pushed.
    pub(super) fn retrain(
        &mut self,
        (model, trainable, params): (&Model, Trainable, &[f32]),
        loss: LossConfig,
        optimiser: &Optimiser,
    ) -> Result<(), TrainError> {
        self.trainer.release()?;
        self.usage = usage(model, &trainable, self.precision, &self.material).passing(self.passing);
        let work = (loss, self.material.clone());
        self.trainer = trainer(&self.gpu, (model, trainable), params, work, optimiser, self.precision)?;
        Ok(())
    }

    /// Says how the images lie.
    pub(super) fn describe(&self, observer: &mut dyn Observer) {
        if let Material::Features(_) = self.material {
            return;
        }
        let mebibytes = self.cache.bytes_needed() >> 20;
        observer.message(&match self.home {
            Home::Gpu => format!("the training images ({mebibytes} MiB) stay in the GPU's memory"),
            Home::Host => format!(
                "the training images ({mebibytes} MiB) stay in the host's memory; the GPU copies each batch's from there"
            ),
            Home::Cache => format!("the training images ({mebibytes} MiB) are brought to the GPU batch by batch"),
        });
    }

    /// Validates these parameters over all of `cache`'s items. Where memory is short, the training networks' is given back first:
    /// the next step makes them anew.
    pub(super) fn validate(
        &mut self,
        params: &[f32],
        cache: &Arc<ImageCache>,
        names: &[String],
        options: &ValidateOptions,
        mut progress: impl FnMut(usize, usize) -> bool,
    ) -> Result<Validated, ValidateError> {
        match self.try_to_validate(params, cache, names, options, &mut progress) {
            Err(ValidateError::Cuda(CudaError::OutOfMemory { .. })) if self.trainer.arena_bytes() > 0 => {
                self.trainer.release()?;
                self.try_to_validate(params, cache, names, options, &mut progress)
            }
            result => result,
        }
    }

    fn try_to_validate(
        &mut self,
        params: &[f32],
        cache: &Arc<ImageCache>,
        names: &[String],
        options: &ValidateOptions,
        progress: impl FnMut(usize, usize) -> bool,
    ) -> Result<Validated, ValidateError> {
        if let Some(workspace) = self.trainer.workspace() {
            match &mut self.validator {
                Validator::Detect(boxes) => boxes.share(workspace),
                Validator::Classify(guesses) => guesses.share(workspace),
            }
        }
        Ok(match &mut self.validator {
            Validator::Detect(boxes) => {
                Validated::Detect(boxes.validate(params, cache, names, options, progress)?)
            }
            Validator::Classify(guesses) => {
                let loader = options.loader.clone();
                Validated::Classify(guesses.validate(params, cache, names, loader, progress)?)
            }
        })
    }

    /// The gradients of some batches, and one step of the optimiser; the batches' mean loss, not finite where one could
    /// not be computed.
    pub(super) fn swept_step(
        &mut self,
        loader: &mut TableLoader,
        rates: &Rates,
        batches: usize,
    ) -> Result<f64, TrainError> {
        for i in 0..batches {
            let batch = loader.next().ok_or(TrainError::LoaderEnded)??;
            let size = batch.size;
            let stepping = i + 1 == batches;
            self.trainer.submit(batch, rates, stepping).map_err(|error| self.explain(error, size))?;
        }
        self.trainer.drain()?;
        let mut sum = 0.0;
        for finished in self.trainer.finished() {
            let sound = finished.stepped != Some(false);
            sum += match finished.loss {
                Ok(items) if sound => items.box_ + items.cls + items.dfl,
                _ => f64::NAN,
            };
        }
        Ok(sum / batches as f64)
    }

    /// Batches from `start` on.
    pub(super) fn feed(&self, config: LoaderConfig, start: Position) -> Result<Feed, LoaderError> {
        let loader = TableLoader::new(Arc::clone(&self.cache), Arc::clone(&self.store), config, start)?;
        Ok(Feed::Tables(loader))
    }

    /// Bytes of the training network's buffers.
    pub(super) fn bytes(&self) -> usize {
        self.trainer.arena_bytes()
    }

    /// The error of a batch that did not fit, with the batch that would.
    fn explain(&self, error: SubmitError, [n, height, width]: [usize; 3]) -> TrainError {
        if let SubmitError::Cuda(CudaError::OutOfMemory { .. } | CudaError::TooLong { .. }) = error
            && let Ok((free, _)) = self.trainer.device().memory()
        {
            // Parameters and images are there already; what the trainer's networks hold would be given back.
            let room = free + self.trainer.arena_bytes();
            let images = self.cache.items().len();
            let fits = largest_batch(&self.usage, room, [height, width], images).min(n - 1);
            return TrainError::BatchTooLarge { batch: n, fits };
        }
        error.into()
    }
}

fn usage(model: &Model, trainable: &Trainable, precision: Precision, material: &Material) -> MemoryUse {
    MemoryUse::new(model, trainable, precision).on_features(matches!(material, Material::Features(_)))
}

fn trainer(
    gpu: &Arc<Gpu>,
    network: (&Model, Trainable),
    params: &[f32],
    work: (LossConfig, Material),
    optimiser: &Optimiser,
    precision: Precision,
) -> Result<GpuTrainer, CudaError> {
    let choice = OptimiserChoice {
        kind: optimiser.kind(),
        momentum: optimiser.beta1(),
        max_norm: MAX_GRADIENT_NORM,
        slots: optimiser.slots(),
    };
    GpuTrainer::new(gpu, network, params, work, choice, precision)
}

impl Run<'_> {
    /// The rest of the current epoch's steps: how it ended, and how many images were seen.
    pub(super) fn epoch_on_gpu(
        &mut self,
        loader: &mut TableLoader,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<(EpochEnded, usize), TrainError> {
        let mut gpu = self.gpu.take().expect("tables are made for a GPU");
        let result = self.steps(&mut gpu, loader, observer, stop);
        self.gpu = Some(gpu);
        result
    }

    fn steps(
        &mut self,
        gpu: &mut GpuSide,
        loader: &mut TableLoader,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<(EpochEnded, usize), TrainError> {
        let begun = Instant::now();
        let waited = loader.wait();
        let batches = loader.batches_per_epoch();
        let seconds_before = self.counters.seconds;
        let (mut seen, mut ended) = (0, EpochEnded::Done);
        observer.epoch_start(self.counters.epoch + 1, self.recipe.epochs, batches);
        while self.counters.batch < batches {
            let batch = loader.next().ok_or(TrainError::LoaderEnded)??;
            debug_assert_eq!(batch.at, self.counters.position());
            let iteration =
                u64::from(self.counters.epoch) * u64::from(batches) + u64::from(self.counters.batch);
            let stepping = self.schedule.steps(iteration, self.counters.last_step);
            if stepping {
                self.counters.last_step = Some(iteration);
            }
            self.counters.gathered = if stepping { 0 } else { self.counters.gathered + 1 };
            let (size, objects) = (batch.size, batch.targets.len());
            let rates = self.schedule.at(iteration);
            gpu.trainer.submit(batch, &rates, stepping).map_err(|error| gpu.explain(error, size))?;
            for finished in gpu.trainer.finished() {
                self.absorb(&finished, observer)?;
            }
            seen += size[0];
            self.counters.batch += 1;
            self.counters.seconds = seconds_before + begun.elapsed().as_secs_f64();
            let means: Vec<f32> = self.mean_losses().iter().map(|&x| x as f32).collect();
            observer.step(&Step {
                epoch: self.counters.epoch + 1,
                step: self.counters.batch,
                steps: batches,
                images: size[0],
                losses: &means,
                objects,
                elapsed: begun.elapsed(),
                waited: loader.wait() - waited,
            });
            if self.pace.is_due() && self.counters.bad == 0 && self.counters.batch < batches {
                gpu.trainer.drain()?;
                for finished in gpu.trainer.finished() {
                    self.absorb(&finished, observer)?;
                }
                self.take_over(gpu)?;
                self.save()?;
            }
            if stop.load(Ordering::Relaxed) {
                ended = EpochEnded::Stopped;
                break;
            }
            if self.recipe.time.is_some_and(|hours| self.counters.seconds > hours * 3600.0) {
                observer.message("the time limit is reached");
                ended = EpochEnded::OutOfTime;
                break;
            }
        }
        gpu.trainer.drain()?;
        for finished in gpu.trainer.finished() {
            self.absorb(&finished, observer)?;
        }
        self.counters.seconds = seconds_before + begun.elapsed().as_secs_f64();
        Ok((ended, seen))
    }

    /// Counts a batch in whose loss has become known.
    fn absorb(&mut self, finished: &Finished, observer: &mut dyn Observer) -> Result<(), TrainError> {
        match &finished.loss {
            Ok(items) => {
                let terms = items.terms(self.step.task());
                self.counters.loss_sums.resize(terms.len(), 0.0);
                self.counters.loss_sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
                self.counters.loss_count += 1;
                self.counters.bad = 0;
            }
            Err(error) => self.skip(&finished.items, finished.at, &error.to_string(), observer)?,
        }
        if finished.stepped == Some(false) {
            let reason = crate::train::clip::NonFiniteGradient.to_string();
            self.skip(&finished.items, finished.at, &reason, observer)?;
        }
        Ok(())
    }

    /// Copies everything from the GPU to where the processor's run has it.
    pub(super) fn pull(&mut self) -> Result<(), TrainError> {
        let Some(mut gpu) = self.gpu.take() else { return Ok(()) };
        let result = self.take_over(&mut gpu);
        self.gpu = Some(gpu);
        result
    }

    /// See [`Run::pull`]. Weights that are not finite are an error: nothing saved so far is replaced by them.
    fn take_over(&mut self, gpu: &mut GpuSide) -> Result<(), TrainError> {
        let Snapshot { params, gathered, ema, optimiser, counters } = gpu.trainer.snapshot()?;
        self.params.values = params;
        self.gathered = gathered;
        self.ema = Ema::restore(ema, counters.updates);
        self.optimiser.restore(counters.steps, &optimiser)?;
        match finite::first_bad(&self.params) {
            None => Ok(()),
            Some(tensor) => {
                Err(TrainError::WeightsNotFinite { place: describe(self.counters.position()), tensor })
            }
        }
    }

    /// The reverse of [`Run::pull`].
    pub(super) fn push(&mut self) -> Result<(), TrainError> {
        let Some(gpu) = &mut self.gpu else { return Ok(()) };
        let counters = CountersRow { steps: self.optimiser.steps(), updates: self.ema.updates() };
        gpu.trainer.restore(&Snapshot {
            params: self.params.values.clone(),
            gathered: self.gathered.clone(),
            ema: self.ema.values().to_vec(),
            optimiser: self.optimiser.state(),
            counters,
        })?;
        Ok(())
    }

    /// After a run on a GPU, its first batches for the plots: the processor draws the same.
    pub(super) fn draw_again(&mut self) -> Result<(), TrainError> {
        if self.gpu.is_none() || !self.drawn.is_empty() || self.recipe.strategy == Strategy::Head {
            return Ok(());
        }
        let config = LoaderConfig { prefetch: 1, ..self.loader_config() };
        let loader = TrainLoader::new(Arc::clone(&self.train_cache), config, Position::default())?;
        for step in loader.take(DRAWN_BATCHES) {
            let step = step?;
            if step.at.epoch > 0 {
                break;
            }
            self.drawn.push(finish::DrawnBatch::new(&step.batch));
        }
        Ok(())
    }
}

/// The recipe with a number for `batch=-1`: the largest that fits in the GPU's memory beside the images, at most what
/// there is to train on.
pub(super) fn with_batch(
    recipe: &Recipe,
    prepared: &Prepared,
    place: &Place,
    observer: &mut dyn Observer,
) -> Result<Recipe, TrainError> {
    let mut resolved = recipe.clone();
    if recipe.batch == -1 {
        let Place::Gpu(device, precision, _) = place else { return Err(TrainError::BatchNeedsGpu) };
        let (free, _) = device.memory()?;
        let (cache, _) = prepared.caches(recipe)?;
        let kept = recipe.strategy == Strategy::Head;
        let images = Images::new(&cache, recipe);
        let home = images.home(free);
        let room = if home == Home::Gpu { free - cache.bytes_needed() as usize } else { free };
        let trainable = trainable(prepared);
        let usage = MemoryUse::new(&prepared.network, &trainable, *precision)
            .on_features(kept)
            .passing(images.passing(home, recipe));
        let side = recipe.imgsz as usize;
        let room = room.saturating_sub(usage.parameters());
        let batch = largest_batch(&usage, room, [side, side], prepared.dataset.train.len());
        if batch == 0 {
            return Err(TrainError::BatchTooLarge { batch: 1, fits: 0 });
        }
        resolved.batch = batch as i32;
        observer.message(&format!("batch={batch}: the largest that fits in the GPU's memory"));
    }
    Ok(resolved)
}

/// What of the model is trained, as plans take it.
pub(super) fn trainable(prepared: &Prepared) -> Trainable {
    Trainable {
        params: prepared.trainable.params.clone(),
        frozen_norms: prepared.trainable.frozen_norms.iter().cloned().collect(),
    }
}
