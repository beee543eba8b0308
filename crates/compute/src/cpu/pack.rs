//! Weights packed for the micro-kernel: panels of output columns, each row of a panel contiguous.

use super::simd::Isa;
use super::tile::Tiles;
use super::transpose::transpose;

/// The order in which a packed matrix takes its rows: `taps` blocks of `run` kernel columns of `depth` channels.
pub(crate) struct Packing {
    /// Columns of the matrix.
    pub cols: usize,
    /// Rows of the matrix.
    pub rows: usize,
}

impl Packing {
    /// Elements of the packed matrix.
    pub fn len(&self, tiles: &Tiles) -> usize {
        self.rows * self.cols.next_multiple_of(tiles.lanes)
    }

    /// `(first column, columns, width in elements, offset)` of each panel.
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
    /// `out` has [`Packing::len`] elements, the block as many rows from `first` on as there are, and all columns.
    pub unsafe fn pack(&self, isa: Isa, tiles: &Tiles, first: usize, block: &Block, out: *mut f32) {
        for (start, count, width, offset) in self.panels(tiles) {
            // SAFETY: the caller's promise.
            unsafe {
                let to = out.add(offset + first * width);
                if block.turned {
                    if count < width {
                        to.write_bytes(0, block.rows * width);
                    }
                    let from = block.data.add(start * block.rows);
                    transpose(isa, from, block.rows, count, block.rows, to, width);
                    continue;
                }
                for row in 0..block.rows {
                    let (from, to) = (block.data.add(row * self.cols + start), to.add(row * width));
                    to.copy_from_nonoverlapping(from, count);
                    to.add(count).write_bytes(0, width - count);
                    if let Some(scale) = block.scale {
                        for j in 0..count {
                            *to.add(j) *= scale[start + j];
                        }
                    }
                }
            }
        }
    }
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
            let mut out = vec![f32::NAN; packing.len(tiles)];
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
}
