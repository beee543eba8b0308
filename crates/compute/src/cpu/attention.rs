//! Self-attention by runs of positions: a work item is one image's run of one head.
//!
//! Scores are formed by blocks of rows that stay in the first-level cache; softmax's division is left to the rows of the
//! result, which are shorter. The backward pass forms the scores again rather than keep them. All of it is float32: of
//! other stored elements a run's matrices are copied first.

use rayon::prelude::*;

use crate::graph::Attention;

use super::element::Element;
use super::elementwise::for_channels;
use super::pack::to_floats;
use super::scratch::{Tensor, with_scratch};
use super::simd::{Isa, Simd, dispatch};
use super::tile::{Init, Tap, Tile, Tiles};
use super::transpose::transpose;

/// A matrix in memory: first element, elements between rows.
#[derive(Clone, Copy)]
struct Matrix<T = f32> {
    data: *mut T,
    stride: usize,
}

impl<T: Element> Matrix<T> {
    /// Address of element (i, j).
    unsafe fn at(self, i: usize, j: usize) -> *mut T {
        // SAFETY: the caller's promise that the element exists.
        unsafe { self.data.add(i * self.stride + j) }
    }

    /// The matrix from row i on.
    unsafe fn rows_from(self, i: usize) -> Matrix<T> {
        // SAFETY: the caller's promise that the row exists.
        Matrix { data: unsafe { self.at(i, 0) }, ..self }
    }

    /// The matrix in float32: itself, or its first rows and columns copied to `spare` ([`copied`] elements).
    unsafe fn floats(self, isa: Isa, rows: usize, cols: usize, spare: *mut f32) -> Matrix {
        let own = self.own_or(spare, cols);
        if T::GROUP != 1 {
            for i in 0..rows {
                // SAFETY: the caller's promise that the elements exist and `spare` has room for them.
                unsafe { to_floats(isa, self.at(i, 0).cast_const(), cols, own.at(i, 0)) };
            }
        }
        own
    }

    /// Where float32 results of `cols` columns go: to the matrix itself, or to `spare`.
    fn own_or(self, spare: *mut f32, cols: usize) -> Matrix {
        if T::GROUP == 1 {
            Matrix { data: self.data.cast(), stride: self.stride }
        } else {
            Matrix { data: spare, stride: row_len(cols) }
        }
    }

    /// Takes in what [`Matrix::own_or`] gave room for.
    unsafe fn deliver(self, isa: Isa, from: Matrix, (rows, cols): (usize, usize), add: bool) {
        if T::GROUP != 1 {
            // SAFETY: the caller's promise that both have the elements.
            unsafe {
                store_rows(isa, (from.data, from.stride), (self.data, self.stride), rows, cols, None, add);
            }
        }
    }
}

/// Elements between rows of a copied matrix: whole panels, so that they may be read to their end.
fn row_len(cols: usize) -> usize {
    cols.next_multiple_of(32)
}

/// float32 elements that copies of `rows` rows of these lengths take.
fn copied<T: Element>(rows: usize, cols: &[usize]) -> usize {
    if T::GROUP == 1 { 0 } else { rows * cols.iter().map(|&c| row_len(c)).sum::<usize>() }
}

/// Which operand of a product is transposed.
#[derive(Clone, Copy, PartialEq)]
enum Product {
    /// C[i][j] (+)= sum_k A[i][k] B[k][j].
    Plain,
    /// C[i][j] (+)= sum_k A[k][i] B[k][j].
    TransposedA,
}

/// A matrix product of operands in cache.
///
/// # Safety
/// Matrices must be valid for the sizes; B readable, C writable to the last column only.
unsafe fn multiply(
    tiles: &Tiles,
    kind: Product,
    (m, n, k): (usize, usize, usize),
    a: Matrix,
    b: Matrix,
    c: Matrix,
    add: bool,
) {
    for col in (0..n).step_by(tiles.panel()) {
        for (i, rows) in tiles.split_rows(m).iter() {
            // SAFETY: the caller's promise.
            unsafe {
                let from = if kind == Product::Plain { a.at(i, 0) } else { a.at(0, i) };
                let taps = [Tap { a: from, b: b.at(0, col) }];
                let plain = kind == Product::Plain;
                let tile = Tile {
                    taps: &taps,
                    k,
                    a_i: if plain { a.stride } else { 1 },
                    a_k: if plain { 1 } else { a.stride },
                    b_k: b.stride,
                    c: c.at(i, col),
                    c_i: c.stride,
                    cols: tiles.panel().min(n - col),
                    init: if add { Init::C } else { Init::Zero },
                };
                if plain { tiles.along_k(rows, &tile) } else { tiles.along_i(rows, &tile) }
            }
        }
    }
}

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

