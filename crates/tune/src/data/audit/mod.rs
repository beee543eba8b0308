//! `onsa check`: every fault of a data set, with file and line.

mod album;
mod fault;
mod faulty;
mod fingerprint;
mod fix;
mod leak;
#[cfg(test)]
mod tests;

pub use fault::{Fault, FaultKind, Severity};
pub use faulty::{LeftOut, without_faulty};
pub use fix::{Change, FixError, Fixed, write_fixed};

use super::classify::{self, IdxStore, decode_idx};
use super::dataset::{Dataset, Item, Split};
use super::deep::Deep;
use super::index::{self, DataError, LoadOptions, Progress, Report, Stage};
use album::Album;
use fingerprint::Marks;
use leak::Twin;
use onsa_intake::picture::{self, Pixels};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a data set is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuditTask {
    /// What its form says: a folder for each class, a CSV table and IDX files are classified, all else is detection.
    #[default]
    Auto,
    /// Images with boxes.
    Detect,
    /// Images with a class.
    Classify,
}

/// What a check looks at.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckOptions {
    /// What the data set is for.
    pub task: AuditTask,
    /// What of the data set is loaded.
    pub load: LoadOptions,
    /// Look for nearly equal images across splits too, not only for equal ones.
    pub near: bool,
}

impl Default for CheckOptions {
    fn default() -> Self {
        CheckOptions { task: AuditTask::Auto, load: LoadOptions::default(), near: true }
    }
}

/// The result of a check. As JSON it is the document of `onsa check --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Audit {
    /// Whether no fault is an error.
    pub ok: bool,
    /// `detect` or `classify`.
    pub task: &'static str,
    /// Images found, faulty ones included.
    pub images: usize,
    /// Sound boxes.
    pub boxes: usize,
    /// Class names by class number.
    pub classes: Vec<String>,
    /// Sound boxes of each class over all splits, as long as `classes`.
    pub boxes_per_class: Vec<usize>,
    /// Readable images of each class over all splits; of a detection data set those that show it.
    pub images_per_class: Vec<usize>,
    /// Readable images and sound boxes of each split.
    pub splits: Vec<SplitSummary>,
    /// The data set's hash; empty where it cannot be loaded.
    pub hash: String,
    /// Faults, sorted by path and line.
    pub faults: Vec<Fault>,
}

/// A split in figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SplitSummary {
    /// Which.
    pub split: Split,
    /// Images whose header can be read.
    pub images: usize,
    /// Those of them without a box.
    pub backgrounds: usize,
    /// Images of each class.
    pub images_per_class: Vec<usize>,
    /// Sound boxes.
    pub boxes: usize,
    /// Smallest and largest width in pixels, `null` without an image.
    pub width: Option<(u32, u32)>,
    /// Smallest and largest height in pixels, `null` without an image.
    pub height: Option<(u32, u32)>,
}

/// A data set that was checked.
#[derive(Clone, Debug)]
pub struct Checked {
    /// All images whose header can be read.
    pub dataset: Dataset,
    /// The form of a classification data set.
    pub classify: Option<classify::Form>,
}

/// Checks the data set at `path`: all that [`index::load`] or [`classify::load`] finds, and by decoding every image damage
/// within files, training images that stand in other splits too, and of classified images equal ones of different classes.
/// A data set that cannot be loaded is one fault. The result does not depend on the number of threads.
pub fn check(path: &Path, options: &CheckOptions, report: Report) -> Audit {
    check_keeping(path, options, report).0
}

/// As [`check`]; gives the data set too, where it can be loaded.
pub fn check_keeping(path: &Path, options: &CheckOptions, report: Report) -> (Audit, Option<Checked>) {
    let load = &options.load;
    let classified = || {
        let loaded = classify::load_reporting(path, load, report)?;
        let classify::Loaded { dataset, faults, images, form, .. } = loaded;
        Ok::<_, DataError>((faults, images, Vec::new(), Checked { dataset, classify: Some(form) }))
    };
    let detected = || {
        let loaded = index::load_reporting(path, load, report)?;
        let index::Loaded { dataset, faults, images, class_places, .. } = loaded;
        Ok::<_, DataError>((faults, images, class_places, Checked { dataset, classify: None }))
    };
    let loaded = match options.task {
        AuditTask::Detect => detected(),
        AuditTask::Classify => classified(),
        AuditTask::Auto if classify::is_plain(path) => classified(),
        AuditTask::Auto => match detected() {
            Err(unknown @ DataError::UnknownForm(_)) if path.is_dir() => match classified() {
                // Neither: what was looked for first says more.
                Err(DataError::UnknownClassifyForm(_)) => Err(unknown),
                other => other,
            },
            other => other,
        },
    };
    match loaded {
        Ok((faults, images, places, checked)) => {
            (check_loaded(&checked, faults, images, &places, options, report), Some(checked))
        }
        Err(error) => (unloadable(path, &error, options.task), None),
    }
}

