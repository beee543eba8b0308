//! Decoded images at the network's size, kept in memory within a budget.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use thiserror::Error;

use super::dataset::{Item, Pixels};
use super::deep::{self, Deep};
use super::disk_cache::DiskCache;
use super::raster::Rgb8;
use super::resize::{load_size, resize_averaging, resize_bilinear};

/// At which size images are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Sizing {
    /// The long side becomes the network's size ([`load_size`]), by plain bilinear interpolation: detection.
    #[default]
    Long,
    /// The short side becomes the network's size, each new pixel the mean of all that it covers: what a classifier is
    /// validated on.
    Short,
    /// The short side becomes one and a half times the network's size if it is larger, likewise averaged: what a
    /// classifier's training crops are taken from. A crop of half the area then still has the network's size.
    Crops,
}

impl Sizing {
    /// Width and height at which an image is kept.
    pub fn size(self, width: u32, height: u32, imgsz: u32) -> (u32, u32) {
        let short = width.min(height).max(1);
        let scaled = |side: u32, target: u32| {
            (u64::from(side) * u64::from(target) / u64::from(short)).clamp(1, u64::from(u32::MAX)) as u32
        };
        match self {
            Sizing::Long => load_size(width, height, imgsz),
            Sizing::Short => (scaled(width, imgsz), scaled(height, imgsz)),
            Sizing::Crops => {
                let target = imgsz + imgsz / 2;
                if short <= target {
                    (width, height)
                } else {
                    (scaled(width, target), scaled(height, target))
                }
            }
        }
    }
}

/// Reads and decodes an image file, upright and as 8-bit RGB.
pub type Decoder = Arc<dyn Fn(&Path) -> Result<Rgb8, Box<dyn std::error::Error + Send + Sync>> + Send + Sync>;

/// The same with all its bits and a given number of channels.
pub type DeepDecoder =
    Arc<dyn Fn(&Path) -> Result<Deep, Box<dyn std::error::Error + Send + Sync>> + Send + Sync>;

/// How much memory decoded images may take.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum CachePolicy {
    /// Keep nothing: every use reads and decodes the file anew.
    None,
    /// Keep images while they fit into three tenths of the memory that is free now.
    #[default]
    Auto,
    /// Keep images while they fit into eight tenths of the memory that is free now.
    Ram,
    /// Keep images while they fit into this many bytes.
    Bytes(u64),
}

/// What is taken as free where the system does not say.
const ASSUMED_FREE: u64 = 2 << 30;

impl CachePolicy {
    /// The budget in bytes.
    pub fn budget(self) -> u64 {
        let free = || free_memory().unwrap_or(ASSUMED_FREE);
        match self {
            CachePolicy::None => 0,
            CachePolicy::Auto => free() / 10 * 3,
            CachePolicy::Ram => free() / 10 * 8,
            CachePolicy::Bytes(bytes) => bytes,
        }
    }
}

