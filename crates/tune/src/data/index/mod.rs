//! Path -> [`Dataset`]: which images there are, their sizes and their boxes, without decoding a pixel.
//!
//! Read are Ultralytics' `data.yaml` with YOLO labels, COCO detection JSON and Pascal VOC. What is wrong with single
//! files comes back as [`Fault`]s beside what is sound; [`DataError`] is for a data set that cannot be read at all.

mod coco;
mod error;
mod hash;
mod listing;
mod scan;
mod split;
#[cfg(test)]
mod tests;
mod voc;
mod yolo;

pub use error::DataError;
pub(crate) use hash::hexadecimal;
pub(crate) use listing::clean;
pub use listing::label_paths;
pub(crate) use scan::check_channels;
pub(crate) use split::{made, named};

use super::audit::{Fault, FaultKind};
use super::bounds::Bounds;
use super::dataset::{Dataset, Item, PixelOptions, Pixels, Split};
use super::division::Splitting;
use super::groups::{self, Member};
use onsa_intake::labels::coco::CocoImage;
use onsa_intake::labels::voc::VocFile;
use rayon::prelude::*;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What of a data set is loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct LoadOptions {
    /// Treat all classes as one, called `item`. Class numbers in the labels are then not held against the names.
    pub single_cls: bool,
    /// Keep only the boxes of these class numbers; images and class numbers stay.
    pub classes: Option<Vec<u32>>,
    /// Where the data set may be read.
    pub bounds: Bounds,
    /// Use this fraction of the training images, above 0 to 1: the first ones by path.
    pub fraction: f64,
    /// What belongs together, and how validation images are chosen where none are given.
    pub splitting: Splitting,
    /// What the images are to be for the network.
    pub pixels: PixelOptions,
}

impl Default for LoadOptions {
    fn default() -> Self {
        LoadOptions {
            single_cls: false,
            classes: None,
            bounds: Bounds::default(),
            fraction: 1.0,
            splitting: Splitting::default(),
            pixels: PixelOptions::default(),
        }
    }
}

/// What the data set was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A data.yaml and YOLO label files.
    Yolo,
    /// COCO detection JSON.
    Coco,
    /// Pascal VOC XML.
    Voc,
}

/// A loaded data set.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The images whose header could be read, with their sound boxes.
    pub dataset: Dataset,
    /// What is wrong, sorted by path and line. [`crate::data::audit::without_faulty`] leaves the errors out.
    pub faults: Vec<Fault>,
    /// Images found, those included that cannot be read.
    pub images: usize,
    /// What it was read from.
    pub form: Form,
    /// The data.yaml or JSON file, or the folder.
    pub source: PathBuf,
    /// The folder that relative paths start from.
    pub root: PathBuf,
    /// Where each class is named: file and line.
    pub class_places: Vec<(PathBuf, Option<usize>)>,
}

impl Loaded {
    /// Whether a fault is an error, which training refuses.
    pub fn has_errors(&self) -> bool {
        self.faults.iter().any(Fault::is_error)
    }
}

/// What is being done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Headers and labels are read.
    Scan,
    /// Images are decoded.
    Decode,
}

/// How far a stage is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Which.
    pub stage: Stage,
    /// Images done.
    pub done: usize,
    /// Of how many.
    pub total: usize,
}

/// Is told the progress, from any thread.
pub type Report<'a> = &'a (dyn Fn(Progress) + Sync);

/// An image of the index, before anything of it is read.
struct Entry {
    image: PathBuf,
    split: Split,
    /// The file and line that list the image, where one does.
    listed: Option<(Arc<Path>, usize)>,
    group: Option<Arc<str>>,
    notes: Notes,
}

impl Entry {
    /// The image as one of a group, if it is.
    fn member(&self) -> Option<Member<'_>> {
        let group = self.group.as_deref()?;
        let listed = self.listed.as_ref().map(|(list, line)| (list.as_ref(), *line));
        Some(Member { group, split: self.split, image: &self.image, listed })
    }
}

/// Where an image's boxes come from.
enum Notes {
    /// A text file beside the image or in the mirrored folder.
    Yolo,
    /// `None`: no file belongs to the image.
    Voc(Option<Box<VocNotes>>),
    Coco(Box<CocoNotes>),
}

struct VocNotes {
    path: PathBuf,
    file: VocFile,
    digest: [u8; 32],
}

struct CocoNotes {
    path: Arc<Path>,
    image: CocoImage,
    /// The data set's number of each class of the file.
    classes: Arc<[u32]>,
}

