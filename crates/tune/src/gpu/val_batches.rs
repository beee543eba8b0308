//! Validation's batches as bytes in the GPU's memory: brought there once, where they fit, and used in every epoch.

use std::sync::Arc;

use onsa_compute::cuda::DeviceBuffer;

use super::Gpu;
use super::loss::TargetTable;
use crate::data::cache::ImageCache;
use crate::data::val_loader::{Placed, ValConfig, ValLoader};
use crate::evaluate::validate::ValidateError;

/// The part of the GPU's free memory that validation's images may take: one in this many.
const PIXEL_SHARE: usize = 4;

/// A batch on the GPU.
pub(super) struct Batch {
    pub(super) size: [usize; 3],
    pub(super) bytes: DeviceBuffer<u8>,
    pub(super) targets: TargetTable,
    pub(super) placed: Vec<Placed>,
}

/// The batches, once they have been brought.
#[derive(Default)]
pub(super) struct ValBatches(Vec<Batch>);

impl ValBatches {
    /// All batches of `cache`'s items, which must be the same at every call.
    ///
    /// # Errors
    /// See [`ValidateError`].
    pub(super) fn feed(
        &mut self,
        gpu: &Gpu,
        cache: &Arc<ImageCache>,
        config: &ValConfig,
    ) -> Result<Feed, ValidateError> {
        if !self.0.is_empty() {
            let batches = std::mem::take(&mut self.0);
            return Ok(Feed {
                count: batches.len(),
                source: Source::Kept(batches.into_iter()),
                kept: Some(Vec::new()),
            });
        }
        let loader = ValLoader::new(Arc::clone(cache), ValConfig { floats: false, ..config.clone() })?;
        let (free, _) = gpu.device().memory()?;
        // Rectangular batches are hardly larger than the images in them; square ones not by more than twice.
        let fits = 2 * cache.bytes_needed() as usize <= free / PIXEL_SHARE;
        Ok(Feed { count: loader.batches(), source: Source::Loader(loader), kept: fits.then(Vec::new) })
    }

    /// Takes a feed's batches back at its end.
    pub(super) fn keep(&mut self, feed: Feed) {
        self.0 = feed.end();
    }
}

/// Batches, from the loader the first time, and afterwards from the GPU's memory where they fit.
pub(super) struct Feed {
    /// Batches in all.
    pub(super) count: usize,
    source: Source,
    kept: Option<Vec<Batch>>,
}

enum Source {
    Loader(ValLoader),
    Kept(std::vec::IntoIter<Batch>),
}

impl Feed {
    /// The next batch, its classes below `nc`.
    ///
    /// # Errors
    /// See [`ValidateError`].
    pub(super) fn next(&mut self, gpu: &Gpu, nc: usize) -> Result<Option<Batch>, ValidateError> {
        let loader = match &mut self.source {
            Source::Kept(batches) => return Ok(batches.next()),
            Source::Loader(loader) => loader,
        };
        let Some(next) = loader.next() else { return Ok(None) };
        let val = next?;
        let (n, height, width) = (val.batch.n, val.batch.h, val.batch.w);
        let bytes = DeviceBuffer::from_slice(gpu.device(), &val.batch.images_u8)?;
        let targets = TargetTable::new(&val.batch.targets, n, (height, width), nc)?;
        loader.recycle(val.batch);
        Ok(Some(Batch { size: [n, height, width], bytes, targets, placed: val.placed }))
    }

    /// Takes a batch back that is done.
    pub(super) fn keep(&mut self, batch: Batch) {
        if let Some(kept) = &mut self.kept {
            kept.push(batch);
        }
    }

    /// What may be used again: all batches or none.
    fn end(self) -> Vec<Batch> {
        let mut kept = self.kept.unwrap_or_default();
        if let Source::Kept(rest) = self.source {
            kept.extend(rest);
        }
        if kept.len() == self.count { kept } else { Vec::new() }
    }
}
