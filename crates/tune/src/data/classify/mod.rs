//! Data sets of whole images with one class each: a folder per class, a CSV table, or IDX files -> [`Dataset`].
//!
//! An item's class stands in its one label, whose box is the whole image. No pixel is decoded here.

pub mod augment;
mod crop;
mod folders;
mod idx;
mod pixel_ops;
mod table;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use onsa_intake::picture::{self, PictureError};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::audit::{Fault, FaultKind};
use super::dataset::{Dataset, Item, Split};
use super::index::{DataError, hexadecimal};
use crate::boxes::Label;

pub use augment::ClassifyAugment;
pub use crop::{CropArea, centre_square};
pub use idx::{IdxStore, decode_idx};

/// A loaded data set.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The images whose header could be read.
    pub dataset: Dataset,
    /// What is wrong, sorted by path and line.
    pub faults: Vec<Fault>,
}

/// An image before anything of it is read.
#[derive(Clone, Debug)]
struct Entry {
    image: PathBuf,
    split: Split,
    class: u32,
    /// What it must not be separated from: images of one group stay on one side of a split.
    group: Option<String>,
    /// The file and line that list it, where one does.
    listed: Option<(PathBuf, usize)>,
    /// Width and height, where the form knows them.
    known: Option<(u32, u32)>,
}

/// What the reader of a form yields.
struct Index {
    root: PathBuf,
    source: PathBuf,
    classes: Vec<String>,
    entries: Vec<Entry>,
    faults: Vec<Fault>,
}

/// The label of a whole image.
pub fn label_of(class: u32) -> Label {
    Label { class, cx: 0.5, cy: 0.5, w: 1.0, h: 1.0 }
}

/// Loads the data set at `path`: a folder with train/ and val/ (or test/) that hold one folder a class, such a folder
/// without splits, a CSV table, or a folder of IDX files. Where nothing is there to validate on, the test images are
/// taken, else a fifth of the training images. `fraction` of the training images is kept, of each class alike.
///
/// # Errors
/// See [`DataError`].
pub fn load(path: &Path, fraction: f64) -> Result<Loaded, DataError> {
    if !path.exists() {
        return Err(DataError::NotFound(path.into()));
    }
    let mut index = if path.is_file() {
        match path.extension().and_then(|e| e.to_str()) {
            Some("csv") => table::index(path)?,
            _ => return Err(DataError::UnknownClassifyForm(path.into())),
        }
    } else if idx::is_here(path) {
        idx::index(path)?
    } else {
        folders::index(path)?
    };
    make_validation(&mut index);
    leaks(&mut index);
    index.entries.sort_by(|a, b| (a.split, &a.image).cmp(&(b.split, &b.image)));
    keep_fraction(&mut index.entries, fraction);
    for split in [Split::Train, Split::Val] {
        if !index.entries.iter().any(|e| e.split == split) {
            return Err(DataError::Empty { path: index.source, split: split.name() });
        }
    }
    let scanned: Vec<Result<(Item, u64), Fault>> = index.entries.par_iter().map(scan).collect();
    let mut hash = Sha256::new_with_prefix(b"onsa classify data 1\0");
    for class in &index.classes {
        hash.update((class.len() as u64).to_le_bytes());
        hash.update(class.as_bytes());
    }
    let mut dataset = Dataset {
        classes: index.classes,
        train: Vec::new(),
        val: Vec::new(),
        test: Vec::new(),
        hash: String::new(),
    };
    for (entry, scanned) in index.entries.iter().zip(scanned) {
        match scanned {
            Ok((item, bytes)) => {
                let relative = entry.image.strip_prefix(&index.root).unwrap_or(&entry.image);
                hash.update([entry.split as u8]);
                hash.update(relative.to_string_lossy().as_bytes());
                hash.update(bytes.to_le_bytes());
                hash.update(entry.class.to_le_bytes());
                dataset.split_mut(entry.split).push(item);
            }
            Err(fault) => index.faults.push(fault),
        }
    }
    dataset.hash = hexadecimal(&hash.finalize());
    index.faults.sort();
    Ok(Loaded { dataset, faults: index.faults })
}

