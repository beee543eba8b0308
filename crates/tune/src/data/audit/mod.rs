//! `onsa check`: every fault of a data set, with file and line.

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

use super::dataset::{Dataset, Item, Split};
use super::index::{self, DataError, LoadOptions, Loaded, Progress, Report, Stage};
use fingerprint::Fingerprint;
use leak::Leak;
use onsa_intake::picture;
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a check looks at.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckOptions {
    /// What of the data set is loaded.
    pub load: LoadOptions,
    /// Look for nearly equal images across splits too, not only for equal ones.
    pub near: bool,
}

impl Default for CheckOptions {
    fn default() -> Self {
        CheckOptions { load: LoadOptions::default(), near: true }
    }
}

/// The result of a check. As JSON it is the document of `onsa check --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Audit {
    /// Whether no fault is an error.
    pub ok: bool,
    /// Images found, faulty ones included.
    pub images: usize,
    /// Sound boxes.
    pub boxes: usize,
    /// Class names by class number.
    pub classes: Vec<String>,
    /// Sound boxes of each class over all splits, as long as `classes`.
    pub boxes_per_class: Vec<usize>,
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
    /// Sound boxes.
    pub boxes: usize,
    /// Smallest and largest width in pixels, `null` without an image.
    pub width: Option<(u32, u32)>,
    /// Smallest and largest height in pixels, `null` without an image.
    pub height: Option<(u32, u32)>,
}

/// Checks the data set at `path`: all that [`index::load`] finds, and by decoding every image damage within files and
/// training images that stand in other splits too. A data set that cannot be loaded is one fault. The result does not
/// depend on the number of threads.
pub fn check(path: &Path, options: &CheckOptions, report: Report) -> Audit {
    check_keeping(path, options, report).0
}

/// As [`check`]; gives the data set too, where it can be loaded: with all images whose header can be read.
pub fn check_keeping(path: &Path, options: &CheckOptions, report: Report) -> (Audit, Option<Dataset>) {
    match index::load_reporting(path, &options.load, report) {
        Ok(loaded) => {
            let (audit, dataset) = check_loaded(loaded, options, report);
            (audit, Some(dataset))
        }
        Err(error) => (unloadable(path, &error), None),
    }
}

fn unloadable(path: &Path, error: &DataError) -> Audit {
    let (at, line) = error.place().unwrap_or((path, None));
    let text = error.to_string();
    let place = line.map_or_else(|| at.display().to_string(), |l| format!("{}:{l}", at.display()));
    let message = text.strip_prefix(&place).map_or(text.as_str(), |rest| rest.trim_start_matches([':', ' ']));
    let faults = vec![Fault::error(at, line, FaultKind::DataSet, message)];
    let (classes, boxes_per_class, splits, hash) = (Vec::new(), Vec::new(), Vec::new(), String::new());
    Audit { ok: false, images: 0, boxes: 0, classes, boxes_per_class, splits, hash, faults }
}

fn check_loaded(loaded: Loaded, options: &CheckOptions, report: Report) -> (Audit, Dataset) {
    let Loaded { dataset, mut faults, images, class_places, .. } = loaded;
    let known_bad: BTreeSet<&Path> =
        faults.iter().filter(|f| f.is_error()).map(|f| f.path.as_path()).collect();
    let total = Split::ALL.map(|s| dataset.split(s).len()).iter().sum();
    let done = AtomicUsize::new(0);
    let decode = |item: &Item| {
        let print = match known_bad.contains(item.path.as_path()) {
            true => None, // too small: told already
            false => Some(picture::read(&item.path).map(Fingerprint::of)),
        };
        report(Progress { stage: Stage::Decode, done: done.fetch_add(1, Ordering::Relaxed) + 1, total });
        print
    };
    let mut damaged = Vec::new();
    let mut prints: Vec<(Vec<&Item>, Vec<Fingerprint>)> = Vec::new();
    for split in Split::ALL {
        let items = dataset.split(split);
        let read: Vec<_> = items.par_iter().map(decode).collect();
        let mut sound = (Vec::new(), Vec::new());
        for (item, read) in items.iter().zip(read) {
            match read {
                Some(Ok(print)) => {
                    sound.0.push(item);
                    sound.1.push(print);
                }
                Some(Err(e)) => damaged.push(Fault::from_picture(&e, &item.path)),
                None => {}
            }
        }
        prints.push(sound);
    }
    faults.extend(damaged);
    let (train_items, train_prints) = &prints[0];
    for (split, (items, others)) in [Split::Val, Split::Test].into_iter().zip(&prints[1..]) {
        for (item, leak) in items.iter().zip(leak::find(train_prints, others)) {
            let Some(leak) = leak else { continue };
            if options.near || matches!(leak, Leak::Exact(_)) {
                faults.push(leak_fault(split, item, leak, train_items));
            }
        }
    }
    faults.extend(classes_without_boxes(&dataset, &class_places, &options.load));
    faults.sort();
    faults.dedup();
    let splits = Split::ALL.map(|split| summary(split, dataset.split(split))).to_vec();
    let mut boxes_per_class = vec![0; dataset.classes.len()];
    for split in Split::ALL {
        let counts = index::boxes_per_class(dataset.split(split), dataset.classes.len());
        boxes_per_class.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
    }
    let audit = Audit {
        ok: !faults.iter().any(Fault::is_error),
        images,
        boxes: splits.iter().map(|s| s.boxes).sum(),
        classes: dataset.classes.clone(),
        boxes_per_class,
        splits,
        hash: dataset.hash.clone(),
        faults,
    };
    (audit, dataset)
}

fn leak_fault(split: Split, item: &Item, leak: Leak, train: &[&Item]) -> Fault {
    let (exact, like, twin) = match leak {
        Leak::Exact(i) => (true, "is", train[i]),
        Leak::Near(i) => (false, "is nearly", train[i]),
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

fn classes_without_boxes(
    dataset: &Dataset,
    places: &[(std::path::PathBuf, Option<usize>)],
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

fn summary(split: Split, items: &[Item]) -> SplitSummary {
    let range = |side: fn(&Item) -> u32| items.iter().map(side).min().zip(items.iter().map(side).max());
    SplitSummary {
        split,
        images: items.len(),
        backgrounds: items.iter().filter(|item| item.labels.is_empty()).count(),
        boxes: items.iter().map(|item| item.labels.len()).sum(),
        width: range(|item| item.width),
        height: range(|item| item.height),
    }
}
