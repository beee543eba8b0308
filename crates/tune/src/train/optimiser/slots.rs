//! Which stretches of the arena are trained, and how.

use std::ops::Range;

/// Values that one task of an elementwise pass handles.
pub(crate) const CHUNK: usize = 1 << 14;

/// Parameters that share learning rate and weight decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Weights of convolutions and linear layers, and layer scales: with weight decay.
    Weight,
    /// Scales of normalisations: no decay.
    Norm,
    /// Biases, and shifts of normalisations: no decay, own warm-up.
    Bias,
}

impl Group {
    /// All groups, in the order of the columns lr/pg0, lr/pg1, lr/pg2.
    pub const ALL: [Group; 3] = [Group::Weight, Group::Norm, Group::Bias];
}

/// A parameter seen as a matrix: rows are inputs (kernel positions x input channels), columns outputs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Matrix {
    /// Inputs: kh * kw * in.
    pub rows: usize,
    /// Outputs.
    pub cols: usize,
    /// Multiplies the orthogonalised update: sqrt(max(1, d[-2] / d[-1])) of the parameter's PyTorch shape.
    pub scale: f32,
}

impl Matrix {
    /// A convolution's weight, stored [kh][kw][in][out]; for a depthwise one `inputs` is 1.
    pub fn conv(kernel: (usize, usize), inputs: usize, outputs: usize) -> Self {
        let (kh, kw) = kernel;
        Self { rows: kh * kw * inputs, cols: outputs, scale: (kh as f32 / kw as f32).max(1.0).sqrt() }
    }

    /// A linear layer's weight, stored [in][out].
    pub fn linear(inputs: usize, outputs: usize) -> Self {
        Self { rows: inputs, cols: outputs, scale: (outputs as f32 / inputs as f32).max(1.0).sqrt() }
    }
}

/// One trained parameter. Frozen parameters have none.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParamSlot {
    /// First value in the arena.
    pub offset: usize,
    /// Number of values.
    pub len: usize,
    /// For parameters of 2 or 4 dimensions, which MuSGD orthogonalises.
    pub matrix: Option<Matrix>,
    /// Learning rate and decay.
    pub group: Group,
    /// Multiplies the learning rate (MuSGD: 3 for all of the class branch; else 1).
    pub lr_scale: f64,
}

impl ParamSlot {
    /// Where the values lie.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.len
    }
}

/// Why a list of slots is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// A slot begins before the one before it ends.
    #[error("parameter slot {index} begins at {offset}, before the slot before it ends at {end}")]
    Order {
        /// Index of the slot.
        index: usize,
        /// Where it begins.
        offset: usize,
        /// Where the one before it ends.
        end: usize,
    },
    /// A slot ends beyond the arena.
    #[error("parameter slot {index} ends at {end}, beyond the arena of {len} values")]
    Beyond {
        /// Index of the slot.
        index: usize,
        /// Where it ends.
        end: usize,
        /// Length of the arena.
        len: usize,
    },
    /// A matrix does not have as many elements as its slot.
    #[error("parameter slot {index} has {len} values, but its matrix is {rows} x {cols}")]
    Matrix {
        /// Index of the slot.
        index: usize,
        /// Values of the slot.
        len: usize,
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        cols: usize,
    },
}

/// Checks that slots rise, do not overlap and lie within an arena of `len` values.
///
/// # Errors
/// The first fault.
pub fn check_slots(slots: &[ParamSlot], len: usize) -> Result<(), SlotError> {
    let mut before = 0;
    for (index, slot) in slots.iter().enumerate() {
        let offset = slot.offset;
        if offset < before {
            return Err(SlotError::Order { index, offset, end: before });
        }
        before = offset.saturating_add(slot.len);
        if before > len {
            return Err(SlotError::Beyond { index, end: before, len });
        }
        if let Some(Matrix { rows, cols, .. }) = slot.matrix
            && rows.checked_mul(cols) != Some(slot.len)
        {
            return Err(SlotError::Matrix { index, len: slot.len, rows, cols });
        }
    }
    Ok(())
}

/// The parts of the slots that lie in chunk `index` of `len` values, with their place in the chunk.
pub(crate) fn overlaps(
    slots: &[ParamSlot],
    index: usize,
    len: usize,
) -> impl Iterator<Item = (&ParamSlot, Range<usize>)> {
    let (start, end) = (index * CHUNK, index * CHUNK + len);
    let first = slots.partition_point(|s| s.offset + s.len <= start);
    slots[first..]
        .iter()
        .take_while(move |s| s.offset < end)
        .map(move |s| (s, s.offset.max(start) - start..(s.offset + s.len).min(end) - start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(offset: usize, len: usize) -> ParamSlot {
        ParamSlot { offset, len, matrix: None, group: Group::Weight, lr_scale: 1.0 }
    }

    #[test]
    fn faults_are_named() {
        assert_eq!(check_slots(&[slot(0, 4), slot(4, 2)], 6), Ok(()));
        assert_eq!(
            check_slots(&[slot(0, 4), slot(3, 2)], 6),
            Err(SlotError::Order { index: 1, offset: 3, end: 4 })
        );
        assert_eq!(check_slots(&[slot(2, 5)], 6), Err(SlotError::Beyond { index: 0, end: 7, len: 6 }));
        let matrix = ParamSlot { matrix: Some(Matrix::linear(2, 3)), ..slot(0, 4) };
        assert_eq!(check_slots(&[matrix], 6), Err(SlotError::Matrix { index: 0, len: 4, rows: 2, cols: 3 }));
    }

    #[test]
    fn chunks_cover_each_slot_once() {
        let slots = [slot(3, 5), slot(10, 2 * CHUNK), slot(2 * CHUNK + 10, 0), slot(2 * CHUNK + 20, 7)];
        let len = 3 * CHUNK - 5;
        let mut seen = vec![0u8; len];
        for index in 0..3 {
            let chunk = (len - index * CHUNK).min(CHUNK);
            for (_, range) in overlaps(&slots, index, chunk) {
                for i in range {
                    seen[index * CHUNK + i] += 1;
                }
            }
        }
        for (i, &count) in seen.iter().enumerate() {
            let held = slots.iter().any(|s| s.range().contains(&i));
            assert_eq!(count, u8::from(held), "value {i}");
        }
    }

    #[test]
    fn scale_is_that_of_the_torch_shape() {
        assert_eq!(Matrix::conv((3, 3), 8, 64), Matrix { rows: 72, cols: 64, scale: 1.0 });
        assert_eq!(Matrix::linear(8, 32).scale, 2.0);
        assert_eq!(Matrix::linear(32, 8).scale, 1.0);
    }
}
