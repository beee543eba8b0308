//! `onsa lr_find`: the learning-rate range test.
use std::process::ExitCode;

use onsa_tune::search::lr_find::{Curve, FindArgs, Sweep, find, write};
use onsa_tune::train::TrainError;
use onsa_tune::train::lock::RunLock;
use onsa_tune::train::observer::Observer;
use onsa_tune::train::recipe::table::ArgumentError;
use onsa_tune::train::recipe::{TrainArgs, reference, run_dir};
use serde_json::json;

use super::Verb;
use crate::arguments::Invocation;
use crate::failure::Failure;
use crate::progress::Counting;
use crate::{output, signals};

/// The verb.
pub const VERB: Verb = Verb {
    name: "lr_find",
    about: "Sweep the learning rate over training steps and suggest one; the model stays as it is",
    positional: None,
    tables: &[FindArgs::TABLE, TrainArgs::TABLE],
    also_known: |name| reference::names().any(|known| known == name),
    examples: &[
        "onsa lr_find model=yolo11n.pt data=crops/data.yaml",
        "onsa lr_find model=yolo12n.pt data=crops/data.yaml strategy=freeze optimizer=AdamW from=1e-5 to=0.1",
    ],
    run,
};

fn run(invocation: &Invocation) -> Result<ExitCode, Failure> {
    let (mut train, mut own) = (TrainArgs::default(), FindArgs::default());
    invocation.each(|name, text| match FindArgs::TABLE.iter().any(|argument| argument.name == name) {
        true => own.set(name, text),
        false => train.set_any(name, text),
    })?;
    let settings = own.fill();
    if settings.from >= settings.to {
        let message = format!("from={} is not below to={}", settings.from, settings.to);
        return Err(ArgumentError::Contradiction(message).into());
    }
    let recipe = train.resolve()?;
    if recipe.is_given("lr0") {
        let value = recipe.lr0.to_string();
        let why = "from= and to= say which rates are tried".to_owned();
        return Err(ArgumentError::NotHonoured { name: "lr0".into(), value, why }.into());
    }
    let stop = signals::stop_flag()?;
    let rates = Sweep { from: settings.from, to: settings.to, steps: settings.steps };
    let mut counting = Counting::new("steps");
    let steps = settings.steps as usize;
    let found = find(&recipe, &rates, &mut Log, stop, &mut |done| counting.at(done, steps));
    counting.finish();
    let Some(curve) = found? else { return Err(Failure::failed("stopped before the sweep was done")) };
    let name = if recipe.is_given("name") { recipe.name.as_str() } else { "lr_find" };
    let folder = run_dir::claim(&recipe.project, name, recipe.exist_ok).map_err(TrainError::from)?;
    let _lock = RunLock::take_in(&folder, &folder)?;
    write(&folder, &curve)?;
    if invocation.json {
        output::document(&json!({
            "run_dir": folder,
            "suggestion": curve.suggestion,
            "least": curve.least,
            // JSON has no word for a loss that is no number.
            "points": curve.points.iter().map(|p| json!({
                "lr": p.rate,
                "loss": p.loss.is_finite().then_some(p.loss),
                "smoothed": p.smoothed.is_finite().then_some(p.smoothed),
            })).collect::<Vec<_>>(),
        }));
        return Ok(ExitCode::SUCCESS);
    }
    output::line(&suggestion(&curve));
    output::line(&format!("curve    {0}/lr_find.svg\ntable    {0}/lr_find.csv", folder.display()));
    Ok(ExitCode::SUCCESS)
}

/// What the curve says.
fn suggestion(curve: &Curve) -> String {
    match (curve.suggestion, curve.least) {
        (Some(rate), Some(least)) => format!(
            "lr0={rate}: there the loss falls fastest. It is least at {least:.1e}; higher rates make training worse."
        ),
        _ => "The loss falls clearly at no rate, so none is suggested: more steps= or another range of from= and to= may help."
            .to_owned(),
    }
}

/// The start's sentences.
struct Log;

impl Observer for Log {
    fn message(&mut self, text: &str) {
        output::note(text);
    }

    fn warning(&mut self, text: &str) {
        output::warning(text);
    }
}
