//! The training loop, from a recipe to a run folder. It reads top to bottom: data, model, plans, epochs, finish.

mod checkpoint;
mod end;
mod on_gpu;
mod sweep;
mod trial;
mod validation;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use onsa_compute::Params;
use onsa_compute::cuda::Precision;
use rayon::prelude::*;

use super::clip::{NonFiniteGradient, clip_global_norm};
use super::ema::Ema;
use super::error::TrainError;
use super::extend::extend;
use super::files;
use super::finish;
use super::finite;
use super::lock::RunLock;
use super::loss::{DetectLoss, Gains, LossConfig, class_weights, term_names};
use super::observer::{EpochEnd, Observer, RunStart, Step};
use super::optimiser::{CHUNK, Group, Optimiser};
use super::pace::Pace;
use super::recipe::Recipe;
use super::recipe::values::{AddClasses, Amp, SaveEvery, Strategy};
use super::schedule::Schedule;
use super::slots::slots;
use super::start::{self, Prepared};
use super::state::{self, Counters, EpochRow};
use super::strategy;
use crate::data::cache::ImageCache;
use crate::data::dataset::Pixels;
use crate::data::loader::{LoaderConfig, Position, TrainLoader};
use crate::durable;
use crate::engine::{self, Features, HeadNetwork, Inference, Place, StepError, TrainStep, Wanted};
use crate::evaluate::kept::Kept;
use crate::evaluate::{Metrics, Validated};
use crate::models::Task;
use checkpoint::checkpoint_path;
use on_gpu::Feed;

pub use sweep::{Sweep, Swept, sweep};
pub use trial::{Trial, trial};

/// Norm above which gradients are scaled down.
const MAX_GRADIENT_NORM: f64 = 10.0;
/// Batches in a row without a usable gradient after which the run ends.
const MAX_BAD_BATCHES: u32 = 5;
/// Times that sample pictures are drawn during a run, about.
const SAMPLINGS: u32 = 20;
/// What a run that adds classes tells of them, in its folder.
const ADDED_CLASSES: &str = "added_classes.json";
/// Compute threads up to which they draw the batches themselves.
const FEW_THREADS: usize = 4;
/// Batches of training images that are drawn.
const DRAWN_BATCHES: usize = 3;

/// What a run gave.
#[derive(Clone, Debug)]
pub struct TrainOutcome {
    /// The run's folder.
    pub run_dir: PathBuf,
    /// Weights of the best epoch.
    pub best: PathBuf,
    /// Weights of the last epoch.
    pub last: PathBuf,
    /// Epochs done.
    pub epochs: u32,
    /// Training images a second, validation left out.
    pub images_per_second: f64,
    /// Share of the training time in which computing waited for data.
    pub data_wait_fraction: f64,
    /// Figures of the best weights on the validation images.
    pub metrics: Option<Metrics>,
    /// Figures before training, where they were asked for.
    pub before: Option<Metrics>,
    /// Where classes were added: what the old ones lost, and the new ones' figures.
    pub kept: Option<Kept>,
    /// True where the run was interrupted; `onsa resume` continues it.
    pub stopped: bool,
    /// Bytes of the training plan's arena.
    pub arena_bytes: usize,
}

/// What the caller adds to a recipe.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunOptions {
    /// Validate before the first epoch too.
    pub validate_start: bool,
}

