//! Decoded images for batches that the GPU draws: all of them in its memory, or in the host's, or nowhere but in the batches.
//!
//! Images have the size that the processor's cache gives them. In the GPU's memory ([`Home::Gpu`]) each is decoded and copied
//! once, when a batch first needs it. In the host's ([`Home::Host`]) each is decoded once into memory that the GPU copies from
//! by itself, and a batch's images are copied into one of two slots, beside the computation of the batch before. Else
//! ([`Home::Cache`]) they come from the processor's cache, for each batch anew, and go the same way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use onsa_compute::cuda::{CudaError, Device, DeviceBuffer, Event, PinnedBuffer, Stream};
use rayon::prelude::*;

use super::augment::DeviceImage;
use crate::data::cache::{ImageCache, ImageError};

/// Batches whose images may be in the GPU's memory at a time, where they do not stay there: the one that is computed, and the
/// next.
pub const SLOTS: usize = 2;
/// Bytes of images that the GPU keeps itself before the host does: a small set's are not worth a copy for each batch.
pub const FEW: usize = 64 << 20;
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

/// Where decoded images stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// In the GPU's memory.
    Gpu,
    /// In the host's memory, from where the GPU copies each batch's.
    Host,
    /// In the processor's cache, as far as that keeps them.
    Cache,
}

/// The images of a cache's items on the GPU.
pub struct PixelStore {
    device: Device,
    cache: Arc<ImageCache>,
    /// Width and bytes of each item's image.
    sizes: Vec<(u32, usize)>,
    copies: Stream,
    kind: Kind,
}

enum Kind {
    /// Every image has its place.
    Resident { memory: Mutex<Resident>, offsets: Vec<usize>, base: u64 },
    /// Batches take turns in slots.
    Passing(Mutex<Passing>),
}

struct Resident {
    buffer: DeviceBuffer<u8>,
    loaded: Vec<bool>,
    staging: Option<PinnedBuffer<u8>>,
}

struct Passing {
    slots: [Arc<Slot>; SLOTS],
    /// The slot of the next batch.
    next: usize,
    host: Host,
}

/// Host memory that the GPU copies from, which several batches may share.
type Pinned = Arc<PinnedBuffer<u8>>;
/// Memory of batches that are done.
type Idle = Arc<Mutex<Vec<PinnedBuffer<u8>>>>;

/// Where the host's side of a batch lies.
enum Host {
    /// Of each item that was decoded: the memory that holds it, and where.
    Kept(Vec<Option<(Pinned, usize)>>),
    /// Memory of a batch alone, used again once the batch is done.
    Idle(Idle),
}

/// Room for a batch's images on the GPU.
struct Slot {
    buffer: DeviceBuffer<u8>,
    /// The images are there.
    arrived: Event,
    /// The last batch in it is done. One that replaces a smaller slot takes over its event.
    done: Arc<Event>,
}

/// A batch's images. What they lie in stays until this is dropped, which must not happen before the GPU is done.
pub struct BatchImages {
    places: Places,
    passage: Option<Passage>,
}

enum Places {
    Resident { base: u64, store: Arc<PixelStore> },
    Passing(HashMap<usize, DeviceImage>),
}

/// The way of a batch's images to the GPU.
struct Passage {
    slot: Arc<Slot>,
    copies: Stream,
    parts: Vec<Part>,
    /// Memory of this batch alone, and where it goes afterwards.
    own: Option<(Pinned, Idle)>,
}

/// One image: from where in which memory, to where in the slot.
struct Part {
    host: Pinned,
    from: usize,
    to: usize,
    bytes: usize,
}

impl BatchImages {
    /// Where an item's image is once [`BatchImages::upload`] has brought it.
    ///
    /// # Panics
    /// If the batch was not asked to hold it.
    pub fn image(&self, item: usize) -> DeviceImage {
        match &self.places {
            Places::Resident { base, store } => match &store.kind {
                Kind::Resident { offsets, .. } => {
                    DeviceImage { address: base + offsets[item] as u64, width: store.sizes[item].0 }
                }
                Kind::Passing(_) => unreachable!("places are of the store's kind"),
            },
            Places::Passing(images) => images[&item],
        }
    }

