//! Newton-Schulz iteration towards the closest orthogonal matrix, in bfloat16 with float32 sums.
//!
//! With X the momentum over its Frobenius norm, five times X <- a X + (b A + c A^2) X with A = X X^T. The coefficients
//! push all singular values to between about .7 and 1.2 (Jordan et al., 2024). The values are rounded to bfloat16
//! wherever the published method, which runs in that format, rounds them.

use super::gemm::{Operand, Packed, product};
use super::slots::Matrix;

const A: f32 = 3.4445;
const B: f32 = -4.7750;
const C: f32 = 2.0315;
const STEPS: usize = 5;
const EPS: f32 = 1e-7;

/// Working memory, reused from matrix to matrix.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    x: Vec<f32>,
    next: Vec<f32>,
    gram: Vec<f32>,
    poly: Vec<f32>,
    packed: Packed,
}

/// Rounds to the nearest bfloat16, ties to even.
pub(super) fn bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    f32::from_bits(bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000)
}

/// Replaces `values` ([rows, cols]) by its nearly orthogonal form. A matrix of zeros stays zero.
///
/// The iteration commutes with transposing and with permuting rows or columns, so the arena's layout serves as it is;
/// the smaller side is made the rows.
pub(super) fn orthogonalise(matrix: &Matrix, values: &mut [f32], s: &mut Scratch) {
    let Matrix { rows, cols, .. } = *matrix;
    let flip = rows > cols;
    let (m, k) = if flip { (cols, rows) } else { (rows, cols) };
    let square: f64 = values.iter().map(|&v| f64::from(bf16(v)).powi(2)).sum();
    let norm = bf16(bf16(square.sqrt() as f32) + EPS);
    s.x.resize(m * k, 0.0);
    s.next.resize(m * k, 0.0);
    s.gram.resize(m * m, 0.0);
    s.poly.resize(m * m, 0.0);
    for (i, row) in values.chunks_exact(cols).enumerate() {
        for (j, &v) in row.iter().enumerate() {
            let at = if flip { j * rows + i } else { i * cols + j };
            s.x[at] = bf16(bf16(v) / norm);
        }
    }
    for _ in 0..STEPS {
        let x = Operand { values: &s.x, rows: m, cols: k };
        s.packed.pack_transposed(x);
        product(x, &s.packed, &mut s.gram, |_, sum| bf16(sum));
        let gram = Operand { values: &s.gram, rows: m, cols: m };
        s.packed.pack(gram);
        product(gram, &s.packed, &mut s.poly, |at, sum| bf16(B * s.gram[at] + C * sum));
        s.packed.pack(x);
        let poly = Operand { values: &s.poly, rows: m, cols: m };
        product(poly, &s.packed, &mut s.next, |at, sum| bf16(A * s.x[at] + sum));
        std::mem::swap(&mut s.x, &mut s.next);
    }
    for (i, row) in values.chunks_exact_mut(cols).enumerate() {
        for (j, v) in row.iter_mut().enumerate() {
            *v = s.x[if flip { j * rows + i } else { i * cols + j }];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_to_bfloat16() {
        assert_eq!(bf16(1.0), 1.0);
        assert_eq!(bf16(-3.3), -3.296_875);
        // Halfway between 1 and the next bfloat16 goes to the even one, as does halfway above that.
        assert_eq!(bf16(1.0 + 1.0 / 256.0), 1.0);
        assert_eq!(bf16(1.0 + 3.0 / 256.0), 1.0 + 4.0 / 256.0);
        assert_eq!(bf16(1.0 + 1.1 / 256.0), 1.0 + 2.0 / 256.0);
    }

    fn noise(i: usize) -> f32 {
        let x = (i as u32).wrapping_mul(2_654_435_761) ^ 0x5bd1_e995;
        let x = (x ^ (x >> 15)).wrapping_mul(2_246_822_519);
        (x >> 8) as f32 / (1u32 << 23) as f32 - 1.0
    }

    #[test]
    fn rows_become_nearly_orthonormal() {
        let matrix = Matrix { rows: 7, cols: 40, scale: 1.0 };
        let mut values: Vec<f32> = (0..280).map(noise).collect();
        orthogonalise(&matrix, &mut values, &mut Scratch::default());
        for a in 0..7 {
            for b in 0..7 {
                let dot: f32 = (0..40).map(|j| values[a * 40 + j] * values[b * 40 + j]).sum();
                if a == b {
                    assert!((0.4..1.5).contains(&dot), "row {a}: {dot}");
                } else {
                    assert!(dot.abs() < 0.3, "rows {a} {b}: {dot}");
                }
            }
        }
    }

    #[test]
    fn transposing_commutes_bit_for_bit() {
        let wide: Vec<f32> = (0..12 * 20).map(noise).collect();
        let mut tall: Vec<f32> = (0..20 * 12).map(|i| wide[(i % 12) * 20 + i / 12]).collect();
        let mut wide = wide;
        let mut scratch = Scratch::default();
        orthogonalise(&Matrix { rows: 12, cols: 20, scale: 1.0 }, &mut wide, &mut scratch);
        orthogonalise(&Matrix { rows: 20, cols: 12, scale: 1.0 }, &mut tall, &mut scratch);
        // The norm is summed in another order, in double precision: the same after rounding to bfloat16.
        for (i, &v) in tall.iter().enumerate() {
            assert_eq!(v.to_bits(), wide[(i % 12) * 20 + i / 12].to_bits());
        }
    }

    #[test]
    fn zeros_stay_zero() {
        let mut values = vec![0.0; 12];
        orthogonalise(&Matrix { rows: 3, cols: 4, scale: 1.0 }, &mut values, &mut Scratch::default());
        assert_eq!(values, vec![0.0; 12]);
    }
}
