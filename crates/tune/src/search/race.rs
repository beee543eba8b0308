//! The search itself: rungs of candidates, then the best of them against the default. It decides from what was measured and
//! from the clock, and writes every decision into the journal before it acts on it.

use super::SearchError;
use super::journal::{Event, Figures, Journal, Run};
use super::plan::{Cost, Last, Limits, Plan, last, plan};

/// Of what is left of the budget, the share that is not planned with: runs vary, and files are written at the end.
const MARGIN: f64 = 0.03;
/// Epochs of the run that measures what the default costs.
const MEASURING_EPOCHS: u32 = 2;
/// Share of the budget that this run may take to be done twice.
const TWICE: f64 = 0.05;

/// Seconds since some moment.
pub trait Clock {
    /// Now.
    fn now(&self) -> f64;
}

/// What one run gave.
#[derive(Clone, Debug, PartialEq)]
pub enum Ran {
    /// Its figures and its cost.
    Done(Figures, Cost),
    /// It cannot be done, for this reason: a rate that destroys the weights, a size that does not fit.
    Failed(String, Cost),
    /// The time was up before it was done.
    OutOfTime,
    /// The person stopped it.
    Stopped,
}

/// Does the runs.
pub trait Runner {
    /// Trains a candidate for `epochs` epochs on a fold or with a seed, within `seconds`.
    ///
    /// # Errors
    /// What no candidate is to blame for: images that cannot be read, a disk that is full.
    fn run(&mut self, run: &Run, last: bool, seconds: f64) -> Result<Ran, SearchError>;
}

/// Where a search is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct At<'a> {
    /// Seconds spent.
    pub spent: f64,
    /// Seconds of the budget.
    pub budget: f64,
    /// Runs done.
    pub done: usize,
    /// Runs in all, as far as can be said.
    pub runs: usize,
    /// The best candidate so far, and its figure.
    pub best: Option<(usize, f64)>,
    /// The run that was just done.
    pub run: Option<(&'a Run, Option<&'a Figures>, Option<&'a str>)>,
}

/// Is told how the search goes.
pub trait Watcher {
    /// A plan was made, or changed.
    fn planned(&mut self, _plan: &Plan) {}
    /// A run was done, now or in the past that a continued search reads again.
    fn at(&mut self, _at: &At<'_>) {}
    /// A run begins.
    fn begins(&mut self, _run: &Run, _at: &At<'_>) {}
    /// A line for the log.
    fn message(&mut self, _text: &str) {}
}

/// A run with what it gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Which.
    pub run: Run,
    /// What it gave.
    pub figures: Option<Figures>,
    /// Why it gave nothing.
    pub failed: Option<String>,
    /// What it cost.
    pub cost: Cost,
}

/// What a search gave.
#[derive(Clone, Debug, PartialEq)]
pub struct Raced {
    /// Every run, in its order.
    pub records: Vec<Record>,
    /// What was planned at first.
    pub plan: Plan,
    /// How the comparison went; none where no time was left for it or every candidate failed.
    pub last: Option<Last>,
    /// The best candidate beside the default.
    pub challenger: Option<usize>,
    /// The rungs for which the time did not suffice.
    pub cut: Vec<usize>,
    /// Seconds spent.
    pub spent: f64,
}

/// A search under way.
pub struct Race<'a> {
    journal: &'a mut Journal,
    runner: &'a mut dyn Runner,
    watcher: &'a mut dyn Watcher,
    clock: &'a dyn Clock,
    /// Seconds of the budget.
    budget: f64,
    /// Seconds that were spent at `since`.
    before: f64,
    since: f64,
    /// Candidates in the order in which they are tried.
    candidates: usize,
    /// What runs of each candidate cost, as last measured, and how its first run was expected to cost against the default.
    costs: Vec<Option<Cost>>,
    factors: Vec<f64>,
    records: Vec<Record>,
    runs: usize,
}

/// How a rung ended.
enum Ended {
    Done,
    Cut,
}

/// A rung's number, the length of its runs, and what time it has to leave.
#[derive(Clone, Copy)]
struct Stretch {
    rung: usize,
    epochs: u32,
    /// Seconds that are left for what comes after.
    reserve: f64,
    /// True of the comparison: a pair of which one half is missing is worth nothing, so there is time for all of it or none
    /// is begun.
    last: bool,
}

