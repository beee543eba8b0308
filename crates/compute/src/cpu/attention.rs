//! Self-attention by runs of positions: a work item is one image's run of one head.
//!
//! Scores are formed by blocks of rows that stay in the first-level cache; softmax's division is left to the rows of the
//! result, which are shorter. The backward pass forms the scores again rather than keep them. Scores and sums are float32,
//! operands of products as stored: of bfloat16 the summed axis stands by pairs ([`Element::GROUP`]), in copies.

use crate::graph::Attention;

use super::ahead::Ahead;
use super::element::Element;
use super::pack::to_elements;
use super::scratch::{Tensor, floats, with_scratch};
use super::simd::Isa;
use super::softmax::{exp_rows, scale_rows, softmax_grad_rows, store_rows};
use super::team;
use super::tile::{Init, Product, Tap, Tile, Tiles};
use super::transpose::transpose;
use super::weight_grad::pair_pixels;

/// A matrix in memory: first element, elements between rows (of groups: between rows of groups).
#[derive(Clone, Copy)]
struct Matrix<T = f32> {
    data: *mut T,
    stride: usize,
}

impl<T: Element> Matrix<T> {
    /// The matrix from row i on.
    fn rows_from(self, i: usize) -> Matrix<T> {
        Matrix { data: self.data.wrapping_add(i * self.stride), ..self }
    }

    fn pair(self) -> (*mut T, usize) {
        (self.data, self.stride)
    }

    fn read(self) -> (*const T, usize) {
        (self.data.cast_const(), self.stride)
    }

    /// The matrix by groups of rows: itself, or a copy in `spare`.
    unsafe fn grouped(self, isa: Isa, (rows, cols): (usize, usize), spare: Matrix<T>) -> Matrix<T> {
        if T::GROUP == 1 {
            return self;
        }
        // SAFETY: the caller's promise that the elements exist and `spare` has room for them.
        unsafe { pair_pixels(isa, self.data, self.stride, rows, cols, spare.data, spare.stride / 2) };
        spare
    }

    /// The transposed matrix by groups of its rows, in `to`; by way of `spare` where they have two values.
    unsafe fn turned(
        self,
        isa: Isa,
        (rows, cols): (usize, usize),
        spare: Matrix<T>,
        to: Matrix<T>,
    ) -> Matrix<T> {
        // SAFETY: the caller's promise, as above; a group is 32 bits, which the transposition moves as they are, and
        // `spare`'s rows are whole groups, the last filled up with a zero.
        unsafe {
            let (mut from, groups) = (self, cols.div_ceil(T::GROUP));
            if T::GROUP != 1 {
                from = spare;
                for i in 0..rows {
                    let row = from.data.add(i * from.stride);
                    row.add(cols - cols % 2).write(T::default());
                    row.add(cols - cols % 2 + 1).write(T::default());
                    row.copy_from_nonoverlapping(self.data.add(i * self.stride), cols);
                }
            }
            let words = |m: Matrix<T>| (m.data.cast::<f32>(), m.stride / T::GROUP);
            let ((from, from_stride), (data, stride)) = (words(from), words(to));
            transpose(isa, from.cast_const(), from_stride, rows, groups, data, stride);
        }
        to
    }

    /// float32 rows as stored elements: themselves, or a copy in `spare`.
    unsafe fn stored(isa: Isa, from: Matrix, (rows, cols): (usize, usize), spare: Matrix<T>) -> Matrix<T> {
        if T::GROUP == 1 {
            return Matrix { data: from.data.cast(), stride: from.stride };
        }
        for i in 0..rows {
            // SAFETY: as above.
            unsafe {
                let row = from.data.add(i * from.stride).cast_const();
                to_elements(isa, row, cols, spare.data.add(i * spare.stride));
            }
        }
        spare
    }

    /// Where float32 results go: to the matrix itself, or to `spare`.
    fn own_or(self, spare: Matrix) -> Matrix {
        if T::GROUP == 1 { Matrix { data: self.data.cast(), stride: self.stride } } else { spare }
    }

