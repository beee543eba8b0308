//! Image by image, detections against truths; in the end, the figures.

use super::average_precision::{
    CURVE_POINTS, Record, class_curves, coco_average_precision, f1, mean_over_thresholds, smoothed_peak,
    sort_records,
};
use super::{ClassMetrics, Confusion, Curves, DetectMetrics, EvaluateError, matching};
use crate::boxes::{Detection, Xyxy};

/// COCO counts at most this many detections of a class in an image.
const COCO_DETECTIONS: usize = 100;

/// A labelled object of an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Truth {
    /// Index into the class list.
    pub class: u32,
    /// Where, in pixels of the original image.
    pub bbox: Xyxy,
    /// A box around many objects that were not labelled singly (COCO's `iscrowd`): neither to be found nor wrong to find.
    pub crowd: bool,
}

/// How one image went, at confidence 0.25 and IoU 0.5: what to look at first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageScore {
    /// Truths found.
    pub found: u32,
    /// Truths not found.
    pub missed: u32,
    /// Detections of nothing or of the wrong class.
    pub wrong: u32,
}

impl ImageScore {
    /// 2 found / (2 found + missed + wrong), 0 to 1; 1 for an image with nothing to find and nothing found.
    pub fn f1(&self) -> f64 {
        let total = 2 * self.found + self.missed + self.wrong;
        if total == 0 { 1.0 } else { f64::from(2 * self.found) / f64::from(total) }
    }
}

/// What is counted of one class.
#[derive(Clone, Debug, Default)]
struct Class {
    records: Vec<Record>,
    images: u64,
    boxes: u64,
}

/// Collects detections and truths, image by image, and keeps 8 bytes of each detection.
#[derive(Clone, Debug)]
pub struct Evaluator {
    names: Vec<String>,
    classes: Vec<Class>,
    confusion: Confusion,
    images: u64,
}

impl Evaluator {
    /// An evaluator for these classes.
    pub fn new(names: Vec<String>) -> Evaluator {
        let classes = vec![Class::default(); names.len()];
        let confusion = Confusion::new(names.len());
        Evaluator { names, classes, confusion, images: 0 }
    }

    /// Counts one image. Detections come in any order, boxes in pixels of the original image.
    ///
    /// # Errors
    /// If a class lies outside the class list or a number is not finite; the image is then not counted.
    pub fn add(&mut self, detections: &[Detection], truths: &[Truth]) -> Result<ImageScore, EvaluateError> {
        for d in detections {
            self.check("detection", d.class, &d.bbox, d.score)?;
        }
        for t in truths {
            self.check("truth", t.class, &t.bbox, 0.0)?;
        }
        let mut sorted = detections.to_vec();
        sorted.sort_by(|a, b| b.score.total_cmp(&a.score));

        let mut classes: Vec<u32> =
            sorted.iter().map(|d| d.class).chain(truths.iter().map(|t| t.class)).collect();
        classes.sort_unstable();
        classes.dedup();
        let mut score = ImageScore::default();
        for class in classes {
            let detections: Vec<_> = sorted.iter().filter(|d| d.class == class).copied().collect();
            let truths: Vec<_> = truths.iter().filter(|t| t.class == class).copied().collect();
            let verdicts = matching::judge(&detections, &truths);
            let boxes = truths.iter().filter(|t| !t.crowd).count() as u64;
            let count = &mut self.classes[class as usize];
            count.boxes += boxes;
            count.images += u64::from(boxes > 0);
            for (rank, (detection, verdict)) in detections.iter().zip(verdicts).enumerate() {
                count.records.push(Record::new(detection.score, verdict, rank < COCO_DETECTIONS));
                if detection.score > Confusion::CONFIDENCE {
                    score.found += u32::from(verdict.right & 1);
                    score.wrong += u32::from((verdict.right | verdict.ignored) & 1 == 0);
                }
            }
            score.missed += boxes as u32;
        }
        self.confusion.add(&sorted, truths);
        self.images += 1;

        score.missed -= score.found;
        Ok(score)
    }

    fn check(&self, what: &'static str, class: u32, bbox: &Xyxy, score: f32) -> Result<(), EvaluateError> {
        let image = self.images as usize;
        if class as usize >= self.names.len() {
            return Err(EvaluateError::Class { image, what, class, classes: self.names.len() });
        }
        if ![bbox.x1, bbox.y1, bbox.x2, bbox.y2, score].iter().all(|v| v.is_finite()) {
            return Err(EvaluateError::NonFinite { image, what });
        }
        Ok(())
    }