/// One work item's place: the matrices of a run and head in a qkv tensor, and in an output tensor.
struct Run {
    len: usize,
    first: usize,
    head: usize,
}

struct Shape {
    attention: Attention,
    len: usize,
    items: usize,
}

impl Shape {
    fn new<T: Copy>(attention: Attention, qkv: Tensor<T>) -> Shape {
        let [n, h, w, _] = qkv.shape;
        Shape { attention, len: h * w / attention.areas, items: n * attention.areas * attention.heads }
    }

    fn run(&self, item: usize) -> Run {
        let heads = self.attention.heads;
        Run { len: self.len, first: item / heads * self.len, head: item % heads }
    }

    /// Query, key and value matrices of a run.
    unsafe fn parts<T: Copy>(&self, t: Tensor<T>, run: &Run) -> [Matrix<T>; 3] {
        let a = &self.attention;
        // SAFETY: the run's pixels and the head's channels exist.
        let data = unsafe { t.pixel(run.first).add(run.head * (2 * a.key_dim + a.value_dim)) };
        let stride = t.pixel_stride;
        // SAFETY: as above.
        unsafe {
            [
                Matrix { data, stride },
                Matrix { data: data.add(a.key_dim), stride },
                Matrix { data: data.add(2 * a.key_dim), stride },
            ]
        }
    }

    unsafe fn output<T: Copy>(&self, t: Tensor<T>, run: &Run) -> Matrix<T> {
        // SAFETY: as above.
        let data = unsafe { t.pixel(run.first).add(run.head * self.attention.value_dim) };
        Matrix { data, stride: t.pixel_stride }
    }

    fn scale(&self) -> f32 {
        1.0 / (self.attention.key_dim as f32).sqrt()
    }

    /// Row length of score matrices: whole vectors, so that panels may be read to their end.
    fn stride(&self) -> usize {
        self.len.next_multiple_of(32)
    }
}

/// Positions whose scores are formed at a time: they stay in the first-level cache.
const BLOCK: usize = 42;

/// `(first, count)` of each block of a run's positions.
fn blocks(len: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..len).step_by(BLOCK).map(move |i| (i, BLOCK.min(len - i)))
}

/// `y = softmax(q k^T / sqrt(key_dim)) v` for each run and head.
///
/// # Safety
/// Tensors must be valid, shaped as [`Attention`] says; qkv's memory readable a panel beyond its last channel.
pub(crate) unsafe fn forward<T: Element>(isa: Isa, attention: Attention, qkv: Tensor<T>, y: Tensor<T>) {
    let shape = Shape::new(attention, qkv);
    let tiles = Tiles::of(isa);
    let stride = shape.stride();
    let (kd, vd) = (attention.key_dim, attention.value_dim);
    (0..shape.items).into_par_iter().for_each(|item| {
        let run = shape.run(item);
        let l = run.len;
        let own = stride * (BLOCK + kd) + BLOCK + 128;
        with_scratch(own + copied::<T>(l, &[kd, kd, vd]) + copied::<T>(BLOCK, &[vd]), |scratch| {
            // SAFETY: each item writes its own positions and channels of y.
            unsafe {
                let [q, k, v] = shape.parts(qkv, &run);
                let out = shape.output(y, &run);
                let scores = Matrix { data: scratch, stride };
                let turned = Matrix { data: scratch.add(stride * BLOCK), stride };
                let inverse = scratch.add(stride * (BLOCK + kd) + 64);
                let copies = scratch.add(own);
                let q = q.floats(isa, l, kd, copies);
                let k = k.floats(isa, l, kd, copies.add(copied::<T>(l, &[kd])));
                let v = v.floats(isa, l, vd, copies.add(copied::<T>(l, &[kd, kd])));
                let spare = copies.add(copied::<T>(l, &[kd, kd, vd]));
                transpose(isa, k.data, k.stride, l, kd, turned.data, stride);
                for (first, n) in blocks(l) {
                    multiply(tiles, Product::Plain, (n, l, kd), q.rows_from(first), turned, scores, false);
                    exp_rows(isa, scores.data, stride, n, l, shape.scale(), inverse);
                    let out = out.rows_from(first);
                    let sums = out.own_or(spare, vd);
                    multiply(tiles, Product::Plain, (n, vd, l), scores, v, sums, false);
                    let (from, to) = ((sums.data.cast_const(), sums.stride), (out.data, out.stride));
                    store_rows(isa, from, to, n, vd, Some(inverse), false);
                }
            }
        });
    });
}

