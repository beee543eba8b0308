//! Validation's batches as bytes: made once, where they fit, and used in every epoch. A small set's stay in the GPU's memory,
//! a larger one's in the host's, from where the GPU copies one after the other.

use std::sync::Arc;

use onsa_compute::cuda::{CudaError, Device, DeviceBuffer, PinnedBuffer, Workspace};

use super::Gpu;
use super::loss::TargetTable;
use super::pixels::FEW;
use crate::data::cache::ImageCache;
use crate::data::val_loader::{Placed, ValConfig, ValLoader};
use crate::evaluate::validate::ValidateError;

/// The part of the GPU's free memory that validation's images may take: one in this many.
const PIXEL_SHARE: usize = 4;

/// Lets a validator's runs use this memory from now on; those that were made within another's go.
pub(super) fn run_within<R>(workspace: &Workspace, own: &mut Option<Workspace>, runs: &mut Vec<R>) {
    if own.as_ref().is_none_or(|own| !own.shares_arena(workspace)) {
        runs.clear();
        *own = Some(workspace.clone());
    }
}

/// A batch, ready for the GPU.
pub(super) struct Batch {
    pub(super) size: [usize; 3],
    bytes: Bytes,
    pub(super) targets: TargetTable,
    pub(super) placed: Vec<Placed>,
}

/// Where a batch's pixels are.
enum Bytes {
    Gpu(DeviceBuffer<u8>),
    Host(PinnedBuffer<u8>),
}

/// Where batches stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Home {
    Gpu,
    Host,
    Nowhere,
}

impl Home {
    /// Of the batches of `cache`'s items, with `free` bytes of the GPU's memory.
    fn of(cache: &ImageCache, free: usize) -> Home {
        // Rectangular batches are hardly larger than the images in them; square ones not by more than twice.
        let bytes = 2 * cache.bytes_needed() as usize;
        let fits = bytes <= free / PIXEL_SHARE;
        match () {
            () if fits && bytes <= FEW => Home::Gpu,
            () if cache.fits() => Home::Host,
            () if fits => Home::Gpu,
            () => Home::Nowhere,
        }
    }
}

/// The batches, once they have been made.
#[derive(Default)]
pub(super) struct ValBatches {
    batches: Vec<Batch>,
    /// Whose images they are.
    of: Option<Arc<ImageCache>>,
    /// Room on the GPU for one that stays on the host.
    room: Option<DeviceBuffer<u8>>,
}

impl ValBatches {
    /// All batches of `cache`'s items. Those of the first cache that is asked for stay; another's are made each time.
    ///
    /// # Errors
    /// See [`ValidateError`].
    pub(super) fn feed(
        &mut self,
        gpu: &Gpu,
        cache: &Arc<ImageCache>,
        config: &ValConfig,
    ) -> Result<Feed, ValidateError> {
        let room = self.room.take();
        let known = Arc::ptr_eq(self.of.get_or_insert_with(|| Arc::clone(cache)), cache);
        if known && !self.batches.is_empty() {
            let batches = std::mem::take(&mut self.batches);
            let (count, source) = (batches.len(), Source::Kept(batches.into_iter()));
            return Ok(Feed { count, source, home: Home::Gpu, kept: Vec::new(), room });
        }
        let loader = ValLoader::new(Arc::clone(cache), ValConfig { floats: false, ..config.clone() })?;
        let (free, _) = gpu.device().memory()?;
        let (count, home) = (loader.batches(), if known { Home::of(cache, free) } else { Home::Nowhere });
        Ok(Feed { count, source: Source::Loader(loader), home, kept: Vec::new(), room })
    }

    /// Takes a feed's batches back at its end.
    pub(super) fn keep(&mut self, mut feed: Feed) {
        self.room = feed.room.take();
        let batches = feed.end();
        if !batches.is_empty() {
            self.batches = batches;
        }
    }
}

/// Batches, from the loader the first time, and afterwards from where they are kept.
pub(super) struct Feed {
    /// Batches in all.
    pub(super) count: usize,
    source: Source,
    /// Where the loader's are to stay.
    home: Home,
    kept: Vec<Batch>,
    room: Option<DeviceBuffer<u8>>,
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
        let bytes = match self.home {
            Home::Host => {
                let mut host = PinnedBuffer::zeros(gpu.device(), val.batch.images_u8.len())?;
                host.as_mut_slice().copy_from_slice(&val.batch.images_u8);
                Bytes::Host(host)
            }
            Home::Gpu | Home::Nowhere => {
                Bytes::Gpu(DeviceBuffer::from_slice(gpu.device(), &val.batch.images_u8)?)
            }
        };
        let targets = TargetTable::new(&val.batch.targets, n, (height, width), nc)?;
        loader.recycle(val.batch);
        Ok(Some(Batch { size: [n, height, width], bytes, targets, placed: val.placed }))
    }

    /// The address of a batch's pixels for what comes next on the device's stream; valid until this is called again.
    ///
    /// # Errors
    /// The memory does not suffice.
    pub(super) fn bring(&mut self, device: &Device, batch: &Batch) -> Result<u64, CudaError> {
        let host = match &batch.bytes {
            Bytes::Gpu(bytes) => return Ok(bytes.address()),
            Bytes::Host(host) => host,
        };
        let room = match self.room.take().filter(|room| room.len() >= host.len()) {
            Some(room) => self.room.insert(room),
            None => self.room.insert(DeviceBuffer::zeros(device, host.len())?),
        };
        room.upload_async(0, host, host.len(), &device.stream())?;
        Ok(room.address())
    }

    /// Takes a batch back that is done.
    pub(super) fn keep(&mut self, batch: Batch) {
        if self.home != Home::Nowhere {
            self.kept.push(batch);
        }
    }

    /// What may be used again: all batches or none.
    fn end(self) -> Vec<Batch> {
        let mut kept = self.kept;
        if let Source::Kept(rest) = self.source {
            kept.extend(rest);
        }
        if kept.len() == self.count { kept } else { Vec::new() }
    }
}
