//! Learning rates, momentum and accumulation at every iteration.
//!
//! All are functions of the iteration alone, so a resumed run has the same ones. An iteration is one batch; an
//! optimiser step comes when as many batches as `accumulate` says have passed since the last.

use super::optimiser::Group;

/// Settings of the schedule, under the names of the train arguments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScheduleConfig {
    /// Learning rate at the start.
    pub lr0: f64,
    /// Learning rate at the end, as a share of `lr0`.
    pub lrf: f64,
    /// Cosine instead of linear decay.
    pub cos_lr: bool,
    /// Momentum after the warm-up.
    pub momentum: f64,
    /// Weight decay at the nominal batch.
    pub weight_decay: f64,
    /// Length of the warm-up, at most one epoch less than there are.
    pub warmup_epochs: f64,
    /// Momentum at iteration 0.
    pub warmup_momentum: f64,
    /// Learning rate of biases at iteration 0; the other groups start at 0.
    pub warmup_bias_lr: f64,
    /// Number of epochs, at least 1.
    pub epochs: usize,
    /// Batches in an epoch, at least 1.
    pub batches: usize,
    /// Images in a batch, at least 1.
    pub batch: usize,
    /// Nominal batch: gradients are accumulated up to about this many images.
    pub nbs: usize,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            lr0: 0.01,
            lrf: 0.01,
            cos_lr: false,
            momentum: 0.937,
            weight_decay: 0.0005,
            warmup_epochs: 3.0,
            warmup_momentum: 0.8,
            warmup_bias_lr: 0.1,
            epochs: 100,
            batches: 1,
            batch: 16,
            nbs: 64,
        }
    }
}

/// What holds at one iteration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Momentum, for the optimisers that follow it.
    pub momentum: f64,
    /// Batches between optimiser steps.
    pub accumulate: usize,
    /// Learning rate of the epoch, which the warm-up leads to.
    target: f64,
    /// Share of the warm-up that is done, 0 to 1.
    warmth: f64,
    bias_start: f64,
    weight_decay: f64,
}

impl Rates {
    /// Rates without warm-up or accumulation: for tests and for other schedules.
    pub fn constant(lr: f64, momentum: f64, weight_decay: f64) -> Self {
        Self { momentum, accumulate: 1, target: lr, warmth: 1.0, bias_start: 0.0, weight_decay }
    }

    /// Learning rate of the parameters of `group` whose rate is `scale` times the common one. The scale holds for the
    /// rate that the warm-up leads to, not for where it starts.
    pub fn lr(&self, group: Group, scale: f64) -> f64 {
        if self.warmth >= 1.0 {
            return self.target * scale;
        }
        let start = if group == Group::Bias { self.bias_start } else { 0.0 };
        start + (self.target * scale - start) * self.warmth
    }

    /// Weight decay of `group`.
    pub fn weight_decay(&self, group: Group) -> f64 {
        if group == Group::Weight { self.weight_decay } else { 0.0 }
    }
}

/// The schedule of a run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Schedule {
    config: ScheduleConfig,
    warmup: u64,
    accumulate: usize,
    weight_decay: f64,
}

impl Schedule {
    /// The schedule for `config`; counts of 0 count as 1.
    pub fn new(mut config: ScheduleConfig) -> Self {
        for count in [&mut config.epochs, &mut config.batches, &mut config.batch, &mut config.nbs] {
            *count = (*count).max(1);
        }
        let epochs = config.warmup_epochs.min(config.epochs as f64 - 1.0).max(0.0);
        let warmup = (epochs * config.batches as f64).round_ties_even() as u64;
        let ratio = config.nbs as f64 / config.batch as f64;
        let nominal = (ratio.round_ties_even() as usize).max(1);
        // Decay is scaled by the nominal accumulation even where the run is too short for it.
        let weight_decay = config.weight_decay * (config.batch * nominal) as f64 / config.nbs as f64;
        let accumulate = nominal.min(config.batches.saturating_mul(config.epochs));
        Self { config, warmup, accumulate, weight_decay }
    }

    /// Iterations of warm-up.
    pub fn warmup(&self) -> u64 {
        self.warmup
    }

    /// Weight decay of the weights, scaled to the batch.
    pub fn weight_decay(&self) -> f64 {
        self.weight_decay
    }

