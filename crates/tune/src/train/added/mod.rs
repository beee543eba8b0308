//! Adding classes to a model without losing those that it has (`add_classes`).
//!
//! A detector gets a branch for them (`branch.rs`): nothing of what it was changes. Where a starting model teaches (classifiers, and
//! `add_classes=distil`) there is one network, and the head keeps a row for each class of the starting model and gets fresh rows for the data's classes that this does not
//! have. What the old classes learn comes from the frozen starting model (see `loss/distill.rs`, and for classifiers
//! `loss/distill_softmax.rs`), from replayed old data where there are some, and from the data's own labels of old classes. The norms keep their statistics: with those of the
//! new images the old classes would change even at a learning rate of 0.

mod branch;
mod classes;
mod error;
mod kept;
mod kept_images;
mod old_data;

use std::sync::Arc;

pub use branch::Joined;
pub use classes::merge;
pub use error::AddError;
pub use kept::{Measured, measure};
pub use kept_images::measure_images;

use super::error::TrainError;
use super::loss::LossConfig;
use super::loss::distill::{DistillConfig, Source as Labels};
use super::observer::Observer;
use super::recipe::Recipe;
use super::recipe::values::AddClasses;
use crate::data::dataset::{Dataset, Item, Pixels, Split};
use crate::engine::Teacher;
use crate::models::open::{self, Opened, Source};
use old_data::OldData;

/// What a run that adds classes has beside any other.
#[derive(Clone, Debug)]
pub struct Added {
    /// Whether the starting model teaches.
    pub taught: bool,
    /// The model that comes out, where the new classes get a branch of their own.
    pub joined: Option<Joined>,
    /// The starting model with its own classes.
    pub start: Opened,
    /// Whether the new data's labels cover a class, one for each of the network's that is trained.
    pub labelled: Vec<bool>,
    /// The same of the replayed data, where there are some.
    pub replayed: Option<Vec<bool>>,
    /// The first training item that is replayed: all before are new.
    pub replay_from: usize,
    /// What all images are for the network.
    pub pixels: Pixels,
    /// The images that tell what of the old classes was kept, and what their labels cover; none: the new data's.
    pub old_val: Option<OldVal>,
}

/// Images with labels of old classes, apart from all that is trained on.
#[derive(Clone, Debug)]
pub struct OldVal {
    /// The argument that names them.
    pub argument: &'static str,
    /// The images.
    pub items: Vec<Item>,
    /// Whether the labels cover a class; none of them where there are only images.
    pub labelled: Vec<bool>,
}

