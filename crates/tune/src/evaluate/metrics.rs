//! The figures of a validation, in the shape that `onsa val --json` prints.

use serde::{Deserialize, Serialize};

use super::{Confusion, DetectIntervals};

/// The figures of a detector on a data set. All rates are fractions of 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DetectMetrics {
    /// Mean over classes of average precision at IoU 0.5.
    pub map50: f64,
    /// Mean over classes and the IoU thresholds 0.5 to 0.95.
    pub map50_95: f64,
    /// Mean precision at `best_confidence`, IoU 0.5.
    pub precision: f64,
    /// Mean recall at `best_confidence`, IoU 0.5.
    pub recall: f64,
    /// What training maximises: `map50_95`.
    pub fitness: f64,
    /// The confidence with the best mean F1.
    pub best_confidence: f64,
    /// COCO's own average precision, IoU 0.5 to 0.95, all areas, 100 detections; none without a truth box.
    pub coco_ap: Option<f64>,
    /// COCO's own average precision at IoU 0.5.
    pub coco_ap50: Option<f64>,
    /// COCO's own average precision at IoU 0.75.
    pub coco_ap75: Option<f64>,
    /// Images evaluated.
    pub images: u64,
    /// Truth boxes in them, crowds not counted.
    pub boxes: u64,
    /// The classes with at least one truth box.
    pub per_class: Vec<ClassMetrics>,
    /// The names of the classes without a truth box: nothing can be said of them.
    pub unseen_classes: Vec<String>,
    /// Predicted against true class.
    pub confusion: Confusion,
    /// Bootstrap intervals of the mean average precisions, where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intervals: Option<DetectIntervals>,
    /// The curves behind the plots; left out of short documents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub curves: Option<Curves>,
}

impl DetectMetrics {
    /// The same without the curves (1,000 points a class).
    pub fn without_curves(mut self) -> DetectMetrics {
        self.curves = None;
        self
    }
}

/// The figures of one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassMetrics {
    /// Index into the class list.
    pub class: u32,
    /// Its name.
    pub name: String,
    /// Images with a truth box of it.
    pub images: u64,
    /// Its truth boxes.
    pub boxes: u64,
    /// Precision at the set's `best_confidence`, IoU 0.5.
    pub precision: f64,
    /// Recall there.
    pub recall: f64,
    /// Average precision at IoU 0.5.
    pub ap50: f64,
    /// Average precision over IoU 0.5 to 0.95.
    pub ap: f64,
    /// COCO's own average precision over IoU 0.5 to 0.95.
    pub coco_ap: f64,
}

/// Curves at IoU 0.5. Outer index: as `DetectMetrics::per_class`; inner: 1,000 points over 0 to 1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Curves {
    /// Precision over confidence.
    pub precision: Vec<Vec<f32>>,
    /// Recall over confidence.
    pub recall: Vec<Vec<f32>>,
    /// F1 over confidence.
    pub f1: Vec<Vec<f32>>,
    /// Precision over recall.
    pub precision_at_recall: Vec<Vec<f32>>,
}
