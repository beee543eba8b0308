use std::cell::Cell;

use proptest::prelude::*;

use super::*;
use crate::search::journal::Header;

/// A clock that stands still but for what runs cost.
#[derive(Default)]
struct Hand(Cell<f64>);

impl Clock for Hand {
    fn now(&self) -> f64 {
        self.0.get()
    }
}

/// Runs that cost what they say and give what they are meant to.
struct Drawn<'a> {
    hand: &'a Hand,
    /// Seconds an epoch of each candidate.
    epoch: Vec<f64>,
    overhead: f64,
    /// Seconds that the first run takes beside that.
    once: f64,
    /// What each candidate comes to, on average.
    worth: Vec<f64>,
    /// Runs until a person stops the search.
    until: usize,
    /// Candidates that fail.
    failing: Vec<usize>,
    ran: Vec<(Run, bool)>,
}

impl<'a> Drawn<'a> {
    fn new(hand: &'a Hand, worth: &[f64]) -> Drawn<'a> {
        Drawn {
            hand,
            epoch: vec![1.0; worth.len()],
            overhead: 2.0,
            once: 0.0,
            worth: worth.to_vec(),
            until: usize::MAX,
            failing: Vec::new(),
            ran: Vec::new(),
        }
    }
}

impl Runner for Drawn<'_> {
    fn run(&mut self, run: &Run, last: bool, seconds: f64) -> Result<Ran, SearchError> {
        if self.ran.len() == self.until {
            return Ok(Ran::Stopped);
        }
        self.ran.push((*run, last));
        let once = if self.ran.len() == 1 { self.once } else { 0.0 };
        let cost = Cost { epoch: self.epoch[run.candidate], overhead: self.overhead + once };
        let takes = cost.of(run.epochs);
        self.hand.0.set(self.hand.0.get() + takes.min(seconds));
        if takes > seconds {
            return Ok(Ran::OutOfTime);
        }
        if self.failing.contains(&run.candidate) {
            return Ok(Ran::Failed("its weights are no longer finite".into(), cost));
        }
        // Folds differ more than candidates: only a paired difference sees those.
        let fold = [0.0, 0.2, -0.1, 0.3, 0.1][run.pair % 5];
        let noise = 0.004 * ((run.candidate * 7 + run.pair * 3 + run.rung) % 5) as f64;
        let value = self.worth[run.candidate] + fold + noise;
        Ok(Ran::Done(Figures { value, loss: 1.0 - value, metrics: Vec::new() }, cost))
    }
}

struct Quiet;
impl Watcher for Quiet {}

const LIMITS: Limits = Limits { epochs: 30, pairs: 5, candidates: 9 };
const WORTH: [f64; 9] = [0.5, 0.3, 0.4, 0.45, 0.6, 0.2, 0.52, 0.1, 0.35];

fn journal(folder: &std::path::Path) -> Journal {
    Journal::begin(folder, Header::new(Vec::new(), String::new())).unwrap()
}

fn race(journal: &mut Journal, runner: &mut Drawn<'_>, hand: &Hand, budget: f64) -> Option<Raced> {
    let factors = vec![1.0; runner.worth.len()];
    Race::new(journal, runner, &mut Quiet, hand, budget, factors, 0.0).go(LIMITS).unwrap()
}

