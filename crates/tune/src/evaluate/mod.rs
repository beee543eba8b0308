//! Predictions held against the truth: non-maximum suppression, average precision, plots, reports.
//!
//! The way of the data: raw head maps -> [`decode`] -> [`nms`] -> [`Evaluator`] (with [`matching`],
//! [`average_precision`] and [`confusion`]) -> [`DetectMetrics`] -> [`plots`], [`draw`], [`report`].

pub mod average_precision;
pub mod classify;
pub mod confusion;
pub mod decode;
pub mod draw;
mod error;
mod evaluator;
#[cfg(test)]
mod fixture_tests;
pub mod font;
pub mod intervals;
pub mod kept;
pub mod matching;
mod metrics;
pub mod nms;
pub mod plots;
pub mod report;
pub mod suspects;
mod task;
pub mod validate;

pub use confusion::Confusion;
pub use decode::{HeadMaps, Level};
pub use error::EvaluateError;
pub use evaluator::{Evaluator, ImageScore, Truth};
pub use intervals::{DetectIntervals, detect_intervals};
pub use metrics::{ClassMetrics, Curves, DetectMetrics};
pub use nms::{Postprocess, detections, nms};
pub use task::{Metrics, Validated};