impl<'a> Race<'a> {
    /// A race of as many candidates as there are `factors`: how much an epoch of each costs, compared with the default (which
    /// is the first). `spent`: seconds of the budget that are gone already, where the search begins.
    pub fn new(
        journal: &'a mut Journal,
        runner: &'a mut dyn Runner,
        watcher: &'a mut dyn Watcher,
        clock: &'a dyn Clock,
        budget: f64,
        factors: Vec<f64>,
        spent: f64,
    ) -> Race<'a> {
        let before = if journal.is_live() { spent } else { journal.spent() };
        Race {
            journal,
            runner,
            watcher,
            since: clock.now(),
            clock,
            budget,
            before,
            candidates: factors.len(),
            costs: vec![None; factors.len()],
            factors,
            records: Vec::new(),
            runs: 0,
        }
    }

    /// Runs the search, or what is left of it. None where the person stopped it.
    ///
    /// # Errors
    /// See [`SearchError`]: also where the budget is too small for anything.
    pub fn go(mut self, limits: Limits) -> Result<Option<Raced>, SearchError> {
        let limits = Limits { candidates: limits.candidates.min(self.candidates), ..limits };
        let Some(measured) = self.measure()? else { return Ok(None) };
        self.costs[0] = Some(measured);
        let planned = self.decide(
            |event| matches!(event, Event::Planned(_)),
            |race| {
                let plan =
                    plan(race.left(), measured, limits).map_err(|little| SearchError::TooLittleTime {
                        minutes: race.budget / 60.0,
                        needed: (race.spent() + little.needed / (1.0 - MARGIN)) / 60.0,
                    })?;
                Ok(Event::Planned(plan))
            },
        )?;
        let Event::Planned(plan) = planned else { return Err(self.disordered()) };
        self.watcher.planned(&plan);
        self.runs = runs_of(&plan);
        let mut cut = Vec::new();
        let mut field: Vec<usize> = (0..self.candidates).collect();
        let mut challenger = None;
        for (number, rung) in plan.rungs.iter().enumerate() {
            field.truncate(rung.candidates);
            if !field.contains(&0) {
                field.push(0);
            }
            let reserve = 2.0 * plan.last.pairs as f64 * self.cost(0).of(plan.last.epochs);
            let stretch = Stretch { rung: number, epochs: rung.epochs, reserve, last: false };
            let Some(ended) = self.rung(stretch, &field, rung.pairs)? else { return Ok(None) };
            field = self.ranked(number, &field);
            // A rung that was cut before anything but the default ran says nothing: the one before it decides.
            challenger = field.iter().copied().find(|&c| c != 0).or(challenger);
            if matches!(ended, Ended::Cut) {
                cut.push(number);
                break;
            }
        }
        let number = plan.rungs.len();
        let Some(challenger) = challenger else { return Ok(Some(self.finished(plan, None, None, cut))) };
        let costs = [self.cost(0), self.cost(challenger)];
        let decided = self.decide(
            |event| matches!(event, Event::Last(_)),
            |race| Ok(Event::Last(last(race.left(), costs, plan.last, limits))),
        )?;
        let Event::Last(comparison) = decided else { return Err(self.disordered()) };
        if let Some(Last { epochs, pairs }) = comparison {
            self.runs = self.records.len() + 2 * pairs;
            let stretch = Stretch { rung: number, epochs, reserve: 0.0, last: true };
            match self.rung(stretch, &[0, challenger], pairs)? {
                None => return Ok(None),
                Some(Ended::Done) => {}
                Some(Ended::Cut) => cut.push(number),
            }
        }
        Ok(Some(self.finished(plan, comparison, Some(challenger), cut)))
    }

    fn finished(self, plan: Plan, last: Option<Last>, challenger: Option<usize>, cut: Vec<usize>) -> Raced {
        let spent = self.spent();
        Raced { records: self.records, plan, last, challenger, cut, spent }
    }

    /// Seconds spent.
    fn spent(&self) -> f64 {
        self.before + (self.clock.now() - self.since)
    }

    /// Seconds that may be planned with.
    fn left(&self) -> f64 {
        (self.budget - self.spent()) * (1.0 - MARGIN)
    }

    /// What a run of a candidate costs: as measured, else what the default costs times its factor.
    fn cost(&self, candidate: usize) -> Cost {
        let default = self.costs[0].unwrap_or_default();
        let factor = self.factors[candidate];
        self.costs[candidate]
            .unwrap_or(Cost { epoch: default.epoch * factor, overhead: default.overhead * factor.max(1.0) })
    }

    /// The next event of the past where there is one, else what `make` decides now.
    fn decide(
        &mut self,
        fits: impl Fn(&Event) -> bool,
        make: impl FnOnce(&Race<'_>) -> Result<Event, SearchError>,
    ) -> Result<Event, SearchError> {
        if let Some((event, _)) = self.journal.past() {
            return if fits(&event) { Ok(event) } else { Err(self.disordered()) };
        }
        let event = make(self)?;
        let spent = self.spent();
        self.journal.push(event.clone(), spent)?;
        Ok(event)
    }

    fn disordered(&self) -> SearchError {
        SearchError::Disordered
    }

    /// What the default costs. None where the person stopped it.
    fn measure(&mut self) -> Result<Option<Cost>, SearchError> {
        if let Some((event, _)) = self.journal.past() {
            let Event::Measured(cost) = event else { return Err(self.disordered()) };
            return Ok(Some(cost));
        }
        self.watcher.message("measuring what an epoch costs");
        let before = self.spent();
        let Some(mut cost) = self.measured_run()? else { return Ok(None) };
        // The first run pays for what is made once: kernels are compiled, images decoded. Counted for every run, that would leave
        // most of a small budget unspent.
        if self.spent() - before < TWICE * self.budget {
            let Some(again) = self.measured_run()? else { return Ok(None) };
            cost = again;
        }
        let spent = self.spent();
        self.journal.push(Event::Measured(cost), spent)?;
        Ok(Some(cost))
    }

    /// One short run of the default. None where the person stopped it.
    fn measured_run(&mut self) -> Result<Option<Cost>, SearchError> {
        let run = Run { rung: 0, candidate: 0, pair: 0, epochs: MEASURING_EPOCHS };
        let left = self.budget - self.spent();
        match self.runner.run(&run, false, left)? {
            Ran::Done(_, cost) => Ok(Some(cost)),
            Ran::Failed(reason, _) => Err(SearchError::DefaultFailed(reason)),
            Ran::OutOfTime => Err(SearchError::TooLittleTime {
                minutes: self.budget / 60.0,
                // Twelve runs of three epochs are the least that is planned, and two epochs did not fit.
                needed: self.budget / 60.0 * 20.0,
            }),
            Ran::Stopped => Ok(None),
        }
    }

    /// All runs of a rung, fold by fold. None where the person stopped it.
    fn rung(
        &mut self,
        stretch: Stretch,
        field: &[usize],
        pairs: usize,
    ) -> Result<Option<Ended>, SearchError> {
        for pair in 0..pairs {
            match self.fold(stretch, field, pair)? {
                Some(Ended::Done) => {}
                other => return Ok(other),
            }
        }
        Ok(Some(Ended::Done))
    }

    /// The runs of a rung on one fold or with one seed.
    fn fold(&mut self, stretch: Stretch, field: &[usize], pair: usize) -> Result<Option<Ended>, SearchError> {
        let Stretch { rung, epochs, reserve, last } = stretch;
        for (place, &candidate) in field.iter().enumerate() {
            let failed =
                |r: &Record| r.run.candidate == candidate && r.run.rung == rung && r.failed.is_some();
            if self.records.iter().any(failed) {
                continue;
            }
            let run = Run { rung, candidate, pair, epochs };
            let record = if let Some((event, spent)) = self.journal.past() {
                match event {
                    Event::Cut { rung: at } if at == rung => return Ok(Some(Ended::Cut)),
                    Event::Ran { run: at, figures, failed, cost } if at == run => {
                        let record = Record { run, figures, failed, cost };
                        self.take(record, spent);
                        continue;
                    }
                    _ => return Err(self.disordered()),
                }
            } else {
                let rest = if last { &field[place..] } else { &field[place..=place] };
                let expected: f64 = rest.iter().map(|&c| self.cost(c).of(epochs)).sum();
                if expected + reserve > self.left() && (place == 0 || !last) {
                    return self.cut(rung);
                }
                let at = self.at(None, self.spent());
                self.watcher.begins(&run, &at);
                let seconds = self.budget - self.spent();
                match self.runner.run(&run, last, seconds)? {
                    Ran::Stopped => return Ok(None),
                    Ran::OutOfTime => return self.cut(rung),
                    Ran::Done(figures, cost) => Record { run, figures: Some(figures), failed: None, cost },
                    Ran::Failed(reason, cost) => Record { run, figures: None, failed: Some(reason), cost },
                }
            };
            let spent = self.spent();
            let Record { run, figures, failed, cost } = record.clone();
            self.journal.push(Event::Ran { run, figures, failed, cost }, spent)?;
            self.take(record, spent);
        }
        Ok(Some(Ended::Done))
    }

    fn cut(&mut self, rung: usize) -> Result<Option<Ended>, SearchError> {
        let spent = self.spent();
        self.journal.push(Event::Cut { rung }, spent)?;
        Ok(Some(Ended::Cut))
    }

    fn take(&mut self, record: Record, spent: f64) {
        if record.failed.is_none() {
            self.costs[record.run.candidate] = Some(record.cost);
        }
        self.records.push(record);
        let at = self.at(self.records.last(), spent);
        self.watcher.at(&at);
    }

    fn at<'r>(&self, record: Option<&'r Record>, spent: f64) -> At<'r> {
        let rung = self.records.last().map(|r| r.run.rung);
        let best = rung.and_then(|rung| {
            let tried: Vec<usize> = (0..self.candidates).collect();
            let best = *self.ranked(rung, &tried).first()?;
            Some((best, mean_value(&self.records, rung, best, usize::MAX)?.0))
        });
        At {
            spent,
            budget: self.budget,
            done: self.records.len(),
            runs: self.runs.max(self.records.len()),
            best,
            run: record.map(|r| (&r.run, r.figures.as_ref(), r.failed.as_deref())),
        }
    }

    /// The candidates of a rung that ran, the best first: by the mean over the folds on which all of them ran, then by the
    /// loss, then by their number.
    fn ranked(&self, rung: usize, field: &[usize]) -> Vec<usize> {
        let of = |candidate: usize| {
            self.records.iter().filter(move |r| r.run.rung == rung && r.run.candidate == candidate)
        };
        let sound =
            |&candidate: &usize| of(candidate).count() > 0 && of(candidate).all(|r| r.failed.is_none());
        let mut ran: Vec<usize> = field.iter().copied().filter(sound).collect();
        let common = ran.iter().map(|&c| of(c).count()).min().unwrap_or(0);
        let key = |candidate: usize| {
            mean_value(&self.records, rung, candidate, common).unwrap_or((f64::NEG_INFINITY, f64::INFINITY))
        };
        ran.sort_by(|&a, &b| {
            let ((value_a, loss_a), (value_b, loss_b)) = (key(a), key(b));
            value_b.total_cmp(&value_a).then(loss_a.total_cmp(&loss_b)).then(a.cmp(&b))
        });
        ran
    }
}

/// Means of a candidate's figure and loss in a rung, over its first `pairs` folds.
fn mean_value(records: &[Record], rung: usize, candidate: usize, pairs: usize) -> Option<(f64, f64)> {
    let of = |r: &&Record| r.run.rung == rung && r.run.candidate == candidate && r.run.pair < pairs;
    let found: Vec<&Figures> = records.iter().filter(of).filter_map(|r| r.figures.as_ref()).collect();
    let n = found.len() as f64;
    (!found.is_empty()).then(|| {
        (found.iter().map(|f| f.value).sum::<f64>() / n, found.iter().map(|f| f.loss).sum::<f64>() / n)
    })
}

/// Runs of a plan.
fn runs_of(plan: &Plan) -> usize {
    let race: usize =
        plan.rungs.iter().enumerate().map(|(i, r)| (r.candidates + usize::from(i > 0)) * r.pairs).sum();
    race + 2 * plan.last.pairs
}

#[cfg(test)]
mod tests;