    /// Takes in what [`Matrix::own_or`] gave room for.
    unsafe fn deliver(self, isa: Isa, from: Matrix, (rows, cols): (usize, usize), add: bool) {
        if T::GROUP != 1 {
            // SAFETY: the caller's promise that both have the elements.
            unsafe { store_rows(isa, from.read(), self.pair(), rows, cols, None, add) };
        }
    }
}

/// Row length of matrices in the scratch: whole panels, so that they may be read to their end.
fn row_len(cols: usize) -> usize {
    cols.next_multiple_of(32)
}

/// The scratch of a work item: matrices are given out in the same order as their room was counted.
struct Room {
    base: *mut f32,
    floats: usize,
}

impl Room {
    fn counting() -> Room {
        Room { base: std::ptr::null_mut(), floats: 0 }
    }

    /// `rows` rows of `cols` elements and more, up to whole panels; of `group` elements each.
    fn matrix<T: Element>(&mut self, rows: usize, cols: usize, group: usize) -> Matrix<T> {
        let data = self.base.wrapping_add(self.floats).cast();
        let stride = row_len(cols) * group;
        self.floats += floats::<T>(rows * stride) + 64;
        Matrix { data, stride }
    }

    /// As [`Room::matrix`] where stored elements T are not float32, else none.
    fn copy<T: Element, U: Element>(&mut self, rows: usize, cols: usize, group: usize) -> Matrix<U> {
        self.matrix(if T::GROUP == 1 { 0 } else { rows }, cols, group)
    }
}

/// Which operand of a product is transposed; sums are over groups.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// C[i][j] (+)= sum_k A[i][k] B[k][j].
    Plain,
    /// C[i][j] (+)= sum_k A[k][i] B[k][j].
    TransposedA,
}

