//! Data sets of whole images with one class each: a folder per class, a CSV table, or IDX files -> [`Dataset`].
//!
//! An item's class stands in its one label, whose box is the whole image. No pixel is decoded here.

pub mod augment;
mod classes;
mod crop;
mod folders;
mod idx;
mod pixel_ops;
mod table;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use onsa_intake::picture::{self, PictureError};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::audit::{Fault, FaultKind};
use super::dataset::{Dataset, Item, Pixels, Split};
use super::division::{Splitting, Unit, held_out};
use super::groups::{self, GroupBy, Member};
use super::index::{self, DataError, LoadOptions, Progress, Report, Stage, hexadecimal};
use crate::boxes::Label;

pub use augment::ClassifyAugment;
pub use crop::{CropArea, centre_square};
pub use idx::{IdxStore, decode_idx};
pub use pixel_ops::Op;
pub(crate) use pixel_ops::moving;

/// What the data set was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A folder for each class.
    Folders,
    /// A CSV table.
    Table,
    /// IDX files.
    Idx,
}

/// A loaded data set.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The images whose header could be read.
    pub dataset: Dataset,
    /// What is wrong, sorted by path and line.
    pub faults: Vec<Fault>,
    /// Images found, those included that cannot be read.
    pub images: usize,
    /// What it was read from.
    pub form: Form,
    /// The table, or the folder.
    pub source: PathBuf,
}

/// An image before anything of it is read.
#[derive(Clone, Debug)]
struct Entry {
    image: PathBuf,
    split: Split,
    class: u32,
    /// What it must not be separated from: images of one group stay on one side of a split.
    group: Option<Arc<str>>,
    /// The file and line that list it, where one does.
    listed: Option<(Arc<Path>, usize)>,
    /// Width and height, where the form knows them.
    known: Option<(u32, u32)>,
}

impl Entry {
    /// The image as one of a group, if it is.
    fn member(&self) -> Option<Member<'_>> {
        let group = self.group.as_deref()?;
        let listed = self.listed.as_ref().map(|(table, line)| (table.as_ref(), *line));
        Some(Member { group, split: self.split, image: &self.image, listed })
    }
}

/// What the reader of a form yields.
struct Index {
    form: Form,
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

/// Whether what lies at `path` can only be meant to be classified: a CSV table, or IDX files.
pub(crate) fn is_plain(path: &Path) -> bool {
    let is_table = path.is_file() && path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"));
    is_table || (path.is_dir() && idx::is_here(path))
}

/// Loads the data set at `path`: a folder with train/ and val/ (or test/) that hold one folder a class, such a folder
/// without splits, a CSV table, or a folder of IDX files. Where nothing is there to validate on, the test images are
/// taken, else a share of the training images. `options.fraction` of the training
/// images is kept, of each class alike; single_cls and classes have no meaning here.
///
/// # Errors
/// See [`DataError`].
pub fn load(path: &Path, options: &LoadOptions) -> Result<Loaded, DataError> {
    load_reporting(path, options, &|_| {})
}

/// As [`load`], and tells the progress.
///
/// # Errors
/// See [`DataError`].
pub fn load_reporting(path: &Path, options: &LoadOptions, report: Report) -> Result<Loaded, DataError> {
    let (splitting, bounds) = (&options.splitting, &options.bounds);
    if !path.exists() {
        return Err(DataError::NotFound(path.into()));
    }
    if !bounds.hold(path) {
        return Err(DataError::Outside(path.into()));
    }
    let column = match &splitting.group {
        Some(GroupBy::Column(name)) => Some(name.as_str()),
        _ => None,
    };
    let is_table = path.is_file() && path.extension().is_some_and(|e| e.eq_ignore_ascii_case("csv"));
    let mut index = if is_table {
        table::index(path, column)?
    } else if path.is_file() {
        return Err(DataError::UnknownClassifyForm(path.into()));
    } else if idx::is_here(path) {
        idx::index(path)?
    } else {
        folders::index(path)?
    };
    let faults = &mut index.faults;
    index.entries.retain(|entry| {
        let held = entry.known.is_some() || bounds.hold(&entry.image);
        if !held {
            let message =
                "the image lies outside the data set's folder and is not read: put it into the folder";
            faults.push(Fault::error(&entry.image, None, FaultKind::OutsideFolder, message));
        }
        held
    });
    if let Some(by) = splitting.group.as_ref().filter(|_| column.is_none() || !is_table) {
        let images = index.entries.iter_mut().map(|e| (e.image.as_path(), &mut e.group));
        index.faults.extend(groups::assign(by, images, &index.root, &index.source)?);
    }
    if splitting.resplit {
        index.entries.iter_mut().filter(|e| e.split == Split::Val).for_each(|e| e.split = Split::Train);
    }
    make_validation(&mut index, splitting);
    index.entries.sort_by(|a, b| (a.split, &a.image, a.class).cmp(&(b.split, &b.image, b.class)));
    drop_doubles(&mut index);
    index.faults.extend(groups::leaks(index.entries.iter().filter_map(Entry::member)));
    index.faults.extend(classes::faults(&index));
    keep_fraction(&mut index.entries, options.fraction);
    let channels = options.pixels.channels.unwrap_or(3);
    for split in [Split::Train, Split::Val] {
        if !index.entries.iter().any(|e| e.split == split) {
            return Err(DataError::Empty { path: index.source, split: split.name() });
        }
    }
    let (done, total) = (AtomicUsize::new(0), index.entries.len());
    let scanned: Vec<Result<Seen, Vec<Fault>>> = index
        .entries
        .par_iter()
        .map(|entry| {
            let scanned = scan(entry, channels);
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            report(Progress { stage: Stage::Scan, done, total });
            scanned
        })
        .collect();
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
        pixels: Pixels { channels: channels as usize, bits: 8 },
        hash: String::new(),
    };
    for (entry, scanned) in index.entries.iter().zip(scanned) {
        match scanned {
            Ok(Seen { item, bytes, bits, fault }) => {
                index.faults.extend(fault);
                if bits > 8 && !options.pixels.eight_bits {
                    dataset.pixels.bits = 16;
                }
                let relative = entry.image.strip_prefix(&index.root).unwrap_or(&entry.image);
                hash.update([entry.split as u8]);
                hash.update(relative.to_string_lossy().as_bytes());
                hash.update(bytes.to_le_bytes());
                hash.update(entry.class.to_le_bytes());
                dataset.split_mut(entry.split).push(item);
            }
            Err(faults) => index.faults.extend(faults),
        }
    }
    dataset.hash = hexadecimal(&hash.finalize());
    let Index { form, source, mut faults, .. } = index;
    // An image that stands in two splits is scanned twice; its faults count once.
    faults.sort();
    faults.dedup();
    Ok(Loaded { dataset, faults, images: total, form, source })
}