fn unloadable(path: &Path, error: &DataError, task: AuditTask) -> Audit {
    let (at, line) = error.place().unwrap_or((path, None));
    let text = error.to_string();
    let place = line.map_or_else(|| at.display().to_string(), |l| format!("{}:{l}", at.display()));
    let message = text.strip_prefix(&place).map_or(text.as_str(), |rest| rest.trim_start_matches([':', ' ']));
    let classify = task == AuditTask::Classify || (task == AuditTask::Auto && classify::is_plain(path));
    Audit {
        ok: false,
        task: if classify { "classify" } else { "detect" },
        images: 0,
        boxes: 0,
        classes: Vec::new(),
        boxes_per_class: Vec::new(),
        images_per_class: Vec::new(),
        splits: Vec::new(),
        hash: String::new(),
        faults: vec![Fault::error(at, line, FaultKind::DataSet, message)],
    }
}

fn check_loaded(
    checked: &Checked,
    mut faults: Vec<Fault>,
    images: usize,
    places: &[(PathBuf, Option<usize>)],
    options: &CheckOptions,
    report: Report,
) -> Audit {
    let dataset = &checked.dataset;
    let known_bad: BTreeSet<&Path> =
        faults.iter().filter(|f| f.is_error()).map(|f| f.path.as_path()).collect();
    let items: Vec<&Item> = Split::ALL.into_iter().flat_map(|split| dataset.split(split)).collect();
    let (done, total) = (AtomicUsize::new(0), items.len());
    let album = Album::new(total);
    let store = IdxStore::default();
    let decode = |(i, item): (usize, &&Item)| {
        let fault = match known_bad.contains(item.path.as_path()) {
            true => None, // told already
            false => look(&album, &store, (i, item), dataset.pixels.channels).err(),
        };
        report(Progress { stage: Stage::Decode, done: done.fetch_add(1, Ordering::Relaxed) + 1, total });
        fault
    };
    let damaged: Vec<Fault> = items.par_iter().enumerate().filter_map(decode).collect();
    faults.extend(damaged);
    let train = 0..dataset.train.len();
    let val = train.end..train.end + dataset.val.len();
    for (split, others) in [(Split::Val, val.clone()), (Split::Test, val.end..total)] {
        for (i, twin) in others.clone().zip(leak::leaks(&album, train.clone(), others, options.near)) {
            if let Some(twin) = twin {
                faults.push(leak_fault(split, items[i], twin, &items));
            }
        }
    }
    let classes = dataset.classes.len();
    if checked.classify.is_some() {
        faults.extend(conflicts(&album, &items, &dataset.classes, options.near));
    } else {
        faults.extend(classes_without_boxes(dataset, places, &options.load));
    }
    faults.sort();
    faults.dedup();
    let splits = Split::ALL.map(|split| summary(split, dataset.split(split), classes, checked)).to_vec();
    let mut boxes_per_class = vec![0; classes];
    let mut images_per_class = vec![0; classes];
    for (split, summary) in Split::ALL.into_iter().zip(&splits) {
        let counts = index::boxes_per_class(dataset.split(split), classes);
        boxes_per_class.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
        images_per_class.iter_mut().zip(&summary.images_per_class).for_each(|(sum, n)| *sum += n);
    }
    Audit {
        ok: !faults.iter().any(Fault::is_error),
        task: if checked.classify.is_some() { "classify" } else { "detect" },
        images,
        boxes: splits.iter().map(|s| s.boxes).sum(),
        classes: dataset.classes.clone(),
        boxes_per_class: if checked.classify.is_some() { Vec::new() } else { boxes_per_class },
        images_per_class,
        splits,
        hash: dataset.hash.clone(),
        faults,
    }
}

