//! How a budget of seconds is spent: rungs of successive halving (Jamieson and Talwalkar, 2016, "Non-stochastic best arm
//! identification and hyperparameter optimization"), and a last one that compares what is left with the default.

use serde::{Deserialize, Serialize};

/// Of how many candidates one goes on to the next rung.
const KEEP: usize = 3;
/// A rung of at most this many candidates is the last before the comparison.
const FEW: usize = 3;
/// Epochs below which a comparison says little.
const WISHED_EPOCHS: u32 = 10;
/// Epochs below which it says nothing.
const LEAST_EPOCHS: u32 = 3;
/// Epochs of a rung at least.
const LEAST_RUNG_EPOCHS: u32 = 2;
/// Pairs of runs below which an interval is hardly one.
const LEAST_PAIRS: usize = 3;
/// Pairs that are run at most, as a multiple of the folds or seeds.
const REPEATS: usize = 3;

/// What runs cost, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Cost {
    /// An epoch of training.
    pub epoch: f64,
    /// What a run takes beside its epochs.
    pub overhead: f64,
}

impl Cost {
    /// Of a run of so many epochs.
    pub fn of(&self, epochs: u32) -> f64 {
        self.overhead + self.epoch * f64::from(epochs)
    }
}

/// A rung: some candidates, each trained for so many epochs on so many folds or seeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rung {
    /// Candidates, the default not counted where it would have dropped out.
    pub candidates: usize,
    /// Epochs of each run.
    pub epochs: u32,
    /// Runs of each candidate, on as many folds or with as many seeds.
    pub pairs: usize,
}

/// The last rung: the best candidate and the default, run for run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Last {
    /// Epochs of each run.
    pub epochs: u32,
    /// Pairs of runs.
    pub pairs: usize,
}

/// What is going to be run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// The race.
    pub rungs: Vec<Rung>,
    /// The comparison.
    pub last: Last,
}

/// What a plan has to keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Epochs of a run at most.
    pub epochs: u32,
    /// Folds, or seeds.
    pub pairs: usize,
    /// Candidates at most, the default among them.
    pub candidates: usize,
}

/// A budget in which nothing sensible can be run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TooLittle {
    /// Seconds that would do.
    pub needed: f64,
}

/// Spends `left` seconds: half of them or more on the race, the rest on the comparison, which is planned first. `cost` is
/// that of the default.
///
/// # Errors
/// Not even a comparison over few epochs fits.
pub fn plan(left: f64, cost: Cost, limits: Limits) -> Result<Plan, TooLittle> {
    let least_pairs = LEAST_PAIRS.min(limits.pairs);
    let fitting =
        |pairs: usize| ((left / 2.0 / (2 * pairs) as f64 - cost.overhead) / cost.epoch.max(1e-9)).floor();
    let wishes = [WISHED_EPOCHS, LEAST_EPOCHS].map(|wish| wish.min(limits.epochs));
    let found = wishes.iter().find_map(|&wish| {
        let pairs = (least_pairs..=limits.pairs).rev().find(|&pairs| fitting(pairs) >= f64::from(wish))?;
        Some((pairs, fitting(pairs).min(f64::from(limits.epochs)) as u32))
    });
    let Some((pairs, epochs)) = found else {
        return Err(TooLittle { needed: 4.0 * least_pairs as f64 * cost.of(wishes[1]) });
    };
    let race = left - 2.0 * pairs as f64 * cost.of(epochs);
    let price = |rungs: &[Rung]| -> f64 {
        let of = |(i, rung): (usize, &Rung)| {
            ((rung.candidates + usize::from(i > 0)) * rung.pairs) as f64 * cost.of(rung.epochs)
        };
        rungs.iter().enumerate().map(of).sum()
    };
    let most = limits.candidates.max(1);
    let mut rungs =
        (2..=most).rev().map(|n| halving(n, epochs)).find(|r| price(r) <= race).unwrap_or_default();
    // What is left makes the rungs surer, the last first: there the candidates are closest.
    for at in (0..rungs.len()).rev() {
        while rungs[at].pairs < limits.pairs {
            rungs[at].pairs += 1;
            if price(&rungs) > race {
                rungs[at].pairs -= 1;
                break;
            }
        }
    }
    Ok(Plan { rungs, last: Last { epochs, pairs } })
}

/// Rungs that begin with `candidates` and end with a few of them at `epochs`; a third goes on from each, and trains three
/// times as long.
fn halving(candidates: usize, epochs: u32) -> Vec<Rung> {
    let mut counts = vec![candidates];
    while let Some(&count) = counts.last()
        && count > FEW
    {
        counts.push(count.div_ceil(KEEP));
    }
    let rungs = counts.len();
    let shorter = |i: usize| (KEEP as u32).saturating_pow((rungs - 1 - i) as u32);
    let rung = |(i, &candidates): (usize, &usize)| Rung {
        candidates,
        epochs: (epochs / shorter(i)).max(LEAST_RUNG_EPOCHS.min(epochs)),
        pairs: 1,
    };
    counts.iter().enumerate().map(rung).collect()
}

