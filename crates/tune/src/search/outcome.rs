//! What a search found: every candidate, the comparison of the best with the default, and the command that it comes to.

use serde::Serialize;

use super::interval::{Estimate, estimate};
use super::plan::{Last, Plan};
use super::race::{Raced, Record};
use super::splits::Measure;

/// What the comparison says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The candidate is better, and the interval lies above 0.
    Better,
    /// The candidate is ahead, and the interval holds 0: it may be chance.
    NotCertain,
    /// Nothing that was tried is better than the default.
    Default,
    /// There was no time, or no candidate, to compare.
    NotCompared,
}

/// A candidate and how far it came.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// In a few words, how it differs from the default.
    pub name: String,
    /// The train arguments in which it differs, for the length of the comparison's runs.
    pub arguments: Vec<(String, String)>,
    /// The last rung that it ran in, from 1; the comparison is the last of all.
    pub rung: usize,
    /// True where it ran in the comparison.
    pub compared: bool,
    /// Epochs of its runs there.
    pub epochs: u32,
    /// The mean figure there, with its interval over folds or seeds; none where it failed.
    pub figure: Option<Estimate>,
    /// Why it failed.
    pub failed: Option<String>,
    /// Seconds that all its runs took.
    pub seconds: f64,
}

/// The best candidate against the default, run for run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// Epochs of each run.
    pub epochs: u32,
    /// The default's figure and the candidate's on each fold or with each seed.
    pub pairs: Vec<(f64, f64)>,
    /// The default.
    pub default: Estimate,
    /// The candidate.
    pub candidate: Estimate,
    /// The candidate less the default.
    pub difference: Estimate,
    /// How the interval was made.
    pub method: &'static str,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Outcome {
    /// What candidates are compared by: `mAP50-95` or `top1`.
    pub metric: &'static str,
    /// How runs were measured, in words.
    pub measured: String,
    /// Minutes of the budget.
    pub minutes: f64,
    /// Seconds that were spent.
    pub seconds: f64,
    /// Every candidate that ran, the best first.
    pub candidates: Vec<Row>,
    /// How many candidates there was no time to try.
    pub untried: usize,
    /// The comparison; none where there was none.
    pub comparison: Option<Comparison>,
    /// What it says.
    pub verdict: Verdict,
    /// The name of what is recommended: the candidate if it is better than the default, else the default.
    pub best: String,
    /// The command line that trains it.
    pub command: String,
    /// What deserves attention. A sentence each.
    pub notes: Vec<String>,
}

/// What an outcome is made from, beside the race.
pub struct Facts<'a> {
    /// See [`Outcome::metric`].
    pub metric: &'static str,
    /// How runs were measured.
    pub measure: Measure,
    /// Minutes of the budget.
    pub minutes: f64,
    /// Each candidate's name, in the order of their numbers.
    pub names: &'a [String],
    /// A candidate's train arguments for runs of so many epochs.
    pub arguments: &'a dyn Fn(usize, u32) -> Vec<(&'static str, String)>,
    /// What the person typed, without what only the search takes.
    pub typed: &'a [(String, String)],
}

impl Outcome {
    /// Puts together what a race gave.
    pub fn new(raced: &Raced, facts: &Facts<'_>) -> Outcome {
        let overlap = facts.measure.overlap();
        let comparison = compare(raced, facts.measure);
        let (mean, interval) =
            comparison.as_ref().map_or((None, None), |c| (Some(c.difference.mean), c.difference.interval));
        let verdict = match (mean, interval) {
            (None, _) => Verdict::NotCompared,
            (Some(mean), _) if mean <= 0.0 => Verdict::Default,
            (_, Some((low, _))) if low > 0.0 => Verdict::Better,
            _ => Verdict::NotCertain,
        };
        let best = raced.challenger.filter(|_| verdict == Verdict::Better).unwrap_or(0);
        let epochs = raced.last.map_or(raced.plan.last.epochs, |last| last.epochs);
        let mut rows: Vec<(usize, Row)> = (0..facts.names.len())
            .filter_map(|candidate| Some((candidate, row(raced, facts, candidate, epochs, overlap)?)))
            .collect();
        rows.sort_by(|(a, x), (b, y)| {
            let value = |row: &Row| row.figure.map_or(f64::NEG_INFINITY, |f| f.mean);
            y.rung.cmp(&x.rung).then(value(y).total_cmp(&value(x))).then(a.cmp(b))
        });
        let planned = raced.plan.rungs.first().map_or(0, |rung| rung.candidates).max(1);
        let arguments = (facts.arguments)(best, epochs);
        Outcome {
            metric: facts.metric,
            measured: words(facts.measure),
            minutes: facts.minutes,
            seconds: raced.spent,
            untried: planned.saturating_sub(rows.len()),
            candidates: rows.into_iter().map(|(_, row)| row).collect(),
            verdict,
            best: facts.names[best].clone(),
            command: command(facts.typed, &arguments),
            notes: notes(raced, comparison.as_ref(), facts),
            comparison,
        }
    }

    /// The finding in a sentence or two.
    pub fn sentence(&self) -> String {
        let Some(c) = &self.comparison else {
            return "Nothing could be compared with the default.".to_owned();
        };
        let name = self.candidates.iter().find(|r| r.compared && r.name != "default").map_or("", |r| &r.name);
        let range = c.difference.interval.map_or_else(
            || "one pair of runs has no interval".to_owned(),
            |(low, high)| format!("95 % interval [{low:+.3}, {high:+.3}]"),
        );
        let by = format!("by {:+.3} {} ({range}, {})", c.difference.mean, self.metric, c.method);
        match self.verdict {
            Verdict::Better => format!("`{name}` is better than the default {by}."),
            Verdict::NotCertain => {
                format!(
                    "`{name}` is ahead of the default {by}: that may still be chance, so the default is recommended."
                )
            }
            _ => format!("Nothing that was tried is better than the default: `{name}` differs {by}."),
        }
    }

