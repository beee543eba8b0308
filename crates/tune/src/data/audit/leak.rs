//! Images that stand in a data set twice: training images in another split, and equal images of different classes.

use super::album::Album;
use super::fingerprint::MOST_BITS;
use rayon::prelude::*;
use std::collections::HashMap;
use std::ops::Range;

/// How an image stands elsewhere too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Twin {
    /// Pixel by pixel: the number of the other image.
    Exact(usize),
    /// Nearly: the number of the other image.
    Near(usize),
}

/// One band for each bit that may differ, and one more: two hashes that are near agree in one band at least.
const BANDS: u32 = MOST_BITS + 1;
/// Values of a band.
const VALUES: usize = 1 << 13;

/// The `band`-th of the hash's runs of 13 bits (the last has 12).
fn band(hash: u64, band: u32) -> usize {
    ((hash >> (13 * band)) as u16 & 0x1FFF).into()
}

/// For each image of `others`, the first of `train` that it repeats; nearly, only where `near`.
pub(super) fn leaks(
    album: &Album,
    train: Range<usize>,
    others: Range<usize>,
    near: bool,
) -> Vec<Option<Twin>> {
    let mut exact: HashMap<[u64; 2], usize> = HashMap::new();
    for i in train.clone() {
        if let Some(marks) = album.marks(i) {
            exact.entry(marks.exact).or_insert(i);
        }
    }
    let equal = |i: usize| Some(Twin::Exact(*exact.get(&album.marks(i)?.exact)?));
    let mut found: Vec<Option<Twin>> = others.clone().map(equal).collect();
    if near {
        let open = |i: usize| found[i - others.start].is_none();
        let nearest = nearest(album, train, others.clone(), &open, &|_, _| true);
        for (found, near) in found.iter_mut().zip(nearest) {
            *found = found.or(near.map(|i| Twin::Near(i as usize)));
        }
    }
    found
}

/// For each image an equal one (or a near one further up, where `near`) of another class.
pub(super) fn conflicts(album: &Album, classes: &[u32], near: bool) -> Vec<Option<Twin>> {
    let mut exact: HashMap<[u64; 2], Vec<usize>> = HashMap::new();
    for i in 0..classes.len() {
        if let Some(marks) = album.marks(i) {
            exact.entry(marks.exact).or_default().push(i);
        }
    }
    let mut found = vec![None; classes.len()];
    for equal in exact.values().filter(|equal| equal.len() > 1) {
        for &i in equal {
            found[i] = equal.iter().find(|&&j| classes[j] != classes[i]).map(|&j| Twin::Exact(j));
        }
    }
    if near {
        let open = |i: usize| found[i].is_none();
        let all = 0..classes.len();
        let other = |i: usize, j: usize| j < i && classes[i] != classes[j];
        let nearest = nearest(album, all.clone(), all, &open, &other);
        for (found, near) in found.iter_mut().zip(nearest) {
            *found = found.or(near.map(|i| Twin::Near(i as usize)));
        }
    }
    found
}

/// For each image of `seekers` that is `open`, the first of `among` that is near it and `fits` it.
fn nearest(
    album: &Album,
    among: Range<usize>,
    seekers: Range<usize>,
    open: &(dyn Fn(usize) -> bool + Sync),
    fits: &(dyn Fn(usize, usize) -> bool + Sync),
) -> Vec<Option<u32>> {
    let textured = |i: &usize| album.marks(*i).is_some_and(|marks| !marks.is_flat());
    let mut best: Vec<Option<u32>> = vec![None; seekers.len()];
    // Band by band, so that one table is in memory at a time: the images in the order of their band's value.
    for b in 0..BANDS {
        let value = |i: usize| album.marks(i).map_or(0, |marks| band(marks.difference, b));
        let mut ends = vec![0u32; VALUES + 1];
        among.clone().filter(textured).for_each(|i| ends[value(i) + 1] += 1);
        for v in 0..VALUES {
            ends[v + 1] += ends[v];
        }
        let mut next = ends.clone();
        let mut order = vec![0u32; ends[VALUES] as usize];
        for i in among.clone().filter(textured) {
            let at = &mut next[value(i)];
            order[*at as usize] = i as u32;
            *at += 1;
        }
        best.par_iter_mut().zip(seekers.clone()).for_each(|(best, i)| {
            let Some(marks) = album.marks(i).filter(|marks| !marks.is_flat()) else { return };
            if !open(i) {
                return;
            }
            let mut own = None;
            let bucket = value(i);
            for &j in &order[ends[bucket] as usize..ends[bucket + 1] as usize] {
                // Ascending: what follows is no better than what is known.
                if best.is_some_and(|known| known <= j) {
                    return;
                }
                let Some(other) = album.marks(j as usize).filter(|other| marks.may_be_near(other)) else {
                    continue;
                };
                if j as usize == i || !fits(i, j as usize) {
                    continue;
                }
                let own = own.get_or_insert_with(|| album.thumbnail(i));
                let near = own
                    .as_ref()
                    .zip(album.thumbnail(j as usize))
                    .is_some_and(|(own, others)| marks.is_near(own, other, &others));
                if near {
                    *best = Some(j);
                    return;
                }
            }
        });
    }
    best
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
