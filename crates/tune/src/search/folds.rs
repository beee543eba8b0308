//! Splits of the training images, so that every image measures once and never the run that it has trained.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use sha2::{Digest, Sha256};

use crate::data::dataset::Item;

/// A set that cannot be split as wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FoldError {
    /// Fewer than two a fold.
    #[error("folds={folds} needs at least {needed} training {what}, and the data set has {found}")]
    TooFew {
        /// Parts asked for.
        folds: usize,
        /// What must be there.
        needed: usize,
        /// What is there.
        found: usize,
        /// Images or groups.
        what: &'static str,
    },
}

/// Images that stay together: a group's, or one alone.
struct Unit {
    items: Vec<usize>,
    /// Images in which each class occurs.
    classes: BTreeMap<u32, usize>,
    /// Where it stands among units of its kind: as good as random, and the same on every machine.
    place: [u8; 32],
}

/// The fold of each item, 0 to `folds` - 1. Items of one group (what `group` says of them) share a fold. Folds have
/// about as many images each, and about as many of every class; what chance is left depends on `seed` and the items'
/// paths below their common folder.
///
/// # Errors
/// There are fewer than two images, or groups, a fold.
pub fn assign<'a>(
    items: &'a [Item],
    group: impl Fn(&'a Item) -> Option<&'a str>,
    folds: usize,
    seed: u64,
) -> Result<Vec<usize>, FoldError> {
    let units = units(items, group, seed);
    let grouped = units.len() < items.len();
    let needed = 2 * folds;
    if items.len() < needed || units.len() < folds {
        return Err(match units.len() < folds {
            true if grouped => FoldError::TooFew { folds, needed: folds, found: units.len(), what: "groups" },
            _ => FoldError::TooFew { folds, needed, found: items.len(), what: "images" },
        });
    }
    let mut frequency: BTreeMap<u32, usize> = BTreeMap::new();
    for (class, count) in units.iter().flat_map(|unit| &unit.classes) {
        *frequency.entry(*class).or_default() += count;
    }
    let rarest = |unit: &Unit| unit.classes.keys().copied().min_by_key(|class| (frequency[class], *class));
    let mut order: Vec<&Unit> = units.iter().collect();
    // Rare classes first, while there is room everywhere; large groups before small ones.
    order.sort_by_key(|unit| {
        let class = rarest(unit);
        (
            class.map_or(usize::MAX, |class| frequency[&class]),
            class,
            usize::MAX - unit.items.len(),
            unit.place,
        )
    });
    let mut of_item = vec![0; items.len()];
    let mut images = vec![0usize; folds];
    let mut classes = vec![BTreeMap::<u32, usize>::new(); folds];
    for unit in order {
        let class = rarest(unit);
        let has = |fold: usize| class.map_or(0, |class| classes[fold].get(&class).copied().unwrap_or(0));
        let fold = (0..folds).min_by_key(|&fold| (has(fold), images[fold], fold)).unwrap_or(0);
        images[fold] += unit.items.len();
        for (&class, count) in &unit.classes {
            *classes[fold].entry(class).or_default() += count;
        }
        unit.items.iter().for_each(|&item| of_item[item] = fold);
    }
    Ok(of_item)
}

fn units<'a>(items: &'a [Item], group: impl Fn(&'a Item) -> Option<&'a str>, seed: u64) -> Vec<Unit> {
    let common = common_folder(items);
    let mut by_key: BTreeMap<(bool, String), Vec<usize>> = BTreeMap::new();
    for (i, item) in items.iter().enumerate() {
        let key = match group(item) {
            Some(group) => (true, group.to_owned()),
            None => (false, words(item.path.components().skip(common))),
        };
        by_key.entry(key).or_default().push(i);
    }
    let unit = |((_, key), members): ((bool, String), Vec<usize>)| {
        let mut classes = BTreeMap::new();
        for &item in &members {
            let mut seen: Vec<u32> = items[item].labels.iter().map(|label| label.class).collect();
            seen.sort_unstable();
            seen.dedup();
            seen.into_iter().for_each(|class| *classes.entry(class).or_default() += 1);
        }
        let place =
            Sha256::new_with_prefix(seed.to_le_bytes()).chain_update(key.as_bytes()).finalize().into();
        Unit { items: members, classes, place }
    };
    by_key.into_iter().map(unit).collect()
}

