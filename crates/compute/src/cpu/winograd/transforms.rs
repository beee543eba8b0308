//! The transforms of F(4x4, 3x3), vectorised over channels.
//!
//! Toom-Cook with the points 0, ±p, ±q and infinity, p = 1 / sqrt(2) and q = sqrt(2). The usual points 0, ±1, ±2 need no
//! more operations but cost four times the accuracy: these are reciprocal, which keeps all three matrices' entries
//! near 1 (their squares are 1/2 and 2, so that most factors are exact).

// Columns of arrays of arrays: an iterator over rows would not say what is meant.
#![allow(clippy::needless_range_loop)]

use super::super::element::Element;
use super::super::elementwise::for_channels;
use super::super::simd::{Simd, dispatch};

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

/// B^T d: what a row or column of the source becomes.
#[inline(always)]
unsafe fn source<S: Simd>(d: [S::V; 6]) -> [S::V; 6] {
    // SAFETY: vectors of the caller's instruction set.
    unsafe {
        let s = |x| S::splat(x);
        let (even_p, odd_p) = (S::fma(s(-2.0), d[2], d[4]), S::fma(s(-2.0), d[1], d[3]));
        let (even_q, odd_q) = (S::fma(s(-0.5), d[2], d[4]), S::fma(s(-0.5), d[1], d[3]));
        [
            S::fma(s(-2.5), d[2], S::add(d[0], d[4])),
            S::fma(s(P), odd_p, even_p),
            S::fma(s(-P), odd_p, even_p),
            S::fma(s(Q), odd_q, even_q),
            S::fma(s(-Q), odd_q, even_q),
            S::fma(s(-2.5), d[3], S::add(d[1], d[5])),
        ]
    }
}

