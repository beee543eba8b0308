//! Clipping of the gradient by its global norm.

use rayon::prelude::*;

use super::optimiser::{CHUNK, ParamSlot, overlaps};

/// The norm that the default recipe clips at.
pub const MAX_NORM: f64 = 10.0;

/// The gradient has an infinite value or one that is not a number; it was left as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the gradient is not finite; the step must be left out")]
pub struct NonFiniteGradient;

/// Euclidean norm of the trained parameters' gradients. The sum is taken in double precision chunk by chunk, so it has
/// the same bits for any number of threads.
pub fn global_norm(grads: &[f32], slots: &[ParamSlot]) -> f64 {
    let partial: Vec<f64> = grads
        .par_chunks(CHUNK)
        .enumerate()
        .map(|(index, chunk)| overlaps(slots, index, chunk.len()).map(|(_, r)| square_sum(&chunk[r])).sum())
        .collect();
    partial.iter().sum::<f64>().sqrt()
}

/// Scales the trained parameters' gradients by max / (norm + 1e-6) where that is below 1; returns the norm before.
///
/// # Errors
/// If the norm is not finite; the gradients are then unchanged.
pub fn clip_global_norm(grads: &mut [f32], slots: &[ParamSlot], max: f64) -> Result<f64, NonFiniteGradient> {
    let norm = global_norm(grads, slots);
    if !norm.is_finite() {
        return Err(NonFiniteGradient);
    }
    let factor = max / (norm + 1e-6);
    if factor < 1.0 {
        let factor = factor as f32;
        grads.par_chunks_mut(CHUNK).enumerate().for_each(|(index, chunk)| {
            for (_, range) in overlaps(slots, index, chunk.len()) {
                for g in &mut chunk[range] {
                    *g *= factor;
                }
            }
        });
    }
    Ok(norm)
}

fn square_sum(values: &[f32]) -> f64 {
    let mut lanes = [0.0f64; 8];
    let chunks = values.chunks_exact(8);
    let rest: f64 = chunks.remainder().iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    for chunk in chunks {
        for (lane, &v) in lanes.iter_mut().zip(chunk) {
            *lane += f64::from(v) * f64::from(v);
        }
    }
    lanes.iter().sum::<f64>() + rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::optimiser::Group;

    fn slot(offset: usize, len: usize) -> ParamSlot {
        ParamSlot { offset, len, matrix: None, group: Group::Weight, lr_scale: 1.0 }
    }

    #[test]
    fn norm_counts_trained_parameters_only() {
        let mut grads = vec![0.0; CHUNK + 10];
        (grads[1], grads[CHUNK + 4], grads[CHUNK + 9]) = (3.0, 4.0, 100.0);
        let slots = [slot(0, 2), slot(CHUNK + 2, 5)];
        assert_eq!(global_norm(&grads, &slots), 5.0);
        // Below the limit nothing changes.
        assert_eq!(clip_global_norm(&mut grads, &slots, 10.0), Ok(5.0));
        assert_eq!((grads[1], grads[CHUNK + 4], grads[CHUNK + 9]), (3.0, 4.0, 100.0));
        assert_eq!(clip_global_norm(&mut grads, &slots, 2.5), Ok(5.0));
        let factor = (2.5 / (5.0 + 1e-6)) as f32;
        assert_eq!((grads[1], grads[CHUNK + 4], grads[CHUNK + 9]), (3.0 * factor, 4.0 * factor, 100.0));
    }

    #[test]
    fn a_gradient_that_is_not_finite_is_reported_and_kept() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut grads = vec![20.0, bad, 1.0];
            assert_eq!(clip_global_norm(&mut grads, &[slot(0, 3)], 10.0), Err(NonFiniteGradient));
            assert_eq!((grads[0], grads[2]), (20.0, 1.0));
        }
    }
}