/// Decodes an image and keeps its marks.
fn look(album: &Album, store: &IdxStore, (i, item): (usize, &Item), channels: usize) -> Result<(), Fault> {
    let (width, height, rgb, samples) = match decode_idx(store, &item.path) {
        Some(Ok(image)) => (image.width, image.height, image.data, None),
        Some(Err(error)) => {
            return Err(Fault::error(&item.path, None, FaultKind::CorruptImage, error.to_string()));
        }
        None => {
            let picture = picture::read_as(&item.path, channels as u32)
                .map_err(|e| Fault::from_picture(&e, &item.path))?;
            let (width, height) = (picture.width as usize, picture.height as usize);
            match (&picture.pixels, picture.channels) {
                (Pixels::U8(_), 1..=4) => (width, height, picture.into_rgb8(), None),
                _ => {
                    let data = picture.to_channels(picture.channels).unwrap_or_default();
                    let deep = Deep { width, height, channels: picture.channels as usize, data };
                    (width, height, deep.preview().data, Some(deep.data))
                }
            }
        }
    };
    let (marks, thumbnail) = Marks::of(width, height, &rgb, samples.as_deref());
    album.put(i, marks, &thumbnail);
    Ok(())
}

fn leak_fault(split: Split, item: &Item, twin: Twin, items: &[&Item]) -> Fault {
    let (exact, like, twin) = match twin {
        Twin::Exact(i) => (true, "is", items[i]),
        Twin::Near(i) => (false, "is nearly", items[i]),
    };
    let kind = match (split, exact) {
        (Split::Test, true) => FaultKind::TrainImageInTest,
        (Split::Test, false) => FaultKind::NearTrainImageInTest,
        (_, true) => FaultKind::TrainImageInVal,
        (_, false) => FaultKind::NearTrainImageInVal,
    };
    let message = format!(
        "the {} image {like} the training image {}: figures on it flatter the model; take it out of one split",
        split.name(),
        twin.path.display()
    );
    Fault::warning(&item.path, None, kind, message)
}

/// Equal images of different classes: one of the classes is wrong. Of nearly equal ones a person should look.
fn conflicts(album: &Album, items: &[&Item], names: &[String], near: bool) -> Vec<Fault> {
    let class = |item: &Item| item.labels.first().map_or(0, |label| label.class);
    let classes: Vec<u32> = items.iter().map(|item| class(item)).collect();
    let name = |i: usize| names.get(classes[i] as usize).map_or("", String::as_str);
    let twins = leak::conflicts(album, &classes, near).into_iter().enumerate();
    twins
        .filter_map(|(i, twin)| {
            let (own, path) = (name(i), &items[i].path);
            Some(match twin? {
                Twin::Exact(j) => {
                    let (other, class) = (items[j].path.display(), name(j));
                    let message = format!(
                        "the image has the class `{own}`, and {other}, which is the same, has `{class}`: correct one"
                    );
                    Fault::error(path, None, FaultKind::DuplicateOtherClass, message)
                }
                Twin::Near(j) => {
                    let (other, class) = (items[j].path.display(), name(j));
                    let message = format!(
                        "the image has the class `{own}`, and {other}, which is nearly the same, has `{class}`: look at both"
                    );
                    Fault::warning(path, None, FaultKind::NearDuplicateOtherClass, message)
                }
            })
        })
        .collect()
}

fn classes_without_boxes(
    dataset: &Dataset,
    places: &[(PathBuf, Option<usize>)],
    options: &LoadOptions,
) -> Vec<Fault> {
    let counts = index::boxes_per_class(&dataset.train, dataset.classes.len());
    let wanted = |class: usize| options.classes.as_ref().is_none_or(|c| c.contains(&(class as u32)));
    let missing = (0..dataset.classes.len()).filter(|&class| counts[class] == 0 && wanted(class));
    missing
        .map(|class| {
            let (path, line) = &places[class];
            let name = &dataset.classes[class];
            let message = format!(
                "class {class} (`{name}`) has no box to train on: label some objects or remove the class"
            );
            Fault::warning(path, *line, FaultKind::ClassWithoutBoxes, message)
        })
        .collect()
}

fn summary(split: Split, items: &[Item], classes: usize, checked: &Checked) -> SplitSummary {
    let range = |side: fn(&Item) -> u32| items.iter().map(side).min().zip(items.iter().map(side).max());
    let mut images_per_class = vec![0; classes];
    for item in items {
        let mut shown: Vec<u32> = item.labels.iter().map(|label| label.class).collect();
        shown.sort_unstable();
        shown.dedup();
        shown.retain(|class| (*class as usize) < classes);
        shown.into_iter().for_each(|class| images_per_class[class as usize] += 1);
    }
    // The label of a classified image is no box.
    let boxes = if checked.classify.is_some() { 0 } else { items.iter().map(|item| item.labels.len()).sum() };
    SplitSummary {
        split,
        images: items.len(),
        backgrounds: items.iter().filter(|item| item.labels.is_empty()).count(),
        images_per_class,
        boxes,
        width: range(|item| item.width),
        height: range(|item| item.height),
    }
}
