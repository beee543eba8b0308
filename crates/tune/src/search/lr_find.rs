//! `onsa lr_find`: the loss over rising learning rates, and the rate that it speaks for (Smith, 2017, arXiv:1506.01186).

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use super::SearchError;
use crate::durable;
use crate::evaluate::plots::chart::{Axis, Chart, Look, Series};
use crate::evaluate::plots::{Drawing, write_plot};
use crate::train::observer::Observer;
use crate::train::recipe::Recipe;
use crate::train::recipe::table::{self, Check};
use crate::train::run::{Swept, place, sweep};
use crate::train::start;

pub use crate::train::run::Sweep;

crate::arguments! {
    /// The arguments of `lr_find` that a person gave.
    FindArgs,
    /// How a sweep goes.
    FindSettings {
        "Sweep" {
            /// The first learning rate.
            from: f64 = 1e-6, table::positive;
            /// The last learning rate; the sweep ends before it where the loss has risen far.
            to: f64 = 1.0, table::positive;
            /// Optimiser steps from the first to the last rate, each over as many images as nbs says.
            steps: u32 = 72, enough_steps;
        }
    }
}

fn enough_steps(value: &u32) -> Check {
    if (10..=10_000).contains(value) { Ok(()) } else { Err("from 10 to 10000") }
}

/// Share of the past in the smoothed loss.
const SMOOTHING: f64 = 0.8;
/// Steps before the loss may end the sweep.
const PATIENCE: usize = 10;
/// Times the least smoothed loss at which the sweep ends.
const RISEN: f64 = 2.0;
/// Points to each side over which a slope is measured.
const SIDE: usize = 4;
/// Share of the first loss by which it must fall, or nothing can be said.
const FALL: f64 = 0.03;

/// One step of the curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Point {
    /// The learning rate.
    pub rate: f64,
    /// The loss.
    pub loss: f64,
    /// The loss, smoothed.
    pub smoothed: f64,
}

/// What a sweep says.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Curve {
    /// The steps; the last may have a loss that is no number.
    pub points: Vec<Point>,
    /// The rate at which the loss falls fastest; none where it never falls clearly.
    pub suggestion: Option<f64>,
    /// The rate with the least smoothed loss: above it training gets worse.
    pub least: Option<f64>,
}

impl Curve {
    /// Smooths the losses, and finds the rate where they fall fastest.
    pub fn new(swept: &[Swept]) -> Curve {
        let points: Vec<Point> = smooth(swept)
            .into_iter()
            .zip(swept)
            .map(|(smoothed, s)| Point { rate: s.rate, loss: s.loss, smoothed })
            .collect();
        let finite = points.iter().take_while(|p| p.loss.is_finite()).count();
        let sound = &points[..finite];
        let least = (0..finite).min_by(|&a, &b| sound[a].smoothed.total_cmp(&sound[b].smoothed));
        let suggestion = least.filter(|&least| {
            let first =
                sound[..finite.min(SIDE)].iter().map(|p| p.loss).sum::<f64>() / finite.min(SIDE) as f64;
            first - sound[least].smoothed >= FALL * first
        });
        let steepest = suggestion.and_then(|least| {
            let slope = |i: usize| slope(&sound[i.saturating_sub(SIDE)..(i + SIDE + 1).min(finite)]);
            (0..=least).min_by(|&a, &b| slope(a).total_cmp(&slope(b))).filter(|&i| slope(i) < 0.0)
        });
        Curve {
            suggestion: steepest.map(|i| two_digits(points[i].rate)),
            least: least.map(|i| points[i].rate),
            points,
        }
    }

    /// The curve as a table.
    pub fn csv(&self) -> String {
        let mut text = "lr,loss,smoothed\n".to_owned();
        for p in &self.points {
            text.push_str(&format!("{:e},{},{}\n", p.rate, p.loss, p.smoothed));
        }
        text
    }

    /// The curve as a picture.
    pub fn plot(&self) -> Drawing {
        let line = |name: &str, look, of: fn(&Point) -> f64| Series {
            name: name.to_owned(),
            points: self.points.iter().map(|p| (p.rate.log10(), of(p))).collect(),
            look,
        };
        let ends = [self.points.first(), self.points.last()].map(|p| p.map_or(0.0, |p| p.rate.log10()));
        let said = match self.suggestion {
            Some(rate) => format!("The smoothed loss falls fastest at {rate}."),
            None => "The loss never falls clearly.".to_owned(),
        };
        let mark = self.suggestion.and_then(|rate| {
            let nearest = |p: &&Point| (p.rate.log10() - rate.log10()).abs();
            let at = self.points.iter().min_by(|a, b| nearest(a).total_cmp(&nearest(b)))?;
            Some(((at.rate.log10(), at.smoothed), format!("{rate}")))
        });
        let chart = Chart {
            title: "Learning-rate range test".into(),
            description: format!("The training loss at rates that rise from step to step. {said}"),
            x: Axis {
                label: "log10 of the learning rate".into(),
                low: ends[0],
                high: if ends[1] > ends[0] { ends[1] } else { ends[0] + 1.0 },
            },
            y: Axis::around("loss", self.points.iter().flat_map(|p| [p.loss, p.smoothed])),
            series: vec![
                line("loss", Look::Colour(5), |p| p.loss),
                line("smoothed", Look::Strong, |p| p.smoothed),
            ],
            mark,
        };
        chart.draw(1)
    }
}

