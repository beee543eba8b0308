//! What a run starts from: data that may be trained on, a model with a head for its classes, what of it is trained.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use onsa_intake::picture::{self, Picture};

use super::added::{self, AddError, Added};
use super::auto;
use super::error::TrainError;
use super::observer::Observer;
use super::optimiser::Kind;
use super::optimiser::auto::{Choice, Wish, choose};
use super::recipe::Recipe;
use super::recipe::values::{self, AddClasses, Cache, Faulty, Pretrained, Strategy};
use super::schedule::{Schedule, ScheduleConfig};
use super::strategy;
use crate::data::audit::{Fault, without_faulty};
use crate::data::augment::AugmentConfig;
use crate::data::cache::{CachePolicy, Decoder, DeepDecoder, ImageCache, ImageError, Sizing};
use crate::data::classify::{self, ClassifyAugment, IdxStore, decode_idx};
use crate::data::dataset::{Dataset, Item, Pixels};
use crate::data::deep::Deep;
use crate::data::disk_cache::DiskCache;
use crate::data::index;
use crate::data::loader::LoaderError;
use crate::data::raster::Rgb8;
use crate::data::val_loader::{ValConfig, ValLoader};
use crate::engine::{self, Features, Inference, Place, StepError};
use crate::models::norm::{NormStatistics, calibrate};
use crate::models::open::{self, Opened, Source};
use crate::models::{Freeze, Model, Task, Trainable};

/// Images over which folded norms are calibrated, at most.
const CALIBRATION_IMAGES: usize = 16;
/// Faulty files that are named in the log.
const NAMED_FAULTS: usize = 10;

/// Data and model, ready.
pub struct Prepared {
    /// The images to train and validate on.
    pub dataset: Dataset,
    /// The model with its starting weights.
    pub opened: Opened,
    /// How it is fine-tuned: the recipe's strategy, or what `auto` chose.
    pub strategy: Strategy,
    /// The network that is trained: the model, or the model with adapters.
    pub network: Model,
    /// What of it is trained.
    pub trainable: Trainable,
    /// What the run has beside, where it adds classes.
    pub added: Option<Added>,
    /// Sentences about the start, for the report.
    pub notes: Vec<String>,
    /// Caches of the training and of the validation images that are there already.
    pub images: Option<(Arc<ImageCache>, Arc<ImageCache>)>,
}

/// Decodes image files as 8-bit RGB, upright; and the images within IDX files.
pub fn decoder() -> Decoder {
    let store = IdxStore::default();
    Arc::new(move |path: &Path| {
        if let Some(image) = decode_idx(&store, path) {
            return image;
        }
        let picture = picture::read_as(path, 3)?;
        let (width, height) = (picture.width as usize, picture.height as usize);
        Rgb8::new(width, height, picture.into_rgb8()).ok_or_else(|| "it has no pixels".into())
    })
}

/// The same with all their bits and `channels` channels.
pub fn deep_decoder(channels: usize) -> DeepDecoder {
    let store = IdxStore::default();
    Arc::new(move |path: &Path| match decode_idx(&store, path) {
        Some(image) => {
            let image = image?;
            let step = if channels == 1 { 3 } else { 1 };
            let data = image.data.iter().step_by(step).map(|&v| u16::from(v) * 257).collect();
            Deep::new(image.width, image.height, channels, data)
                .ok_or_else(|| format!("it is grey, and {channels} channels are expected").into())
        }
        None => deep_of(&picture::read_as(path, channels as u32)?, channels),
    })
}

/// A picture that was read for so many channels.
pub(crate) fn deep_of(
    picture: &Picture,
    channels: usize,
) -> Result<Deep, Box<dyn std::error::Error + Send + Sync>> {
    let data = picture.to_channels(channels as u32).ok_or("its channels are not those that are expected")?;
    Deep::new(picture.width as usize, picture.height as usize, channels, data)
        .ok_or_else(|| "it has no pixels".into())
}

/// A cache of items whose images are of that kind.
pub fn image_cache(items: Vec<Item>, imgsz: u32, policy: CachePolicy, pixels: Pixels) -> ImageCache {
    let cache = ImageCache::new(items, imgsz, policy, decoder());
    match pixels.is_deep() {
        true => cache.with_pixels(pixels, deep_decoder(pixels.channels)),
        false => cache,
    }
}

/// An image to look at: as it is, or of other bits and channels a preview ([`Deep::preview`]).
///
/// # Errors
/// It cannot be read.
pub fn shown(path: &Path, pixels: Pixels) -> Result<Rgb8, Box<dyn std::error::Error + Send + Sync>> {
    match pixels.is_deep() {
        true => Ok(deep_decoder(pixels.channels)(path)?.preview()),
        false => decoder()(path),
    }
}

