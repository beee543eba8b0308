//! The boxes that score above a threshold, found on the device; `kernels/candidates.cu` says how.

use std::cmp::Ordering;
use std::sync::Arc;

use onsa_compute::cuda::{CudaError, Plain};

use super::loss::DeviceLoss;
use super::{LOSS, Machine, Memory, Value};
use crate::boxes::{Detection, Xyxy};

/// Candidates an image that there is room for: more than what validation looks at.
pub const ROOM: usize = 32_768;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CandidateRow {
    score: f32,
    anchor: u32,
    class: u32,
    corners: [f32; 4],
    unused: u32,
}

// SAFETY: 4-byte fields alone.
unsafe impl Plain for CandidateRow {}

/// Finds candidates in the maps of a [`DeviceLoss`]'s head.
pub struct DeviceCandidates {
    machine: Arc<dyn Machine>,
    cells: [u32; 2],
    head: u64,
    counts: Memory,
    bad: Memory,
    rows: Memory,
}

/// What was found in one image.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// All boxes that score above the threshold, best first, in pixels of the network's input.
    All(Vec<Detection>),
    /// More than there is room for: the maps themselves must be looked at.
    TooMany,
    /// A score is not a number, or a box not finite.
    NotFinite,
}

impl DeviceCandidates {
    /// A finder for the head that `loss` was made for, which must outlive it.
    ///
    /// # Errors
    /// The memory does not suffice.
    pub fn new(machine: &Arc<dyn Machine>, loss: &DeviceLoss) -> Result<DeviceCandidates, CudaError> {
        let (images, anchors) = loss.size();
        Ok(DeviceCandidates {
            machine: Arc::clone(machine),
            cells: [anchors.div_ceil(256), images],
            head: loss.head().address(),
            counts: Memory::zeros::<u32>(machine, images as usize)?,
            bad: Memory::zeros::<i32>(machine, images as usize)?,
            rows: Memory::zeros::<CandidateRow>(machine, images as usize * ROOM)?,
        })
    }

    /// Finds the boxes that score above `conf` (0 to 1), several labels for a box.
    ///
    /// # Errors
    /// The device fails.
    pub fn enqueue(&self, conf: f32) -> Result<(), CudaError> {
        let images = self.cells[1] as usize;
        let (counts, bad) = (Value::Long(self.counts.address()), Value::Long(self.bad.address()));
        // SAFETY: the kernel's list; the buffers are this structure's, sized in `new`.
        unsafe {
            let clear = [counts, bad, Value::Int(images as i32)];
            self.machine.launch(LOSS, "clear_candidates", [1, 1], 256, &clear)?;
        }
        // As the processor's code has it: the slack covers the rounding of the sigmoid.
        let least = (f64::from(conf) / (1.0 - f64::from(conf))).ln() as f32 - 1e-3;
        let arguments = [
            Value::Long(self.head),
            Value::Float(conf),
            Value::Float(least),
            Value::Unsigned(ROOM as u32),
            counts,
            bad,
            Value::Long(self.rows.address()),
        ];
        // SAFETY: as above, and the head's maps live as long as their executor.
        unsafe { self.machine.launch(LOSS, "find_candidates", self.cells, 256, &arguments) }
    }

    /// What the last [`DeviceCandidates::enqueue`] found, at most `limit` boxes an image.
    ///
    /// # Errors
    /// The device fails.
    pub fn collect(&self, limit: usize) -> Result<Vec<Found>, CudaError> {
        let images = self.cells[1] as usize;
        let counts: Vec<u32> = self.counts.read(images)?;
        let bad: Vec<i32> = self.bad.read(images)?;
        let mut found = Vec::with_capacity(images);
        for (image, (&count, &bad)) in counts.iter().zip(&bad).enumerate() {
            found.push(if bad != 0 {
                Found::NotFinite
            } else if count as usize > ROOM {
                Found::TooMany
            } else {
                let rows: Vec<CandidateRow> = self.rows.read_at(image * ROOM, count as usize)?;
                Found::All(best_first(rows, limit))
            });
        }
        Ok(found)
    }
}

/// Best score first; ties by anchor, then class: an order that does not depend on how they were found.
fn best_first(mut rows: Vec<CandidateRow>, limit: usize) -> Vec<Detection> {
    let order = |a: &CandidateRow, b: &CandidateRow| -> Ordering {
        b.score.total_cmp(&a.score).then(a.anchor.cmp(&b.anchor)).then(a.class.cmp(&b.class))
    };
    if rows.len() > limit {
        rows.select_nth_unstable_by(limit, order);
        rows.truncate(limit);
    }
    rows.sort_unstable_by(order);
    rows.into_iter()
        .map(|row| {
            let [x1, y1, x2, y2] = row.corners;
            Detection { class: row.class, score: row.score, bbox: Xyxy { x1, y1, x2, y2 } }
        })
        .collect()
}
