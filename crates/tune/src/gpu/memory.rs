//! How much of the GPU's memory a batch takes: the plans know it before anything is made.

use onsa_compute::cuda::{MemoryNeeded, Precision, memory_needed};
use onsa_compute::{Mode, Plan, Trainable};

use super::pixels::SLOTS;
use crate::engine::cut;
use crate::models::{Model, Task};

/// What is left free of the memory that there is: for the driver, other programs, validation's images and its batches of other
/// shapes, one part in this many.
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
    /// Bytes for each of a batch's samples of the images that they are drawn from, where those do not stay on the GPU.
    passing: usize,
}

impl MemoryUse {
    /// The use of a model's training.
    pub fn new(model: &Model, trainable: &Trainable, precision: Precision) -> MemoryUse {
        MemoryUse { model: model.clone(), trainable: trainable.clone(), precision, kept: false, passing: 0 }
    }

    /// The same where each sample is drawn from images of so many bytes that the GPU does not keep.
    pub fn passing(self, bytes: usize) -> MemoryUse {
        MemoryUse { passing: bytes * SLOTS, ..self }
    }

    /// The same where the trained part runs alone, on kept features.
    pub fn on_features(self, kept: bool) -> MemoryUse {
        MemoryUse { kept, ..self }
    }

    /// Bytes that stand whatever the batch: the arenas of the parameters' layout.
    pub fn parameters(&self) -> usize {
        ARENAS * 4 * self.model.blank_params().values.len()
    }

    /// Bytes of a training step's buffers for a batch of `[images, height, width]`; none where the size fits no plan.
    pub fn step(&self, size: [usize; 3]) -> Option<MemoryNeeded> {
        let model = self.model.resized(size).ok()?;
        let cells: usize = model.levels.iter().map(|level| level.height * level.width).sum();
        let drawn = match model.task() {
            Task::Classify if !self.kept => size[1] * size[2] * BYTES_A_CROP_PIXEL + BYTES_A_CROP,
            _ => 0,
        };
        let graph = if self.kept { cut(&model.graph, &self.trainable).ok()?.head } else { model.graph };
        let plan = Plan::new(&graph, Mode::Training, &self.trainable);
        let tables = size[0] * (cells * BYTES_A_CELL + drawn + self.passing);
        let own = MemoryNeeded { own: tables, ..MemoryNeeded::default() };
        Some(memory_needed(&plan, self.precision)?.beside(own))
    }

    /// Bytes of a validation's buffers for a batch of `[images, height, width]`.
    pub fn validation(&self, size: [usize; 3]) -> Option<MemoryNeeded> {
        // On kept features the processor validates.
        if self.kept && self.model.task() == Task::Classify {
            return Some(MemoryNeeded::default());
        }
        let model = self.model.resized(size).ok()?;
        let plan = Plan::new(&model.graph, Mode::Inference, &Trainable::nothing(&model.graph));
        memory_needed(&plan, self.precision)
    }

    /// Bytes of a run with batches of `n` of `images` images: the steps of a full batch and of an epoch's last, and validation,
    /// whose batches are twice as large. All run in one workspace.
    pub fn run(&self, n: usize, images: usize, [height, width]: [usize; 2]) -> Option<usize> {
        let last = match images % n {
            0 => MemoryNeeded::default(),
            rest => self.step([rest, height, width])?,
        };
        Some(
            self.step([n, height, width])?
                .beside(last)
                .beside(self.validation([2 * n, height, width])?)
                .total(),
        )
    }
}

/// The largest batch of images of `[height, width]` pixels with which a run of `images` images fits in `free` bytes, beside the
/// parameters; at most `images`, and 0 where none does.
pub fn largest_batch(usage: &MemoryUse, free: usize, size: [usize; 2], images: usize) -> usize {
    let room = free - free / SPARE;
    // Without the last batch memory grows with the batch: a bound from above.
    let grows = |n: usize| -> Option<usize> {
        let [height, width] = size;
        Some(usage.step([n, height, width])?.beside(usage.validation([2 * n, height, width])?).total())
    };
    let (mut low, mut high) = (0, images + 1);
    // `low` fits or is 0, `high` does not or is beyond what is asked for.
    while high - low > 1 {
        let middle = low.midpoint(high);
        if grows(middle).is_some_and(|bytes| bytes <= room) { low = middle } else { high = middle }
    }
    (1..=low).rev().find(|&n| usage.run(n, images, size).is_some_and(|bytes| bytes <= room)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::registry;

    fn usage(name: &str) -> MemoryUse {
        let model = Model::build(&registry::find(name).unwrap().architecture(3), [1, 64, 64]).unwrap();
        MemoryUse::new(&model, &Trainable::all(&model.graph), Precision::Bf16)
    }

    #[test]
    fn the_largest_batch_fits_and_the_next_does_not() {
        for name in ["yolo11n", "resnet18"] {
            let (usage, size) = (usage(name), [128, 96]);
            // 110 images: no last batch at 11, one of 2 at 12.
            let of = |n: usize| usage.run(n, 110, size).unwrap();
            assert!(of(2) > of(1) && of(16) > of(8));
            let [full, last] = [12, 2].map(|n| usage.step([n, 128, 96]).unwrap());
            assert!(of(12) > full.total() + last.own, "each has tables of its own");
            assert!(of(12) < full.total() + last.total() + usage.validation([24, 128, 96]).unwrap().total());
            let free = of(11) * SPARE / (SPARE - 1) + SPARE;
            assert_eq!(largest_batch(&usage, free, size, 110), 11, "{name}");
            assert_eq!(largest_batch(&usage, free, size, 4), 4, "no more than there are images");
            assert_eq!(largest_batch(&usage, of(1) / 2, size, 100), 0);
        }
    }

    #[test]
    fn a_batch_leaves_room_for_the_images_that_it_is_drawn_from_and_makes_no_tensor_too_long() {
        let (alone, size) = (usage("yolo11n"), [128, 96]);
        let free = alone.run(40, 400, size).unwrap() * SPARE / (SPARE - 1) + SPARE;
        assert_eq!(largest_batch(&alone, free, size, 400), 40);
        let passing = usage("yolo11n").passing(1 << 20);
        let fits = largest_batch(&passing, free, size, 400);
        assert!(fits < 40 && passing.run(fits, 400, size).unwrap() <= free, "{fits}");
        // The first layer's 16 channels of a quarter of the pixels.
        assert!(alone.step([i32::MAX as usize / (16 * 320 * 320) + 1, 640, 640]).is_none());
    }

    #[test]
    fn a_head_on_kept_features_takes_little() {
        let usage = usage("resnet18");
        let model = usage.model.clone();
        let head: Trainable =
            crate::models::Trainable::new(&model, &crate::models::Freeze::AllButLogits).unwrap().into();
        let kept = MemoryUse::new(&model, &head, Precision::Bf16).on_features(true);
        let size = [16, 64, 64];
        assert!(kept.step(size).unwrap().total() * 4 < usage.step(size).unwrap().total());
        assert_eq!(kept.parameters(), usage.parameters());
    }
}
