//! Does a search's runs: one data set, decoded once, and one device for all of them.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::SearchError;
use super::candidate::Candidate;
use super::journal::{Figures, Run};
use super::plan::Cost;
use super::race::{Ran, Runner};
use super::splits::{Measure, split};
use crate::data::cache::{CachePolicy, ImageCache, Sizing};
use crate::data::dataset::{Dataset, Item};
use crate::engine::{FeaturesError, Place, StepError};
use crate::evaluate::validate::ValidateError;
use crate::evaluate::{EvaluateError, Metrics, Validated};
use crate::train::TrainError;
use crate::train::observer::Silent;
use crate::train::recipe::values::Strategy;
use crate::train::recipe::{Recipe, TrainArgs};
use crate::train::run::{place, trial};
use crate::train::start;

/// How often a run looks whether it is to stop.
const LOOK: Duration = Duration::from_millis(20);

/// Trains candidates.
pub struct Trainer<'a> {
    args: &'a TrainArgs,
    base: &'a Recipe,
    candidates: &'a [Candidate],
    dataset: &'a Dataset,
    measure: Measure,
    /// The training images and, where they measure, the validation images.
    pool: Vec<Item>,
    caches: HashMap<(u32, Sizing), Arc<ImageCache>>,
    budget: CachePolicy,
    places: Vec<(Strategy, Place)>,
    stop: &'a AtomicBool,
}

impl<'a> Trainer<'a> {
    /// A trainer of these candidates, which differ from what `args` say (`base`, resolved).
    pub fn new(
        (args, base): (&'a TrainArgs, &'a Recipe),
        candidates: &'a [Candidate],
        dataset: &'a Dataset,
        measure: Measure,
        stop: &'a AtomicBool,
    ) -> Trainer<'a> {
        let mut pool = dataset.train.clone();
        if let Measure::Seeds(_) = measure {
            pool.extend_from_slice(&dataset.val);
        }
        let mut kinds: Vec<(u32, Sizing)> = Vec::new();
        for candidate in candidates {
            let recipe = Recipe { strategy: candidate.strategy, ..base.clone() };
            let (train, val) = start::sizings(&recipe);
            kinds.extend([(candidate.imgsz, train), (candidate.imgsz, val)]);
        }
        let mut different: Vec<(u32, Sizing)> = Vec::new();
        kinds.into_iter().for_each(|kind| {
            if !different.contains(&kind) {
                different.push(kind);
            }
        });
        // What may be taken is shared by the sizes at which images are kept.
        let budget = match start::cache_budget(base) {
            CachePolicy::None => CachePolicy::None,
            policy => CachePolicy::Bytes(policy.budget() / different.len().max(1) as u64),
        };
        let caches = HashMap::new();
        Trainer { args, base, candidates, dataset, measure, pool, caches, budget, places: Vec::new(), stop }
    }

    /// The train arguments of a candidate's run on `images` images.
    pub fn arguments(&self, candidate: usize, epochs: u32, images: usize) -> Vec<(&'static str, String)> {
        let classes = self.dataset.classes.len();
        self.candidates[candidate].arguments(self.base, (epochs, classes, images))
    }

    fn cache(&mut self, recipe: &Recipe, sizing: Sizing) -> Result<Arc<ImageCache>, TrainError> {
        let key = (recipe.imgsz, sizing);
        if let Some(cache) = self.caches.get(&key) {
            return Ok(Arc::clone(cache));
        }
        let cache =
            Arc::new(start::cache_of(recipe, (&self.pool, self.dataset.pixels), sizing, self.budget)?);
        self.caches.insert(key, Arc::clone(&cache));
        Ok(cache)
    }

    /// The device of a recipe: one for all recipes that can use it.
    fn place(&mut self, recipe: &Recipe) -> Result<Place, TrainError> {
        if let Some((_, place)) = self.places.iter().find(|(strategy, _)| *strategy == recipe.strategy) {
            return Ok(place.clone());
        }
        let mut found = place(recipe, self.dataset.pixels)?;
        let same = |other: &Place| match (&found, other) {
            (Place::Cpu(_, one), Place::Cpu(_, other)) => one == other,
            (Place::Gpu(a, ..), Place::Gpu(b, ..)) => a.info().ordinal == b.info().ordinal,
            _ => false,
        };
        if let Some((_, other)) = self.places.iter().find(|(_, other)| same(other)) {
            found = other.clone();
        }
        self.places.push((recipe.strategy, found.clone()));
        Ok(found)
    }

    /// A run from its recipe on, with a thread beside it that stops it in time.
    fn train(
        &mut self,
        recipe: &Recipe,
        last: bool,
        pair: usize,
        until: Instant,
    ) -> Result<Ran, SearchError> {
        let begun = Instant::now();
        let parts = split(self.dataset, self.measure, self.base.seed, (last, pair))?;
        let recipe = &Recipe { seed: parts.seed, verbose: false, ..recipe.clone() };
        let pick = |indices: &[usize]| indices.iter().map(|&i| self.pool[i].clone()).collect::<Vec<Item>>();
        let (train, val) = (pick(&parts.train), pick(&parts.val));
        let dataset = Dataset { train, val, test: Vec::new(), ..self.dataset.clone() };
        let mut prepared = start::prepare_on(recipe, dataset, &mut Silent)?;
        let resolved = Recipe { strategy: prepared.strategy, ..recipe.clone() };
        let (train, val) = start::sizings(&resolved);
        let train = self.cache(recipe, train)?.subset(&parts.train);
        let val = self.cache(recipe, val)?.subset(&parts.val);
        prepared.images = Some((Arc::new(train), Arc::new(val)));
        let place = self.place(&resolved)?;
        let (halt, over) = (AtomicBool::new(false), AtomicBool::new(false));
        let stop = self.stop;
        let result = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) && !halt.load(Ordering::Relaxed) {
                    let now = stop.load(Ordering::Relaxed) || Instant::now() >= until;
                    halt.store(now, Ordering::Relaxed);
                    std::thread::sleep(LOOK);
                }
            });
            let result = trial(&resolved, prepared, &place, &mut Silent, &halt);
            over.store(true, Ordering::Relaxed);
            result
        });
        let done = result?;
        // All that is no epoch: the start, the first epoch's decoding, the validation.
        let epoch = done.epoch.as_secs_f64();
        let overhead = (begun.elapsed().as_secs_f64() - epoch * f64::from(recipe.epochs)).max(0.0);
        let cost = Cost { epoch, overhead };
        Ok(match done.validated {
            Some(validated) => Ran::Done(figures(&validated), cost),
            None if self.stop.load(Ordering::Relaxed) => Ran::Stopped,
            None => Ran::OutOfTime,
        })
    }
}