impl Prepared {
    /// Caches of the training and of the validation images.
    ///
    /// # Errors
    /// The file of decoded images cannot be used.
    pub fn caches(&self, recipe: &Recipe) -> Result<(Arc<ImageCache>, Arc<ImageCache>), LoaderError> {
        if let Some((train, val)) = &self.images {
            return Ok((Arc::clone(train), Arc::clone(val)));
        }
        let (train, val) = sizings(recipe);
        let (budget, pixels) = (cache_budget(recipe), self.dataset.pixels);
        let make = |items: &[Item], sizing| cache_of(recipe, (items, pixels), sizing, budget).map(Arc::new);
        Ok((make(&self.dataset.train, train)?, make(&self.dataset.val, val)?))
    }
}

/// The bytes that decoded images may take.
pub fn cache_budget(recipe: &Recipe) -> CachePolicy {
    match recipe.cache {
        Cache::Ram => CachePolicy::Ram,
        Cache::Off if recipe.is_given("cache") => CachePolicy::None,
        _ => CachePolicy::Auto,
    }
}

/// A cache of these images for the recipe's input size; with a file behind it where the recipe wants one.
///
/// # Errors
/// The file of decoded images cannot be used.
pub fn cache_of(
    recipe: &Recipe,
    (items, pixels): (&[Item], Pixels),
    sizing: Sizing,
    budget: CachePolicy,
) -> Result<ImageCache, LoaderError> {
    let cache = image_cache(items.to_vec(), recipe.imgsz, budget, pixels).with_sizing(sizing);
    if recipe.cache == Cache::Disk && pixels.is_deep() {
        return Err(LoaderError::Config(format!(
            "cache=disk keeps RGB images of 8 bits, and these have {}: use cache=ram, or bits=8",
            pixels.describe()
        )));
    }
    if recipe.cache != Cache::Disk {
        return Ok(cache);
    }
    let disk = DiskCache::open(&DiskCache::folder(), items, recipe.imgsz)
        .map_err(|(path, source)| ImageError::Disk { path, source })?;
    Ok(cache.with_disk(disk))
}

/// At which size training and validation images are kept for the recipe.
pub fn sizings(recipe: &Recipe) -> (Sizing, Sizing) {
    match recipe.task.of_model() {
        Task::Detect => (Sizing::Long, Sizing::Long),
        // On kept features every epoch sees the same part of an image.
        Task::Classify if recipe.strategy == Strategy::Head => (Sizing::Short, Sizing::Short),
        Task::Classify => (Sizing::Crops, Sizing::Short),
    }
}

/// Reads data and model as the recipe says, and tells the observer what it found.
///
/// # Errors
/// See [`TrainError`].
pub fn prepare(recipe: &Recipe, observer: &mut dyn Observer) -> Result<Prepared, TrainError> {
    let dataset = load_data(recipe, observer)?;
    prepare_on(recipe, dataset, observer)
}

/// Where the model comes from, and whether weights come with it.
///
/// # Errors
/// There is no such model, or its file cannot be read.
pub fn source(recipe: &Recipe) -> Result<(Source, bool), TrainError> {
    let (source, weights) = match &recipe.pretrained {
        Pretrained::From(path) => (path.display().to_string(), true),
        Pretrained::Yes => (recipe.model.clone(), !recipe.model.ends_with(".yaml")),
        Pretrained::No => (recipe.model.clone(), false),
    };
    let source = open::find(&source, &open::default_folders(), weights)?;
    let weights = weights && matches!(source, Source::File { .. });
    Ok((source, weights))
}