    /// The common learning rate of `epoch` (from 0), warm-up aside.
    pub fn epoch_lr(&self, epoch: u64) -> f64 {
        let ScheduleConfig { lr0, lrf, .. } = self.config;
        let x = epoch as f64 / self.config.epochs as f64;
        let factor = if self.config.cos_lr {
            (1.0 - (x * std::f64::consts::PI).cos()) / 2.0 * (lrf - 1.0) + 1.0
        } else {
            (1.0 - x).max(0.0) * (1.0 - lrf) + lrf
        };
        lr0 * factor
    }

    /// What holds at `iteration`, counted from 0 over all epochs.
    pub fn at(&self, iteration: u64) -> Rates {
        let c = &self.config;
        let warmth = if iteration < self.warmup { iteration as f64 / self.warmup as f64 } else { 1.0 };
        let blend = |from: f64, to: f64| from + (to - from) * warmth;
        let warming = iteration < self.warmup;
        Rates {
            momentum: if warming { blend(c.warmup_momentum, c.momentum) } else { c.momentum },
            accumulate: (blend(1.0, self.accumulate as f64).round_ties_even() as usize).max(1),
            target: self.epoch_lr(iteration / c.batches as u64),
            warmth,
            bias_start: c.warmup_bias_lr,
            weight_decay: self.weight_decay,
        }
    }

    /// Whether the optimiser steps after the batch of `iteration`, if it last did after that of `last`.
    pub fn steps(&self, iteration: u64, last: Option<u64>) -> bool {
        let passed = last.map_or(iteration + 1, |last| iteration.saturating_sub(last));
        passed >= self.at(iteration).accumulate as u64
    }

