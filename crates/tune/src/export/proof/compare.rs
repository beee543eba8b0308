//! Two sets of detections of the same pictures, side by side.

use std::path::PathBuf;

use super::{Picture, Proof, Tolerance};
use crate::boxes::{Detection, Xyxy};
use crate::evaluate::{EvaluateError, Evaluator, Truth};

/// Boxes below this score are counted in mAP alone: near nothing, a rounding error decides which of many are kept.
const LEAST: f32 = 0.05;
/// Boxes that overlap less are not the same.
const SAME: f32 = 0.5;
/// Boxes of the model of this score and more are what its users see.
const CONFIDENT: f32 = 0.25;

/// The comparison so far.
pub struct Comparison {
    conf: f32,
    ours: Evaluator,
    theirs: Evaluator,
    images: usize,
    labelled: usize,
    pairs: usize,
    alone: usize,
    max_box: f64,
    max_score: f64,
    sum_box: f64,
    sum_score: f64,
    confident: usize,
    sum_shift: f64,
    worst: Option<(f64, PathBuf)>,
}

impl Comparison {
    pub fn new(names: &[String], conf: f32) -> Comparison {
        Comparison {
            conf,
            ours: Evaluator::new(names.to_vec()),
            theirs: Evaluator::new(names.to_vec()),
            images: 0,
            labelled: 0,
            pairs: 0,
            alone: 0,
            max_box: 0.0,
            max_score: 0.0,
            sum_box: 0.0,
            sum_score: 0.0,
            confident: 0,
            sum_shift: 0.0,
            worst: None,
        }
    }

    /// Takes one picture's detections, best first.
    pub fn add(
        &mut self,
        picture: &Picture,
        ours: &[Detection],
        theirs: &[Detection],
    ) -> Result<(), EvaluateError> {
        self.images += 1;
        let truths = match &picture.truths {
            Some(truths) => {
                self.labelled += 1;
                truths.clone()
            }
            // Without labels the model's own confident boxes are what the export should find.
            None => ours
                .iter()
                .filter(|d| d.score >= CONFIDENT)
                .map(|d| Truth { class: d.class, bbox: d.bbox, crowd: false })
                .collect(),
        };
        self.ours.add(ours, &truths)?;
        let known: Vec<Detection> = theirs.iter().filter(|d| d.class != u32::MAX).copied().collect();
        self.theirs.add(&known, &truths)?;

        let pairs = pair(ours, theirs);
        let (mut edge, mut score) = (0.0f64, 0.0f64);
        let mut counted = 0;
        for &(a, b) in &pairs {
            if a.score.max(b.score) < LEAST {
                continue;
            }
            counted += 1;
            let (moved, changed) = (edge_difference(&a.bbox, &b.bbox), f64::from((a.score - b.score).abs()));
            (edge, score) = (edge.max(moved), score.max(changed));
            self.sum_box += moved;
            self.sum_score += changed;
        }
        for a in ours.iter().filter(|d| d.score >= CONFIDENT) {
            let there = pairs.iter().find(|(own, _)| own == a).map_or(0.0, |(_, b)| b.score);
            self.confident += 1;
            self.sum_shift += f64::from(there - a.score);
        }
        // A box just above the threshold on one side may lie just below it on the other.
        let border = self.conf.max(LEAST) * 1.1;
        let lonely = |all: &[Detection], side: fn(&(Detection, Detection)) -> &Detection| {
            all.iter().filter(|d| d.score >= border && !pairs.iter().any(|p| side(p) == *d)).count()
        };
        let alone = lonely(ours, |p| &p.0) + lonely(theirs, |p| &p.1);
        self.pairs += counted;
        self.alone += alone;
        self.max_box = self.max_box.max(edge);
        self.max_score = self.max_score.max(score);
        // A missing box weighs more than any difference of a found one.
        let badness = alone as f64 * 1e6 + score * 1e3 + edge;
        if self.worst.as_ref().is_none_or(|(most, _)| badness > *most) {
            self.worst = Some((badness, picture.name.clone()));
        }
        Ok(())
    }

