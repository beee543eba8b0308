//! Which class is taken for which, with a row and a column for the background.

use serde::{Deserialize, Serialize};

use super::Truth;
use crate::boxes::{Detection, Xyxy};

/// Counts of detections by predicted and true class. The last index of either side is the background: a detection of nothing,
/// a truth that nobody found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confusion {
    /// Classes without the background.
    pub classes: usize,
    /// `[predicted][true]`, row by row, (classes + 1) squared.
    pub counts: Vec<u64>,
}

impl Confusion {
    /// Least score of a detection that takes part (it must be above).
    pub const CONFIDENCE: f32 = 0.25;
    /// Least IoU of a pair (it must be above).
    pub const IOU: f32 = 0.45;

    /// An empty matrix.
    pub fn new(classes: usize) -> Confusion {
        Confusion { classes, counts: vec![0; (classes + 1) * (classes + 1)] }
    }

    /// Detections of class `predicted` on truths of class `truth`; index `classes` is the background.
    pub fn get(&self, predicted: usize, truth: usize) -> u64 {
        self.counts[predicted * (self.classes + 1) + truth]
    }

    /// The share of the truths of a column that each row has: 0 to 1, 0 in an empty column. Same layout as `counts`.
    pub fn normalised(&self) -> Vec<f64> {
        let side = self.classes + 1;
        let sums: Vec<u64> = (0..side).map(|t| (0..side).map(|p| self.get(p, t)).sum()).collect();
        (0..side * side)
            .map(|i| if sums[i % side] == 0 { 0.0 } else { self.counts[i] as f64 / sums[i % side] as f64 })
            .collect()
    }

    /// Adds one image; `detections` come best first. Whatever the classes, each detection takes the truth that it overlaps best
    /// among those still free. Crowds and the detections that lie on them and found nothing else are left out.
    pub fn add(&mut self, detections: &[Detection], truths: &[Truth]) {
        let background = self.classes;
        let mut found = vec![false; truths.len()];
        for detection in detections.iter().filter(|d| d.score > Self::CONFIDENCE) {
            let mut best: Option<(usize, f32)> = None;
            let mut on_crowd = false;
            for (index, truth) in truths.iter().enumerate().filter(|(i, _)| !found[*i]) {
                if truth.crowd {
                    on_crowd |= overlap(&detection.bbox, &truth.bbox) > Self::IOU;
                    continue;
                }
                let iou = detection.bbox.iou(&truth.bbox);
                if iou > best.map_or(Self::IOU, |b| b.1) {
                    best = Some((index, iou));
                }
            }
            if let Some((index, _)) = best {
                found[index] = true;
                self.count(detection.class as usize, truths[index].class as usize);
            } else if !on_crowd {
                self.count(detection.class as usize, background);
            }
        }
        for (truth, found) in truths.iter().zip(found) {
            if !found && !truth.crowd {
                self.count(background, truth.class as usize);
            }
        }
    }

    fn count(&mut self, predicted: usize, truth: usize) {
        self.counts[predicted * (self.classes + 1) + truth] += 1;
    }
}

/// The share of `a` that lies in `b`, 0 to 1.
fn overlap(a: &Xyxy, b: &Xyxy) -> f32 {
    let w = (a.x2.min(b.x2) - a.x1.max(b.x1)).max(0.0);
    let h = (a.y2.min(b.y2) - a.y1.max(b.y1)).max(0.0);
    if a.area() > 0.0 { w * h / a.area() } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bbox(x: f32) -> Xyxy {
        Xyxy { x1: x, y1: 0.0, x2: x + 10.0, y2: 10.0 }
    }

    fn found(class: u32, score: f32, x: f32) -> Detection {
        Detection { class, score, bbox: bbox(x) }
    }

    fn truth(class: u32, x: f32) -> Truth {
        Truth { class, bbox: bbox(x), crowd: false }
    }

    #[test]
    fn right_mistaken_missed_and_imagined() {
        let mut matrix = Confusion::new(2);
        matrix.add(
            &[found(0, 0.9, 0.0), found(0, 0.8, 100.0), found(1, 0.7, 300.0), found(1, 0.2, 400.0)],
            &[truth(0, 1.0), truth(1, 101.0), truth(1, 200.0)],
        );
        // rows: predicted 0, 1, nothing; columns: truly 0, 1, nothing.
        assert_eq!(matrix.counts, [1, 1, 0, 0, 0, 1, 0, 1, 0]);
        assert_eq!(matrix.normalised(), [1.0, 0.5, 0.0, 0.0, 0.0, 1.0, 0.0, 0.5, 0.0]);
    }

    #[test]
    fn the_more_confident_of_two_detections_has_the_truth() {
        let mut matrix = Confusion::new(2);
        matrix.add(&[found(0, 0.9, 2.0), found(1, 0.3, 0.5)], &[truth(1, 0.0)]);
        assert_eq!(matrix.get(0, 1), 1);
        assert_eq!(matrix.get(1, 2), 1);
        assert_eq!(matrix.counts.iter().sum::<u64>(), 2);
    }

    #[test]
    fn crowds_and_what_lies_on_them_are_left_out() {
        let mut matrix = Confusion::new(1);
        matrix.add(&[found(0, 0.9, 0.0)], &[Truth { crowd: true, ..truth(0, 1.0) }]);
        assert_eq!(matrix.counts, [0; 4]);
    }
}
