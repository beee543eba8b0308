//! Where a run writes: `project/name`, numbered where that is taken.
use std::io;
use std::path::{Path, PathBuf};

/// A run folder that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// The file system refuses.
    #[error("cannot make the run folder {}: {source}", path.display())]
    Create {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A thousand numbered names are taken.
    #[error("{} and its numbered successors up to {last} are all taken", path.display())]
    Taken {
        /// The first name.
        path: PathBuf,
        /// The last number tried.
        last: u32,
    },
}

const LAST_NUMBER: u32 = 9999;

/// Makes `project/name`; where it exists already, `project/name2`, `name3` and so on, unless `exist_ok`.
/// The folder is made in one step, so two runs that start together never share one.
///
/// # Errors
/// The file system refuses, or too many numbered names are taken.
pub fn claim(project: &Path, name: &str, exist_ok: bool) -> Result<PathBuf, RunDirError> {
    let create = |path: &Path, source| RunDirError::Create { path: path.to_owned(), source };
    std::fs::create_dir_all(project).map_err(|source| create(project, source))?;
    let first = project.join(name);
    if exist_ok {
        std::fs::create_dir_all(&first).map_err(|source| create(&first, source))?;
        return Ok(first);
    }
    for number in 1..=LAST_NUMBER {
        let path = if number == 1 { first.clone() } else { project.join(format!("{name}{number}")) };
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(create(&path, source)),
        }
    }
    Err(RunDirError::Taken { path: first, last: LAST_NUMBER })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_name_is_numbered_and_exist_ok_reuses_it() {
        let root = tempfile::tempdir().unwrap();
        let project = root.path().join("runs/detect");
        let claims: Vec<PathBuf> = (0..3).map(|_| claim(&project, "train", false).unwrap()).collect();
        assert_eq!(claims, ["train", "train2", "train3"].map(|name| project.join(name)));
        assert_eq!(claim(&project, "train", true).unwrap(), project.join("train"));
    }

    #[test]
    fn a_file_in_the_way_of_the_project_is_an_error_that_names_it() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("runs"), "").unwrap();
        let error = claim(&root.path().join("runs/detect"), "train", false).unwrap_err();
        assert!(error.to_string().contains("runs/detect"), "{error}");
    }
}