/// How many folders at the start of their paths all items share.
fn common_folder(items: &[Item]) -> usize {
    let Some(first) = items.first() else { return 0 };
    let shared =
        |path: &Path| first.path.components().zip(path.components()).take_while(|(a, b)| a == b).count();
    let all = items.iter().map(|item| shared(&item.path)).min().unwrap_or(0);
    all.min(first.path.components().count().saturating_sub(1))
}

fn words<'a>(components: impl Iterator<Item = Component<'a>>) -> String {
    components.map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boxes::Label;
    use proptest::prelude::*;

    fn item(i: usize, classes: &[u32]) -> Item {
        let label = |&class: &u32| Label { class, cx: 0.5, cy: 0.5, w: 0.5, h: 0.5 };
        Item {
            path: format!("/data/images/{i:04}.jpg").into(),
            label_path: None,
            width: 64,
            height: 64,
            labels: classes.iter().map(label).collect(),
            group: None,
        }
    }

    fn alone(_: &Item) -> Option<&str> {
        None
    }

    #[test]
    fn folds_are_balanced_in_images_and_in_classes() {
        // 60 images of class 0, 20 of class 1, 5 of class 2, 15 empty ones.
        let class = |i: usize| match i {
            0..60 => vec![0],
            60..80 => vec![1, 1],
            80..85 => vec![0, 2],
            _ => vec![],
        };
        let items: Vec<Item> = (0..100).map(|i| item(i, &class(i))).collect();
        let fold = assign(&items, alone, 5, 0).unwrap();
        for f in 0..5 {
            let of = |class: u32| {
                let has = |i: &usize| fold[*i] == f && items[*i].labels.iter().any(|l| l.class == class);
                (0..100).filter(has).count()
            };
            let images = fold.iter().filter(|&&x| x == f).count();
            assert!((19..=21).contains(&images), "{images} images in fold {f}");
            assert_eq!((of(0), of(1), of(2)), (13, 4, 1), "fold {f}");
        }
    }

    #[test]
    fn the_same_items_give_the_same_folds_wherever_they_lie_and_another_seed_others() {
        let items: Vec<Item> = (0..30).map(|i| item(i, &[0])).collect();
        let mut moved = items.clone();
        for item in &mut moved {
            item.path = Path::new("/home/else/where").join(item.path.file_name().unwrap());
        }
        let first = assign(&items, alone, 3, 0).unwrap();
        assert_eq!(first, assign(&moved, alone, 3, 0).unwrap());
        assert_ne!(first, assign(&items, alone, 3, 1).unwrap());
    }

    #[test]
    fn too_small_a_set_says_how_many_it_needs() {
        let items: Vec<Item> = (0..6).map(|i| item(i, &[0])).collect();
        let error = assign(&items, alone, 5, 0).unwrap_err();
        assert_eq!(error.to_string(), "folds=5 needs at least 10 training images, and the data set has 6");
        let groups = ["a", "b"];
        let group =
            |i: &Item| i.path.to_string_lossy().ends_with("0.jpg").then_some(groups[0]).or(Some(groups[1]));
        let error = assign(&items, group, 3, 0).unwrap_err();
        assert_eq!(error.to_string(), "folds=3 needs at least 3 training groups, and the data set has 2");
    }

    proptest! {
        #[test]
        fn every_fold_has_images_and_groups_stay_whole(
            classes in prop::collection::vec(prop::collection::vec(0u32..4, 0..3), 20..80),
            folds in 2usize..6,
            groups in 6usize..15,
            seed in 0u64..99,
        ) {
            let items: Vec<Item> = classes.iter().enumerate().map(|(i, c)| item(i, c)).collect();
            let names: Vec<String> = (0..groups).map(|g| format!("patient {g}")).collect();
            // Every third image belongs to no group.
            let number = |i: &Item| i.path.file_stem().unwrap().to_string_lossy().parse::<usize>().unwrap();
            let group = |i: &Item| (number(i) % 3 > 0).then(|| names[number(i) % groups].as_str());
            let fold = assign(&items, group, folds, seed).unwrap();
            prop_assert_eq!(fold.len(), items.len());
            for f in 0..folds {
                prop_assert!(fold.contains(&f));
            }
            for a in 0..items.len() {
                for b in 0..a {
                    if group(&items[a]).is_some() && group(&items[a]) == group(&items[b]) {
                        prop_assert_eq!(fold[a], fold[b]);
                    }
                }
            }
        }
    }
}
