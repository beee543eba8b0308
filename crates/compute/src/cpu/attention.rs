//! Self-attention by runs of positions: a work item is one image's run of one head.
//!
//! Scores of a run fit in cache (a few hundred positions), so they are formed whole; the backward pass forms them again
//! rather than keep them.

use rayon::prelude::*;

use crate::graph::Attention;

use super::scratch::{Tensor, with_scratch};
use super::simd::{Isa, Simd, dispatch};
use super::tile::{Init, Tap, Tile, Tiles};

/// A matrix in memory: first element, elements between rows.
#[derive(Clone, Copy)]
struct Matrix {
    data: *mut f32,
    stride: usize,
}

impl Matrix {
    /// Address of element (i, j).
    unsafe fn at(self, i: usize, j: usize) -> *mut f32 {
        // SAFETY: the caller's promise that the element exists.
        unsafe { self.data.add(i * self.stride + j) }
    }
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

/// Copies `rows` x `cols` transposed.
unsafe fn transpose(from: Matrix, rows: usize, cols: usize, to: Matrix) {
    for i in 0..rows {
        for j in 0..cols {
            // SAFETY: the caller's promise.
            unsafe { *to.at(j, i) = *from.at(i, j) };
        }
    }
}

dispatch! {
    /// Each row of `rows` x `cols`: softmax of `scale` times it.
    fn softmax_rows(data: *mut f32, stride: usize, rows: usize, cols: usize, scale: f32) = softmax_rows_impl
}

#[inline(always)]
unsafe fn softmax_rows_impl<S: Simd>(data: *mut f32, stride: usize, rows: usize, cols: usize, scale: f32) {
    // SAFETY: the caller's promise.
    unsafe {
        for r in 0..rows {
            let row = data.add(r * stride);
            let mut most = f32::NEG_INFINITY;
            for c in 0..cols {
                most = most.max(*row.add(c));
            }
            let (scale, most) = (S::splat(scale), S::splat(most));
            let mut total = 0.0;
            super::elementwise::for_channels!(S, cols, |c, n| {
                let x = S::mul(S::sub(S::load_n(row.add(c), n), most), scale);
                S::store_n(row.add(c), S::exp(x), n)
            });
            for c in 0..cols {
                total += *row.add(c);
            }
            let inverse = S::splat(1.0 / total);
            super::elementwise::for_channels!(S, cols, |c, n| {
                S::store_n(row.add(c), S::mul(S::load_n(row.add(c), n), inverse), n)
            });
        }
    }
}

dispatch! {
    /// Turns `g` (gradient of the probabilities `p`) to the gradient of the scores: `p * (g - sum(p * g)) * scale`.
    fn softmax_grad_rows(
        p: *const f32, g: *mut f32, stride: usize, rows: usize, cols: usize, scale: f32,
    ) = softmax_grad_rows_impl
}

#[inline(always)]
unsafe fn softmax_grad_rows_impl<S: Simd>(
    p: *const f32,
    g: *mut f32,
    stride: usize,
    rows: usize,
    cols: usize,
    scale: f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for r in 0..rows {
            let (p, g) = (p.add(r * stride), g.add(r * stride));
            let mut dot = 0.0;
            for c in 0..cols {
                dot += *p.add(c) * *g.add(c);
            }
            let (dot, scale) = (S::splat(dot), S::splat(scale));
            super::elementwise::for_channels!(S, cols, |c, n| {
                let centred = S::sub(S::load_n(g.add(c), n), dot);
                S::store_n(g.add(c), S::mul(S::mul(S::load_n(p.add(c), n), centred), scale), n)
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
    fn new(attention: Attention, qkv: Tensor) -> Shape {
        let [n, h, w, _] = qkv.shape;
        Shape { attention, len: h * w / attention.areas, items: n * attention.areas * attention.heads }
    }

    fn run(&self, item: usize) -> Run {
        let heads = self.attention.heads;
        Run { len: self.len, first: item / heads * self.len, head: item % heads }
    }

    /// Query, key and value matrices of a run.
    unsafe fn parts(&self, t: Tensor, run: &Run) -> [Matrix; 3] {
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

    unsafe fn output(&self, t: Tensor, run: &Run) -> Matrix {
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

/// `y = softmax(q k^T / sqrt(key_dim)) v` for each run and head.
///
/// # Safety
/// Tensors must be valid, shaped as [`Attention`] says; qkv's memory readable a panel beyond its last channel.
pub(crate) unsafe fn forward(isa: Isa, attention: Attention, qkv: Tensor, y: Tensor) {
    let shape = Shape::new(attention, qkv);
    let tiles = Tiles::of(isa);
    let stride = shape.stride();
    (0..shape.items).into_par_iter().for_each(|item| {
        let run = shape.run(item);
        let l = run.len;
        with_scratch(stride * (l + attention.key_dim) + 64, |scratch| {
            // SAFETY: each item writes its own positions and channels of y.
            unsafe {
                let [q, k, v] = shape.parts(qkv, &run);
                let scores = Matrix { data: scratch, stride };
                let kt = Matrix { data: scratch.add(stride * l), stride };
                transpose(k, l, attention.key_dim, kt);
                multiply(tiles, Product::Plain, (l, l, attention.key_dim), q, kt, scores, false);
                softmax_rows(isa, scratch, stride, l, l, shape.scale());
                multiply(
                    tiles,
                    Product::Plain,
                    (l, attention.value_dim, l),
                    scores,
                    v,
                    shape.output(y, &run),
                    false,
                );
            }
        });
    });
}

/// The gradient with respect to qkv, stored or added.
///
/// # Safety
/// As [`forward`]; `dqkv` is shaped as qkv.
pub(crate) unsafe fn backward(
    isa: Isa,
    attention: Attention,
    qkv: Tensor,
    dy: Tensor,
    dqkv: Tensor,
    add: bool,
) {
    let shape = Shape::new(attention, qkv);
    let tiles = Tiles::of(isa);
    let stride = shape.stride();
    let (kd, vd) = (attention.key_dim, attention.value_dim);
    (0..shape.items).into_par_iter().for_each(|item| {
        let run = shape.run(item);
        let l = run.len;
        with_scratch(stride * (2 * l + kd.max(vd)) + 64, |scratch| {
            // SAFETY: each item writes its own positions and channels of dqkv.
            unsafe {
                let [q, k, v] = shape.parts(qkv, &run);
                let [dq, dk, dv] = shape.parts(dqkv, &run);
                let dout = shape.output(dy, &run);
                let p = Matrix { data: scratch, stride };
                let ds = Matrix { data: scratch.add(stride * l), stride };
                let turned = Matrix { data: scratch.add(2 * stride * l), stride };
                transpose(k, l, kd, turned);
                multiply(tiles, Product::Plain, (l, l, kd), q, turned, p, false);
                softmax_rows(isa, p.data, stride, l, l, shape.scale());
                multiply(tiles, Product::TransposedA, (l, vd, l), p, dout, dv, add);
                transpose(v, l, vd, turned);
                multiply(tiles, Product::Plain, (l, l, vd), dout, turned, ds, false);
                softmax_grad_rows(isa, p.data, ds.data, stride, l, l, shape.scale());
                multiply(tiles, Product::Plain, (l, kd, l), ds, k, dq, add);
                multiply(tiles, Product::TransposedA, (l, kd, l), ds, q, dk, add);
            }
        });
    });
}
