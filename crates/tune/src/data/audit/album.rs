//! The marks of all pictures of a data set. Their thumbnails lie in a file of the system's temporary folder, so that memory
//! hardly grows with the number of pictures; where no such file can be made they are kept in memory.

use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::sync::{OnceLock, PoisonError, RwLock};

use super::fingerprint::{Marks, THUMBNAIL_BYTES, Thumbnail};
use crate::data::disk_cache::{read_at, write_at};

/// Marks and thumbnails by picture number.
pub(super) struct Album {
    marks: Vec<OnceLock<Marks>>,
    file: Option<File>,
    /// Thumbnails that the file does not take.
    kept: RwLock<HashMap<usize, Box<Thumbnail>>>,
}

impl Album {
    /// Room for the marks of `pictures` pictures, none of which is known yet.
    pub fn new(pictures: usize) -> Album {
        let marks = (0..pictures).map(|_| OnceLock::new()).collect();
        Album { marks, file: scratch_file(), kept: RwLock::default() }
    }

    /// Keeps a picture's marks.
    pub fn put(&self, picture: usize, marks: Marks, thumbnail: &Thumbnail) {
        let place = (picture * THUMBNAIL_BYTES) as u64;
        if self.file.as_ref().is_none_or(|file| write_at(file, thumbnail, place).is_err()) {
            let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
            kept.insert(picture, Box::new(*thumbnail));
        }
        // Each picture is read once.
        let _ = self.marks[picture].set(marks);
    }

    /// A picture's marks; none where it could not be read.
    pub fn marks(&self, picture: usize) -> Option<&Marks> {
        self.marks[picture].get()
    }

    /// A picture's thumbnail; none where it could not be read.
    pub fn thumbnail(&self, picture: usize) -> Option<Thumbnail> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(thumbnail) = kept.get(&picture) {
            return Some(**thumbnail);
        }
        self.marks(picture)?;
        let mut thumbnail = [0; THUMBNAIL_BYTES];
        read_at(self.file.as_ref()?, &mut thumbnail, (picture * THUMBNAIL_BYTES) as u64).ok()?;
        Some(thumbnail)
    }
}

/// A file that is gone when the program ends, however it ends.
fn scratch_file() -> Option<File> {
    for attempt in 0..8 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let name = format!("onsa-check-{}-{:x}-{attempt}", std::process::id(), now.as_nanos());
        let path = std::env::temp_dir().join(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        // FILE_FLAG_DELETE_ON_CLOSE
        #[cfg(windows)]
        std::os::windows::fs::OpenOptionsExt::custom_flags(&mut options, 0x0400_0000);
        if let Ok(file) = options.open(&path) {
            #[cfg(unix)]
            std::fs::remove_file(&path).ok()?;
            return Some(file);
        }
    }
    None
}
