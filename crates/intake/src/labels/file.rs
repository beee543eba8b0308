use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Why a text file could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file system refused.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Longer than the cap.
    #[error("{} has more than {} MiB, the most that is read: is it the right file?", path.display(), limit >> 20)]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The cap in bytes.
        limit: u64,
    },
}

/// Reads a whole file of at most `limit` bytes (the caps stand in [`crate::limits`]).
///
/// # Errors
/// The file cannot be read or is longer.
pub fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, FileError> {
    let read_error = |source| FileError::Read { path: path.into(), source };
    let file = File::open(path).map_err(read_error)?;
    let length = file.metadata().map_err(read_error)?.len();
    let too_large = || FileError::TooLarge { path: path.into(), limit };
    if length > limit {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(length as usize);
    // The length may lie (a pipe, a file that grows): the cap holds for what arrives.
    file.take(limit + 1).read_to_end(&mut bytes).map_err(read_error)?;
    if bytes.len() as u64 > limit {
        return Err(too_large());
    }
    Ok(bytes)
}