    /// The figures of all images so far. Means are over the classes that have a truth box; without any truth box they are 0
    /// and COCO's are none.
    pub fn finish(mut self) -> DetectMetrics {
        let mut curves = Curves::default();
        let mut per_class = Vec::new();
        let mut unseen_classes = Vec::new();
        let mut mean_f1 = vec![0.0; CURVE_POINTS];
        let mut coco_sums = [0.0; 10];
        for (index, (class, name)) in self.classes.iter_mut().zip(&self.names).enumerate() {
            if class.boxes == 0 {
                unseen_classes.push(name.clone());
                continue;
            }
            sort_records(&mut class.records);
            let found = class_curves(&class.records, class.boxes);
            let coco = coco_average_precision(&class.records, class.boxes);
            // Freed class by class, so that the curves do not come on top of all the records.
            class.records = Vec::new();
            for (sum, ap) in coco_sums.iter_mut().zip(coco) {
                *sum += ap;
            }
            let f1_curve: Vec<f32> = found
                .precision
                .iter()
                .zip(&found.recall)
                .map(|(p, r)| f1(f64::from(*p), f64::from(*r)) as f32)
                .collect();
            for (sum, value) in mean_f1.iter_mut().zip(&f1_curve) {
                *sum += f64::from(*value);
            }
            per_class.push(ClassMetrics {
                class: index as u32,
                name: name.clone(),
                images: class.images,
                boxes: class.boxes,
                precision: 0.0,
                recall: 0.0,
                ap50: found.ap[0],
                ap: mean_over_thresholds(&found.ap),
                coco_ap: mean_over_thresholds(&coco),
            });
            curves.precision.push(found.precision);
            curves.recall.push(found.recall);
            curves.f1.push(f1_curve);
            curves.precision_at_recall.push(found.precision_at_recall);
        }
        let best = smoothed_peak(&mean_f1);
        for (index, class) in per_class.iter_mut().enumerate() {
            class.precision = f64::from(curves.precision[index][best]);
            class.recall = f64::from(curves.recall[index][best]);
        }
        let seen = per_class.len();
        let mean = |of: fn(&ClassMetrics) -> f64| {
            if seen == 0 { 0.0 } else { per_class.iter().map(of).sum::<f64>() / seen as f64 }
        };
        let coco = |sum: f64| (seen > 0).then(|| sum / seen as f64);
        DetectMetrics {
            map50: mean(|c| c.ap50),
            map50_95: mean(|c| c.ap),
            precision: mean(|c| c.precision),
            recall: mean(|c| c.recall),
            fitness: mean(|c| c.ap),
            best_confidence: best as f64 / (CURVE_POINTS - 1) as f64,
            coco_ap: coco(mean_over_thresholds(&coco_sums)),
            coco_ap50: coco(coco_sums[0]),
            coco_ap75: coco(coco_sums[5]),
            images: self.images,
            boxes: per_class.iter().map(|c| c.boxes).sum(),
            per_class,
            unseen_classes,
            confusion: self.confusion,
            intervals: None,
            curves: Some(curves),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bbox(x: f32, width: f32) -> Xyxy {
        Xyxy { x1: x, y1: 0.0, x2: x + width, y2: 10.0 }
    }

    fn found(class: u32, score: f32, x: f32) -> Detection {
        Detection { class, score, bbox: bbox(x, 10.0) }
    }

    fn truth(class: u32, x: f32) -> Truth {
        Truth { class, bbox: bbox(x, 10.0), crowd: false }
    }

    fn names() -> Vec<String> {
        ["ash", "birch", "cedar"].map(String::from).to_vec()
    }

    #[test]
    fn figures_of_two_images_by_hand() {
        let mut evaluator = Evaluator::new(names());
        let first = evaluator.add(&[found(0, 0.8, 50.0), found(0, 0.9, 0.0)], &[truth(0, 0.0)]).unwrap();
        assert_eq!(first, ImageScore { found: 1, missed: 0, wrong: 1 });
        let second = evaluator.add(&[found(0, 0.7, 0.0)], &[truth(0, 0.0), truth(1, 80.0)]).unwrap();
        assert_eq!(second, ImageScore { found: 1, missed: 1, wrong: 0 });
        assert!((second.f1() - 2.0 / 3.0).abs() < 1e-12);

        let m = evaluator.finish();
        assert_eq!((m.images, m.boxes), (2, 3));
        assert_eq!(m.unseen_classes, ["cedar"]);
        assert_eq!(m.per_class.len(), 2);
        assert_eq!((m.per_class[0].images, m.per_class[0].boxes, m.per_class[1].boxes), (2, 2, 1));
        // ash is right, wrong, right of 2; birch was never found.
        let ash = (51.0 + 50.0 * 2.0 / 3.0) / 101.0;
        assert!((m.coco_ap.unwrap() - ash / 2.0).abs() < 1e-9);
        assert!((m.per_class[0].ap50 - (50.0 + 49.5 * 2.0 / 3.0 - 1.0 / 6.0) / 100.0).abs() < 2e-3);
        assert_eq!(m.per_class[1].ap, 0.0);
        assert_eq!(m.map50_95, m.fitness);
        assert_eq!(m.confusion.get(3, 1), 1);
        // Below the lowest score everything is kept: recall of ash 1, precision 2/3.
        assert!(m.best_confidence < 0.7);
        assert!((m.per_class[0].recall - 1.0).abs() < 1e-6);
        assert!((m.per_class[0].precision - 2.0 / 3.0).abs() < 1e-6);
        assert!((m.recall - 0.5).abs() < 1e-6);
    }

    #[test]
    fn an_image_without_truth_still_counts_its_wrong_detections() {
        let one = |empty: bool| {
            let mut evaluator = Evaluator::new(names());
            evaluator.add(&[found(0, 0.5, 0.0)], &[truth(0, 0.0)]).unwrap();
            if empty {
                evaluator.add(&[found(0, 0.9, 0.0)], &[]).unwrap();
            }
            evaluator.finish()
        };
        assert!(one(true).map50 < one(false).map50 - 0.3);
    }

    #[test]
    fn only_a_hundred_detections_of_a_class_and_image_count_for_coco() {
        let mut evaluator = Evaluator::new(names());
        let mut detections: Vec<_> = (0..100).map(|i| found(0, 0.9, 1000.0 + 20.0 * i as f32)).collect();
        detections.push(found(0, 0.5, 0.0));
        evaluator.add(&detections, &[truth(0, 0.0)]).unwrap();
        let m = evaluator.finish();
        assert_eq!(m.coco_ap, Some(0.0));
        assert!(m.map50 > 0.0);
    }

    #[test]
    fn nothing_to_find_gives_zeros_and_no_coco_figure() {
        let mut evaluator = Evaluator::new(names());
        evaluator.add(&[], &[]).unwrap();
        let m = evaluator.finish();
        assert_eq!((m.images, m.boxes, m.map50, m.coco_ap), (1, 0, 0.0, None));
    }

    #[test]
    fn unknown_classes_and_nan_are_refused_and_not_counted() {
        let mut evaluator = Evaluator::new(names());
        let error = evaluator.add(&[found(3, 0.5, 0.0)], &[]).unwrap_err();
        assert!(error.to_string().contains("class 3, but there are 3 classes"), "{error}");
        let error = evaluator.add(&[found(0, f32::NAN, 0.0)], &[]).unwrap_err();
        assert!(matches!(error, EvaluateError::NonFinite { image: 0, what: "detection" }), "{error}");
        assert_eq!(evaluator.finish().images, 0);
    }

    #[test]
    fn the_document_has_the_contracts_keys() {
        let mut evaluator = Evaluator::new(names());
        evaluator.add(&[found(0, 0.5, 0.0)], &[truth(0, 0.0)]).unwrap();
        let metrics = evaluator.finish();
        let value = serde_json::to_value(metrics.clone().without_curves()).unwrap();
        for key in ["map50", "map50_95", "precision", "recall", "images", "boxes", "per_class"] {
            assert!(value.get(key).is_some(), "{key}");
        }
        for key in ["class", "name", "images", "boxes", "precision", "recall", "ap50", "ap"] {
            assert!(value["per_class"][0].get(key).is_some(), "{key}");
        }
        assert!(value.get("curves").is_none());
        let back: DetectMetrics = serde_json::from_value(serde_json::to_value(&metrics).unwrap()).unwrap();
        assert!(back == metrics, "a document does not read back as it was written");
    }
}
