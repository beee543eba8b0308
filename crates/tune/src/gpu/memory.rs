//! How much of the GPU's memory a batch takes: the plans know it before anything is made.

use onsa_compute::cuda::{Precision, memory_needed};
use onsa_compute::{Mode, Plan, Trainable};

use crate::engine::cut;
use crate::models::{Model, Task};

/// What is left free of the memory that there is: for the driver, other programs, validation's plans, one part in this
/// many.
const SPARE: usize = 8;
/// Bytes of an image's part of the loss's and the loader's tables, for each cell of the head, generously.
const BYTES_A_CELL: usize = 64;
/// Bytes of a classifier's sample between its passes, for each pixel: twice red, green and blue; and its tables.
const BYTES_A_CROP_PIXEL: usize = 6;
const BYTES_A_CROP: usize = 64 << 10;
/// Arenas of the parameters' layout: parameters, gradients, gathered, average, two of the optimiser, three of MuSGD.
const ARENAS: usize = 9;

/// What memory depends on beside the batch.
pub struct MemoryUse {
    model: Model,
    trainable: Trainable,
    precision: Precision,
    /// Whether the trained part runs alone, on kept features.
    kept: bool,
}

impl MemoryUse {
    /// The use of a model's training.
    pub fn new(model: &Model, trainable: &Trainable, precision: Precision) -> MemoryUse {
        MemoryUse { model: model.clone(), trainable: trainable.clone(), precision, kept: false }
    }

    /// The same where the trained part runs alone, on kept features.
    pub fn on_features(self, kept: bool) -> MemoryUse {
        MemoryUse { kept, ..self }
    }

    /// Bytes for a batch of `[images, height, width]`; none where the size fits no plan.
    pub fn of(&self, size: [usize; 3]) -> Option<usize> {
        let model = self.model.resized(size).ok()?;
        let cells: usize = model.levels.iter().map(|level| level.height * level.width).sum();
        let drawn = match model.task() {
            Task::Classify if !self.kept => size[1] * size[2] * BYTES_A_CROP_PIXEL + BYTES_A_CROP,
            _ => 0,
        };
        let graph = if self.kept { cut(&model.graph, &self.trainable).ok()?.head } else { model.graph };
        let plan = Plan::new(&graph, Mode::Training, &self.trainable);
        let arenas = ARENAS * 4 * self.model.blank_params().values.len();
        Some(memory_needed(&plan, self.precision) + size[0] * (cells * BYTES_A_CELL + drawn) + arenas)
    }
}

/// The largest batch of images of `[height, width]` pixels that fits in `free` bytes, at most `most`; 0 where none does.
pub fn largest_batch(usage: &MemoryUse, free: usize, [height, width]: [usize; 2], most: usize) -> usize {
    let room = free - free / SPARE;
    let fits = |n: usize| usage.of([n, height, width]).is_some_and(|bytes| bytes <= room);
    let (mut low, mut high) = (0, most + 1);
    // `low` fits or is 0, `high` does not or is beyond what is asked for.
    while high - low > 1 {
        let middle = low.midpoint(high);
        if fits(middle) { low = middle } else { high = middle }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::registry;

    #[test]
    fn the_largest_batch_fits_and_the_next_does_not() {
        let architecture = registry::find("yolo11n").unwrap().architecture(3);
        let model = Model::build(&architecture, [1, 64, 64]).unwrap();
        let usage = MemoryUse::new(&model, &Trainable::all(&model.graph), Precision::Bf16);
        let size = [128, 96];
        let of = |n: usize| usage.of([n, size[0], size[1]]).unwrap();
        assert!(of(2) > of(1) && of(16) > of(8));
        let free = of(11) * SPARE / (SPARE - 1) + SPARE;
        assert_eq!(largest_batch(&usage, free, size, 100), 11);
        assert_eq!(largest_batch(&usage, free, size, 4), 4, "no more than there are images");
        assert_eq!(largest_batch(&usage, of(1) / 2, size, 100), 0);
    }
}
