//! Plots as SVG, written by our own small writer: the same functions serve the run folder's files and the report.

pub mod chart;
mod confusion;
mod curves;
mod labels;
mod results;
pub mod svg;
pub mod theme;

use std::path::{Path, PathBuf};

pub use confusion::{class_confusion_plot, confusion_plot};
pub use curves::curve_plots;
pub use labels::labels_plot;
pub use results::{ResultsTable, results_charts, results_plot};
pub use svg::Drawing;

use super::{DetectMetrics, EvaluateError};
use crate::durable;

/// All plots of a validation under their file names without ending: the four curves, `confusion_matrix` and
/// `confusion_matrix_normalized`. `names`: the class list.
pub fn metric_plots(metrics: &DetectMetrics, names: &[String]) -> Vec<(&'static str, Drawing)> {
    let mut plots = curve_plots(metrics);
    plots.push(("confusion_matrix", confusion_plot(&metrics.confusion, names, false)));
    plots.push(("confusion_matrix_normalized", confusion_plot(&metrics.confusion, names, true)));
    plots
}

/// Writes `DIR/NAME.svg`; returns its path.
///
/// # Errors
/// If the file cannot be written.
pub fn write_plot(dir: &Path, name: &str, drawing: &Drawing) -> Result<PathBuf, EvaluateError> {
    let path = dir.join(format!("{name}.svg"));
    durable::write(&path, drawing.standalone().as_bytes())?;
    Ok(path)
}
