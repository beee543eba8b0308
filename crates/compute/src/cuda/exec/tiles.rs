//! Which kernel a dense convolution takes, and into how many parts a weight gradient is cut.
//!
//! The rules were fitted to times of every kernel over the shapes of YOLO11n at batches of 16 and 64 on an H100: what they
//! choose takes within 2 % of what timing each shape would. They are functions of shapes and of the number of processors
//! alone, so that the same GPU always sums in the same order.

use super::super::{Precision, Tensor};
use super::layout::SPLIT_FLOATS;

/// Pixels of a split at least.
const MIN_SPLIT: usize = 256;
/// Splits at most.
const MAX_SPLITS: usize = 512;
/// Blocks of a weight gradient for each processor where no times are known.
pub(super) const WAVES: usize = 3;

/// A kernel of conv.cu.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub rows: usize,
    pub columns: usize,
    vector: usize,
    pub threads: u32,
    stages: usize,
}

const fn tile(rows: usize, columns: usize, vector: usize, threads: u32, stages: usize) -> Tile {
    Tile { rows, columns, vector, threads, stages }
}

impl Tile {
    pub fn shared(self) -> u32 {
        (self.stages * (self.rows + self.columns) * 64 + self.rows * 16) as u32
    }

    pub fn name(self, precision: Precision) -> String {
        let kind = if precision == Precision::Tf32 { "conv_tf32" } else { "conv" };
        format!("{kind}_{}_{}_{}", self.rows, self.columns, self.vector)
    }
}

/// The tile for `pixels` by `out` results, each a sum of `inner` products. As timed on an H100 over the shapes of YOLO11n at
/// batches of 16 and 64: tiles of 128 by 128 were never the fastest, and where sums are short or the gradient is cut into
/// `classes`, smaller tiles are.
pub(super) fn choose_tile(
    pixels: usize,
    out: usize,
    (inner, classes): (usize, usize),
    (vector, precision): (usize, Precision),
    processors: usize,
) -> Tile {
    let (few, short) = (pixels.div_ceil(128), inner <= 32 || classes > 1);
    match vector {
        v if v == precision.vector() => match () {
            () if out <= 16 => tile(128, 16, v, 128, 4),
            () if out <= 32 && few >= 2 * processors => tile(128, 32, v, 128, 4),
            () if out <= 32 => tile(64, 32, v, 128, 4),
            () if short || few * out.div_ceil(64) < processors => tile(64, 64, v, 128, 4),
            () => tile(128, 64, v, 128, 4),
        },
        4 if out <= 16 => tile(128, 16, 4, 128, 4),
        4 if out <= 32 => tile(128, 32, 4, 128, 4),
        4 => tile(128, 64, 4, 128, 4),
        _ if out <= 16 => tile(128, 16, 1, 128, 4),
        _ => tile(128, 64, 1, 128, 4),
    }
}

/// Floats of partial results that a weight gradient of `len` elements over `pixels` may need.
pub(super) fn split_floats(len: usize, pixels: usize) -> usize {
    let most = pixels.div_ceil(MIN_SPLIT).min(MAX_SPLITS);
    len * most.min(SPLIT_FLOATS / len).max(1)
}

/// A kernel of weight_grad.cu, and what its time is made of: `micros` for a pixel of a split, times the blocks beside it on the
/// processor (at most `resident`) and some of its own.
#[derive(Clone, Copy)]
pub(super) struct GradTile {
    pub rows: usize,
    pub columns: usize,
    pub threads: u32,
    stages: usize,
    micros: f64,
    resident: f64,
}

const fn grad(
    rows: usize,
    columns: usize,
    (threads, stages): (u32, usize),
    micros: f64,
    resident: f64,
) -> GradTile {
    GradTile { rows, columns, threads, stages, micros, resident }
}

/// Those for vectors of 16 bytes.
const GRAD_TILES: [GradTile; 5] = [
    grad(64, 16, (128, 4), 8.3e-4, 6.0),
    grad(64, 32, (128, 4), 1.24e-3, 9.0),
    grad(64, 64, (128, 4), 1.76e-3, 5.0),
    grad(128, 64, (128, 4), 2.9e-3, 3.0),
    grad(128, 128, (256, 3), 9.8e-3, 1.6),
];
/// Blocks for each processor that are weighed.
const GRAD_WAVES: [usize; 4] = [1, 2, 3, 6];
/// A block's own time, in blocks beside it.
const ALONE: f64 = 1.6;
/// Microseconds of adding the splits: once, and for each of their numbers.
const REDUCE: (f64, f64) = (2.0, 1.5e-6);

