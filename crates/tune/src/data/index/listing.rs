//! Which files there are: folders, list files, and the label path of an image.

use super::{Bounds, DataError};
use onsa_intake::labels::read_file;
use onsa_intake::limits::LIST_FILE_BYTES;
use std::path::{Component, Path, PathBuf};
use walkdir::WalkDir;

/// All files below `folder`, sorted by path. Links are followed. Hidden files and folders are no part of a data set
/// (editors, file managers and archivers leave them), neither in the reference.
pub(super) fn walk(folder: &Path, bounds: &Bounds) -> Result<Vec<PathBuf>, DataError> {
    let hidden = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".");
    let walk = WalkDir::new(folder).follow_links(true);
    let mut files = Vec::new();
    for entry in walk.into_iter().filter_entry(|e| {
        // A link to a folder that may not be read is not followed.
        e.depth() == 0
            || (!hidden(e.file_name())
                && (!e.path_is_symlink() || !e.file_type().is_dir() || bounds.hold(e.path())))
    }) {
        let entry = entry.map_err(|e| DataError::Folder {
            path: e.path().unwrap_or(folder).into(),
            message: e.io_error().map_or_else(|| e.to_string(), ToString::to_string),
        })?;
        if !entry.file_type().is_dir() {
            let mut path = clean(entry.path());
            path.shrink_to_fit();
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The path without `.` and `a/..`, by its text alone: links are not resolved, for the label folder stands beside the
/// name `images`, not beside what it links to.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir if matches!(out.components().next_back(), Some(Component::Normal(_))) => {
                out.pop();
            }
            part => out.push(part),
        }
    }
    if out.as_os_str().is_empty() { ".".into() } else { out }
}

pub(super) fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|e| e.eq_ignore_ascii_case(extension))
}

/// `path` with its last component `images` turned into `labels`; `None` where there is no such component.
pub(super) fn mirrored(path: &Path) -> Option<PathBuf> {
    let parts: Vec<Component> = path.components().collect();
    let at = parts.iter().rposition(|p| p.as_os_str() == "images")?;
    let turned = |(i, p): (usize, &Component)| {
        if i == at { Path::new("labels").to_path_buf() } else { Path::new(p.as_os_str()).to_path_buf() }
    };
    Some(parts.iter().enumerate().map(turned).collect())
}

/// Where the label file of an image may lie, the likeliest first: the last folder `images` on its way turned into
/// `labels`; else, or where nothing is there, the image's own folder. The extension is `.txt`.
pub fn label_paths(image: &Path) -> Vec<PathBuf> {
    let beside = image.with_extension("txt");
    // Only a folder counts, not a file that is itself called `images`.
    let mirror =
        image.parent().and_then(mirrored).zip(beside.file_name()).map(|(folder, name)| folder.join(name));
    mirror.into_iter().chain([beside]).collect()
}

/// The images that a list file names, one a line, each with its line: relative to the list's folder, or, where nothing
/// is there, to the data set's root.
pub(super) fn list_file(list: &Path, root: &Path) -> Result<Vec<(PathBuf, usize)>, DataError> {
    let bytes = read_file(list, LIST_FILE_BYTES)?;
    let text = std::str::from_utf8(&bytes).map_err(|e| DataError::Line {
        path: list.into(),
        line: 1 + bytes[..e.valid_up_to()].iter().filter(|&&b| b == b'\n').count(),
        message: "the list is not UTF-8 text: save it as UTF-8, one image path a line".into(),
    })?;
    let folder = list.parent().unwrap_or(Path::new("."));
    let rows = text.trim_start_matches('\u{feff}').lines().enumerate();
    let paths = rows.filter(|(_, row)| !row.trim().is_empty()).map(|(i, row)| {
        let row = Path::new(row.trim());
        let (here, below_root) = (clean(&folder.join(row)), clean(&root.join(row)));
        let path = if !here.exists() && below_root.exists() { below_root } else { here };
        (path, i + 1)
    });
    Ok(paths.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_mirror_the_last_images_folder() {
        let first = |image: &str| label_paths(Path::new(image))[0].display().to_string();
        assert_eq!(first("/a/images/b/images/c/d.e.jpg"), "/a/images/b/labels/c/d.e.txt");
        assert_eq!(first("images/d.jpg"), "labels/d.txt");
        assert_eq!(first("/a/myimages/d.jpg"), "/a/myimages/d.txt");
        assert_eq!(first("/a/images"), "/a/images.txt");
        assert_eq!(
            label_paths(Path::new("/images/d.jpg")),
            [Path::new("/labels/d.txt"), Path::new("/images/d.txt")]
        );
    }

    #[test]
    fn paths_are_cleaned_by_their_text() {
        let cleaned = |p: &str| clean(Path::new(p)).display().to_string();
        assert_eq!(cleaned("a/./b/../c"), "a/c");
        assert_eq!(cleaned("../a"), "../a");
        assert_eq!(cleaned("a/.."), ".");
        assert_eq!(cleaned("/a/../../b"), "/../b");
    }
}