/// Trains as the recipe says, in a new run folder. When `stop` becomes true the run saves a checkpoint after the step
/// that it is in, and ends.
///
/// # Errors
/// See [`TrainError`]. What the run folder holds then is whole.
pub fn train(
    recipe: &Recipe,
    options: RunOptions,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<TrainOutcome, TrainError> {
    let prepared = start::prepare(recipe, observer)?;
    // What auto chose is what a resumed run must do again.
    let recipe = &Recipe { strategy: prepared.strategy, ..recipe.clone() };
    let place = place(recipe, prepared.dataset.pixels)?;
    let recipe = &on_gpu::with_batch(recipe, &prepared, &place, observer)?;
    let run_dir = super::recipe::run_dir::claim(&recipe.project, &recipe.name, recipe.exist_ok)?;
    let _lock = RunLock::take(&run_dir)?;
    files::prepare_folders(&run_dir)?;
    durable::write(&run_dir.join("args.yaml"), recipe.to_yaml().as_bytes())?;
    let provenance = files::provenance(
        prepared.opened.weights.as_ref(),
        &recipe.data,
        &prepared.dataset.hash,
        recipe.seed,
        &place.describe(),
    );
    let text = serde_json::to_string_pretty(&provenance).expect("plain values are JSON");
    durable::write(&run_dir.join("provenance.json"), text.as_bytes())?;
    Run::new(recipe, prepared, run_dir, &place, observer)?.go(options, observer, stop)
}

/// What a resumed run does otherwise than it was told at first. Only `epochs` changes its result.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Changes {
    /// More epochs.
    pub epochs: Option<u32>,
    /// Compute threads.
    pub threads: Option<u32>,
    /// Loader threads.
    pub workers: Option<u32>,
    /// When it is saved.
    pub save_every: Option<SaveEvery>,
}