impl GradTile {
    /// simple.cu's.
    pub const SIMPLE: GradTile = grad(64, 64, (256, 0), 0.0, 1.0);

    /// Bytes of shared memory.
    pub fn shared(self) -> u32 {
        (self.stages * (self.rows + self.columns) * 64) as u32
    }
}

/// A weight's gradient as a matrix product: `rows` by `out`, summed over `pixels`.
#[derive(Clone, Copy)]
pub(super) struct GradShape {
    pub rows: usize,
    pub out: usize,
    /// Elements of the weight.
    pub len: usize,
    pub pixels: usize,
    /// Splits for which there is room.
    pub most: usize,
    pub processors: usize,
}

impl GradShape {
    fn tiles(&self, tile: GradTile) -> usize {
        self.rows.div_ceil(tile.rows) * self.out.div_ceil(tile.columns)
    }

    /// Pixels of a split, and how many there are, for `waves` blocks a processor.
    pub fn splits(&self, tile: GradTile, waves: usize) -> (usize, usize) {
        let wanted = (waves * self.processors).div_ceil(self.tiles(tile));
        let split = self.pixels.div_ceil(wanted.clamp(1, self.most)).next_multiple_of(32);
        (split, self.pixels.div_ceil(split))
    }

    /// Microseconds on an H100, about.
    fn time(&self, tile: GradTile, waves: usize) -> f64 {
        let (split, splits) = self.splits(tile, waves);
        let beside = (self.tiles(tile) * splits) as f64 / self.processors as f64;
        let rounds = (beside / tile.resident).max(1.0);
        let main = split as f64 * tile.micros * (beside.clamp(1.0, tile.resident) + ALONE) * rounds;
        let reduce = if splits > 1 { REDUCE.0 + (splits * self.len) as f64 * REDUCE.1 } else { 0.0 };
        main + reduce
    }

    /// The kernel with its blocks a processor, and the vectors that it reads x and dy in.
    pub fn tile(&self, x: &Tensor, dy: &Tensor) -> (GradTile, usize, usize, usize) {
        let out = self.out;
        let plain =
            |rows, columns, threads, va, vb| (grad(rows, columns, (threads, 4), 0.0, 1.0), WAVES, va, vb);
        let whole = x.precision.vector();
        if x.allows(whole) && dy.allows(whole) {
            let fits = |tile: &&GradTile| {
                // In float32 the widest has not enough registers.
                let columns = tile.columns < 128 || whole == 8;
                let columns = columns
                    && tile.columns < 2 * out.max(16)
                    && (tile.columns >= 64 || out <= 4 * tile.columns);
                columns && tile.rows < 2 * self.rows.max(64)
            };
            let all = GRAD_TILES.iter().filter(fits).flat_map(|&tile| GRAD_WAVES.map(|waves| (tile, waves)));
            let least = all.min_by(|a, b| self.time(a.0, a.1).total_cmp(&self.time(b.0, b.1)));
            let (tile, waves) = least.unwrap_or((GRAD_TILES[0], WAVES));
            return (tile, waves, whole, whole);
        }
        if whole == 4 {
            return match (x.allows(4), dy.allows(4)) {
                (true, _) => plain(64, 32, 128, 4, 1),
                (_, true) => plain(32, 16, 64, 1, 4),
                _ => plain(32, 32, 64, 1, 1),
            };
        }
        if x.allows(4) && !x.allows(8) && dy.allows(8) {
            let columns = if out <= 16 {
                16
            } else if out <= 32 {
                32
            } else {
                64
            };
            return plain(64, columns, 128, 4, 8);
        }
        if !x.allows(8) {
            return if dy.allows(8) { plain(32, 16, 64, 1, 8) } else { plain(32, 32, 64, 1, 1) };
        }
        if dy.allows(4) { plain(64, 32, 128, 8, 4) } else { plain(64, 32, 128, 8, 1) }
    }
}