/// A^T m: what products become.
#[inline(always)]
unsafe fn result<S: Simd>(m: [S::V; 6]) -> [S::V; 4] {
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
unsafe fn result_grad<S: Simd>(y: [S::V; 4]) -> [S::V; 6] {
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
unsafe fn kernel<S: Simd>(g: [S::V; 3]) -> [S::V; 6] {
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
unsafe fn kernel_grad<S: Simd>(u: [S::V; 6]) -> [S::V; 3] {
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

dispatch! {
    /// One tile of the source to its `POINTS` vectors of channels, `to_stride` apart. `steps`: elements between the
    /// tile's rows and between its columns. `half`: stored as that half of pairs of tiles ([`Element::store_half`]).
    fn source_tile[T](
        from: *const T, steps: (usize, usize), channels: usize, to: *mut T, to_stride: usize, half: Option<usize>,
    ) = source_tile_impl
}

#[inline(always)]
unsafe fn source_tile_impl<S: Simd, T: Element>(
    from: *const T,
    steps: (usize, usize),
    channels: usize,
    to: *mut T,
    to_stride: usize,
    half_of_pair: Option<usize>,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for_channels!(S, channels, |c, n| {
            let mut half = [[S::zero(); IN]; IN];
            for (i, half) in half.iter_mut().enumerate() {
                let mut d = [S::zero(); IN];
                for (j, d) in d.iter_mut().enumerate() {
                    *d = T::load_n::<S>(from.add(i * steps.0 + j * steps.1 + c), n);
                }
                *half = source::<S>(d);
            }
            for j in 0..IN {
                let column =
                    source::<S>([half[0][j], half[1][j], half[2][j], half[3][j], half[4][j], half[5][j]]);
                for (i, v) in column.into_iter().enumerate() {
                    let to = to.add((i * IN + j) * to_stride);
                    match half_of_pair {
                        None => T::store_n::<S>(to.add(c), v, n),
                        Some(half) => T::store_half::<S>(to.add(c * T::GROUP), half, v, n),
                    }
                }
            }
        })
    }
}

dispatch! {
    /// One tile of the result's gradient to its `POINTS` vectors of channels.
    /// As that half of pairs of tiles.
    fn result_grad_tile[T](
        from: *const T, steps: (usize, usize), channels: usize, to: *mut T, to_stride: usize, half: usize,
    ) = result_grad_tile_impl
}

#[inline(always)]
unsafe fn result_grad_tile_impl<S: Simd, T: Element>(
    from: *const T,
    steps: (usize, usize),
    channels: usize,
    to: *mut T,
    to_stride: usize,
    half_of_pair: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for_channels!(S, channels, |c, n| {
            let mut half = [[S::zero(); IN]; OUT];
            for (i, half) in half.iter_mut().enumerate() {
                let mut y = [S::zero(); OUT];
                for (j, y) in y.iter_mut().enumerate() {
                    *y = T::load_n::<S>(from.add(i * steps.0 + j * steps.1 + c), n);
                }
                *half = result_grad::<S>(y);
            }
            for j in 0..IN {
                let column = result_grad::<S>([half[0][j], half[1][j], half[2][j], half[3][j]]);
                for (i, v) in column.into_iter().enumerate() {
                    let to = to.add((i * IN + j) * to_stride + c * T::GROUP);
                    T::store_half::<S>(to, half_of_pair, v, n);
                }
            }
        })
    }
}

/// Where a tile of the result goes.
#[derive(Clone, Copy)]
pub(super) struct Target<T> {
    pub to: *mut T,
    /// Elements between rows and between columns.
    pub steps: (usize, usize),
    /// Rows and columns that exist.
    pub size: (usize, usize),
    /// A row that is added.
    pub bias: Option<*const f32>,
    /// Whether what is there is added.
    pub add: bool,
}

dispatch! {
    /// One tile's products, `from_stride` apart, to the result.
    fn result_tile[T](from: *const f32, from_stride: usize, channels: usize, target: Target<T>) = result_tile_impl
}

#[inline(always)]
unsafe fn result_tile_impl<S: Simd, T: Element>(
    from: *const f32,
    from_stride: usize,
    channels: usize,
    target: Target<T>,
) {
    let Target { to, steps, size, bias, add } = target;
    // SAFETY: the caller's promise.
    unsafe {
        for_channels!(S, channels, |c, n| {
            let mut half = [[S::zero(); OUT]; IN];
            for (i, half) in half.iter_mut().enumerate() {
                let mut m = [S::zero(); IN];
                for (j, m) in m.iter_mut().enumerate() {
                    *m = S::load_n(from.add((i * IN + j) * from_stride + c), n);
                }
                *half = result::<S>(m);
            }
            let start = bias.map_or(S::zero(), |b| S::load_n(b.add(c), n));
            for j in 0..size.1 {
                let column =
                    result::<S>([half[0][j], half[1][j], half[2][j], half[3][j], half[4][j], half[5][j]]);
                for (i, v) in column.into_iter().enumerate().take(size.0) {
                    let to = to.add(i * steps.0 + j * steps.1 + c);
                    let v = S::add(v, if add { T::load_n::<S>(to, n) } else { start });
                    T::store_n::<S>(to, v, n);
                }
            }
        })
    }
}

dispatch! {
    /// Kernels to their `POINTS` vectors, for `channels` channels: the tap (ky, kx) at `taps[3 ky + kx]`; each value times
    /// `scale`'s; stored as that half of pairs of rows.
    fn kernel_row[T](
        taps: [*const f32; 9], channels: usize, scale: Option<*const f32>, to: *mut T, to_stride: usize, half: usize,
    ) = kernel_row_impl
}

#[inline(always)]
unsafe fn kernel_row_impl<S: Simd, T: Element>(
    taps: [*const f32; 9],
    channels: usize,
    scale: Option<*const f32>,
    to: *mut T,
    to_stride: usize,
    half_of_pair: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for_channels!(S, channels, |c, n| {
            let factor = scale.map_or(S::splat(1.0), |s| S::load_n(s.add(c), n));
            let mut half = [[S::zero(); IN]; 3];
            for (ky, half) in half.iter_mut().enumerate() {
                let tap = |kx: usize| S::mul(S::load_n(taps[3 * ky + kx].add(c), n), factor);
                *half = kernel::<S>([tap(0), tap(1), tap(2)]);
            }
            for j in 0..IN {
                let column = kernel::<S>([half[0][j], half[1][j], half[2][j]]);
                for (i, v) in column.into_iter().enumerate() {
                    let to = to.add((i * IN + j) * to_stride + c * T::GROUP);
                    T::store_half::<S>(to, half_of_pair, v, n);
                }
            }
        })
    }
}

dispatch! {
    /// The products' gradients, `from_stride` apart, to the kernel's: the tap (ky, kx) at `to + (3 ky + kx) * to_stride`.
    fn kernel_grad_row(
        from: *const f32, from_stride: usize, channels: usize, to: *mut f32, to_stride: usize,
    ) = kernel_grad_row_impl
}

#[inline(always)]
unsafe fn kernel_grad_row_impl<S: Simd>(
    from: *const f32,
    from_stride: usize,
    channels: usize,
    to: *mut f32,
    to_stride: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for_channels!(S, channels, |c, n| {
            let mut half = [[S::zero(); 3]; IN];
            for (i, half) in half.iter_mut().enumerate() {
                let mut u = [S::zero(); IN];
                for (j, u) in u.iter_mut().enumerate() {
                    *u = S::load_n(from.add((i * IN + j) * from_stride + c), n);
                }
                *half = kernel_grad::<S>(u);
            }
            for kx in 0..3 {
                let column = kernel_grad::<S>([
                    half[0][kx],
                    half[1][kx],
                    half[2][kx],
                    half[3][kx],
                    half[4][kx],
                    half[5][kx],
                ]);
                for (ky, v) in column.into_iter().enumerate() {
                    S::store_n(to.add((3 * ky + kx) * to_stride + c), v, n);
                }
            }
        })
    }
}
