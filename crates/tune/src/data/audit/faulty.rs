//! Leaving faulty images out.

use super::{Fault, FaultKind};
use crate::data::dataset::{Dataset, Split};
use crate::data::groups::leaking;
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use std::path::PathBuf;

/// What [`without_faulty`] left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The files with errors: images, and label files or lists that no image stands for. Sorted.
    pub files: Vec<PathBuf>,
    /// How many images each split lost that could be indexed: train, val, test. An image whose header cannot be read
    /// never was in the data set, and is among `files` only.
    pub items: [usize; 3],
}

/// The data set without the images that have an error among `faults` (of [`crate::data::index::load`] or
/// [`super::check`]), and what was left out. Its hash tells it from the whole set.
pub fn without_faulty(dataset: &Dataset, faults: &[Fault]) -> (Dataset, LeftOut) {
    // A group that leaks leaves validation and test; its training images are sound.
    let errors = faults.iter().filter(|f| f.is_error() && f.kind != FaultKind::GroupLeak);
    let mut files: BTreeSet<PathBuf> =
        errors.map(|f| f.image.as_deref().unwrap_or(&f.path).to_path_buf()).collect();
    let leaking = leaking(dataset, faults);
    let mut leaked = BTreeSet::new();
    let mut kept = dataset.clone();
    let mut items = [0; 3];
    let mut hash = Sha256::new_with_prefix(dataset.hash.as_bytes());
    for (split, lost) in Split::ALL.into_iter().zip(&mut items) {
        let mut at: u64 = 0;
        kept.split_mut(split).retain(|item| {
            let leaks = split != Split::Train && item.group.as_ref().is_some_and(|g| leaking.contains(g));
            if leaks {
                leaked.insert(item.path.clone());
            }
            let keep = !leaks && !files.contains(&item.path);
            if !keep {
                hash.update([split as u8]);
                hash.update(at.to_le_bytes());
                *lost += 1;
            }
            at += 1;
            keep
        });
    }
    if items != [0; 3] {
        kept.hash = crate::data::index::hexadecimal(&hash.finalize());
    }
    files.append(&mut leaked);
    (kept, LeftOut { files: files.into_iter().collect(), items })
}
