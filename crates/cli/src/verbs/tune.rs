//! `onsa tune`: search strategy, learning rate, augmentation and input size for a data set, within a budget of minutes.
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use onsa_tune::search::journal::{Figures, Run};
use onsa_tune::search::outcome::Outcome;
use onsa_tune::search::plan::Plan;
use onsa_tune::search::race::{At, Watcher};
use onsa_tune::search::settings::TuneArgs;
use onsa_tune::search::{Audience, Found, Query, SearchError, resume, search};
use onsa_tune::train::observer::Observer;
use onsa_tune::train::recipe::{TrainArgs, reference};
use serde_json::{Value, json};

use super::Verb;
use crate::arguments::Invocation;
use crate::failure::Failure;
use crate::progress::{SearchBar, clock};
use crate::{output, signals};

/// The verb.
pub const VERB: Verb = Verb {
    name: "tune",
    about: "Search strategy, learning rate, augmentation and image size within a budget of minutes",
    positional: None,
    tables: &[TuneArgs::TABLE, TrainArgs::TABLE],
    also_known: |name| reference::names().any(|known| known == name),
    examples: &[
        "onsa tune model=yolo11n.pt data=crops/data.yaml minutes=60",
        "onsa tune model=yolo12n.pt data=crops/data.yaml minutes=30 imgsz=416 batch=8 seeds=5",
        "onsa tune task=classify model=efficientnet_lite0 data=leaves/ minutes=20 strategies=head,full",
        "onsa resume runs/detect/tune",
    ],
    run,
};

fn run(invocation: &Invocation) -> Result<ExitCode, Failure> {
    let begun = Instant::now();
    let query = Query::parse(invocation.given.clone())?;
    let mut screen = Screen::new(query.args.verbose.unwrap_or(true), query.settings.minutes);
    let stop = signals::stop_flag()?;
    let found = search(&query, begun, &mut screen, stop);
    screen.bar.finish();
    report(invocation, &found?);
    Ok(ExitCode::SUCCESS)
}

/// Goes on with the search in `folder`.
///
/// # Errors
/// See [`SearchError`].
pub fn go_on(invocation: &Invocation, folder: &Path, verbose: bool) -> Result<ExitCode, Failure> {
    let mut screen = Screen::new(verbose, 0.0);
    let stop = signals::stop_flag()?;
    let found = resume(folder, &mut screen, stop);
    screen.bar.finish();
    report(invocation, &found?);
    Ok(ExitCode::SUCCESS)
}

/// Prints what a search gave.
fn report(invocation: &Invocation, found: &Found) {
    let folder = found.folder.display();
    let Some(outcome) = &found.outcome else {
        output::note(&format!("stopped; `onsa resume {folder}` continues"));
        if invocation.json {
            output::document(&json!({"run_dir": found.folder, "stopped": true}));
        }
        return;
    };
    if invocation.json {
        output::document(&document(found, outcome));
        return;
    }
    output::line(&outcome.table());
    output::line(&outcome.sentence());
    output::line(&format!("Measured {}.", outcome.measured));
    outcome.notes.iter().for_each(|note| output::line(note));
    output::line(&format!("\nreport   {folder}/report.html\ncommand  {}", outcome.command));
}

fn document(found: &Found, outcome: &Outcome) -> Value {
    let mut document = json!({"run_dir": found.folder, "stopped": false});
    let own = serde_json::to_value(outcome).expect("an outcome has string keys and finite numbers");
    if let (Value::Object(to), Value::Object(from)) = (&mut document, own) {
        to.extend(from);
    }
    document
}

/// Shows a search to a person.
struct Screen {
    bar: SearchBar,
    names: Vec<String>,
    metric: &'static str,
}

impl Screen {
    fn new(shown: bool, minutes: f64) -> Screen {
        let budget = Duration::from_secs_f64((minutes * 60.0).clamp(0.0, 1e9));
        Screen { bar: SearchBar::new(shown, budget), names: Vec::new(), metric: "" }
    }

    fn name(&self, candidate: usize) -> &str {
        self.names.get(candidate).map_or("", String::as_str)
    }

