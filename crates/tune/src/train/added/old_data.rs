//! Old data: what is replayed beside the new data, and what tells what was kept.

use std::path::{Path, PathBuf};

use onsa_intake::picture;
use sha2::{Digest, Sha256};

use super::super::error::TrainError;
use super::super::observer::Observer;
use super::super::recipe::Recipe;
use super::super::start::without_errors;
use super::AddError;
use crate::data::audit::Fault;
use crate::data::classify;
use crate::data::dataset::{Dataset, Item, PixelOptions, Pixels};
use crate::data::index::{self, DataError, LoadOptions, hexadecimal};
use crate::data::rng::permutation;
use crate::models::Task;
use crate::models::transfer::places;

/// A data set with labels of old classes, or images without labels.
#[derive(Clone, Debug)]
pub(super) struct OldData {
    /// The argument that names it.
    pub argument: &'static str,
    /// Where it is.
    pub path: PathBuf,
    /// Training images; all, where there are no labels.
    pub train: Vec<Item>,
    /// Validation images; all, where there are no labels.
    pub val: Vec<Item>,
    /// Whether the labels cover a class, one for each of the new model's.
    pub labelled: Vec<bool>,
    /// Changes when the data do.
    pub hash: String,
}

impl OldData {
    /// Reads what `path` names; `names` are all classes of the new model, `pixels` what it sees.
    ///
    /// # Errors
    /// Nothing there; faulty data; classes that do not fit.
    pub fn load(
        (argument, path): (&'static str, &Path),
        recipe: &Recipe,
        pixels: Pixels,
        names: &[String],
        observer: &mut dyn Observer,
    ) -> Result<OldData, TrainError> {
        if !path.exists() {
            return Err(AddError::NotThere { argument, path: path.to_owned() }.into());
        }
        // The network sees one kind of pixels: that of the new data.
        let pixels = PixelOptions { channels: Some(pixels.channels as u32), eight_bits: pixels.bits == 8 };
        let options = LoadOptions { pixels, ..LoadOptions::default() };
        let Some((loaded, faults)) = labelled(path, recipe.task.of_model(), &options)? else {
            return images(argument, path, names.len());
        };
        let mut dataset = without_errors(path, loaded, &faults, recipe.faulty, observer)?;
        let numbers = places(names, &dataset.classes);
        let other: Vec<String> = dataset
            .classes
            .iter()
            .zip(&numbers)
            .filter(|(_, number)| number.is_none())
            .map(|(name, _)| name.clone())
            .collect();
        if other.len() == dataset.classes.len() {
            return Err(AddError::NoOldClass { argument, path: path.to_owned() }.into());
        }
        if !other.is_empty() {
            return Err(AddError::OtherClasses { argument, path: path.to_owned(), classes: other }.into());
        }
        let numbers: Vec<u32> = numbers.into_iter().flatten().collect();
        let mut labelled = vec![false; names.len()];
        numbers.iter().for_each(|&number| labelled[number as usize] = true);
        for label in [&mut dataset.train, &mut dataset.val].into_iter().flatten().flat_map(|i| &mut i.labels)
        {
            if let Some(&number) = numbers.get(label.class as usize) {
                label.class = number;
            }
        }
        let (train, val, hash) = (dataset.train, dataset.val, dataset.hash);
        Ok(OldData { argument, path: path.to_owned(), train, val, labelled, hash })
    }

    /// Whether there are labels at all.
    pub fn is_labelled(&self) -> bool {
        self.labelled.contains(&true)
    }

    /// `wanted` of the training images, or all where there are fewer; the same ones for the same seed, in their own order.
    pub fn choose(&self, wanted: usize, seed: u64) -> Vec<Item> {
        let mut chosen = permutation(seed, u32::MAX, self.train.len() as u32);
        chosen.truncate(wanted);
        chosen.sort_unstable();
        chosen.into_iter().map(|i| self.train[i as usize].clone()).collect()
    }
}

/// The data set at `path` with its faults; none where it is a folder of images without labels.
fn labelled(
    path: &Path,
    task: Task,
    options: &LoadOptions,
) -> Result<Option<(Dataset, Vec<Fault>)>, DataError> {
    match task {
        Task::Detect => match index::load(path, options) {
            Err(DataError::UnknownForm(_)) if path.is_dir() => Ok(None),
            loaded => loaded.map(|loaded| Some((loaded.dataset, loaded.faults))),
        },
        // A folder a class holds no pictures itself.
        Task::Classify if path.is_dir() && !pictures(path)?.is_empty() => Ok(None),
        Task::Classify => classify::load(path, options).map(|loaded| Some((loaded.dataset, loaded.faults))),
    }
}

/// The pictures that lie in a folder, in the order of their names.
fn pictures(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let failed = |e: std::io::Error| DataError::Folder { path: folder.into(), message: e.to_string() };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_file() && picture::is_picture_name(&path) == Some(true) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// The pictures that lie in a folder, without labels.
fn images(argument: &'static str, folder: &Path, classes: usize) -> Result<OldData, TrainError> {
    let paths = pictures(folder)?;
    if paths.is_empty() {
        return Err(AddError::NoImages { argument, path: folder.to_owned() }.into());
    }
    let mut hash = Sha256::new_with_prefix(b"onsa images 1\0");
    let mut items = Vec::with_capacity(paths.len());
    for path in paths {
        let header = picture::probe(&path).map_err(|e| TrainError::OldImage(e.to_string()))?;
        hash.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        hash.update(header.bytes.to_le_bytes());
        let (width, height) = (header.width, header.height);
        items.push(Item { path, label_path: None, width, height, group: None, labels: Vec::new() });
    }
    Ok(OldData {
        argument,
        path: folder.to_owned(),
        train: items.clone(),
        val: items,
        labelled: vec![false; classes],
        hash: hexadecimal(&hash.finalize()),
    })
}

/// One hash of two data sets.
pub(super) fn combined(one: &str, other: &str) -> String {
    hexadecimal(&Sha256::new_with_prefix(one).chain_update(other).finalize())
}
