//! The detection loss and its gradient on the device; `kernels/loss.cu` says how.

use std::sync::Arc;

use onsa_compute::cuda::{CudaError, Plain};

use super::{LOSS, Machine, Memory, Value};
use crate::data::batch::Target;
#[cfg(test)]
use crate::train::assign::Foreground;
use crate::train::loss::{LossConfig, LossError, LossItems, truth_of};

/// Bins of a side that the kernels are made for.
const BINS: usize = 16;
/// Levels that the kernels have room for.
const MAX_LEVELS: usize = 8;
/// Anchors a target takes at most that the kernels have room for.
const MAX_TOPK: usize = 16;
/// Most blocks that search for targets' anchors; each goes on to further targets.
const SEARCH_BLOCKS: u32 = 1024;

/// One level of the head in the device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadLevel {
    /// Address of the raw maps `[n, h, w, 64 + classes]`.
    pub map: u64,
    /// Address for their gradient; 0 where none is wanted.
    pub grad: u64,
    /// Rows of cells.
    pub h: usize,
    /// Cells in a row.
    pub w: usize,
    /// Elements of the maps from one cell to the next.
    pub map_pitch: usize,
    /// Elements of the gradient from one cell to the next.
    pub grad_pitch: usize,
    /// Whether the maps are bfloat16 rather than float32.
    pub map_half: bool,
    /// Whether the gradient is.
    pub grad_half: bool,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct LevelRow {
    map: u64,
    grad: u64,
    shape: [i32; 4],
    pitch: [i32; 2],
    half: [i32; 2],
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct HeadRow {
    levels: i32,
    images: i32,
    classes: i32,
    anchors: i32,
    topk: i32,
    unused: i32,
    alpha: f32,
    beta: f32,
    gains: [f64; 3],
    weights: u64,
    level: [LevelRow; MAX_LEVELS],
}

/// A target as the kernels read it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TargetRow {
    image: i32,
    class: i32,
    /// x1, y1, x2, y2 in pixels of the network's input.
    corners: [f32; 4],
}

/// What a batch's loss was, as the kernels write it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ItemsRow {
    terms: [f64; 4],
    foreground: i32,
    /// The number, from 1, of the first image whose loss is not finite; 0 for none.
    bad: u32,
}

// SAFETY: numbers in an order that needs no padding (8-byte fields first, an even number of 4-byte ones).
unsafe impl Plain for LevelRow {}
// SAFETY: as above.
unsafe impl Plain for HeadRow {}
// SAFETY: as above.
unsafe impl Plain for TargetRow {}
// SAFETY: as above.
unsafe impl Plain for ItemsRow {}

impl ItemsRow {
    /// The loss.
    ///
    /// # Errors
    /// The maps, or the loss of an image, were not finite; then no gradient was gathered.
    pub fn items(&self) -> Result<LossItems, LossError> {
        if self.bad > 0 {
            return Err(LossError::NonFinite { image: self.bad as usize - 1 });
        }
        let [box_, cls, dfl, total] = self.terms;
        Ok(LossItems { box_, cls, dfl, distill: None, total, foreground: self.foreground as usize })
    }
}

/// A batch's targets as the kernels read them: sorted by image, and each image's first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TargetTable {
    /// The targets; boxes of zeros are left out.
    pub rows: Vec<TargetRow>,
    /// First target of each image, then the number of all.
    pub starts: Vec<i32>,
}

impl TargetTable {
    /// The table of a batch of `n` images of `height` x `width` pixels, for a model of `nc` classes. `targets` are
    /// ordered by image.
    ///
    /// # Errors
    /// A target that is not finite, of a class that the model has not, or of an image that is not in the batch.
    pub fn new(
        targets: &[Target],
        n: usize,
        (height, width): (usize, usize),
        nc: usize,
    ) -> Result<TargetTable, LossError> {
        let mut rows = Vec::with_capacity(targets.len());
        let mut starts = vec![0; n + 1];
        for target in targets {
            let Some(truth) = truth_of(target, n, nc, (height as f32, width as f32))? else { continue };
            let b = truth.bbox;
            rows.push(TargetRow {
                image: target.image as i32,
                class: truth.class as i32,
                corners: [b.x1, b.y1, b.x2, b.y2],
            });
            starts[target.image as usize + 1] += 1;
        }
        // Stable, so that an image's targets keep their order; batches come sorted anyway.
        rows.sort_by_key(|row| row.image);
        for i in 0..n {
            starts[i + 1] += starts[i];
        }
        Ok(TargetTable { rows, starts })
    }
}