    /// The candidates as a table for a terminal.
    pub fn table(&self) -> String {
        let width = self.candidates.iter().map(|r| r.name.chars().count()).max().unwrap_or(0).max(9);
        let mut text = format!(
            "{:<width$}  {:>7}  {:>6}  {:>4}  {:>8}  {:<16}  {:>8}\n",
            "candidate", "rung", "epochs", "runs", self.metric, "95 % interval", "time"
        );
        for row in &self.candidates {
            let rung = if row.compared { "last".to_owned() } else { row.rung.to_string() };
            let (mean, range, runs) = match &row.figure {
                None => ("failed".to_owned(), String::new(), 0),
                Some(figure) => {
                    let range =
                        figure.interval.map_or(String::new(), |(low, high)| format!("{low:.3} to {high:.3}"));
                    (format!("{:.3}", figure.mean), range, figure.values)
                }
            };
            text.push_str(&format!(
                "{:<width$}  {rung:>7}  {:>6}  {runs:>4}  {mean:>8}  {range:<16}  {:>6.0} s\n",
                row.name, row.epochs, row.seconds
            ));
        }
        text
    }
}

fn words(measure: Measure) -> String {
    match measure {
        Measure::Folds(n) => format!(
            "on {n} parts of the training images, each by runs that did not see it; the validation images were not used"
        ),
        Measure::Seeds(n) => format!("on the validation images, {n} seeds"),
    }
}

fn notes(raced: &Raced, comparison: Option<&Comparison>, facts: &Facts<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    let Plan { rungs, .. } = &raced.plan;
    for &cut in &raced.cut {
        notes.push(if cut < rungs.len() {
            format!("There was no time for all of rung {}: a larger minutes= would try more.", cut + 1)
        } else {
            "There was no time for all pairs of the comparison.".to_owned()
        });
    }
    if let Measure::Seeds(_) = facts.measure {
        notes.push(
            "The interval holds for these validation images and other seeds: on other images the difference varies more."
                .to_owned(),
        );
    }
    if comparison.is_some_and(|c| c.pairs.len() < 3) {
        notes.push("So few pairs of runs say little: a larger minutes= runs more.".to_owned());
    }
    notes
}

fn compare(raced: &Raced, measure: Measure) -> Option<Comparison> {
    let (Last { epochs, pairs }, challenger) = (raced.last?, raced.challenger?);
    let rung = raced.plan.rungs.len();
    let value = |candidate: usize, pair: usize| {
        let of = |r: &&Record| (r.run.rung, r.run.candidate, r.run.pair) == (rung, candidate, pair);
        raced.records.iter().find(of)?.figures.as_ref().map(|f| f.value)
    };
    let pairs: Vec<(f64, f64)> =
        (0..pairs).filter_map(|pair| Some((value(0, pair)?, value(challenger, pair)?))).collect();
    if pairs.is_empty() {
        return None;
    }
    let overlap = measure.overlap();
    let of = |f: fn(&(f64, f64)) -> f64| estimate(&pairs.iter().map(f).collect::<Vec<_>>(), overlap);
    let method = match measure {
        Measure::Folds(_) => {
            "t interval of paired differences over folds, widened for training parts that overlap"
        }
        Measure::Seeds(_) => "t interval of paired differences over seeds",
    };
    let (default, candidate, difference) = (of(|p| p.0), of(|p| p.1), of(|p| p.1 - p.0));
    Some(Comparison { epochs, pairs, default, candidate, difference, method })
}

fn row(raced: &Raced, facts: &Facts<'_>, candidate: usize, epochs: u32, overlap: f64) -> Option<Row> {
    let runs: Vec<&Record> = raced.records.iter().filter(|r| r.run.candidate == candidate).collect();
    let rung = runs.iter().map(|r| r.run.rung).max()?;
    let there: Vec<&&Record> = runs.iter().filter(|r| r.run.rung == rung).collect();
    let failed = there.iter().find_map(|r| r.failed.clone());
    let values: Vec<f64> = there.iter().filter_map(|r| r.figures.as_ref().map(|f| f.value)).collect();
    let arguments = (facts.arguments)(candidate, epochs);
    Some(Row {
        name: facts.names[candidate].clone(),
        arguments: arguments.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        rung: rung + 1,
        compared: rung == raced.plan.rungs.len(),
        epochs: there.first()?.run.epochs,
        figure: (failed.is_none() && !values.is_empty()).then(|| estimate(&values, overlap)),
        failed,
        seconds: runs.iter().map(|r| r.cost.of(r.run.epochs)).sum(),
    })
}

/// The command line: what was typed, and in its place or after it what the candidate says.
fn command(typed: &[(String, String)], arguments: &[(&'static str, String)]) -> String {
    let mut line = "onsa train".to_owned();
    let said = |name: &str| arguments.iter().find(|(own, _)| *own == name).map(|(_, value)| value);
    for (name, value) in typed {
        let value = said(name).unwrap_or(value);
        line.push_str(&format!(" {name}={}", quote(value)));
    }
    for (name, value) in arguments.iter().filter(|(name, _)| !typed.iter().any(|(t, _)| t == name)) {
        line.push_str(&format!(" {name}={}", quote(value)));
    }
    line
}

/// A value as a shell reads it back.
fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:,+=@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
pub(super) mod tests;
