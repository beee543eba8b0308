//! Training batches, made ahead of the training loop. A batch depends only on (seed, epoch, number in the epoch), so
//! the number of threads does not matter and a run can be continued at any batch.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use thiserror::Error;

use crate::boxes::Label;

use super::augment::{AugmentConfig, AugmentError, SampleParams};
use super::batch::{
    Batch, Buffers, PlannedBatch, assemble, rectangular_batches, shuffled_batches, shuffled_rectangular,
};
use super::cache::{ImageCache, ImageError};
use super::classify::ClassifyAugment;
use super::deep::{self, Deep};
use super::prefetch::Prefetch;
use super::raster::Rgb8;
use super::resize::resize_bilinear;
use super::rng::{Draw, Purpose};

/// The largest network size, in pixels. Image memory grows with its square.
pub const MAX_IMGSZ: u32 = 8192;

/// What a training loader does.
#[derive(Clone, Debug, PartialEq)]
pub struct LoaderConfig {
    /// Network size in pixels; a multiple of `stride`.
    pub imgsz: u32,
    /// The model's largest stride in pixels.
    pub stride: u32,
    /// Images a batch, at least 1.
    pub batch: usize,
    /// Seed of every random number.
    pub seed: u64,
    /// Threads that make batches; 0 makes them in the caller's thread.
    pub workers: usize,
    /// Finished batches that may wait, at least 1.
    pub prefetch: usize,
    /// How samples are varied.
    pub augment: AugmentConfig,
    /// How a classifier's samples are varied; then `augment` is idle, and the cache keeps images for crops.
    pub classify: Option<ClassifyAugment>,
    /// The last so many epochs run without mosaic, mix-up and cut-mix; a run shorter than that never closes.
    pub close_mosaic: u32,
    /// Epochs in all; the loader ends after the last.
    pub epochs: u32,
    /// Gives every label class 0.
    pub single_cls: bool,
    /// Batches of similar aspect ratios, padded as little as possible. No mosaic, mix-up and cut-mix.
    pub rect: bool,
    /// Batch sizes vary by +- this fraction of `imgsz`; 0 to below 1.
    pub multi_scale: f64,
    /// Batches that name their items and hold no images: for training on kept features.
    pub blank: bool,
    /// The first item of a second group: mosaics and mixes stay within a group.
    pub second_group: Option<usize>,
    /// Whether to give the images as floats too; bytes are always given.
    pub floats: bool,
    /// This process's number out of `world`, from 0.
    pub rank: u32,
    /// How many processes share the data, at least 1.
    pub world: u32,
}

impl Default for LoaderConfig {
    fn default() -> LoaderConfig {
        LoaderConfig {
            imgsz: 640,
            stride: 32,
            batch: 16,
            seed: 0,
            workers: 8,
            prefetch: 2,
            augment: AugmentConfig::default(),
            classify: None,
            close_mosaic: 10,
            epochs: 100,
            single_cls: false,
            rect: false,
            multi_scale: 0.0,
            blank: false,
            second_group: None,
            floats: true,
            rank: 0,
            world: 1,
        }
    }
}

impl LoaderConfig {
    /// The augmentation that an epoch (counted from 0) runs with.
    pub fn augment_at(&self, epoch: u32) -> AugmentConfig {
        // As in the reference, which closes when it comes to epoch `epochs - close_mosaic`: for a run that is
        // shorter than `close_mosaic` there is no such epoch.
        let closed = self.epochs >= self.close_mosaic && epoch >= self.epochs - self.close_mosaic;
        if closed || self.rect { self.augment.closed() } else { self.augment.clone() }
    }