/// Where a batch's targets come from and its loss goes, by address.
#[derive(Clone, Copy, Debug)]
pub struct LossPlaces {
    /// A batch's [`TargetTable::rows`].
    pub targets: u64,
    /// A batch's [`TargetTable::starts`].
    pub starts: u64,
    /// For one [`ItemsRow`].
    pub items: u64,
}

impl LossPlaces {
    /// Address of the number, from 1, of the first image whose loss is not finite; 0 for none.
    pub fn bad(&self) -> u64 {
        self.items + std::mem::offset_of!(ItemsRow, bad) as u64
    }
}

/// The loss of batches of one size.
pub struct DeviceLoss {
    machine: Arc<dyn Machine>,
    images: u32,
    anchors: u32,
    places: LossPlaces,
    search_blocks: u32,
    head: Memory,
    /// Of the classes; the head names its address.
    _weights: Memory,
    decoded: Memory,
    angles: Memory,
    claims: Memory,
    peaks: Memory,
    scores: Memory,
    sums: Memory,
    counts: Memory,
    scales: Memory,
    foreground: Memory,
    bad: Memory,
    partial: Memory,
}

impl DeviceLoss {
    /// The loss of `images` images on the head's `levels`, of at most `capacity` targets.
    ///
    /// # Errors
    /// The memory does not suffice, or the head is of a kind that the kernels are not made for.
    pub fn new(
        machine: &Arc<dyn Machine>,
        config: &LossConfig,
        images: usize,
        levels: &[HeadLevel],
        places: LossPlaces,
        capacity: usize,
    ) -> Result<DeviceLoss, CudaError> {
        let fits = config.reg_max == BINS
            && (1..=MAX_TOPK).contains(&config.tal.topk)
            && (1..=MAX_LEVELS).contains(&levels.len())
            && levels.len() == config.strides.len();
        if !fits {
            return Err(CudaError::Unsupported(format!(
                "a loss with {} bins, {} anchors a target and {} levels",
                config.reg_max,
                config.tal.topk,
                levels.len()
            )));
        }
        let weights = Memory::of(machine, &config.class_weights)?;
        let mut row = HeadRow {
            levels: levels.len() as i32,
            images: images as i32,
            classes: config.nc as i32,
            topk: config.tal.topk as i32,
            alpha: config.tal.alpha,
            beta: config.tal.beta,
            gains: [config.gains.box_, config.gains.cls, config.gains.dfl].map(f64::from),
            weights: weights.address(),
            ..HeadRow::default()
        };
        for ((to, level), &stride) in row.level.iter_mut().zip(levels).zip(&config.strides) {
            *to = LevelRow {
                map: level.map,
                grad: level.grad,
                shape: [level.h as i32, level.w as i32, stride as i32, row.anchors],
                pitch: [level.map_pitch as i32, level.grad_pitch as i32],
                half: [i32::from(level.map_half), i32::from(level.grad_half)],
            };
            row.anchors += (level.h * level.w) as i32;
        }
        let anchors = row.anchors as usize;
        let cells = images * anchors;
        let blocks = images * (4 * anchors).div_ceil(256);
        let floats = |len: usize| Memory::zeros::<f32>(machine, len);
        Ok(DeviceLoss {
            machine: Arc::clone(machine),
            images: images as u32,
            anchors: anchors as u32,
            places,
            search_blocks: (capacity.max(1) as u32).min(SEARCH_BLOCKS),
            head: Memory::of(machine, &[row])?,
            _weights: weights,
            decoded: floats(4 * cells)?,
            angles: floats(cells)?,
            claims: floats(4 * cells)?,
            peaks: floats(2 * capacity)?,
            scores: floats(cells)?,
            sums: Memory::zeros::<f64>(machine, blocks)?,
            counts: floats(blocks)?,
            scales: Memory::zeros::<f64>(machine, 3)?,
            foreground: floats(1)?,
            bad: floats(images)?,
            partial: Memory::zeros::<f64>(machine, 3 * blocks)?,
        })
    }

    /// Images and anchors.
    pub(super) fn size(&self) -> (u32, u32) {
        (self.images, self.anchors)
    }

    /// The description of the head, for other kernels of the same maps.
    pub fn head(&self) -> &Memory {
        &self.head
    }

