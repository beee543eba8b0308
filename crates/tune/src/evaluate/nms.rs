//! Greedy non-maximum suppression, and the way from head maps to final detections.

use rayon::prelude::*;

use super::{EvaluateError, HeadMaps};
use crate::boxes::Detection;

/// How candidates are chosen and thinned.
#[derive(Clone, Debug, PartialEq)]
pub struct Postprocess {
    /// Least score, 0 to 1; a candidate must be above it.
    pub conf: f32,
    /// Of two boxes that overlap by more than this IoU (0 to 1) the lower score goes.
    pub iou: f32,
    /// Most detections an image.
    pub max_det: usize,
    /// Most candidates an image that go into the suppression, best scores first.
    pub max_candidates: usize,
    /// Every class above `conf` makes a candidate, not only an anchor's best.
    pub multi_label: bool,
    /// Suppress across classes.
    pub agnostic: bool,
    /// Only these classes; none: all.
    pub classes: Option<Vec<u32>>,
}

impl Postprocess {
    /// What validation uses: all that may count towards average precision.
    pub fn validation() -> Postprocess {
        Postprocess {
            conf: 0.001,
            iou: 0.7,
            max_det: 300,
            max_candidates: 30_000,
            multi_label: true,
            agnostic: false,
            classes: None,
        }
    }

    /// What prediction uses: one confident label for each box.
    pub fn prediction() -> Postprocess {
        Postprocess { conf: 0.25, multi_label: false, ..Postprocess::validation() }
    }

    fn check(&self) -> Result<(), EvaluateError> {
        for (name, value) in [("conf", self.conf), ("iou", self.iou)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(EvaluateError::Option { name, value, low: 0.0, high: 1.0 });
            }
        }
        Ok(())
    }
}

/// The final detections of each image of a batch, best first, in pixels of the network's input.
///
/// # Errors
/// If an option is out of range or the model's output is not finite.
pub fn detections(maps: &HeadMaps<'_>, options: &Postprocess) -> Result<Vec<Vec<Detection>>, EvaluateError> {
    options.check()?;
    (0..maps.batch())
        .into_par_iter()
        .map(|image| {
            let mut candidates =
                maps.candidates(image, options.conf, options.multi_label, options.max_candidates)?;
            if let Some(classes) = &options.classes {
                candidates.retain(|c| classes.contains(&c.class));
            }
            Ok(nms(&candidates, options.iou, options.max_det, options.agnostic))
        })
        .collect()
}

