//! The classification loss and its gradient on the device; `kernels/cross_entropy.cu` says how.

use std::sync::Arc;

use onsa_compute::cuda::CudaError;

use super::loss::LossPlaces;
use super::{LOSS, Machine, Memory, Value};

/// A classifier's output in the device's memory, and where its gradient goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogitsView {
    /// Address of `[n, pitch]`, of which the first `classes` elements count.
    pub address: u64,
    /// Elements from one image to the next.
    pub pitch: usize,
    /// Whether bfloat16 rather than float32.
    pub half: bool,
}

/// The loss of batches of one size.
pub struct DeviceCrossEntropy {
    machine: Arc<dyn Machine>,
    images: usize,
    classes: usize,
    logits: LogitsView,
    grad: LogitsView,
    places: LossPlaces,
    weights: Memory,
    losses: Memory,
    shares: Memory,
    bad: Memory,
}

impl DeviceCrossEntropy {
    /// The loss of `images` images with these weights of the classes.
    ///
    /// # Errors
    /// The memory does not suffice.
    pub fn new(
        machine: &Arc<dyn Machine>,
        weights: &[f32],
        images: usize,
        (logits, grad): (LogitsView, LogitsView),
        places: LossPlaces,
    ) -> Result<DeviceCrossEntropy, CudaError> {
        Ok(DeviceCrossEntropy {
            machine: Arc::clone(machine),
            images,
            classes: weights.len(),
            logits,
            grad,
            places,
            weights: Memory::of(machine, weights)?,
            losses: Memory::zeros::<f64>(machine, images)?,
            shares: Memory::zeros::<f64>(machine, images)?,
            bad: Memory::zeros::<u32>(machine, images)?,
        })
    }

    /// Computes the loss and the gradient. Each image must have a target.
    ///
    /// # Errors
    /// The device refuses.
    pub fn enqueue(&self) -> Result<(), CudaError> {
        let address = |memory: &Memory| Value::Long(memory.address());
        let view = |v: &LogitsView| {
            [Value::Long(v.address), Value::Int(i32::from(v.half)), Value::Int(v.pitch as i32)]
        };
        let LossPlaces { targets, starts, items } = self.places;
        let (losses, shares, bad) = (address(&self.losses), address(&self.shares), address(&self.bad));
        let mut arguments: Vec<Value> = view(&self.logits).into_iter().chain(view(&self.grad)).collect();
        arguments.extend([Value::Int(self.classes as i32), Value::Long(targets), Value::Long(starts)]);
        arguments.extend([address(&self.weights), losses, shares, bad]);
        let images = self.images as u32;
        // SAFETY: the kernels' lists; the buffers are sized in `new`, and the views live as long as their executor.
        unsafe {
            self.machine.launch(LOSS, "cross_entropy", [images, 1], 128, &arguments)?;
            let arguments = [losses, shares, bad, Value::Int(images as i32), Value::Long(items)];
            self.machine.launch(LOSS, "cross_entropy_items", [1, 1], 256, &arguments)
        }
    }
}
