//! Training batches as tables for the GPU, made ahead of the training loop: the samples, their order and their random
//! numbers are those of the processor's loader.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rayon::prelude::*;

use super::augment::{ColourRow, SampleRow};
use super::crops::{CropRow, CropTables, TapRow};
use super::pixels::{BatchImages, PixelError, PixelStore};
use crate::data::augment::SampleParams;
use crate::data::augment::sample::SamplePlan;
use crate::data::batch::{Buffers, PlannedBatch, Target};
use crate::data::cache::ImageCache;
use crate::data::classify::ClassifyAugment;
use crate::data::loader::{LoaderConfig, LoaderError, Order, Position, draw, thread_pool};
use crate::data::prefetch::Prefetch;

/// Batches that may wait.
const AHEAD: usize = 2;

/// A batch that the GPU can draw.
pub struct TableBatch {
    /// Where in the run.
    pub at: Position,
    /// Images, height and width.
    pub size: [usize; 3],
    /// The item in each place.
    pub items: Vec<usize>,
    /// All boxes, ordered by image.
    pub targets: Vec<Target>,
    /// What it is drawn from.
    pub pixels: Pixels,
}

/// What a batch is drawn from.
pub enum Pixels {
    /// Images on the GPU.
    Tables {
        /// How each image is drawn.
        samples: Vec<SampleRow>,
        /// Each image's colours.
        colours: Vec<ColourRow>,
        /// Keeps the pixels on the GPU.
        images: BatchImages,
    },
    /// The same for a classifier.
    Crops {
        /// How each image is drawn.
        rows: Vec<CropRow>,
        /// What each image's columns and rows are made of.
        taps: Vec<TapRow>,
        /// Each image's colours; nothing without jitter.
        colours: Vec<ColourRow>,
        /// Keeps the pixels on the GPU.
        images: BatchImages,
    },
    /// Ready pixels, `[n, h, w, 3]`: batches that are made smaller or larger after they were drawn (`multi_scale`), and crops
    /// that are much larger than the network's input, come from the processor.
    Bytes(Vec<u8>),
    /// None: the items' kept features serve.
    Kept,
}

impl Pixels {
    /// The images that the GPU draws from.
    pub fn images(&self) -> Option<&BatchImages> {
        match self {
            Pixels::Tables { images, .. } | Pixels::Crops { images, .. } => Some(images),
            Pixels::Bytes(_) | Pixels::Kept => None,
        }
    }
}

/// Why there is no batch.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// As on the processor.
    #[error(transparent)]
    Loader(#[from] LoaderError),
    /// The pixels cannot be brought to the GPU.
    #[error(transparent)]
    Pixels(#[from] PixelError),
}

/// An iterator over a run's training batches.
pub struct TableLoader {
    batches: Prefetch<Result<TableBatch, TableError>>,
    stop: Arc<AtomicBool>,
    per_epoch: u32,
}

impl TableLoader {
    /// Starts making the batches of the store's items from `start` on.
    ///
    /// # Errors
    /// As for the processor's loader.
    pub fn new(
        cache: Arc<ImageCache>,
        store: Arc<PixelStore>,
        config: LoaderConfig,
        start: Position,
    ) -> Result<TableLoader, LoaderError> {
        let config = LoaderConfig { floats: false, ..config };
        let stop = Arc::new(AtomicBool::new(false));
        let workers = thread_pool(config.workers.max(1))?.expect("at least one worker");
        let mut order = Order::new(cache, config, start)?;
        let per_epoch = order.plan(start.epoch).len() as u32;
        let stopped = Arc::clone(&stop);
        let source = std::iter::from_fn(move || {
            if stopped.load(Ordering::Relaxed) {
                return None;
            }
            let (at, planned) = order.next()?;
            Some(workers.install(|| make(&order, &store, at, &planned, &stopped)))
        });
        let batches = Prefetch::new("onsa-tables", AHEAD, source)
            .map_err(|error| LoaderError::Threads(error.to_string()))?;
        Ok(TableLoader { batches, stop, per_epoch })
    }

    /// Batches an epoch; the last may be smaller than the others.
    pub fn batches_per_epoch(&self) -> u32 {
        self.per_epoch
    }

    /// How long the caller has waited for batches in all.
    pub fn wait(&self) -> Duration {
        self.batches.wait()
    }
}

impl Iterator for TableLoader {
    type Item = Result<TableBatch, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.batches.next()?.unwrap_or(Err(LoaderError::Lost.into())))
    }
}