    /// The last iteration before `iteration` after which the optimiser stepped: what a resumed run needs.
    pub fn last_step_before(&self, iteration: u64) -> Option<u64> {
        (0..iteration).fold(None, |last, i| if self.steps(i, last) { Some(i) } else { last })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(got: f64, want: f64) {
        assert!((got - want).abs() < 1e-9, "{got} instead of {want}");
    }

    fn lrs(rates: Rates, scale: f64) -> [f64; 3] {
        Group::ALL.map(|g| rates.lr(g, scale))
    }

    /// Values that the reference showed in a run of 5 epochs of 6 batches of 4 images, SGD.
    #[test]
    fn linear_run_with_warm_up() {
        let s =
            Schedule::new(ScheduleConfig { epochs: 5, batches: 6, batch: 4, ..ScheduleConfig::default() });
        assert_eq!(s.warmup(), 18);
        let first = s.at(0);
        assert_eq!((lrs(first, 1.0), first.momentum, first.accumulate), ([0.0, 0.0, 0.1], 0.8, 1));
        let rates = s.at(1);
        near(rates.momentum, 0.8076111111111112);
        near(rates.lr(Group::Weight, 1.0), 0.01 / 18.0);
        near(rates.lr(Group::Bias, 1.0), 0.095);
        let accumulate: Vec<usize> = [1, 2, 5, 6, 11, 12, 17, 18, 29].map(|i| s.at(i).accumulate).to_vec();
        assert_eq!(accumulate, [2, 3, 5, 6, 10, 11, 15, 16, 16]);
        near(s.at(6).lr(Group::Norm, 1.0), 0.00802 / 3.0);
        near(s.at(17).momentum, 0.9293888888888889);
        for group in Group::ALL {
            near(s.at(18).lr(group, 1.0), 0.00406);
            near(s.at(29).lr(group, 1.0), 0.00208);
        }
        assert_eq!(s.at(18).momentum, 0.937);
        near(s.at(3).weight_decay(Group::Weight), 0.0005);
        assert_eq!((s.at(3).weight_decay(Group::Norm), s.at(3).weight_decay(Group::Bias)), (0.0, 0.0));
    }

    #[test]
    fn cosine_run() {
        let config =
            ScheduleConfig { epochs: 5, batches: 6, batch: 4, cos_lr: true, ..ScheduleConfig::default() };
        let s = Schedule::new(config);
        assert!((s.at(18).lr(Group::Weight, 1.0) - 0.0035204).abs() < 1e-7);
        assert!((s.at(24).lr(Group::Weight, 1.0) - 0.0010454).abs() < 1e-7);
        assert!((s.at(11).lr(Group::Bias, 1.0) - 0.0444223).abs() < 1e-7);
    }

    #[test]
    fn one_epoch_has_no_warm_up_and_accumulates_all_of_it() {
        let s =
            Schedule::new(ScheduleConfig { epochs: 1, batches: 6, batch: 4, ..ScheduleConfig::default() });
        let rates = s.at(0);
        assert_eq!((lrs(rates, 1.0), rates.momentum, rates.accumulate), ([0.01; 3], 0.937, 6));
        assert!(!s.steps(4, None) && s.steps(5, None));
    }

    #[test]
    fn short_run_is_capped_but_its_decay_is_not() {
        let s =
            Schedule::new(ScheduleConfig { epochs: 2, batches: 5, batch: 5, ..ScheduleConfig::default() });
        assert_eq!([0, 1, 2, 5].map(|i| s.at(i).accumulate), [1, 3, 5, 10]);
        near(s.weight_decay(), 0.0005078125);
    }

    #[test]
    fn every_iteration_of_the_reference() {
        use crate::train::ema::Ema;
        use crate::train::fixture::{json, number};

        let runs = json("train/schedule.json");
        let runs = runs["runs"].as_object().expect("runs");
        assert!(runs.len() >= 8);
        for (key, run) in runs {
            let arg = |name: &str| number(&run["args"][name]);
            let count = |name: &str| arg(name) as usize;
            let s = Schedule::new(ScheduleConfig {
                lr0: arg("lr0"),
                lrf: arg("lrf"),
                cos_lr: run["args"]["cos_lr"].as_bool().expect("a flag"),
                momentum: arg("momentum"),
                weight_decay: arg("weight_decay"),
                warmup_epochs: arg("warmup_epochs"),
                warmup_momentum: arg("warmup_momentum"),
                warmup_bias_lr: arg("warmup_bias_lr"),
                epochs: count("epochs"),
                batches: number(&run["batches"]) as usize,
                batch: count("batch"),
                nbs: count("nbs"),
            });
            let adam = run["optimizer"] == "AdamW";
            let groups: Vec<(Group, f64)> = run["groups"]
                .as_array()
                .expect("groups")
                .iter()
                .map(|g| {
                    let group = match g["group"].as_str().expect("a name") {
                        "weight" | "muon" => Group::Weight,
                        "bn" => Group::Norm,
                        _ => Group::Bias,
                    };
                    near(s.at(0).weight_decay(group), number(&g["weight_decay"]));
                    (group, (number(&g["initial_lr"]) / arg("lr0")).round())
                })
                .collect();
            let (mut last, mut steps) = (None, 0);
            for (i, row) in run["rows"].as_array().expect("rows").iter().enumerate() {
                let i = i as u64;
                let rates = s.at(i);
                if s.steps(i, last) {
                    (last, steps) = (Some(i), steps + 1);
                }
                assert_eq!(Some(rates.accumulate as u64), row["accumulate"].as_u64(), "{key} {i}");
                assert_eq!(Some(steps), row["optimizer_steps"].as_u64(), "{key} {i}");
                near(Ema::decay(steps), number(&row["ema_decay"]));
                for (g, &(group, scale)) in groups.iter().enumerate() {
                    near(rates.lr(group, scale), number(&row["lr"][g]));
                    if !adam && key != "auto" {
                        near(rates.momentum, number(&row["momentum"][g]));
                    }
                }
            }
            assert!(steps > 0, "{key}");
        }
    }

    #[test]
    fn scaled_rates_warm_up_from_the_same_start() {
        // The reference's MuSGD: one batch of 24 images an epoch, 4 epochs.
        let s =
            Schedule::new(ScheduleConfig { epochs: 4, batches: 1, batch: 24, ..ScheduleConfig::default() });
        let rates = s.at(1);
        near(rates.lr(Group::Weight, 3.0), 0.007525);
        near(rates.lr(Group::Bias, 3.0), 0.07419166666666667);
        near(rates.lr(Group::Bias, 1.0), 0.069175);
        assert_eq!(s.at(2).accumulate, 2);
    }

    #[test]
    fn the_last_step_can_be_replayed() {
        let s =
            Schedule::new(ScheduleConfig { epochs: 5, batches: 6, batch: 4, ..ScheduleConfig::default() });
        let mut last = None;
        let mut seen = Vec::new();
        for i in 0..30 {
            assert_eq!(s.last_step_before(i), last);
            if s.steps(i, last) {
                last = Some(i);
                seen.push(i);
            }
        }
        // 0; 4 (accumulate 4); then 16 after the warm-up.
        assert_eq!(seen, [0, 4, 20]);
    }
}
