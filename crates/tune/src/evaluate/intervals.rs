//! Bootstrap intervals of a detector's mean average precision: the images are drawn anew, with replacement.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::Truth;
use super::average_precision::{Record, average_precision, sort_records_with};
use super::classify::Interval;
use super::matching::{self, IOU_THRESHOLDS};
use crate::boxes::Detection;
use crate::data::rng::{Draw, Purpose};

/// Samples that are drawn.
const SAMPLES: u32 = 1000;

/// 95 % bootstrap intervals; none where no image has a truth box.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct DetectIntervals {
    /// Of the mean average precision at IoU 0.5.
    pub map50: Option<Interval>,
    /// Of the mean over the IoU thresholds 0.5 to 0.95.
    pub map50_95: Option<Interval>,
}

/// What a class has on the images.
#[derive(Default)]
struct Class {
    /// Detections, best first, with their image.
    records: Vec<(Record, u32)>,
    /// Truth boxes on each image that has some.
    truths: Vec<(u32, u32)>,
}

/// Intervals over `images` (detections and truths of each) of a detector of `classes` classes. A sample's figures are those
/// that the images drawn would have as a data set: an image that is drawn twice counts twice.
pub fn detect_intervals(images: &[(Vec<Detection>, Vec<Truth>)], classes: usize) -> DetectIntervals {
    let counted = count(images, classes);
    let samples: Vec<Option<[f64; 2]>> = (0..SAMPLES)
        .into_par_iter()
        .map(|sample| figures(&counted, &weights(sample, images.len())))
        .collect();
    let interval = |which: usize| {
        let mut values: Vec<f64> = samples.iter().flatten().map(|figures| figures[which]).collect();
        values.sort_by(f64::total_cmp);
        let at =
            |share: f64| values.get((share * (values.len().max(1) - 1) as f64).round() as usize).copied();
        Some(Interval { low: at(0.025)?, high: at(0.975)? })
    };
    DetectIntervals { map50: interval(0), map50_95: interval(1) }
}

/// How often each image is drawn.
fn weights(sample: u32, images: usize) -> Vec<u32> {
    let mut draw = Draw::new(0, 0, sample, Purpose::Bootstrap);
    let mut weights = vec![0; images];
    (0..images).for_each(|_| weights[draw.below(images as u32) as usize] += 1);
    weights
}

fn count(images: &[(Vec<Detection>, Vec<Truth>)], classes: usize) -> Vec<Class> {
    let mut counted: Vec<Class> = (0..classes).map(|_| Class::default()).collect();
    for (image, (detections, truths)) in images.iter().enumerate() {
        let image = image as u32;
        for (number, class) in counted.iter_mut().enumerate() {
            let number = number as u32;
            let mut found: Vec<Detection> =
                detections.iter().filter(|d| d.class == number).copied().collect();
            let there: Vec<Truth> = truths.iter().filter(|t| t.class == number).copied().collect();
            if found.is_empty() && there.is_empty() {
                continue;
            }
            found.sort_by(|a, b| b.score.total_cmp(&a.score));
            let verdicts = matching::judge(&found, &there);
            let records =
                found.iter().zip(verdicts).map(|(d, verdict)| (Record::new(d.score, verdict, true), image));
            class.records.extend(records);
            let boxes = there.iter().filter(|t| !t.crowd).count() as u32;
            if boxes > 0 {
                class.truths.push((image, boxes));
            }
        }
    }
    counted.iter_mut().for_each(|class| sort_records_with(&mut class.records));
    counted
}

/// mAP50 and mAP50-95 where image i counts `weights[i]` times; none without a truth box.
fn figures(classes: &[Class], weights: &[u32]) -> Option<[f64; 2]> {
    let (mut at50, mut over_all, mut seen) = (0.0, 0.0, 0u32);
    let mut records = Vec::new();
    for class in classes {
        let truths: u64 =
            class.truths.iter().map(|&(image, boxes)| u64::from(boxes * weights[image as usize])).sum();
        if truths == 0 {
            continue;
        }
        records.clear();
        for (record, image) in &class.records {
            records.extend(std::iter::repeat_n(*record, weights[*image as usize] as usize));
        }
        let thresholds = IOU_THRESHOLDS.len();
        let ap: Vec<f64> = (0..thresholds).map(|t| average_precision(&records, truths, t)).collect();
        at50 += ap[0];
        over_all += ap.iter().sum::<f64>() / thresholds as f64;
        seen += 1;
    }
    (seen > 0).then(|| [at50 / f64::from(seen), over_all / f64::from(seen)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boxes::Xyxy;
    use crate::evaluate::Evaluator;

    fn bbox(x: f32) -> Xyxy {
        Xyxy { x1: x, y1: 0.0, x2: x + 10.0, y2: 10.0 }
    }

    fn found(class: u32, score: f32, x: f32) -> Detection {
        Detection { class, score, bbox: bbox(x) }
    }

    fn truth(class: u32, x: f32) -> Truth {
        Truth { class, bbox: bbox(x), crowd: false }
    }

    fn images() -> Vec<(Vec<Detection>, Vec<Truth>)> {
        (0..40u32)
            .map(|i| {
                let score = 0.3 + 0.01 * i as f32;
                // Of each four images one is missed, and one has a detection of nothing.
                let mut detections = vec![found(i % 2, score, if i % 4 == 0 { 500.0 } else { 1.0 })];
                if i % 4 == 1 {
                    detections.push(found(i % 2, score + 0.1, 300.0));
                }
                (detections, vec![truth(i % 2, 0.0)])
            })
            .collect()
    }

    #[test]
    fn each_image_once_gives_the_evaluator_s_own_figures() {
        let images = images();
        let mut evaluator = Evaluator::new(vec!["a".into(), "b".into(), "unseen".into()]);
        for (detections, truths) in &images {
            evaluator.add(detections, truths).unwrap();
        }
        let metrics = evaluator.finish();
        let [map50, map50_95] = figures(&count(&images, 3), &vec![1; images.len()]).unwrap();
        assert!((map50 - metrics.map50).abs() < 1e-12 && (map50_95 - metrics.map50_95).abs() < 1e-12);
        // Twice each: another data set with the same shares of right and wrong, so nearly the same figures.
        let [twice, _] = figures(&count(&images, 3), &vec![2; images.len()]).unwrap();
        assert!((twice - map50).abs() < 0.02, "{twice} {map50}");
    }

    #[test]
    fn the_interval_holds_the_figure_and_shrinks_with_more_images() {
        let few = images();
        let many: Vec<_> = (0..16).flat_map(|_| images()).collect();
        let [figure, _] = figures(&count(&few, 2), &vec![1; few.len()]).unwrap();
        let [few, many] = [few, many].map(|images| detect_intervals(&images, 2).map50.unwrap());
        assert!(few.low < figure && figure < few.high, "{few:?} {figure}");
        assert!(many.high - many.low < (few.high - few.low) / 2.0, "{many:?} {few:?}");
    }

    #[test]
    fn without_a_truth_box_there_is_nothing_to_say() {
        assert_eq!(detect_intervals(&[(vec![found(0, 0.5, 0.0)], vec![])], 1), DetectIntervals::default());
        assert_eq!(detect_intervals(&[], 1), DetectIntervals::default());
    }
}