/// An image that cannot be used.
#[derive(Debug, Error)]
pub enum ImageError {
    /// The file could not be read or decoded.
    #[error("{path}: the image cannot be read: {source}; repair the file or take it out of the data set")]
    Decode {
        /// The image file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The file is not the one that the data set's index was made from.
    #[error(
        "{path}: the image has {found_width} x {found_height} pixels, but had {width} x {height} when the data set \
         was read; it changed in the meantime: start again"
    )]
    Changed {
        /// The image file.
        path: PathBuf,
        /// Width now.
        found_width: usize,
        /// Height now.
        found_height: usize,
        /// Width in the index.
        width: u32,
        /// Height in the index.
        height: u32,
    },
    /// An image of more than 8 bits or other than 3 channels, where only such are read.
    #[error("{path}: this is for RGB images of 8 bits, and the image has {}", pixels.describe())]
    Deep {
        /// The image file.
        path: PathBuf,
        /// What the images are.
        pixels: Pixels,
    },
    /// The file of decoded images fails.
    #[error("{path}: decoded images cannot be kept there: {source}; free some space, or use cache=ram")]
    Disk {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A decoded image.
#[derive(Clone)]
enum Held {
    Rgb(Arc<Rgb8>),
    Deep(Arc<Deep>),
}

/// The images of a list of items, each decoded once if the budget allows, and shared by all threads.
pub struct ImageCache {
    items: Arc<[Item]>,
    imgsz: u32,
    sizing: Sizing,
    decode: Decoder,
    slots: Vec<Arc<Slot>>,
    pixels: Pixels,
    decode_deep: Option<DeepDecoder>,
    budget: u64,
    used: Arc<AtomicU64>,
    decoded: Arc<AtomicU64>,
    disk: Option<Arc<DiskCache>>,
}

/// Where an item's pixels stay; caches of some of the items share theirs.
struct Slot {
    /// The item's place in the file of decoded images.
    place: usize,
    image: Mutex<Option<Held>>,
}

impl ImageCache {
    /// A cache of `items`, loaded for a network size of `imgsz` pixels (see [`load_size`]). Nothing is read yet.
    pub fn new(
        items: impl Into<Arc<[Item]>>,
        imgsz: u32,
        policy: CachePolicy,
        decode: Decoder,
    ) -> ImageCache {
        let items = items.into();
        let slots = (0..items.len()).map(|place| Arc::new(Slot { place, image: Mutex::new(None) })).collect();
        ImageCache {
            items,
            imgsz,
            sizing: Sizing::Long,
            decode,
            slots,
            pixels: Pixels::RGB8,
            decode_deep: None,
            budget: policy.budget(),
            used: Arc::default(),
            decoded: Arc::default(),
            disk: None,
        }
    }

    /// The same, with a file behind it in which decoded images are kept.
    pub fn with_disk(self, disk: DiskCache) -> ImageCache {
        ImageCache { disk: Some(Arc::new(disk)), ..self }
    }

    /// The same for images of other bits and channels, which `decode` gives: [`ImageCache::get_deep`] has them then.
    pub fn with_pixels(self, pixels: Pixels, decode: DeepDecoder) -> ImageCache {
        ImageCache { pixels, decode_deep: Some(decode), ..self }
    }

    /// What the images are.
    pub fn pixels(&self) -> Pixels {
        self.pixels
    }

    /// The same items without any memory for their pixels; a file of decoded images is shared.
    pub fn without_memory(&self) -> ImageCache {
        let (items, decode) = (Arc::clone(&self.items), Arc::clone(&self.decode));
        let cache = ImageCache::new(items, self.imgsz, CachePolicy::None, decode);
        let (pixels, decode_deep) = (self.pixels, self.decode_deep.clone());
        ImageCache { disk: self.disk.clone(), sizing: self.sizing, pixels, decode_deep, ..cache }
    }

    /// Some of the items, in this order, in the same memory: an image that either has decoded is decoded for both.
    /// Panics where an index is out of range.
    pub fn subset(&self, indices: &[usize]) -> ImageCache {
        ImageCache {
            items: indices.iter().map(|&i| self.items[i].clone()).collect(),
            slots: indices.iter().map(|&i| Arc::clone(&self.slots[i])).collect(),
            imgsz: self.imgsz,
            sizing: self.sizing,
            decode: Arc::clone(&self.decode),
            pixels: self.pixels,
            decode_deep: self.decode_deep.clone(),
            budget: self.budget,
            used: Arc::clone(&self.used),
            decoded: Arc::clone(&self.decoded),
            disk: self.disk.clone(),
        }
    }

    /// The same, keeping images at another size.
    pub fn with_sizing(self, sizing: Sizing) -> ImageCache {
        ImageCache { sizing, ..self }
    }

    /// The items, in the order of their indices.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// The network size that images are loaded for, in pixels.
    pub fn imgsz(&self) -> u32 {
        self.imgsz
    }

    /// Width and height at which an item is kept.
    pub fn size_of(&self, item: usize) -> (u32, u32) {
        let Item { width, height, .. } = self.items[item];
        self.sizing.size(width, height, self.imgsz)
    }

    /// Bytes that all images would take.
    pub fn bytes_needed(&self) -> u64 {
        let sample_bytes = if self.pixels.is_deep() { 2 * self.pixels.channels as u64 } else { 3 };
        let bytes = |(width, height): (u32, u32)| u64::from(width) * u64::from(height) * sample_bytes;
        (0..self.items.len()).map(|item| bytes(self.size_of(item))).sum()
    }

    /// True where the budget holds all images.
    pub fn fits(&self) -> bool {
        self.bytes_needed() <= self.budget
    }

    /// Bytes in use now; never more than the budget.
    pub fn bytes_used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// How often a file has been decoded.
    pub fn times_decoded(&self) -> u64 {
        self.decoded.load(Ordering::Relaxed)
    }

    /// Item `index` at the cache's [`Sizing`]. Panics where `index` is out of range.
    pub fn get(&self, index: usize) -> Result<Arc<Rgb8>, ImageError> {
        match self.held(index)? {
            Held::Rgb(image) => Ok(image),
            Held::Deep(_) => {
                Err(ImageError::Deep { path: self.items[index].path.clone(), pixels: self.pixels })
            }
        }
    }

    /// As [`ImageCache::get`], of a cache [`ImageCache::with_pixels`].
    pub fn get_deep(&self, index: usize) -> Result<Arc<Deep>, ImageError> {
        match self.held(index)? {
            Held::Deep(image) => Ok(image),
            // Three channels of 8 bits are three of 16.
            Held::Rgb(image) => {
                let data = image.data.iter().map(|&v| u16::from(v) * 257).collect();
                Ok(Arc::new(Deep { width: image.width, height: image.height, channels: 3, data }))
            }
        }
    }

    fn held(&self, index: usize) -> Result<Held, ImageError> {
        if self.budget == 0 {
            return self.load(index);
        }
        // Held while decoding, so that no second thread decodes the same file. A slot is whole after a panic too.
        let mut slot = self.slots[index].image.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(image) = &*slot {
            return Ok(image.clone());
        }
        let image = self.load(index)?;
        let size = match &image {
            Held::Rgb(image) => image.data.len() as u64,
            Held::Deep(image) => 2 * image.data.len() as u64,
        };
        let fits = |used: u64| used.checked_add(size).filter(|&sum| sum <= self.budget);
        if self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).is_ok() {
            *slot = Some(image.clone());
        }
        Ok(image)
    }

    fn load(&self, index: usize) -> Result<Held, ImageError> {
        if let Some(decode) = &self.decode_deep {
            return self.decode_deep(index, decode).map(Held::Deep);
        }
        let Some(disk) = &self.disk else { return self.decode(index).map(Held::Rgb) };
        let failed = |source| ImageError::Disk { path: disk.path().to_owned(), source };
        let place = self.slots[index].place;
        if let Some(image) = disk.get(place).map_err(failed)? {
            return Ok(Held::Rgb(Arc::new(image)));
        }
        let image = self.decode(index)?;
        disk.put(place, &image).map_err(failed)?;
        Ok(Held::Rgb(image))
    }

    fn decode_deep(&self, index: usize, decode: &DeepDecoder) -> Result<Arc<Deep>, ImageError> {
        let item = &self.items[index];
        let image =
            decode(&item.path).map_err(|source| ImageError::Decode { path: item.path.clone(), source })?;
        self.decoded.fetch_add(1, Ordering::Relaxed);
        unchanged(item, (image.width, image.height))?;
        let (width, height) = self.sizing.size(item.width, item.height, self.imgsz);
        let size = (width as usize, height as usize);
        let image = match self.sizing {
            _ if (image.width, image.height) == size => image,
            Sizing::Long => deep::resize_bilinear(&image, size.0, size.1),
            Sizing::Short | Sizing::Crops => {
                let whole = (0.0, 0.0, image.width as f64, image.height as f64);
                deep::resize_averaging(&image, whole, size)
            }
        };
        Ok(Arc::new(image))
    }

    fn decode(&self, index: usize) -> Result<Arc<Rgb8>, ImageError> {
        let item = &self.items[index];
        let image = (self.decode)(&item.path)
            .map_err(|source| ImageError::Decode { path: item.path.clone(), source })?;
        self.decoded.fetch_add(1, Ordering::Relaxed);
        unchanged(item, (image.width, image.height))?;
        let (width, height) = self.sizing.size(item.width, item.height, self.imgsz);
        let size = (width as usize, height as usize);
        let image = match self.sizing {
            _ if (image.width, image.height) == size => image,
            Sizing::Long => resize_bilinear(&image, size.0, size.1),
            Sizing::Short | Sizing::Crops => {
                let whole = (0.0, 0.0, image.width as f64, image.height as f64);
                resize_averaging(&image, whole, size)
            }
        };
        Ok(Arc::new(image))
    }
}