/// An image's size and its bytes on disk.
fn scan(entry: &Entry) -> Result<(Item, u64), Fault> {
    let (width, height, bytes) = match entry.known {
        Some((width, height)) => (width, height, 0),
        None => {
            let header = picture::probe(&entry.image).map_err(|error| fault_of(entry, &error))?;
            (header.width, header.height, header.bytes)
        }
    };
    let labels = vec![label_of(entry.class)];
    Ok((Item { path: entry.image.clone(), label_path: None, width, height, labels }, bytes))
}

fn fault_of(entry: &Entry, error: &PictureError) -> Fault {
    match (&entry.listed, error) {
        (Some((table, line)), PictureError::Read { source, .. })
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            let message =
                format!("the image {} does not exist: add the file or remove the row", entry.image.display());
            Fault::error(table, Some(*line), FaultKind::MissingImage, message).of_image(&entry.image)
        }
        _ => Fault::from_picture(error, &entry.image),
    }
}

/// Gives validation something to run on: the test images, else of each class the fifth of the training images (or of
/// the groups) whose names have the smallest hashes. The choice is the same on every machine.
fn make_validation(index: &mut Index) {
    let has = |split| index.entries.iter().any(|e| e.split == split);
    if has(Split::Val) {
        return;
    }
    if has(Split::Test) {
        index.entries.iter_mut().filter(|e| e.split == Split::Test).for_each(|e| e.split = Split::Val);
        return;
    }
    let root = index.root.clone();
    let key = |entry: &Entry| match &entry.group {
        Some(group) => group.clone(),
        None => entry.image.strip_prefix(&root).unwrap_or(&entry.image).to_string_lossy().into_owned(),
    };
    let grouped = index.entries.iter().any(|e| e.group.is_some());
    let mut moved = 0;
    let classes = if grouped { 1 } else { index.classes.len() as u32 };
    for class in 0..classes {
        let here = |e: &Entry| grouped || e.class == class;
        let mut keys: Vec<([u8; 32], String)> = index
            .entries
            .iter()
            .filter(|e| here(e))
            .map(|e| (Sha256::digest(key(e).as_bytes()).into(), key(e)))
            .collect();
        keys.sort();
        keys.dedup();
        let count = (keys.len() + 2) / 5;
        let chosen: std::collections::HashSet<String> =
            keys.into_iter().take(count).map(|(_, key)| key).collect();
        for entry in index.entries.iter_mut().filter(|e| here(e)) {
            if chosen.contains(&key(entry)) {
                entry.split = Split::Val;
                moved += 1;
            }
        }
    }
    let what = if grouped {
        "whole groups, chosen by a hash of their names"
    } else {
        "chosen by a hash of their names"
    };
    let message = format!(
        "there is no validation split: {moved} of {} images, {what}, are kept for it",
        index.entries.len()
    );
    index.faults.push(Fault::warning(&index.source, None, FaultKind::SplitMade, message));
}

/// Groups that stand on both sides of the training split: the figures would flatter.
fn leaks(index: &mut Index) {
    let groups = |split: fn(Split) -> bool| -> std::collections::BTreeSet<&String> {
        index.entries.iter().filter(|e| split(e.split)).filter_map(|e| e.group.as_ref()).collect()
    };
    let (train, held) = (groups(|s| s == Split::Train), groups(|s| s != Split::Train));
    let faults: Vec<Fault> = train
        .intersection(&held)
        .map(|group| {
            let message = format!(
                "the group `{group}` has images both in training and in validation or test: give all of them one split"
            );
            Fault::error(&index.source, None, FaultKind::GroupLeak, message)
        })
        .collect();
    index.faults.extend(faults);
}

/// Of each class's training images the first `fraction` by path, at least one. `entries` are sorted.
fn keep_fraction(entries: &mut Vec<Entry>, fraction: f64) {
    let mut of_class = std::collections::HashMap::<u32, usize>::new();
    for entry in entries.iter().filter(|e| e.split == Split::Train) {
        *of_class.entry(entry.class).or_default() += 1;
    }
    let mut seen = std::collections::HashMap::<u32, usize>::new();
    entries.retain(|entry| {
        if entry.split != Split::Train {
            return true;
        }
        let place = seen.entry(entry.class).or_default();
        *place += 1;
        let kept = (of_class[&entry.class] as f64 * fraction).round().max(1.0);
        *place as f64 <= kept
    });
}
