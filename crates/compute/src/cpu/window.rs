//! How a convolution gathers its input: one description for forward passes and data gradients.
//!
//! Forward, output row i takes the input rows `i * stride + t - pad`. The gradient with respect to the input is the same
//! kind of gather with the roles exchanged, once for each residue of the row and column modulo the stride: input row
//! `stride * i + p` takes the output rows `(p + pad - t) / stride + i` for the kernel rows t that divide.

use crate::graph::ConvGeometry;

/// The output pixels of one residue, and what each gathers.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Window {
    /// Rows and columns of this residue.
    pub rows: usize,
    pub cols: usize,
    /// First row and column in the destination, and the steps between them.
    pub row0: usize,
    pub col0: usize,
    pub step: (usize, usize),
    /// Source row for destination row i and tap t: `i * row_step + row_offsets[t]`.
    pub row_step: usize,
    pub row_offsets: Vec<isize>,
    /// Kernel row of each tap.
    pub kernel_rows: Vec<usize>,
    /// Source columns for destination column j: `j * col_step + col_offset ..+ kernel_cols.len()`.
    pub col_step: usize,
    pub col_offset: isize,
    /// Kernel column of each source column of the run.
    pub kernel_cols: Vec<usize>,
}

impl Window {
    /// The one window of a forward pass with an output of `oh` x `ow`.
    pub fn forward(g: &ConvGeometry, oh: usize, ow: usize) -> Window {
        Window {
            rows: oh,
            cols: ow,
            row0: 0,
            col0: 0,
            step: (1, 1),
            row_step: g.stride.0,
            row_offsets: (0..g.kernel.0).map(|t| t as isize - g.pad[0] as isize).collect(),
            kernel_rows: (0..g.kernel.0).collect(),
            col_step: g.stride.1,
            col_offset: -(g.pad[1] as isize),
            kernel_cols: (0..g.kernel.1).collect(),
        }
    }

    /// The windows of the gradient with respect to an input of `h` x `w`. A residue that no kernel row or column
    /// reaches has no taps: its gradient is zero.
    pub fn data_grad(g: &ConvGeometry, h: usize, w: usize) -> Vec<Window> {
        let mut windows = Vec::new();
        for row0 in 0..g.stride.0.min(h) {
            for col0 in 0..g.stride.1.min(w) {
                let (kernel_rows, row_offsets) = taps(g.kernel.0, g.stride.0, g.pad[0], row0);
                let (kernel_cols, col_offsets) = taps(g.kernel.1, g.stride.1, g.pad[1], col0);
                windows.push(Window {
                    rows: (h - row0).div_ceil(g.stride.0),
                    cols: (w - col0).div_ceil(g.stride.1),
                    row0,
                    col0,
                    step: g.stride,
                    row_step: 1,
                    row_offsets,
                    kernel_rows,
                    col_step: 1,
                    col_offset: col_offsets.first().copied().unwrap_or(0),
                    kernel_cols,
                });
            }
        }
        windows
    }

    /// Rows of the packed weight matrix a tap: channels of the source times the run of kernel columns.
    pub fn tap_rows(&self, source_channels: usize) -> usize {
        self.kernel_cols.len() * source_channels
    }

    /// Source rows that destination rows `i0..i1` need: `(first, count)`.
    pub fn source_rows(&self, i0: usize, i1: usize) -> (isize, usize) {
        let low = self.row_offsets.iter().copied().min().unwrap_or(0);
        let high = self.row_offsets.iter().copied().max().unwrap_or(0);
        let first = (i0 * self.row_step) as isize + low;
        let last = ((i1 - 1) * self.row_step) as isize + high;
        (first, (last - first + 1) as usize)
    }

    /// Source columns that a row needs, from `col_offset` on.
    pub fn source_cols(&self) -> usize {
        (self.cols - 1) * self.col_step + self.kernel_cols.len()
    }
}

/// The kernel positions that reach destination position p (modulo the stride), in ascending order of their source
/// offset, and those offsets, which are consecutive.
fn taps(kernel: usize, stride: usize, pad: usize, p: usize) -> (Vec<usize>, Vec<isize>) {
    (0..kernel)
        .rev()
        .filter(|&t| (p + pad + stride * kernel - t).is_multiple_of(stride))
        .map(|t| (t, (p as isize + pad as isize - t as isize) / stride as isize))
        .unzip()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stride_two_has_four_residues() {
        let g = ConvGeometry { kernel: (3, 3), stride: (2, 2), pad: [1; 4], groups: 1 };
        let windows = Window::data_grad(&g, 6, 6);
        assert_eq!(windows.len(), 4);
        assert_eq!((windows[0].kernel_rows.clone(), windows[0].row_offsets.clone()), (vec![1], vec![0]));
        assert_eq!(
            (windows[3].kernel_rows.clone(), windows[3].row_offsets.clone()),
            (vec![2, 0], vec![0, 1])
        );
        assert_eq!((windows[3].rows, windows[3].row0), (3, 1));
    }
}
