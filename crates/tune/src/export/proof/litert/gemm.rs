//! Rows of a matrix times a matrix, in float32 or in integers.

use std::ops::{AddAssign, Mul};

use rayon::prelude::*;

/// Columns that are summed up at a time, and rows that share what is read of them.
const COLUMNS: usize = 16;
const ROWS: usize = 4;

/// float32, or int32 sums of products of 8-bit numbers.
pub trait Number: Copy + Default + Mul<Output = Self> + AddAssign + Send + Sync {}
impl Number for f32 {}
impl Number for i32 {}

/// The right matrix, `[inner, columns]`, cut into strips of [`COLUMNS`] columns, each strip row by row.
pub struct Packed<T> {
    strips: Vec<T>,
    inner: usize,
    columns: usize,
}

impl<T: Number> Packed<T> {
    /// `at(k, column)` gives an element.
    pub fn new(inner: usize, columns: usize, at: impl Fn(usize, usize) -> T) -> Packed<T> {
        let mut strips = Vec::with_capacity(inner * columns.next_multiple_of(COLUMNS));
        for strip in (0..columns).step_by(COLUMNS) {
            for k in 0..inner {
                strips.extend(
                    (strip..strip + COLUMNS).map(|c| if c < columns { at(k, c) } else { T::default() }),
                );
            }
        }
        Packed { strips, inner, columns }
    }

    /// Number of columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// `rows` (`[n, inner]`) times the matrix, into `out` (`[n, columns]`). Each element is summed in the order of `inner`.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn rows(&self, rows: &[T], out: &mut [T]) {
        assert_eq!(rows.len() / self.inner.max(1) * self.columns, out.len(), "as many rows out as in");
        pulp::Arch::new().dispatch(Rows { matrix: self, rows, out });
    }

    /// As [`Packed::rows`], the rows cut among the threads.
    pub fn all_rows(&self, rows: &[T], out: &mut [T]) {
        const CHUNK: usize = 64;
        let (inner, columns) = (self.inner.max(1), self.columns.max(1));
        out.par_chunks_mut(CHUNK * columns)
            .zip(rows.par_chunks(CHUNK * inner))
            .for_each(|(out, rows)| self.rows(rows, out));
    }
}

struct Rows<'a, T> {
    matrix: &'a Packed<T>,
    rows: &'a [T],
    out: &'a mut [T],
}

impl<T: Number> pulp::NullaryFnOnce for Rows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Packed { strips, inner, columns } = self.matrix;
        let (inner, columns) = (*inner, *columns);
        if inner == 0 || columns == 0 {
            return;
        }
        for (strip, values) in strips.chunks_exact(inner * COLUMNS).enumerate() {
            let first = strip * COLUMNS;
            let width = COLUMNS.min(columns - first);
            let blocks = self.rows.chunks(ROWS * inner).zip(self.out.chunks_mut(ROWS * columns));
            for (rows, out) in blocks {
                if rows.len() == ROWS * inner {
                    let sums = block::<T, ROWS>(rows, values, inner);
                    for (out, sums) in out.chunks_exact_mut(columns).zip(&sums) {
                        out[first..first + width].copy_from_slice(&sums[..width]);
                    }
                } else {
                    for (row, out) in rows.chunks_exact(inner).zip(out.chunks_exact_mut(columns)) {
                        let [sums] = block::<T, 1>(row, values, inner);
                        out[first..first + width].copy_from_slice(&sums[..width]);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn block<T: Number, const R: usize>(rows: &[T], strip: &[T], inner: usize) -> [[T; COLUMNS]; R] {
    let mut sums = [[T::default(); COLUMNS]; R];
    let (lines, _) = strip.as_chunks::<COLUMNS>();
    for (k, line) in lines.iter().enumerate().take(inner) {
        for (r, sums) in sums.iter_mut().enumerate() {
            let value = rows[r * inner + k];
            for (sum, &other) in sums.iter_mut().zip(line) {
                *sum += value * other;
            }
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_any_size() {
        for (n, inner, columns) in [(1, 1, 1), (5, 7, 19), (9, 3, 16), (4, 5, 40)] {
            let rows: Vec<i32> = (0..n * inner).map(|i| (i as i32 * 37) % 101 - 50).collect();
            let at = |k: usize, c: usize| (k as i32 * 13 + c as i32 * 29) % 255 - 127;
            let packed = Packed::new(inner, columns, at);
            let mut out = vec![0; n * columns];
            packed.all_rows(&rows, &mut out);
            for i in 0..n {
                for c in 0..columns {
                    let want: i32 = (0..inner).map(|k| rows[i * inner + k] * at(k, c)).sum();
                    assert_eq!(out[i * columns + c], want, "{n} {inner} {columns}: {i} {c}");
                }
            }
        }
    }
}
