//! Plots, sample pictures and the report of a finished run.

mod classify;

use std::path::Path;
use std::sync::Arc;

use image::RgbImage;

use super::error::TrainError;
use super::files::results_csv;
use super::recipe::Recipe;
use super::start::{Prepared, shown};
use super::state::EpochRow;
use crate::boxes::Label;
use crate::data::batch::Batch;
use crate::data::cache::ImageCache;
use crate::data::dataset::Item;
use crate::data::deep::preview;
use crate::durable;
use crate::evaluate::draw::{Mark, Tile, detection_marks, encode_jpeg, sheet, truth_marks};
use crate::evaluate::kept::Kept;
use crate::evaluate::plots::{ResultsTable, labels_plot, metric_plots, results_plot, write_plot};
use crate::evaluate::report::{self, Fact, Pictures, ReportInput, ReportPicture};
use crate::evaluate::suspects::{Suspect, suspects};
use crate::evaluate::validate::{ImageResult, Validation, truths};
use crate::evaluate::{DetectMetrics, EvaluateError, Metrics, Validated};
use crate::models::Task;

/// Confidence from which detections are drawn.
const DRAWN_CONFIDENCE: f32 = 0.25;
/// Pictures on a sheet.
const SHEET_PICTURES: usize = 16;
/// Sheets of validation images.
const SHEETS: usize = 3;
/// Sample and worst pictures in the report.
const REPORT_PICTURES: usize = 6;
/// Pictures with suspicious labels in the report.
const SUSPECT_PICTURES: usize = 12;
/// Arguments that the report of a run shows which adds classes.
const ADDING: [&str; 5] = ["add_classes", "distill", "replay", "replay_ratio", "old_data"];
/// Quality of the JPEGs.
const QUALITY: u8 = 88;

/// A training batch kept to be drawn.
#[derive(Clone, Debug)]
pub struct DrawnBatch {
    images: Vec<(RgbImage, Vec<Label>)>,
}

impl DrawnBatch {
    /// Copies the first images of a batch.
    pub fn new(batch: &Batch) -> DrawnBatch {
        let area = batch.h * batch.w;
        let channels = batch.images.len() / (batch.n * area).max(1);
        let images = (0..batch.n.min(SHEET_PICTURES))
            .filter_map(|i| {
                let bytes = if batch.images_u8.is_empty() {
                    let len = area * channels;
                    let values = batch.images[i * len..(i + 1) * len].iter().copied();
                    preview(values, channels, batch.w, batch.h).data
                } else {
                    batch.images_u8[i * area * 3..(i + 1) * area * 3].to_vec()
                };
                let image = RgbImage::from_raw(batch.w as u32, batch.h as u32, bytes)?;
                let labels =
                    batch.targets.iter().filter(|t| t.image as usize == i).map(|t| t.label).collect();
                Some((image, labels))
            })
            .collect();
        DrawnBatch { images }
    }

    fn sheet(&self, names: &[String]) -> Option<RgbImage> {
        let marks = |image: &RgbImage, labels: &[Label]| -> Vec<Mark> {
            let (w, h) = (image.width() as f32, image.height() as f32);
            let text = |class: u32| names.get(class as usize).cloned().unwrap_or_default();
            labels
                .iter()
                .map(|l| Mark { bbox: l.to_xyxy(w, h), class: l.class, text: text(l.class) })
                .collect()
        };
        let tiles: Vec<Tile> = self
            .images
            .iter()
            .map(|(image, labels)| Tile { image, marks: marks(image, labels), caption: "" })
            .collect();
        sheet(&tiles)
    }
}

/// Validation pictures on the sheet that is drawn while a run goes on.
const SAMPLES: usize = 4;

/// Draws what is found on a few validation images, spread over the set, into `samples.jpg`; the last sheet is replaced.
///
/// # Errors
/// The disk refuses, or an image can no longer be read.
pub fn write_samples(
    run_dir: &Path,
    validation: &Validation,
    cache: &ImageCache,
    names: &[String],
    single_cls: bool,
) -> Result<(), TrainError> {
    let step = validation.images.len().div_ceil(SAMPLES).max(1);
    let chosen = validation.images.iter().step_by(step);
    let pictures = chosen.map(|result| picture(cache, result, single_cls)).collect::<Result<Vec<_>, _>>()?;
    let tiles: Vec<Tile> = pictures
        .iter()
        .map(|p| Tile { image: &p.image, marks: detection_marks(&p.detections, names), caption: &p.name })
        .collect();
    if let Some(sheet) = sheet(&tiles) {
        durable::write(&run_dir.join("samples.jpg"), &encode_jpeg(&sheet, QUALITY)?)?;
    }
    Ok(())
}