/// Continues the run in `run_dir` from its checkpoint, with the same bytes as if it had never stopped; from the beginning,
/// where it was ended before its first checkpoint.
///
/// # Errors
/// See [`TrainError`]: also where there is no run, another process trains in it, it is finished, or the data have changed.
pub fn resume(
    run_dir: &Path,
    changes: &Changes,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<TrainOutcome, TrainError> {
    let args = run_dir.join("args.yaml");
    if !args.is_file() {
        return Err(TrainError::NoCheckpoint(run_dir.to_owned()));
    }
    let mut recipe = Recipe::from_file(&args)?;
    recipe.threads = changes.threads.or(recipe.threads);
    recipe.workers = changes.workers.unwrap_or(recipe.workers);
    recipe.save_every = changes.save_every.unwrap_or(recipe.save_every);
    let _lock = RunLock::take(run_dir)?;
    files::prepare_folders(run_dir)?;
    let checkpoint = checkpoint_path(run_dir);
    let saved = checkpoint.is_file().then(|| state::restore(&checkpoint)).transpose()?;
    let done = saved.as_ref().map(|(counters, _)| counters.clone()).unwrap_or_default();
    let longer = changes.epochs.filter(|&epochs| epochs != recipe.epochs);
    if let Some(epochs) = longer.filter(|&epochs| epochs <= done.epoch) {
        return Err(TrainError::NotLonger { run_dir: run_dir.to_owned(), done: done.epoch, epochs });
    }
    let since_best = done.epoch - done.best.map_or(done.epoch, |(_, epoch)| epoch);
    let enough = recipe.patience > 0 && since_best >= recipe.patience;
    let written = |wanted: bool, file: &str| !wanted || run_dir.join(file).is_file();
    let complete =
        written(recipe.plots, "report.html") && written(recipe.add_classes != AddClasses::Off, ADDED_CLASSES);
    if longer.is_none() && (done.epoch >= recipe.epochs || enough) && complete {
        return Err(TrainError::Finished { run_dir: run_dir.to_owned(), epochs: done.epoch });
    }
    let prepared = start::prepare_resumed(&recipe, run_dir, observer)?;
    let hash = match &saved {
        Some((counters, _)) => Some(counters.data_hash.clone()),
        None => files::data_hash(run_dir)?,
    };
    if hash.is_some_and(|hash| hash != prepared.dataset.hash) {
        return Err(TrainError::DataChanged { data: recipe.data.clone() });
    }
    let (classes, images) = (prepared.opened.names.len(), prepared.dataset.train.len());
    if let Some(epochs) = longer {
        let from = recipe.epochs;
        let differences = extend(&mut recipe, epochs, classes, images, &done);
        observer.message(&match differences.as_slice() {
            [] => format!("{epochs} epochs instead of {from}: the same as a run of {epochs} from the start"),
            _ => format!(
                "{epochs} epochs instead of {from}: not the same as a run of {epochs} from the start: {}",
                differences.join("; ")
            ),
        });
        files::note_extension(run_dir, from, epochs, &differences)?;
        durable::write(&args, recipe.to_yaml().as_bytes())?;
    }
    let place = place(&recipe, prepared.dataset.pixels)?;
    let mut run = Run::new(&recipe, prepared, run_dir.to_owned(), &place, observer)?;
    if let Some((counters, arenas)) = saved {
        run.restore(counters, arenas)?;
    }
    observer.message(&format!(
        "continuing {} at epoch {}, batch {}",
        run_dir.display(),
        run.counters.epoch + 1,
        run.counters.batch + 1
    ));
    run.go(RunOptions::default(), observer, stop)
}

/// Where the recipe wants to compute.
///
/// # Errors
/// A device that cannot be used, or not for this recipe.
pub fn place(recipe: &Recipe, pixels: Pixels) -> Result<Place, TrainError> {
    let mut wanted = Wanted::parse(recipe.device.as_deref())?;
    // What the GPU's training does not have yet.
    let on_the_processor = match () {
        () if recipe.add_classes != AddClasses::Off && !recipe.branches() => {
            Some("add_classes, where it makes no branch,")
        }
        () if pixels.is_deep() => Some("training on images of 16 bits or of other channels than three"),
        () => None,
    };
    match (on_the_processor, wanted) {
        (Some(what), Wanted::Gpu(_)) => return Err(TrainError::NotOnGpu { what }),
        (Some(_), _) => wanted = Wanted::Cpu,
        (None, _) => {}
    }
    let precision = match recipe.amp {
        Amp::Mixed => Precision::Bf16,
        Amp::Tf32 => Precision::Tf32,
        Amp::Off => Precision::Float32,
    };
    Ok(Place::open(wanted, precision, engine::threads(recipe.threads)?)?)
}

/// A run: what changes from step to step, and what is needed for a step.
struct Run<'a> {
    recipe: &'a Recipe,
    run_dir: PathBuf,
    prepared: Prepared,
    params: Params,
    grads: Vec<f32>,
    /// Sum of the gradients since the optimiser last stepped.
    gathered: Vec<f32>,
    ema: Ema,
    optimiser: Optimiser,
    schedule: Schedule,
    counters: Counters,
    /// What the loss weighs, to make the step anew when more of the network thaws.
    loss: LossConfig,
    /// The stage that step and optimiser are made for.
    stage: usize,
    step: TrainStep,
    /// What the frozen part makes of the validation images, where it runs once, and the part that learns.
    val_features: Option<(Features, HeadNetwork)>,
    network: Inference,
    /// Where a GPU computes, in the place of `step` and `network`. Between epochs all else here is what it has.
    gpu: Option<on_gpu::GpuSide>,
    val_loss: DetectLoss,
    train_cache: Arc<ImageCache>,
    val_cache: Arc<ImageCache>,
    /// When it is saved next within an epoch.
    pace: Pace,
    saving: checkpoint::Saving,
    drawn: Vec<finish::DrawnBatch>,
}

/// Adds a batch's gradient to the sum.
fn gather(sum: &mut [f32], grads: &[f32]) {
    sum.par_chunks_mut(CHUNK).zip(grads.par_chunks(CHUNK)).for_each(|(sum, grads)| {
        sum.iter_mut().zip(grads).for_each(|(sum, g)| *sum += g);
    });
}

/// A place in the run, in words.
fn describe(at: Position) -> String {
    format!("epoch {}, batch {}", at.epoch + 1, at.batch + 1)
}

/// How an epoch's steps ended.
enum EpochEnded {
    Done,
    Stopped,
    OutOfTime,
}

