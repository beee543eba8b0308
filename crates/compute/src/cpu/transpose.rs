//! Transposed copies of matrices, by blocks in registers.

use super::simd::{Simd, dispatch};

dispatch! {
    /// `to[j][i] = from[i][j]` for `rows` x `cols` elements of `from`; strides in elements between rows.
    fn transpose(
        from: *const f32, from_stride: usize, rows: usize, cols: usize, to: *mut f32, to_stride: usize,
    ) = transpose_impl
}

#[inline(always)]
unsafe fn transpose_impl<S: Simd>(
    from: *const f32,
    from_stride: usize,
    rows: usize,
    cols: usize,
    to: *mut f32,
    to_stride: usize,
) {
    let whole = |n: usize| n - n % S::LANES;
    // SAFETY: the caller's promise.
    unsafe {
        for i in (0..whole(rows)).step_by(S::LANES) {
            for j in (0..whole(cols)).step_by(S::LANES) {
                let from = from.add(i * from_stride + j);
                S::transpose_block(from, from_stride, to.add(j * to_stride + i), to_stride);
            }
        }
        for i in 0..rows {
            let rest = if i < whole(rows) { whole(cols) } else { 0 };
            for j in rest..cols {
                *to.add(j * to_stride + i) = *from.add(i * from_stride + j);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Isa;

    #[test]
    fn whole_blocks_and_edges() {
        for isa in Isa::available() {
            for (rows, cols) in [(1, 1), (16, 16), (35, 18), (7, 33)] {
                let from: Vec<f32> = (0..rows * (cols + 3)).map(|i| i as f32).collect();
                let mut to = vec![-1.0f32; cols * (rows + 2)];
                // SAFETY: both hold the matrix.
                unsafe { transpose(isa, from.as_ptr(), cols + 3, rows, cols, to.as_mut_ptr(), rows + 2) };
                for j in 0..cols {
                    for i in 0..rows {
                        assert_eq!(to[j * (rows + 2) + i], from[i * (cols + 3) + j], "{isa:?} {i} {j}");
                    }
                    assert_eq!(to[j * (rows + 2) + rows..][..2], [-1.0; 2]);
                }
            }
        }
    }
}
