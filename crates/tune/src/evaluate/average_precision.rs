//! Precision and recall along the confidence, and the area under their curve: as the reference and as COCO take it.

use super::matching::{IOU_THRESHOLDS, Verdict};

/// Points of a curve over confidence or recall: 0 to 1, both ends included.
pub const CURVE_POINTS: usize = 1000;

/// Recall levels at which precision is read for average precision: 0, 0.01 … 1.
const RECALL_LEVELS: usize = 101;

/// Half the width of the moving average that steadies the mean F1 curve, in curve points.
const SMOOTHING: usize = 50;

/// What is kept of a detection: 8 bytes, so that 100,000 images with 300 detections each fit in 240 MB.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Confidence, 0 to 1.
    pub score: f32,
    /// Bits 0-9 right, 10-19 ignored, 20 beyond COCO's detections of an image.
    bits: u32,
}

impl Record {
    /// `coco`: among the first 100 detections of its class and image, the only ones that COCO counts.
    pub fn new(score: f32, verdict: Verdict, coco: bool) -> Record {
        let bits = u32::from(verdict.right) | u32::from(verdict.ignored) << 10 | u32::from(!coco) << 20;
        Record { score, bits }
    }

    fn right(&self, threshold: usize) -> bool {
        self.bits >> threshold & 1 == 1
    }

    fn ignored(&self, threshold: usize) -> bool {
        self.bits >> (10 + threshold) & 1 == 1
    }

    fn coco(&self) -> bool {
        self.bits >> 20 == 0
    }
}

/// Best score first; equal scores stay in the order of the images.
pub fn sort_records(records: &mut [Record]) {
    records.sort_by(|a, b| b.score.total_cmp(&a.score));
}

/// As [`sort_records`], for records that carry something with them.
pub fn sort_records_with<T>(records: &mut [(Record, T)]) {
    records.sort_by(|(a, _), (b, _)| b.score.total_cmp(&a.score));
}

/// The reference's average precision at one of the ten IoU thresholds; `records` sorted, `truths` at least 1.
pub fn average_precision(records: &[Record], truths: u64, threshold: usize) -> f64 {
    if records.is_empty() {
        return 0.0;
    }
    let (mut recall, mut precision) =
        (Vec::with_capacity(records.len() + 3), Vec::with_capacity(records.len() + 3));
    cumulate(records, truths, threshold, &mut recall, &mut precision);
    close(&mut recall, &mut precision);
    area(&recall, &precision)
}

/// One class's average precision and curves, as the reference takes them.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassCurves {
    /// Average precision at each of the ten IoU thresholds.
    pub ap: [f64; 10],
    /// Precision at IoU 0.5 over confidence, `CURVE_POINTS` values.
    pub precision: Vec<f32>,
    /// Recall at IoU 0.5 over confidence, `CURVE_POINTS` values.
    pub recall: Vec<f32>,
    /// Precision at IoU 0.5 over recall, `CURVE_POINTS` values, never rising.
    pub precision_at_recall: Vec<f32>,
}

/// The harmonic mean of precision and recall; 0 where both are 0.
pub fn f1(precision: f64, recall: f64) -> f64 {
    2.0 * precision * recall / (precision + recall + 1e-16)
}

/// The reference's curves of one class; `records` sorted, `truths` the class's boxes in all images (at least 1).
pub fn class_curves(records: &[Record], truths: u64) -> ClassCurves {
    let zeros = || vec![0.0; CURVE_POINTS];
    let mut out =
        ClassCurves { ap: [0.0; 10], precision: zeros(), recall: zeros(), precision_at_recall: zeros() };
    if records.is_empty() {
        return out;
    }
    let falling: Vec<f64> = records.iter().map(|r| -f64::from(r.score)).collect();
    let mut recall = Vec::with_capacity(records.len() + 3);
    let mut precision = Vec::with_capacity(records.len() + 3);
    for threshold in 0..IOU_THRESHOLDS.len() {
        cumulate(records, truths, threshold, &mut recall, &mut precision);
        if threshold == 0 {
            let sample = |values: &[f64], above_all: f64| {
                grid(CURVE_POINTS).map(|x| interpolate(-x, &falling, values, above_all) as f32).collect()
            };
            out.recall = sample(&recall, 0.0);
            out.precision = sample(&precision, 1.0);
        }
        close(&mut recall, &mut precision);
        out.ap[threshold] = area(&recall, &precision);
        if threshold == 0 {
            out.precision_at_recall =
                grid(CURVE_POINTS).map(|x| interpolate(x, &recall, &precision, 1.0) as f32).collect();
        }
    }
    out
}

/// Recall and precision after each detection, best first.
fn cumulate(
    records: &[Record],
    truths: u64,
    threshold: usize,
    recall: &mut Vec<f64>,
    precision: &mut Vec<f64>,
) {
    recall.clear();
    precision.clear();
    let mut right = 0u64;
    for (index, record) in records.iter().enumerate() {
        right += u64::from(record.right(threshold));
        recall.push(right as f64 / truths as f64);
        precision.push(right as f64 / (index + 1) as f64);
    }
}