/// An image of which the header has been read.
struct Seen {
    item: Item,
    /// Bytes on disk.
    bytes: u64,
    /// Bits of a sample.
    bits: u8,
    fault: Option<Fault>,
}

fn scan(entry: &Entry, channels: u32) -> Result<Seen, Vec<Fault>> {
    let (mut bits, mut fault) = (8, None);
    let (width, height, bytes) = match entry.known {
        Some((width, height)) => (width, height, 0),
        None => {
            let header = picture::probe(&entry.image).map_err(|error| vec![fault_of(entry, &error)])?;
            bits = header.bits;
            fault = index::check_channels(&entry.image, &header, channels);
            (header.width, header.height, header.bytes)
        }
    };
    let labels = vec![label_of(entry.class)];
    let (path, group) = (entry.image.clone(), entry.group.clone());
    Ok(Seen { item: Item { path, label_path: None, width, height, labels, group }, bytes, bits, fault })
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

/// Gives validation something to run on: the test images, else a share of the training images ([`held_out`]), of each
/// class alike where there are no groups.
fn make_validation(index: &mut Index, splitting: &Splitting) {
    let has = |split| index.entries.iter().any(|e| e.split == split);
    if has(Split::Val) {
        return;
    }
    if has(Split::Test) && !splitting.resplit {
        index.entries.iter_mut().filter(|e| e.split == Split::Test).for_each(|e| e.split = Split::Val);
        return;
    }
    let all: Vec<usize> =
        (0..index.entries.len()).filter(|&i| index.entries[i].split == Split::Train).collect();
    let grouped = all.iter().any(|&i| index.entries[i].group.is_some());
    let mut moved = 0;
    for class in 0..if grouped { 1 } else { index.classes.len() as u32 } {
        let mut here: Vec<usize> =
            all.iter().copied().filter(|&i| grouped || index.entries[i].class == class).collect();
        // A row that stands twice goes with its first.
        here.sort_by(|&a, &b| index.entries[a].image.cmp(&index.entries[b].image));
        let unit = |&i: &usize| {
            let entry = &index.entries[i];
            let below = entry.image.strip_prefix(&index.root).unwrap_or(&entry.image);
            Unit { name: below.to_string_lossy().into_owned(), group: entry.group.as_deref() }
        };
        let mut units: Vec<(usize, Unit)> = here.iter().map(|i| (*i, unit(i))).collect();
        if !grouped {
            units.dedup_by(|again, first| index.entries[again.0].image == index.entries[first.0].image);
        }
        let (first, units): (Vec<usize>, Vec<Unit>) = units.into_iter().unzip();
        let held = held_out(&units, splitting.val_fraction, 0);
        let chosen: HashSet<PathBuf> = first
            .into_iter()
            .zip(held)
            .filter(|(_, held)| *held)
            .map(|(i, _)| index.entries[i].image.clone())
            .collect();
        for i in here {
            if chosen.contains(&index.entries[i].image) {
                index.entries[i].split = Split::Val;
                moved += 1;
            }
        }
    }
    let fault = index::made(&index.source, moved, all.len(), grouped, splitting.resplit);
    index.faults.push(fault);
}

/// A row that repeats another of the same split and class says nothing new.
fn drop_doubles(index: &mut Index) {
    let Index { entries, faults, .. } = index;
    entries.dedup_by(|entry, first| {
        let again = (entry.split, entry.class, &entry.image) == (first.split, first.class, &first.image);
        if again && let Some((table, line)) = &entry.listed {
            let message = "the image is listed twice; it counts once: delete a line";
            faults.push(
                Fault::warning(table, Some(*line), FaultKind::ListedTwice, message).of_image(&entry.image),
            );
        }
        again
    });
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
