//! A validation split for data that have none.

use super::Entry;
use crate::data::audit::{Fault, FaultKind};
use crate::data::dataset::Split;
use sha2::{Digest, Sha256};
use std::path::Path;

/// The split that a folder's or file's name shows.
pub(super) fn named(name: &str) -> Option<Split> {
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

/// Where nothing is to be validated on, moves a fifth of the training images there and says so. The images with the
/// smallest hash of their relative path go: the choice is the same on every machine, and images added later move few.
pub(super) fn make_validation(entries: &mut [Entry], root: &Path, source: &Path) -> Option<Fault> {
    let train: Vec<usize> = (0..entries.len()).filter(|&i| entries[i].split == Split::Train).collect();
    if train.len() < 2 || entries.iter().any(|e| e.split == Split::Val) {
        return None;
    }
    let mut order: Vec<([u8; 32], usize)> = train
        .iter()
        .map(|&i| (Sha256::digest(super::hash::relative(&entries[i].image, root).as_bytes()).into(), i))
        .collect();
    order.sort();
    let count = ((train.len() + 2) / 5).max(1);
    for &(_, i) in &order[..count] {
        entries[i].split = Split::Val;
    }
    let message = format!(
        "there is no validation split: {count} of {} images, chosen by a hash of their names, are kept for it",
        train.len()
    );
    Some(Fault::warning(source, None, FaultKind::SplitMade, message))
}