/// As [`prepare`], on data that are there already.
///
/// # Errors
/// See [`TrainError`].
pub fn prepare_on(
    recipe: &Recipe,
    mut dataset: Dataset,
    observer: &mut dyn Observer,
) -> Result<Prepared, TrainError> {
    let (source, weights) = source(recipe)?;
    let imgsz = recipe.imgsz as usize;
    let (added, added_notes) = added::prepare(recipe, &source, &mut dataset, observer)?.unzip();
    let input = (Some(dataset.classes.as_slice()), Some(dataset.pixels.channels));
    let mut opened = open::open_for(&source, input, [imgsz, imgsz], weights, recipe.seed)?;
    let task = opened.model.task();
    if task != recipe.task.of_model() {
        return Err(TrainError::OtherTask { model: opened.model.architecture.name(), task: task.name() });
    }
    let mut notes = Vec::new();
    let mut note = |text: String| {
        observer.message(&text);
        notes.push(text);
    };
    if dataset.pixels.is_deep() {
        note(format!(
            "the images have {}: the processor trains on them, with all their bits; what changes colours (hsv_h, hsv_s, \
             hsv_v, and those of auto_augment) is left out{}",
            dataset.pixels.describe(),
            match dataset.pixels.channels {
                3 => "",
                1 =>
                    "; the first convolution takes the sum of the colour filters where the weights have three",
                _ => "; the first convolution takes the weights' filters in turn, scaled",
            }
        ));
    }
    let classes = opened.names.len();
    match &opened.weights {
        Some(from) => {
            note(format!(
                "{} from {} ({})",
                opened.model.architecture.name(),
                from.path.display(),
                from.format
            ));
            let kept: Vec<&str> = opened.transfer.kept.iter().map(|(name, ..)| name.as_str()).collect();
            note(match (kept.len(), opened.transfer.fresh.len()) {
                _ if added.is_some() => format!("head: {classes} classes"),
                (_, 0) => format!("head: all {classes} classes are kept"),
                (0, _) => format!(
                    "head: {classes} new classes ({}); none is in the checkpoint",
                    opened.names.join(", ")
                ),
                _ => format!("head: kept {}; new {}", kept.join(", "), opened.transfer.fresh.join(", ")),
            });
            if is_restrictive(&from.licence) {
                note(format!(
                    "licence: the starting weights are {}; what is trained from them is bound by it",
                    from.licence
                ));
            }
        }
        None => note(format!("{} from scratch, {classes} classes", opened.model.architecture.name())),
    }
    added_notes.into_iter().flatten().for_each(&mut note);
    let strategy = match recipe.strategy {
        Strategy::Auto => {
            let facts = auto::look(recipe, &dataset, &opened, observer)?;
            let (strategy, why) = auto::choose(&facts);
            let text = format!("strategy=auto: {}, because {why}", strategy.name());
            observer.message(&text);
            notes.push(text);
            strategy
        }
        asked => asked,
    };
    let mut note = |text: String| {
        observer.message(&text);
        notes.push(text);
    };
    let recipe = &Recipe { strategy, ..recipe.clone() };
    let network = strategy::network(&opened.model, recipe)?;
    let trainable = strategy::trainable(&network, recipe, strategy::stage_at(recipe, 0))?;
    if trainable != Trainable::new(&opened.model, &Freeze::None)? {
        note(strategy::describe(&network, &trainable));
    }
    if opened.folded {
        let images = calibrate_norms(recipe, &dataset, &mut opened)?;
        if let Some(Added { joined: Some(joined), start, .. }) = &added {
            joined.share(&start.params, &mut opened.params);
        }
        note(format!(
            "the checkpoint's norms were folded into its convolutions: restored over {images} images"
        ));
    }
    Ok(Prepared { dataset, opened, strategy, network, trainable, added, notes, images: None })
}

/// The same for a run that is continued: its own last weights give the architecture, its checkpoint will give the values.
///
/// # Errors
/// See [`TrainError`].
pub fn prepare_resumed(
    recipe: &Recipe,
    run_dir: &Path,
    observer: &mut dyn Observer,
) -> Result<Prepared, TrainError> {
    let last = run_dir.join("weights/last.safetensors");
    if !last.is_file() {
        // Stopped within the first epoch: the start is made again, with the same result.
        return prepare(recipe, observer);
    }
    let mut dataset = load_data(recipe, observer)?;
    let imgsz = recipe.imgsz as usize;
    let begun_with = super::files::starting_weights(run_dir)?;
    let added = match recipe.add_classes {
        AddClasses::Off => None,
        // The starting model is needed again: it teaches.
        _ => {
            let (start, _) = source(recipe)?;
            let added = added::prepare(recipe, &start, &mut dataset, observer)?.map(|(added, _)| added);
            let now = added.as_ref().and_then(|added| added.start.weights.as_ref());
            if let (Some(now), Some(then)) = (now, &begun_with)
                && now.sha256 != then.sha256
            {
                return Err(AddError::StartChanged { path: now.path.clone() }.into());
            }
            added
        }
    };
    let source = match &added {
        // The written weights are those of the joined model: the network that is trained is made as at first.
        Some(Added { joined: Some(_), .. }) => source(recipe)?.0,
        _ => open::find(&last.display().to_string(), &[], true)?,
    };
    let input = (Some(dataset.classes.as_slice()), Some(dataset.pixels.channels));
    let mut opened = open::open_for(&source, input, [imgsz, imgsz], true, recipe.seed)?;
    opened.folded = false;
    // What the run started from, not its own last weights.
    opened.weights = begun_with;
    let network = strategy::network(&opened.model, recipe)?;
    let trainable = strategy::trainable(&network, recipe, strategy::stage_at(recipe, 0))?;
    Ok(Prepared {
        dataset,
        opened,
        strategy: recipe.strategy,
        network,
        trainable,
        added,
        notes: Vec::new(),
        images: None,
    })
}

