//! Decoded images at the network's size in one file, for sets that memory does not hold (`cache=disk`).
//!
//! The file's name says what it holds: a digest of the size that images are loaded for and of each image file's path,
//! length and time of change. So a changed image, or another network size, begins another file. Every image has its
//! fixed place, written when it is first decoded, and its checksum in a table at the file's front, written after it: a
//! read whose checksum fails, after a crash or by another hand, is a miss, and the image is decoded again. Reads are
//! positioned and go through the system's page cache, straight to where the pixels are needed.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use sha2::{Digest, Sha256};

use super::dataset::Item;
use super::raster::Rgb8;
use super::resize::load_size;

/// Bytes of an image's entry in the table: its checksum, and a mark that it is there.
const ENTRY: u64 = 8;
/// Images begin at multiples of this.
const ALIGN: u64 = 4096;
/// Written into an entry beside the checksum, so that an empty entry is no entry.
const PRESENT: u32 = 0x504d_4931;

/// A file of decoded images.
pub struct DiskCache {
    path: PathBuf,
    file: File,
    /// Width, height and place of each image.
    places: Vec<(u32, u32, u64)>,
}

impl DiskCache {
    /// The file for these items at this network size in `folder`, made where there is none.
    ///
    /// # Errors
    /// An image file or the folder cannot be used; the error's path is in the message of the caller.
    pub fn open(folder: &Path, items: &[Item], imgsz: u32) -> Result<DiskCache, (PathBuf, io::Error)> {
        let mut digest = Sha256::new();
        digest.update(imgsz.to_le_bytes());
        for item in items {
            let facts = std::fs::metadata(&item.path).map_err(|error| (item.path.clone(), error))?;
            let changed = facts.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            digest.update(item.path.as_os_str().as_encoded_bytes());
            digest.update([0]);
            digest.update(facts.len().to_le_bytes());
            digest.update(changed.unwrap_or_default().as_nanos().to_le_bytes());
        }
        let name: String = digest.finalize().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let path = folder.join(format!("{name}.pixels"));
        let mut end = (items.len() as u64 * ENTRY).next_multiple_of(ALIGN);
        let places = items
            .iter()
            .map(|item| {
                let (width, height) = load_size(item.width, item.height, imgsz);
                let place = end;
                end += (u64::from(width) * u64::from(height) * 3).next_multiple_of(ALIGN);
                (width, height, place)
            })
            .collect();
        let open = || -> io::Result<File> {
            std::fs::create_dir_all(folder)?;
            let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
            // Without content where nothing is written yet.
            if file.metadata()?.len() != end {
                file.set_len(end)?;
            }
            Ok(file)
        };
        let file = open().map_err(|error| (path.clone(), error))?;
        Ok(DiskCache { path, file, places })
    }

    /// The folder for such files: `ONSA_CACHE`, else `XDG_CACHE_HOME/onsa`, else `HOME/.cache/onsa`, and in it `pixels`.
    pub fn folder() -> PathBuf {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        variable("ONSA_CACHE")
            .or_else(|| variable("XDG_CACHE_HOME").map(|folder| folder.join("onsa")))
            .or_else(|| variable("HOME").map(|folder| folder.join(".cache/onsa")))
            .unwrap_or_else(std::env::temp_dir)
            .join("pixels")
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Item `index`, where it is there and whole.
    ///
    /// # Errors
    /// The disk fails.
    pub fn get(&self, index: usize) -> io::Result<Option<Rgb8>> {
        let (width, height, place) = self.places[index];
        let mut entry = [0; ENTRY as usize];
        read_at(&self.file, &mut entry, index as u64 * ENTRY)?;
        let [a, b, c, d, e, f, g, h] = entry;
        if u32::from_le_bytes([e, f, g, h]) != PRESENT {
            return Ok(None);
        }
        let mut image = Rgb8::filled(width as usize, height as usize, 0);
        read_at(&self.file, &mut image.data, place)?;
        let whole = crc32fast::hash(&image.data) == u32::from_le_bytes([a, b, c, d]);
        Ok(whole.then_some(image))
    }

    /// Keeps item `index`.
    ///
    /// # Errors
    /// The disk is full or fails.
    ///
    /// # Panics
    /// If the image has not the size that the item is loaded at.
    pub fn put(&self, index: usize, image: &Rgb8) -> io::Result<()> {
        let (width, height, place) = self.places[index];
        assert_eq!((image.width, image.height), (width as usize, height as usize), "the size of the item");
        write_at(&self.file, &image.data, place)?;
        let mut entry = [0; ENTRY as usize];
        entry[..4].copy_from_slice(&crc32fast::hash(&image.data).to_le_bytes());
        entry[4..].copy_from_slice(&PRESENT.to_le_bytes());
        write_at(&self.file, &entry, index as u64 * ENTRY)
    }
}

#[cfg(unix)]
pub(super) fn read_at(file: &File, bytes: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, bytes, at)
}

