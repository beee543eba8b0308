//! `report.html`: one file that shows what a run gave. It asks for nothing outside itself, runs no script, and escapes every
//! text, for class and file names come from strangers.

mod classify;
mod kept;
pub(crate) mod page;
pub(crate) mod sections;

pub use classify::{ClassifyPicture, ClassifyReport, render_classifier};

use std::path::Path;

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::kept::Kept;
use super::plots::ResultsTable;
use super::suspects::CONFIDENT;
use super::{DetectMetrics, EvaluateError, ImageScore, Truth};
use crate::boxes::Detection;

/// What a report tells, without its pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReportInput {
    /// The headline, for example the run's name.
    pub title: String,
    /// The starting model's name.
    pub model: String,
    /// The class list.
    pub classes: Vec<String>,
    /// The starting model's figures on the same images, where it knows the classes.
    pub before: Option<DetectMetrics>,
    /// The trained model's figures.
    pub after: DetectMetrics,
    /// Of a run that added classes: what the old ones lost.
    #[serde(default)]
    pub kept: Option<Kept>,
    /// results.csv of the run.
    pub results: Option<ResultsTable>,
    /// What deserves attention: left-out images, an early stop. A sentence each.
    pub notes: Vec<String>,
    /// How it was trained.
    pub settings: Vec<Fact>,
    /// What it was trained on.
    pub data: Vec<Fact>,
    /// The licence that the starting weights put on the result, in a sentence.
    pub licence: String,
}

/// A name and its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fact {
    /// For example `imgsz`.
    pub name: String,
    /// For example `416`.
    pub value: String,
}

impl Fact {
    /// A fact of anything that can be printed.
    pub fn new(name: &str, value: impl ToString) -> Fact {
        Fact { name: name.into(), value: value.to_string() }
    }
}

/// A validation image with what is on it and what the model saw, boxes in pixels of `image`.
#[derive(Clone, Debug)]
pub struct ReportPicture {
    /// The file's name.
    pub name: String,
    /// RGB pixels.
    pub image: RgbImage,
    /// What is on it.
    pub truths: Vec<Truth>,
    /// What the model saw, above the confidence that the picture is to show.
    pub detections: Vec<Detection>,
    /// How the image went, for the caption.
    pub score: ImageScore,
    /// What the caption says instead.
    pub caption: Option<String>,
}

/// The pictures of a report.
#[derive(Clone, Debug, Default)]
pub struct Pictures {
    /// Any images.
    pub samples: Vec<ReportPicture>,
    /// Those with the lowest scores, worst first.
    pub worst: Vec<ReportPicture>,
    /// Those whose labels the model confidently contradicts.
    pub suspects: Vec<ReportPicture>,
    /// How many such contradictions there are in all.
    pub suspect_labels: usize,
    /// Which images were looked at for them, such as `9 validation images`.
    pub looked_at: String,
}

/// The report as HTML.
///
/// # Errors
/// If a picture cannot be encoded.
pub fn render(input: &ReportInput, pictures: &Pictures) -> Result<String, EvaluateError> {
    let Pictures { samples, worst, suspects, suspect_labels, looked_at } = pictures;
    let mut page = page::Page::new(&input.title);
    sections::headline(&mut page, input, !samples.is_empty());
    kept::kept(&mut page, input.kept.as_ref());
    sections::learning(&mut page, input.results.as_ref());
    sections::accuracy(&mut page, input);
    sections::classes(&mut page, input);
    sections::pictures(
        &mut page,
        &input.classes,
        ("samples", "Sample predictions", "Validation images, which the training did not see."),
        samples,
    )?;
    sections::pictures(
        &mut page,
        &input.classes,
        (
            "worst",
            "Worst images",
            "Where the model and the labels differ most. Look here first: often it is the label that is wrong or missing.",
        ),
        worst,
    )?;
    let doubts = format!(
        "Labels of {looked_at} that the model contradicts with a confidence of {CONFIDENT} or more: {suspect_labels} in all, the \
         surest shown. Where the model is right, mend the label and train or validate again."
    );
    sections::pictures(&mut page, &input.classes, ("suspects", "Suspicious labels", &doubts), suspects)?;
    sections::facts(&mut page, "settings", "Settings", &input.settings);
    sections::facts(&mut page, "data", "Data", &input.data);
    sections::licence(&mut page, &input.licence);
    Ok(page.finish())
}

/// Writes the report to `path`.
///
/// # Errors
/// If a picture cannot be encoded or the file cannot be written.
pub fn write(path: &Path, input: &ReportInput, pictures: &Pictures) -> Result<(), EvaluateError> {
    let html = render(input, pictures)?;
    Ok(crate::durable::write(path, html.as_bytes())?)
}

#[cfg(test)]
mod tests;