/// The comparison that fits into `left` seconds, where a pair of runs costs `costs`: as planned or with more pairs, else
/// with fewer of them, else shorter. None where not even one pair of one epoch fits.
pub fn last(left: f64, costs: [Cost; 2], planned: Last, limits: Limits) -> Option<Last> {
    let pair =
        Cost { epoch: costs[0].epoch + costs[1].epoch, overhead: costs[0].overhead + costs[1].overhead };
    let fitting = |epochs: u32| (left / pair.of(epochs).max(1e-9)).floor() as usize;
    let pairs = fitting(planned.epochs).min(REPEATS * limits.pairs);
    let wanted = LEAST_PAIRS.min(limits.pairs);
    if pairs >= wanted {
        return Some(Last { epochs: planned.epochs, pairs });
    }
    (1..=wanted).rev().find_map(|pairs| {
        let epochs = ((left / pairs as f64 - pair.overhead) / pair.epoch.max(1e-9)).floor();
        (epochs >= 1.0).then(|| Last { epochs: (epochs as u32).min(planned.epochs), pairs })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { epochs: 100, pairs: 5, candidates: 27 };

    fn rung(candidates: usize, epochs: u32, pairs: usize) -> Rung {
        Rung { candidates, epochs, pairs }
    }

    #[test]
    fn a_third_goes_on_and_trains_three_times_as_long() {
        assert_eq!(halving(27, 30), [rung(27, 3, 1), rung(9, 10, 1), rung(3, 30, 1)]);
        assert_eq!(halving(10, 30), [rung(10, 3, 1), rung(4, 10, 1), rung(2, 30, 1)]);
        assert_eq!(halving(2, 30), [rung(2, 30, 1)]);
        assert_eq!(halving(27, 4), [rung(27, 2, 1), rung(9, 2, 1), rung(3, 4, 1)]);
        assert_eq!(halving(5, 1), [rung(5, 1, 1), rung(2, 1, 1)]);
    }

    #[test]
    fn an_hour_on_a_small_set_is_spent_half_on_the_race() {
        // 1,800 s for ten runs: 180 s each, of which 10 s are no epochs.
        let found = plan(3600.0, Cost { epoch: 4.0, overhead: 10.0 }, LIMITS).unwrap();
        assert_eq!(found.last, Last { epochs: 42, pairs: 5 });
        // 21 x 26 s, 8 x 66 s and 4 x 178 s are 1,786 of the 1,820 s that are left; 22 candidates would need more.
        assert_eq!(found.rungs[0], rung(21, 4, 1));
        assert_eq!(found.rungs.last().map(|r| (r.candidates, r.epochs)), Some((3, 42)));
    }

    #[test]
    fn a_large_budget_trains_no_longer_than_asked_and_measures_more_often_instead() {
        let found = plan(1e6, Cost { epoch: 1.0, overhead: 1.0 }, LIMITS).unwrap();
        assert_eq!(found.last, Last { epochs: 100, pairs: 5 });
        assert_eq!(found.rungs, [rung(27, 11, 5), rung(9, 33, 5), rung(3, 100, 5)]);
    }

    #[test]
    fn a_small_budget_takes_fewer_pairs_and_then_fewer_epochs_before_it_refuses() {
        let cost = Cost { epoch: 10.0, overhead: 20.0 };
        let last = |left| plan(left, cost, LIMITS).map(|p| p.last);
        assert_eq!(last(2400.0), Ok(Last { epochs: 10, pairs: 5 }));
        assert_eq!(last(1500.0), Ok(Last { epochs: 10, pairs: 3 }));
        assert_eq!(last(1000.0), Ok(Last { epochs: 3, pairs: 5 }));
        assert_eq!(last(599.0), Err(TooLittle { needed: 600.0 }));
        assert_eq!(last(600.0), Ok(Last { epochs: 3, pairs: 3 }));
    }

    #[test]
    fn the_comparison_takes_what_time_is_left() {
        let costs = [Cost { epoch: 1.0, overhead: 5.0 }, Cost { epoch: 2.0, overhead: 5.0 }];
        let planned = Last { epochs: 30, pairs: 5 };
        let of = |left| last(left, costs, planned, LIMITS);
        assert_eq!(of(500.0), Some(planned));
        assert_eq!(of(1050.0), Some(Last { epochs: 30, pairs: 10 }));
        assert_eq!(of(1e9), Some(Last { epochs: 30, pairs: 15 }));
        assert_eq!(of(210.0), Some(Last { epochs: 20, pairs: 3 }));
        assert_eq!(of(30.0), Some(Last { epochs: 1, pairs: 2 }));
        assert_eq!(of(12.0), None);
    }

    proptest! {
        #[test]
        fn a_plan_never_costs_more_than_it_may(
            left in 1.0f64..1e5, epoch in 0.01f64..100.0, overhead in 0.0f64..50.0,
            epochs in 1u32..300, pairs in 2usize..10, candidates in 1usize..60,
        ) {
            let cost = Cost { epoch, overhead };
            if let Ok(plan) = plan(left, cost, Limits { epochs, pairs, candidates }) {
                let race: f64 = plan.rungs.iter().enumerate().map(|(i, r)| {
                    ((r.candidates + usize::from(i > 0)) * r.pairs) as f64 * cost.of(r.epochs)
                }).sum();
                let last = 2.0 * plan.last.pairs as f64 * cost.of(plan.last.epochs);
                prop_assert!(race + last <= left * (1.0 + 1e-9));
                prop_assert!(plan.last.epochs >= 1 && plan.last.epochs <= epochs);
                prop_assert!(plan.rungs.iter().all(|r| r.epochs <= plan.last.epochs));
                prop_assert!(plan.rungs.windows(2).all(|w| w[0].candidates > w[1].candidates));
            }
        }
    }
}