    pub fn finish(self, runtime: &'static str, tolerance: Tolerance) -> Proof {
        let (model, export) = (self.ours.finish().map50_95, self.theirs.finish().map50_95);
        let boxes = self.pairs + self.alone;
        let agreement = if boxes == 0 { 1.0 } else { self.pairs as f64 / boxes as f64 };
        let map_difference = (model - export).abs();
        let mean = |sum: f64| sum / self.pairs.max(1) as f64;
        let (mean_box, mean_score) = (mean(self.sum_box), mean(self.sum_score));
        let score_shift = self.sum_shift / self.confident.max(1) as f64;
        let within = |value: f64, limit: Option<f64>| limit.is_none_or(|limit| value <= limit);
        let ok = self.images > 0
            && within(self.max_box, tolerance.box_pixels)
            && within(self.max_score, tolerance.score)
            && within(mean_box, tolerance.mean_box_pixels)
            && within(mean_score, tolerance.mean_score)
            && within(score_shift.abs(), tolerance.score_shift)
            && agreement >= tolerance.agreement
            && map_difference <= tolerance.map;
        Proof {
            runtime,
            images: self.images,
            boxes,
            agreement,
            max_box_difference: self.max_box,
            max_score_difference: self.max_score,
            mean_box_difference: mean_box,
            mean_score_difference: mean_score,
            confident: self.confident,
            score_shift,
            map50_95_model: model,
            map50_95_export: export,
            map_difference,
            labelled: self.labelled == self.images && self.images > 0,
            worst_image: self.worst.map(|(_, name)| name),
            tolerance,
            ok,
        }
    }
}

/// Each of our boxes with the free one of the same class that overlaps it most, if any does by [`SAME`].
fn pair(ours: &[Detection], theirs: &[Detection]) -> Vec<(Detection, Detection)> {
    let mut free = vec![true; theirs.len()];
    let mut pairs = Vec::new();
    for a in ours {
        let best = theirs
            .iter()
            .enumerate()
            .filter(|(i, b)| free[*i] && b.class == a.class)
            .map(|(i, b)| (i, a.bbox.iou(&b.bbox)))
            .max_by(|x, y| x.1.total_cmp(&y.1));
        if let Some((i, iou)) = best
            && iou >= SAME
        {
            free[i] = false;
            pairs.push((*a, theirs[i]));
        }
    }
    pairs
}

fn edge_difference(a: &Xyxy, b: &Xyxy) -> f64 {
    [a.x1 - b.x1, a.y1 - b.y1, a.x2 - b.x2, a.y2 - b.y2]
        .iter()
        .fold(0.0, |most, d| f64::from(d.abs()).max(most))
}

#[cfg(test)]
mod tests {
    use super::super::Proved;
    use super::*;
    use crate::data::raster::Rgb8;

    const TOLERANCE: Tolerance = Tolerance {
        box_pixels: Some(0.1),
        score: Some(0.001),
        mean_box_pixels: None,
        mean_score: None,
        score_shift: Some(0.1),
        agreement: 1.0,
        map: 0.001,
    };

    fn at(class: u32, score: f32, x: f32) -> Detection {
        Detection { class, score, bbox: Xyxy { x1: x, y1: 0.0, x2: x + 10.0, y2: 10.0 } }
    }

    fn proof(ours: &[Detection], theirs: &[Detection]) -> Proof {
        let names = ["a".to_owned(), "b".to_owned()];
        let mut comparison = Comparison::new(&names, 0.001);
        for (name, theirs) in [("same", ours), ("other", theirs)] {
            let picture = Picture { name: name.into(), image: Rgb8::filled(1, 1, 0).into(), truths: None };
            comparison.add(&picture, ours, theirs).unwrap();
        }
        comparison.finish("test", TOLERANCE)
    }

