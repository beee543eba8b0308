//! Kernels to the points' matrices, and those matrices' gradients back to the kernel's.

use super::super::element::Element;
use super::super::elementwise::for_channels;
use super::super::simd::{Simd, dispatch, prefetch};
use super::points::{IN, column, kernel, kernel_grad};
use super::transforms::store_groups;

dispatch! {
    /// Kernels to their `POINTS` vectors of groups of rows, for `channels` channels: the tap (ky, kx) at `taps[3 ky + kx]`;
    /// each value times `scale`'s. `next`: elements to a group's second row, where there is one.
    fn kernel_rows[T](
        taps: [*const f32; 9], next: Option<usize>, channels: usize, scale: Option<*const f32>, to: *mut T,
        to_stride: usize,
    ) = kernel_rows_impl
}

/// `n` channels from `at` on of a kernel, its rows transformed.
#[inline(always)]
unsafe fn kernel_taps<S: Simd>(taps: [*const f32; 9], at: usize, n: usize, factor: S::V) -> [[S::V; IN]; 3] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut rows = [[S::zero(); IN]; 3];
        for (ky, row) in rows.iter_mut().enumerate() {
            let mut g = [S::zero(); 3];
            for (kx, g) in g.iter_mut().enumerate() {
                *g = S::mul(S::load_n(taps[3 * ky + kx].add(at), n), factor);
            }
            *row = kernel::<S>(g);
        }
        rows
    }
}

#[inline(always)]
unsafe fn kernel_rows_impl<S: Simd, T: Element>(
    taps: [*const f32; 9],
    next: Option<usize>,
    channels: usize,
    scale: Option<*const f32>,
    to: *mut T,
    to_stride: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for_channels!(S, channels, |c, n| {
            let factor = scale.map_or(S::splat(1.0), |s| S::load_n(s.add(c), n));
            let first = kernel_taps::<S>(taps, c, n, factor);
            let second = match next {
                Some(next) if T::GROUP == 2 => kernel_taps::<S>(taps, next + c, n, factor),
                _ => [[S::zero(); IN]; 3],
            };
            for j in 0..IN {
                let column = [kernel::<S>(column(&first, j)), kernel::<S>(column(&second, j))];
                store_groups::<S, T, IN>(column, to.add(j * to_stride + c * T::GROUP), IN * to_stride, n);
            }
        })
    }
}

dispatch! {
    /// The products' gradients, `from_stride` apart, to the kernel's: the tap (ky, kx) at `to + (3 ky + kx) * steps.0`; with
    /// `add` to what is there. `steps.1`: elements to the row that is written next, whose lines are asked for: stores to lines
    /// that are not at hand take longer than all else here.
    fn kernel_grad_row(
        from: *const f32, from_stride: usize, channels: usize, to: *mut f32, steps: (usize, usize), add: bool,
    ) = kernel_grad_row_impl
}

#[inline(always)]
unsafe fn kernel_grad_row_impl<S: Simd>(
    from: *const f32,
    from_stride: usize,
    channels: usize,
    to: *mut f32,
    steps: (usize, usize),
    add: bool,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for_channels!(S, channels, |c, n| {
            for tap in 0..9 {
                prefetch(to.wrapping_add(tap * steps.0 + steps.1 + c));
            }
            let mut half = [[S::zero(); 3]; IN];
            for (i, half) in half.iter_mut().enumerate() {
                let mut u = [S::zero(); IN];
                for (j, u) in u.iter_mut().enumerate() {
                    *u = S::load_n(from.add((i * IN + j) * from_stride + c), n);
                }
                *half = kernel_grad::<S>(u);
            }
            for kx in 0..3 {
                for (ky, v) in kernel_grad::<S>(column(&half, kx)).into_iter().enumerate() {
                    let to = to.add((3 * ky + kx) * steps.0 + c);
                    S::store_n(to, if add { S::add(v, S::load_n(to, n)) } else { v }, n);
                }
            }
        })
    }
}
