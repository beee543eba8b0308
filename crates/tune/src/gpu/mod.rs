//! What of training and validation is vision's, on the GPU: pixels and augmentation, the detection loss with its
//! assignment, the classification loss, the optimiser with clipping and moving average, the search for boxes.
//!
//! Each part is a file of kernels (`kernels/*.cu`) and a Rust file that owns its buffers and launches them. They see
//! the network's buffers by their addresses alone. What they compute is what the processor's code computes, operation
//! by operation: the kernels are compiled without contraction of multiplications and additions, sums have a fixed
//! order, and the host draws all random numbers. A [`Machine`] runs the kernels: a GPU, or in tests an emulator.

pub mod augment;
pub mod candidates;
pub mod crops;
pub mod cross_entropy;
#[cfg(test)]
mod emulator;
pub mod features;
pub mod guesses;
pub mod loader;
pub mod loss;
mod machine;
pub mod memory;
pub mod optimiser;
pub mod pixels;
pub mod step;
#[cfg(test)]
mod tests;
mod val_batches;
pub mod validate;

use onsa_compute::cuda::Source;

pub use machine::{Gpu, Machine, Memory, Value};

/// Puts the shared part before a file of kernels.
macro_rules! source {
    ($name:literal, $($file:literal),+) => {
        Source {
            name: $name,
            text: concat!(
                "// exact\n", include_str!("kernels/common.cuh"), $(include_str!(concat!("kernels/", $file))),+
            ),
        }
    };
}

/// Every source of this crate.
pub static SOURCES: [Source; 4] = [
    source!("training_augment", "pixels.cuh", "augment.cu"),
    source!("training_loss", "loss.cu", "candidates.cu", "cross_entropy.cu"),
    source!("training_optimiser", "optimiser.cu"),
    source!("training_crops", "pixels.cuh", "crops.cu"),
];
static AUGMENT: &Source = &SOURCES[0];
static LOSS: &Source = &SOURCES[1];
static OPTIMISER: &Source = &SOURCES[2];
static CROPS: &Source = &SOURCES[3];
