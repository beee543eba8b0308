//! `onsa train`: fine-tune a model on a data set.
use std::process::ExitCode;

use onsa_tune::train::recipe::{Recipe, TrainArgs, reference};
use onsa_tune::train::{RunOptions, TrainError, TrainOutcome, train};
use serde_json::json;

use super::Verb;
use crate::arguments::Invocation;
use crate::failure::Failure;
use crate::progress::Progress;
use crate::{output, signals};

/// The verb.
pub const VERB: Verb = Verb {
    name: "train",
    about: "Fine-tune a model on a data set",
    positional: None,
    tables: &[TrainArgs::TABLE],
    also_known: |name| reference::names().any(|known| known == name),
    examples: &[
        "onsa train model=yolo11n.pt data=crops/data.yaml",
        "onsa train model=yolo12n.pt data=data.yaml epochs=50 imgsz=416 batch=8 freeze=10",
        "onsa train task=classify model=efficientnet_lite0 data=leaves/",
    ],
    run,
};

fn run(invocation: &Invocation) -> Result<ExitCode, Failure> {
    let mut args = TrainArgs::default();
    invocation.each(|name, text| args.set_any(name, text))?;
    let recipe = args.resolve()?;
    let outcome = run_recipe(&recipe, RunOptions::default())?;
    report(invocation, &outcome);
    Ok(ExitCode::SUCCESS)
}

/// Trains with progress on stderr, stopping cleanly at Ctrl-C.
pub fn run_recipe(recipe: &Recipe, options: RunOptions) -> Result<TrainOutcome, Failure> {
    let stop = signals::stop_flag()?;
    Ok(train(recipe, options, &mut Progress::new(recipe.verbose), stop)?)
}

/// Prints what a run gave.
pub fn report(invocation: &Invocation, outcome: &TrainOutcome) {
    if invocation.json {
        let mut document = json!({
            "run_dir": outcome.run_dir,
            "best": outcome.best,
            "last": outcome.last,
            "epochs": outcome.epochs,
            "images_per_second": outcome.images_per_second,
            "data_wait_fraction": outcome.data_wait_fraction,
            "stopped": outcome.stopped,
            "metrics": outcome.metrics.clone().map(|m| m.without_curves()),
        });
        if let Some(kept) = &outcome.kept {
            document["added_classes"] = json!(kept);
        }
        output::document(&document);
        return;
    }
    if let Some(m) = &outcome.metrics {
        let figures: Vec<String> =
            m.headline().iter().map(|(name, value)| format!("{name} {value:.3}")).collect();
        output::line(&figures.join("   "));
    }
    for sentence in outcome.kept.iter().flat_map(|kept| kept.sentences()) {
        output::line(&sentence);
    }
    if !outcome.stopped {
        output::line(&format!("weights  {}", outcome.best.display()));
        let report = outcome.run_dir.join("report.html");
        if report.is_file() {
            output::line(&format!("report   {}", report.display()));
        }
    }
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Failure {
        let usage = matches!(error, TrainError::Recipe(_));
        let mut failure = Failure::from_error(&error);
        failure.usage = usage;
        Failure { hint: error.hint(), ..failure }
    }
}
