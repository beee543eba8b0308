//! What a classifier takes images for.
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use onsa_tune::engine::Inference;
use onsa_tune::models::open::Opened;
use onsa_tune::predict::{Guessed, classify};
use serde_json::{Value, json};

use super::{PredictArguments, name_of};
use crate::arguments::Invocation;
use crate::failure::Failure;
use crate::progress::Counting;
use crate::{output, signals};

/// Runs `opened` on the images, `imgsz` pixels a side.
pub(super) fn run(
    invocation: &Invocation,
    o: &PredictArguments,
    paths: &[PathBuf],
    opened: &Opened,
    imgsz: u32,
) -> Result<ExitCode, Failure> {
    let place = super::super::place_for(&opened.model, (o.device.as_deref(), o.half, o.threads))?;
    let mut network = Inference::new(&opened.model, opened.params.clone(), place);
    let stop = signals::stop_flag()?;
    let mut documents = Vec::new();
    let mut counting = Counting::new("predicting");
    for (i, path) in paths.iter().enumerate() {
        let guessed = classify(&mut network, path, imgsz).map_err(|e| Failure::from_error(&e))?;
        if !invocation.json {
            counting.line(&summary(&guessed, &opened.names));
        }
        documents.push(document(&guessed, &opened.names));
        counting.at(i + 1, paths.len());
        if stop.load(Ordering::Relaxed) {
            return Err(Failure::failed(format!("stopped after {} of {} images", i + 1, paths.len())));
        }
    }
    counting.finish();
    if invocation.json {
        output::document(&documents);
    }
    Ok(ExitCode::SUCCESS)
}

fn document(guessed: &Guessed, names: &[String]) -> Value {
    let top5: Vec<Value> = guessed
        .top5
        .iter()
        .map(|&(class, score)| json!({"class": class, "name": name_of(names, class), "score": score}))
        .collect();
    json!({"image": guessed.path, "top5": top5})
}

/// `leaf.jpg  oak 0.93, elm 0.05, …`.
fn summary(guessed: &Guessed, names: &[String]) -> String {
    let top: Vec<String> =
        guessed.top5.iter().map(|&(class, score)| format!("{} {score:.2}", name_of(names, class))).collect();
    format!("{}  {}", guessed.path.display(), top.join(", "))
}