/// What the reader of a form yields.
struct Index {
    form: Form,
    root: PathBuf,
    source: PathBuf,
    classes: Vec<String>,
    class_places: Vec<(PathBuf, Option<usize>)>,
    keypoint_numbers: Option<usize>,
    /// Channels that the data set states.
    channels: u32,
    entries: Vec<Entry>,
    faults: Vec<Fault>,
}

/// Loads the data set at `path`: a data.yaml, a folder that holds one, a COCO JSON, a folder of COCO JSON and images,
/// or a Pascal VOC folder.
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
    if !(options.fraction > 0.0 && options.fraction <= 1.0) {
        return Err(DataError::Option(format!(
            "fraction={} must be above 0 and at most 1",
            options.fraction
        )));
    }
    let mut index = index(path, &options.bounds)?;
    hold_within(&mut index, &options.bounds);
    if let Some(wrong) = options.classes.iter().flatten().find(|&&c| c as usize >= index.classes.len()) {
        let n = index.classes.len();
        let message = format!("classes= holds {wrong}, but the data set has {n} class(es), 0 to {}", n - 1);
        return Err(DataError::Option(message));
    }
    arrange(&mut index, options)?;
    let class_numbers =
        index.classes.iter().enumerate().rev().map(|(i, name)| (name.clone(), i as u32)).collect();
    let count = if options.single_cls { None } else { Some(index.classes.len() as u32) };
    let yolo =
        onsa_intake::labels::yolo::YoloOptions { classes: count, keypoint_numbers: index.keypoint_numbers };
    let channels = options.pixels.channels.unwrap_or(index.channels);
    let context = scan::Context { options, class_numbers, yolo, channels };
    let (done, total) = (AtomicUsize::new(0), index.entries.len());
    let scanned: Vec<(Split, scan::Scanned)> = index
        .entries
        .into_par_iter()
        .map(|entry| {
            let split = entry.split;
            let scanned = scan::scan(entry, &context);
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            report(Progress { stage: Stage::Scan, done, total });
            (split, scanned)
        })
        .collect();
    if options.single_cls {
        index.classes = vec!["item".into()];
        index.class_places.truncate(1);
    }
    let hash = hash::of(&index.classes, &scanned, &index.root);
    let (train, val, test) = (Vec::new(), Vec::new(), Vec::new());
    let deep = scanned.iter().any(|(_, scanned)| scanned.item.is_some() && scanned.bits > 8);
    let bits = if deep && !options.pixels.eight_bits { 16 } else { 8 };
    let pixels = Pixels { channels: channels as usize, bits };
    let mut dataset = Dataset { classes: index.classes, train, val, test, pixels, hash };
    let mut faults = index.faults;
    for split in Split::ALL {
        let count = scanned.iter().filter(|(of, scanned)| *of == split && scanned.item.is_some()).count();
        dataset.split_mut(split).reserve_exact(count);
    }
    for (split, scanned) in scanned {
        faults.extend(scanned.faults);
        dataset.split_mut(split).extend(scanned.item);
    }
    // An image that stands in two splits is scanned twice; its faults count once.
    faults.sort();
    faults.dedup();
    let Index { form, source, root, class_places, .. } = index;
    Ok(Loaded { dataset, faults, images: total, form, source, root, class_places })
}

/// Finds out which form the data set has, and reads its index.
fn index(path: &Path, bounds: &Bounds) -> Result<Index, DataError> {
    if !path.exists() {
        return Err(DataError::NotFound(path.into()));
    }
    held(path, bounds)?;
    if path.is_file() {
        return if listing::has_extension(path, "yaml") || listing::has_extension(path, "yml") {
            yolo::index(path, bounds)
        } else if listing::has_extension(path, "json") {
            coco::index(path, &[(None, path.into())], false, Vec::new(), bounds)
        } else {
            Err(DataError::UnknownForm(path.into()))
        };
    }
    if let Some(yaml) =
        ["data.yaml", "data.yml"].map(|name| path.join(name)).into_iter().find(|p| p.is_file())
    {
        return yolo::index(&yaml, bounds);
    }
    let top = top_files(path)?;
    let yamls: Vec<_> = top
        .iter()
        .filter(|p| listing::has_extension(p, "yaml") || listing::has_extension(p, "yml"))
        .collect();
    if let [yaml] = yamls[..] {
        return yolo::index(yaml, bounds);
    }
    let (json, ignored) = coco::find(path, &top)?;
    if !json.is_empty() {
        return coco::index(path, &json, true, ignored, bounds);
    }
    let files = listing::walk(path, bounds)?;
    if files.iter().any(|p| listing::has_extension(p, "xml")) {
        return voc::index(path, &files, bounds);
    }
    Err(DataError::UnknownForm(path.into()))
}

/// Refuses a file or folder that must not be read.
fn held(path: &Path, bounds: &Bounds) -> Result<(), DataError> {
    if bounds.hold(path) { Ok(()) } else { Err(DataError::Outside(path.into())) }
}