#[test]
fn the_best_candidate_meets_the_default_on_splits_that_did_not_choose_it() {
    let (folder, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let mut runner = Drawn::new(&hand, &WORTH);
    let raced = race(&mut journal(folder.path()), &mut runner, &hand, 600.0).unwrap();
    assert_eq!(raced.challenger, Some(4));
    let last = raced.last.unwrap();
    assert!(last.pairs >= 3, "{last:?}");
    let rung = raced.plan.rungs.len();
    for pair in 0..last.pairs {
        for candidate in [0, 4] {
            let run = Run { rung, candidate, pair, epochs: last.epochs };
            assert!(runner.ran.contains(&(run, true)), "{run:?}");
        }
    }
    assert!(runner.ran.iter().all(|(run, last)| *last == (run.rung == rung)));
    assert!(raced.cut.is_empty() && raced.spent <= 600.0);
}

#[test]
fn what_only_the_first_run_pays_for_is_not_planned_with() {
    let planned = |once| {
        let (folder, hand) = (tempfile::tempdir().unwrap(), Hand::default());
        let mut runner = Drawn::new(&hand, &WORTH);
        runner.once = once;
        let raced = race(&mut journal(folder.path()), &mut runner, &hand, 600.0).unwrap();
        (raced.plan, raced.spent)
    };
    let ((usual, _), (slow, spent)) = (planned(0.0), planned(20.0));
    assert_eq!(usual.rungs[0].candidates, slow.rungs[0].candidates);
    assert!(slow.last.epochs + 2 >= usual.last.epochs && spent > 450.0, "{slow:?} in {spent} s");
}

#[test]
fn the_default_stays_in_every_rung_however_bad_it_is() {
    let (folder, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let worth = [0.01, 0.3, 0.4, 0.45, 0.6, 0.2, 0.52, 0.1, 0.35];
    let mut runner = Drawn::new(&hand, &worth);
    let raced = race(&mut journal(folder.path()), &mut runner, &hand, 600.0).unwrap();
    assert!(raced.plan.rungs.len() >= 2);
    for rung in 0..=raced.plan.rungs.len() {
        assert!(raced.records.iter().any(|r| r.run.rung == rung && r.run.candidate == 0), "rung {rung}");
    }
}

#[test]
fn where_the_default_is_best_the_next_best_is_compared_with_it() {
    let (folder, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let mut worth = WORTH;
    worth[0] = 0.9;
    let raced = race(&mut journal(folder.path()), &mut Drawn::new(&hand, &worth), &hand, 600.0).unwrap();
    assert_eq!(raced.challenger, Some(4));
}

#[test]
fn a_candidate_that_fails_is_out_and_is_not_tried_again() {
    let (folder, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let mut runner = Drawn::new(&hand, &WORTH);
    runner.failing = vec![4];
    let raced = race(&mut journal(folder.path()), &mut runner, &hand, 600.0).unwrap();
    assert_eq!(raced.challenger, Some(6));
    assert_eq!(raced.records.iter().filter(|r| r.run.candidate == 4).count(), 1);
    runner.failing = (1..9).collect();
    let other = tempfile::tempdir().unwrap();
    let raced = race(&mut journal(other.path()), &mut runner, &hand, 600.0).unwrap();
    assert_eq!((raced.challenger, raced.last), (None, None));
}

#[test]
fn a_budget_too_small_for_anything_says_how_much_would_do() {
    let (folder, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let mut runner = Drawn::new(&hand, &WORTH);
    let mut journal = journal(folder.path());
    let factors = vec![1.0; 9];
    let error =
        Race::new(&mut journal, &mut runner, &mut Quiet, &hand, 50.0, factors, 0.0).go(LIMITS).unwrap_err();
    let SearchError::TooLittleTime { needed, .. } = error else { panic!("{error}") };
    // Twelve runs of three epochs at 5 s, the measurement's 4 s, and the margin.
    assert!((needed * 60.0 - (4.0 + 60.0 / 0.97)).abs() < 1e-6, "{needed}");
}

#[test]
fn candidates_that_cost_more_than_thought_cut_the_race_and_not_the_comparison() {
    let (folder, hand) = (tempfile::tempdir().unwrap(), Hand::default());
    let mut runner = Drawn::new(&hand, &WORTH);
    runner.epoch = vec![1.0, 1.0, 14.0, 14.0, 1.0, 14.0, 14.0, 14.0, 14.0];
    let raced = race(&mut journal(folder.path()), &mut runner, &hand, 600.0).unwrap();
    assert_eq!(raced.cut, [0], "{raced:?}");
    assert!(raced.last.is_some_and(|last| last.pairs >= 3), "{:?}", raced.last);
    assert!(raced.spent <= 600.0);
}

#[test]
fn a_search_that_was_stopped_anywhere_gives_the_answer_of_one_that_was_not() {
    let hand = Hand::default();
    let whole = tempfile::tempdir().unwrap();
    let mut runner = Drawn::new(&hand, &WORTH);
    let answer = race(&mut journal(whole.path()), &mut runner, &hand, 600.0).unwrap();
    let text = std::fs::read_to_string(whole.path().join(crate::search::journal::FILE)).unwrap();
    let all = runner.ran.len();
    for until in 0..all {
        let (folder, hand) = (tempfile::tempdir().unwrap(), Hand::default());
        let mut runner = Drawn::new(&hand, &WORTH);
        runner.until = until;
        assert!(race(&mut journal(folder.path()), &mut runner, &hand, 600.0).is_none());
        // Another process, later: the time between counts for nothing.
        let later = Hand(Cell::new(5e5));
        let mut runner = Drawn::new(&later, &WORTH);
        let mut again = Journal::open(folder.path()).unwrap();
        let resumed = race(&mut again, &mut runner, &later, 600.0).unwrap();
        assert_eq!(resumed.records, answer.records, "stopped after {until} runs");
        assert_eq!(
            (resumed.plan, resumed.last, resumed.challenger),
            (answer.plan.clone(), answer.last, answer.challenger)
        );
        // Of the two runs that measure the cost, what was not written down is done again.
        let again = usize::from(until == 1);
        assert_eq!(runner.ran.len(), all - until + again, "no other run is done twice");
        assert_eq!(std::fs::read_to_string(folder.path().join(crate::search::journal::FILE)).unwrap(), text);
    }
}

proptest! {
    #[test]
    fn the_budget_is_kept_whatever_runs_cost(
        budget in 30.0f64..3000.0,
        overhead in 0.0f64..20.0,
        epochs in prop::collection::vec(0.05f64..30.0, 9),
    ) {
        let (folder, hand) = (tempfile::tempdir().unwrap(), Hand::default());
        let mut runner = Drawn::new(&hand, &WORTH);
        (runner.overhead, runner.epoch) = (overhead, epochs);
        let mut journal = journal(folder.path());
        let ended = Race::new(&mut journal, &mut runner, &mut Quiet, &hand, budget, vec![1.0; 9], 0.0).go(LIMITS);
        prop_assert!(hand.now() <= budget + 1e-6, "{} of {budget}", hand.now());
        match ended {
            Ok(raced) => prop_assert!(raced.unwrap().spent <= budget + 1e-6),
            Err(SearchError::TooLittleTime { needed, .. }) => prop_assert!(needed * 60.0 > budget * 0.5),
            Err(error) => panic!("{error}"),
        }
    }
}