    fn check(&self, cache: &ImageCache) -> Result<(), LoaderError> {
        self.augment.check()?;
        let refuse = |message: String| Err(LoaderError::Config(message));
        if self.stride == 0 || self.imgsz == 0 || !self.imgsz.is_multiple_of(self.stride) {
            return refuse(format!(
                "imgsz={}: must be a positive multiple of the model's stride, {}",
                self.imgsz, self.stride
            ));
        }
        if self.imgsz > MAX_IMGSZ {
            return refuse(format!("imgsz={}: must be at most {MAX_IMGSZ}", self.imgsz));
        }
        if cache.imgsz() != self.imgsz {
            return refuse(format!(
                "imgsz={}: the image cache was made for {} pixels; use one size for both",
                self.imgsz,
                cache.imgsz()
            ));
        }
        if self.batch == 0 || self.prefetch == 0 {
            return refuse(format!(
                "batch={} and prefetch={}: both must be at least 1",
                self.batch, self.prefetch
            ));
        }
        if !(0.0..1.0).contains(&self.multi_scale) {
            return refuse(format!(
                "multi_scale={}: must be at least 0 and below 1; the default is 0",
                self.multi_scale
            ));
        }
        if self.second_group.is_some_and(|from| from == 0 || from >= cache.items().len()) {
            return refuse("a group of images is empty".into());
        }
        if self.rank >= self.world {
            return refuse(format!("rank={}: must be below world, {}", self.rank, self.world));
        }
        if cache.items().is_empty() {
            return Err(LoaderError::Empty);
        }
        if cache.items().len() > u32::MAX as usize {
            return refuse(format!("{} items: at most {} can be trained on", cache.items().len(), u32::MAX));
        }
        Ok(())
    }

    /// The items, out of `items`, that may come together with this one in a sample.
    fn group_of(&self, item: usize, items: usize) -> Range<usize> {
        match self.second_group {
            Some(from) if item >= from => from..items,
            Some(from) => 0..from,
            None => 0..items,
        }
    }

    /// The side that batch `batch` of `epoch` is made for: `imgsz`, or drawn within `multi_scale` of it.
    fn batch_side(&self, epoch: u32, batch: u32) -> u32 {
        if self.multi_scale == 0.0 {
            return self.imgsz;
        }
        let size = f64::from(self.imgsz);
        let low = (size * (1.0 - self.multi_scale)) as u32;
        let high = (size * (1.0 + self.multi_scale)) as u32 + self.stride;
        let drawn = low + Draw::new(self.seed, epoch, batch, Purpose::BatchSize).below(high - low);
        (drawn / self.stride).max(1) * self.stride
    }
}

/// Why there is no batch.
#[derive(Debug, Error)]
pub enum LoaderError {
    /// An image cannot be used; the message names the file.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// An augmentation argument cannot be honoured.
    #[error(transparent)]
    Augment(#[from] AugmentError),
    /// Another argument cannot be honoured.
    #[error("{0}")]
    Config(String),
    /// Nothing to load.
    #[error("there are no images to load; check the data set's paths")]
    Empty,
    /// The loader's threads could not be started.
    #[error("the loader's threads cannot be started: {0}; try fewer workers")]
    Threads(String),
    /// The loader's thread ended early. A fault of the program.
    #[error("the data loader stopped unexpectedly; the message above says why. Please report it")]
    Lost,
}

/// A place in a training run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Epoch, from 0.
    pub epoch: u32,
    /// Batch within the epoch, from 0.
    pub batch: u32,
}

/// One batch and its place in the run.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Where in the run.
    pub at: Position,
    /// The images and targets.
    pub batch: Batch,
}

/// Batch memory that comes back from the consumer.
pub(crate) type Pool = Arc<Mutex<Vec<Buffers>>>;

/// Gives a batch's memory back.
pub(crate) fn give_back(pool: &Pool, batch: Batch) {
    let buffers = Buffers { bytes: batch.images_u8, floats: batch.images };
    pool.lock().unwrap_or_else(PoisonError::into_inner).push(buffers);
}

/// Memory for a batch: used memory where there is some.
pub(crate) fn take(pool: &Pool) -> Buffers {
    pool.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
}