    /// Computes the loss of the maps, and where `learn` says so its gradient.
    ///
    /// # Errors
    /// The device refuses.
    pub fn enqueue(&self, learn: bool) -> Result<(), CudaError> {
        let address = |memory: &Memory| Value::Long(memory.address());
        let LossPlaces { targets, starts, items } = self.places;
        let [targets, starts, items] = [targets, starts, items].map(Value::Long);
        let head = address(&self.head);
        let (decoded, angles, claims) =
            (address(&self.decoded), address(&self.angles), address(&self.claims));
        let (peaks, scores, sums) = (address(&self.peaks), address(&self.scores), address(&self.sums));
        let (counts, scales, bad) = (address(&self.counts), address(&self.scales), address(&self.bad));
        let (foreground, partial) = (address(&self.foreground), address(&self.partial));
        let sides = [(4 * self.anchors).div_ceil(256), self.images];
        let cells = [self.anchors.div_ceil(256), self.images];
        let launch = |kernel, grid, threads, arguments: &[Value]| {
            // SAFETY: each list below is that of the kernel's declaration; the buffers are this structure's, sized in `new`,
            // and the head's maps live as long as their executor, which outlives the loss.
            unsafe { self.machine.launch(LOSS, kernel, grid, threads, arguments) }
        };
        let blocks = |grid: [u32; 2]| Value::Int((grid[0] * grid[1]) as i32);
        launch("loss_decode", sides, 256, &[head, decoded, angles, claims, bad])?;
        launch(
            "loss_search",
            [self.search_blocks, 1],
            128,
            &[head, targets, starts, decoded, angles, claims, peaks],
        )?;
        launch("loss_settle", cells, 256, &[head, targets, starts, decoded, angles, claims, peaks])?;
        launch("loss_scores", cells, 256, &[head, claims, peaks, scores, sums, counts])?;
        launch("loss_scales", [1, 1], 256, &[head, sums, counts, blocks(cells), scales, foreground])?;
        let learn = Value::Int(i32::from(learn));
        launch("loss_terms", sides, 256, &[head, targets, decoded, claims, scores, scales, learn, partial])?;
        let per_image = Value::Int(sides[0] as i32);
        launch("loss_items", [1, 1], 256, &[head, partial, per_image, scales, foreground, bad, items])
    }

    /// For tests: each image's anchors that learn a target.
    #[cfg(test)]
    pub(crate) fn assignment(&self, starts: &[i32]) -> Result<Vec<Vec<Foreground>>, CudaError> {
        let cells = (self.images * self.anchors) as usize;
        let scores: Vec<f32> = self.scores.read(cells)?;
        let claims: Vec<i32> = self.claims.read(4 * cells)?;
        let anchors = self.anchors as usize;
        Ok((0..self.images as usize)
            .map(|image| {
                (0..anchors)
                    .map(|a| (a, image * anchors + a))
                    .filter(|&(_, slot)| scores[slot] > 0.0)
                    .map(|(anchor, slot)| Foreground {
                        anchor,
                        truth: (claims[4 * slot + 1] - starts[image]) as usize,
                        score: scores[slot],
                    })
                    .collect()
            })
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boxes::Label;

    fn target(image: u32, class: u32, cx: f32, size: f32) -> Target {
        Target { image, label: Label { class, cx, cy: size, w: size, h: size } }
    }

    #[test]
    fn targets_lie_by_image_and_empty_boxes_are_left_out() {
        let targets = [target(0, 1, 0.5, 0.25), target(2, 0, 0.0, 0.0), target(2, 2, 0.25, 0.5)];
        let table = TargetTable::new(&targets, 3, (64, 32), 3).unwrap();
        assert_eq!(table.starts, [0, 1, 1, 2]);
        let row = |image, class, corners| TargetRow { image, class, corners };
        let expected = [row(0, 1, [12.0, 8.0, 20.0, 24.0]), row(2, 2, [0.0, 16.0, 16.0, 48.0])];
        assert_eq!(table.rows, expected);
    }

    #[test]
    fn malformed_targets_are_refused_as_by_the_processor() {
        let refuse = |target| TargetTable::new(&[target], 1, (64, 64), 2).unwrap_err();
        assert_eq!(refuse(target(0, 2, 0.5, 0.5)), LossError::Class { image: 0, class: 2, nc: 2 });
        assert_eq!(refuse(target(1, 0, 0.5, 0.5)), LossError::Image { image: 1, n: 1 });
        assert_eq!(refuse(target(0, 0, f32::NAN, 0.5)), LossError::Target { image: 0 });
    }

    #[test]
    fn a_loss_that_is_not_finite_names_its_image() {
        let bad = ItemsRow { bad: 3, ..ItemsRow::default() };
        assert_eq!(bad.items(), Err(LossError::NonFinite { image: 2 }));
        let good = ItemsRow { terms: [1.0, 2.0, 3.0, 12.0], foreground: 5, bad: 0 };
        let items = good.items().unwrap();
        assert_eq!(
            (items.box_, items.cls, items.dfl, items.total, items.foreground),
            (1.0, 2.0, 3.0, 12.0, 5)
        );
    }
}
