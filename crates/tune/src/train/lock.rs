//! One process a run folder.

use std::fs::{File, TryLockError};
use std::path::Path;

use super::error::TrainError;

/// Held while a process trains in a run folder. The system lets it go when the process ends, however it ends.
#[derive(Debug)]
pub struct RunLock {
    _file: File,
}

impl RunLock {
    /// Takes the run folder over; makes its folder `checkpoint` where it is missing.
    ///
    /// # Errors
    /// [`TrainError::InUse`] where another process trains in it; [`TrainError::Folder`] where the file system refuses.
    pub fn take(run_dir: &Path) -> Result<RunLock, TrainError> {
        Self::take_in(&run_dir.join("checkpoint"), run_dir)
    }

    /// As [`RunLock::take`], with the lock in another folder.
    ///
    /// # Errors
    /// As [`RunLock::take`].
    pub fn take_in(folder: &Path, run_dir: &Path) -> Result<RunLock, TrainError> {
        let failed = |source| TrainError::Folder { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
        let path = folder.join("lock");
        let open = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(path);
        let file = open.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(RunLock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(TrainError::InUse { run_dir: run_dir.to_owned() }),
            // Some network file systems have no locks: training there is better than not at all.
            Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
                Ok(RunLock { _file: file })
            }
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_folder_has_one_owner_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let first = RunLock::take(folder.path()).unwrap();
        let error = RunLock::take(folder.path()).unwrap_err();
        assert!(matches!(&error, TrainError::InUse { run_dir } if run_dir == folder.path()), "{error}");
        drop(first);
        RunLock::take(folder.path()).unwrap();
    }
}