/// Reads the data set as the recipe says: faults are refused, or left out and named.
///
/// # Errors
/// See [`TrainError`].
pub fn load_data(recipe: &Recipe, observer: &mut dyn Observer) -> Result<Dataset, TrainError> {
    let (loaded, faults) = match recipe.task.of_model() {
        Task::Detect => {
            let loaded = index::load(&recipe.data, &recipe.load_options())?;
            (loaded.dataset, loaded.faults)
        }
        Task::Classify => {
            let loaded = classify::load(&recipe.data, &recipe.load_options())?;
            (loaded.dataset, loaded.faults)
        }
    };
    let dataset = without_errors(&recipe.data, loaded, &faults, recipe.faulty, observer)?;
    for (split, items) in [("train", &dataset.train), ("val", &dataset.val)] {
        if items.is_empty() {
            return Err(TrainError::EmptySplit { data: recipe.data.clone(), split });
        }
    }
    if dataset.train.iter().all(|item| item.labels.is_empty()) {
        return Err(TrainError::NoBoxes { data: recipe.data.clone() });
    }
    let boxes: usize = dataset.train.iter().map(|item| item.labels.len()).sum();
    let with_boxes = match recipe.task.of_model() {
        Task::Detect => format!(" with {boxes} boxes"),
        Task::Classify => String::new(),
    };
    observer.message(&format!(
        "data: {} training images{with_boxes}, {} validation images, {} classes",
        dataset.train.len(),
        dataset.val.len(),
        dataset.classes.len()
    ));
    Ok(dataset)
}

/// The data set at `path` as it may be trained on: what is faulty left out where that is wanted, else refused.
pub(super) fn without_errors(
    path: &Path,
    loaded: Dataset,
    faults: &[Fault],
    faulty: Faulty,
    observer: &mut dyn Observer,
) -> Result<Dataset, TrainError> {
    let errors: Vec<_> = faults.iter().filter(|f| f.is_error()).collect();
    for fault in faults.iter().filter(|f| !f.is_error()).take(NAMED_FAULTS) {
        observer.warning(&fault.to_string());
    }
    if errors.is_empty() {
        return Ok(loaded);
    }
    if faulty == Faulty::Refuse {
        return Err(TrainError::FaultyData {
            data: path.to_owned(),
            count: errors.len(),
            first: errors.iter().take(NAMED_FAULTS).map(|f| f.to_string()).collect(),
        });
    }
    let (kept, left_out) = without_faulty(&loaded, faults);
    observer.warning(&format!("{} faulty files are left out:", left_out.files.len()));
    for path in &left_out.files {
        observer.warning(&format!("  {}", path.display()));
    }
    Ok(kept)
}

/// What the frozen part of the network makes of each of `cache`'s images, unvaried.
///
/// # Errors
/// See [`TrainError`]: also where the features do not fit into memory.
pub fn features(
    recipe: &Recipe,
    model: &Model,
    params: &onsa_compute::Params,
    trainable: &onsa_compute::Trainable,
    cache: &Arc<ImageCache>,
    place: &Place,
    observer: &mut dyn Observer,
) -> Result<Features, TrainError> {
    let begun = Instant::now();
    let images = cache.items().len();
    let centre = model.task() == Task::Classify;
    let config = ValConfig {
        imgsz: recipe.imgsz,
        stride: if centre { 1 } else { ValConfig::default().stride },
        batch: (recipe.batch as usize).min(images),
        workers: workers(recipe),
        rect: false,
        single_cls: recipe.single_cls,
        centre,
        ..ValConfig::default()
    };
    let loader = ValLoader::new(Arc::clone(cache), config)?;
    let budget = CachePolicy::Auto.budget();
    let features = Features::compute(model, params, trainable, (loader, images), budget, place, |done| {
        observer.validating(done, images);
    })
    .map_err(StepError::Features)?;
    observer.message(&format!(
        "the frozen part has seen {images} images in {:.1} s; its features take {:.1} MiB",
        begun.elapsed().as_secs_f64(),
        features.bytes() as f64 / f64::from(1 << 20)
    ));
    Ok(features)
}

