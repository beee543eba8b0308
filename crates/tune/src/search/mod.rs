//! `onsa tune`: which strategy, learning rate, augmentation and input size suit a data set, found by successive halving
//! within a budget of minutes, and compared with the default recipe on splits that did not choose.
//!
//! What is decided from time and figures goes through the [`journal`] first, so a search that was stopped goes on with
//! the same runs and the same answer. The pieces: [`candidate`] (what is tried), [`folds`] and [`splits`] (what measures),
//! [`plan`] (how the budget is spent), [`race`] (the search), [`trainer`] (its runs), [`interval`] and [`outcome`] (what it
//! says), [`report`] (what it writes). [`lr_find`] is the learning-rate range test, which needs none of them.

pub mod candidate;
pub mod folds;
pub mod interval;
pub mod journal;
pub mod lr_find;
pub mod outcome;
pub mod plan;
pub mod race;
pub mod report;
pub mod settings;
pub mod splits;
pub mod trainer;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use crate::data::dataset::Dataset;
use crate::durable::{self, WriteError};
use crate::evaluate::EvaluateError;
use crate::evaluate::report::Fact;
use crate::models::Task;
use crate::train::TrainError;
use crate::train::lock::RunLock;
use crate::train::observer::Observer;
use crate::train::recipe::table::ArgumentError;
use crate::train::recipe::{Recipe, TrainArgs, run_dir};
use crate::train::start;

use candidate::{Candidate, candidates};
use folds::FoldError;
use journal::{Header, Journal, JournalError};
use outcome::{Facts, Outcome};
use plan::Limits;
use race::{Clock, Race, Raced, Watcher};
use settings::{FOLDS, Settings, TuneArgs};
use splits::{Measure, split};
use trainer::Trainer;

/// A search that cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// A run that no candidate is to blame for.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// An argument.
    #[error(transparent)]
    Argument(#[from] ArgumentError),
    /// The set is too small.
    #[error(transparent)]
    Folds(#[from] FoldError),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The journal is whole, but no search writes such a one.
    #[error("the journal's lines do not follow one another as a search writes them")]
    Disordered,
    /// Not even a short comparison fits.
    #[error(
        "minutes={minutes} is too little for this data set and model: at least {needed:.2} minutes are needed"
    )]
    TooLittleTime {
        /// What was given.
        minutes: f64,
        /// What would do.
        needed: f64,
    },
    /// Without the default there is nothing to compare with.
    #[error("the recipe as it stands cannot be trained: {0}")]
    DefaultFailed(String),
    /// Nothing to search.
    #[error("nothing is left to search: the arguments fix everything")]
    NothingToSearch,
    /// The data are not those that the search began with.
    #[error("{} has changed since the search began", .0.display())]
    DataChanged(PathBuf),
    /// A file of the result.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// A plot of the result.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
}

impl SearchError {
    /// What to do about it, where the message does not already say.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            SearchError::Train(error) => return error.hint(),
            SearchError::Argument(error) => return error.hint(),
            SearchError::Folds(FoldError::TooFew { found, what: "images", .. }) if *found >= 4 => {
                format!("folds={} would do, or seeds=3 measures on the validation images", found / 2)
            }
            SearchError::Folds(_) => "seeds=3 measures on the validation images".into(),
            SearchError::TooLittleTime { needed, .. } => {
                format!(
                    "give minutes={:.0}, a smaller imgsz= or model, or fewer folds",
                    (needed * 2.0).ceil()
                )
            }
            SearchError::DefaultFailed(_) => "try it with `onsa train` first".into(),
            SearchError::NothingToSearch => {
                "leave strategy=, lr0=, imgsz= or an augmentation argument out".into()
            }
            SearchError::DataChanged(_) => {
                "continuing would not be the same search: restore the data, or start a new one".into()
            }
            SearchError::Write(error) => error.hint(),
            _ => return None,
        })
    }
}

/// What a person asks for: the training, and how to search.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// Names and values as typed.
    pub typed: Vec<(String, String)>,
    /// The train arguments among them.
    pub args: TrainArgs,
    /// The search's own.
    pub settings: Settings,
}