/// A rayon pool of `workers` threads; `None` for 0.
pub(crate) fn thread_pool(workers: usize) -> Result<Option<rayon::ThreadPool>, LoaderError> {
    if workers == 0 {
        return Ok(None);
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(workers)
        .thread_name(|i| format!("onsa-loader-{i}"))
        .build()
        .map_err(|error| LoaderError::Threads(error.to_string()))?;
    Ok(Some(pool))
}

/// An iterator over a run's training batches.
pub struct TrainLoader {
    batches: Prefetch<Result<Step, LoaderError>>,
    pool: Pool,
    stop: Arc<AtomicBool>,
    per_epoch: u32,
}

impl TrainLoader {
    /// Starts making the batches of `cache`'s items from `start` on. Errors: an argument out of range, no items, or
    /// threads that cannot be started. An image that cannot be read is an error in its batch's place.
    pub fn new(cache: Arc<ImageCache>, config: LoaderConfig, start: Position) -> Result<Self, LoaderError> {
        let pool = Pool::default();
        let stop = Arc::new(AtomicBool::new(false));
        let ahead = if config.workers == 0 { 0 } else { config.prefetch };
        let workers = config.workers;
        let mut order = Order::new(cache, config, start)?;
        let per_epoch = order.plan(start.epoch).len() as u32;
        let source = Source {
            order,
            workers: thread_pool(workers)?,
            pool: Arc::clone(&pool),
            stop: Arc::clone(&stop),
        };
        let batches = Prefetch::new("onsa-loader", ahead, source)
            .map_err(|error| LoaderError::Threads(error.to_string()))?;
        Ok(TrainLoader { batches, pool, stop, per_epoch })
    }

    /// Batches an epoch; the last may be smaller than the others.
    pub fn batches_per_epoch(&self) -> u32 {
        self.per_epoch
    }

    /// Gives a batch's memory back, so that the next batch need not ask the system for it.
    pub fn recycle(&self, batch: Batch) {
        give_back(&self.pool, batch);
    }

    /// How long the caller has waited for batches in all. Against the run's time: the data-wait share.
    pub fn wait(&self) -> Duration {
        self.batches.wait()
    }
}

impl Iterator for TrainLoader {
    type Item = Result<Step, LoaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.batches.next()?.unwrap_or(Err(LoaderError::Lost)))
    }
}

