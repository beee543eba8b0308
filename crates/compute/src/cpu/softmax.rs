//! Softmax of rows of scores, and its gradient; the factors of whole rows are left to whoever stores the result.

use super::element::Element;
use super::elementwise::for_channels;
use super::simd::{Simd, dispatch};

dispatch! {
    /// Each row of `rows` x `cols` to `e = exp(scale * (x - the row's largest))`; `inverse[row] = 1 / sum(e)`.
    fn exp_rows(data: *mut f32, stride: usize, rows: usize, cols: usize, scale: f32, inverse: *mut f32) = exp_rows_impl
}

#[inline(always)]
unsafe fn exp_rows_impl<S: Simd>(
    data: *mut f32,
    stride: usize,
    rows: usize,
    cols: usize,
    scale: f32,
    inverse: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let whole = cols - cols % S::LANES;
        for r in 0..rows {
            let row = data.add(r * stride);
            let mut mosts = [S::splat(f32::NEG_INFINITY); 2];
            for (v, c) in (0..whole).step_by(S::LANES).enumerate() {
                mosts[v % 2] = S::max(mosts[v % 2], S::load(row.add(c)));
            }
            let mut most = S::reduce_max(S::max(mosts[0], mosts[1]));
            for c in whole..cols {
                most = most.max(*row.add(c));
            }
            let scale_v = S::splat(scale);
            let offset = S::splat(-most * scale);
            let mut totals = [S::zero(); 2];
            for (v, c) in (0..whole).step_by(S::LANES).enumerate() {
                let e = S::exp(S::fma(S::load(row.add(c)), scale_v, offset));
                S::store(row.add(c), e);
                totals[v % 2] = S::add(totals[v % 2], e);
            }
            let mut total = S::reduce_add(S::add(totals[0], totals[1]));
            if whole < cols {
                let n = cols - whole;
                let e = S::exp(S::fma(S::load_n(row.add(whole), n), scale_v, offset));
                S::store_n(row.add(whole), e, n);
                for c in whole..cols {
                    total += *row.add(c);
                }
            }
            *inverse.add(r) = 1.0 / total;
        }
    }
}

dispatch! {
    /// Each row times its factor (1 where none are given), stored or added.
    fn store_rows[T](
        from: (*const f32, usize), to: (*mut T, usize), rows: usize, cols: usize, factors: Option<*const f32>,
        add: bool,
    ) = store_rows_impl
}

#[inline(always)]
unsafe fn store_rows_impl<S: Simd, T: Element>(
    from: (*const f32, usize),
    to: (*mut T, usize),
    rows: usize,
    cols: usize,
    factors: Option<*const f32>,
    add: bool,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for r in 0..rows {
            let factor = S::splat(factors.map_or(1.0, |f| *f.add(r)));
            for_channels!(S, cols, |c, n| {
                let mut x = S::mul(S::load_n(from.0.add(r * from.1 + c), n), factor);
                let to = to.0.add(r * to.1 + c);
                if add {
                    x = S::add(x, T::load_n::<S>(to, n));
                }
                T::store_n::<S>(to, x, n)
            });
        }
    }
}

dispatch! {
    /// Each row times its factor.
    fn scale_rows[T](from: (*const T, usize), to: (*mut T, usize), rows: usize, cols: usize, factors: *const f32) =
        scale_rows_impl
}

#[inline(always)]
unsafe fn scale_rows_impl<S: Simd, T: Element>(
    from: (*const T, usize),
    to: (*mut T, usize),
    rows: usize,
    cols: usize,
    factors: *const f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for r in 0..rows {
            let factor = S::splat(*factors.add(r));
            for_channels!(S, cols, |c, n| {
                let x = T::load_n::<S>(from.0.add(r * from.1 + c), n);
                T::store_n::<S>(to.0.add(r * to.1 + c), S::mul(x, factor), n)
            });
        }
    }
}

dispatch! {
    /// Turns `g` (gradient of the probabilities `p = e * inverse`) to the gradient of the scores:
    /// `p * (g - sum(p * g)) * scale`.
    fn softmax_grad_rows(
        e: *const f32, g: *mut f32, stride: usize, rows: usize, cols: usize, scale: f32, inverse: *const f32,
    ) = softmax_grad_rows_impl
}

#[inline(always)]
unsafe fn softmax_grad_rows_impl<S: Simd>(
    e: *const f32,
    g: *mut f32,
    stride: usize,
    rows: usize,
    cols: usize,
    scale: f32,
    inverse: *const f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let whole = cols - cols % S::LANES;
        for r in 0..rows {
            let (e, g, inverse) = (e.add(r * stride), g.add(r * stride), *inverse.add(r));
            let mut dots = [S::zero(); 2];
            for (v, c) in (0..whole).step_by(S::LANES).enumerate() {
                dots[v % 2] = S::fma(S::load(e.add(c)), S::load(g.add(c)), dots[v % 2]);
            }
            let mut dot = S::reduce_add(S::add(dots[0], dots[1]));
            for c in whole..cols {
                dot += *e.add(c) * *g.add(c);
            }
            let (dot, factor) = (S::splat(dot * inverse), S::splat(scale * inverse));
            for_channels!(S, cols, |c, n| {
                let centred = S::sub(S::load_n(g.add(c), n), dot);
                S::store_n(g.add(c), S::mul(S::mul(S::load_n(e.add(c), n), factor), centred), n)
            });
        }
    }
}