impl Drop for TableLoader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn make(
    order: &Order,
    store: &Arc<PixelStore>,
    at: Position,
    planned: &PlannedBatch,
    stop: &AtomicBool,
) -> Result<TableBatch, TableError> {
    let (config, items) = (&order.config, order.cache.items());
    let drawn = || -> Result<TableBatch, TableError> {
        let batch = draw(order, at, planned, Buffers::default(), stop)?;
        let pixels = if config.blank { Pixels::Kept } else { Pixels::Bytes(batch.images_u8) };
        let size = [batch.n, batch.h, batch.w];
        Ok(TableBatch { at, size, items: batch.items, targets: batch.targets, pixels })
    };
    if config.blank || order.size_of(at, planned) != *planned {
        return drawn();
    }
    if let Some(augment) = &config.classify {
        return match crops(order, store, augment, at, planned)? {
            Some(batch) => Ok(batch),
            None => drawn(),
        };
    }
    let augment = config.augment_at(at.epoch);
    let shape = (planned.width, planned.height);
    let size = config.imgsz as usize;
    let mut plans: Vec<(SampleParams, SamplePlan)> = planned
        .items
        .par_iter()
        .map(|&item| {
            let params = SampleParams::draw(&augment, config.seed, at.epoch, item, items.len(), size);
            let plan = params.plan(items, config.imgsz, shape);
            (params, plan)
        })
        .collect();
    let needed = plans.iter().flat_map(|(_, plan)| plan.items()).collect();
    let images = store.bring(needed)?;
    let rows: Vec<(SampleRow, ColourRow)> = plans
        .par_iter()
        .map(|(params, plan)| {
            let colours = params.hsv.as_ref().map_or_else(ColourRow::default, ColourRow::new);
            (SampleRow::new(params, plan, |item| images.image(item)), colours)
        })
        .collect();
    let (samples, colours) = rows.into_iter().unzip();
    let mut targets = Vec::new();
    for (image, (_, plan)) in plans.iter_mut().enumerate() {
        targets.extend(plan.labels.drain(..).map(|mut label| {
            if config.single_cls {
                label.class = 0;
            }
            Target { image: image as u32, label }
        }));
    }
    Ok(TableBatch {
        at,
        size: [planned.items.len(), planned.height, planned.width],
        items: planned.items.clone(),
        targets,
        pixels: Pixels::Tables { samples, colours, images },
    })
}

/// A classifier's batch; none where a crop is too large for the GPU's tables.
fn crops(
    order: &Order,
    store: &Arc<PixelStore>,
    augment: &ClassifyAugment,
    at: Position,
    planned: &PlannedBatch,
) -> Result<Option<TableBatch>, TableError> {
    let (seed, side) = (order.config.seed, planned.width);
    let images = store.bring(planned.items.clone())?;
    let tables: Option<Vec<CropTables>> = planned
        .items
        .par_iter()
        .map(|&item| {
            let (width, height) = order.cache.size_of(item);
            let size = (width as usize, height as usize);
            let sample = augment.draw(seed, at.epoch, item, size, side);
            CropTables::new(&sample, images.image(item), size, side)
        })
        .collect();
    let Some(tables) = tables else { return Ok(None) };
    let labels = |(image, &item): (usize, &usize)| {
        order.cache.items()[item].labels.iter().map(move |&label| Target { image: image as u32, label })
    };
    let targets = planned.items.iter().enumerate().flat_map(labels).collect();
    let rows = tables.iter().map(|table| table.row).collect();
    let taps = tables.iter().flat_map(|table| table.taps.iter().copied()).collect();
    let colours = tables.iter().filter_map(|table| table.colours).collect();
    Ok(Some(TableBatch {
        at,
        size: [planned.items.len(), side, side],
        items: planned.items.clone(),
        targets,
        pixels: Pixels::Crops { rows, taps, colours, images },
    }))
}