/// Puts the ends on a curve (precision 1 at recall 0, precision 0 from the last recall on) and makes precision monotone.
fn close(recall: &mut Vec<f64>, precision: &mut Vec<f64>) {
    let last = recall.last().copied().unwrap_or(1.0);
    recall.insert(0, 0.0);
    recall.extend([last, 1.0]);
    precision.insert(0, 1.0);
    precision.extend([0.0, 0.0]);
    let mut best = 0.0f64;
    for p in precision.iter_mut().rev() {
        best = best.max(*p);
        *p = best;
    }
}

/// The trapezoid rule over `RECALL_LEVELS` interpolated points.
fn area(recall: &[f64], precision: &[f64]) -> f64 {
    let heights: Vec<f64> = grid(RECALL_LEVELS).map(|x| interpolate(x, recall, precision, 1.0)).collect();
    heights.windows(2).map(|h| (h[0] + h[1]) / 2.0).sum::<f64>() / (RECALL_LEVELS - 1) as f64
}

/// `points` numbers from 0 to 1, rounded as numpy's `linspace` does: a recall of 57 / 100 must lie on the same side of level 0.57.
fn grid(points: usize) -> impl Iterator<Item = f64> {
    let step = 1.0 / (points - 1) as f64;
    (0..points).map(move |i| if i + 1 == points { 1.0 } else { i as f64 * step })
}

/// Piecewise linear through (`xs`, `ys`), `xs` ascending. Before the first x it is `before`, after the last the last y; of
/// equal xs the last one counts.
fn interpolate(x: f64, xs: &[f64], ys: &[f64], before: f64) -> f64 {
    let after = xs.partition_point(|v| *v <= x);
    if after == 0 {
        return before;
    }
    if after == xs.len() {
        return ys[after - 1];
    }
    let (x0, x1, y0, y1) = (xs[after - 1], xs[after], ys[after - 1], ys[after]);
    if x == x0 { y0 } else { y0 + (x - x0) * ((y1 - y0) / (x1 - x0)) }
}

/// The index of the highest point of a curve after a moving average of 2 * `SMOOTHING` + 1 points, ends repeated.
pub fn smoothed_peak(curve: &[f64]) -> usize {
    let at = |i: isize| curve[i.clamp(0, curve.len() as isize - 1) as usize];
    let mut best = (0, f64::NEG_INFINITY);
    for i in 0..curve.len() as isize {
        let reach = SMOOTHING as isize;
        let sum: f64 = (i - reach..=i + reach).map(at).sum();
        if sum > best.1 {
            best = (i as usize, sum);
        }
    }
    best.0
}

/// COCO's average precision of one class at each of the ten thresholds (all areas, 100 detections a class and image): the mean
/// of the best precision at or beyond each of 101 recall levels. `records` sorted; `truths` without crowds, at least 1.
pub fn coco_average_precision(records: &[Record], truths: u64) -> [f64; 10] {
    let mut out = [0.0; 10];
    let mut points: Vec<(u64, f64)> = Vec::new();
    for (threshold, out) in out.iter_mut().enumerate() {
        points.clear();
        let (mut right, mut wrong) = (0u64, 0u64);
        for record in records.iter().filter(|r| r.coco()) {
            if record.right(threshold) {
                right += 1;
            } else if !record.ignored(threshold) {
                wrong += 1;
            }
            points.push((right, right as f64 / ((right + wrong) as f64 + f64::EPSILON)));
        }
        let mut best = 0.0f64;
        for (_, precision) in points.iter_mut().rev() {
            best = best.max(*precision);
            *precision = best;
        }
        let sum: f64 = grid(RECALL_LEVELS)
            .map(|level| {
                let at = points.partition_point(|(right, _)| (*right as f64 / truths as f64) < level);
                points.get(at).map_or(0.0, |(_, precision)| *precision)
            })
            .sum();
        *out = sum / RECALL_LEVELS as f64;
    }
    out
}

