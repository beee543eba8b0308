//! A classifier's training samples as tables, and their pixels on the device; `kernels/crops.cu` says how.

use std::sync::Arc;

use onsa_compute::cuda::{CudaError, Plain};

use super::augment::{ColourRow, DeviceImage, InputView, Pixelwise};
use super::{CROPS, Machine, Memory, Value};
use crate::data::classify::augment::ClassifySample;
use crate::data::classify::{CropArea, Op};
use crate::data::resize::{AveragingTap, MAX_TAPS, averaging_taps};

/// Operations in a row that a row has room for.
pub const OPERATIONS: usize = 2;
/// Threads that count an image's values.
const COUNTING: u32 = 512;
/// Bytes of an operation's table: what each value of each channel becomes.
const TABLE: usize = 3 * 256;

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct OperationRow {
    kind: i32,
    level: i32,
    factor: f32,
    unused: i32,
    a: f64,
    b: f64,
}

/// A sample as the kernels read it.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct CropRow {
    image: u64,
    width: i32,
    bits: [i32; 2],
    flip_left_right: i32,
    flip_up_down: i32,
    hsv: i32,
    erased: [i32; 4],
    operations: [OperationRow; OPERATIONS],
}

/// What a row or column of a sample is made of, as the kernels read it.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct TapRow {
    first: i32,
    count: i32,
    weights: [i16; MAX_TAPS],
}

// SAFETY: an even number of 4-byte fields, then 8-byte ones: no padding.
unsafe impl Plain for OperationRow {}
// SAFETY: as above; 10 fields of 4 bytes stand between the address and the operations.
unsafe impl Plain for CropRow {}
// SAFETY: 4-byte fields, then an even number of 2-byte ones.
unsafe impl Plain for TapRow {}

impl From<&AveragingTap> for TapRow {
    fn from(tap: &AveragingTap) -> TapRow {
        TapRow { first: tap.first as i32, count: tap.count as i32, weights: tap.weights }
    }
}

impl From<Op> for OperationRow {
    fn from(op: Op) -> OperationRow {
        let row = OperationRow::default();
        let moved = |kind, a| OperationRow { kind, a, ..row };
        let blend = |kind, factor: f64| OperationRow { kind, factor: factor as f32, ..row };
        let level = |kind, level: u8| OperationRow { kind, level: i32::from(level), ..row };
        match op {
            Op::Identity => row,
            Op::ShearX(slope) => moved(1, slope),
            Op::ShearY(slope) => moved(2, slope),
            Op::TranslateX(pixels) => moved(3, pixels.trunc()),
            Op::TranslateY(pixels) => moved(4, pixels.trunc()),
            Op::Rotate(degrees) => {
                let (sin, cos) = degrees.to_radians().sin_cos();
                OperationRow { b: sin, ..moved(5, cos) }
            }
            Op::Brightness(factor) => blend(6, factor),
            Op::Colour(factor) => blend(7, factor),
            Op::Contrast(factor) => blend(8, factor),
            Op::Sharpness(factor) => blend(9, factor),
            Op::Posterize(bits) => level(10, 0xffu8 << (8 - bits.min(8))),
            Op::Solarize(from) => level(11, from),
            Op::AutoContrast => moved(12, 0.0),
            Op::Equalize => moved(13, 0.0),
        }
    }
}

/// A sample's tables.
pub(crate) struct CropTables {
    pub(crate) row: CropRow,
    /// Of its columns, then of its rows.
    pub(crate) taps: Vec<TapRow>,
    pub(crate) colours: Option<ColourRow>,
}

