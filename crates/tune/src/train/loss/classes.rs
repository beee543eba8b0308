//! Binary cross-entropy of all class logits against 0, the target of every background anchor.
//!
//! A foreground anchor's one positive target is put in afterwards: with target s the loss of logit x is
//! softplus(x) - s x, and its derivative sigmoid(x) - s; both times the class's weight.

use super::math;

/// Rows over which a class's losses are summed in float32.
const ROWS: usize = 32;

/// Sums over a run of cells.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClassSums {
    /// Sum of softplus over all class logits; not a number if one of them is not finite.
    pub loss: f64,
    /// Whether every box logit is finite.
    pub finite_boxes: bool,
}

/// A pass over the cells of one image and level.
pub(super) struct Pass<'a> {
    /// Raw maps [cells, channels].
    pub maps: &'a [f32],
    /// Of the same shape; its box part becomes 0, its class part `scale` * sigmoid(logit).
    pub grads: Option<&'a mut [f32]>,
    /// Channels before the class logits.
    pub box_channels: usize,
    /// All channels.
    pub channels: usize,
    /// Multiplies the gradient.
    pub scale: f32,
    /// What each class's loss and gradient are multiplied by.
    pub weights: &'a [f32],
    /// Scratch memory.
    pub sums: &'a mut Vec<f32>,
}

impl Pass<'_> {
    /// Runs on the widest registers that the machine has.
    pub fn run(self) -> ClassSums {
        pulp::Arch::new().dispatch(self)
    }
}

impl pulp::NullaryFnOnce for Pass<'_> {
    type Output = ClassSums;

    // Every loop below is elementwise, or a reduction of integers, so that it vectorises: a class's losses are summed
    // over rows, one accumulator for each class. All is inlined into one copy per instruction set.
    #[inline(always)]
    fn call(self) -> ClassSums {
        let Self { maps, mut grads, box_channels, channels, scale, weights, sums } = self;
        let mut out = ClassSums { loss: 0.0, finite_boxes: true };
        for (index, rows) in maps.chunks(ROWS * channels).enumerate() {
            sums.clear();
            sums.resize(channels - box_channels, 0.0);
            let mut grads =
                grads.as_deref_mut().map(|g| g[index * ROWS * channels..].chunks_exact_mut(channels));
            for row in rows.chunks_exact(channels) {
                let (boxes, classes) = row.split_at(box_channels);
                out.finite_boxes &= finite(boxes);
                if let Some(grad) = grads.as_mut().and_then(Iterator::next) {
                    let (grad_boxes, grad_classes) = grad.split_at_mut(box_channels);
                    grad_boxes.fill(0.0);
                    let gradients = grad_classes.iter_mut().zip(weights);
                    for ((&x, (g, &weight)), sum) in classes.iter().zip(gradients).zip(sums.iter_mut()) {
                        let (s, l) = math::sigmoid_softplus(x);
                        *g = s * scale * weight;
                        // The last term is 0, or not a number where the logit is not finite.
                        *sum += l + x * 0.0;
                    }
                } else {
                    for (&x, sum) in classes.iter().zip(sums.iter_mut()) {
                        *sum += math::sigmoid_softplus(x).1 + x * 0.0;
                    }
                }
            }
            out.loss += sums.iter().zip(weights).map(|(&v, &weight)| f64::from(v * weight)).sum::<f64>();
        }
        out
    }
}

/// Whether all of `values` are finite.
#[inline(always)]
fn finite(values: &[f32]) -> bool {
    const EXPONENT: u32 = 0x7f80_0000;
    let bad = values.iter().fold(0u32, |bad, v| bad | u32::from(v.to_bits() & EXPONENT == EXPONENT));
    bad == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn background(
        maps: &[f32],
        grads: Option<&mut [f32]>,
        box_channels: usize,
        channels: usize,
        scale: f32,
    ) -> ClassSums {
        let weights = vec![1.0; channels - box_channels];
        Pass { maps, grads, box_channels, channels, scale, weights: &weights, sums: &mut vec![7.0; 3] }.run()
    }

    #[test]
    fn sums_and_gradients_of_any_width() {
        for nc in [1usize, 7, 8, 20] {
            let channels = 3 + nc;
            let maps: Vec<f32> = (0..(ROWS + 5) * channels).map(|i| (i as f32 * 0.37).sin() * 6.0).collect();
            let mut grads = vec![9.0; maps.len()];
            let sums = background(&maps, Some(&mut grads), 3, channels, 0.5);
            let mut want = 0.0;
            for (row, grad) in maps.chunks(channels).zip(grads.chunks(channels)) {
                assert_eq!(grad[..3], [0.0; 3]);
                for (&x, &g) in row[3..].iter().zip(&grad[3..]) {
                    want += f64::from(x).exp().ln_1p();
                    assert!((f64::from(g) - 0.5 / (1.0 + (-f64::from(x)).exp())).abs() < 1e-6);
                }
            }
            assert!((sums.loss - want).abs() < 1e-5 * want, "{nc} classes: {} {want}", sums.loss);
            assert!(sums.finite_boxes);
            let plain = background(&maps, None, 3, channels, 0.5);
            assert_eq!(plain.loss.to_bits(), sums.loss.to_bits());
        }
    }

    #[test]
    fn any_value_that_is_not_finite_is_seen() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in 0..22 {
                let mut maps = vec![0.5f32; 22];
                maps[at] = bad;
                let mut grads = vec![0.0; 22];
                for sums in
                    [background(&maps, Some(&mut grads), 10, 11, 1.0), background(&maps, None, 10, 11, 1.0)]
                {
                    assert_eq!(sums.finite_boxes, at % 11 == 10, "{bad} at {at}");
                    assert_eq!(sums.loss.is_finite(), at % 11 != 10, "{bad} at {at}");
                }
            }
        }
    }
}