impl Query {
    /// Reads names and values.
    ///
    /// # Errors
    /// An unknown or wrong argument; arguments that contradict one another.
    pub fn parse(typed: Vec<(String, String)>) -> Result<Query, ArgumentError> {
        let (mut args, mut own) = (TrainArgs::default(), TuneArgs::default());
        for (name, text) in &typed {
            match TuneArgs::TABLE.iter().any(|argument| argument.name == name) {
                true => own.set(name, text)?,
                false => args.set_any(name, text)?,
            }
        }
        if own.folds.flatten().is_some() && own.seeds.flatten().is_some() {
            let message = "folds= and seeds= are two ways to measure: give one of them";
            return Err(ArgumentError::Contradiction(message.into()));
        }
        if args.time.flatten().is_some() {
            return Err(ArgumentError::NotHonoured {
                name: "time".into(),
                value: args.time.flatten().unwrap_or_default().to_string(),
                why: "minutes= says how long the search takes".into(),
            });
        }
        let query = Query { typed, args, settings: own.fill() };
        query.base()?;
        Ok(query)
    }

    /// The recipe as it stands.
    fn base(&self) -> Result<Recipe, ArgumentError> {
        self.args.resolve()
    }

    fn measure(&self) -> Measure {
        match (self.settings.seeds, self.settings.folds) {
            (Some(seeds), _) => Measure::Seeds(seeds as usize),
            (None, folds) => Measure::Folds(folds.unwrap_or(FOLDS) as usize),
        }
    }

    /// What a training of the result is typed with: without what only the search takes, and without the search's folder.
    fn of_training(&self) -> Vec<(String, String)> {
        let own = |name: &str| TuneArgs::TABLE.iter().any(|argument| argument.name == name);
        let folder = |name: &str| ["project", "name", "exist_ok"].contains(&name);
        self.typed.iter().filter(|(name, _)| !own(name) && !folder(name)).cloned().collect()
    }
}

/// The real clock.
struct Wall(Instant);

