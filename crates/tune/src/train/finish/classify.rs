//! Plots, sample pictures and the report of a finished classifier's run.

use image::RgbImage;

use super::{FinishInput, QUALITY, REPORT_PICTURES, SHEET_PICTURES, SHEETS, licence_sentence, settings};
use crate::data::dataset::Item;
use crate::durable;
use crate::evaluate::EvaluateError;
use crate::evaluate::classify::{ClassifyMetrics, ClassifyValidation, Guess, top_classes};
use crate::evaluate::draw::{Tile, encode_jpeg, sheet};
use crate::evaluate::plots::{ResultsTable, class_confusion_plot, results_plot, write_plot};
use crate::evaluate::report::{self, ClassifyPicture, ClassifyReport, Fact};
use crate::models::Task;
use crate::train::error::TrainError;
use crate::train::files::results_csv;
use crate::train::start::shown;

/// Writes everything.
///
/// # Errors
/// The disk refuses, or an image can no longer be read.
pub(super) fn write(
    input: &FinishInput<'_>,
    validation: &ClassifyValidation,
    before: Option<&ClassifyMetrics>,
) -> Result<(), TrainError> {
    let dir = input.run_dir;
    let names = &input.prepared.opened.names;
    let table = ResultsTable::parse(&results_csv(Task::Classify, input.rows))?;
    write_plot(dir, "results", &results_plot(&table))?;
    let confusion = &validation.metrics.confusion;
    write_plot(dir, "confusion_matrix", &class_confusion_plot(confusion, names, false))?;
    write_plot(dir, "confusion_matrix_normalized", &class_confusion_plot(confusion, names, true))?;
    for (i, batch) in input.drawn.iter().enumerate() {
        if let Some(sheet) = batch.sheet(names) {
            durable::write(&dir.join(format!("train_batch{i}.jpg")), &encode_jpeg(&sheet, QUALITY)?)?;
        }
    }
    for (i, guesses) in validation.guesses.chunks(SHEET_PICTURES).take(SHEETS).enumerate() {
        let pictures = guesses.iter().map(|g| picture(input, names, g)).collect::<Result<Vec<_>, _>>()?;
        for (kind, of) in
            [("labels", (|p| &p.truth) as fn(&ClassifyPicture) -> &String), ("pred", |p| &p.guess)]
        {
            let tiles: Vec<Tile> = pictures
                .iter()
                .map(|p| Tile { image: &p.image, marks: Vec::new(), caption: of(p) })
                .collect();
            if let Some(sheet) = sheet(&tiles) {
                let path = dir.join(format!("val_batch{i}_{kind}.jpg"));
                durable::write(&path, &encode_jpeg(&sheet, QUALITY)?)?;
            }
        }
    }
    write_report(input, validation, before, table)
}

fn write_report(
    input: &FinishInput<'_>,
    validation: &ClassifyValidation,
    before: Option<&ClassifyMetrics>,
    table: ResultsTable,
) -> Result<(), TrainError> {
    let names = &input.prepared.opened.names;
    let guesses = &validation.guesses;
    let load = |guesses: Vec<&Guess>| {
        guesses.into_iter().map(|g| picture(input, names, g)).collect::<Result<Vec<_>, _>>()
    };
    let step = guesses.len().div_ceil(REPORT_PICTURES).max(1);
    let samples = load(guesses.iter().step_by(step).collect())?;
    let mut worst: Vec<&Guess> = guesses.iter().filter(|g| top_classes(&g.scores, 1)[0] != g.truth).collect();
    // Sure and wrong first.
    worst.sort_by(|a, b| a.scores[a.truth].total_cmp(&b.scores[b.truth]).then(a.item.cmp(&b.item)));
    worst.truncate(REPORT_PICTURES);
    let worst = load(worst)?;
    let dataset = &input.prepared.dataset;
    let mut wanted = vec!["epochs", "batch", "imgsz", "optimizer", "lr0", "freeze", "seed", "auto_augment"];
    if input.kept.is_some() {
        wanted.extend(super::ADDING);
    }
    let report = ClassifyReport {
        title: input.run_dir.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        model: input.prepared.opened.model.architecture.name(),
        classes: names.clone(),
        before: before.cloned(),
        after: validation.metrics.clone(),
        kept: input.kept.cloned(),
        results: Some(table),
        notes: input.prepared.notes.clone(),
        settings: settings(input, &wanted),
        data: vec![
            Fact::new("data set", input.recipe.data.display()),
            Fact::new("training images", dataset.train.len()),
            Fact::new("validation images", dataset.val.len()),
            Fact::new("classes", dataset.classes.len()),
            Fact::new("SHA-256", &dataset.hash),
        ],
        licence: licence_sentence(input.prepared),
    };
    let html = report::render_classifier(&report, &samples, &worst)?;
    durable::write(&input.run_dir.join("report.html"), html.as_bytes())?;
    Ok(())
}

/// An image with its class and what it was taken for.
fn picture(input: &FinishInput<'_>, names: &[String], guess: &Guess) -> Result<ClassifyPicture, TrainError> {
    let item: &Item = &input.val_cache.items()[guess.item];
    let unreadable = |source| EvaluateError::Image { path: item.path.clone(), source };
    let rgb = shown(&item.path, input.val_cache.pixels()).map_err(unreadable)?;
    let image = RgbImage::from_raw(rgb.width as u32, rgb.height as u32, rgb.data)
        .expect("the decoder gives width * height * 3 bytes");
    let named = |class: usize| names.get(class).cloned().unwrap_or_else(|| class.to_string());
    let top = top_classes(&guess.scores, 1)[0];
    Ok(ClassifyPicture {
        name: item.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        image,
        truth: named(guess.truth),
        guess: format!("{} {:.2}", named(top), guess.scores[top]),
        right: top == guess.truth,
    })
}
