//! Where a data set may be read: anywhere, or below given folders only, for programs that read on another's behalf.

use std::path::{Path, PathBuf};

/// Folders that the files of a data set must lie in. A data.yaml, a list file or an annotation names any path it likes, and
/// a link leads where it likes: what counts is where the file lies in the end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bounds(Option<Vec<PathBuf>>);

impl Bounds {
    /// Below these folders only. A folder that does not exist holds nothing.
    pub fn within<'a>(folders: impl IntoIterator<Item = &'a Path>) -> Bounds {
        Bounds(Some(folders.into_iter().filter_map(|folder| folder.canonicalize().ok()).collect()))
    }

    /// Whether the file or folder may be read. What does not exist may: there is nothing to read.
    pub fn hold(&self, path: &Path) -> bool {
        let Some(folders) = &self.0 else { return true };
        match path.canonicalize() {
            Ok(path) => folders.iter().any(|folder| path.starts_with(folder)),
            Err(e) => e.kind() == std::io::ErrorKind::NotFound && std::fs::symlink_metadata(path).is_err(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_counts_is_where_a_path_leads() {
        let folder = tempfile::tempdir().unwrap();
        let (inside, outside) = (folder.path().join("in"), folder.path().join("in-not"));
        for place in [&inside, &outside] {
            std::fs::create_dir(place).unwrap();
            std::fs::write(place.join("a"), "a").unwrap();
        }
        let bounds = Bounds::within([inside.as_path()]);
        assert!(
            bounds.hold(&inside) && bounds.hold(&inside.join("a")) && bounds.hold(&inside.join("missing"))
        );
        assert!(!bounds.hold(&outside.join("a")) && !bounds.hold(&inside.join("../in-not/a")));
        assert!(!bounds.hold(folder.path()));
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink(outside.join("a"), inside.join("link")).unwrap();
            assert!(!bounds.hold(&inside.join("link")));
        }
        assert!(Bounds::default().hold(&outside.join("a")));
    }
}
