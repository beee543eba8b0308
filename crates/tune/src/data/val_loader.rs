//! Validation batches: letterboxed, by default with images of similar aspect ratios together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::boxes::{Label, Xyxy};

use super::batch::{Batch, PlannedBatch, assemble, rectangular_batches};
use super::cache::{ImageCache, ImageError};
use super::classify::centre_square;
use super::deep;
use super::letterbox::Letterbox;
use super::loader::{LoaderError, MAX_IMGSZ, Pool, give_back, take, thread_pool};
use super::prefetch::Prefetch;

/// Strides to spare around a rectangular batch's images.
const PAD: f64 = 0.5;

/// What a validation loader does.
#[derive(Clone, Debug, PartialEq)]
pub struct ValConfig {
    /// Network size in pixels; a multiple of `stride`.
    pub imgsz: u32,
    /// The model's largest stride in pixels.
    pub stride: u32,
    /// Images a batch, at least 1.
    pub batch: usize,
    /// Threads that make batches; 0 makes them in the caller's thread.
    pub workers: usize,
    /// Batches of similar aspect ratios, padded to half a stride; otherwise `imgsz` square in the items' order.
    pub rect: bool,
    /// Gives every label class 0.
    pub single_cls: bool,
    /// The middle square of each image in place of the letterboxed whole: how classifiers see. The cache must keep images
    /// by their short side.
    pub centre: bool,
    /// Whether to give the images as floats too; bytes are always given.
    pub floats: bool,
}

impl Default for ValConfig {
    fn default() -> ValConfig {
        ValConfig {
            imgsz: 640,
            stride: 32,
            batch: 32,
            workers: 8,
            rect: true,
            single_cls: false,
            centre: false,
            floats: true,
        }
    }
}

/// Where an item lies in its batch image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placed {
    /// The item.
    pub item: usize,
    /// Batch pixels per image pixel along x; differs from `scale_y` by rounding only.
    pub scale_x: f32,
    /// Batch pixels per image pixel along y.
    pub scale_y: f32,
    /// Padding left of the image, in batch pixels.
    pub pad_x: f32,
    /// Padding above the image, in batch pixels.
    pub pad_y: f32,
    /// Width of the original image in pixels.
    pub width: u32,
    /// Height of the original image in pixels.
    pub height: u32,
}

impl Placed {
    /// A box in batch pixels as pixels of the original image, cut off at its edges.
    pub fn to_image(&self, bbox: &Xyxy) -> Xyxy {
        let x = |v: f32| ((v - self.pad_x) / self.scale_x).clamp(0.0, self.width as f32);
        let y = |v: f32| ((v - self.pad_y) / self.scale_y).clamp(0.0, self.height as f32);
        Xyxy { x1: x(bbox.x1), y1: y(bbox.y1), x2: x(bbox.x2), y2: y(bbox.y2) }
    }
}

/// One validation batch.
#[derive(Clone, Debug, PartialEq)]
pub struct ValBatch {
    /// Images, and the labels as fractions of the batch image.
    pub batch: Batch,
    /// Where each image lies.
    pub placed: Vec<Placed>,
}

/// An iterator over all items once.
pub struct ValLoader {
    batches: Prefetch<Result<ValBatch, LoaderError>>,
    pool: Pool,
    stop: Arc<AtomicBool>,
    count: usize,
}