/// What there is to show.
pub struct FinishInput<'a> {
    /// How it was trained.
    pub recipe: &'a Recipe,
    /// Where to write.
    pub run_dir: &'a Path,
    /// Data and starting model.
    pub prepared: &'a Prepared,
    /// The epochs.
    pub rows: &'a [EpochRow],
    /// The best weights on the validation images, every image's result kept.
    pub validation: &'a Validated,
    /// The starting weights' figures.
    pub before: Option<&'a Metrics>,
    /// What the old classes lost, where some were added.
    pub kept: Option<&'a Kept>,
    /// The validation images.
    pub val_cache: &'a Arc<ImageCache>,
    /// Training images, and what the best weights find on them, where their labels were looked over.
    pub trained_on: Option<(&'a Arc<ImageCache>, &'a [ImageResult])>,
    /// The first training batches.
    pub drawn: &'a [DrawnBatch],
    /// Training speed.
    pub images_per_second: f64,
}

/// Writes everything.
///
/// # Errors
/// The disk refuses, or an image can no longer be read.
pub fn write(input: &FinishInput<'_>) -> Result<(), TrainError> {
    match input.validation {
        Validated::Detect(validation) => {
            write_detector(input, validation, input.before.and_then(Metrics::detect))
        }
        Validated::Classify(validation) => {
            classify::write(input, validation, input.before.and_then(Metrics::classify))
        }
    }
}

fn write_detector(
    input: &FinishInput<'_>,
    validation: &Validation,
    before: Option<&DetectMetrics>,
) -> Result<(), TrainError> {
    let dir = input.run_dir;
    let names = &input.prepared.opened.names;
    let table = ResultsTable::parse(&results_csv(Task::Detect, input.rows))?;
    write_plot(dir, "results", &results_plot(&table))?;
    let labels = input.prepared.dataset.train.iter().flat_map(|item| item.labels.iter().copied());
    write_plot(dir, "labels", &labels_plot(names, labels))?;
    for (name, drawing) in metric_plots(&validation.metrics, names) {
        write_plot(dir, name, &drawing)?;
    }
    for (i, batch) in input.drawn.iter().enumerate() {
        if let Some(sheet) = batch.sheet(names) {
            durable::write(&dir.join(format!("train_batch{i}.jpg")), &encode_jpeg(&sheet, QUALITY)?)?;
        }
    }
    let single = input.recipe.single_cls;
    for (i, results) in validation.images.chunks(SHEET_PICTURES).take(SHEETS).enumerate() {
        let pictures = results
            .iter()
            .map(|result| picture(input.val_cache, result, single))
            .collect::<Result<Vec<_>, _>>()?;
        for (kind, seen) in [("labels", false), ("pred", true)] {
            let tiles: Vec<Tile> = pictures
                .iter()
                .map(|p| Tile {
                    image: &p.image,
                    marks: if seen {
                        detection_marks(&p.detections, names)
                    } else {
                        truth_marks(&p.truths, names)
                    },
                    caption: &p.name,
                })
                .collect();
            if let Some(sheet) = sheet(&tiles) {
                durable::write(
                    &dir.join(format!("val_batch{i}_{kind}.jpg")),
                    &encode_jpeg(&sheet, QUALITY)?,
                )?;
            }
        }
    }
    write_report(input, validation, before, table)
}

fn write_report(
    input: &FinishInput<'_>,
    validation: &Validation,
    before: Option<&DetectMetrics>,
    table: ResultsTable,
) -> Result<(), TrainError> {
    let results = &validation.images;
    let single = input.recipe.single_cls;
    let load = |results: Vec<&ImageResult>| {
        results.into_iter().map(|r| picture(input.val_cache, r, single)).collect::<Result<Vec<_>, _>>()
    };
    let step = results.len().div_ceil(REPORT_PICTURES).max(1);
    let samples = load(results.iter().step_by(step).collect())?;
    let mut worst: Vec<&ImageResult> = results.iter().filter(|r| r.score.f1() < 1.0).collect();
    worst.sort_by(|a, b| a.score.f1().total_cmp(&b.score.f1()).then(a.item.cmp(&b.item)));
    worst.truncate(REPORT_PICTURES);
    let worst = load(worst)?;
    let prepared = input.prepared;
    let (suspects, suspect_labels, looked_at) = all_suspicious(input, results)?;
    let dataset = &prepared.dataset;
    let boxes = |items: &[Item]| items.iter().map(|item| item.labels.len()).sum::<usize>();
    let recipe = input.recipe;
    let mut wanted =
        vec!["epochs", "batch", "imgsz", "optimizer", "lr0", "freeze", "seed", "mosaic", "close_mosaic"];
    if input.kept.is_some() {
        wanted.extend(ADDING);
    }
    let facts = settings(input, &wanted);
    let licence = licence_sentence(prepared);
    let report = ReportInput {
        title: input.run_dir.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        model: prepared.opened.model.architecture.name(),
        classes: prepared.opened.names.clone(),
        before: before.cloned(),
        after: validation.metrics.clone(),
        kept: input.kept.cloned(),
        results: Some(table),
        notes: prepared.notes.clone(),
        settings: facts,
        data: vec![
            Fact::new("data set", recipe.data.display()),
            Fact::new("training images", dataset.train.len()),
            Fact::new("training boxes", boxes(&dataset.train)),
            Fact::new("validation images", dataset.val.len()),
            Fact::new("validation boxes", boxes(&dataset.val)),
            Fact::new("SHA-256", &dataset.hash),
        ],
        licence,
    };
    let pictures = Pictures { samples, worst, suspects, suspect_labels, looked_at };
    let html = report::render(&report, &pictures)?;
    durable::write(&input.run_dir.join("report.html"), html.as_bytes())?;
    Ok(())
}

