//! Classifiers held against the truth: top-1 and top-5, balanced accuracy, area under the curve, a row a class, the
//! confusion matrix, and an interval on each headline figure.

mod interval;
mod metrics;
mod rank;
mod validate;

pub use interval::{Interval, bootstrap};
pub use metrics::{ClassFigures, ClassifyMetrics, Guess, Intervals};
pub use rank::{area_under_curve, top_classes};
pub use validate::{ClassifyValidation, validate_classifier, validate_logits};
