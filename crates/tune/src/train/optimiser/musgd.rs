//! MuSGD: SGD with Nesterov momentum, to which matrices add a step along their orthogonalised momentum.
//!
//! The added part is Muon (Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024): the
//! momentum is a running mean of the gradients, the step's direction its Nesterov look-ahead, brought near the closest
//! orthogonal matrix. Weight decay enters the SGD part only, which comes second and sees the parameters that the first
//! has moved.

use rayon::prelude::*;

use super::newton_schulz::{Scratch, orthogonalise};
use super::sgd;
use super::slots::{CHUNK, Matrix, ParamSlot, overlaps};
use crate::train::schedule::Rates;

/// Share of the orthogonalised step beside the whole SGD step.
const MUON: f64 = 0.2;

pub(super) fn step(
    params: &mut [f32],
    grads: &[f32],
    momentum: &mut [f32],
    muon: &mut [f32],
    updates: &mut [f32],
    slots: &[ParamSlot],
    rates: &Rates,
) {
    look_ahead(grads, muon, updates, slots, rates.momentum);
    let mut matrices = matrices(updates, slots);
    matrices
        .par_iter_mut()
        .with_max_len(1)
        .for_each_init(Scratch::default, |scratch, (matrix, update)| orthogonalise(matrix, update, scratch));

    let chunks = params
        .par_chunks_mut(CHUNK)
        .zip(grads.par_chunks(CHUNK))
        .zip(momentum.par_chunks_mut(CHUNK).zip(updates.par_chunks(CHUNK)));
    chunks.enumerate().for_each(|(index, ((params, grads), (buffer, updates)))| {
        for (slot, range) in overlaps(slots, index, params.len()) {
            let params = &mut params[range.clone()];
            if let Some(matrix) = slot.matrix {
                let size = (MUON * rates.lr(slot.group, slot.lr_scale)) as f32;
                for (p, &u) in params.iter_mut().zip(&updates[range.clone()]) {
                    *p -= size * (u * matrix.scale);
                }
            }
            sgd::update(params, &grads[range.clone()], &mut buffer[range], slot, rates);
        }
    });
}

/// b = m b + (1 - m) g and u = m b + (1 - m) g, for the matrices.
fn look_ahead(grads: &[f32], muon: &mut [f32], updates: &mut [f32], slots: &[ParamSlot], momentum: f64) {
    let (m, rest) = (momentum as f32, (1.0 - momentum) as f32);
    let chunks = grads.par_chunks(CHUNK).zip(muon.par_chunks_mut(CHUNK)).zip(updates.par_chunks_mut(CHUNK));
    chunks.enumerate().for_each(|(index, ((grads, muon), updates))| {
        for (_, range) in overlaps(slots, index, grads.len()).filter(|(s, _)| s.matrix.is_some()) {
            let (g, b) = (&grads[range.clone()], &mut muon[range.clone()]);
            for ((u, &g), b) in updates[range].iter_mut().zip(g).zip(b) {
                *b = m * *b + rest * g;
                *u = m * *b + rest * g;
            }
        }
    });
}

/// The matrices' stretches of the arena.
fn matrices<'a>(arena: &'a mut [f32], slots: &[ParamSlot]) -> Vec<(Matrix, &'a mut [f32])> {
    let mut out = Vec::new();
    let (mut rest, mut at) = (arena, 0);
    for (slot, matrix) in slots.iter().filter_map(|s| s.matrix.map(|m| (s, m))) {
        let (_, tail) = rest.split_at_mut(slot.offset - at);
        let (values, tail) = tail.split_at_mut(slot.len);
        out.push((matrix, values));
        (rest, at) = (tail, slot.offset + slot.len);
    }
    out
}
