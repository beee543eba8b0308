//! Zip archives of data sets, unpacked so that nothing outside the given folder is touched.
//!
//! Every name is checked before the first byte is written; sizes are counted on the bytes that come out of the
//! decompressor, whatever the headers say. An archive that breaks one rule is refused whole: the folder appears only
//! when all of it is unpacked.

mod error;
mod names;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use zip::read::ZipReadOptions;
use zip::{CompressionMethod, ZipArchive};

pub use error::ArchiveError;

use crate::limits;
use crate::zip_directory::DirectoryHeaders;
use names::{Names, is_clutter};

/// How much an archive may unpack to. The default is what [`crate::limits`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Files and folders.
    pub entries: u64,
    /// Bytes of one file.
    pub file_bytes: u64,
    /// Bytes of all files.
    pub total_bytes: u64,
    /// Bytes of all files for each byte of the archive, beyond [`limits::ARCHIVE_RATIO_SLACK`].
    pub ratio: u64,
}

impl Default for Caps {
    fn default() -> Self {
        Caps {
            entries: limits::ARCHIVE_ENTRIES,
            file_bytes: limits::ARCHIVE_FILE_BYTES,
            total_bytes: limits::ARCHIVE_TOTAL_BYTES,
            ratio: limits::ARCHIVE_RATIO,
        }
    }
}

/// What was unpacked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Files written.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files left out: those that file managers add (`__MACOSX/`, `.DS_Store`, `Thumbs.db`, `desktop.ini`).
    pub left_out: usize,
}

/// Unpacks the zip file `archive` into `folder`, which must not exist yet; its parent must. Modes and times of the
/// archive are not taken over; the files are not synced to the disk.
///
/// # Errors
/// See [`ArchiveError`]. `folder` does not exist then, and nothing else was written.
pub fn unpack(archive: &Path, folder: &Path, caps: &Caps) -> Result<Unpacked, ArchiveError> {
    unpack_from(File::open(archive).map_err(ArchiveError::Read)?, folder, caps)
}

/// As [`unpack`], from an open file or from memory.
///
/// # Errors
/// As [`unpack`].
pub fn unpack_from(
    mut archive: impl Read + Seek,
    folder: &Path,
    caps: &Caps,
) -> Result<Unpacked, ArchiveError> {
    if fs::symlink_metadata(folder).is_ok() {
        return Err(ArchiveError::Exists(folder.to_owned()));
    }
    let length = check_directory(&mut archive, caps)?;
    let mut archive = open(BufReader::new(archive))?;
    let wanted = plan(&mut archive, length, caps)?;
    let scratch = scratch_folder(folder)?;
    let unpacked = fill(&mut archive, &wanted, &scratch, length, caps).and_then(|unpacked| {
        let failed = |source| ArchiveError::Write { path: folder.to_owned(), source };
        fs::rename(&scratch, folder).map_err(failed)?;
        Ok(unpacked)
    });
    if unpacked.is_err() {
        // The unpacking's own error is the one to report.
        let _ = fs::remove_dir_all(&scratch);
    }
    unpacked
}

