//! The figures of a classifier, in the shape that `onsa val --json` prints.

use serde::{Deserialize, Serialize};

use super::interval::{Interval, bootstrap, of_share};
use super::rank::{area_under_curve, top_classes};

/// What the classifier said of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Guess {
    /// Index of the item.
    pub item: usize,
    /// The class that it has.
    pub truth: usize,
    /// Probability of each class.
    pub scores: Vec<f64>,
}

/// The figures of a classifier on a data set. All rates are fractions of 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassifyMetrics {
    /// Share of images whose likeliest class is right.
    pub top1: f64,
    /// Share of images whose class is among the five likeliest (among all, where there are fewer).
    pub top5: f64,
    /// Mean over the classes seen of the share of their images whose likeliest class is right.
    pub balanced_accuracy: f64,
    /// With two classes: the chance that an image of the second scores higher for it than one of the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auc: Option<f64>,
    /// What training maximises: the mean of `top1` and `top5`.
    pub fitness: f64,
    /// Mean cross-entropy, natural logarithm.
    pub loss: f64,
    /// Images evaluated.
    pub images: u64,
    /// 95 % intervals of the figures above.
    pub intervals: Intervals,
    /// A row a class, those without an image included.
    pub per_class: Vec<ClassFigures>,
    /// Images by predicted (row) and true (column) class.
    pub confusion: Vec<Vec<u64>>,
}

/// 95 % intervals; none without images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Intervals {
    /// Of [`ClassifyMetrics::top1`].
    pub top1: Option<Interval>,
    /// Of [`ClassifyMetrics::top5`].
    pub top5: Option<Interval>,
    /// Of [`ClassifyMetrics::balanced_accuracy`].
    pub balanced_accuracy: Option<Interval>,
    /// Of [`ClassifyMetrics::auc`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auc: Option<Interval>,
}

/// The figures of one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassFigures {
    /// Index into the class list.
    pub class: u32,
    /// Its name.
    pub name: String,
    /// Images of it.
    pub images: u64,
    /// Of the images taken for it, the share that is of it; 0 where none is.
    pub precision: f64,
    /// Of its images, the share taken for it; 0 where there is none.
    pub recall: f64,
    /// Harmonic mean of both; 0 where both are.
    pub f1: f64,
}

/// One image as the counts need it.
struct Row {
    truth: usize,
    guess: usize,
    in_top5: bool,
    /// Score of the second class.
    second: f64,
}

impl ClassifyMetrics {
    /// Counts what the classifier said of each image. `names`: the class list.
    pub fn new(names: &[String], guesses: &[Guess]) -> ClassifyMetrics {
        let classes = names.len();
        let rows: Vec<Row> = guesses
            .iter()
            .map(|g| {
                let top = top_classes(&g.scores, 5);
                Row {
                    truth: g.truth,
                    guess: top[0],
                    in_top5: top.contains(&g.truth),
                    second: g.scores.get(1).copied().unwrap_or(0.0),
                }
            })
            .collect();
        let mut confusion = vec![vec![0u64; classes]; classes];
        rows.iter().for_each(|row| confusion[row.guess][row.truth] += 1);
        let all: Vec<usize> = (0..rows.len()).collect();
        let [top1, top5, balanced, auc] = headline(&rows, classes, &all);
        let [_, _, balanced_in, auc_in] = bootstrap(rows.len(), |chosen| headline(&rows, classes, chosen));
        let count = |holds: fn(&Row) -> bool| rows.iter().filter(|row| holds(row)).count();
        let top1_in = of_share(count(|row| row.guess == row.truth), rows.len());
        let top5_in = of_share(count(|row| row.in_top5), rows.len());
        // Where every image is right, or none, samples of them cannot differ.
        let certain = |i: &Interval| i.low >= i.high;
        let balanced_in = balanced_in.and_then(|i| if certain(&i) { top1_in } else { Some(i) });
        let per_class = names
            .iter()
            .enumerate()
            .map(|(class, name)| {
                let images: u64 = confusion.iter().map(|row| row[class]).sum();
                let taken: u64 = confusion[class].iter().sum();
                let share =
                    |all: u64| if all > 0 { confusion[class][class] as f64 / all as f64 } else { 0.0 };
                let (precision, recall) = (share(taken), share(images));
                let f1 = if precision + recall > 0.0 {
                    2.0 * precision * recall / (precision + recall)
                } else {
                    0.0
                };
                ClassFigures { class: class as u32, name: name.clone(), images, precision, recall, f1 }
            })
            .collect();
        let losses = guesses.iter().map(|g| -g.scores[g.truth].max(f64::MIN_POSITIVE).ln());
        let (top1, top5) = (top1.unwrap_or(0.0), top5.unwrap_or(0.0));
        ClassifyMetrics {
            top1,
            top5,
            balanced_accuracy: balanced.unwrap_or(0.0),
            auc,
            fitness: (top1 + top5) / 2.0,
            loss: losses.sum::<f64>() / guesses.len().max(1) as f64,
            images: guesses.len() as u64,
            intervals: Intervals {
                top1: top1_in,
                top5: top5_in,
                balanced_accuracy: balanced_in,
                auc: auc_in,
            },
            per_class,
            confusion,
        }
    }
}