#[cfg(unix)]
pub(super) fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, at)
}

#[cfg(windows)]
pub(super) fn read_at(file: &File, mut bytes: &mut [u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, bytes, at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => (bytes, at) = (&mut bytes[n..], at + n as u64),
        }
    }
    Ok(())
}

#[cfg(windows)]
pub(super) fn write_at(file: &File, mut bytes: &[u8], mut at: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        match std::os::windows::fs::FileExt::seek_write(file, bytes, at)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            n => (bytes, at) = (&bytes[n..], at + n as u64),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::cache::{CachePolicy, ImageCache};
    use crate::data::test_items::{drawing_decoder, drawn_items};

    /// Items whose files exist, so that they have a length and a time; the decoder goes by the name's last three parts.
    fn items(folder: &Path) -> Vec<Item> {
        let mut items = drawn_items(4, &[(64, 48), (20, 33)]);
        for item in &mut items {
            let path = folder.join(&item.path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "x").unwrap();
            item.path = path;
        }
        items
    }

    fn cache(folder: &Path, items: &[Item]) -> ImageCache {
        let drawn = drawing_decoder();
        let names: Vec<(PathBuf, PathBuf)> = items
            .iter()
            .map(|item| (item.path.clone(), item.path.strip_prefix(folder).unwrap().to_owned()))
            .collect();
        let decode = move |path: &Path| drawn(&names.iter().find(|(full, _)| full == path).unwrap().1);
        let disk = DiskCache::open(&folder.join("cache"), items, 32).unwrap();
        ImageCache::new(items.to_vec(), 32, CachePolicy::None, std::sync::Arc::new(decode)).with_disk(disk)
    }

    #[test]
    fn what_was_decoded_once_is_read_ever_after() {
        let folder = tempfile::tempdir().unwrap();
        let items = items(folder.path());
        let first = cache(folder.path(), &items);
        let images: Vec<_> = (0..4).map(|i| first.get(i).unwrap()).collect();
        assert_eq!((0..4).map(|i| first.get(i).unwrap()).collect::<Vec<_>>(), images);
        assert_eq!(first.times_decoded(), 4);
        let second = cache(folder.path(), &items);
        assert_eq!((0..4).map(|i| second.get(i).unwrap()).collect::<Vec<_>>(), images);
        assert_eq!(second.times_decoded(), 0);
    }

    #[test]
    fn a_damaged_image_is_decoded_again() {
        let folder = tempfile::tempdir().unwrap();
        let items = items(folder.path());
        let first = cache(folder.path(), &items);
        let images: Vec<_> = (0..4).map(|i| first.get(i).unwrap()).collect();
        let path = DiskCache::open(&folder.path().join("cache"), &items, 32).unwrap().path().to_owned();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[ALIGN as usize + 100] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        let second = cache(folder.path(), &items);
        assert_eq!((0..4).map(|i| second.get(i).unwrap()).collect::<Vec<_>>(), images);
        assert_eq!(second.times_decoded(), 1);
        assert_eq!(cache(folder.path(), &items).get(0).unwrap(), images[0]);
    }

    #[test]
    fn a_changed_file_or_size_begins_another_file() {
        let folder = tempfile::tempdir().unwrap();
        let items = items(folder.path());
        let path = |imgsz| DiskCache::open(folder.path(), &items, imgsz).unwrap().path().to_owned();
        let before = path(32);
        assert_eq!(path(32), before);
        assert_ne!(path(64), before);
        std::fs::write(&items[2].path, "longer").unwrap();
        assert_ne!(path(32), before);
    }
}