impl<'a> Run<'a> {
    fn new(
        recipe: &'a Recipe,
        prepared: Prepared,
        run_dir: PathBuf,
        place: &Place,
        observer: &mut dyn Observer,
    ) -> Result<Run<'a>, TrainError> {
        let pool = Arc::clone(place.pool());
        let model = prepared.network.clone();
        let params = match &model.low_rank {
            Some(_) => model.adapt(&prepared.opened.params, recipe.seed),
            None => prepared.opened.params.clone(),
        };
        let images = prepared.dataset.train.len();
        let choice = start::choose_optimiser(recipe, prepared.opened.names.len(), images);
        observer.message(&choice.reason);
        let mut slots = slots(&model, &prepared.trainable.params, choice.kind);
        strategy::decay_layers(&model, &mut slots, recipe.layer_decay);
        strategy::hasten_new_rows(recipe, &model, &mut slots, choice.kind);
        let optimiser = Optimiser::new(choice.kind, choice.momentum, params.values.len(), &slots)?;
        let schedule = start::schedule(recipe, &choice, images);
        let gains = Gains { box_: recipe.r#box as f32, cls: recipe.cls as f32, dfl: recipe.dfl as f32 };
        let classes = prepared.opened.names.len();
        let class_weights = class_weights(&prepared.dataset.class_counts(classes), recipe.cls_pw);
        if recipe.cls_pw > 0.0 {
            let weights = prepared.opened.names.iter().zip(&class_weights);
            let listed: Vec<String> = weights.map(|(name, weight)| format!("{name} {weight:.3}")).collect();
            observer.message(&format!("class weights: {}", listed.join(", ")));
        }
        let mut loss = LossConfig { gains, class_weights, ..LossConfig::new(classes) };
        if let Some(added) = &prepared.added {
            loss = added.configure(loss, recipe.distill);
        }
        let trainable = on_gpu::trainable(&prepared);
        let step = TrainStep::new(&model, trainable.clone(), loss.clone(), Arc::clone(&pool));
        let mut step = step.stored_in(place.storage());
        step.learn_from(prepared.added.as_ref().and_then(|added| added.teacher(&pool)));
        let deployed = (&prepared.opened.model, prepared.opened.params.clone());
        let network = Inference::new(deployed.0, deployed.1, Arc::clone(&pool));
        let (train_cache, val_cache) = prepared.caches(recipe)?;
        if let Place::Gpu(..) = place {
            observer.message(&format!("computing on {}", place.describe()));
        }
        let (mut features, mut val_features) = (None, None);
        if recipe.strategy == Strategy::Head {
            let mut keep = |cache: &Arc<ImageCache>| {
                start::features(recipe, &model, &params, &trainable, cache, place, observer)
            };
            features = Some(keep(&train_cache)?);
            if model.task() == Task::Classify {
                let head = HeadNetwork::new(&model, trainable.clone(), Arc::clone(&pool));
                val_features = Some((keep(&val_cache)?, head));
            }
        }
        let gpu = match place {
            Place::Cpu(..) => {
                if let Some(features) = features {
                    step.keep_features(features);
                }
                None
            }
            Place::Gpu(device, precision, _) => {
                let network = (&model, trainable.clone(), params.values.as_slice());
                let deployed = &prepared.opened.model;
                let data = (recipe, on_gpu::Images::new(&train_cache, recipe), features);
                let side = on_gpu::GpuSide::new(
                    (device, *precision),
                    (network, deployed),
                    loss.clone(),
                    &optimiser,
                    data,
                )?;
                side.describe(observer);
                Some(side)
            }
        };
        Ok(Run {
            recipe,
            run_dir,
            grads: vec![0.0; params.values.len()],
            gathered: vec![0.0; params.values.len()],
            ema: Ema::new(&params.values),
            params,
            optimiser,
            schedule,
            counters: Counters { data_hash: prepared.dataset.hash.clone(), ..Counters::default() },
            stage: strategy::stage_at(recipe, 0),
            step,
            val_features,
            network,
            gpu,
            val_loss: DetectLoss::new(loss.clone()),
            loss,
            train_cache,
            val_cache,
            prepared,
            pace: Pace::new(recipe.save_every),
            saving: checkpoint::Saving::default(),
            drawn: Vec::new(),
        })
    }