/// top1, top5, balanced accuracy and (two classes) AUC over the chosen rows.
fn headline(rows: &[Row], classes: usize, chosen: &[usize]) -> [Option<f64>; 4] {
    let n = chosen.len() as f64;
    if chosen.is_empty() {
        return [None; 4];
    }
    let (mut right, mut all, mut top5) = (vec![0u32; classes], vec![0u32; classes], 0u32);
    for row in chosen.iter().map(|&i| &rows[i]) {
        all[row.truth] += 1;
        right[row.truth] += u32::from(row.truth == row.guess);
        top5 += u32::from(row.in_top5);
    }
    let recalls: Vec<f64> = right
        .iter()
        .zip(&all)
        .filter(|(_, all)| **all > 0)
        .map(|(&r, &a)| f64::from(r) / f64::from(a))
        .collect();
    let auc = (classes == 2).then(|| {
        let scored: Vec<(f64, bool)> = chosen.iter().map(|&i| (rows[i].second, rows[i].truth == 1)).collect();
        area_under_curve(&scored)
    });
    [
        Some(f64::from(right.iter().sum::<u32>()) / n),
        Some(f64::from(top5) / n),
        Some(recalls.iter().sum::<f64>() / recalls.len() as f64),
        auc.flatten(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(n: usize) -> Vec<String> {
        (0..n).map(|i| format!("class {i}")).collect()
    }

    fn guess(truth: usize, scores: &[f64]) -> Guess {
        Guess { item: 0, truth, scores: scores.to_vec() }
    }

    #[test]
    fn rare_classes_weigh_as_much_in_balanced_accuracy() {
        // Three of class 0, all right; one of class 1, wrong; none of class 2.
        let sure = [0.8, 0.1, 0.1];
        let metrics = ClassifyMetrics::new(
            &names(3),
            &[guess(0, &sure), guess(0, &sure), guess(0, &sure), guess(1, &[0.5, 0.3, 0.2])],
        );
        assert_eq!((metrics.top1, metrics.top5, metrics.balanced_accuracy), (0.75, 1.0, 0.5));
        assert_eq!(metrics.fitness, 0.875);
        assert_eq!(metrics.confusion, [[3, 1, 0], [0, 0, 0], [0, 0, 0]]);
        let first = &metrics.per_class[0];
        assert_eq!((first.images, first.precision, first.recall), (3, 0.75, 1.0));
        assert!((first.f1 - 6.0 / 7.0).abs() < 1e-12);
        assert_eq!((metrics.per_class[2].images, metrics.per_class[2].f1), (0, 0.0));
        assert_eq!(metrics.auc, None);
        let want = -(3.0 * 0.8f64.ln() + 0.3f64.ln()) / 4.0;
        assert!((metrics.loss - want).abs() < 1e-12);
        let top1 = metrics.intervals.top1.unwrap();
        assert!(top1.low < 0.4 && top1.high > 0.9 && top1.high < 1.0, "{top1:?}");
    }

    #[test]
    fn two_classes_have_an_area() {
        let two =
            [guess(0, &[0.9, 0.1]), guess(1, &[0.6, 0.4]), guess(1, &[0.2, 0.8]), guess(0, &[0.5, 0.5])];
        let metrics = ClassifyMetrics::new(&names(2), &two);
        assert_eq!(metrics.auc, Some(0.75));
        let interval = metrics.intervals.auc.unwrap();
        assert!(interval.low <= 0.75 && interval.high >= 0.75);
    }

    #[test]
    fn six_classes_tell_top_five_from_all() {
        let scores = [0.3, 0.25, 0.2, 0.15, 0.07, 0.03];
        let metrics = ClassifyMetrics::new(&names(6), &[guess(5, &scores), guess(4, &scores)]);
        assert_eq!((metrics.top1, metrics.top5), (0.0, 0.5));
    }

    #[test]
    fn no_image_gives_no_interval() {
        let metrics = ClassifyMetrics::new(&names(2), &[]);
        assert_eq!((metrics.images, metrics.top1, metrics.intervals), (0, 0.0, Intervals::default()));
    }
}