/// Whether the file still is the one that the index was made from.
fn unchanged(item: &Item, (found_width, found_height): (usize, usize)) -> Result<(), ImageError> {
    let (width, height) = (item.width, item.height);
    if (found_width, found_height) == (width as usize, height as usize) {
        return Ok(());
    }
    Err(ImageError::Changed { path: item.path.clone(), found_width, found_height, width, height })
}

/// Bytes that this process may still take: what the machine has free, or what is left of the control group's limit.
/// `None` where the system does not say (it is read from Linux's files).
fn free_memory() -> Option<u64> {
    let number = |path: &str| std::fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let machine = available_in(&meminfo)?;
    let group = |limit: &str, used: &str| Some(number(limit)?.saturating_sub(number(used)?));
    let v2 = group("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current");
    let v1 = || {
        group("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes")
    };
    Some(v2.or_else(v1).map_or(machine, |group| group.min(machine)))
}

/// `MemAvailable` of /proc/meminfo, in bytes.
fn available_in(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::test_items::{drawing_decoder, drawn_items};

    #[test]
    fn decodes_once_within_the_budget_and_not_beyond() {
        // 64 x 48 pixels loaded at 32: 32 x 24 x 3 = 2304 bytes each.
        let items = drawn_items(3, &[(64, 48)]);
        let cache = ImageCache::new(items, 32, CachePolicy::Bytes(2 * 2304), drawing_decoder());
        assert_eq!((cache.bytes_needed(), cache.fits()), (3 * 2304, false));
        let first: Vec<_> = (0..3).map(|i| cache.get(i).unwrap()).collect();
        assert_eq!((cache.times_decoded(), cache.bytes_used()), (3, 2 * 2304));
        let second: Vec<_> = (0..3).map(|i| cache.get(i).unwrap()).collect();
        assert_eq!((cache.times_decoded(), cache.bytes_used()), (4, 2 * 2304));
        assert_eq!(first, second);
        assert_eq!((first[0].width, first[0].height), (32, 24));
        assert!(Arc::ptr_eq(&first[0], &second[0]) && !Arc::ptr_eq(&first[2], &second[2]));
    }

    #[test]
    fn a_part_shares_the_memory_of_the_whole() {
        let whole =
            ImageCache::new(drawn_items(4, &[(64, 48)]), 32, CachePolicy::Bytes(3 * 2304), drawing_decoder());
        let part = whole.subset(&[3, 1]);
        assert_eq!(part.items(), [whole.items()[3].clone(), whole.items()[1].clone()]);
        let image = part.get(0).unwrap();
        assert!(Arc::ptr_eq(&image, &whole.get(3).unwrap()));
        (0..4).for_each(|i| drop(whole.get(i).unwrap()));
        assert_eq!((whole.times_decoded(), part.bytes_used()), (4, 3 * 2304), "one budget for both");
    }

    #[test]
    fn many_threads_decode_once() {
        let cache =
            ImageCache::new(drawn_items(4, &[(64, 48)]), 32, CachePolicy::Bytes(1 << 20), drawing_decoder());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..4).for_each(|i| drop(cache.get(i).unwrap())));
            }
        });
        assert_eq!(cache.times_decoded(), 4);
    }

    #[test]
    fn errors_name_the_file() {
        let mut items = drawn_items(2, &[(64, 48)]);
        items[0].path = PathBuf::from("images/broken.jpg");
        items[1].width = 65;
        let cache = ImageCache::new(items, 32, CachePolicy::None, drawing_decoder());
        let broken = cache.get(0).unwrap_err().to_string();
        assert!(broken.starts_with("images/broken.jpg: ") && broken.contains("cut off"), "{broken}");
        let changed = cache.get(1).unwrap_err().to_string();
        assert!(changed.contains("64 x 48") && changed.contains("65 x 48"), "{changed}");
    }

    #[test]
    fn reads_what_linux_reports() {
        let text = "MemTotal:       16384 kB\nMemFree:  1 kB\nMemAvailable:    8192 kB\n";
        assert_eq!(available_in(text), Some(8192 * 1024));
        assert_eq!(available_in("MemTotal: 1 kB\n"), None);
    }
}
