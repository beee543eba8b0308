//! Training samples as tables, and their pixels on the device; `kernels/augment.cu` says how.

use std::sync::Arc;

use onsa_compute::cuda::{CudaError, Plain};

use super::{AUGMENT, Machine, Memory, Value};
use crate::data::augment::SampleParams;
use crate::data::augment::hsv::{HUES, HsvGains};
use crate::data::augment::sample::{Layout, SamplePlan};
use crate::models::Normalise;

/// Pixels that a thread draws.
const PIXELS_A_THREAD: usize = 8;
/// Blocks of the tables' copy at most: the bus is slower than they are.
const TABLE_BLOCKS: usize = 64;

/// An image in the device's memory, RGB without gaps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceImage {
    /// Address of the first byte.
    pub address: u64,
    /// Pixels a row.
    pub width: u32,
}

/// The network's input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputView {
    /// Address of `[n, h, w, stride]`.
    pub address: u64,
    /// Elements a pixel, at least 3; those after R, G and B become 0.
    pub stride: usize,
    /// Whether bfloat16 rather than float32.
    pub half: bool,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct TileRow {
    image: u64,
    /// x1, y1, x2, y2, left, top, width.
    place: [i32; 8],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct ViewRow {
    back: [f64; 9],
    kind: i32,
    tiles: i32,
    tile: [TileRow; 4],
}

/// A sample as the kernel reads it.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct SampleRow {
    view: [ViewRow; 3],
    mixup: i32,
    share: u32,
    cutmix: i32,
    cut: [i32; 4],
    hsv: i32,
    flip_up_down: i32,
    flip_left_right: i32,
}

/// A sample's colour tables as the kernel reads them.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct ColourRow {
    saturation: [f32; 256],
    value: [f32; 256],
    fraction: [f32; HUES],
    order: [u32; HUES],
}

impl Default for ColourRow {
    fn default() -> ColourRow {
        ColourRow { saturation: [0.0; 256], value: [0.0; 256], fraction: [0.0; HUES], order: [0; HUES] }
    }
}

// SAFETY: 8-byte fields first, then an even number of 4-byte ones: no padding. Addresses are numbers to the host.
unsafe impl Plain for SampleRow {}
// SAFETY: 4-byte fields alone.
unsafe impl Plain for ColourRow {}

impl ViewRow {
    fn new(layout: &Layout, image: &impl Fn(usize) -> DeviceImage) -> ViewRow {
        let mut row = ViewRow::default();
        // A map that flattens the plane gives plain grey.
        let Some(back) = layout.map.inverse() else { return row };
        row.back = back.0;
        row.kind = if back.is_affine() { 1 } else { 2 };
        row.tiles = layout.members.len() as i32;
        for (tile, &(member, p)) in row.tile.iter_mut().zip(&layout.members) {
            let DeviceImage { address, width } = image(member);
            tile.image = address;
            let sides = [p.x1, p.y1, p.x2, p.y2].map(|v| v as i32);
            tile.place =
                [sides[0], sides[1], sides[2], sides[3], p.left as i32, p.top as i32, width as i32, 0];
        }
        row
    }
}

impl SampleRow {
    /// The row of a sample; `image` says where an item's pixels are.
    pub(crate) fn new(
        params: &SampleParams,
        plan: &SamplePlan,
        image: impl Fn(usize) -> DeviceImage,
    ) -> SampleRow {
        let mut row = SampleRow {
            hsv: i32::from(params.hsv.is_some()),
            flip_up_down: i32::from(params.flip_up_down),
            flip_left_right: i32::from(params.flip_left_right),
            ..SampleRow::default()
        };
        row.view[0] = ViewRow::new(&plan.view, &image);
        if let Some((layout, mix)) = &plan.mixup {
            row.view[1] = ViewRow::new(layout, &image);
            (row.mixup, row.share) = (1, mix.share());
        }
        if let Some((layout, area)) = &plan.cutmix {
            row.view[2] = ViewRow::new(layout, &image);
            (row.cutmix, row.cut) = (1, [area.x1, area.y1, area.x2, area.y2].map(|v| v as i32));
        }
        row
    }
}

impl ColourRow {
    /// The tables for these gains.
    pub(crate) fn new(gains: &HsvGains) -> ColourRow {
        let tables = gains.tables();
        let order = |i: usize| {
            let [r, g, b] = tables.hue[i].order.map(u32::from);
            r | g << 2 | b << 4
        };
        ColourRow {
            saturation: tables.saturation,
            value: tables.value,
            fraction: std::array::from_fn(|i| tables.hue[i].fraction),
            order: std::array::from_fn(order),
        }
    }
}