impl ValLoader {
    /// Starts making the batches. Errors: an argument out of range, no items, or threads that cannot be started. An
    /// image that cannot be read is an error in its batch's place.
    pub fn new(cache: Arc<ImageCache>, config: ValConfig) -> Result<ValLoader, LoaderError> {
        let ValConfig { imgsz, stride, batch, workers, rect, .. } = config;
        if stride == 0 || imgsz == 0 || imgsz > MAX_IMGSZ || !imgsz.is_multiple_of(stride) {
            return Err(LoaderError::Config(format!(
                "imgsz={imgsz}: must be a multiple of the model's stride, {stride}, from {stride} to {MAX_IMGSZ}"
            )));
        }
        if cache.imgsz() != imgsz {
            return Err(LoaderError::Config(format!(
                "imgsz={imgsz}: the image cache was made for {} pixels; use one size for both",
                cache.imgsz()
            )));
        }
        if batch == 0 {
            return Err(LoaderError::Config("batch=0: must be at least 1".to_owned()));
        }
        if cache.items().is_empty() {
            return Err(LoaderError::Empty);
        }
        let size = imgsz as usize;
        let plan = if rect {
            let sizes: Vec<(u32, u32)> = cache.items().iter().map(|item| (item.width, item.height)).collect();
            rectangular_batches(&sizes, batch, size, stride as usize, PAD)
        } else {
            let all: Vec<usize> = (0..cache.items().len()).collect();
            let square = |run: &[usize]| PlannedBatch { items: run.to_vec(), width: size, height: size };
            all.chunks(batch).map(square).collect()
        };
        let count = plan.len();
        let pool = Pool::default();
        let stop = Arc::new(AtomicBool::new(false));
        let threads = thread_pool(workers)?;
        let source = {
            let (pool, stop) = (Arc::clone(&pool), Arc::clone(&stop));
            plan.into_iter().map_while(move |plan| {
                let fill = || make(&cache, &config, &plan, &pool, &stop);
                let batch = match &threads {
                    Some(threads) => threads.install(fill),
                    None => fill(),
                };
                (!stop.load(Ordering::Relaxed)).then_some(batch)
            })
        };
        let ahead = if workers == 0 { 0 } else { 2 };
        let batches = Prefetch::new("onsa-validation", ahead, source)
            .map_err(|error| LoaderError::Threads(error.to_string()))?;
        Ok(ValLoader { batches, pool, stop, count })
    }

    /// Batches in all.
    pub fn batches(&self) -> usize {
        self.count
    }

    /// Gives a batch's memory back, so that the next batch need not ask the system for it.
    pub fn recycle(&self, batch: Batch) {
        give_back(&self.pool, batch);
    }

    /// How long the caller has waited for batches in all.
    pub fn wait(&self) -> Duration {
        self.batches.wait()
    }
}

fn make(
    cache: &ImageCache,
    config: &ValConfig,
    plan: &PlannedBatch,
    pool: &Pool,
    stop: &AtomicBool,
) -> Result<ValBatch, LoaderError> {
    let fit = |item: usize| {
        let item = &cache.items()[item];
        let (width, height) = super::resize::load_size(item.width, item.height, config.imgsz);
        Letterbox::fit((width as usize, height as usize), (plan.width, plan.height), false)
    };
    let placed_label = |fit: &Letterbox, label: &Label| {
        let class = if config.single_cls { 0 } else { label.class };
        fit.label_to_canvas(&Label { class, ..*label })
    };
    let render = |item: usize, out: &mut [u8]| -> Result<Vec<Label>, ImageError> {
        if stop.load(Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        let image = cache.get(item)?;
        if config.centre {
            centre_square(&image, plan.width, out);
            return Ok(cache.items()[item].labels.clone());
        }
        let fit = fit(item);
        fit.draw(&image, out);
        Ok(cache.items()[item].labels.iter().map(|label| placed_label(&fit, label)).collect())
    };
    let render_deep = |item: usize, out: &mut [u16]| -> Result<Vec<Label>, ImageError> {
        if stop.load(Ordering::Relaxed) {
            return Ok(Vec::new());
        }
        let image = cache.get_deep(item)?;
        if config.centre {
            deep::centre_square(&image, plan.width, out);
            return Ok(cache.items()[item].labels.clone());
        }
        let fit = fit(item);
        fit.draw_deep(&image, out);
        Ok(cache.items()[item].labels.iter().map(|label| placed_label(&fit, label)).collect())
    };
    let batch = match cache.pixels() {
        pixels if pixels.is_deep() => deep::assemble(plan, take(pool), pixels.channels, render_deep)?,
        _ => assemble(plan, take(pool), config.floats, render)?,
    };
    let placed = plan.items.iter().map(|&item| {
        let (fit, source) = (fit(item), &cache.items()[item]);
        Placed {
            item,
            scale_x: (fit.source_width as f64 * fit.ratio / f64::from(source.width)) as f32,
            scale_y: (fit.source_height as f64 * fit.ratio / f64::from(source.height)) as f32,
            pad_x: fit.left as f32,
            pad_y: fit.top as f32,
            width: source.width,
            height: source.height,
        }
    });
    let placed = placed.collect();
    Ok(ValBatch { batch, placed })
}

impl Iterator for ValLoader {
    type Item = Result<ValBatch, LoaderError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.batches.next()?.unwrap_or(Err(LoaderError::Lost)))
    }
}

