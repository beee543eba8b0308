//! Stochastic gradient descent with Nesterov momentum, as PyTorch defines it.

use rayon::prelude::*;

use super::slots::{CHUNK, ParamSlot, overlaps};
use crate::train::schedule::Rates;

/// g' = g + decay p; b = m b + g'; p -= lr (g' + m b).
pub(super) fn step(
    params: &mut [f32],
    grads: &[f32],
    momentum: &mut [f32],
    slots: &[ParamSlot],
    rates: &Rates,
) {
    let chunks =
        params.par_chunks_mut(CHUNK).zip(grads.par_chunks(CHUNK)).zip(momentum.par_chunks_mut(CHUNK));
    chunks.enumerate().for_each(|(index, ((params, grads), buffer))| {
        for (slot, range) in overlaps(slots, index, params.len()) {
            let (p, g, b) = (&mut params[range.clone()], &grads[range.clone()], &mut buffer[range]);
            update(p, g, b, slot, rates);
        }
    });
}

/// The rule on one stretch of one slot.
pub(super) fn update(params: &mut [f32], grads: &[f32], buffer: &mut [f32], slot: &ParamSlot, rates: &Rates) {
    let lr = rates.lr(slot.group, slot.lr_scale) as f32;
    let decay = rates.weight_decay(slot.group) as f32;
    let m = rates.momentum as f32;
    for ((p, &g), b) in params.iter_mut().zip(grads).zip(buffer) {
        let g = g + decay * *p;
        *b = m * *b + g;
        *p -= lr * (g + m * *b);
    }
}
