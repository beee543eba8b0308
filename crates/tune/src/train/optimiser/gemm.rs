//! A matrix product for the orthogonalisation: float32, every sum in the order of the inner index.

use rayon::prelude::*;

/// Rows and columns that one register block holds.
const BLOCK_ROWS: usize = 4;
const BLOCK_COLS: usize = 16;
/// Multiplications below which a product stays on one thread.
const PARALLEL: usize = 1 << 21;

/// A row-major matrix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Operand<'a> {
    pub values: &'a [f32],
    pub rows: usize,
    pub cols: usize,
}

/// A right operand in panels of [`BLOCK_COLS`] columns, the last filled up with zeros.
#[derive(Debug, Default)]
pub(super) struct Packed {
    panels: Vec<f32>,
    rows: usize,
    cols: usize,
}

impl Packed {
    /// Packs `source`.
    pub fn pack(&mut self, source: Operand<'_>) {
        self.fill(source.rows, source.cols, |i, j| source.values[i * source.cols + j]);
    }

    /// Packs the transpose of `source`.
    pub fn pack_transposed(&mut self, source: Operand<'_>) {
        self.fill(source.cols, source.rows, |i, j| source.values[j * source.cols + i]);
    }

    fn fill(&mut self, rows: usize, cols: usize, value: impl Fn(usize, usize) -> f32 + Sync) {
        (self.rows, self.cols) = (rows, cols);
        let panel = rows * BLOCK_COLS;
        self.panels.resize(cols.div_ceil(BLOCK_COLS) * panel, 0.0);
        let fill = |(index, panel): (usize, &mut [f32])| {
            let from = index * BLOCK_COLS;
            for (i, row) in panel.chunks_exact_mut(BLOCK_COLS).enumerate() {
                for (j, v) in row.iter_mut().enumerate() {
                    *v = if from + j < cols { value(i, from + j) } else { 0.0 };
                }
            }
        };
        if rows * cols * 16 >= PARALLEL {
            self.panels.par_chunks_exact_mut(panel).enumerate().for_each(fill);
        } else {
            self.panels.chunks_exact_mut(panel).enumerate().for_each(fill);
        }
    }
}

/// out[i, j] = finish(i * cols + j, sum over p of left[i, p] * right[p, j]).
pub(super) fn product(
    left: Operand<'_>,
    right: &Packed,
    out: &mut [f32],
    finish: impl Fn(usize, f32) -> f32 + Sync,
) {
    debug_assert_eq!((left.cols, out.len()), (right.rows, left.rows * right.cols));
    let (inner, cols) = (left.cols, right.cols);
    let block = |(index, (out, left)): (usize, (&mut [f32], &[f32]))| {
        let finish = |at, v| finish(index * BLOCK_ROWS * cols + at, v);
        pulp::Arch::new().dispatch(Rows { left, inner, right, out, finish });
    };
    let (step_out, step_left) = (BLOCK_ROWS * cols, BLOCK_ROWS * inner);
    if left.rows * inner * cols >= PARALLEL {
        out.par_chunks_mut(step_out).zip(left.values.par_chunks(step_left)).enumerate().for_each(block);
    } else {
        out.chunks_mut(step_out).zip(left.values.chunks(step_left)).enumerate().for_each(block);
    }
}

/// At most [`BLOCK_ROWS`] rows of the product; compiled once for each instruction set.
struct Rows<'a, F> {
    left: &'a [f32],
    inner: usize,
    right: &'a Packed,
    out: &'a mut [f32],
    finish: F,
}

impl<F: Fn(usize, f32) -> f32> pulp::NullaryFnOnce for Rows<'_, F> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { left, inner, right, out, finish } = self;
        // A short last block computes its last row more than once and keeps it once.
        let height = out.len() / right.cols;
        let row = |r: usize| &left[r.min(height - 1) * inner..][..inner];
        let (a, b, c, d) = (row(0), row(1), row(2), row(3));
        for (index, panel) in right.panels.chunks_exact(inner * BLOCK_COLS).enumerate() {
            let mut sums = [[0.0f32; BLOCK_COLS]; BLOCK_ROWS];
            let lefts = a.iter().zip(b).zip(c.iter().zip(d));
            for (right, ((a, b), (c, d))) in panel.chunks_exact(BLOCK_COLS).zip(lefts) {
                for j in 0..BLOCK_COLS {
                    sums[0][j] += a * right[j];
                    sums[1][j] += b * right[j];
                    sums[2][j] += c * right[j];
                    sums[3][j] += d * right[j];
                }
            }
            let from = index * BLOCK_COLS;
            let width = BLOCK_COLS.min(right.cols - from);
            for (r, sums) in sums[..height].iter().enumerate() {
                for (j, &sum) in sums[..width].iter().enumerate() {
                    let at = r * right.cols + from + j;
                    out[at] = finish(at, sum);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_odd_sizes() {
        for (m, k, n) in [(1, 1, 1), (3, 5, 17), (4, 16, 16), (9, 7, 33), (70, 130, 250)] {
            let a: Vec<f32> = (0..m * k).map(|i| ((i * 7 % 11) as f32) - 5.0).collect();
            let b: Vec<f32> = (0..k * n).map(|i| ((i * 5 % 13) as f32) - 6.0).collect();
            let bt: Vec<f32> = (0..k * n).map(|i| b[(i % k) * n + i / k]).collect();
            let (mut out, mut other) = (vec![0.0; m * n], vec![0.0; m * n]);
            let mut packed = Packed::default();
            let left = Operand { values: &a, rows: m, cols: k };
            packed.pack(Operand { values: &b, rows: k, cols: n });
            product(left, &packed, &mut out, |at, v| v + at as f32);
            packed.pack_transposed(Operand { values: &bt, rows: n, cols: k });
            product(left, &packed, &mut other, |at, v| v + at as f32);
            assert_eq!(out, other);
            for i in 0..m {
                for j in 0..n {
                    // Small integers: every sum is exact.
                    let want: f32 = (0..k).map(|p| a[i * k + p] * b[p * n + j]).sum();
                    assert_eq!(out[i * n + j], want + (i * n + j) as f32, "{m} {k} {n}: {i} {j}");
                }
            }
        }
    }
}
