//! Durable writes. Every file that must survive a crash goes through [`write()`] or [`write_with`], and nothing else in the
//! workspace does it another way: a sibling scratch file, fsync, rename, fsync of the folder. After a crash or a full
//! disk the path holds either the old bytes or the new ones, whole.
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// What of a write failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Making the scratch file.
    Create,
    /// Writing into it.
    Write,
    /// Bringing its bytes to the disk.
    Sync,
    /// Renaming it to its final name.
    Rename,
    /// Bringing the new name to the disk.
    SyncFolder,
}

/// A durable write that failed; the path still holds what it held before, unless `step` is
/// [`Step::SyncFolder`], where the new bytes are in place but may not survive a power cut.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {}: {}", path.display(), describe(source))]
pub struct WriteError {
    /// The file that was to be written.
    pub path: PathBuf,
    /// What failed.
    pub step: Step,
    /// Why; the message already says it in words.
    pub source: io::Error,
}

fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull => "the disk is full".into(),
        io::ErrorKind::QuotaExceeded => "the disk quota is used up".into(),
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only".into(),
        io::ErrorKind::PermissionDenied => "permission denied".into(),
        io::ErrorKind::NotFound => "the folder does not exist".into(),
        io::ErrorKind::WriteZero => "the disk took fewer bytes than it was given".into(),
        _ => error.to_string(),
    }
}

impl WriteError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let at = folder.display();
        match self.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::WriteZero => {
                format!("free some space where {at} is, or write to another disk")
            }
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                format!("make {at} writable, or write to another folder")
            }
            io::ErrorKind::NotFound => format!("make the folder {at} first"),
            _ => format!("check the disk that holds {at}"),
        }
    }
}

/// A scratch file being written.
pub trait Scratch: Write {
    /// Brings every byte to the disk.
    ///
    /// # Errors
    /// The disk fails.
    fn sync(&mut self) -> io::Result<()>;
}

/// The file operations of a durable write; tests put failing ones in their place.
pub trait Files {
    /// Makes a new file; fails if it exists.
    ///
    /// # Errors
    /// As [`std::fs::OpenOptions::open`].
    fn create(&self, path: &Path) -> io::Result<Box<dyn Scratch>>;
    /// Gives a file its final name, replacing what stood there.
    ///
    /// # Errors
    /// As [`std::fs::rename`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Brings a folder's names to the disk.
    ///
    /// # Errors
    /// As [`std::fs::File::sync_all`].
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
    /// Removes a file.
    ///
    /// # Errors
    /// As [`std::fs::remove_file`].
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The real file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Scratch for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}

impl Files for Disk {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Scratch>> {
        Ok(Box::new(OpenOptions::new().write(true).create_new(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        // Windows cannot open a folder as a file, and its rename is durable without.
        if cfg!(windows) { Ok(()) } else { File::open(folder)?.sync_all() }
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

const SUFFIX: &str = "onsa-scratch";

/// Writes `bytes` to `path`, durably.
///
/// # Errors
/// Any failing step; see [`WriteError`].
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    write_streamed(path, |file| file.write_all(bytes))
}

/// Writes to `path` what `fill` writes, durably. `fill` should write in large pieces: there is no buffer between.
///
/// # Errors
/// Any failing step; see [`WriteError`].
pub fn write_streamed(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), WriteError> {
    #[cfg(test)]
    if let Some(files) = faults::current() {
        return write_with(&files, path, fill);
    }
    write_with(&Disk, path, fill)
}

/// As [`write_streamed`], through the given file operations.
///
/// # Errors
/// Any failing step; see [`WriteError`]. The scratch file is removed then.
pub fn write_with(
    files: &dyn Files,
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), WriteError> {
    let failed = |step| move |source| WriteError { path: path.to_owned(), step, source };
    let scratch_path = scratch_name(path)
        .ok_or_else(|| failed(Step::Create)(io::Error::new(io::ErrorKind::InvalidInput, "no file name")))?;
    let mut scratch = files.create(&scratch_path).map_err(failed(Step::Create))?;
    let written = fill(&mut *scratch)
        .map_err(failed(Step::Write))
        .and_then(|()| scratch.flush().map_err(failed(Step::Write)))
        .and_then(|()| scratch.sync().map_err(failed(Step::Sync)));
    drop(scratch);
    if let Err(error) = written.and_then(|()| files.rename(&scratch_path, path).map_err(failed(Step::Rename)))
    {
        // The write's own error is the one to report; `sweep` removes what cannot be removed now.
        let _ = files.remove(&scratch_path);
        return Err(error);
    }
    files.sync_folder(folder_of(path)).map_err(failed(Step::SyncFolder))
}

/// Removes scratch files that killed processes left in `folder`; call it before a run takes the folder over.
/// Returns how many.
///
/// # Errors
/// The folder cannot be read, or a scratch file cannot be removed.
pub fn sweep(folder: &Path) -> io::Result<usize> {
    let mut removed = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == SUFFIX) {
            fs::remove_file(path)?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A hidden sibling, unique among the processes and threads of this machine.
fn scratch_name(path: &Path) -> Option<PathBuf> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name()?);
    name.push(format!(".{}-{}.{SUFFIX}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
    Some(path.with_file_name(name))
}

#[cfg(test)]
pub(crate) mod faults;
#[cfg(test)]
mod tests;