    fn go(
        mut self,
        options: RunOptions,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<TrainOutcome, TrainError> {
        let recipe = self.recipe;
        let mut loader = self.feed()?;
        let before = if options.validate_start && self.counters.epoch == 0 && self.counters.batch == 0 {
            observer.message("validating the starting weights");
            let start = self.deployed(&self.params.values);
            let result = self.validation(&start, false, observer, stop)?;
            (!stop.load(Ordering::Relaxed)).then(|| result.metrics())
        } else {
            None
        };
        observer.start(&RunStart {
            run_dir: &self.run_dir,
            epochs: recipe.epochs,
            first_epoch: self.counters.epoch + 1,
            train_images: self.prepared.dataset.train.len(),
            val_images: self.prepared.dataset.val.len(),
            losses: self.term_names(),
        });
        let mut images_seen = 0usize;
        let mut busy = Duration::ZERO;
        let mut stopped = false;
        while self.counters.epoch < recipe.epochs {
            self.enter_stage(strategy::stage_at(recipe, self.counters.epoch), observer)?;
            let begun = Instant::now();
            let waited = loader.wait();
            let (ended, images) = match &mut loader {
                Feed::Host(loader) => self.epoch(loader, observer, stop)?,
                Feed::Tables(loader) => self.epoch_on_gpu(loader, observer, stop)?,
            };
            let took = begun.elapsed();
            self.pull()?;
            images_seen += images;
            busy += took;
            if matches!(ended, EpochEnded::Stopped) {
                stopped = true;
                break;
            }
            let out_of_time = matches!(ended, EpochEnded::OutOfTime);
            let rate = images as f64 / took.as_secs_f64();
            let wait = (loader.wait() - waited).as_secs_f64() / took.as_secs_f64();
            let Some(enough) = self.finish_epoch(out_of_time, (rate, wait), observer, stop)? else {
                stopped = true;
                break;
            };
            if enough || out_of_time {
                break;
            }
        }
        let data_wait_fraction = loader.wait().as_secs_f64() / busy.as_secs_f64().max(f64::MIN_POSITIVE);
        drop(loader);
        self.settle()?;
        let weights = self.run_dir.join("weights");
        let mut outcome = TrainOutcome {
            best: weights.join("best.safetensors"),
            last: weights.join("last.safetensors"),
            run_dir: self.run_dir.clone(),
            epochs: self.counters.rows.len() as u32,
            images_per_second: images_seen as f64 / busy.as_secs_f64().max(f64::MIN_POSITIVE),
            data_wait_fraction,
            metrics: None,
            before,
            kept: None,
            stopped,
            arena_bytes: self.gpu.as_ref().map_or_else(|| self.step.arena_bytes(), on_gpu::GpuSide::bytes),
        };
        if stopped {
            self.save()?;
            observer.message(&format!("stopped; `onsa resume {}` continues", self.run_dir.display()));
        } else {
            self.finish(&mut outcome, observer, stop)?;
        }
        Ok(outcome)
    }

    /// The training batches from here on.
    fn feed(&mut self) -> Result<Feed, TrainError> {
        let (config, position) = (self.loader_config(), self.counters.position());
        self.push()?;
        Ok(match &self.gpu {
            Some(gpu) => gpu.feed(config, position)?,
            None => Feed::Host(TrainLoader::new(Arc::clone(&self.train_cache), config, position)?),
        })
    }

    /// Lets learn what the stage has learn: a new plan, and an optimiser that starts afresh, for what has just thawed
    /// has no history.
    fn enter_stage(&mut self, stage: usize, observer: &mut dyn Observer) -> Result<(), TrainError> {
        if stage == self.stage {
            return Ok(());
        }
        self.stage = stage;
        let model = &self.prepared.network;
        let trainable = strategy::trainable(model, self.recipe, stage)?;
        observer.message(&format!(
            "stage {} of {}: {}",
            stage + 1,
            strategy::STAGES,
            strategy::describe(model, &trainable)
        ));
        let mut slots = slots(model, &trainable.params, self.optimiser.kind());
        strategy::decay_layers(model, &mut slots, self.recipe.layer_decay);
        strategy::hasten_new_rows(self.recipe, model, &mut slots, self.optimiser.kind());
        self.optimiser = self.optimiser.anew(&slots)?;
        self.gathered.fill(0.0);
        self.grads.fill(0.0);
        let (teacher, storage) = (self.step.take_teacher(), self.step.storage());
        let step = TrainStep::new(model, trainable.clone().into(), self.loss.clone(), self.network.pool());
        self.step = step.stored_in(storage);
        self.step.learn_from(teacher);
        if let Some(gpu) = &mut self.gpu {
            let network = (model, trainable.clone().into(), self.params.values.as_slice());
            gpu.retrain(network, self.loss.clone(), &self.optimiser)?;
        }
        self.prepared.trainable = trainable;
        self.push()
    }

    fn loader_config(&self) -> LoaderConfig {
        let r = self.recipe;
        LoaderConfig {
            imgsz: r.imgsz,
            batch: (r.batch as usize).min(self.prepared.dataset.train.len()),
            seed: r.seed,
            workers: loader_threads(r, self.gpu.is_some(), self.step.pool().current_num_threads()),
            augment: start::augmentation(r),
            classify: (self.task() == Task::Classify).then(|| start::classify_augmentation(r)),
            close_mosaic: r.close_mosaic,
            epochs: r.epochs,
            single_cls: r.single_cls,
            rect: r.rect,
            multi_scale: r.multi_scale,
            blank: r.strategy == Strategy::Head,
            second_group: self.prepared.added.as_ref().and_then(|added| added.second_group()),
            // The step makes floats of the bytes on their way into the network.
            floats: false,
            ..LoaderConfig::default()
        }
    }

    /// The rest of the current epoch's steps: how it ended, and how many images were seen.
    fn epoch(
        &mut self,
        loader: &mut TrainLoader,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<(EpochEnded, usize), TrainError> {
        let begun = Instant::now();
        let waited = loader.wait();
        let batches = loader.batches_per_epoch();
        let seconds_before = self.counters.seconds;
        let mut seen = 0;
        observer.epoch_start(self.counters.epoch + 1, self.recipe.epochs, batches);
        while self.counters.batch < batches {
            let next = self.step.pool().install(|| loader.next()).ok_or(TrainError::LoaderEnded)??;
            debug_assert_eq!(next.at, self.counters.position());
            let batch = next.batch;
            let has_images = !(batch.images.is_empty() && batch.images_u8.is_empty());
            if self.drawn.len() < DRAWN_BATCHES && self.counters.epoch == 0 && self.recipe.plots && has_images
            {
                self.drawn.push(finish::DrawnBatch::new(&batch));
            }
            let iteration =
                u64::from(self.counters.epoch) * u64::from(batches) + u64::from(self.counters.batch);
            match self.train_step(&batch, iteration, observer, stop) {
                // Amid a step nothing has changed yet: the run goes on with this batch.
                Err(TrainError::Step(StepError::Stopped)) => return Ok((EpochEnded::Stopped, seen)),
                result => result?,
            }
            seen += batch.n;
            self.counters.batch += 1;
            self.counters.seconds = seconds_before + begun.elapsed().as_secs_f64();
            let means: Vec<f32> = self.mean_losses().iter().map(|&x| x as f32).collect();
            observer.step(&Step {
                epoch: self.counters.epoch + 1,
                step: self.counters.batch,
                steps: batches,
                images: batch.n,
                losses: &means,
                objects: batch.targets.len(),
                elapsed: begun.elapsed(),
                waited: loader.wait() - waited,
            });
            loader.recycle(batch);
            // A state amid bad batches may be the cause of them: the one before is kept.
            if self.pace.is_due() && self.counters.bad == 0 && self.counters.batch < batches {
                self.save()?;
            }
            if stop.load(Ordering::Relaxed) {
                return Ok((EpochEnded::Stopped, seen));
            }
            if self.recipe.time.is_some_and(|hours| self.counters.seconds > hours * 3600.0) {
                observer.message("the time limit is reached");
                return Ok((EpochEnded::OutOfTime, seen));
            }
        }
        Ok((EpochEnded::Done, seen))
    }

    /// One batch: gradient, and where enough are gathered, a step of the optimiser and of the moving average.
    fn train_step(
        &mut self,
        batch: &crate::data::batch::Batch,
        iteration: u64,
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<(), TrainError> {
        let at = self.counters.position();
        match self.step.run_until(batch, &mut self.params, &mut self.grads, stop) {
            // Found here, it costs this batch alone, not all that were gathered.
            Ok(_) if !self.step.pool().install(|| finite::all(&self.grads)) => {
                self.skip(&batch.items, at, &NonFiniteGradient.to_string(), observer)?;
            }
            Ok(items) => {
                let terms = items.terms(self.step.task());
                self.counters.loss_sums.resize(terms.len(), 0.0);
                self.counters.loss_sums.iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
                self.counters.loss_count += 1;
                self.counters.bad = 0;
                self.counters.gathered += 1;
                let (gathered, grads) = (&mut self.gathered, &self.grads);
                self.step.pool().install(|| gather(gathered, grads));
            }
            Err(StepError::Loss(error)) => self.skip(&batch.items, at, &error.to_string(), observer)?,
            Err(error) => return Err(error.into()),
        }
        if self.schedule.steps(iteration, self.counters.last_step) {
            self.counters.last_step = Some(iteration);
            if std::mem::take(&mut self.counters.gathered) == 0 {
                return Ok(());
            }
            let rates = self.schedule.at(iteration);
            let (params, gathered) = (&mut self.params, &mut self.gathered);
            let (optimiser, ema) = (&mut self.optimiser, &mut self.ema);
            // In the compute threads, as all else that is computed.
            let stepped = self.step.pool().install(|| {
                clip_global_norm(gathered, optimiser.slots(), MAX_GRADIENT_NORM)?;
                optimiser.step(&mut params.values, gathered, &rates);
                let bad = finite::first_bad(params);
                if bad.is_none() {
                    ema.update(&params.values);
                }
                Ok::<_, NonFiniteGradient>(bad)
            });
            match stepped {
                Ok(None) => {}
                Ok(Some(tensor)) => {
                    return Err(TrainError::WeightsNotFinite { place: describe(at), tensor });
                }
                Err(error) => self.skip(&batch.items, at, &error.to_string(), observer)?,
            }
            self.gathered.fill(0.0);
        }
        Ok(())
    }

    /// A batch without a usable gradient: reported and left out; too many in a row end the run.
    fn skip(
        &mut self,
        items: &[usize],
        at: Position,
        reason: &str,
        observer: &mut dyn Observer,
    ) -> Result<(), TrainError> {
        self.counters.bad += 1;
        self.counters.skipped += 1;
        let paths: Vec<String> =
            items.iter().map(|&item| self.train_cache.items()[item].path.display().to_string()).collect();
        let place = describe(at);
        observer.warning(&format!("{place}: {reason}; the batch is left out ({})", paths.join(", ")));
        if self.counters.bad >= MAX_BAD_BATCHES {
            return Err(TrainError::Diverged { place, reason: reason.to_owned() });
        }
        Ok(())
    }

    fn task(&self) -> Task {
        self.step.task()
    }

    fn term_names(&self) -> &'static [&'static str] {
        term_names(self.task(), self.loss.distill.is_some())
    }

    fn mean_losses(&self) -> Vec<f64> {
        let mut means = vec![0.0; self.term_names().len()];
        for (mean, sum) in means.iter_mut().zip(&self.counters.loss_sums) {
            *mean = sum / f64::from(self.counters.loss_count.max(1));
        }
        means
    }

    /// Validates, writes weights, rows and checkpoint. `Some(true)`: patience has run out; None: stopped.
    fn finish_epoch(
        &mut self,
        last_anyway: bool,
        (rate, wait): (f64, f64),
        observer: &mut dyn Observer,
        stop: &AtomicBool,
    ) -> Result<Option<bool>, TrainError> {
        let recipe = self.recipe;
        let number = self.counters.epoch + 1;
        let last = number == recipe.epochs || last_anyway;
        // A few pictures now and then show a watcher what it has learnt; they cost far less than the validation itself.
        let sampled = recipe.plots && number.is_multiple_of((recipe.epochs / SAMPLINGS).max(1));
        let validation = if recipe.val || last {
            let averaged = self.averaged();
            let result = self.validation(&averaged, sampled, observer, stop)?;
            if stop.load(Ordering::Relaxed) {
                return Ok(None);
            }
            Some(result)
        } else {
            None
        };
        let rates = self.schedule.at((u64::from(number) * self.batches()).saturating_sub(1));
        let losses = self.mean_losses();
        let metrics = validation.as_ref().map(Validated::metrics);
        self.counters.rows.push(EpochRow {
            epoch: number,
            time: self.counters.seconds,
            train: losses.clone(),
            metrics: metrics.as_ref().map(Metrics::columns),
            val: validation.as_ref().map(Validated::losses),
            lr: Group::ALL.map(|group| rates.lr(group, 1.0)),
        });
        let fitness = metrics.as_ref().map_or(0.0, Metrics::fitness);
        let best = metrics.is_some() && self.counters.best.is_none_or(|(best, _)| fitness >= best);
        if best {
            self.counters.best = Some((fitness, number));
        }
        self.counters.epoch = number;
        self.counters.batch = 0;
        self.counters.loss_sums.clear();
        self.counters.loss_count = 0;
        self.save_epoch(best || self.counters.best.is_none(), last)?;
        // After the save: a disk that has no room for a picture costs no epoch.
        if let (true, Some(Validated::Detect(found))) = (sampled, &validation) {
            let names = &self.prepared.opened.names;
            finish::write_samples(&self.run_dir, found, &self.val_cache, names, recipe.single_cls)?;
        }
        let figures = metrics.as_ref().map_or(Vec::new(), Metrics::headline);
        let losses: Vec<f32> = losses.iter().map(|&x| x as f32).collect();
        observer.epoch_end(&EpochEnd {
            epoch: number,
            epochs: recipe.epochs,
            losses: &losses,
            metrics: &figures,
            best,
            images_per_second: rate,
            data_wait_fraction: wait,
        });
        let since_best = number - self.counters.best.map_or(number, |(_, epoch)| epoch);
        let enough = recipe.patience > 0 && since_best >= recipe.patience;
        if enough {
            observer.message(&format!(
                "no better validation in {since_best} epochs: training ends (patience={})",
                recipe.patience
            ));
        }
        Ok(Some(enough))
    }

    fn batches(&self) -> u64 {
        let images = self.prepared.dataset.train.len();
        images.div_ceil((self.recipe.batch as usize).min(images)) as u64
    }
}

/// Threads that draw batches ahead; 0: the `threads` that compute do it between two steps. Where there are few, others
/// would take their processors amid a step, and whoever waits for one that has lost its own waits for nothing.
fn loader_threads(recipe: &Recipe, on_gpu: bool, threads: usize) -> usize {
    let few = !on_gpu && threads <= FEW_THREADS;
    if few && !recipe.is_given("workers") { 0 } else { start::workers(recipe) }
}

#[cfg(test)]
mod tests;