    /// Copies the images beside what the GPU computes, once the batch before in their slot is done; `stream` waits for them.
    ///
    /// # Errors
    /// The driver fails.
    pub fn upload(&self, stream: &Stream) -> Result<(), CudaError> {
        let Some(Passage { slot, copies, parts, .. }) = &self.passage else { return Ok(()) };
        slot.done.wait(copies)?;
        for part in parts {
            slot.buffer.upload_part(part.to, &part.host, part.from, part.bytes, copies)?;
        }
        slot.arrived.record(copies)?;
        slot.arrived.wait(stream)
    }

    /// Says that `stream`'s work so far is the last that reads the images.
    ///
    /// # Errors
    /// The driver fails.
    pub fn release(&self, stream: &Stream) -> Result<(), CudaError> {
        self.passage.as_ref().map_or(Ok(()), |passage| passage.slot.done.record(stream))
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        self.parts.clear();
        if let Some((memory, idle)) = self.own.take()
            && let Some(memory) = Arc::into_inner(memory)
        {
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(memory);
        }
    }
}

impl PixelStore {
    /// The images of `cache`'s items.
    ///
    /// # Errors
    /// The GPU's memory does not suffice.
    pub fn new(device: &Device, cache: Arc<ImageCache>, home: Home) -> Result<Arc<PixelStore>, CudaError> {
        let size = |item| {
            let (width, height) = cache.size_of(item);
            (width, width as usize * height as usize * 3)
        };
        let sizes: Vec<(u32, usize)> = (0..cache.items().len()).map(size).collect();
        let kind = if home == Home::Gpu {
            let (offsets, end) = lay_out(sizes.iter().map(|&(_, bytes)| bytes));
            let buffer = DeviceBuffer::zeros(device, end)?;
            let (base, loaded) = (buffer.address(), vec![false; sizes.len()]);
            Kind::Resident { memory: Mutex::new(Resident { buffer, loaded, staging: None }), offsets, base }
        } else {
            let slot = || {
                let (arrived, done) = (Event::new(device)?, Arc::new(Event::new(device)?));
                Ok::<_, CudaError>(Arc::new(Slot { buffer: DeviceBuffer::zeros(device, 0)?, arrived, done }))
            };
            let host = match home {
                Home::Host => Host::Kept(vec![None; sizes.len()]),
                Home::Gpu | Home::Cache => Host::Idle(Arc::default()),
            };
            Kind::Passing(Mutex::new(Passing { slots: [slot()?, slot()?], next: 0, host }))
        };
        let copies = device.new_stream()?;
        Ok(Arc::new(PixelStore { device: device.clone(), cache, sizes, copies, kind }))
    }

