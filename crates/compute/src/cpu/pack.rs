//! Weights packed for the micro-kernel: panels of output columns, each row of a panel contiguous.

use super::tile::Tiles;

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

    /// Packs `source(row, column)`, scaled by `scale[column]` where given, into `out` (zeros beyond the columns).
    pub fn pack(&self, tiles: &Tiles, out: &mut [f32], mut source: impl FnMut(usize, usize) -> f32) {
        for (start, count, width, offset) in self.panels(tiles) {
            for row in 0..self.rows {
                let to = &mut out[offset + row * width..offset + (row + 1) * width];
                for (j, x) in to.iter_mut().enumerate() {
                    *x = if j < count { source(row, start + j) } else { 0.0 };
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;

    #[test]
    fn panels_hold_every_column_once() {
        let tiles = Tiles::of(Isa::Portable);
        let packing = Packing { cols: 21, rows: 2 };
        let mut out = vec![f32::NAN; packing.len(tiles)];
        packing.pack(tiles, &mut out, |row, column| (100 * row + column) as f32);
        // Panels of 16 columns, then 5 padded to 8.
        assert_eq!(out.len(), 2 * 24);
        assert_eq!(out[16], 100.0);
        assert_eq!(out[32..37], [16.0, 17.0, 18.0, 19.0, 20.0]);
        assert_eq!(out[37..40], [0.0; 3]);
        assert_eq!(out[40], 116.0);
    }
}