impl CropTables {
    /// The tables of a sample of `side` pixels from an image of `size` (width, height). None where the kernels have no room for
    /// it: a crop more than about three times as large as the sample, or more operations than two.
    pub(crate) fn new(
        sample: &ClassifySample,
        image: DeviceImage,
        (width, height): (usize, usize),
        side: usize,
    ) -> Option<CropTables> {
        let CropArea { left, top, width: w, height: h } = sample.crop;
        let (x_bits, columns) = averaging_taps(width, (left, w), side)?;
        let (y_bits, rows) = averaging_taps(height, (top, h), side)?;
        let mut operations = [OperationRow::default(); OPERATIONS];
        if sample.operations.len() > OPERATIONS {
            return None;
        }
        operations.iter_mut().zip(&sample.operations).for_each(|(to, &op)| *to = op.into());
        let erased = sample.erased.map_or([0; 4], |CropArea { left, top, width, height }| {
            [left, top, left + width, top + height].map(|v| v as i32)
        });
        let row = CropRow {
            image: image.address,
            width: image.width as i32,
            bits: [x_bits, y_bits].map(|bits| bits as i32),
            flip_left_right: i32::from(sample.fliplr),
            flip_up_down: i32::from(sample.flipud),
            hsv: i32::from(sample.hsv.is_some()),
            erased,
            operations,
        };
        let taps = columns.iter().chain(&rows).map(TapRow::from).collect();
        Some(CropTables { row, taps, colours: sample.hsv.as_ref().map(ColourRow::new) })
    }
}

/// Where a batch's tables are on the device.
#[derive(Clone, Copy, Debug)]
pub struct CropPlaces {
    /// A [`CropRow`] an image.
    pub rows: u64,
    /// `2 * side` of [`TapRow`] an image.
    pub taps: u64,
    /// A [`ColourRow`] an image, where there is jitter.
    pub colours: u64,
}

/// Draws batches of one size.
pub struct DeviceCrops {
    machine: Arc<dyn Machine>,
    images: usize,
    side: usize,
    operations: usize,
    /// The images between two passes, as bytes.
    bytes: [Memory; 2],
    tables: Memory,
}

impl DeviceCrops {
    /// A drawer of `images` samples of `side` pixels, each with so many operations.
    ///
    /// # Errors
    /// The memory does not suffice.
    pub fn new(
        machine: &Arc<dyn Machine>,
        (images, side): (usize, usize),
        operations: usize,
    ) -> Result<DeviceCrops, CudaError> {
        let room =
            |wanted: bool| Memory::zeros::<u8>(machine, if wanted { images * side * side * 3 } else { 0 });
        Ok(DeviceCrops {
            machine: Arc::clone(machine),
            images,
            side,
            operations: operations.min(OPERATIONS),
            bytes: [room(true)?, room(operations > 0)?],
            tables: Memory::zeros::<u8>(machine, images * TABLE)?,
        })
    }

    /// Draws a batch into the network's input.
    ///
    /// # Errors
    /// The device refuses.
    pub(crate) fn enqueue(
        &self,
        places: CropPlaces,
        pixelwise: &Pixelwise,
        input: InputView,
    ) -> Result<(), CudaError> {
        let images = self.images as u32;
        let grid = [(self.side * self.side).div_ceil(256 * 4).max(1) as u32, images];
        let (rows, side) = (Value::Long(places.rows), Value::Int(self.side as i32));
        let launch = |kernel, grid, threads, arguments: &[Value]| {
            // SAFETY: each list below is that of the kernel's declaration; the buffers are this structure's, sized in `new`; the
            // rows' images stay where they are until the stream has passed.
            unsafe { self.machine.launch(CROPS, kernel, grid, threads, arguments) }
        };
        let bytes = |i: usize| Value::Long(self.bytes[i % 2].address());
        let tables = Value::Long(self.tables.address());
        launch("crop_images", grid, 256, &[rows, Value::Long(places.taps), bytes(0), side])?;
        for i in 0..self.operations {
            let which = Value::Int(i as i32);
            launch("operation_tables", [images, 1], COUNTING, &[rows, which, bytes(i), tables, side])?;
            launch("apply_operation", grid, 256, &[rows, which, bytes(i), tables, bytes(i + 1), side])?;
        }
        let arguments = [
            rows,
            Value::Long(places.colours),
            Value::Long(pixelwise.reciprocals.address()),
            Value::Long(pixelwise.normal.address()),
            bytes(self.operations),
            Value::Long(input.address),
            Value::Int(i32::from(input.half)),
            Value::Int(input.stride as i32),
            side,
        ];
        launch("crops_to_input", grid, 256, &arguments)
    }
}