/// The suspicious labels of the validation and the training images: pictures, their number, and which images were looked at. All
/// of them stand in [`SUSPECTS`].
fn all_suspicious(
    input: &FinishInput<'_>,
    results: &[ImageResult],
) -> Result<(Vec<ReportPicture>, usize, String), TrainError> {
    let mut table = String::from("split,image,labelled,seen,score,x1,y1,x2,y2\n");
    let (mut pictures, mut count) = suspicious(input, ("val", input.val_cache, results), &mut table)?;
    let mut looked_at = format!("{} validation images", results.len());
    if let Some((images, results)) = input.trained_on {
        let (more, others) = suspicious(input, ("train", images, results), &mut table)?;
        pictures.extend(more);
        count += others;
        looked_at.push_str(&format!(" and {} training images", results.len()));
    }
    durable::write(&input.run_dir.join(SUSPECTS), table.as_bytes())?;
    Ok((pictures, count, looked_at))
}

/// Every suspicious label of a run, a line each.
const SUSPECTS: &str = "suspicious_labels.csv";

/// A text as a field of a table.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

/// The images of a split whose labels the model contradicts most confidently, and how many such labels there are in all.
fn suspicious(
    input: &FinishInput<'_>,
    (split, cache, results): (&str, &ImageCache, &[ImageResult]),
    table: &mut String,
) -> Result<(Vec<ReportPicture>, usize), TrainError> {
    let single = input.recipe.single_cls;
    let names = &input.prepared.opened.names;
    let item = |result: &ImageResult| &cache.items()[result.item];
    let mut found: Vec<(&ImageResult, Vec<Suspect>)> = results
        .iter()
        .map(|result| (result, suspects(&result.detections, &truths(item(result), single))))
        .filter(|(_, suspects)| !suspects.is_empty())
        .collect();
    let all = found.iter().map(|(_, suspects)| suspects.len()).sum();
    // The suspects of an image stand with the surest first.
    found.sort_by(|(_, a), (_, b)| b[0].detection.score.total_cmp(&a[0].detection.score));
    let name = |class: u32| names.get(class as usize).map_or("", String::as_str);
    for (result, suspects) in &found {
        let path = field(&item(result).path.display().to_string());
        for Suspect { detection: d, labelled } in suspects {
            let (was, seen) = (field(labelled.map_or("", name)), field(name(d.class)));
            let b = &d.bbox;
            table.push_str(&format!(
                "{split},{path},{was},{seen},{:.3},{:.1},{:.1},{:.1},{:.1}\n",
                d.score, b.x1, b.y1, b.x2, b.y2
            ));
        }
    }
    found.truncate(SUSPECT_PICTURES);
    let pictures = found.into_iter().map(|(result, suspects)| {
        let words: Vec<String> = suspects.iter().map(|suspect| suspect.words(names)).collect();
        let place = if split == "train" { "training: " } else { "" };
        Ok(ReportPicture {
            detections: suspects.iter().map(|suspect| suspect.detection).collect(),
            caption: Some(format!("{place}{}", words.join("; "))),
            ..picture(cache, result, single)?
        })
    });
    Ok((pictures.collect::<Result<_, TrainError>>()?, all))
}

/// The named arguments of the recipe, and the speed.
fn settings(input: &FinishInput<'_>, names: &[&str]) -> Vec<Fact> {
    let mut facts: Vec<Fact> = input
        .recipe
        .entries()
        .into_iter()
        .filter(|(name, _)| names.contains(name))
        .map(|(name, value)| Fact::new(name, value))
        .collect();
    facts.push(Fact::new("training speed", format!("{:.1} images/s", input.images_per_second)));
    facts
}

fn licence_sentence(prepared: &Prepared) -> String {
    match &prepared.opened.weights {
        Some(from) => format!(
            "The starting weights ({}, SHA-256 {}) are under {}. What is trained from them is bound by that licence.",
            from.path.file_name().unwrap_or_default().to_string_lossy(),
            from.sha256,
            from.licence
        ),
        None => "Trained from scratch: no starting weights put a licence on the result.".to_owned(),
    }
}

/// An image with its truth and what is drawn of its detections.
fn picture(cache: &ImageCache, result: &ImageResult, single_cls: bool) -> Result<ReportPicture, TrainError> {
    let item = &cache.items()[result.item];
    let unreadable = |source| EvaluateError::Image { path: item.path.clone(), source };
    let rgb = shown(&item.path, cache.pixels()).map_err(unreadable)?;
    let image = RgbImage::from_raw(rgb.width as u32, rgb.height as u32, rgb.data)
        .expect("the decoder gives width * height * 3 bytes");
    Ok(ReportPicture {
        name: item.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        image,
        truths: truths(item, single_cls),
        detections: result.detections.iter().filter(|d| d.score >= DRAWN_CONFIDENCE).copied().collect(),
        score: result.score,
        caption: None,
    })
}
