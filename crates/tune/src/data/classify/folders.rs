//! One folder a class, its name the class's; such folders within train/, val/ and test/, or alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use onsa_intake::picture::is_picture_name;
use walkdir::WalkDir;

use super::{Entry, Form, Index};
use crate::data::audit::{Fault, FaultKind};
use crate::data::dataset::Split;
use crate::data::index::{DataError, named};

pub(super) fn index(root: &Path) -> Result<Index, DataError> {
    let top = folders_in(root)?;
    let splits: Vec<(Split, &PathBuf)> = top.iter().filter_map(|p| Some((named(&name_of(p))?, p))).collect();
    let roots: Vec<(Split, PathBuf)> = if splits.iter().any(|(split, _)| *split == Split::Train) {
        splits.into_iter().map(|(split, path)| (split, path.clone())).collect()
    } else {
        vec![(Split::Train, root.to_owned())]
    };
    let mut found: Vec<(Split, String, PathBuf)> = Vec::new();
    for (split, folder) in &roots {
        for class in folders_in(folder)? {
            found.push((*split, name_of(&class), class));
        }
    }
    // The training folders are the classes, in the order of their names, as torchvision and the reference number them.
    let trained: BTreeSet<String> =
        found.iter().filter(|(split, ..)| *split == Split::Train).map(|(_, name, _)| name.clone()).collect();
    let classes: Vec<String> = trained.into_iter().collect();
    if classes.is_empty() {
        return Err(DataError::UnknownClassifyForm(root.into()));
    }
    let (mut entries, mut faults) = (Vec::new(), Vec::new());
    for (split, name, folder) in found {
        let Some(class) = classes.iter().position(|class| *class == name) else {
            let message = format!(
                "the class `{name}` of {} has no folder in the training split: add one, or remove this",
                split.name()
            );
            faults.push(Fault::error(&folder, None, FaultKind::ClassMismatch, message));
            continue;
        };
        let before = entries.len();
        for image in pictures_below(&folder)? {
            let class = class as u32;
            entries.push(Entry { image, split, class, group: None, listed: None, known: None });
        }
        if entries.len() == before {
            let message = "this class's folder holds no image (JPEG, PNG, WebP, BMP, TIFF or DICOM)";
            faults.push(Fault::warning(&folder, None, FaultKind::ClassWithoutImages, message));
        }
    }
    Ok(Index { form: Form::Folders, root: root.into(), source: root.into(), classes, entries, faults })
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The folders that lie in `folder`, sorted, without hidden ones.
fn folders_in(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let failed = |e: std::io::Error| DataError::Folder { path: folder.into(), message: e.to_string() };
    let mut folders = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.path().is_dir() && !entry.file_name().as_encoded_bytes().starts_with(b".") {
            folders.push(entry.path());
        }
    }
    folders.sort();
    Ok(folders)
}

/// Every picture below `folder`, sorted; links are followed, hidden files left out.
fn pictures_below(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let hidden = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".");
    let walk = WalkDir::new(folder).follow_links(true);
    let mut files = Vec::new();
    for entry in walk.into_iter().filter_entry(|e| e.depth() == 0 || !hidden(e.file_name())) {
        let entry = entry.map_err(|e| DataError::Folder {
            path: e.path().unwrap_or(folder).into(),
            message: e.to_string(),
        })?;
        if !entry.file_type().is_dir() && is_picture_name(entry.path()).is_some() {
            files.push(entry.into_path());
        }
    }
    files.sort();
    Ok(files)
}
