//! data.yaml and YOLO labels.

use super::listing::{clean, has_extension, list_file, mirrored, walk};
use super::{Bounds, DataError, Entry, Form, Index, Notes, held, label_paths, unsupported};
use crate::data::audit::{Fault, FaultKind};
use crate::data::dataset::Split;
use onsa_intake::data_yaml::{self, Placed};
use onsa_intake::picture::is_picture_name;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) fn index(yaml_path: &Path, bounds: &Bounds) -> Result<Index, DataError> {
    let yaml_path = &clean(yaml_path);
    held(yaml_path, bounds)?;
    let yaml = data_yaml::read(yaml_path)?;
    let root = root(yaml_path, yaml.path.as_ref())?;
    let warn = |w: &Placed| Fault::warning(yaml_path, Some(w.line), FaultKind::IgnoredKey, w.text.clone());
    let faults = yaml.warnings.iter().map(warn).collect();
    let mut found =
        Found { bounds, entries: Vec::new(), faults, folders: BTreeSet::new(), lists: BTreeSet::new() };
    for (split, places) in [(Split::Train, &yaml.train), (Split::Val, &yaml.val), (Split::Test, &yaml.test)] {
        for place in places {
            found.add(split, place, yaml_path, &root)?;
        }
    }
    found.labels_without_image()?;
    Ok(Index {
        form: Form::Yolo,
        root,
        source: yaml_path.into(),
        class_places: yaml.name_lines.iter().map(|&line| (yaml_path.into(), Some(line))).collect(),
        classes: yaml.names,
        keypoint_numbers: yaml.keypoint_numbers,
        channels: yaml.channels,
        entries: found.entries,
        faults: found.faults,
    })
}

/// The data set's root: `path`, absolute or relative to the yaml's folder or to the current one. A yaml inside the
/// folder that its own `path` names (a data set that was moved) counts as lying in the root.
fn root(yaml_path: &Path, path: Option<&Placed>) -> Result<PathBuf, DataError> {
    let here = match yaml_path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let Some(path) = path else { return Ok(here.into()) };
    let stated = Path::new(&path.text);
    let beside = clean(&here.join(stated)); // the stated path itself, where it is absolute
    if let Some(root) = [beside.clone(), clean(stated)].into_iter().find(|p| p.is_dir()) {
        return Ok(root);
    }
    let full = std::path::absolute(here).unwrap_or_else(|_| here.into());
    if stated.file_name().is_some() && clean(&full).file_name() == stated.file_name() {
        return Ok(here.into());
    }
    let message = format!(
        "`path: {}` is no folder (looked at {}): correct it, or leave it out where the images lie beside this file",
        path.text,
        beside.display()
    );
    Err(DataError::Line { path: yaml_path.into(), line: path.line, message })
}

/// Sixteen bytes that stand for a path: of a large data set all paths would take much memory.
fn mark(path: &Path) -> [u8; 16] {
    let digest = Sha256::digest(path.as_os_str().as_encoded_bytes());
    std::array::from_fn(|i| digest[i])
}

struct Found<'a> {
    bounds: &'a Bounds,
    entries: Vec<Entry>,
    faults: Vec<Fault>,
    /// Folders that splits name, and list files.
    folders: BTreeSet<PathBuf>,
    lists: BTreeSet<PathBuf>,
}

