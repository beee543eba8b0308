//! A validation split for data that have none.

use super::Entry;
use crate::data::audit::{Fault, FaultKind};
use crate::data::dataset::Split;
use crate::data::division::{Splitting, Unit, held_out};
use std::path::Path;

/// The split that a folder's or file's name shows.
pub(crate) fn named(name: &str) -> Option<Split> {
    match name.to_ascii_lowercase().as_str() {
        "train" | "training" => Some(Split::Train),
        "val" | "valid" | "validation" => Some(Split::Val),
        "test" | "testing" => Some(Split::Test),
        _ => None,
    }
}

/// The split that the first telling folder of a relative path shows.
pub(super) fn of_path(relative: &Path) -> Option<Split> {
    relative.parent()?.components().find_map(|part| named(part.as_os_str().to_str()?))
}

/// Where nothing is to be validated on, moves a share of the training images there ([`held_out`]) and says so.
pub(super) fn make_validation(
    entries: &mut [Entry],
    root: &Path,
    source: &Path,
    splitting: &Splitting,
) -> Option<Fault> {
    let train: Vec<usize> = (0..entries.len()).filter(|&i| entries[i].split == Split::Train).collect();
    if train.len() < 2 || entries.iter().any(|e| e.split == Split::Val) {
        return None;
    }
    let unit = |&i: &usize| Unit {
        name: super::hash::relative(&entries[i].image, root),
        group: entries[i].group.as_deref(),
    };
    let units: Vec<Unit> = train.iter().map(unit).collect();
    let held = held_out(&units, splitting.val_fraction, 1);
    let grouped = units.iter().any(|unit| unit.group.is_some());
    let count = held.iter().filter(|held| **held).count();
    for (&i, _) in train.iter().zip(held).filter(|(_, held)| *held) {
        entries[i].split = Split::Val;
    }
    Some(made(source, count, train.len(), grouped, splitting.resplit))
}

/// The warning that validation images were chosen.
pub(crate) fn made(source: &Path, count: usize, all: usize, grouped: bool, anew: bool) -> Fault {
    let why = match anew {
        true => "the images are divided anew",
        false => "there is no validation split",
    };
    let what = if grouped { "whole groups, chosen" } else { "chosen" };
    let message =
        format!("{why}: {count} of {all} images, {what} by a hash of their names, are kept for validation");
    Fault::warning(source, None, FaultKind::SplitMade, message)
}
