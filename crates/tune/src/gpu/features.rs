//! Kept features on the device: what the frozen part of a network made of every item, gathered for a batch.

use std::sync::Arc;

use onsa_compute::cuda::{CudaError, Precision, Tensor};

use super::{CROPS, Machine, Memory, Value};
use crate::data::batch::Target;
use crate::engine::Features;

/// The features of all items, float32, and the items' targets.
pub struct DeviceFeatures {
    machine: Arc<dyn Machine>,
    /// Each tap's values, and how many an item has.
    taps: Vec<(Memory, usize)>,
    features: Features,
}

impl DeviceFeatures {
    /// Brings features to the device.
    ///
    /// # Errors
    /// The memory does not suffice.
    pub fn new(machine: &Arc<dyn Machine>, features: Features) -> Result<DeviceFeatures, CudaError> {
        let bring = |(values, len): (&[f32], usize)| Ok((Memory::of(machine, values)?, len));
        let taps = features.taps().map(bring).collect::<Result<_, CudaError>>()?;
        Ok(DeviceFeatures { machine: Arc::clone(machine), taps, features: features.without_values() })
    }

    /// The targets of a batch of these items.
    pub fn targets(&self, items: &[usize]) -> Vec<Target> {
        self.features.targets(items)
    }

    /// Gathers the values of the items whose numbers stand at `items` (32-bit) into the inputs of the trained part.
    ///
    /// # Errors
    /// The device refuses.
    pub fn enqueue(&self, items: u64, inputs: &[Tensor]) -> Result<(), CudaError> {
        for ((values, len), input) in self.taps.iter().zip(inputs) {
            gather(&self.machine, (values, *len), items, input)?;
        }
        Ok(())
    }
}

/// One tap's values, `len` an item, of the items at `items` into `input`.
pub(super) fn gather(
    machine: &Arc<dyn Machine>,
    (values, len): (&Memory, usize),
    items: u64,
    input: &Tensor,
) -> Result<(), CudaError> {
    let arguments = [
        Value::Long(values.address()),
        Value::Long(items),
        Value::Long(input.address),
        Value::Int(i32::from(input.precision == Precision::Bf16)),
        Value::Int(input.pixel_stride as i32),
        Value::Int(input.channels() as i32),
        Value::Long(len as u64),
    ];
    let grid = [len.div_ceil(256 * 4).max(1) as u32, input.shape[0] as u32];
    // SAFETY: the kernel's list; each item has `len` values, and the input takes as many an image.
    unsafe { machine.launch(CROPS, "gather_features", grid, 256, &arguments) }
}
