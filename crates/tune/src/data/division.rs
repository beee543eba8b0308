//! How images are divided into training and validation where the data do not say it, or are not to.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use super::groups::GroupBy;

/// What a person wants of the division.
#[derive(Clone, Debug, PartialEq)]
pub struct Splitting {
    /// What tells which images belong together and stay on one side.
    pub group: Option<GroupBy>,
    /// The share of the training images that validation gets where it has none, above 0 and below 1.
    pub val_fraction: f64,
    /// Divide the training and validation images anew, as if they were one; test images stay.
    pub resplit: bool,
}

/// The share that validation gets by default.
pub const VAL_FRACTION: f64 = 0.2;

impl Default for Splitting {
    fn default() -> Self {
        Splitting { group: None, val_fraction: VAL_FRACTION, resplit: false }
    }
}

/// An image to divide.
pub(crate) struct Unit<'a> {
    /// Its path below the data set's root.
    pub name: String,
    /// What it must not be separated from.
    pub group: Option<&'a str>,
}

/// Which images go to validation: those with the smallest hashes of their names, as many as make `fraction` of all, but
/// `at_least` so many. The choice is the same on every machine, and images added later move few. Where groups are given,
/// whole groups go, in the order of the hashes of their names: each that brings the number of images nearer to `fraction`.
pub(crate) fn held_out(units: &[Unit], fraction: f64, at_least: usize) -> Vec<bool> {
    let target = units.len() as f64 * fraction;
    let mut held = vec![false; units.len()];
    if units.iter().all(|unit| unit.group.is_none()) {
        let mut order: Vec<([u8; 32], usize)> =
            units.iter().enumerate().map(|(i, unit)| (digest(&unit.name), i)).collect();
        order.sort_by(|a, b| (a.0, &units[a.1].name).cmp(&(b.0, &units[b.1].name)));
        let count = (target.round() as usize).max(at_least).min(units.len());
        order[..count].iter().for_each(|&(_, i)| held[i] = true);
        return held;
    }
    let mut groups: BTreeMap<([u8; 32], &str, bool), Vec<usize>> = BTreeMap::new();
    for (i, unit) in units.iter().enumerate() {
        let (key, alone) = unit.group.map_or((unit.name.as_str(), true), |group| (group, false));
        groups.entry((digest(key), key, alone)).or_default().push(i);
    }
    let (mut taken, mut left) = (0.0, groups.len());
    for images in groups.values() {
        let size = images.len() as f64;
        let nearer = (taken + size - target).abs() < (taken - target).abs();
        // Of two groups one goes and one stays, however large they are; there is always something to train on.
        let must = taken == 0.0 && left == 2 && groups.len() > 1;
        if (nearer || must) && images.len() < units.len() {
            images.iter().for_each(|&i| held[i] = true);
            taken += size;
        }
        left -= 1;
    }
    held
}

fn digest(text: &str) -> [u8; 32] {
    Sha256::digest(text.as_bytes()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(groups: &'static [(&'static str, usize)]) -> Vec<Unit<'static>> {
        let of = |&(group, n): &(&'static str, usize)| {
            (0..n).map(move |i| Unit { name: format!("{group}{i}"), group: Some(group) })
        };
        groups.iter().flat_map(of).collect()
    }

    #[test]
    fn without_groups_the_share_is_rounded_and_one_at_least_goes() {
        let alone =
            |n: usize| -> Vec<Unit> { (0..n).map(|i| Unit { name: format!("{i}"), group: None }).collect() };
        let count = |n, fraction, least| held_out(&alone(n), fraction, least).iter().filter(|h| **h).count();
        assert_eq!([2, 3, 7, 8, 100].map(|n| count(n, 0.2, 0)), [0, 1, 1, 2, 20]);
        assert_eq!(count(2, 0.2, 1), 1);
        assert_eq!(count(10, 0.35, 0), 4);
    }

    #[test]
    fn whole_groups_go_and_their_images_make_the_share() {
        let all = units(&[("a", 7), ("b", 9), ("c", 5), ("d", 8), ("e", 11), ("f", 6), ("g", 4), ("h", 10)]);
        for fraction in [0.1, 0.2, 0.5] {
            let held = held_out(&all, fraction, 1);
            for (unit, side) in all.iter().zip(&held) {
                let twins = all.iter().zip(&held).filter(|(other, _)| other.group == unit.group);
                assert!(twins.clone().all(|(_, other)| other == side), "{:?} is divided", unit.group);
            }
            let share = held.iter().filter(|h| **h).count() as f64 / held.len() as f64;
            assert!((share - fraction).abs() < 0.07, "{share} for {fraction}");
        }
    }

    #[test]
    fn one_of_two_groups_goes_and_a_single_one_stays() {
        let held = |groups| held_out(&units(groups), 0.2, 1).iter().filter(|h| **h).count();
        assert!([3, 50].contains(&held(&[("a", 3), ("b", 50)])));
        assert!([40, 50].contains(&held(&[("a", 40), ("b", 50)])));
        assert_eq!(held(&[("a", 9)]), 0);
    }
}