    /// `best so far: full (0.213)`.
    fn best(&self, at: &At<'_>) -> String {
        at.best.map_or(String::new(), |(candidate, value)| {
            format!("best so far: {} ({value:.3})", self.name(candidate))
        })
    }
}

/// The line that stays of a run.
fn run_text(name: &str, metric: &str, run: &Run, figures: Option<&Figures>, failed: Option<&str>) -> String {
    let what = match (figures, failed) {
        (Some(figures), _) => format!("{metric} {:.3}", figures.value),
        (None, reason) => format!("failed: {}", reason.unwrap_or("no figures")),
    };
    let plural = if run.epochs == 1 { "" } else { "s" };
    format!("rung {}, split {}, {} epoch{plural}: {name}: {what}", run.rung + 1, run.pair + 1, run.epochs)
}

/// What is going to be run, in words.
fn plan_text(plan: &Plan) -> String {
    let rungs: Vec<String> = plan
        .rungs
        .iter()
        .map(|r| format!("{} candidates for {} epochs on {} of the splits", r.candidates, r.epochs, r.pairs))
        .collect();
    format!(
        "plan: {}; then the best against the default, {} pairs of runs of {} epochs",
        rungs.join(", "),
        plan.last.pairs,
        plan.last.epochs
    )
}

impl Observer for Screen {
    fn message(&mut self, text: &str) {
        self.bar.line(text);
    }

    fn warning(&mut self, text: &str) {
        self.bar.warning(text);
    }
}

impl Watcher for Screen {
    fn planned(&mut self, plan: &Plan) {
        self.bar.line(&plan_text(plan));
    }

    fn begins(&mut self, run: &Run, at: &At<'_>) {
        let text = format!("{}  {}", self.name(run.candidate), self.best(at));
        self.bar.at((at.done, at.runs), (at.spent, at.budget), &text);
    }

    fn at(&mut self, at: &At<'_>) {
        self.bar.at((at.done, at.runs), (at.spent, at.budget), &self.best(at));
        if let Some((run, figures, failed)) = at.run {
            let left = clock(Duration::from_secs_f64((at.budget - at.spent).max(0.0)));
            let text = run_text(self.name(run.candidate), self.metric, run, figures, failed);
            self.bar.line(&format!("{}/{}  {text}  ({left} left)", at.done, at.runs));
        }
    }

    fn message(&mut self, text: &str) {
        self.bar.line(text);
    }
}

impl Audience for Screen {
    fn begins_with(&mut self, names: &[String], metric: &'static str, folder: &Path) {
        self.names = names.to_vec();
        self.metric = metric;
        self.bar.line(&format!("{} candidates; writing {}", names.len(), folder.display()));
    }
}

impl From<SearchError> for Failure {
    fn from(error: SearchError) -> Failure {
        match error {
            SearchError::Train(error) => error.into(),
            SearchError::Argument(error) => error.into(),
            error => {
                let failure = Failure::from_error(&error);
                Failure { hint: error.hint(), ..failure }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use onsa_tune::search::plan::{Last, Rung};

    #[test]
    fn a_run_and_a_plan_leave_one_line_each() {
        let run = Run { rung: 0, candidate: 1, pair: 2, epochs: 10 };
        let figures = Figures { value: 0.2134, loss: 1.0, metrics: Vec::new() };
        assert_eq!(
            run_text("head", "mAP50-95", &run, Some(&figures), None),
            "rung 1, split 3, 10 epochs: head: mAP50-95 0.213"
        );
        assert_eq!(
            run_text("head", "top1", &Run { epochs: 1, ..run }, None, Some("no GPU")),
            "rung 1, split 3, 1 epoch: head: failed: no GPU"
        );
        let plan = Plan {
            rungs: vec![
                Rung { candidates: 9, epochs: 3, pairs: 1 },
                Rung { candidates: 3, epochs: 10, pairs: 2 },
            ],
            last: Last { epochs: 10, pairs: 5 },
        };
        assert_eq!(
            plan_text(&plan),
            "plan: 9 candidates for 3 epochs on 1 of the splits, 3 candidates for 10 epochs on 2 of the splits; then the best \
             against the default, 5 pairs of runs of 10 epochs"
        );
    }
}
