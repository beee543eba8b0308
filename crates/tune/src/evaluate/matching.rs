//! Which detections of an image are right, at ten IoU thresholds.
//!
//! One rule serves both average precisions: the detections take, in order of confidence, the best truth that is still free.

use super::Truth;
use crate::boxes::{Detection, Xyxy};

/// Thresholds at which average precision is taken: 0.50, 0.55 … 0.95.
pub const IOU_THRESHOLDS: [f64; 10] = [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95];

/// A set of thresholds: bit `i` stands for `IOU_THRESHOLDS[i]`.
pub type ThresholdSet = u16;

/// The verdict on a detection. Where neither bit is set it counts as wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Thresholds at which it found a truth.
    pub right: ThresholdSet,
    /// Thresholds at which it found only a crowd: COCO counts it neither as right nor as wrong then.
    pub ignored: ThresholdSet,
}

fn iou64(a: &Xyxy, b: &Xyxy, b_is_crowd: bool) -> f64 {
    let side =
        |a1: f32, a2: f32, b1: f32, b2: f32| f64::from(a2).min(b2.into()) - f64::from(a1).max(b1.into());
    let (w, h) = (side(a.x1, a.x2, b.x1, b.x2), side(a.y1, a.y2, b.y1, b.y2));
    if w <= 0.0 || h <= 0.0 {
        return 0.0;
    }
    let area = |r: &Xyxy| (f64::from(r.x2) - f64::from(r.x1)) * (f64::from(r.y2) - f64::from(r.y1));
    let union = if b_is_crowd { area(a) } else { area(a) + area(b) - w * h };
    w * h / union
}

/// Judges the detections of one image and one class, best first. The later of two equally good truths is taken, as
/// pycocotools does.
pub fn judge(detections: &[Detection], truths: &[Truth]) -> Vec<Verdict> {
    let mut out = vec![Verdict::default(); detections.len()];
    // Proper truths first: a crowd is only for what is left over.
    let mut order: Vec<&Truth> = truths.iter().collect();
    order.sort_by_key(|t| t.crowd);
    let ious: Vec<Vec<f64>> =
        detections.iter().map(|d| order.iter().map(|t| iou64(&d.bbox, &t.bbox, t.crowd)).collect()).collect();
    for (bit, threshold) in IOU_THRESHOLDS.iter().enumerate() {
        let mut taken = vec![false; order.len()];
        for (ious, out) in ious.iter().zip(&mut out) {
            let mut best = threshold.min(1.0 - 1e-10);
            let mut choice: Option<usize> = None;
            for (index, truth) in order.iter().enumerate() {
                if taken[index] && !truth.crowd {
                    continue;
                }
                if truth.crowd && choice.is_some_and(|c| !order[c].crowd) {
                    break;
                }
                if ious[index] >= best {
                    (choice, best) = (Some(index), ious[index]);
                }
            }
            let Some(choice) = choice else { continue };
            taken[choice] = true;
            if order[choice].crowd {
                out.ignored |= 1 << bit;
            } else {
                out.right |= 1 << bit;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bbox(x1: f32, x2: f32) -> Xyxy {
        Xyxy { x1, y1: 0.0, x2, y2: 10.0 }
    }

    fn found(score: f32, x1: f32, x2: f32) -> Detection {
        Detection { class: 0, score, bbox: bbox(x1, x2) }
    }

    fn truth(x1: f32, x2: f32) -> Truth {
        Truth { class: 0, bbox: bbox(x1, x2), crowd: false }
    }

    const ALL: ThresholdSet = 0b11_1111_1111;

    fn right(detections: &[Detection], truths: &[Truth]) -> Vec<ThresholdSet> {
        judge(detections, truths).iter().map(|v| v.right).collect()
    }

    #[test]
    fn a_truth_is_found_once() {
        let detections = [found(0.9, 0.0, 10.0), found(0.8, 0.0, 10.0)];
        assert_eq!(right(&detections, &[truth(0.0, 10.0)]), [ALL, 0]);
    }

    #[test]
    fn a_tighter_but_less_confident_box_is_right_only_above_the_looser_ones_iou() {
        // IoU .6 reaches .5, .55 and .6; IoU .9 the rest but .95.
        let detections = [found(0.9, 0.0, 6.0), found(0.5, 0.0, 9.0)];
        assert_eq!(right(&detections, &[truth(0.0, 10.0)]), [0b00_0000_0111, 0b01_1111_1000]);
    }

    #[test]
    fn a_detection_whose_best_truth_is_taken_falls_back_to_a_free_one() {
        // Both like truth A (0..10) best; the second also reaches truth B (3..13), with IoU 8 / 12.
        let truths = [truth(0.0, 10.0), truth(3.0, 13.0)];
        let detections = [found(0.9, 0.0, 10.0), found(0.8, 1.0, 11.0)];
        assert_eq!(right(&detections, &truths), [ALL, 0b1111]);
    }

    #[test]
    fn a_crowd_swallows_detections_but_gives_no_credit() {
        let crowd = Truth { crowd: true, ..truth(0.0, 100.0) };
        let detections = [found(0.9, 10.0, 20.0), found(0.8, 50.0, 60.0), found(0.7, 200.0, 210.0)];
        let swallowed = Verdict { right: 0, ignored: ALL };
        assert_eq!(judge(&detections, &[crowd]), [swallowed, swallowed, Verdict::default()]);
        let proper = judge(&detections[..1], &[crowd, truth(10.0, 20.0)]);
        assert_eq!(proper[0], Verdict { right: ALL, ignored: 0 });
    }
}
