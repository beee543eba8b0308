//! What a step's images are drawn from, and its loss, by the model's task.

use std::sync::Arc;

use onsa_compute::cuda::{CudaError, Executor, Tensor};

use super::super::Machine;
use super::super::augment::{ColourRow, DeviceAugment, InputView, SampleRow};
use super::super::crops::{CropPlaces, CropRow, DeviceCrops, TapRow};
use super::super::cross_entropy::{DeviceCrossEntropy, LogitsView};
use super::super::features::DeviceFeatures;
use super::super::loader::Pixels;
use super::super::loss::{DeviceLoss, HeadLevel, LossPlaces};
use super::super::machine::bytes_of;
use super::block::{DRAWING, Layout};
use crate::models::Task;
use crate::train::loss::LossConfig;

/// What a run's batches are made of.
#[derive(Clone)]
pub enum Material {
    /// A detector's samples.
    Samples,
    /// A classifier's crops.
    Crops {
        /// Operations of RandAugment in a row.
        operations: usize,
        /// Whether there is colour jitter.
        jitter: bool,
    },
    /// Kept features: then the trained part alone runs.
    Features(Arc<DeviceFeatures>),
}

impl Material {
    /// Bytes of an image's tables, for a side of `side` pixels.
    pub(super) fn tables(&self, side: usize) -> [usize; DRAWING] {
        match self {
            Material::Samples => [size_of::<SampleRow>(), size_of::<ColourRow>(), 0],
            Material::Crops { jitter, .. } => {
                let colours = if *jitter { size_of::<ColourRow>() } else { 0 };
                [size_of::<CropRow>(), 2 * side * size_of::<TapRow>(), colours]
            }
            Material::Features(_) => [size_of::<i32>(), 0, 0],
        }
    }
}

/// A batch's tables, as the block takes them. `items`: the batch's items as the kernels read them.
pub(super) fn tables<'a>(pixels: &'a Pixels, items: &'a [i32]) -> [&'a [u8]; DRAWING] {
    match pixels {
        Pixels::Tables { samples, colours, .. } => [bytes_of(samples), bytes_of(colours), &[]],
        Pixels::Crops { rows, taps, colours, .. } => [bytes_of(rows), bytes_of(taps), bytes_of(colours)],
        Pixels::Bytes(_) => [&[]; DRAWING],
        Pixels::Kept => [bytes_of(items), &[], &[]],
    }
}

/// What draws the images of one size of batch into the network.
pub(super) enum Drawer {
    /// Samples, or ready pixels.
    Samples(InputView),
    /// Crops, or ready pixels.
    Crops(InputView, DeviceCrops),
    /// Kept features.
    Features(Vec<Tensor>, Arc<DeviceFeatures>),
}

impl Drawer {
    pub(super) fn new(
        machine: &Arc<dyn Machine>,
        material: &Material,
        executor: &Executor,
        [n, _, width]: [usize; 3],
    ) -> Result<Drawer, CudaError> {
        let view = || InputView::of(&executor.input(0));
        Ok(match material {
            Material::Samples => Drawer::Samples(view()),
            Material::Crops { operations, .. } => {
                Drawer::Crops(view(), DeviceCrops::new(machine, (n, width), *operations)?)
            }
            Material::Features(features) => {
                let inputs = executor.plan().inputs.len();
                Drawer::Features((0..inputs).map(|i| executor.input(i)).collect(), Arc::clone(features))
            }
        })
    }

    /// Draws the batch whose tables stand at `block`, or whose pixels are `ready`.
    pub(super) fn enqueue(
        &self,
        augment: &DeviceAugment,
        (block, layout): (u64, &Layout),
        ready: Option<u64>,
        size: [usize; 3],
    ) -> Result<(), CudaError> {
        let table = |i: usize| block + layout.drawing(i) as u64;
        match (self, ready) {
            (Drawer::Samples(view) | Drawer::Crops(view, _), Some(bytes)) => {
                augment.enqueue_bytes(bytes, *view, size.iter().product())
            }
            (Drawer::Samples(view), None) => augment.enqueue([table(0), table(1)], *view, size),
            (Drawer::Crops(view, crops), None) => {
                let places = CropPlaces { rows: table(0), taps: table(1), colours: table(2) };
                crops.enqueue(places, augment.pixelwise(), *view)
            }
            (Drawer::Features(inputs, features), _) => features.enqueue(table(0), inputs),
        }
    }
}

/// The loss of one size of batch.
pub(super) enum TaskLoss {
    /// Boxes.
    Detect(Box<DeviceLoss>),
    /// Classes.
    Classify(Box<DeviceCrossEntropy>),
}

impl TaskLoss {
    pub(super) fn new(
        machine: &Arc<dyn Machine>,
        task: Task,
        config: &LossConfig,
        executor: &Executor,
        images: usize,
        (places, capacity): (LossPlaces, usize),
    ) -> Result<TaskLoss, CudaError> {
        Ok(match task {
            Task::Detect => {
                let levels: Vec<HeadLevel> = (0..config.strides.len())
                    .map(|level| HeadLevel::of(&executor.output(level), Some(&executor.output_grad(level))))
                    .collect();
                TaskLoss::Detect(Box::new(DeviceLoss::new(
                    machine, config, images, &levels, places, capacity,
                )?))
            }
            Task::Classify => {
                let views = (LogitsView::of(&executor.output(0)), LogitsView::of(&executor.output_grad(0)));
                let loss = DeviceCrossEntropy::new(machine, &config.class_weights, images, views, places)?;
                TaskLoss::Classify(Box::new(loss))
            }
        })
    }

    pub(super) fn enqueue(&self) -> Result<(), CudaError> {
        match self {
            TaskLoss::Detect(loss) => loss.enqueue(true),
            TaskLoss::Classify(loss) => loss.enqueue(),
        }
    }
}
