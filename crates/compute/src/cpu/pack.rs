//! Weights packed for the micro-kernel: panels of output columns, each group of rows of a panel contiguous.

use super::element::Element;
use super::elementwise::for_channels;
use super::scratch::{floats, with_scratch};
use super::simd::{Isa, Simd, dispatch};
use super::tile::Tiles;
use super::transpose::transpose;

/// The order in which a packed matrix takes its rows: `taps` blocks of `run` kernel columns of `depth` channels.
pub(crate) struct Packing {
    /// Columns of the matrix.
    pub cols: usize,
    /// Rows of the matrix, each tap's filled up to whole groups ([`Element::GROUP`]).
    pub rows: usize,
}

impl Packing {
    /// Elements of the packed matrix.
    pub fn len(&self, tiles: &Tiles) -> usize {
        self.rows * self.cols.next_multiple_of(tiles.lanes)
    }

    /// `(first column, columns, width in columns, offset in elements)` of each panel.
    pub fn panels(&self, tiles: &Tiles) -> impl Iterator<Item = (usize, usize, usize, usize)> {
        let (cols, rows, panel, lanes) = (self.cols, self.rows, tiles.panel(), tiles.lanes);
        (0..cols.div_ceil(panel)).map(move |p| {
            let start = p * panel;
            let count = panel.min(cols - start);
            (start, count, count.next_multiple_of(lanes), start * rows)
        })
    }

    /// Packs one block of the matrix: `block`'s rows go to rows `first..` (zeros beyond the columns).
    ///
    /// # Safety
    /// `out` has [`Packing::len`] elements, zero before the first packing; the block as many rows from `first` on as
    /// there are, and all columns.
    pub unsafe fn pack<T: Element>(&self, isa: Isa, tiles: &Tiles, first: usize, block: &Block, out: *mut T) {
        let group = T::GROUP;
        // Whether the block's groups are groups of the matrix; else single elements are placed.
        let whole = first.is_multiple_of(group) && block.rows.is_multiple_of(group);
        for (start, count, width, offset) in self.panels(tiles) {
            // SAFETY: the caller's promise.
            unsafe {
                let to = out.add(offset + first / group * group * width);
                match (block.turned, whole) {
                    (true, true) => {
                        if count < width {
                            to.write_bytes(0, block.rows * width);
                        }
                        pack_turned(isa, block, start, count, to, width);
                    }
                    (false, true) => {
                        for row in (0..block.rows).step_by(group) {
                            let from = block.data.add(row * self.cols + start);
                            let next = from.wrapping_add(self.cols);
                            let scale = block.scale.map(|s| s[start..].as_ptr());
                            group_rows(isa, from, next, scale, count, width, to.add(row * width));
                        }
                    }
                    (turned, false) => {
                        for (row, j) in (0..block.rows).flat_map(|row| (0..count).map(move |j| (row, j))) {
                            let col = start + j;
                            let at = if turned { col * block.rows + row } else { row * self.cols + col };
                            let scale = block.scale.map_or(1.0, |s| s[col]);
                            let place = first % group + row;
                            let place = place / group * group * width + j * group + place % group;
                            *to.add(place) = T::from_f32(*block.data.add(at) * scale);
                        }
                    }
                }
            }
        }
    }
}

/// Packs columns `start..` of a turned block.
unsafe fn pack_turned<T: Element>(
    isa: Isa,
    block: &Block,
    start: usize,
    count: usize,
    to: *mut T,
    width: usize,
) {
    let rows = block.rows;
    // SAFETY: the caller's promise; groups are 32 bits, which the transposition moves as they are.
    unsafe {
        let from = block.data.add(start * rows);
        if T::GROUP == 1 {
            transpose(isa, from, rows, count, rows, to.cast(), width);
            return;
        }
        let groups = rows / T::GROUP;
        with_scratch(floats::<T>(rows * count), |scratch| {
            to_elements(isa, from, rows * count, scratch.cast::<T>());
            transpose(isa, scratch.cast_const(), groups, count, groups, to.cast(), width);
        });
    }
}

dispatch! {
    /// One group of rows of a panel: `count` columns, zeros up to `width`; each value times its column's `scale`.
    fn group_rows[T](
        first: *const f32, second: *const f32, scale: Option<*const f32>, count: usize, width: usize, to: *mut T,
    ) = group_rows_impl
}

#[inline(always)]
unsafe fn group_rows_impl<S: Simd, T: Element>(
    first: *const f32,
    second: *const f32,
    scale: Option<*const f32>,
    count: usize,
    width: usize,
    to: *mut T,
) {
    // SAFETY: the caller's promise; a second row is there where groups have two.
    unsafe {
        for c in (0..width).step_by(S::LANES) {
            let n = S::LANES.min(count - c);
            let factor = scale.map_or(S::splat(1.0), |s| S::load_n(s.add(c), n));
            let row = |from: *const f32| S::mul(S::load_n(from.add(c), n), factor);
            let a = row(first);
            let b = if T::GROUP == 1 { a } else { row(second) };
            S::store(to.add(c * T::GROUP).cast(), T::group::<S>(a, b));
        }
    }
}