/// Keeps the best-scoring box and drops those of its class (`agnostic`: of any class) that overlap it by more than
/// `iou`, then goes on with the best of the rest, until `max_det` are kept. Ties in score keep the order of `candidates`.
///
/// The reference moves each class's boxes apart by 7,680 px and suppresses once over all; comparing within the class is
/// the same without the rounding that large coordinates bring in float32.
pub fn nms(candidates: &[Detection], iou: f32, max_det: usize, agnostic: bool) -> Vec<Detection> {
    let mut order: Vec<&Detection> = candidates.iter().collect();
    order.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut kept: Vec<Detection> = Vec::new();
    for candidate in order {
        if kept.len() == max_det {
            break;
        }
        let hidden = kept
            .iter()
            .any(|k| (agnostic || k.class == candidate.class) && k.bbox.iou(&candidate.bbox) > iou);
        if !hidden {
            kept.push(*candidate);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::boxes::Xyxy;
    use crate::evaluate::Level;

    fn at(class: u32, score: f32, x: f32) -> Detection {
        Detection { class, score, bbox: Xyxy { x1: x, y1: 0.0, x2: x + 10.0, y2: 10.0 } }
    }

    #[test]
    fn the_better_of_two_overlapping_boxes_stays() {
        // Shift 1 of 10: IoU 9 / 11; shift 5: 5 / 15.
        let kept = nms(&[at(0, 0.5, 1.0), at(0, 0.9, 0.0), at(0, 0.4, 5.0)], 0.7, 300, false);
        assert_eq!(kept, [at(0, 0.9, 0.0), at(0, 0.4, 5.0)]);
    }

    #[test]
    fn classes_suppress_each_other_only_if_agnostic() {
        let both = [at(0, 0.9, 0.0), at(1, 0.8, 0.0)];
        assert_eq!(nms(&both, 0.7, 300, false), both);
        assert_eq!(nms(&both, 0.7, 300, true), both[..1]);
    }

    #[test]
    fn equal_scores_keep_their_order_and_the_number_is_bounded() {
        let equal = [at(0, 0.5, 0.0), at(0, 0.5, 40.0), at(0, 0.5, 80.0), at(0, 0.5, 0.5)];
        assert_eq!(nms(&equal, 0.7, 300, false), equal[..3]);
        assert_eq!(nms(&equal, 0.7, 2, false), equal[..2]);
    }

    #[test]
    fn a_suppressed_box_does_not_suppress() {
        let chain = [at(0, 0.9, 0.0), at(0, 0.8, 3.0), at(0, 0.7, 6.0)];
        // Neighbours overlap by 7 / 13, the ends by 4 / 16.
        assert_eq!(nms(&chain, 0.5, 300, false), [chain[0], chain[2]]);
    }

    #[test]
    fn options_out_of_range_are_refused() {
        let values = [0.0; 5];
        let level = Level { values: &values, height: 1, width: 1, stride: 8.0, classes: 0..1 };
        let maps = HeadMaps::new(1, 1, vec![level]).unwrap();
        let options = Postprocess { iou: 70.0, ..Postprocess::prediction() };
        let error = detections(&maps, &options).unwrap_err();
        assert_eq!(error.to_string(), "iou is 70, but must lie between 0 and 1");
    }

    #[test]
    fn only_the_chosen_classes_come_through() {
        // One cell, distances 1 to all sides, two classes at .73 and .88.
        let values = [1.0, 1.0, 1.0, 1.0, 1.0, 2.0];
        let level = Level { values: &values, height: 1, width: 1, stride: 8.0, classes: 0..2 };
        let maps = HeadMaps::new(1, 1, vec![level]).unwrap();
        let classes = |multi_label, classes| {
            let options = Postprocess { multi_label, classes, ..Postprocess::prediction() };
            detections(&maps, &options).unwrap()[0].iter().map(|d| d.class).collect::<Vec<_>>()
        };
        assert_eq!(classes(true, None), [1, 0]);
        assert_eq!(classes(true, Some(vec![0])), [0]);
        // The cell's best class is 1; it does not become a 0.
        assert!(classes(false, Some(vec![0])).is_empty());
    }

    proptest! {
        #[test]
        fn kept_boxes_are_sorted_and_apart(
            boxes in prop::collection::vec((0u32..3, 0u8..=20, 0f32..40.0, 0f32..40.0, 0f32..30.0, 0f32..30.0), 0..60),
            iou in 0f32..1.0,
            max_det in 0usize..40,
            agnostic: bool,
        ) {
            let all: Vec<_> = boxes
                .iter()
                .map(|&(class, score, x1, y1, w, h)| Detection {
                    class,
                    score: f32::from(score) / 20.0,
                    bbox: Xyxy { x1, y1, x2: x1 + w, y2: y1 + h },
                })
                .collect();
            let kept = nms(&all, iou, max_det, agnostic);
            prop_assert!(kept.len() <= max_det);
            prop_assert!(kept.windows(2).all(|p| p[0].score >= p[1].score));
            for (i, a) in kept.iter().enumerate() {
                for b in &kept[i + 1..] {
                    prop_assert!((!agnostic && a.class != b.class) || a.bbox.iou(&b.bbox) <= iou);
                }
            }
            // Whatever is missing was hidden by something kept that scores at least as much, or came too late.
            if kept.len() < max_det {
                for d in all.iter().filter(|d| !kept.contains(d)) {
                    prop_assert!(kept.iter().any(|k| k.score >= d.score && k.bbox.iou(&d.bbox) > iou));
                }
            }
        }
    }
}