    /// Makes the images of these items ready for the next batch. Decodes in parallel on the current rayon pool what is not
    /// there yet. Batches must be handed over in the order of these calls; one may be left out.
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
                self.copy(&items, offsets, &mut memory)?;
                items.iter().for_each(|&item| memory.loaded[item] = true);
                let places = Places::Resident { base: *base, store: Arc::clone(self) };
                Ok(BatchImages { places, passage: None })
            }
            Kind::Passing(passing) => {
                let mut passing = passing.lock().unwrap_or_else(PoisonError::into_inner);
                self.pass(&items, &mut passing)
            }
        }
    }

    fn pass(&self, items: &[usize], passing: &mut Passing) -> Result<BatchImages, PixelError> {
        let bytes = |item: &usize| self.sizes[*item].1;
        let (offsets, end) = lay_out(items.iter().map(bytes));
        let mut own = None;
        let hosts: Vec<(Pinned, usize)> = match &mut passing.host {
            Host::Kept(known) => {
                let new: Vec<usize> = items.iter().copied().filter(|&item| known[item].is_none()).collect();
                if !new.is_empty() {
                    let (at, end) = lay_out(new.iter().map(bytes));
                    let mut memory = PinnedBuffer::zeros(&self.device, end)?;
                    self.decode(&new, &at, &mut memory)?;
                    let memory = Arc::new(memory);
                    new.iter().zip(at).for_each(|(&item, at)| known[item] = Some((Arc::clone(&memory), at)));
                }
                items.iter().map(|&item| known[item].clone().expect("decoded above")).collect()
            }
            Host::Idle(idle) => {
                let fitting = {
                    let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
                    let at = idle.iter().position(|memory| memory.len() >= end);
                    // What is too small is given back: batches only grow until all sizes have been seen.
                    at.map(|at| idle.swap_remove(at)).or_else(|| idle.pop().and(None))
                };
                let mut memory = match fitting {
                    Some(memory) => memory,
                    None => PinnedBuffer::zeros(&self.device, end)?,
                };
                self.decode(items, &offsets, &mut memory)?;
                let memory = Arc::new(memory);
                own = Some((Arc::clone(&memory), Arc::clone(idle)));
                offsets.iter().map(|&at| (Arc::clone(&memory), at)).collect()
            }
        };
        let turn = passing.next;
        passing.next = (turn + 1) % SLOTS;
        if passing.slots[turn].buffer.len() < end {
            let done = Arc::clone(&passing.slots[turn].done);
            let (buffer, arrived) = (DeviceBuffer::zeros(&self.device, end)?, Event::new(&self.device)?);
            passing.slots[turn] = Arc::new(Slot { buffer, arrived, done });
        }
        let slot = Arc::clone(&passing.slots[turn]);
        let base = slot.buffer.address();
        let place = |(&item, &to): (&usize, &usize)| {
            (item, DeviceImage { address: base + to as u64, width: self.sizes[item].0 })
        };
        let places = Places::Passing(items.iter().zip(&offsets).map(place).collect());
        let places_of = items.iter().zip(&offsets);
        let parts = hosts
            .into_iter()
            .zip(places_of)
            .map(|((host, from), (item, &to))| Part { host, from, to, bytes: bytes(item) })
            .collect();
        let passage = Passage { slot, copies: self.copies.clone(), parts, own };
        Ok(BatchImages { places, passage: Some(passage) })
    }

    /// Decodes items, each to its offset, which rise.
    fn decode(&self, items: &[usize], at: &[usize], to: &mut PinnedBuffer<u8>) -> Result<(), ImageError> {
        let (mut rest, mut begun) = (to.as_mut_slice(), 0);
        let mut parts = Vec::with_capacity(items.len());
        for (&item, &at) in items.iter().zip(at) {
            let (_, tail) = rest.split_at_mut(at - begun);
            let (part, tail) = tail.split_at_mut(self.sizes[item].1);
            begun = at + part.len();
            parts.push((item, part));
            rest = tail;
        }
        parts.into_par_iter().try_for_each(|(item, part)| {
            part.copy_from_slice(&self.cache.get(item)?.data);
            Ok(())
        })
    }

    /// Decodes items and copies each to its place among all.
    fn copy(&self, items: &[usize], offsets: &[usize], memory: &mut Resident) -> Result<(), PixelError> {
        if items.is_empty() {
            return Ok(());
        }
        let (at, total) = lay_out(items.iter().map(|&item| self.sizes[item].1));
        let Resident { buffer, staging, .. } = memory;
        if staging.as_ref().is_none_or(|staging| staging.len() < total) {
            *staging = None;
            *staging = Some(PinnedBuffer::zeros(&self.device, total)?);
        }
        let staging = staging.as_mut().expect("made above");
        self.decode(items, &at, staging)?;
        for (&item, from) in items.iter().zip(at) {
            buffer.upload_part(offsets[item], staging, from, self.sizes[item].1, &self.copies)?;
        }
        self.copies.synchronize()?;
        Ok(())
    }
}

/// Where each of these lies, one after the other, and where the last ends.
fn lay_out(bytes: impl Iterator<Item = usize>) -> (Vec<usize>, usize) {
    let mut end = 0usize;
    let offsets = bytes
        .map(|bytes| {
            let offset = end;
            end += bytes.next_multiple_of(ALIGN);
            offset
        })
        .collect();
    (offsets, end)
}