dispatch! {
    /// float32 to stored elements.
    fn to_elements[T](from: *const f32, len: usize, to: *mut T) = to_elements_impl
}

#[inline(always)]
unsafe fn to_elements_impl<S: Simd, T: Element>(from: *const f32, len: usize, to: *mut T) {
    // SAFETY: the caller's promise.
    unsafe { for_channels!(S, len, |c, n| T::store_n::<S>(to.add(c), S::load_n(from.add(c), n), n)) }
}

dispatch! {
    /// Stored elements to float32.
    fn to_floats[T](from: *const T, len: usize, to: *mut f32) = to_floats_impl
}

#[inline(always)]
unsafe fn to_floats_impl<S: Simd, T: Element>(from: *const T, len: usize, to: *mut f32) {
    // SAFETY: the caller's promise.
    unsafe { for_channels!(S, len, |c, n| S::store_n(to.add(c), T::load_n::<S>(from.add(c), n), n)) }
}

/// Some rows of a matrix, in memory.
pub(crate) struct Block<'a> {
    /// `[rows][cols]`, or, where it is turned, `[cols][rows]`.
    pub data: *const f32,
    pub turned: bool,
    pub rows: usize,
    /// A factor a column; only where the block is not turned.
    pub scale: Option<&'a [f32]>,
}

#[cfg(test)]
mod tests {
    use super::super::element::{Bf16, Storage};
    use super::*;

    #[test]
    fn panels_hold_every_column_once() {
        let isa = Isa::Portable;
        let tiles = Tiles::of(isa);
        let packing = Packing { cols: 21, rows: 2 };
        let plain: Vec<f32> = (0..42).map(|i| (i / 21 * 100 + i % 21) as f32).collect();
        let turned: Vec<f32> = (0..42).map(|i| (i % 2 * 100 + i / 2) as f32).collect();
        for (data, turned) in [(&plain, false), (&turned, true)] {
            let block = Block { data: data.as_ptr(), turned, rows: 2, scale: None };
            let mut out = vec![0.0f32; packing.len(tiles)];
            // SAFETY: the sizes are the packing's.
            unsafe { packing.pack(isa, tiles, 0, &block, out.as_mut_ptr()) };
            // Panels of 16 columns, then 5 padded to 8.
            assert_eq!(out.len(), 2 * 24);
            assert_eq!(out[16], 100.0);
            assert_eq!(out[32..37], [16.0, 17.0, 18.0, 19.0, 20.0]);
            assert_eq!(out[37..40], [0.0; 3]);
            assert_eq!(out[40], 116.0);
        }
    }

    #[test]
    fn bfloat16_is_packed_by_pairs_of_rows() {
        for isa in Isa::available() {
            let isa = isa.for_storage(Storage::Bf16);
            let tiles = Tiles::of(isa);
            // Two taps of 3 rows, each filled up to 4: the second block of a tap begins within a pair.
            for (blocks, run) in [(vec![2usize, 1], 4usize), (vec![4], 4), (vec![3], 4)] {
                let rows: usize = blocks.iter().sum();
                let cols = tiles.panel() + 5;
                let packing = Packing { cols, rows: run };
                for turned in [false, true] {
                    let mut out = vec![Bf16(0); packing.len(tiles)];
                    let mut first = 0;
                    for &n in &blocks {
                        let value = |row: usize, col: usize| ((first + row) * 200 + col) as f32 / 128.0;
                        let data: Vec<f32> = (0..n * cols)
                            .map(|i| if turned { value(i % n, i / n) } else { value(i / cols, i % cols) })
                            .collect();
                        let block = Block { data: data.as_ptr(), turned, rows: n, scale: None };
                        // SAFETY: the sizes are the packing's.
                        unsafe { packing.pack(isa, tiles, first, &block, out.as_mut_ptr()) };
                        first += n;
                    }
                    for (start, count, width, offset) in packing.panels(tiles) {
                        for (row, col) in (0..run).flat_map(|r| (0..width).map(move |c| (r, c))) {
                            let there = row < rows && col < count;
                            let exact = (row * 200 + start + col) as f32 / 128.0;
                            let expected = if there { Bf16::from_f32(exact) } else { Bf16(0) };
                            let got = out[offset + row / 2 * width * 2 + col * 2 + row % 2];
                            assert_eq!(got, expected, "{isa:?} {blocks:?} turned {turned} {row} {col}");
                        }
                    }
                }
            }
        }
    }
}
