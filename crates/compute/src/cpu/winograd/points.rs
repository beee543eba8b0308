//! F(4x4, 3x3) along one axis.
//!
//! Toom-Cook with the points 0, ±p, ±q and infinity, p = 1 / sqrt(2) and q = sqrt(2). The usual points 0, ±1, ±2 need no
//! more operations but cost four times the accuracy: these are reciprocal, which keeps all three matrices' entries
//! near 1 (their squares are 1/2 and 2, so that most factors are exact).

use super::super::simd::Simd;

/// Rows and columns of a tile of the source, and of products.
pub(super) const IN: usize = 6;
/// Rows and columns of a tile of the destination.
pub(super) const OUT: usize = 4;
/// Products a tile and pair of channels.
pub(super) const POINTS: usize = IN * IN;

const P: f32 = std::f32::consts::FRAC_1_SQRT_2;
const Q: f32 = std::f32::consts::SQRT_2;
const P3: f32 = P * 0.5;
const Q3: f32 = Q * 2.0;

/// `even + factor * odd` and `even - factor * odd`.
#[inline(always)]
unsafe fn both_signs<S: Simd>(fused: bool, factor: f32, odd: S::V, even: S::V) -> (S::V, S::V) {
    // SAFETY: vectors of the caller's instruction set.
    unsafe {
        if fused {
            return (S::fma(S::splat(factor), odd, even), S::fma(S::splat(-factor), odd, even));
        }
        let odd = S::mul(S::splat(factor), odd);
        (S::add(even, odd), S::sub(even, odd))
    }
}

/// B^T d: what a row or column of the source becomes. `fused`: by fused operations only. AMD's Zen 4 reads a fused one's
/// third operand where it reads what is stored, so that the two wait for each other: where whole vectors are stored, more
/// operations that are not fused are faster. float32 is always rounded as the fused ones do.
#[inline(always)]
pub(super) unsafe fn source<S: Simd>(fused: bool, d: [S::V; 6]) -> [S::V; 6] {
    // SAFETY: as above.
    unsafe {
        let s = |x| S::splat(x);
        let (even_p, odd_p) = (S::fma(s(-2.0), d[2], d[4]), S::fma(s(-2.0), d[1], d[3]));
        let (even_q, odd_q) = (S::fma(s(-0.5), d[2], d[4]), S::fma(s(-0.5), d[1], d[3]));
        let (plus_p, minus_p) = both_signs::<S>(fused, P, odd_p, even_p);
        let (plus_q, minus_q) = both_signs::<S>(fused, Q, odd_q, even_q);
        [
            S::fma(s(-2.5), d[2], S::add(d[0], d[4])),
            plus_p,
            minus_p,
            plus_q,
            minus_q,
            S::fma(s(-2.5), d[3], S::add(d[1], d[5])),
        ]
    }
}

/// A^T m: what products become.
#[inline(always)]
pub(super) unsafe fn result<S: Simd>(m: [S::V; 6]) -> [S::V; 4] {
    // SAFETY: as above.
    unsafe {
        let s = |x| S::splat(x);
        let (sum_p, difference_p) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        let (sum_q, difference_q) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
        [
            S::add(m[0], S::add(sum_p, sum_q)),
            S::fma(s(P), difference_p, S::mul(s(Q), difference_q)),
            S::fma(s(0.5), sum_p, S::mul(s(2.0), sum_q)),
            S::fma(s(P3), difference_p, S::fma(s(Q3), difference_q, m[5])),
        ]
    }
}

/// A y: what a row or column of the result's gradient becomes.
#[inline(always)]
pub(super) unsafe fn result_grad<S: Simd>(y: [S::V; 4]) -> [S::V; 6] {
    // SAFETY: as above.
    unsafe {
        let s = |x| S::splat(x);
        let (even_p, even_q) = (S::fma(s(0.5), y[2], y[0]), S::fma(s(2.0), y[2], y[0]));
        let odd_p = S::fma(s(P), y[1], S::mul(s(P3), y[3]));
        let odd_q = S::fma(s(Q), y[1], S::mul(s(Q3), y[3]));
        [
            y[0],
            S::add(even_p, odd_p),
            S::sub(even_p, odd_p),
            S::add(even_q, odd_q),
            S::sub(even_q, odd_q),
            y[3],
        ]
    }
}

/// G g: what a row or column of a kernel becomes.
#[inline(always)]
pub(super) unsafe fn kernel<S: Simd>(g: [S::V; 3]) -> [S::V; 6] {
    // SAFETY: as above.
    unsafe {
        let s = |x| S::splat(x);
        let even_p = S::fma(s(-1.0 / 3.0), g[2], S::mul(s(-2.0 / 3.0), g[0]));
        let even_q = S::fma(s(1.0 / 3.0), g[2], S::mul(s(1.0 / 6.0), g[0]));
        let (p, q) = (s(-P * 2.0 / 3.0), s(Q / 6.0));
        [
            g[0],
            S::fma(p, g[1], even_p),
            S::sub(even_p, S::mul(p, g[1])),
            S::fma(q, g[1], even_q),
            S::sub(even_q, S::mul(q, g[1])),
            g[2],
        ]
    }
}

/// G^T u: what the products' gradients become.
#[inline(always)]
pub(super) unsafe fn kernel_grad<S: Simd>(u: [S::V; 6]) -> [S::V; 3] {
    // SAFETY: as above.
    unsafe {
        let s = |x| S::splat(x);
        let (sum_p, difference_p) = (S::add(u[1], u[2]), S::sub(u[1], u[2]));
        let (sum_q, difference_q) = (S::add(u[3], u[4]), S::sub(u[3], u[4]));
        [
            S::fma(s(-2.0 / 3.0), sum_p, S::fma(s(1.0 / 6.0), sum_q, u[0])),
            S::fma(s(-P * 2.0 / 3.0), difference_p, S::mul(s(Q / 6.0), difference_q)),
            S::fma(s(-1.0 / 3.0), sum_p, S::fma(s(1.0 / 3.0), sum_q, u[5])),
        ]
    }
}

/// A column of rows of vectors. Not by `map`: its closure would be compiled without the instruction set.
#[inline(always)]
pub(super) fn column<V: Copy, const W: usize, const N: usize>(rows: &[[V; W]; N], j: usize) -> [V; N] {
    let mut column = [rows[0][j]; N];
    for (v, row) in column.iter_mut().zip(rows) {
        *v = row[j];
    }
    column
}