/// The gradient with respect to qkv, stored or added.
///
/// # Safety
/// As [`forward`]; `dqkv` is shaped as qkv.
pub(crate) unsafe fn backward<T: Element>(
    isa: Isa,
    attention: Attention,
    qkv: Tensor<T>,
    dy: Tensor<T>,
    dqkv: Tensor<T>,
    add: bool,
) {
    let shape = Shape::new(attention, qkv);
    let tiles = Tiles::of(isa);
    let stride = shape.stride();
    let (kd, vd) = (attention.key_dim, attention.value_dim);
    let vd_stride = vd.next_multiple_of(32);
    // Results that are not formed in place are added when they are stored.
    let add_in_place = add && T::GROUP == 1;
    (0..shape.items).into_par_iter().for_each(|item| {
        let run = shape.run(item);
        let l = run.len;
        let own = stride * (2 * l + kd + vd + 1) + vd_stride * l + 64;
        with_scratch(own + copied::<T>(l, &[kd, kd, vd, vd, kd, kd, vd]), |scratch| {
            // SAFETY: each item writes its own positions and channels of dqkv.
            unsafe {
                let [q, k, v] = shape.parts(qkv, &run);
                let [to_q, to_k, to_v] = shape.parts(dqkv, &run);
                let e = Matrix { data: scratch, stride };
                let ds = Matrix { data: scratch.add(stride * l), stride };
                let kt = Matrix { data: scratch.add(2 * stride * l), stride };
                let vt = Matrix { data: scratch.add(stride * (2 * l + kd)), stride };
                let inverse = scratch.add(stride * (2 * l + kd + vd));
                let scaled = Matrix { data: inverse.add(stride), stride: vd_stride };
                let copies = |before: &[usize]| scratch.add(own + copied::<T>(l, before));
                let q = q.floats(isa, l, kd, copies(&[]));
                let k = k.floats(isa, l, kd, copies(&[kd]));
                let v = v.floats(isa, l, vd, copies(&[kd, kd]));
                let dout = shape.output(dy, &run).floats(isa, l, vd, copies(&[kd, kd, vd]));
                let dq = to_q.own_or(copies(&[kd, kd, vd, vd]), kd);
                let dk = to_k.own_or(copies(&[kd, kd, vd, vd, kd]), kd);
                let dv = to_v.own_or(copies(&[kd, kd, vd, vd, kd, kd]), vd);
                transpose(isa, k.data, k.stride, l, kd, kt.data, stride);
                transpose(isa, v.data, v.stride, l, vd, vt.data, stride);
                for (first, n) in blocks(l) {
                    let (e, ds, dout) = (e.rows_from(first), ds.rows_from(first), dout.rows_from(first));
                    let inverse = inverse.add(first);
                    multiply(tiles, Product::Plain, (n, l, kd), q.rows_from(first), kt, e, false);
                    exp_rows(isa, e.data, stride, n, l, shape.scale(), inverse);
                    multiply(tiles, Product::Plain, (n, l, vd), dout, vt, ds, false);
                    softmax_grad_rows(isa, e.data, ds.data, stride, n, l, shape.scale(), inverse);
                    multiply(tiles, Product::Plain, (n, kd, l), ds, k, dq.rows_from(first), add_in_place);
                }
                // The probabilities' factors go to dout instead, which is smaller.
                let (from, to) = ((dout.data.cast_const(), dout.stride), (scaled.data, vd_stride));
                store_rows(isa, from, to, l, vd, Some(inverse.cast_const()), false);
                multiply(tiles, Product::TransposedA, (l, vd, l), e, scaled, dv, add_in_place);
                multiply(tiles, Product::TransposedA, (l, kd, l), ds, q, dk, add_in_place);
                to_q.deliver(isa, dq, (l, kd), add);
                to_k.deliver(isa, dk, (l, kd), add);
                to_v.deliver(isa, dv, (l, vd), add);
            }
        });
    });
}