/// Gives `dataset` the classes that the trained network has: of a branch the new ones, else those of the starting model with the
/// new ones behind, and the replayed images. None where the recipe adds no classes. The sentences are for the report.
///
/// # Errors
/// See [`AddError`]; replayed or old data that cannot be used.
pub fn prepare(
    recipe: &Recipe,
    source: &Source,
    dataset: &mut Dataset,
    observer: &mut dyn Observer,
) -> Result<Option<(Added, Vec<String>)>, TrainError> {
    if recipe.add_classes == AddClasses::Off {
        return Ok(None);
    }
    let side = recipe.imgsz as usize;
    if !matches!(source, Source::File { .. }) {
        return Err(AddError::NoWeights.into());
    }
    let pixels = dataset.pixels;
    let start = open::open_for(source, (None, Some(pixels.channels)), [side, side], true, recipe.seed)?;
    let merged = merge(&start.names, &dataset.classes)?;
    let old = start.names.len();
    let joined = recipe.branches().then(|| Joined::new(recipe, &start, &merged.names)).transpose()?;
    if joined.is_none() && !start.model.architecture.branches.is_empty() {
        return Err(AddError::HasBranches.into());
    }
    let labelled = match &joined {
        Some(_) => vec![true; merged.names.len() - old],
        None => {
            let covers = |number: usize| merged.numbers.contains(&(number as u32));
            (0..merged.names.len()).map(covers).collect()
        }
    };
    for split in Split::ALL {
        match &joined {
            Some(_) => branch::only_new(dataset.split_mut(split), &merged.numbers, old),
            None => merged.renumber(dataset.split_mut(split)),
        }
    }
    if dataset.train.iter().all(|item| item.labels.is_empty()) {
        return Err(TrainError::NoBoxes { data: recipe.data.clone() });
    }
    dataset.classes = merged.names[if joined.is_some() { old } else { 0 }..].to_vec();

    let shown: Vec<&str> = merged.names[old..].iter().map(String::as_str).collect();
    let mut notes = vec![format!(
        "classes: the model's {old} are kept, {} added: {}{}",
        shown.len(),
        shown.join(", "),
        match (&joined, recipe.teaches()) {
            (Some(_), _) => "",
            (None, true) => "; the frozen starting model teaches the old ones",
            (None, false) => "; nothing teaches the old ones (add_classes=plain)",
        }
    )];
    notes.extend(joined.as_ref().map(|joined| joined.describe(&start)));
    let again: Vec<&str> = merged
        .numbers
        .iter()
        .filter(|&&n| (n as usize) < old)
        .map(|&n| merged.names[n as usize].as_str())
        .collect();
    if !again.is_empty() {
        let (count, names) = (again.len(), again.join(", "));
        notes.push(match &joined {
            Some(_) => format!(
                "the data label {count} of the model's own classes ({names}): these labels are left out, for what the model \
                 says of them stays as it is"
            ),
            None => format!("the data label {count} of the model's own classes, and must do so on every image: {names}"),
        });
    }
    let replay_from = dataset.train.len();
    let mut load = |argument, path: &Option<std::path::PathBuf>| {
        path.as_ref()
            .map(|path| OldData::load((argument, path), recipe, pixels, &merged.names, observer))
            .transpose()
    };
    let replay = load("replay", &recipe.replay)?;
    let old_data = load("old_data", &recipe.old_data)?;
    let mut replayed = None;
    if let Some(replay) = &replay {
        let wanted = (recipe.replay_ratio * replay_from as f64).round().max(1.0) as usize;
        let chosen = replay.choose(wanted, recipe.seed);
        notes.push(format!(
            "replay: {} of the {} images of {} are mixed in ({} wanted: replay_ratio={} of {replay_from}){}",
            chosen.len(),
            replay.train.len(),
            replay.path.display(),
            wanted,
            recipe.replay_ratio,
            if replay.is_labelled() {
                ""
            } else {
                "; they have no labels, the starting model says what is on them"
            }
        ));
        dataset.train.extend(chosen);
        replayed = Some(replay.labelled.clone());
    }
    for more in [&replay, &old_data].into_iter().flatten() {
        dataset.hash = old_data::combined(&dataset.hash, &more.hash);
    }
    let old_val = old_data.or(replay.filter(OldData::is_labelled)).map(|data| OldVal {
        argument: data.argument,
        items: data.val,
        labelled: data.labelled,
    });
    let taught = recipe.teaches();
    let added = Added { taught, joined, start, labelled, replayed, replay_from, pixels, old_val };
    Ok(Some((added, notes)))
}

impl Added {
    /// Number of classes of the starting model: the first of the new one's.
    pub fn old(&self) -> usize {
        self.start.names.len()
    }

    /// The loss with what the labels do not cover left to the starting model; as it is where nothing teaches.
    pub fn configure(&self, loss: LossConfig, gain: f64) -> LossConfig {
        if !self.taught {
            return loss;
        }
        let covered = std::iter::once(&self.labelled).chain(&self.replayed);
        let sources: Vec<Labels> =
            covered.map(|labelled| Labels::new(labelled, &loss.class_weights, self.old())).collect();
        // Validation runs without a teacher, and on the new data alone.
        let class_weights = sources[0].class_weights.clone();
        let distill = Some(DistillConfig { gain: gain as f32, old: self.old(), sources });
        LossConfig { class_weights, distill, ..loss }
    }

    /// The starting model beside the training step; none where nothing teaches.
    pub fn teacher(&self, pool: &Arc<rayon::ThreadPool>) -> Option<Teacher> {
        self.taught.then(|| {
            Teacher::new(&self.start.model, self.start.params.clone(), self.replay_from, Arc::clone(pool))
        })
    }

    /// The group of training items that mosaics must not mix with the rest.
    pub fn second_group(&self) -> Option<usize> {
        self.replayed.is_some().then_some(self.replay_from)
    }

    /// The classes that the new data's labels cover: of others, validation can say nothing.
    pub fn labelled_classes(&self) -> Vec<u32> {
        numbers(&self.labelled)
    }
}

/// Where `flags` are set.
fn numbers(flags: &[bool]) -> Vec<u32> {
    flags.iter().enumerate().filter(|(_, set)| **set).map(|(i, _)| i as u32).collect()
}
