//! MuSGD's orthogonalisation of all matrices at once.

use std::sync::Arc;

use onsa_compute::cuda::{CudaError, Plain};

use super::super::{Machine, Memory, Value};
use super::GRANULE;
use crate::train::optimiser::ParamSlot;

/// Rows and columns of a product that one block of threads computes.
const BLOCK: usize = 32;
/// Blocks of an elementwise pass over a matrix.
const NORM_BLOCKS: u32 = 32;
/// Newton-Schulz iterations.
const STEPS: usize = 5;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct MatrixRow {
    offset: u64,
    x: u64,
    gram: u64,
    shape: [i32; 4],
    flip: i32,
    unused: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct BlockRow {
    matrix: i32,
    row: i32,
    column: i32,
}

// SAFETY: 8-byte fields, then an even number of 4-byte ones: no padding.
unsafe impl Plain for MatrixRow {}
// SAFETY: 4-byte fields alone.
unsafe impl Plain for BlockRow {}

/// The matrices among the parameters, and working memory.
pub(super) struct Orthogonal {
    /// The matrices' directions, in the arena's layout: in and out.
    pub(super) updates: Memory,
    /// For each granule of the arena its matrix's scale; 0 where there is none.
    pub(super) scales: Memory,
    count: u32,
    matrices: Memory,
    /// Blocks of the small product (Gram and polynomial) and of the large one.
    blocks: [(Memory, u32); 2],
    sums: Memory,
    x: Memory,
    next: Memory,
    gram: Memory,
    poly: Memory,
}

impl Orthogonal {
    pub(super) fn new(
        machine: &Arc<dyn Machine>,
        len: usize,
        slots: &[ParamSlot],
    ) -> Result<Orthogonal, CudaError> {
        let mut rows: Vec<MatrixRow> = Vec::new();
        let mut scales = vec![0.0f32; len.div_ceil(GRANULE)];
        let mut blocks = [Vec::new(), Vec::new()];
        let (mut x, mut gram) = (0usize, 0usize);
        for (slot, matrix) in slots.iter().filter_map(|slot| Some((slot, slot.matrix?))) {
            let (m, k) = (matrix.rows.min(matrix.cols), matrix.rows.max(matrix.cols));
            for (blocks, columns) in blocks.iter_mut().zip([m, k]) {
                for row in (0..m).step_by(BLOCK) {
                    for column in (0..columns).step_by(BLOCK) {
                        let matrix = rows.len() as i32;
                        blocks.push(BlockRow { matrix, row: row as i32, column: column as i32 });
                    }
                }
            }
            rows.push(MatrixRow {
                offset: slot.offset as u64,
                x: x as u64,
                gram: gram as u64,
                shape: [matrix.rows as i32, matrix.cols as i32, m as i32, k as i32],
                flip: i32::from(matrix.rows > matrix.cols),
                unused: 0,
            });
            scales[slot.offset / GRANULE..(slot.offset + slot.len).div_ceil(GRANULE)].fill(matrix.scale);
            x += m * k;
            gram += m * m;
        }
        let [small, large] = blocks;
        let on_device = |blocks: &[BlockRow]| Ok((Memory::of(machine, blocks)?, blocks.len() as u32));
        Ok(Orthogonal {
            updates: Memory::zeros::<f32>(machine, len)?,
            scales: Memory::of(machine, &scales)?,
            count: rows.len() as u32,
            matrices: Memory::of(machine, &rows)?,
            blocks: [on_device(&small)?, on_device(&large)?],
            sums: Memory::zeros::<f64>(machine, rows.len() * NORM_BLOCKS as usize)?,
            x: Memory::zeros::<f32>(machine, x)?,
            next: Memory::zeros::<f32>(machine, x)?,
            gram: Memory::zeros::<f32>(machine, gram)?,
            poly: Memory::zeros::<f32>(machine, gram)?,
        })
    }

    /// Makes `updates` orthogonal, matrix by matrix.
    pub(super) fn enqueue(
        &self,
        derived: Value,
        launch: impl Fn(&'static str, [u32; 2], u32, &[Value]) -> Result<(), CudaError>,
    ) -> Result<(), CudaError> {
        if self.count == 0 {
            return Ok(());
        }
        let long = |memory: &Memory| Value::Long(memory.address());
        let (matrices, updates) = (long(&self.matrices), long(&self.updates));
        let (mut x, mut next) = (long(&self.x), long(&self.next));
        let (sums, each) = (long(&self.sums), [NORM_BLOCKS, self.count]);
        launch("orthogonal_norms", each, 256, &[matrices, updates, sums, derived])?;
        launch("orthogonal_start", each, 256, &[matrices, updates, sums, x, derived])?;
        for _ in 0..STEPS {
            for phase in 0..3 {
                let (blocks, count) = &self.blocks[usize::from(phase == 2)];
                let arguments = [
                    matrices,
                    long(blocks),
                    Value::Int(phase),
                    x,
                    long(&self.gram),
                    long(&self.poly),
                    next,
                    derived,
                ];
                launch("orthogonal_product", [*count, 1], 64, &arguments)?;
            }
            std::mem::swap(&mut x, &mut next);
        }
        launch("orthogonal_finish", each, 256, &[matrices, x, updates, derived])
    }
}