impl Drop for ValLoader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::cache::CachePolicy;
    use crate::data::test_items::{drawing_decoder, drawn_items};

    fn batches(config: ValConfig) -> (Arc<ImageCache>, Vec<ValBatch>) {
        let items = drawn_items(7, &[(128, 64), (50, 90), (96, 96)]);
        let cache = Arc::new(ImageCache::new(items, 64, CachePolicy::None, drawing_decoder()));
        let loader = ValLoader::new(Arc::clone(&cache), config).unwrap();
        assert_eq!(loader.batches(), 3);
        let batches = loader.map(Result::unwrap).collect();
        (cache, batches)
    }

    #[test]
    fn labels_map_back_to_the_original_image() {
        let config = ValConfig { imgsz: 64, batch: 3, workers: 1, ..ValConfig::default() };
        let (cache, batches) = batches(config.clone());
        let shapes: Vec<_> = batches.iter().map(|b| (b.batch.n, b.batch.h, b.batch.w)).collect();
        assert_eq!(shapes, [(3, 64, 96), (3, 96, 96), (1, 96, 64)]);
        let mut boxes = 0;
        for ValBatch { batch, placed } in &batches {
            for target in &batch.targets {
                let placed = &placed[target.image as usize];
                let (w, h) = (placed.width as f32, placed.height as f32);
                let back = placed.to_image(&target.label.to_xyxy(batch.w as f32, batch.h as f32));
                let near = |label: &Label| {
                    let b = label.to_xyxy(w, h);
                    (b.x1 - back.x1).abs() < 0.01
                        && (b.y2 - back.y2).abs() < 0.01
                        && label.class == target.label.class
                };
                assert!(cache.items()[placed.item].labels.iter().any(near), "{back:?}");
                boxes += 1;
            }
        }
        assert_eq!(boxes, cache.items().iter().map(|item| item.labels.len()).sum::<usize>());
        let threads = self::batches(ValConfig { workers: 3, ..config.clone() }).1;
        let inline = self::batches(ValConfig { workers: 0, ..config }).1;
        assert!(threads == batches && inline == batches);
    }

    #[test]
    fn square_batches_keep_the_order() {
        let config = ValConfig { imgsz: 64, batch: 3, workers: 1, rect: false, ..ValConfig::default() };
        let (_, batches) = batches(config);
        let order: Vec<usize> = batches.iter().flat_map(|b| b.batch.items.clone()).collect();
        assert_eq!(order, (0..7).collect::<Vec<_>>());
        assert!(batches.iter().all(|b| (b.batch.h, b.batch.w) == (64, 64)));
        // 128 x 64 at a long side of 64: 32 rows, 16 rows of grey above.
        let top = &batches[0].batch.images_u8[..16 * 64 * 3];
        assert!(top.iter().all(|&v| v == 114));
        assert_ne!(batches[0].batch.images_u8[16 * 64 * 3..17 * 64 * 3], top[..64 * 3]);
    }
}
