//! Box terms of one foreground anchor: CIoU and the distribution focal loss.
//!
//! Each side's distance from the anchor, in stride units, is the expected bin of a softmax over `reg_max` bins. The
//! distribution focal loss (Li et al., "Generalized Focal Loss", NeurIPS 2020, equation 6) is the cross-entropy with
//! the two bins that enclose the true distance y: -((i + 1 - y) ln p_i + (y - i) ln p_{i+1}).

use super::ciou;
use super::math;

/// Losses of one anchor, before any weight.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct BoxTerms {
    /// 1 - CIoU.
    pub iou: f64,
    /// Mean of the four sides' distribution focal losses.
    pub dfl: f64,
}

/// Weights that multiply the two terms in the total.
#[derive(Clone, Copy, Debug)]
pub(super) struct BoxWeights {
    pub iou: f64,
    pub dfl: f64,
}

/// The terms for an anchor at `centre` with box logits `logits` (4 * reg_max; left, top, right, bottom) and the true
/// box `target` (x1, y1, x2, y2), all in stride units. With `grads` (like `logits`) it is set to the derivative of
/// `weights.iou` * iou + `weights.dfl` * dfl. `p` is scratch memory like `logits`.
pub(super) fn terms(
    logits: &[f32],
    grads: Option<&mut [f32]>,
    p: &mut [f32],
    centre: (f32, f32),
    target: [f64; 4],
    weights: BoxWeights,
) -> BoxTerms {
    let reg_max = logits.len() / 4;
    let (cx, cy) = (f64::from(centre.0), f64::from(centre.1));
    let mut bins = [math::Bins { mean: 0.0, log_sum: 0.0 }; 4];
    for ((bins, logits), p) in
        bins.iter_mut().zip(logits.chunks_exact(reg_max)).zip(p.chunks_exact_mut(reg_max))
    {
        *bins = math::softmax(logits, p);
    }
    let [l, t, r, b] = bins.map(|b| f64::from(b.mean));
    let (value, slope) = ciou::ciou([cx - l, cy - t, cx + r, cy + b], target);
    // Left and top grow towards smaller coordinates.
    let by_side = [slope[0], slope[1], -slope[2], -slope[3]];

    let last = reg_max as f64 - 1.0 - 0.01;
    let distances =
        [cx - target[0], cy - target[1], target[2] - cx, target[3] - cy].map(|d| d.clamp(0.0, last));
    let mut dfl = 0.0;
    for (side, &y) in distances.iter().enumerate() {
        let at = side * reg_max + y as usize;
        let upper = y.fract();
        let log_sum = f64::from(bins[side].log_sum);
        dfl += (1.0 - upper) * (log_sum - f64::from(logits[at]));
        // With a single bin there is no next one, and y is clamped below it.
        if upper > 0.0 {
            dfl += upper * (log_sum - f64::from(logits[at + 1]));
        }
    }
    if let Some(grads) = grads {
        for (side, &y) in distances.iter().enumerate() {
            let run = side * reg_max..(side + 1) * reg_max;
            let (p, grads) = (&p[run.clone()], &mut grads[run]);
            let pull = (weights.iou * by_side[side]) as f32;
            let push = (weights.dfl / 4.0) as f32;
            let mean = bins[side].mean;
            for (j, (g, &p)) in grads.iter_mut().zip(p).enumerate() {
                *g = p * (pull * (j as f32 - mean) + push);
            }
            let (lower, upper) = (y as usize, y.fract());
            grads[lower] -= push * (1.0 - upper) as f32;
            if upper > 0.0 {
                grads[lower + 1] -= push * upper as f32;
            }
        }
    }
    BoxTerms { iou: 1.0 - value, dfl: dfl / 4.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REG_MAX: usize = 16;

    fn logits(seed: usize) -> Vec<f32> {
        (0..4 * REG_MAX).map(|i| (((i * 29 + seed * 17) % 23) as f32 - 11.0) / 5.0).collect()
    }

    #[test]
    fn distribution_focal_loss_by_hand() {
        // Uniform logits: every bin has probability 1/16 and every distance costs ln 16.
        let mut p = vec![0.0; 64];
        let weights = BoxWeights { iou: 0.0, dfl: 1.0 };
        let mut grads = vec![0.0; 64];
        let target = [5.0 - 2.25, 4.0 - 3.0, 5.0 + 40.0, 4.0 - 1.0];
        let got = terms(&[0.0; 64], Some(&mut grads), &mut p, (5.0, 4.0), target, weights);
        assert!((got.dfl - 16f64.ln()).abs() < 1e-6, "{got:?}");
        // Left 2.25: bins 2 and 3 share .75 and .25; top 3 exactly; right clamped to 14.99; bottom clamped to 0.
        let near = |g: f32, want: f64| assert!((f64::from(g) - want / 4.0).abs() < 1e-6, "{g} {want}");
        near(grads[1], 1.0 / 16.0);
        near(grads[2], 1.0 / 16.0 - 0.75);
        near(grads[3], 1.0 / 16.0 - 0.25);
        near(grads[16 + 3], 1.0 / 16.0 - 1.0);
        near(grads[16 + 4], 1.0 / 16.0);
        near(grads[32 + 14], 1.0 / 16.0 - 0.01);
        near(grads[32 + 15], 1.0 / 16.0 - 0.99);
        near(grads[48], 1.0 / 16.0 - 1.0);
    }

    #[test]
    fn gradient_sums_to_zero_over_each_side() {
        // Adding a constant to all bins of a side changes nothing.
        let logits = logits(1);
        let (mut p, mut grads) = (vec![0.0; 64], vec![0.0; 64]);
        let weights = BoxWeights { iou: 7.5, dfl: 1.5 };
        terms(&logits, Some(&mut grads), &mut p, (8.5, 9.5), [3.0, 4.0, 12.0, 16.5], weights);
        for side in grads.chunks(REG_MAX) {
            assert!(side.iter().sum::<f32>().abs() < 1e-5);
            assert!(side.iter().any(|g| g.abs() > 1e-3));
        }
    }
}
