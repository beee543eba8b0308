//! Adam and AdamW, as PyTorch defines them: second decay rate .999, epsilon 1e-8, added after the bias correction.

use rayon::prelude::*;

use super::slots::{CHUNK, ParamSlot, overlaps};
use crate::train::schedule::Rates;

const BETA2: f64 = 0.999;
const EPS: f32 = 1e-8;

/// What one step has to know beside the rates.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moments {
    /// Decay rate of the mean of the gradients.
    pub beta1: f64,
    /// Number of this step, from 1.
    pub steps: u64,
    /// Decay the weights themselves (AdamW) and not through the gradient (Adam).
    pub decoupled: bool,
}

pub(super) fn step(
    params: &mut [f32],
    grads: &[f32],
    mean: &mut [f32],
    square: &mut [f32],
    slots: &[ParamSlot],
    rates: &Rates,
    moments: Moments,
) {
    let steps = moments.steps as f64;
    let bias1 = 1.0 - moments.beta1.powf(steps);
    let bias2_root = (1.0 - BETA2.powf(steps)).sqrt() as f32;
    let keep1 = (1.0 - moments.beta1) as f32;
    let (beta2, keep2) = (BETA2 as f32, (1.0 - BETA2) as f32);
    let chunks = params
        .par_chunks_mut(CHUNK)
        .zip(grads.par_chunks(CHUNK))
        .zip(mean.par_chunks_mut(CHUNK).zip(square.par_chunks_mut(CHUNK)));
    chunks.enumerate().for_each(|(index, ((params, grads), (mean, square)))| {
        for (slot, range) in overlaps(slots, index, params.len()) {
            let lr = rates.lr(slot.group, slot.lr_scale);
            let decay = rates.weight_decay(slot.group);
            let (shrink, l2) =
                if moments.decoupled { ((1.0 - lr * decay) as f32, 0.0) } else { (1.0, decay as f32) };
            let size = (lr / bias1) as f32;
            let (params, grads) = (&mut params[range.clone()], &grads[range.clone()]);
            let (mean, square) = (&mut mean[range.clone()], &mut square[range]);
            for (((p, &g), m), v) in params.iter_mut().zip(grads).zip(mean).zip(square) {
                *p *= shrink;
                let g = g + l2 * *p;
                *m += keep1 * (g - *m);
                *v = beta2 * *v + keep2 * g * g;
                *p -= size * *m / (v.sqrt() / bias2_root + EPS);
            }
        }
    });
}
