//! Bootstrap intervals (Efron, 1979): what the figure would be on other samples like this one.

use serde::{Deserialize, Serialize};

use crate::data::rng::{Draw, Purpose};

/// Samples that are drawn.
const SAMPLES: u32 = 1000;

/// The middle 95 % of a figure's bootstrap distribution.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// 2.5 % of the samples are below.
    pub low: f64,
    /// 2.5 % of the samples are above.
    pub high: f64,
}

/// Intervals of the figures that `figures` computes from `n` indices: the percentiles over 1,000 samples of n drawn with
/// replacement. A figure that a sample does not have is left out of that sample.
pub fn bootstrap<const K: usize>(
    n: usize,
    mut figures: impl FnMut(&[usize]) -> [Option<f64>; K],
) -> [Option<Interval>; K] {
    let mut values: [Vec<f64>; K] = std::array::from_fn(|_| Vec::new());
    let mut chosen = vec![0; n];
    for sample in 0..SAMPLES {
        let mut draw = Draw::new(0, 0, sample, Purpose::Bootstrap);
        chosen.iter_mut().for_each(|i| *i = draw.below(n as u32) as usize);
        for (values, figure) in values.iter_mut().zip(figures(&chosen)) {
            values.extend(figure);
        }
    }
    values.map(|mut values| {
        values.sort_by(f64::total_cmp);
        let at =
            |share: f64| values.get((share * (values.len().max(1) - 1) as f64).round() as usize).copied();
        Some(Interval { low: at(0.025)?, high: at(0.975)? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_s_interval_is_that_of_the_binomial() {
        // 80 of 100: the normal approximation gives .8 +- 1.96 * .04.
        let right: Vec<bool> = (0..100).map(|i| i < 80).collect();
        let [interval, none] = bootstrap(100, |chosen| {
            let count = chosen.iter().filter(|&&i| right[i]).count();
            [Some(count as f64 / 100.0), None]
        });
        let interval = interval.unwrap();
        assert!((interval.low - 0.72).abs() < 0.015 && (interval.high - 0.878).abs() < 0.015, "{interval:?}");
        assert_eq!(none, None);
    }
}
