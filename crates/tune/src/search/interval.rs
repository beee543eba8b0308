//! How sure a difference is: Student's t interval of paired differences.

use serde::{Deserialize, Serialize};

/// The 97.5 % quantiles of Student's distribution for 1 to 30 degrees of freedom (any statistical table).
const T975: [f64; 30] = [
    12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010, 2.1788, 2.1604,
    2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555,
    2.0518, 2.0484, 2.0452, 2.0423,
];
/// The same of the normal distribution.
const Z975: f64 = 1.959_963_985;

/// The 97.5 % quantile of Student's distribution, `freedom` at least 1.
fn t975(freedom: usize) -> f64 {
    match T975.get(freedom.max(1) - 1) {
        Some(&t) => t,
        // Abramowitz and Stegun, 26.7.5.
        None => {
            let (z, n) = (Z975, freedom as f64);
            let g1 = (z.powi(3) + z) / 4.0;
            let g2 = (5.0 * z.powi(5) + 16.0 * z.powi(3) + 3.0 * z) / 96.0;
            z + g1 / n + g2 / (n * n)
        }
    }
}

/// A mean with its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Estimate {
    /// The mean.
    pub mean: f64,
    /// The interval; none of fewer than two values.
    pub interval: Option<(f64, f64)>,
    /// How many values.
    pub values: usize,
}

/// The mean of `values` with Student's t interval. `overlap`: images that measure over images that train, where the
/// values come from splits of one set whose training parts overlap. They then vary together, and the variance of their
/// mean is s² (1/n + overlap) (Nadeau and Bengio, 2003, "Inference for the generalization error"). 0 for independent
/// values: s²/n.
pub fn estimate(values: &[f64], overlap: f64) -> Estimate {
    let n = values.len();
    let mean = values.iter().sum::<f64>() / n.max(1) as f64;
    let interval = (n >= 2).then(|| {
        let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1) as f64;
        let half = t975(n - 1) * (variance * (1.0 / n as f64 + overlap)).sqrt();
        (mean - half, mean + half)
    });
    Estimate { mean, interval, values: n }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (freedom, t) in [
            (1, 12.706),
            (2, 4.303),
            (4, 2.776),
            (10, 2.228),
            (30, 2.042),
            (40, 2.021),
            (60, 2.000),
            (120, 1.980),
        ] {
            assert!((t975(freedom) - t).abs() < 6e-4, "{freedom}: {}", t975(freedom));
        }
    }

    #[test]
    fn a_known_sample_has_its_known_interval() {
        // Mean 3, s = 1.58114, n = 5: 3 +- 2.7764 * 1.58114 / sqrt(5) = 3 +- 1.96324.
        let found = estimate(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.0);
        let (low, high) = found.interval.unwrap();
        assert_eq!((found.mean, found.values), (3.0, 5));
        assert!((low - 1.036_76).abs() < 1e-4 && (high - 4.963_24).abs() < 1e-4, "{low} {high}");
        // Five folds: a quarter as many images measure as train, and the variance is 1/5 + 1/4 instead of 1/5.
        let (low, _) = estimate(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.25).interval.unwrap();
        assert!((low - (3.0 - 1.963_24 * (0.45f64 / 0.2).sqrt())).abs() < 1e-4, "{low}");
    }

    #[test]
    fn one_value_has_no_interval() {
        assert_eq!(estimate(&[0.5], 0.0), Estimate { mean: 0.5, interval: None, values: 1 });
        assert_eq!(estimate(&[], 0.0).values, 0);
    }
}