/// The mean over all thresholds.
pub fn mean_over_thresholds(ap: &[f64; 10]) -> f64 {
    ap.iter().sum::<f64>() / IOU_THRESHOLDS.len() as f64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RIGHT: Verdict = Verdict { right: 0b11_1111_1111, ignored: 0 };
    const WRONG: Verdict = Verdict { right: 0, ignored: 0 };

    fn verdict(right: bool) -> Verdict {
        if right { RIGHT } else { WRONG }
    }

    fn records(right: &[bool]) -> Vec<Record> {
        let each = right.iter().enumerate();
        each.map(|(i, r)| Record::new(0.9 - 0.1 * i as f32, verdict(*r), true)).collect()
    }

    #[test]
    fn all_found_and_nothing_wrong() {
        let records = records(&[true, true]);
        // 100 full trapezoids but the last, which ends on the sentinel.
        assert!((class_curves(&records, 2).ap[0] - 0.995).abs() < 1e-12);
        assert!((coco_average_precision(&records, 2)[9] - 1.0).abs() < 1e-9);
    }

    #[test]
    fn right_wrong_right_by_hand() {
        let records = records(&[true, false, true]);
        // COCO, 2 truths: precision 1 for the 51 levels up to recall .5, 2/3 for the 50 beyond.
        let coco = coco_average_precision(&records, 2)[0];
        assert!((coco - (51.0 + 50.0 * 2.0 / 3.0) / 101.0).abs() < 1e-9, "{coco}");
        // The reference joins the points by lines: 1 at recall 0, 2/3 from the last point at recall .5 to 1, 0 at 1.
        // Points (0,1) (.5,1) (.5,2/3) (1,2/3) (1,0): 49.5 trapezoids of 1, one from 1 to 2/3 …
        let heights: Vec<f64> = (0..=100)
            .map(|i| {
                if i < 50 {
                    1.0
                } else if i < 100 {
                    2.0 / 3.0
                } else {
                    0.0
                }
            })
            .collect();
        let expected: f64 = heights.windows(2).map(|h| (h[0] + h[1]) / 200.0).sum();
        let ap = class_curves(&records, 2).ap[0];
        assert!((ap - expected).abs() < 1e-12, "{ap} {expected}");
    }

    #[test]
    fn half_of_the_truth_found_is_half_the_area() {
        let records = records(&[true]);
        // Recall ends at .5: levels .00 to .50 have precision 1 for COCO; the reference drops to 0 at .50 itself.
        assert!((coco_average_precision(&records, 2)[0] - 51.0 / 101.0).abs() < 1e-9);
        assert!((class_curves(&records, 2).ap[0] - 0.495).abs() < 1e-12);
    }

    #[test]
    fn curves_over_confidence() {
        // Scores .9 right, .8 wrong, .7 right; 4 truths.
        let curves = class_curves(&records(&[true, false, true]), 4);
        let at = |curve: &[f32], confidence: f64| curve[(confidence * 999.0).round() as usize];
        assert_eq!((at(&curves.precision, 0.95), at(&curves.recall, 0.95)), (1.0, 0.0));
        assert!((at(&curves.recall, 0.1) - 0.5).abs() < 1e-6);
        assert!((at(&curves.precision, 0.1) - 2.0 / 3.0).abs() < 1e-6);
        // Between .8 and .7 recall goes from .25 to .5 in a line.
        assert!((at(&curves.recall, 0.75) - 0.375).abs() < 2e-3);
        assert_eq!(curves.precision_at_recall[0], 1.0);
        assert_eq!(curves.precision_at_recall[999], 0.0);
    }

    #[test]
    fn ignored_detections_and_those_beyond_a_hundred_count_neither_way() {
        let mut records = records(&[true]);
        let ignored = Verdict { right: 0, ignored: RIGHT.right };
        records.push(Record::new(0.95, ignored, true));
        records.push(Record::new(0.99, WRONG, false));
        sort_records(&mut records);
        assert!((coco_average_precision(&records, 1)[0] - 1.0).abs() < 1e-9);
        // The reference knows neither: two wrong ones come first.
        let ap = class_curves(&records, 1).ap[0];
        assert!(ap < 0.7, "{ap}");
    }

    #[test]
    fn a_recall_on_a_level_counts_as_numpy_rounds_it() {
        // 57 found of 100, then one wrong: numpy's level 0.57 is the float above 57 / 100, so 58 of its levels are beyond.
        let mut all: Vec<_> = (0..57).map(|i| Record::new(0.9 - 0.001 * i as f32, RIGHT, true)).collect();
        all.push(Record::new(0.1, WRONG, true));
        assert!(grid(RECALL_LEVELS).nth(57) > Some(0.57));
        assert!((coco_average_precision(&all, 100)[0] - 57.0 / 101.0).abs() < 1e-9);
    }

    #[test]
    fn nothing_detected_is_zero() {
        assert_eq!(class_curves(&[], 3).ap, [0.0; 10]);
        assert_eq!(coco_average_precision(&[], 3), [0.0; 10]);
    }

    #[test]
    fn the_peak_is_of_the_smoothed_curve() {
        let mut curve = vec![0.0; CURVE_POINTS];
        curve[10] = 5.0;
        for value in &mut curve[600..800] {
            *value = 0.9;
        }
        assert_eq!(smoothed_peak(&curve), 650);
    }

    proptest! {
        #[test]
        fn average_precision_lies_between_0_and_1(
            hits in prop::collection::vec((0u8..10, any::<bool>()), 0..80),
            missed in 1u64..5,
        ) {
            let mut all: Vec<_> =
                hits.iter().map(|&(s, r)| Record::new(f32::from(s) / 10.0, verdict(r), true)).collect();
            sort_records(&mut all);
            let right = hits.iter().filter(|h| h.1).count() as u64;
            let truths = right + missed;
            for ap in [class_curves(&all, truths).ap[0], coco_average_precision(&all, truths)[0]] {
                prop_assert!((0.0..=1.0).contains(&ap));
                prop_assert!(ap <= right as f64 / truths as f64 + 0.011);
            }
        }
    }
}