/// A matrix product of operands in cache; B, and a transposed A, by groups of rows.
///
/// # Safety
/// Matrices must be valid for the sizes; B readable to a panel's end, C writable to the last column only.
unsafe fn multiply<T: Product>(
    tiles: &Tiles,
    kind: Kind,
    (m, n, k): (usize, usize, usize),
    a: Matrix<T>,
    b: Matrix<T>,
    c: Matrix,
    add: bool,
) {
    let plain = kind == Kind::Plain;
    for col in (0..n).step_by(tiles.panel()) {
        for (i, rows) in tiles.split_rows(m).iter() {
            // SAFETY: the caller's promise.
            unsafe {
                let from = a.data.add(if plain { i * a.stride } else { i * T::GROUP });
                let taps = [Tap { a: from.cast_const(), b: b.data.add(col * T::GROUP).cast_const() }];
                let tile = Tile {
                    taps: &taps,
                    k,
                    a_i: if plain { a.stride } else { T::GROUP },
                    a_k: if plain { T::GROUP } else { a.stride },
                    b_k: b.stride,
                    c: c.data.add(i * c.stride + col),
                    c_i: c.stride,
                    cols: tiles.panel().min(n - col),
                    init: if add { Init::C } else { Init::Zero },
                    ahead: Ahead::NONE,
                };
                if plain { tiles.along_k_sums(rows, &tile) } else { tiles.along_i(rows, &tile) }
            }
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
}

/// Positions whose scores are formed at a time: they stay in the first-level cache.
const BLOCK: usize = 42;

/// `(first, count)` of each block of a run's positions.
fn blocks(len: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..len).step_by(BLOCK).map(move |i| (i, BLOCK.min(len - i)))
}

/// The scratch of [`forward`].
struct ForwardRoom<T> {
    scores: Matrix,
    inverse: Matrix,
    turned_k: Matrix<T>,
    even_k: Matrix<T>,
    v: Matrix<T>,
    e: Matrix<T>,
    sums: Matrix,
}

impl<T: Element> ForwardRoom<T> {
    fn new(room: &mut Room, l: usize, a: &Attention) -> ForwardRoom<T> {
        let groups = |rows: usize| rows.div_ceil(T::GROUP);
        ForwardRoom {
            scores: room.matrix(BLOCK, l, 1),
            inverse: room.matrix(1, BLOCK, 1),
            turned_k: room.matrix(groups(a.key_dim), l, T::GROUP),
            even_k: room.copy::<T, _>(l, a.key_dim + 2, 1),
            v: room.copy::<T, _>(groups(l), a.value_dim, T::GROUP),
            e: room.copy::<T, _>(BLOCK, l, 1),
            sums: room.copy::<T, _>(BLOCK, a.value_dim, 1),
        }
    }
}

/// `y = softmax(q k^T / sqrt(key_dim)) v` for each run and head.
///
/// # Safety
/// Tensors must be valid, shaped as [`Attention`] says; qkv's memory readable a panel beyond its last channel.
pub(crate) unsafe fn forward<T: Product>(isa: Isa, attention: Attention, qkv: Tensor<T>, y: Tensor<T>) {
    let shape = Shape::new(attention, qkv);
    let tiles = Tiles::of(isa);
    let (kd, vd) = (attention.key_dim, attention.value_dim);
    let mut counted = Room::counting();
    ForwardRoom::<T>::new(&mut counted, shape.len, &attention);
    team::for_each(shape.items, |item| {
        let run = shape.run(item);
        let l = run.len;
        with_scratch(counted.floats, |scratch| {
            let room = ForwardRoom::<T>::new(&mut Room { base: scratch, floats: 0 }, l, &attention);
            // SAFETY: each item writes its own positions and channels of y; the scratch is as long as was counted.
            unsafe {
                let [q, k, v] = shape.parts(qkv, &run);
                let out = shape.output(y, &run);
                let k = k.turned(isa, (l, kd), room.even_k, room.turned_k);
                let v = v.grouped(isa, (l, vd), room.v);
                for (first, n) in blocks(l) {
                    let (scores, inverse) = (room.scores, room.inverse.data);
                    multiply(tiles, Kind::Plain, (n, l, kd), q.rows_from(first), k, scores, false);
                    exp_rows(isa, scores.data, scores.stride, n, l, shape.scale(), inverse);
                    let e = Matrix::stored(isa, scores, (n, l), room.e);
                    let out = out.rows_from(first);
                    let sums = out.own_or(room.sums);
                    multiply(tiles, Kind::Plain, (n, vd, l), e, v, sums, false);
                    store_rows(isa, sums.read(), out.pair(), n, vd, Some(inverse.cast_const()), false);
                }
            }
        });
    });
}

/// The scratch of [`backward`].
struct BackwardRoom<T> {
    /// Exponentials and scores' gradients: of a block, or of all rows where products read them in place.
    e: Matrix,
    ds: Matrix,
    inverse: Matrix,
    turned_k: Matrix<T>,
    turned_v: Matrix<T>,
    /// The result's gradient, each row times its factor.
    scaled: Matrix<T>,
    /// One matrix's rows, made whole groups.
    even: Matrix<T>,
    block: Matrix<T>,
    /// By groups of rows.
    grouped_q: Matrix<T>,
    grouped_k: Matrix<T>,
    grouped_scaled: Matrix<T>,
    grouped_e: Matrix<T>,
    grouped_ds: Matrix<T>,
    dq: Matrix,
    dk: Matrix,
    dv: Matrix,
}

impl<T: Element> BackwardRoom<T> {
    fn new(room: &mut Room, l: usize, a: &Attention) -> BackwardRoom<T> {
        let groups = |rows: usize| rows.div_ceil(T::GROUP);
        let (kd, vd) = (a.key_dim, a.value_dim);
        let kept = if T::GROUP == 1 { l } else { BLOCK };
        BackwardRoom {
            e: room.matrix(kept, l, 1),
            ds: room.matrix(kept, l, 1),
            inverse: room.matrix(1, l, 1),
            turned_k: room.matrix(groups(kd), l, T::GROUP),
            turned_v: room.matrix(groups(vd), l, T::GROUP),
            scaled: room.matrix(l, vd, 1),
            even: room.copy::<T, _>(l, kd.max(vd) + 2, 1),
            block: room.copy::<T, _>(BLOCK, l, 1),
            grouped_q: room.copy::<T, _>(groups(l), kd, T::GROUP),
            grouped_k: room.copy::<T, _>(groups(l), kd, T::GROUP),
            grouped_scaled: room.copy::<T, _>(groups(l), vd, T::GROUP),
            grouped_e: room.copy::<T, _>(groups(l), l, T::GROUP),
            grouped_ds: room.copy::<T, _>(groups(l), l, T::GROUP),
            dq: room.copy::<T, _>(l, kd, 1),
            dk: room.copy::<T, _>(l, kd, 1),
            dv: room.copy::<T, _>(l, vd, 1),
        }
    }
}

/// The gradient with respect to qkv, stored or added.
///
/// # Safety
/// As [`forward`]; `dqkv` is shaped as qkv.
pub(crate) unsafe fn backward<T: Product>(
    isa: Isa,
    attention: Attention,
    qkv: Tensor<T>,
    dy: Tensor<T>,
    dqkv: Tensor<T>,
    add: bool,
) {
    let shape = Shape::new(attention, qkv);
    let tiles = Tiles::of(isa);
    let (kd, vd) = (attention.key_dim, attention.value_dim);
    // Results that are not formed in place are added when they are stored.
    let add_in_place = add && T::GROUP == 1;
    let mut counted = Room::counting();
    BackwardRoom::<T>::new(&mut counted, shape.len, &attention);
    team::for_each(shape.items, |item| {
        let run = shape.run(item);
        let l = run.len;
        with_scratch(counted.floats, |scratch| {
            let room = BackwardRoom::<T>::new(&mut Room { base: scratch, floats: 0 }, l, &attention);
            // SAFETY: each item writes its own positions and channels of dqkv; the scratch is as long as was counted.
            unsafe {
                let [q, k, v] = shape.parts(qkv, &run);
                let [to_q, to_k, to_v] = shape.parts(dqkv, &run);
                let dout = shape.output(dy, &run);
                let [dq, dk, dv] = [to_q.own_or(room.dq), to_k.own_or(room.dk), to_v.own_or(room.dv)];
                let turned_k = k.turned(isa, (l, kd), room.even, room.turned_k);
                let turned_v = v.turned(isa, (l, vd), room.even, room.turned_v);
                let k = k.grouped(isa, (l, kd), room.grouped_k);
                let (mut grouped_e, mut grouped_ds) = (room.grouped_e, room.grouped_ds);
                for (first, n) in blocks(l) {
                    // In place, all rows are kept; a block is a whole number of groups.
                    let [e, ds] =
                        [room.e, room.ds].map(|m| if T::GROUP == 1 { m.rows_from(first) } else { m });
                    let inverse = room.inverse.data.add(first);
                    multiply(tiles, Kind::Plain, (n, l, kd), q.rows_from(first), turned_k, e, false);
                    exp_rows(isa, e.data, e.stride, n, l, shape.scale(), inverse);
                    multiply(tiles, Kind::Plain, (n, l, vd), dout.rows_from(first), turned_v, ds, false);
                    softmax_grad_rows(isa, e.data, ds.data, e.stride, n, l, shape.scale(), inverse);
                    let groups = |all: Matrix<T>| all.rows_from(first / T::GROUP);
                    let rows = Matrix::stored(isa, e, (n, l), room.block);
                    let e = rows.grouped(isa, (n, l), groups(room.grouped_e));
                    let rows = Matrix::stored(isa, ds, (n, l), room.block);
                    let ds = rows.grouped(isa, (n, l), groups(room.grouped_ds));
                    if first == 0 {
                        (grouped_e, grouped_ds) = (e, ds);
                    }
                    multiply(tiles, Kind::Plain, (n, kd, l), rows, k, dq.rows_from(first), add_in_place);
                }
                // The probabilities' factors go to dout instead, which is smaller.
                let inverse = room.inverse.data.cast_const();
                scale_rows(isa, dout.read(), room.scaled.pair(), l, vd, inverse);
                let scaled = room.scaled.grouped(isa, (l, vd), room.grouped_scaled);
                let q = q.grouped(isa, (l, kd), room.grouped_q);
                multiply(tiles, Kind::TransposedA, (l, vd, l), grouped_e, scaled, dv, add_in_place);
                multiply(tiles, Kind::TransposedA, (l, kd, l), grouped_ds, q, dk, add_in_place);
                to_q.deliver(isa, dq, (l, kd), add);
                to_k.deliver(isa, dk, (l, kd), add);
                to_v.deliver(isa, dv, (l, vd), add);
            }
        });
    });
}
