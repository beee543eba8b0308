//! What a model said of each image, beside what is labelled: a JSON file for programs that show or compare it.
use std::path::Path;

use onsa_tune::boxes::{Detection, Xyxy};
use onsa_tune::data::dataset::Item;
use onsa_tune::durable;
use onsa_tune::evaluate::classify::Guess;
use onsa_tune::evaluate::validate::{ImageResult, truths};
use onsa_tune::evaluate::{Confusion, Truth};
use serde_json::{Value, json};

use crate::failure::Failure;

/// Classes that are said of an image.
const CLASSES: usize = 5;

/// Writes a detector's boxes, those that the confusion matrix counts, and the labels.
pub(super) fn write(
    file: &Path,
    images: &[ImageResult],
    items: &[Item],
    names: &[String],
    single_cls: bool,
) -> Result<(), Failure> {
    let name = |class: u32| names.get(class as usize).map_or("", String::as_str);
    let corners = |b: &Xyxy| [b.x1, b.y1, b.x2, b.y2];
    let found = |d: &Detection| json!({"class": d.class, "name": name(d.class), "score": d.score, "xyxy": corners(&d.bbox)});
    let labelled = |t: &Truth| json!({"class": t.class, "name": name(t.class), "xyxy": corners(&t.bbox)});
    let rows = images.iter().map(|image| {
        let item = &items[image.item];
        let sure = image.detections.iter().filter(|d| d.score > Confusion::CONFIDENCE);
        json!({
            "image": item.path.to_string_lossy(), "width": item.width, "height": item.height,
            "boxes": sure.map(found).collect::<Vec<_>>(),
            "labels": truths(item, single_cls).iter().map(labelled).collect::<Vec<_>>(),
        })
    });
    save(file, rows.collect())
}

/// Writes a classifier's likeliest classes and the label.
pub(super) fn write_classes(
    file: &Path,
    guesses: &[Guess],
    items: &[Item],
    names: &[String],
) -> Result<(), Failure> {
    let name = |class: usize| names.get(class).map_or("", String::as_str);
    let rows = guesses.iter().map(|guess| {
        let item = &items[guess.item];
        let mut order: Vec<usize> = (0..guess.scores.len()).collect();
        order.sort_by(|&a, &b| guess.scores[b].total_cmp(&guess.scores[a]).then(a.cmp(&b)));
        let top = order.iter().take(CLASSES);
        json!({
            "image": item.path.to_string_lossy(), "width": item.width, "height": item.height,
            "top5": top.map(|&c| json!({"class": c, "name": name(c), "score": guess.scores[c]})).collect::<Vec<_>>(),
            "label": {"class": guess.truth, "name": name(guess.truth)},
        })
    });
    save(file, rows.collect())
}

fn save(file: &Path, rows: Vec<Value>) -> Result<(), Failure> {
    let bytes = Value::Array(rows).to_string().into_bytes();
    durable::write(file, &bytes).map_err(|e| Failure::from_error(&e).hint(e.hint()))
}
