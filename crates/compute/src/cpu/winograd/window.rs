//! Windows of an image whose edge they may cross.

use super::super::element::Element;
use super::super::simd::Simd;

/// A window of an image, which may lack some of its rows and columns: zeros stand there.
#[derive(Clone, Copy)]
pub(super) struct Window<T> {
    /// Where the window's first pixel lies, or would lie.
    from: *const T,
    /// Elements between rows and between columns.
    steps: (usize, usize),
    /// The first row that the image has, and the end of those.
    rows: (usize, usize),
    /// Likewise its columns.
    cols: (usize, usize),
}

impl<T: Element> Window<T> {
    /// `size` rows and columns from `(y, x)` on of an image of `h` x `w` pixels, `step` apart.
    pub fn new(
        image: *const T,
        (h, w): (usize, usize),
        step: usize,
        (y, x): (isize, isize),
        size: (usize, usize),
    ) -> Window<T> {
        let there = |from: isize, all: usize, size: usize| {
            let end = (all as isize - from).clamp(0, size as isize) as usize;
            ((-from).clamp(0, end as isize) as usize, end)
        };
        let from = image.wrapping_offset((y * w as isize + x) * step as isize);
        Window { from, steps: (w * step, step), rows: there(y, h, size.0), cols: there(x, w, size.1) }
    }

    /// A window of nothing but zeros.
    pub fn zeros() -> Window<T> {
        Window { from: std::ptr::null(), steps: (0, 0), rows: (0, 0), cols: (0, 0) }
    }

    /// `n` channels from `c` on of a row's `N` pixels.
    #[inline(always)]
    pub unsafe fn row<S: Simd, const N: usize>(&self, row: usize, c: usize, n: usize) -> [S::V; N] {
        // SAFETY: the image has these rows and columns.
        unsafe {
            let mut d = [S::zero(); N];
            if row < self.rows.0 || row >= self.rows.1 {
                return d;
            }
            let from = self.from.wrapping_add(row * self.steps.0 + c);
            if self.cols == (0, N) {
                for (j, d) in d.iter_mut().enumerate() {
                    *d = T::load_n::<S>(from.add(j * self.steps.1), n);
                }
            } else {
                for (j, d) in d.iter_mut().enumerate() {
                    if j >= self.cols.0 && j < self.cols.1 {
                        *d = T::load_n::<S>(from.wrapping_add(j * self.steps.1), n);
                    }
                }
            }
            d
        }
    }
}