/// Leaves out the images that must not be read, and says so; nothing of them has been read yet.
fn hold_within(index: &mut Index, bounds: &Bounds) {
    let faults = &mut index.faults;
    index.entries.retain(|entry| {
        let held = bounds.hold(&entry.image);
        if !held {
            let message = format!(
                "the image {} lies outside the data set's folder and is not read: put it into the folder",
                entry.image.display()
            );
            let (path, line) = match &entry.listed {
                Some((list, line)) => (list.as_ref(), Some(*line)),
                None => (entry.image.as_path(), None),
            };
            faults.push(Fault::error(path, line, FaultKind::OutsideFolder, message).of_image(&entry.image));
        }
        held
    });
}

/// The files that lie in `folder` itself, sorted, without hidden ones.
fn top_files(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let failed = |e: std::io::Error| DataError::Folder { path: folder.into(), message: e.to_string() };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.path().is_file() && !entry.file_name().as_encoded_bytes().starts_with(b".") {
            files.push(listing::clean(&entry.path()));
        }
    }
    files.sort();
    Ok(files)
}

/// Sorts, drops what is listed twice, makes a validation split where there is none, applies the fraction.
fn arrange(index: &mut Index, options: &LoadOptions) -> Result<(), DataError> {
    index.entries.sort_by(|a, b| (a.split, &a.image).cmp(&(b.split, &b.image)));
    let faults = &mut index.faults;
    // Sorted: what is listed twice stands side by side.
    index.entries.dedup_by(|entry, earlier| {
        let again = (entry.split, &entry.image) == (earlier.split, &earlier.image);
        if again && let Some((list, line)) = &entry.listed {
            faults.push(listed_twice(entry, list, *line));
        }
        again
    });
    let splitting = &options.splitting;
    if splitting.resplit {
        index.entries.iter_mut().filter(|e| e.split == Split::Val).for_each(|e| e.split = Split::Train);
        index.entries.sort_by(|a, b| (a.split, &a.image).cmp(&(b.split, &b.image)));
        index
            .entries
            .dedup_by(|entry, earlier| (entry.split, &entry.image) == (earlier.split, &earlier.image));
    }
    if let Some(by) = &splitting.group {
        let images = index.entries.iter_mut().map(|e| (e.image.as_path(), &mut e.group));
        faults.extend(groups::assign(by, images, &index.root, &index.source)?);
    }
    faults.extend(split::make_validation(&mut index.entries, &index.root, &index.source, splitting));
    index.entries.sort_by(|a, b| (a.split, &a.image).cmp(&(b.split, &b.image)));
    faults.extend(groups::leaks(index.entries.iter().filter_map(Entry::member)));
    let count = |split| index.entries.iter().filter(|e| e.split == split).count();
    for split in [Split::Train, Split::Val] {
        if count(split) == 0 {
            return Err(DataError::Empty { path: index.source.clone(), split: split.name() });
        }
    }
    let train = count(Split::Train);
    let used = ((train as f64 * options.fraction).round() as usize).clamp(1, train);
    index.entries.drain(used..train);
    Ok(())
}

/// In a list file the second mention is idle; in COCO it carries boxes, which would be lost.
fn listed_twice(entry: &Entry, list: &Path, line: usize) -> Fault {
    let kind = FaultKind::ListedTwice;
    let fault = match entry.notes {
        Notes::Coco(_) => {
            let message =
                "the image is listed twice and only its first entry counts: give all boxes one image id";
            Fault::error(list, Some(line), kind, message)
        }
        _ => {
            Fault::warning(list, Some(line), kind, "the image is listed twice; it counts once: delete a line")
        }
    };
    fault.of_image(&entry.image)
}

/// An image of a format that is not read. It cannot become an item.
fn unsupported(image: &Path) -> Fault {
    let message = "this picture format is not read: convert the file to JPEG, PNG, WebP, BMP or TIFF";
    Fault::error(image, None, FaultKind::UnsupportedImage, message)
}

/// The boxes of each class over some items.
pub(crate) fn boxes_per_class(items: &[Item], classes: usize) -> Vec<usize> {
    let mut counts = vec![0; classes];
    for label in items.iter().flat_map(|item| &item.labels) {
        if let Some(count) = counts.get_mut(label.class as usize) {
            *count += 1;
        }
    }
    counts
}

/// Class name -> number, in the order of first mention.
#[derive(Default)]
struct Names {
    list: Vec<String>,
    numbers: HashMap<String, u32>,
}

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        let number = self.list.len() as u32;
        self.list.push(name.into());
        self.numbers.insert(name.into(), number);
        number
    }
}
