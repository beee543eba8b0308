//! Decoded images in the GPU's memory: all of them where they fit, else those of the next batches.
//!
//! Images have the size that the processor's cache gives them. Where all fit, each is decoded and copied once, when a
//! batch first needs it. Else each batch's images are copied into one of a few slots, beside the computation of the
//! batches before it; the host keeps what its memory allows.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use onsa_compute::cuda::{CudaError, Device, DeviceBuffer, PinnedBuffer, Stream};
use rayon::prelude::*;

use super::augment::DeviceImage;
use crate::data::cache::{ImageCache, ImageError};

/// Batches whose images may be in the GPU's memory at a time, where not all fit.
const SLOTS: usize = 6;
/// Images begin at multiples of this many bytes.
const ALIGN: usize = 16;

/// Images that cannot be brought to the GPU.
#[derive(Debug, thiserror::Error)]
pub enum PixelError {
    /// An image cannot be read.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// The GPU.
    #[error(transparent)]
    Cuda(#[from] CudaError),
}

/// The images of a cache's items on the GPU.
pub struct PixelStore {
    cache: Arc<ImageCache>,
    /// Width and bytes of each item's image.
    sizes: Vec<(u32, usize)>,
    copies: Stream,
    staging: Mutex<Option<PinnedBuffer<u8>>>,
    kind: Kind,
}

enum Kind {
    /// Every image has its place.
    Resident { memory: Mutex<Memory>, offsets: Vec<usize>, base: u64 },
    /// Slots that batches take and give back.
    Staged { free: Mutex<Receiver<Slot>>, give_back: SyncSender<Slot> },
}

struct Memory {
    buffer: DeviceBuffer<u8>,
    loaded: Vec<bool>,
}

type Slot = Option<DeviceBuffer<u8>>;

/// Where a batch's images are. They stay there until it is dropped, which must not happen before the GPU is done.
pub struct BatchImages {
    places: Places,
    slot: Option<(Slot, SyncSender<Slot>)>,
}

enum Places {
    Resident { base: u64, store: Arc<PixelStore> },
    Staged(HashMap<usize, DeviceImage>),
}

impl BatchImages {
    /// An item's image.
    ///
    /// # Panics
    /// If the batch was not asked to hold it.
    pub fn image(&self, item: usize) -> DeviceImage {
        match &self.places {
            Places::Resident { base, store } => match &store.kind {
                Kind::Resident { offsets, .. } => {
                    DeviceImage { address: base + offsets[item] as u64, width: store.sizes[item].0 }
                }
                Kind::Staged { .. } => unreachable!("places are of the store's kind"),
            },
            Places::Staged(images) => images[&item],
        }
    }
}

impl Drop for BatchImages {
    fn drop(&mut self) {
        if let Some((slot, give_back)) = self.slot.take() {
            // Nobody waits for it any more once the store is gone.
            let _ = give_back.send(slot);
        }
    }
}

impl PixelStore {
    /// The images of `cache`'s items; all on the GPU where they take at most `budget` bytes.
    ///
    /// # Errors
    /// The GPU's memory does not suffice after all.
    pub fn new(device: &Device, cache: Arc<ImageCache>, budget: usize) -> Result<Arc<PixelStore>, CudaError> {
        let size = |item| {
            let (width, height) = cache.size_of(item);
            (width, width as usize * height as usize * 3)
        };
        let sizes: Vec<(u32, usize)> = (0..cache.items().len()).map(size).collect();
        let mut end = 0usize;
        let offsets: Vec<usize> = sizes
            .iter()
            .map(|&(_, bytes)| {
                let offset = end;
                end += bytes.next_multiple_of(ALIGN);
                offset
            })
            .collect();
        let kind = if end <= budget {
            let buffer = DeviceBuffer::zeros(device, end)?;
            let base = buffer.address();
            Kind::Resident {
                memory: Mutex::new(Memory { buffer, loaded: vec![false; sizes.len()] }),
                offsets,
                base,
            }
        } else {
            let (give_back, free) = sync_channel(SLOTS);
            for _ in 0..SLOTS {
                give_back.send(None).expect("the channel has room for all slots");
            }
            Kind::Staged { free: Mutex::new(free), give_back }
        };
        Ok(Arc::new(PixelStore {
            cache,
            sizes,
            copies: device.new_stream()?,
            staging: Mutex::default(),
            kind,
        }))
    }

