//! What a run of a search trains on and what measures it.

use super::folds::{self, FoldError};
use crate::data::dataset::Dataset;

/// How runs are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// On parts of the training images; the validation images are not touched.
    Folds(usize),
    /// On the validation images, with different seeds.
    Seeds(usize),
}

impl Measure {
    /// How many folds or seeds.
    pub fn count(self) -> usize {
        match self {
            Measure::Folds(n) | Measure::Seeds(n) => n,
        }
    }

    /// Images that measure over images that train, where training parts overlap; see [`super::interval::estimate`].
    pub fn overlap(self) -> f64 {
        match self {
            Measure::Folds(n) => 1.0 / (n as f64 - 1.0),
            Measure::Seeds(_) => 0.0,
        }
    }
}

/// The images of one run: indices into the training images and, of [`Measure::Seeds`], the validation images after them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// What is trained on.
    pub train: Vec<usize>,
    /// What measures.
    pub val: Vec<usize>,
    /// The part of the images that measures, from 0.
    pub fold: Option<usize>,
    /// The run's seed.
    pub seed: u64,
}

/// The split of a rung's run number `pair`. The comparison (`last`) has splits and seeds that the race has not seen: what
/// chose a candidate does not measure it.
///
/// # Errors
/// The set is too small.
pub fn split(
    dataset: &Dataset,
    measure: Measure,
    seed: u64,
    (last, pair): (bool, usize),
) -> Result<Split, FoldError> {
    let images = dataset.train.len();
    match measure {
        Measure::Seeds(_) => {
            // The race's seeds lie apart from the comparison's.
            let own = if last { 1000 + pair as u64 } else { pair as u64 };
            let val = images..images + dataset.val.len();
            Ok(Split {
                train: (0..images).collect(),
                val: val.collect(),
                fold: None,
                seed: seed.wrapping_add(own),
            })
        }
        Measure::Folds(count) => {
            let shuffle = seed.wrapping_add(if last { 1 + (pair / count) as u64 } else { 0 });
            let fold_of = folds::assign(&dataset.train, |item| item.group.as_deref(), count, shuffle)?;
            let fold = pair % count;
            let (val, train) = (0..images).partition(|&i| fold_of[i] == fold);
            Ok(Split { train, val, fold: Some(fold), seed: shuffle })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::{Item, Pixels};

    fn dataset(train: usize, val: usize) -> Dataset {
        let items = |range: std::ops::Range<usize>| -> Vec<Item> {
            let item = |i| Item {
                path: format!("d/{i:03}.jpg").into(),
                label_path: None,
                width: 8,
                height: 8,
                labels: Vec::new(),
                group: None,
            };
            range.map(item).collect()
        };
        let (train, val) = (items(0..train), items(train..train + val));
        Dataset {
            classes: vec!["a".into()],
            train,
            val,
            test: Vec::new(),
            hash: String::new(),
            pixels: Pixels::RGB8,
        }
    }

    #[test]
    fn every_image_measures_once_and_never_what_it_trained() {
        let data = dataset(23, 5);
        let mut measured = vec![0; 23];
        for pair in 0..5 {
            let split = split(&data, Measure::Folds(5), 0, (true, pair)).unwrap();
            assert_eq!(split.train.len() + split.val.len(), 23);
            assert!(split.val.iter().all(|i| !split.train.contains(i)));
            split.val.iter().for_each(|&i| measured[i] += 1);
        }
        assert_eq!(measured, [1; 23]);
    }

    #[test]
    fn a_group_measures_whole_or_not_at_all() {
        let mut data = dataset(24, 5);
        data.train
            .iter_mut()
            .enumerate()
            .for_each(|(i, item)| item.group = Some(format!("p{}", i / 3).into()));
        for pair in 0..8 {
            let split = split(&data, Measure::Folds(4), 0, (true, pair)).unwrap();
            assert_eq!(split.val.len(), 6);
            assert!(
                split.val.chunks(3).all(|group| group[0] % 3 == 0 && group[2] == group[0] + 2),
                "{split:?}"
            );
        }
    }

    #[test]
    fn the_comparison_has_splits_and_seeds_of_its_own() {
        let data = dataset(23, 5);
        for measure in [Measure::Folds(5), Measure::Seeds(3)] {
            let race: Vec<Split> = (0..5).map(|p| split(&data, measure, 7, (false, p)).unwrap()).collect();
            for pair in 0..15 {
                let last = split(&data, measure, 7, (true, pair)).unwrap();
                assert!(race.iter().all(|r| r.seed != last.seed && *r != last));
            }
        }
        let seeds = split(&data, Measure::Seeds(3), 7, (false, 1)).unwrap();
        assert_eq!((seeds.val, seeds.seed, seeds.fold), ((23..28).collect(), 8, None));
    }
}