impl Found<'_> {
    /// Adds the images of one folder, list file or single image of a split.
    fn add(&mut self, split: Split, place: &Placed, yaml_path: &Path, root: &Path) -> Result<(), DataError> {
        let stated = Path::new(&place.text);
        let mut tried = vec![clean(&root.join(stated))];
        // Exports of Roboflow say ../train/images and mean train/images.
        if let Ok(rest) = stated.strip_prefix("..") {
            tried.push(clean(&root.join(rest)));
        }
        let Some(path) = tried.iter().find(|p| p.exists()) else {
            let hint = if place.text.contains("://") {
                "onsa downloads nothing: fetch the data and give its folder".to_string()
            } else {
                format!("looked at {}: correct the path", tried[0].display())
            };
            let message = format!("`{}: {}` does not exist ({hint})", split.name(), place.text);
            return Err(DataError::Line { path: yaml_path.into(), line: place.line, message });
        };
        if !self.bounds.hold(path) {
            let message = format!(
                "`{}: {}` lies outside the data set's folder and is not read: put the images into the folder",
                split.name(),
                place.text
            );
            return Err(DataError::Line { path: yaml_path.into(), line: place.line, message });
        }
        let before = self.entries.len();
        if path.is_dir() {
            for image in walk(path, self.bounds)? {
                self.push(split, image, None);
            }
            self.folders.insert(path.clone());
        } else if has_extension(path, "txt") {
            let list: Arc<Path> = path.as_path().into();
            for (image, line) in list_file(path, root)? {
                match is_picture_name(&image) {
                    Some(_) => self.push(split, image, Some((list.clone(), line))),
                    None => {
                        let message =
                            format!("`{}` is no path of an image: correct or delete it", image.display());
                        self.faults.push(Fault::error(path, Some(line), FaultKind::MissingImage, message));
                    }
                }
            }
            self.lists.insert(path.clone());
        } else if is_picture_name(path) == Some(true) {
            self.push(split, path.clone(), None);
        } else {
            let message = format!(
                "`{}: {}` is neither a folder nor a list file (.txt): correct it",
                split.name(),
                place.text
            );
            return Err(DataError::Line { path: yaml_path.into(), line: place.line, message });
        }
        if self.entries.len() == before {
            return Err(DataError::Empty { path: path.clone(), split: split.name() });
        }
        Ok(())
    }

    fn push(&mut self, split: Split, image: PathBuf, listed: Option<(Arc<Path>, usize)>) {
        match is_picture_name(&image) {
            Some(true) => {
                let notes = Notes::Yolo;
                self.entries.push(Entry { image, split, listed, group: None, notes });
            }
            Some(false) => self.faults.push(unsupported(&image)),
            None => {}
        }
    }

    /// Label files that no image goes with. Below a folder of images every label file must have one; of a list
    /// file's folders only those labels are at fault whose image is not on the disk, for a list may name a part.
    fn labels_without_image(&mut self) -> Result<(), DataError> {
        let candidates = self.entries.iter().flat_map(|e| label_paths(&e.image));
        // An image of a format that is not read has been told already.
        let unread = self.faults.iter().filter(|f| f.kind == FaultKind::UnsupportedImage);
        let claimed: HashSet<[u8; 16]> =
            candidates.chain(unread.flat_map(|f| label_paths(&f.path))).map(|path| mark(&path)).collect();
        let mut orphans = BTreeSet::new();
        for folder in &self.folders {
            let mirror = mirrored(folder).filter(|m| m.is_dir());
            let folder = mirror.as_deref().unwrap_or(folder);
            if !self.bounds.hold(folder) {
                continue;
            }
            let files = walk(folder, self.bounds)?;
            orphans.extend(files.into_iter().filter(|p| self.is_label(p) && !claimed.contains(&mark(p))));
        }
        let listed = self.entries.iter().filter(|e| e.listed.is_some()).map(|e| &e.image);
        let image_folders: BTreeSet<&Path> = listed.filter_map(|image| image.parent()).collect();
        let mut label_folders: BTreeMap<PathBuf, HashSet<OsString>> = BTreeMap::new();
        for folder in image_folders.into_iter().filter(|f| f.is_dir() && self.bounds.hold(f)) {
            let images = super::top_files(folder)?.into_iter().filter(|p| is_picture_name(p).is_some());
            let stems = images.filter_map(|p| p.file_stem().map(OsString::from));
            let labels = mirrored(folder).filter(|m| m.is_dir()).unwrap_or_else(|| folder.into());
            label_folders.entry(labels).or_default().extend(stems);
        }
        for (folder, stems) in label_folders.into_iter().filter(|(folder, _)| self.bounds.hold(folder)) {
            let has_image = |p: &PathBuf| p.file_stem().is_some_and(|stem| stems.contains(stem));
            let files = super::top_files(&folder)?.into_iter();
            orphans
                .extend(files.filter(|p| self.is_label(p) && !claimed.contains(&mark(p)) && !has_image(p)));
        }
        let message = "no image goes with this label file: add the image or delete the file";
        let fault = |p: PathBuf| Fault::error(&p, None, FaultKind::LabelWithoutImage, message);
        self.faults.extend(orphans.into_iter().map(fault));
        Ok(())
    }

    /// Whether a file is meant as a label file: other texts have customary names.
    fn is_label(&self, path: &Path) -> bool {
        let name = path.file_stem().map(|s| s.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
        let other = ["classes", "labels", "train", "val", "valid", "test", "requirements", "license"];
        has_extension(path, "txt")
            && !other.contains(&name.as_str())
            && !name.starts_with("readme")
            && !self.lists.contains(path)
    }
}