    /// Whether every image has its place on the GPU.
    pub fn is_resident(&self) -> bool {
        matches!(self.kind, Kind::Resident { .. })
    }

    /// Brings the images of these items to the GPU. Decodes in parallel on the current rayon pool; waits for its copies,
    /// and, where images are staged, for the slot of an earlier batch.
    ///
    /// # Errors
    /// An image cannot be read; the GPU.
    pub fn bring(self: &Arc<Self>, mut items: Vec<usize>) -> Result<BatchImages, PixelError> {
        items.sort_unstable();
        items.dedup();
        match &self.kind {
            Kind::Resident { memory, offsets, base } => {
                let mut memory = memory.lock().unwrap_or_else(PoisonError::into_inner);
                items.retain(|&item| !memory.loaded[item]);
                let at: Vec<usize> = items.iter().map(|&item| offsets[item]).collect();
                self.copy(&items, &at, &mut memory.buffer)?;
                items.iter().for_each(|&item| memory.loaded[item] = true);
                let store = Arc::clone(self);
                Ok(BatchImages { places: Places::Resident { base: *base, store }, slot: None })
            }
            Kind::Staged { free, give_back } => {
                let slot = free.lock().unwrap_or_else(PoisonError::into_inner).recv();
                // From here on the slot finds its way back also where an error ends this.
                let mut images = BatchImages {
                    places: Places::Staged(HashMap::new()),
                    slot: Some((slot.unwrap_or_default(), give_back.clone())),
                };
                let mut end = 0;
                let at: Vec<usize> = items
                    .iter()
                    .map(|&item| {
                        let offset = end;
                        end += self.sizes[item].1.next_multiple_of(ALIGN);
                        offset
                    })
                    .collect();
                let (slot, _) = images.slot.as_mut().expect("set above");
                if slot.as_ref().is_none_or(|buffer| buffer.len() < end) {
                    *slot = None;
                    *slot = Some(DeviceBuffer::zeros(self.copies.device(), end)?);
                }
                let buffer = slot.as_mut().expect("made above");
                self.copy(&items, &at, buffer)?;
                let base = buffer.address();
                let place = |(&item, &offset): (&usize, &usize)| {
                    (item, DeviceImage { address: base + offset as u64, width: self.sizes[item].0 })
                };
                images.places = Places::Staged(items.iter().zip(&at).map(place).collect());
                Ok(images)
            }
        }
    }

    /// Decodes items and copies each to its offset.
    fn copy(&self, items: &[usize], at: &[usize], to: &mut DeviceBuffer<u8>) -> Result<(), PixelError> {
        if items.is_empty() {
            return Ok(());
        }
        let total: usize = items.iter().map(|&item| self.sizes[item].1).sum();
        let mut staging = self.staging.lock().unwrap_or_else(PoisonError::into_inner);
        if staging.as_ref().is_none_or(|buffer| buffer.len() < total) {
            *staging = None;
            *staging = Some(PinnedBuffer::zeros(self.copies.device(), total)?);
        }
        let staging = staging.as_mut().expect("made above");
        let mut parts = Vec::with_capacity(items.len());
        let mut rest = staging.as_mut_slice();
        for &item in items {
            let (part, tail) = rest.split_at_mut(self.sizes[item].1);
            parts.push((item, part));
            rest = tail;
        }
        parts.into_par_iter().try_for_each(|(item, part)| {
            part.copy_from_slice(&self.cache.get(item)?.data);
            Ok::<(), ImageError>(())
        })?;
        let mut from = 0;
        for (&item, &offset) in items.iter().zip(at) {
            let bytes = self.sizes[item].1;
            to.upload_part(offset, staging, from, bytes, &self.copies)?;
            from += bytes;
        }
        self.copies.synchronize()?;
        Ok(())
    }
}
