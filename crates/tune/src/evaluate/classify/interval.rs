//! 95 % intervals: what a figure would be on other samples like this one. Of a share by Wilson (1927), which holds for few images
//! and for none wrong; of other figures by the bootstrap (Efron, 1979).

use serde::{Deserialize, Serialize};

use crate::data::rng::{Draw, Purpose};

/// Samples that are drawn.
const SAMPLES: u32 = 1000;

/// The 97.5 % quantile of the normal distribution.
const QUANTILE: f64 = 1.959_963_984_540_054;

/// The middle 95 % of what a figure may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// 2.5 % are below.
    pub low: f64,
    /// 2.5 % are above.
    pub high: f64,
}

/// Wilson's interval of a share, `count` of `n`; none of nothing. Drawing anew from images that are all right would give images that
/// are all right, and call certain what four pictures cannot say.
pub fn of_share(count: usize, n: usize) -> Option<Interval> {
    if n == 0 {
        return None;
    }
    let (n, z2) = (n as f64, QUANTILE * QUANTILE);
    let share = count as f64 / n;
    let middle = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = QUANTILE / (1.0 + z2 / n) * (share * (1.0 - share) / n + z2 / (4.0 * n * n)).sqrt();
    // Rounding must not leave the share itself outside.
    Some(Interval { low: (middle - half).clamp(0.0, share), high: (middle + half).clamp(share, 1.0) })
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
    fn wilson_s_interval_says_that_four_of_four_is_not_certain() {
        let near = |found: Interval, low: f64, high: f64| {
            assert!((found.low - low).abs() < 1e-4 && (found.high - high).abs() < 1e-4, "{found:?}");
        };
        // The figures of Wilson's formula as R's prop.test(correct = FALSE) gives them.
        near(of_share(4, 4).unwrap(), 0.5101, 1.0);
        near(of_share(0, 4).unwrap(), 0.0, 0.4899);
        near(of_share(80, 100).unwrap(), 0.7112, 0.8666);
        assert_eq!(of_share(0, 0), None);
    }

    #[test]
    fn a_share_s_bootstrap_interval_is_that_of_the_binomial() {
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