impl Runner for Trainer<'_> {
    fn run(&mut self, run: &Run, last: bool, seconds: f64) -> Result<Ran, SearchError> {
        let begun = Instant::now();
        let until = begun + Duration::from_secs_f64(seconds.clamp(0.0, 1e9));
        let arguments = self.arguments(run.candidate, run.epochs, self.dataset.train.len());
        let failed = |reason: String| {
            let epoch = begun.elapsed().as_secs_f64() / f64::from(run.epochs);
            Ok(Ran::Failed(reason, Cost { epoch, overhead: 0.0 }))
        };
        let recipe = match Candidate::recipe(self.args, &arguments) {
            Ok(recipe) => recipe,
            Err(error) => return failed(error.to_string()),
        };
        match self.train(&recipe, last, run.pair, until) {
            Err(SearchError::Train(error)) if is_its_own(&error) => failed(error.to_string()),
            other => other,
        }
    }
}

/// Whether a candidate is to blame, and others can be tried.
fn is_its_own(error: &TrainError) -> bool {
    matches!(
        error,
        TrainError::Diverged { .. }
            | TrainError::WeightsNotFinite { .. }
            | TrainError::NotOnGpu { .. }
            | TrainError::BatchTooLarge { .. }
            | TrainError::Model(_)
            | TrainError::Step(StepError::Features(
                FeaturesError::Memory { .. } | FeaturesError::NothingFrozen
            ))
            | TrainError::Validate(ValidateError::Evaluate(EvaluateError::NonFiniteOutput { .. }))
    )
}

/// What candidates are compared by, and the headline.
fn figures(validated: &Validated) -> Figures {
    let metrics = validated.metrics();
    let value = match &metrics {
        Metrics::Detect(m) => m.map50_95,
        Metrics::Classify(m) => m.top1,
    };
    // A loss that is infinite would not read back from the journal.
    let loss = validated.losses().iter().sum::<f64>();
    Figures {
        value: if value.is_finite() { value } else { 0.0 },
        loss: if loss.is_finite() { loss } else { f64::MAX },
        metrics: metrics.headline().into_iter().map(|(name, v)| (name.to_owned(), v)).collect(),
    }
}