/// Exponentially weighted means, corrected for their start.
fn smooth(swept: &[Swept]) -> Vec<f64> {
    let mut mean = 0.0;
    let step = |(i, s): (usize, &Swept)| {
        mean = SMOOTHING * mean + (1.0 - SMOOTHING) * s.loss;
        mean / (1.0 - SMOOTHING.powi(i as i32 + 1))
    };
    swept.iter().enumerate().map(step).collect()
}

/// The slope of the loss over the rate's logarithm, by least squares.
fn slope(points: &[Point]) -> f64 {
    let n = points.len() as f64;
    let x = |p: &Point| p.rate.ln();
    let (mean_x, mean_y) =
        (points.iter().map(x).sum::<f64>() / n, points.iter().map(|p| p.loss).sum::<f64>() / n);
    let over: f64 = points.iter().map(|p| (x(p) - mean_x) * (p.loss - mean_y)).sum();
    over / points.iter().map(|p| (x(p) - mean_x).powi(2)).sum::<f64>().max(f64::MIN_POSITIVE)
}

fn two_digits(value: f64) -> f64 {
    format!("{value:.1e}").parse().expect("a printed number is a number")
}

/// Whether the sweep is worth going on.
fn goes_on(swept: &[Swept]) -> bool {
    let smoothed = smooth(swept);
    let least = smoothed.iter().copied().fold(f64::INFINITY, f64::min);
    swept.len() < PATIENCE || smoothed.last().is_none_or(|last| *last <= RISEN * least)
}

/// Sweeps the rates with the recipe's training step. The model's file is read and not written; the weights of the sweep are
/// dropped. None where `stop` turned true. `progress(done)` after every step.
///
/// # Errors
/// See [`SearchError`].
pub fn find(
    recipe: &Recipe,
    rates: &Sweep,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(usize),
) -> Result<Option<Curve>, SearchError> {
    let prepared = start::prepare(recipe, observer)?;
    let resolved = Recipe { strategy: prepared.strategy, ..recipe.clone() };
    let place = place(&resolved, prepared.dataset.pixels)?;
    let mut go_on = |swept: &[Swept]| {
        progress(swept.len());
        goes_on(swept)
    };
    let swept = sweep(&resolved, prepared, &place, rates, observer, stop, &mut go_on)?;
    Ok((!stop.load(Ordering::Relaxed)).then(|| Curve::new(&swept)))
}

/// Writes `lr_find.csv` and `lr_find.svg` into `folder`.
///
/// # Errors
/// The disk refuses.
pub fn write(folder: &Path, curve: &Curve) -> Result<(), SearchError> {
    durable::write(&folder.join("lr_find.csv"), curve.csv().as_bytes())?;
    write_plot(folder, "lr_find", &curve.plot())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A loss that stays, falls fastest at 1e-3, is least at 1e-2 and then rises; with noise.
    fn curve(noise: f64) -> Vec<Swept> {
        let sweep = Sweep { from: 1e-6, to: 1.0, steps: 72 };
        (0..72)
            .map(|i| {
                let x = sweep.rate(i).log10();
                let fall = 2.0 / (1.0 + (-4.0 * (x + 3.0)).exp());
                let rise = (3.0 * (x + 1.5)).exp();
                let jitter = noise * f64::from((i * 37) % 11) / 11.0;
                Swept { rate: sweep.rate(i), loss: 5.0 - fall + rise + jitter }
            })
            .collect()
    }

    #[test]
    fn the_rate_of_the_steepest_fall_is_suggested() {
        for noise in [0.0, 0.2] {
            let found = Curve::new(&curve(noise));
            let rate = found.suggestion.unwrap();
            assert!((5e-4..2e-3).contains(&rate), "{rate} at noise {noise}");
            assert!(found.least.unwrap() > rate);
        }
    }

    #[test]
    fn a_loss_that_never_falls_suggests_nothing() {
        let flat: Vec<Swept> = curve(0.0).iter().map(|s| Swept { loss: 5.0, ..*s }).collect();
        assert_eq!(Curve::new(&flat).suggestion, None);
        let rising: Vec<Swept> =
            curve(0.0).iter().enumerate().map(|(i, s)| Swept { loss: 5.0 + i as f64, ..*s }).collect();
        assert_eq!(Curve::new(&rising).suggestion, None);
        assert_eq!(Curve::new(&[]).suggestion, None);
        assert!(Curve::new(&flat).plot().standalone().contains("never falls clearly"));
    }

    #[test]
    fn a_loss_that_has_risen_far_or_is_no_number_ends_the_sweep_and_the_curve_stands() {
        let mut swept = curve(0.0);
        assert!(goes_on(&swept[..60]) && !goes_on(&swept));
        swept[70].loss = f64::NAN;
        swept.truncate(71);
        let found = Curve::new(&swept);
        assert!((5e-4..2e-3).contains(&found.suggestion.unwrap()));
        assert_eq!(found.csv().lines().count(), 72);
        assert!(found.plot().standalone().contains("falls fastest at"));
    }
}
