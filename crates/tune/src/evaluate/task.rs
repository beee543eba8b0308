//! The figures of either task, as the training loop and the command line handle them.

use serde::Serialize;

use super::classify::{ClassifyMetrics, ClassifyValidation};
use super::metrics::DetectMetrics;
use super::validate::Validation;

/// The figures of a model on a data set.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
#[allow(clippy::large_enum_variant, reason = "a handful of them exist at a time")]
pub enum Metrics {
    /// Of a detector.
    Detect(DetectMetrics),
    /// Of a classifier.
    Classify(ClassifyMetrics),
}

impl Metrics {
    /// What training maximises, 0 to 1.
    pub fn fitness(&self) -> f64 {
        match self {
            Metrics::Detect(m) => m.fitness,
            Metrics::Classify(m) => m.fitness,
        }
    }

    /// A detector's figures.
    pub fn detect(&self) -> Option<&DetectMetrics> {
        match self {
            Metrics::Detect(m) => Some(m),
            Metrics::Classify(_) => None,
        }
    }

    /// A classifier's figures.
    pub fn classify(&self) -> Option<&ClassifyMetrics> {
        match self {
            Metrics::Detect(_) => None,
            Metrics::Classify(m) => Some(m),
        }
    }

    /// The headline figures by name, the most telling first.
    pub fn headline(&self) -> Vec<(&'static str, f64)> {
        match self {
            Metrics::Detect(m) => vec![
                ("mAP50", m.map50),
                ("mAP50-95", m.map50_95),
                ("precision", m.precision),
                ("recall", m.recall),
            ],
            Metrics::Classify(m) => {
                vec![("top1", m.top1), ("top5", m.top5), ("balanced_accuracy", m.balanced_accuracy)]
            }
        }
    }

    /// The columns `metrics/…` of results.csv.
    pub fn columns(&self) -> Vec<f64> {
        match self {
            Metrics::Detect(m) => vec![m.precision, m.recall, m.map50, m.map50_95],
            Metrics::Classify(m) => vec![m.top1, m.top5],
        }
    }

    /// The same without a detector's curves (1,000 points a class).
    pub fn without_curves(self) -> Metrics {
        match self {
            Metrics::Detect(m) => Metrics::Detect(m.without_curves()),
            classify => classify,
        }
    }
}

/// What a validation of either task gave: figures, and what was said of each image.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "one exists at a time")]
pub enum Validated {
    /// Of a detector.
    Detect(Validation),
    /// Of a classifier.
    Classify(ClassifyValidation),
}

impl Validated {
    /// The figures.
    pub fn metrics(&self) -> Metrics {
        match self {
            Validated::Detect(v) => Metrics::Detect(v.metrics.clone()),
            Validated::Classify(v) => Metrics::Classify(v.metrics.clone()),
        }
    }

    /// The loss's terms: box, class, dfl of a detector; a classifier's cross-entropy.
    pub fn losses(&self) -> Vec<f64> {
        match self {
            Validated::Detect(v) => v.losses.to_vec(),
            Validated::Classify(v) => vec![v.metrics.loss],
        }
    }
}