/// Counts directory headers before anything is allocated for them. Returns the archive's length.
fn check_directory(archive: &mut (impl Read + Seek), caps: &Caps) -> Result<u64, ArchiveError> {
    let mut headers = DirectoryHeaders::default();
    let mut block = vec![0; 1 << 18];
    let mut length = 0;
    loop {
        match archive.read(&mut block) {
            Ok(0) => break,
            Ok(n) => {
                headers.take(&block[..n]);
                length += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(ArchiveError::Read(e)),
        }
    }
    if headers.count() > caps.entries {
        return Err(ArchiveError::Cap { what: "files and folders", limit: caps.entries });
    }
    archive.seek(SeekFrom::Start(0)).map_err(ArchiveError::Read)?;
    Ok(length)
}

fn open<R: Read + Seek>(reader: R) -> Result<ZipArchive<R>, ArchiveError> {
    let broken = |e: zip::result::ZipError| ArchiveError::Damaged(e.to_string());
    let mut archive = ZipArchive::new(reader).map_err(broken)?;
    if archive.has_duplicate_names() {
        return Err(ArchiveError::Damaged("two entries have one name".into()));
    }
    if archive.has_overlapping_entries().map_err(broken)? {
        return Err(ArchiveError::Damaged("its entries overlap".into()));
    }
    Ok(archive)
}

/// A file of the archive that is to be written.
struct Wanted {
    index: usize,
    /// As the archive spells it, for messages.
    name: String,
    /// Relative to the root; plain components only.
    path: PathBuf,
}

/// Every entry's name, kind and announced size, checked; what is to be written.
fn plan<R: Read + Seek>(
    archive: &mut ZipArchive<R>,
    length: u64,
    caps: &Caps,
) -> Result<(Vec<Wanted>, usize), ArchiveError> {
    let mut names = Names::default();
    let (mut wanted, mut left_out, mut announced) = (Vec::new(), 0, 0u64);
    for index in 0..archive.len() {
        let entry = archive.by_index_data(index).map_err(|e| ArchiveError::Damaged(e.to_string()))?;
        let name = entry.name().map_err(|e| ArchiveError::Damaged(e.to_string()))?;
        let path = names.take(&name)?;
        let refuse = |why: &str| Err(ArchiveError::Entry { name: name.to_string(), why: why.to_owned() });
        // The kind of file in a Unix mode; 0 where the archiver gave none.
        match entry.unix_mode().unwrap_or(0) & 0o170_000 {
            0 | 0o100_000 | 0o040_000 => {}
            0o120_000 => return refuse("it is a symbolic link"),
            _ => return refuse("it is neither a file nor a folder"),
        }
        if entry.encrypted() {
            return refuse("it is encrypted");
        }
        if !matches!(entry.compression(), CompressionMethod::Stored | CompressionMethod::Deflated) {
            return refuse("it is compressed by a method other than Deflate");
        }
        announced = announced.saturating_add(entry.size());
        check_bytes(&name, entry.size(), announced, length, caps)?;
        if name.ends_with('/') {
            continue;
        }
        if is_clutter(&path) {
            left_out += 1;
        } else {
            wanted.push(Wanted { index, name: name.to_string(), path });
        }
    }
    Ok((wanted, left_out))
}

/// Holds one file's bytes and those of all files so far against the caps.
fn check_bytes(name: &str, file: u64, total: u64, length: u64, caps: &Caps) -> Result<(), ArchiveError> {
    if file > caps.file_bytes {
        return Err(ArchiveError::Entry {
            name: name.to_owned(),
            why: format!("it unpacks to more than {} MiB", caps.file_bytes >> 20),
        });
    }
    if total > caps.total_bytes {
        return Err(ArchiveError::Cap { what: "bytes when unpacked", limit: caps.total_bytes });
    }
    let limit = caps.ratio.saturating_mul(length).saturating_add(limits::ARCHIVE_RATIO_SLACK);
    if total > limit {
        return Err(ArchiveError::Bomb { archive: length, limit });
    }
    Ok(())
}

/// A new hidden sibling of `folder`.
fn scratch_folder(folder: &Path) -> Result<PathBuf, ArchiveError> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let failed = |source| ArchiveError::Write { path: folder.to_owned(), source };
    let name = folder.file_name().ok_or_else(|| failed(io::ErrorKind::InvalidInput.into()))?;
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    let scratch = folder.with_file_name(format!(
        ".{}.{}-{number}.onsa-unpacking",
        name.to_string_lossy(),
        std::process::id()
    ));
    fs::create_dir(&scratch).map_err(failed)?;
    Ok(scratch)
}

/// Writes the wanted files below `root`, counting what comes out of the decompressor.
fn fill<R: Read + Seek>(
    archive: &mut ZipArchive<R>,
    (wanted, left_out): &(Vec<Wanted>, usize),
    root: &Path,
    length: u64,
    caps: &Caps,
) -> Result<Unpacked, ArchiveError> {
    let mut unpacked = Unpacked { left_out: *left_out, ..Unpacked::default() };
    let mut made = BTreeSet::new();
    let mut block = vec![0; 1 << 17];
    for Wanted { index, name, path } in wanted {
        let path = root.join(path);
        let failed = |source| ArchiveError::Write { path: path.clone(), source };
        let parent = path.parent().unwrap_or(root);
        if !made.contains(parent) {
            fs::create_dir_all(parent).map_err(failed)?;
            made.insert(parent.to_owned());
        }
        let damaged = |why: String| ArchiveError::Entry { name: name.clone(), why };
        let options = ZipReadOptions::new().enforce_header_consistency(true);
        let mut entry = archive.by_index_with_options(*index, options).map_err(|e| damaged(e.to_string()))?;
        let mut file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
        let mut bytes = 0;
        loop {
            let n = match entry.read(&mut block) {
                Ok(0) => break,
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(damaged(format!("it is damaged ({e})"))),
            };
            bytes += n as u64;
            unpacked.bytes += n as u64;
            check_bytes(name, bytes, unpacked.bytes, length, caps)?;
            file.write_all(&block[..n]).map_err(failed)?;
        }
        if bytes != entry.size() {
            return Err(damaged("its length is not the one that its header gives".into()));
        }
        unpacked.files += 1;
    }
    Ok(unpacked)
}
