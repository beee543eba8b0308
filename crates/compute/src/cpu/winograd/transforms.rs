//! Tiles of tensors to matrices and back, vectorised over channels.
//!
//! A transform has two passes: along rows, then along columns.

use super::super::element::Element;
use super::super::elementwise::for_channels;
use super::super::simd::{MAX_LANES, Simd, dispatch};
use super::points::{IN, OUT, result, result_grad, source};
use super::window::Window;

/// Elements that [`source_strip`] and the groups' transforms need for what lies between their two passes, for `tiles` tiles.
pub(super) fn between(tiles: usize) -> usize {
    (tiles * IN).max(2 * IN) * IN * MAX_LANES
}

/// The first pass over a tile of the source: `n` channels from `c` on of `rows` rows, each transformed to `IN` vectors. They go
/// through memory, not by the compiler's choice of registers, of which there are too few for either pass after the other.
#[inline(always)]
unsafe fn source_rows<S: Simd, T: Element>(from: &Window<T>, rows: usize, c: usize, n: usize, to: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        for i in 0..rows {
            let row = source::<S>(T::GROUP == 1, from.row::<S, IN>(i, c, n));
            store_row::<S, IN>(row, to.add(i * IN * S::LANES));
        }
    }
}

/// The same over a tile of the result's gradient.
#[inline(always)]
unsafe fn result_grad_rows<S: Simd, T: Element>(from: &Window<T>, c: usize, n: usize, to: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe {
        for i in 0..OUT {
            let row = result_grad::<S>(from.row::<S, OUT>(i, c, n));
            store_row::<S, IN>(row, to.add(i * IN * S::LANES));
        }
    }
}

#[inline(always)]
unsafe fn store_row<S: Simd, const N: usize>(row: [S::V; N], to: *mut f32) {
    for (j, v) in row.into_iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { S::store(to.add(j * S::LANES), v) };
    }
}

/// Column `j` of `N` rows of `IN` vectors.
#[inline(always)]
unsafe fn load_column<S: Simd, const N: usize>(rows: *const f32, j: usize) -> [S::V; N] {
    // SAFETY: the caller's promise.
    unsafe {
        let mut column = [S::zero(); N];
        for (i, v) in column.iter_mut().enumerate() {
            *v = S::load(rows.add((i * IN + j) * S::LANES));
        }
        column
    }
}

dispatch! {
    /// A strip of `tiles` tiles of the source, one below the other, whose rows that two of them share are transformed once: to
    /// their `POINTS` vectors of channels, `to_stride` apart, of tiles `tile_step` apart. `between`: see [`between`].
    fn source_strip[T](
        from: Window<T>, tiles: usize, channels: usize, between: *mut f32, to: *mut T, to_stride: usize, tile_step: usize,
    ) = source_strip_impl
}

#[inline(always)]
unsafe fn source_strip_impl<S: Simd, T: Element>(
    from: Window<T>,
    tiles: usize,
    channels: usize,
    between: *mut f32,
    to: *mut T,
    to_stride: usize,
    tile_step: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for_channels!(S, channels, |c, n| {
            source_rows::<S, T>(&from, tiles * OUT + IN - OUT, c, n, between);
            for t in 0..tiles {
                let rows = between.add(t * OUT * IN * S::LANES);
                for j in 0..IN {
                    let column = source::<S>(true, load_column::<S, IN>(rows, j));
                    for (i, v) in column.into_iter().enumerate() {
                        T::store_n::<S>(to.add((i * IN + j) * to_stride + t * tile_step + c), v, n);
                    }
                }
            }
        })
    }
}

dispatch! {
    /// A group of tiles of the source ([`Element::GROUP`]; of one, the second is not read) to `POINTS` vectors of groups.
    fn source_group[T](
        from: [Window<T>; 2], channels: usize, between: *mut f32, to: *mut T, to_stride: usize,
    ) = source_group_impl
}

#[inline(always)]
unsafe fn source_group_impl<S: Simd, T: Element>(
    from: [Window<T>; 2],
    channels: usize,
    between: *mut f32,
    to: *mut T,
    to_stride: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for_channels!(S, channels, |c, n| {
            let other = between.add(IN * IN * S::LANES);
            source_rows::<S, T>(&from[0], IN, c, n, between);
            if T::GROUP > 1 {
                source_rows::<S, T>(&from[1], IN, c, n, other);
            }
            for j in 0..IN {
                let first = source::<S>(T::GROUP == 1, load_column::<S, IN>(between, j));
                let second = if T::GROUP > 1 {
                    source::<S>(T::GROUP == 1, load_column::<S, IN>(other, j))
                } else {
                    first
                };
                let to = to.add(j * to_stride + c * T::GROUP);
                store_groups::<S, T, IN>([first, second], to, IN * to_stride, n);
            }
        })
    }
}

dispatch! {
    /// The same of the result's gradient.
    fn result_grad_group[T](
        from: [Window<T>; 2], channels: usize, between: *mut f32, to: *mut T, to_stride: usize,
    ) = result_grad_group_impl
}

#[inline(always)]
unsafe fn result_grad_group_impl<S: Simd, T: Element>(
    from: [Window<T>; 2],
    channels: usize,
    between: *mut f32,
    to: *mut T,
    to_stride: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for_channels!(S, channels, |c, n| {
            let other = between.add(OUT * IN * S::LANES);
            result_grad_rows::<S, T>(&from[0], c, n, between);
            if T::GROUP > 1 {
                result_grad_rows::<S, T>(&from[1], c, n, other);
            }
            for j in 0..IN {
                let first = result_grad::<S>(load_column::<S, OUT>(between, j));
                let second =
                    if T::GROUP > 1 { result_grad::<S>(load_column::<S, OUT>(other, j)) } else { first };
                let to = to.add(j * to_stride + c * T::GROUP);
                store_groups::<S, T, IN>([first, second], to, IN * to_stride, n);
            }
        })
    }
}

/// Stores a column's vectors as groups, `step` apart; the second is not used where groups have one value.
#[inline(always)]
pub(super) unsafe fn store_groups<S: Simd, T: Element, const N: usize>(
    [first, second]: [[S::V; N]; 2],
    to: *mut T,
    step: usize,
    n: usize,
) {
    for i in 0..N {
        // SAFETY: the caller's promise; a group has the bits of a float32.
        unsafe { S::store_n(to.add(i * step).cast(), T::group::<S>(first[i], second[i]), n) };
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
            let start = bias.map_or(S::zero(), |b| S::load_n(b.add(c), n));
            // Two columns at a time, so that all fits into registers: the even ones are formed from sums, the odd ones
            // from differences.
            for odd in [false, true] {
                let (mut first, mut second) = ([S::zero(); IN], [S::zero(); IN]);
                for (i, (a, b)) in first.iter_mut().zip(&mut second).enumerate() {
                    let mut m = [S::zero(); IN];
                    for (j, m) in m.iter_mut().enumerate() {
                        *m = S::load_n(from.add((i * IN + j) * from_stride + c), n);
                    }
                    let row = result::<S>(m);
                    (*a, *b) = (row[usize::from(odd)], row[2 + usize::from(odd)]);
                }
                for (k, half) in [first, second].into_iter().enumerate() {
                    let j = 2 * k + usize::from(odd);
                    if j >= size.1 {
                        continue;
                    }
                    for (i, v) in result::<S>(half).into_iter().enumerate().take(size.0) {
                        let to = to.add(i * steps.0 + j * steps.1 + c);
                        let v = S::add(v, if add { T::load_n::<S>(to, n) } else { start });
                        T::store_n::<S>(to, v, n);
                    }
                }
            }
        })
    }
}