impl Drop for TrainLoader {
    fn drop(&mut self) {
        // The batch that is being made is finished without reading further images; then its thread ends.
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Which items come together, batch after batch.
pub(crate) struct Order {
    pub(crate) cache: Arc<ImageCache>,
    pub(crate) config: LoaderConfig,
    at: Position,
    /// The fixed batches of rectangular training.
    rectangular: Option<Vec<PlannedBatch>>,
    /// The epoch that `planned` is for.
    epoch: Option<u32>,
    planned: Vec<PlannedBatch>,
}

impl Order {
    /// The order of `cache`'s items from `at` on. Errors: an argument out of range, or no items.
    pub(crate) fn new(
        cache: Arc<ImageCache>,
        config: LoaderConfig,
        at: Position,
    ) -> Result<Order, LoaderError> {
        config.check(&cache)?;
        let rectangular = config.rect.then(|| {
            let sizes: Vec<(u32, u32)> = cache.items().iter().map(|item| (item.width, item.height)).collect();
            rectangular_batches(&sizes, config.batch, config.imgsz as usize, config.stride as usize, 0.0)
        });
        Ok(Order { cache, config, at, rectangular, epoch: None, planned: Vec::new() })
    }

    /// The batch as it is drawn in its turn, under `multi_scale` at another size.
    pub(crate) fn size_of(&self, at: Position, planned: &PlannedBatch) -> PlannedBatch {
        rescaled(planned, self.config.batch_side(at.epoch, at.batch), self.config.stride)
    }

    /// The batches of an epoch.
    pub(crate) fn plan(&mut self, epoch: u32) -> &[PlannedBatch] {
        if self.epoch != Some(epoch) {
            let config = &self.config;
            let share = (config.rank, config.world);
            self.planned = match &self.rectangular {
                Some(fixed) => shuffled_rectangular(fixed, config.seed, epoch, share),
                None => {
                    let (items, size) = (self.cache.items().len(), config.imgsz as usize);
                    shuffled_batches(config.seed, epoch, items, config.batch, size, share)
                }
            };
            self.epoch = Some(epoch);
        }
        &self.planned
    }
}

impl Iterator for Order {
    type Item = (Position, PlannedBatch);

    fn next(&mut self) -> Option<Self::Item> {
        if self.at.batch as usize >= self.plan(self.at.epoch).len() {
            self.at = Position { epoch: self.at.epoch + 1, batch: 0 };
        }
        if self.at.epoch >= self.config.epochs {
            return None;
        }
        let at = self.at;
        self.at.batch += 1;
        Some((at, self.plan(at.epoch)[at.batch as usize].clone()))
    }
}

/// Makes the batches, one after the other.
struct Source {
    order: Order,
    workers: Option<rayon::ThreadPool>,
    pool: Pool,
    stop: Arc<AtomicBool>,
}

/// Draws a batch on the current rayon pool.
pub(crate) fn draw(
    order: &Order,
    at: Position,
    drawn: &PlannedBatch,
    buffers: Buffers,
    stop: &AtomicBool,
) -> Result<Batch, LoaderError> {
    let (config, cache) = (&order.config, &order.cache);
    if config.blank {
        let (n, items) = (drawn.items.len(), drawn.items.clone());
        return Ok(Batch { n, h: drawn.height, w: drawn.width, items, ..Batch::default() });
    }
    let augment = config.augment_at(at.epoch);
    let native = (drawn.width, drawn.height);
    let plan = order.size_of(at, drawn);
    let items = cache.items().len();
    if cache.pixels().is_deep() {
        return draw_deep(order, at, (&plan, native), &augment, buffers, stop);
    }
    let render = |item: usize, out: &mut [u8]| -> Result<Vec<Label>, ImageError> {
        if stop.load(Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        if let Some(augment) = &config.classify {
            let image = cache.get(item)?;
            let size = (image.width, image.height);
            let sample = augment.draw(config.seed, at.epoch, item, size, plan.width);
            out.copy_from_slice(&sample.render(&image, plan.width).data);
            return Ok(cache.items()[item].labels.clone());
        }
        let group = config.group_of(item, items);
        let size = config.imgsz as usize;
        let mut params = SampleParams::draw(&augment, config.seed, at.epoch, item, group.len(), size);
        params.shift_partners(group.start);
        let mut labels = if (plan.width, plan.height) == native {
            params.render(cache, native, out)?.labels
        } else {
            let mut image = Rgb8::filled(native.0, native.1, 0);
            let sample = params.render(cache, native, &mut image.data)?;
            out.copy_from_slice(&resize_bilinear(&image, plan.width, plan.height).data);
            sample.labels
        };
        if config.single_cls {
            labels.iter_mut().for_each(|label| label.class = 0);
        }
        Ok(labels)
    };
    Ok(assemble(&plan, buffers, config.floats, render)?)
}

/// As [`draw`], of images of other bits and channels.
fn draw_deep(
    order: &Order,
    at: Position,
    (plan, native): (&PlannedBatch, (usize, usize)),
    augment: &AugmentConfig,
    buffers: Buffers,
    stop: &AtomicBool,
) -> Result<Batch, LoaderError> {
    let (config, cache) = (&order.config, &order.cache);
    let (items, channels) = (cache.items().len(), cache.pixels().channels);
    let render = |item: usize, out: &mut [u16]| -> Result<Vec<Label>, ImageError> {
        if stop.load(Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        if let Some(augment) = &config.classify {
            let image = cache.get_deep(item)?;
            let size = (image.width, image.height);
            let sample = augment.draw(config.seed, at.epoch, item, size, plan.width);
            out.copy_from_slice(&sample.render_deep(&image, plan.width).data);
            return Ok(cache.items()[item].labels.clone());
        }
        let params = SampleParams::draw(augment, config.seed, at.epoch, item, items, config.imgsz as usize);
        let mut labels = if (plan.width, plan.height) == native {
            params.render_deep(cache, native, channels, out)?.labels
        } else {
            let mut image = Deep::filled(native.0, native.1, channels, 0);
            let sample = params.render_deep(cache, native, channels, &mut image.data)?;
            out.copy_from_slice(&deep::resize_bilinear(&image, plan.width, plan.height).data);
            sample.labels
        };
        if config.single_cls {
            labels.iter_mut().for_each(|label| label.class = 0);
        }
        Ok(labels)
    };
    Ok(deep::assemble(plan, buffers, channels, render)?)
}

impl Source {
    fn make(&self, at: Position, drawn: &PlannedBatch) -> Result<Step, LoaderError> {
        let buffers = take(&self.pool);
        let fill = || draw(&self.order, at, drawn, buffers, &self.stop);
        let batch = match &self.workers {
            Some(workers) => workers.install(fill),
            None => fill(),
        }?;
        Ok(Step { at, batch })
    }
}

/// The batch with its longer side brought from the network's size to `side`, both sides rounded up to strides.
fn rescaled(plan: &PlannedBatch, side: u32, stride: u32) -> PlannedBatch {
    let longer = plan.width.max(plan.height);
    if longer == side as usize {
        return plan.clone();
    }
    let factor = f64::from(side) / longer as f64;
    let stride = stride as usize;
    let scale = |length: usize| ((length as f64 * factor / stride as f64).ceil() as usize).max(1) * stride;
    PlannedBatch { items: plan.items.clone(), width: scale(plan.width), height: scale(plan.height) }
}

impl Iterator for Source {
    type Item = Result<Step, LoaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.stop.load(Ordering::Relaxed) {
            return None;
        }
        let (at, planned) = self.order.next()?;
        Some(self.make(at, &planned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::cache::CachePolicy;
    use crate::data::test_items::{drawing_decoder, drawn_items};

    const SIZES: [(u32, u32); 4] = [(64, 48), (50, 90), (96, 96), (66, 20)];

    fn cache(n: usize, policy: CachePolicy) -> Arc<ImageCache> {
        Arc::new(ImageCache::new(drawn_items(n, &SIZES), 64, policy, drawing_decoder()))
    }

    fn config() -> LoaderConfig {
        LoaderConfig {
            imgsz: 64,
            batch: 4,
            workers: 1,
            epochs: 3,
            close_mosaic: 1,
            augment: AugmentConfig {
                degrees: 10.0,
                mixup: 0.3,
                cutmix: 0.3,
                flipud: 0.3,
                ..AugmentConfig::default()
            },
            ..LoaderConfig::default()
        }
    }

    fn steps(config: LoaderConfig, policy: CachePolicy, start: Position) -> Vec<Step> {
        TrainLoader::new(cache(10, policy), config, start).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn the_number_of_threads_and_the_cache_change_nothing() {
        let one = steps(config(), CachePolicy::Bytes(1 << 20), Position::default());
        assert_eq!(one.len(), 9);
        assert_eq!(one.iter().map(|step| step.batch.n).collect::<Vec<_>>(), [4, 4, 2, 4, 4, 2, 4, 4, 2]);
        assert!(one.iter().any(|step| !step.batch.targets.is_empty()));
        let three = LoaderConfig { workers: 3, prefetch: 4, ..config() };
        assert_eq!(steps(three, CachePolicy::None, Position::default()), one);
        let inline = LoaderConfig { workers: 0, ..config() };
        assert_eq!(steps(inline, CachePolicy::Bytes(9000), Position::default()), one);
        assert_ne!(steps(LoaderConfig { seed: 1, ..config() }, CachePolicy::None, Position::default()), one);
        assert_ne!(one[0].batch.images_u8, one[3].batch.images_u8);
    }

    #[test]
    fn a_run_continues_at_any_batch() {
        let whole = steps(config(), CachePolicy::None, Position::default());
        for skip in [1, 4, 5] {
            let start = Position { epoch: skip / 3, batch: skip % 3 };
            assert_eq!(steps(config(), CachePolicy::None, start), whole[skip as usize..]);
        }
        let past_the_end = Position { epoch: 1, batch: 3 };
        assert_eq!(steps(config(), CachePolicy::None, past_the_end), whole[6..]);
    }

    #[test]
    fn every_epoch_shows_every_item_once() {
        for rect in [false, true] {
            for epoch in
                steps(LoaderConfig { rect, ..config() }, CachePolicy::None, Position::default()).chunks(3)
            {
                let mut items: Vec<usize> = epoch.iter().flat_map(|step| step.batch.items.clone()).collect();
                items.sort_unstable();
                assert_eq!(items, (0..10).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn mosaics_and_mixes_stay_within_a_group() {
        let mut items = drawn_items(10, &SIZES);
        for (i, item) in items.iter_mut().enumerate() {
            item.labels.iter_mut().for_each(|label| label.class = u32::from(i >= 6));
        }
        let cache = Arc::new(ImageCache::new(items, 64, CachePolicy::None, drawing_decoder()));
        let config = LoaderConfig { second_group: Some(6), ..config() };
        let mut seen = [0; 2];
        for step in TrainLoader::new(Arc::clone(&cache), config.clone(), Position::default()).unwrap() {
            let batch = step.unwrap().batch;
            for target in &batch.targets {
                let group = usize::from(batch.items[target.image as usize] >= 6);
                assert_eq!(target.label.class as usize, group);
                seen[group] += 1;
            }
        }
        assert!(seen.iter().all(|&boxes| boxes > 10), "{seen:?}");
        let empty = LoaderConfig { second_group: Some(10), ..config };
        assert!(TrainLoader::new(cache, empty, Position::default()).is_err());
    }

    #[test]
    fn ranks_divide_the_data() {
        let rank = |rank| {
            let config = LoaderConfig { rank, world: 2, epochs: 1, batch: 2, ..config() };
            let steps = steps(config, CachePolicy::None, Position::default());
            steps.into_iter().flat_map(|step| step.batch.items).collect::<Vec<_>>()
        };
        let mut all = [rank(0), rank(1)].concat();
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn mosaic_closes_for_the_last_epochs_only() {
        let at = |config: &LoaderConfig, epoch| config.augment_at(epoch).mosaic;
        let usual = LoaderConfig { epochs: 20, ..LoaderConfig::default() };
        assert_eq!((at(&usual, 9), at(&usual, 10), at(&usual, 19)), (1.0, 0.0, 0.0));
        let short = LoaderConfig { epochs: 5, ..LoaderConfig::default() };
        assert_eq!((at(&short, 0), at(&short, 4)), (1.0, 1.0));
        let never = LoaderConfig { close_mosaic: 0, ..usual };
        assert_eq!(at(&never, 19), 1.0);
    }

    #[test]
    fn boxes_stay_in_range_and_keep_their_class_unless_single() {
        let uncut = AugmentConfig { cutmix: 0.0, ..config().augment };
        let all = steps(LoaderConfig { augment: uncut, ..config() }, CachePolicy::None, Position::default());
        let mut classes = std::collections::BTreeSet::new();
        for target in all.iter().flat_map(|step| &step.batch.targets) {
            let corners = target.label.to_xyxy(1.0, 1.0);
            assert!(corners.x1 >= -1e-6 && corners.y1 >= -1e-6, "{corners:?}");
            assert!(corners.x2 <= 1.0 + 1e-6 && corners.y2 <= 1.0 + 1e-6, "{corners:?}");
            assert!(target.label.w * 64.0 > 2.0 && target.label.h * 64.0 > 2.0);
            classes.insert(target.label.class);
        }
        assert!(classes.len() > 1);
        let single =
            steps(LoaderConfig { single_cls: true, ..config() }, CachePolicy::None, Position::default());
        assert!(single.iter().flat_map(|step| &step.batch.targets).all(|target| target.label.class == 0));
    }

    #[test]
    fn sizes_vary_with_multi_scale_and_rect() {
        let varied = LoaderConfig { multi_scale: 0.5, epochs: 8, ..config() };
        let all = steps(varied, CachePolicy::None, Position::default());
        let sides: std::collections::BTreeSet<usize> = all.iter().map(|step| step.batch.w).collect();
        assert_eq!(sides.into_iter().collect::<Vec<_>>(), [32, 64, 96]);
        assert!(all.iter().all(|s| s.batch.images.len() == s.batch.n * s.batch.h * s.batch.w * 3));
        let rect =
            steps(LoaderConfig { rect: true, batch: 2, ..config() }, CachePolicy::None, Position::default());
        assert!(rect.iter().any(|step| step.batch.h < step.batch.w));
    }

    #[test]
    fn without_augmentation_images_are_centred_on_grey() {
        let plain =
            LoaderConfig { augment: AugmentConfig::none(), batch: 1, epochs: 1, close_mosaic: 0, ..config() };
        let cache = cache(10, CachePolicy::None);
        for step in TrainLoader::new(Arc::clone(&cache), plain, Position::default()).unwrap() {
            let batch = step.unwrap().batch;
            let image = cache.get(batch.items[0]).unwrap();
            let fit = crate::data::letterbox::Letterbox::fit((image.width, image.height), (64, 64), true);
            assert_eq!(batch.images_u8, fit.apply(&image).data);
            let labels = &cache.items()[batch.items[0]].labels;
            assert_eq!(batch.targets.len(), labels.len());
            for (target, label) in batch.targets.iter().zip(labels) {
                let expected = fit.label_to_canvas(label);
                assert!(
                    (target.label.cx - expected.cx).abs() < 1e-5
                        && (target.label.h - expected.h).abs() < 1e-5
                );
            }
        }
    }

    #[test]
    fn a_broken_image_is_an_error_in_its_place() {
        let mut items = drawn_items(6, &SIZES);
        items[4].path = "images/broken.jpg".into();
        let cache = Arc::new(ImageCache::new(items, 64, CachePolicy::None, drawing_decoder()));
        let config =
            LoaderConfig { augment: AugmentConfig::none(), batch: 2, epochs: 1, close_mosaic: 0, ..config() };
        let mut seen = 0;
        let mut errors = Vec::new();
        for step in TrainLoader::new(cache, config, Position::default()).unwrap() {
            match step {
                Ok(step) => seen += step.batch.n,
                Err(error) => errors.push(error.to_string()),
            }
        }
        assert_eq!((seen, errors.len()), (4, 1));
        assert!(errors[0].starts_with("images/broken.jpg: "), "{}", errors[0]);
    }

    #[test]
    fn memory_comes_back_and_dropping_ends_the_threads() {
        let mut loader =
            TrainLoader::new(cache(10, CachePolicy::None), config(), Position::default()).unwrap();
        assert_eq!(loader.batches_per_epoch(), 3);
        let first = loader.next().unwrap().unwrap();
        loader.recycle(first.batch);
        let pool = Arc::downgrade(&loader.pool);
        drop(loader);
        // The thread held the other reference to the pool.
        assert!(pool.upgrade().is_none());
    }

    #[test]
    fn refuses_what_it_cannot_do() {
        let refuse = |config: LoaderConfig| {
            TrainLoader::new(cache(2, CachePolicy::None), config, Position::default())
                .err()
                .unwrap()
                .to_string()
        };
        assert!(refuse(LoaderConfig { imgsz: 65, ..config() }).starts_with("imgsz=65"));
        assert!(refuse(LoaderConfig { imgsz: 96, ..config() }).contains("cache"));
        assert!(refuse(LoaderConfig { batch: 0, ..config() }).starts_with("batch=0"));
        assert!(refuse(LoaderConfig { multi_scale: 1.0, ..config() }).starts_with("multi_scale=1"));
        assert!(refuse(LoaderConfig { rank: 1, ..config() }).starts_with("rank=1"));
        let masks = AugmentConfig { copy_paste: 0.5, ..AugmentConfig::default() };
        assert!(refuse(LoaderConfig { augment: masks, ..config() }).contains("masks"));
        let empty = TrainLoader::new(cache(0, CachePolicy::None), config(), Position::default());
        assert!(matches!(empty.err(), Some(LoaderError::Empty)));
    }
}