    #[test]
    fn equal_boxes_prove_the_export() {
        let boxes = [at(0, 0.9, 0.0), at(1, 0.5, 30.0), at(1, 0.01, 60.0)];
        let proof = proof(&boxes, &boxes);
        assert!(proof.ok && proof.agreement == 1.0 && proof.boxes == 4, "{proof:?}");
        // A mean over ten thresholds, whose sum rounds.
        assert!((proof.map50_95_model - 0.995).abs() < 1e-12, "{proof:?}");
        assert_eq!(proof.map_difference, 0.0);
    }

    #[test]
    fn each_kind_of_difference_fails_and_names_the_picture() {
        let boxes = [at(0, 0.9, 0.0), at(1, 0.5, 30.0)];
        let cases: [(&str, Vec<Detection>); 4] = [
            ("moved", vec![at(0, 0.9, 0.5), at(1, 0.5, 30.0)]),
            ("scored", vec![at(0, 0.9, 0.0), at(1, 0.49, 30.0)]),
            ("missing", vec![at(0, 0.9, 0.0)]),
            ("swapped", vec![at(1, 0.9, 0.0), at(0, 0.5, 30.0)]),
        ];
        for (what, theirs) in cases {
            let proof = proof(&boxes, &theirs);
            assert!(!proof.ok, "{what}: {proof:?}");
            assert_eq!(proof.worst_image, Some("other".into()), "{what}");
        }
    }

    #[test]
    fn means_are_judged_where_single_boxes_are_not() {
        let (ours, theirs) = ([at(0, 0.9, 0.0), at(1, 0.5, 30.0)], [at(0, 0.9, 0.0), at(1, 0.46, 32.0)]);
        let names = ["a".to_owned(), "b".to_owned()];
        for (mean_score, ok) in [(0.021, true), (0.019, false)] {
            let mut comparison = Comparison::new(&names, 0.001);
            let picture = Picture { name: "one".into(), image: Rgb8::filled(1, 1, 0).into(), truths: None };
            comparison.add(&picture, &ours, &theirs).unwrap();
            let tolerance = Tolerance {
                box_pixels: None,
                score: None,
                mean_box_pixels: Some(1.1),
                mean_score: Some(mean_score),
                score_shift: None,
                agreement: 1.0,
                map: 1.0,
            };
            let proof = comparison.finish("test", tolerance);
            assert_eq!(proof.ok, ok, "{proof:?}");
            assert!((proof.mean_box_difference - 1.0).abs() < 1e-6, "{proof:?}");
        }
    }

    #[test]
    fn scores_that_fall_together_fail_although_map_does_not_move() {
        let (ours, theirs) = ([at(0, 0.9, 0.0), at(1, 0.5, 30.0)], [at(0, 0.7, 0.0), at(1, 0.3, 30.0)]);
        let names = ["a".to_owned(), "b".to_owned()];
        for (least, ok) in [(0.21, true), (0.19, false)] {
            let mut comparison = Comparison::new(&names, 0.001);
            let picture = Picture { name: "one".into(), image: Rgb8::filled(1, 1, 0).into(), truths: None };
            comparison.add(&picture, &ours, &theirs).unwrap();
            let tolerance = Tolerance { score: None, score_shift: Some(least), ..TOLERANCE };
            let proof = comparison.finish("test", tolerance);
            assert_eq!((proof.ok, proof.confident, proof.map_difference), (ok, 2, 0.0), "{proof:?}");
            assert!((proof.score_shift + 0.2).abs() < 1e-6, "{proof:?}");
            assert_eq!(Proved::Boxes(proof).warnings().len(), 1);
        }
    }

    #[test]
    fn a_proof_on_nothing_is_none() {
        let comparison = Comparison::new(&["a".to_owned()], 0.25);
        assert!(!comparison.finish("test", TOLERANCE).ok);
    }
}