/// Sets folded norms from training images (letterboxed, unvaried). Returns how many.
fn calibrate_norms(recipe: &Recipe, dataset: &Dataset, opened: &mut Opened) -> Result<usize, TrainError> {
    let count = dataset.train.len().min(CALIBRATION_IMAGES);
    // Spread over the set, so that a sorted folder does not give one kind of image alone.
    let items: Vec<Item> =
        (0..count).map(|i| dataset.train[i * dataset.train.len() / count].clone()).collect();
    let cache = Arc::new(image_cache(items, recipe.imgsz, CachePolicy::None, dataset.pixels));
    let config = ValConfig {
        imgsz: recipe.imgsz,
        batch: count,
        workers: workers(recipe),
        rect: false,
        ..ValConfig::default()
    };
    let mut network =
        Inference::calibrating(&opened.model, opened.params.clone(), engine::threads(recipe.threads)?);
    for batch in ValLoader::new(cache, config)? {
        let batch = batch?.batch;
        network.run([batch.n, batch.h, batch.w], &batch.images)?;
    }
    let statistics: Vec<NormStatistics> = network
        .norm_statistics()?
        .into_iter()
        .map(|(name, mean, var)| NormStatistics { name, mean, var })
        .collect();
    calibrate(&mut opened.params, &statistics)?;
    Ok(count)
}

/// Turns the recipe's word for an optimiser into the optimiser; None is auto.
fn kind_of(optimizer: values::Optimizer) -> Option<Kind> {
    match optimizer {
        values::Optimizer::Auto => None,
        values::Optimizer::Sgd => Some(Kind::Sgd),
        values::Optimizer::AdamW => Some(Kind::AdamW),
        values::Optimizer::MuSgd => Some(Kind::MuSgd),
    }
}

/// Optimiser and rates for a recipe.
pub fn choose_optimiser(recipe: &Recipe, classes: usize, images: usize) -> Choice {
    let kind = kind_of(recipe.optimizer);
    let given = |name: &str, value: f64| (recipe.is_given(name) || kind.is_some()).then_some(value);
    let wish = Wish {
        kind,
        lr0: given("lr0", recipe.lr0),
        momentum: given("momentum", recipe.momentum),
        warmup_bias_lr: given("warmup_bias_lr", recipe.warmup_bias_lr),
    };
    let choice = choose(wish, classes, images, recipe.batch as usize, recipe.epochs as usize);
    strategy::adjust_rate(recipe, recipe.task.of_model(), choice)
}

/// The rates of every iteration.
pub fn schedule(recipe: &Recipe, choice: &Choice, images: usize) -> Schedule {
    Schedule::new(ScheduleConfig {
        lr0: choice.lr0,
        lrf: recipe.lrf,
        cos_lr: recipe.cos_lr,
        momentum: choice.momentum,
        weight_decay: recipe.weight_decay,
        warmup_epochs: recipe.warmup_epochs,
        warmup_momentum: recipe.warmup_momentum,
        warmup_bias_lr: choice.warmup_bias_lr,
        epochs: recipe.epochs as usize,
        batches: images.div_ceil((recipe.batch as usize).min(images)),
        batch: recipe.batch as usize,
        nbs: recipe.nbs as usize,
    })
}

/// Threads of the loaders: never more than the machine has cores.
pub fn workers(recipe: &Recipe) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    (recipe.workers as usize).min(cores)
}

/// The augmentation of a recipe.
pub fn augmentation(r: &Recipe) -> AugmentConfig {
    AugmentConfig {
        hsv_h: r.hsv_h,
        hsv_s: r.hsv_s,
        hsv_v: r.hsv_v,
        degrees: r.degrees,
        translate: r.translate,
        scale: r.scale,
        shear: r.shear,
        perspective: r.perspective,
        flipud: r.flipud,
        fliplr: r.fliplr,
        mosaic: r.mosaic,
        mixup: r.mixup,
        cutmix: r.cutmix,
        copy_paste: r.copy_paste,
    }
}

/// The augmentation of a classifier's recipe.
pub fn classify_augmentation(r: &Recipe) -> ClassifyAugment {
    ClassifyAugment {
        scale: r.scale,
        fliplr: r.fliplr,
        flipud: r.flipud,
        rand_augment: r.auto_augment == values::AutoAugment::RandAugment,
        hsv: (r.hsv_h, r.hsv_s, r.hsv_v),
        erasing: r.erasing,
    }
}

/// Whether a licence passes to what is made from the weights, or forbids trade with it.
fn is_restrictive(licence: &str) -> bool {
    let lower = licence.to_lowercase();
    ["gpl", "non-commercial", "noncommercial", "-nc", "cc-by-sa", "research"]
        .iter()
        .any(|word| lower.contains(word))
}
