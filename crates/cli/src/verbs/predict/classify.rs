//! What a classifier takes images for.
use std::process::ExitCode;

use onsa_tune::engine::Inference;
use onsa_tune::models::open::Opened;
use onsa_tune::predict::Guessed;
use onsa_tune::predict::guess::{GuessOptions, guess, guess_video};
use onsa_tune::predict::source::Input;
use serde_json::{Value, json};

use super::{Frames, PredictArguments, Told, name_of, place, sources};
use crate::arguments::Invocation;
use crate::failure::Failure;
use crate::{output, signals};

/// Runs `opened` on the images, `imgsz` pixels a side.
pub(super) fn run(
    invocation: &Invocation,
    o: &PredictArguments,
    inputs: Vec<Input>,
    opened: &Opened,
    imgsz: u32,
) -> Result<ExitCode, Failure> {
    let sources = sources(inputs, o)?;
    let device = super::super::place_for(&opened.model, (o.device.as_deref(), o.half, o.threads))?;
    let mut network = Inference::new(&opened.model, opened.params.clone(), device);
    let stop = signals::stop_flag()?;
    let mut documents = Vec::new();
    let mut told = Told::new(stop, &sources);
    let options =
        GuessOptions { imgsz: imgsz as usize, batch: o.batch as usize, workers: o.workers as usize };
    for source in &sources {
        let mut each = |guessed: Guessed| -> Result<bool, Failure> {
            if !invocation.json {
                told.line(&summary(&guessed, &opened.names));
            }
            documents.push(document(&guessed, &opened.names));
            told.one_more()
        };
        match source {
            Frames::Pictures(pictures) => guess(&mut network, pictures, options, &mut each)?,
            Frames::Of(video) => {
                guess_video(&mut network, video, options, stop, &mut each)?;
                told.check()?;
            }
        }
    }
    told.finish();
    if invocation.json {
        output::document(&documents);
    }
    Ok(ExitCode::SUCCESS)
}

/// The likeliest classes as the document has them.
pub fn top5(classes: &[(u32, f64)], names: &[String]) -> Vec<Value> {
    classes
        .iter()
        .map(|&(class, score)| json!({"class": class, "name": name_of(names, class), "score": score}))
        .collect()
}

fn document(guessed: &Guessed, names: &[String]) -> Value {
    let mut document = json!({"image": guessed.path, "top5": top5(&guessed.top5, names)});
    place(&mut document, guessed.frame);
    document
}

/// `leaf.jpg  oak 0.93, elm 0.05, …`; of a video with the frame's time.
fn summary(guessed: &Guessed, names: &[String]) -> String {
    let top: Vec<String> =
        guessed.top5.iter().map(|&(class, score)| format!("{} {score:.2}", name_of(names, class))).collect();
    let at = guessed.frame.map_or_else(String::new, |frame| format!(" {:.2} s", frame.seconds));
    format!("{}{at}  {}", guessed.path.display(), top.join(", "))
}