impl Clock for Wall {
    fn now(&self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

/// Who watches: the log of the start, then the race.
pub trait Audience: Observer + Watcher {
    /// The candidates are known: their names by number, and where the result will be.
    fn begins_with(&mut self, names: &[String], metric: &'static str, folder: &Path);
}

/// A finished search.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its folder.
    pub folder: PathBuf,
    /// What it found; none where the person stopped it.
    pub outcome: Option<Outcome>,
}

/// Searches, in a new folder. `begun`: when the budget began to run. When `stop` becomes true the search ends after what
/// it has written.
///
/// # Errors
/// See [`SearchError`].
pub fn search(
    query: &Query,
    begun: Instant,
    audience: &mut dyn Audience,
    stop: &AtomicBool,
) -> Result<Found, SearchError> {
    let base = query.base()?;
    let (dataset, field) = ready(query, &base, audience)?;
    let name = if base.is_given("name") { base.name.as_str() } else { "tune" };
    let folder = run_dir::claim(&base.project, name, base.exist_ok).map_err(TrainError::from)?;
    let lock = RunLock::take_in(&folder, &folder)?;
    let mut journal = Journal::begin(&folder, Header::new(query.typed.clone(), dataset.hash.clone()))?;
    let spent = begun.elapsed().as_secs_f64();
    let found = go(query, &base, (&dataset, &field), (&folder, &mut journal, spent), audience, stop);
    if found.is_err() && !journal.is_planned() && !base.exist_ok {
        // Nothing has been tried: there is nothing to continue. What cannot be removed is an empty folder's worth.
        let _ = std::fs::remove_file(folder.join(journal::FILE));
        drop(lock);
        let _ = std::fs::remove_file(folder.join("lock"));
        let _ = std::fs::remove_dir(&folder);
    }
    found
}

/// Goes on with the search in `folder`, with the same runs and the same answer as if it had never stopped.
///
/// # Errors
/// See [`SearchError`]: also where the data have changed.
pub fn resume(folder: &Path, audience: &mut dyn Audience, stop: &AtomicBool) -> Result<Found, SearchError> {
    let _lock = RunLock::take_in(folder, folder)?;
    let swept = durable::sweep(folder);
    swept.map_err(|source| TrainError::Folder { path: folder.to_owned(), source })?;
    let mut journal = Journal::open(folder)?;
    let query = Query::parse(journal.header().arguments.clone())?;
    let base = query.base()?;
    let (dataset, field) = ready(&query, &base, audience)?;
    if journal.header().data != dataset.hash {
        return Err(SearchError::DataChanged(base.data.clone()));
    }
    go(&query, &base, (&dataset, &field), (folder, &mut journal, 0.0), audience, stop)
}

/// True where `folder` is a search's.
pub fn is_here(folder: &Path) -> bool {
    folder.join(journal::FILE).is_file()
}

/// Data that can be split as wanted, and candidates.
fn ready(
    query: &Query,
    base: &Recipe,
    audience: &mut dyn Audience,
) -> Result<(Dataset, Vec<Candidate>), SearchError> {
    let (_, pretrained) = start::source(base)?;
    let dataset = start::load_data(base, audience)?;
    split(&dataset, query.measure(), base.seed, (false, 0))?;
    let field = candidates(base, &query.settings, pretrained);
    if field.len() < 2 || query.settings.candidates < 2 {
        return Err(SearchError::NothingToSearch);
    }
    Ok((dataset, field))
}

fn go(
    query: &Query,
    base: &Recipe,
    (dataset, field): (&Dataset, &[Candidate]),
    (folder, journal, spent): (&Path, &mut Journal, f64),
    audience: &mut dyn Audience,
    stop: &AtomicBool,
) -> Result<Found, SearchError> {
    let measure = query.measure();
    let field = &field[..field.len().min(query.settings.candidates as usize)];
    let default = Candidate::default_of(base);
    let names: Vec<String> = field.iter().map(|candidate| candidate.name(&default)).collect();
    let metric = match base.task.of_model() {
        Task::Detect => "mAP50-95",
        Task::Classify => "top1",
    };
    audience.begins_with(&names, metric, folder);
    let mut trainer = Trainer::new((&query.args, base), field, dataset, measure, stop);
    let area = |imgsz: u32| f64::from(imgsz).powi(2);
    let factors = field.iter().map(|c| area(c.imgsz) / area(default.imgsz)).collect();
    let limits = Limits { epochs: base.epochs, pairs: measure.count(), candidates: field.len() };
    let clock = Wall(Instant::now());
    let budget = query.settings.minutes * 60.0;
    let race = Race::new(journal, &mut trainer, audience, &clock, budget, factors, spent);
    let Some(raced) = race.go(limits)? else { return Ok(Found { folder: folder.to_owned(), outcome: None }) };
    let outcome = conclude(query, (base, dataset), (field, &names), metric, &raced);
    report::write(folder, &raced, &outcome, &names, &settings(query, base, dataset))?;
    Ok(Found { folder: folder.to_owned(), outcome: Some(outcome) })
}

fn conclude(
    query: &Query,
    (base, dataset): (&Recipe, &Dataset),
    (field, names): (&[Candidate], &[String]),
    metric: &'static str,
    raced: &Raced,
) -> Outcome {
    let (classes, images) = (dataset.classes.len(), dataset.train.len());
    let arguments =
        |candidate: usize, epochs: u32| field[candidate].arguments(base, (epochs, classes, images));
    let typed = query.of_training();
    let facts = Facts {
        metric,
        measure: query.measure(),
        minutes: query.settings.minutes,
        names,
        arguments: &arguments,
        typed: &typed,
    };
    Outcome::new(raced, &facts)
}

fn settings(query: &Query, base: &Recipe, dataset: &Dataset) -> Vec<Fact> {
    let mut facts = vec![
        Fact::new("data set", base.data.display()),
        Fact::new("training images", dataset.train.len()),
        Fact::new("validation images", dataset.val.len()),
        Fact::new("SHA-256", &dataset.hash),
    ];
    facts.extend(query.typed.iter().map(|(name, value)| Fact::new(name, value)));
    facts
}