/// What every drawn pixel goes through, whatever it was drawn from.
pub(crate) struct Pixelwise {
    /// Of the conversion of colours.
    pub(crate) reciprocals: Memory,
    /// Of the network's input: what is subtracted from red, green and blue, and what they are multiplied by.
    pub(crate) normal: Memory,
}

impl Pixelwise {
    fn new(machine: &Arc<dyn Machine>, normalise: Normalise) -> Result<Pixelwise, CudaError> {
        let tables = HsvGains { hue: 0.0, saturation: 0.0, value: 0.0 }.tables();
        let reciprocals = [tables.saturation_of, tables.hue_of].concat();
        let normal = [normalise.mean, normalise.std.map(|std| 1.0 / std)].concat();
        Ok(Pixelwise {
            reciprocals: Memory::of(machine, &reciprocals)?,
            normal: Memory::of(machine, &normal)?,
        })
    }
}

/// Draws batches of samples.
pub struct DeviceAugment {
    machine: Arc<dyn Machine>,
    pixelwise: Pixelwise,
}

impl DeviceAugment {
    /// A drawer for networks that take values so.
    ///
    /// # Errors
    /// The device fails.
    pub fn new(machine: &Arc<dyn Machine>, normalise: Normalise) -> Result<DeviceAugment, CudaError> {
        Ok(DeviceAugment { machine: Arc::clone(machine), pixelwise: Pixelwise::new(machine, normalise)? })
    }

    /// For what draws otherwise.
    pub(crate) fn pixelwise(&self) -> &Pixelwise {
        &self.pixelwise
    }

    /// Draws `n` images of `height` x `width` pixels into the network's input: `samples` and `colours` are the addresses
    /// of as many rows.
    ///
    /// # Errors
    /// The device refuses.
    pub fn enqueue(
        &self,
        [samples, colours]: [u64; 2],
        input: InputView,
        [n, height, width]: [usize; 3],
    ) -> Result<(), CudaError> {
        let arguments = [
            Value::Long(samples),
            Value::Long(colours),
            Value::Long(self.pixelwise.reciprocals.address()),
            Value::Long(self.pixelwise.normal.address()),
            Value::Long(input.address),
            Value::Int(i32::from(input.half)),
            Value::Int(input.stride as i32),
            Value::Int(height as i32),
            Value::Int(width as i32),
        ];
        let blocks = (height * width).div_ceil(256 * PIXELS_A_THREAD).max(1) as u32;
        // SAFETY: the kernel's list; the rows' images stay where they are until the stream has passed.
        unsafe { self.machine.launch(AUGMENT, "augment", [blocks, n as u32], 256, &arguments) }
    }

    /// Copies `bytes`, up to a multiple of eight, from pinned memory of the host to the device's, by a kernel.
    ///
    /// # Errors
    /// The device refuses.
    pub fn enqueue_tables(&self, from: u64, to: u64, bytes: usize) -> Result<(), CudaError> {
        let words = bytes.div_ceil(8);
        let arguments = [Value::Long(from), Value::Long(to), Value::Int(words as i32)];
        let blocks = words.div_ceil(256).clamp(1, TABLE_BLOCKS) as u32;
        // SAFETY: the kernel's list; the caller names buffers of these sizes, and keeps the host's until the stream has passed.
        unsafe { self.machine.launch(AUGMENT, "bring_tables", [blocks, 1], 256, &arguments) }
    }

    /// Brings `pixels` RGB pixels at `bytes` into the network's input.
    ///
    /// # Errors
    /// The device refuses.
    pub fn enqueue_bytes(&self, bytes: u64, input: InputView, pixels: usize) -> Result<(), CudaError> {
        let arguments = [
            Value::Long(bytes),
            Value::Long(self.pixelwise.normal.address()),
            Value::Long(input.address),
            Value::Int(i32::from(input.half)),
            Value::Int(input.stride as i32),
            Value::Long(pixels as u64),
        ];
        let blocks = pixels.div_ceil(256 * PIXELS_A_THREAD).clamp(1, 1 << 16) as u32;
        // SAFETY: the kernel's list; the caller names buffers of these sizes.
        unsafe { self.machine.launch(AUGMENT, "bytes_to_input", [blocks, 1], 256, &arguments) }
    }
}
