//! Training images that stand in another split too. Validation on them flatters the model.

use super::fingerprint::{Fingerprint, MOST_BITS};
use rayon::prelude::*;
use std::collections::HashMap;

/// How an image stands in the training split too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leak {
    /// Pixel by pixel: the index of the training image.
    Exact(usize),
    /// Nearly: the index of the training image.
    Near(usize),
}

/// One band for each bit that may differ, and one more: two hashes that are near agree in one band at least.
const BANDS: u32 = MOST_BITS + 1;

/// The `band`-th of the hash's runs of 13 bits (the last has 12).
fn band(hash: u64, band: u32) -> u16 {
    (hash >> (13 * band)) as u16 & 0x1FFF
}

/// For each image of `others`, the first training image that it repeats.
pub(super) fn find(train: &[Fingerprint], others: &[Fingerprint]) -> Vec<Option<Leak>> {
    let mut exact: HashMap<[u8; 32], usize> = HashMap::with_capacity(train.len());
    let mut near: HashMap<(u32, u16), Vec<u32>> = HashMap::new();
    for (i, print) in train.iter().enumerate() {
        exact.entry(print.exact).or_insert(i);
        if !print.is_flat() {
            for b in 0..BANDS {
                near.entry((b, band(print.difference, b))).or_default().push(i as u32);
            }
        }
    }
    let find_one = |print: &Fingerprint| {
        if let Some(&i) = exact.get(&print.exact) {
            return Some(Leak::Exact(i));
        }
        if print.is_flat() {
            return None;
        }
        let buckets = (0..BANDS).filter_map(|b| near.get(&(b, band(print.difference, b))));
        let close = |&&i: &&u32| (train[i as usize].difference ^ print.difference).count_ones() <= MOST_BITS;
        let mut candidates: Vec<u32> =
            buckets.flat_map(|bucket| bucket.iter().filter(close)).copied().collect();
        candidates.sort_unstable();
        candidates.dedup();
        let hit = candidates.into_iter().find(|&i| print.is_near(&train[i as usize]))?;
        Some(Leak::Near(hit as usize))
    };
    others.par_iter().map(find_one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bands_cover_the_hash() {
        for bit in 0..64 {
            let hit = (0..BANDS).filter(|&b| band(1 << bit, b) != 0).count();
            assert_eq!(hit, 1, "bit {bit}");
        }
    }
}
