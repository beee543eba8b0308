//! Weight gradients of 3x3 convolutions with step 1: the transposed algorithm.
//!
//! With v the transformed source and z the result's gradient transformed by A, the gradient of the transformed kernel is
//! `sum over tiles v^T z` for each of the 36 points, and G^T brings it to the kernel. A work item takes one chunk of the
//! tiles and one slice of the kernel's rows and columns, such that v, z and the sums of its slice stay in the
//! second-level cache; the chunks' kernels are then summed in order. bfloat16 tiles stand by pairs, as they are summed. Chunks and slices follow from shapes alone.

use crate::graph::ConvGeometry;

use super::super::ahead::Ahead;
use super::super::scratch::{Shared, Tensor, floats, with_scratch};
use super::super::simd::Isa;
use super::super::team;
use super::super::tile::{Init, Product, Tap, Tile, Tiles};
use super::super::weight_grad::sum_chunks;
use super::transforms::{IN, OUT, POINTS, kernel_grad_row, result_grad_tile, source_tile};
use super::{SKEW, window};

/// A run's transformed tiles stay under this many elements.
const RUN_ELEMENTS: usize = 96 * 1024;
/// Source channels of a slice at most.
const SLICE_ROWS: usize = 64;
/// Output channels of a slice at most.
const SLICE_COLS: usize = 32;
/// Tiles of a chunk at least, where the map has as many: the way back to the kernel costs as much as a few tiles.
const CHUNK_TILES: usize = 48;
/// Work items aimed at.
const ITEMS: usize = 24;
/// The chunks' kernels together stay under this many elements.
const PARTIAL_ELEMENTS: usize = 1 << 20;

/// A weight gradient ready to run.
pub(crate) struct WinogradWeightGrad {
    input: [usize; 4],
    output: [usize; 4],
    pad: (usize, usize),
    tile_rows: usize,
    tile_cols: usize,
    chunks: usize,
}

/// A part of the channels: first, and how many.
type Channels = (usize, usize);

/// The buffers of a work item.
#[derive(Clone, Copy)]
struct Buffers<T> {
    /// Transformed source `[36][group of tiles][channel]`, and elements between points.
    v: (*mut T, usize),
    /// Transformed gradient `[36][group of tiles][output channel]`.
    z: (*mut T, usize),
    /// Sums `[36][channel][output channel]`.
    u: (*mut f32, usize),
    patch: *mut T,
}

impl WinogradWeightGrad {
    /// For an input and output of shapes `[n, h, w, c]`.
    pub fn new(g: &ConvGeometry, input: [usize; 4], output: [usize; 4]) -> WinogradWeightGrad {
        let (tile_rows, tile_cols) = (output[1].div_ceil(OUT), output[2].div_ceil(OUT));
        let (c, out) = (input[3], output[3]);
        let slices = c.div_ceil(SLICE_ROWS) * out.div_ceil(SLICE_COLS);
        let tiles = output[0] * tile_rows * tile_cols;
        let wanted = ITEMS.div_ceil(slices).min(tiles.div_ceil(CHUNK_TILES));
        let chunks = wanted.min(PARTIAL_ELEMENTS / (9 * c * out)).max(1);
        WinogradWeightGrad { input, output, pad: (g.pad[0], g.pad[1]), tile_rows, tile_cols, chunks }
    }

    /// Elements of `partial` that [`WinogradWeightGrad::run`] needs.
    pub fn partial_len(&self) -> usize {
        self.chunks * 9 * self.input[3] * self.output[3]
    }

    /// Writes the gradient `[3][3][in][out]`.
    ///
    /// # Safety
    /// Tensors must be valid and of the shapes that this was made for.
    pub unsafe fn run<T: Product>(
        &self,
        isa: Isa,
        x: Tensor<T>,
        dy: Tensor<T>,
        partial: &mut [f32],
        out: &mut [f32],
    ) {
        let (c, cols) = (self.input[3], self.output[3]);
        let even = |n: usize, most: usize, i: usize| {
            let count = n.div_ceil(most);
            let (first, end) = (i * n / count, (i + 1) * n / count);
            (first, end - first)
        };
        // Whole panels of columns, but nearly equal numbers of rows.
        let slices = (c.div_ceil(SLICE_ROWS), cols.div_ceil(SLICE_COLS));
        let tiles = self.output[0] * self.tile_rows * self.tile_cols;
        let shared = Shared(partial.as_mut_ptr());
        team::for_each(self.chunks * slices.0 * slices.1, |item| {
            let (chunk, slice) = (item / (slices.0 * slices.1), item % (slices.0 * slices.1));
            let channels = even(c, SLICE_ROWS, slice / slices.1);
            let first = slice % slices.1 * SLICE_COLS;
            let outputs = (first, SLICE_COLS.min(cols - first));
            let range = chunk * tiles / self.chunks..(chunk + 1) * tiles / self.chunks;
            // SAFETY: each item writes its slice of its chunk's partial result.
            unsafe {
                let to = shared.get().add(chunk * 9 * c * cols);
                self.item(isa, x, dy, range, channels, outputs, to);
            }
        });
        sum_chunks(partial, self.chunks, out);
    }

    #[allow(clippy::too_many_arguments)]
    unsafe fn item<T: Product>(
        &self,
        isa: Isa,
        x: Tensor<T>,
        dy: Tensor<T>,
        range: std::ops::Range<usize>,
        channels: Channels,
        outputs: Channels,
        to: *mut f32,
    ) {
        let (c, cols) = (channels.1, outputs.1);
        let round = |n: usize| n.next_multiple_of(SKEW) + SKEW;
        let most = (RUN_ELEMENTS / (POINTS * (c + cols))).max(1);
        let count = range.len().div_ceil(most).max(1);
        let longest = range.len().div_ceil(count);
        let whole = longest.next_multiple_of(T::GROUP);
        let (v_len, z_len, u_len) = (round(whole * c), round(whole * cols), round(c * cols));
        let [v_floats, z_floats, patch_floats] =
            [POINTS * v_len, POINTS * z_len, POINTS * c.max(cols)].map(floats::<T>);
        with_scratch(v_floats + z_floats + POINTS * u_len + patch_floats, |scratch| {
            // SAFETY: the scratch holds all four; the caller promises the rest.
            unsafe {
                let z = scratch.add(v_floats);
                let u = z.add(z_floats);
                let patch = u.add(POINTS * u_len).cast::<T>();
                let buffers =
                    Buffers { v: (scratch.cast(), v_len), z: (z.cast(), z_len), u: (u, u_len), patch };
                for i in 0..count {
                    let run = (range.start + i * range.len() / count)
                        ..(range.start + (i + 1) * range.len() / count);
                    for (t, tile) in run.clone().enumerate() {
                        self.transform(isa, x, dy, tile, t, channels, outputs, &buffers);
                    }
                    multiply(isa, run.len(), c, cols, if i == 0 { Init::Zero } else { Init::C }, &buffers);
                }
                let (all, all_cols) = (self.input[3], self.output[3]);
                for row in 0..c {
                    let to = to.add((channels.0 + row) * all_cols + outputs.0);
                    kernel_grad_row(isa, u.add(row * cols), u_len, cols, to, all * all_cols);
                }
            }
        });
    }

    /// Transforms one tile of the source and of the result's gradient, to number `to` of a run.
    #[allow(clippy::too_many_arguments)]
    unsafe fn transform<T: Product>(
        &self,
        isa: Isa,
        x: Tensor<T>,
        dy: Tensor<T>,
        tile: usize,
        to: usize,
        channels: Channels,
        outputs: Channels,
        buffers: &Buffers<T>,
    ) {
        let [_, h, w, _] = self.input;
        let [_, oh, ow, _] = self.output;
        let (row, col) = (tile / self.tile_cols, tile % self.tile_cols);
        let (image, row) = (row / self.tile_rows, row % self.tile_rows);
        let (top, left) = ((row * OUT) as isize, (col * OUT) as isize);
        let patch = buffers.patch;
        // SAFETY: windows lie in their tensors or are copied; the buffers hold the tile.
        unsafe {
            let at = (top - self.pad.0 as isize, left - self.pad.1 as isize);
            let from = x.pixel(image * h * w).add(channels.0);
            let (from, steps) = window(from, [h, w, channels.1], x.pixel_stride, at, IN, patch);
            let (group, half) = (to / T::GROUP * T::GROUP, to % T::GROUP);
            let v = buffers.v.0.add(group * channels.1);
            source_tile(isa, from, steps, channels.1, v, buffers.v.1, Some(half));
            let from = dy.pixel(image * oh * ow).add(outputs.0);
            let (from, steps) = window(from, [oh, ow, outputs.1], dy.pixel_stride, (top, left), OUT, patch);
            let z = buffers.z.0.add(group * outputs.1);
            result_grad_tile(isa, from, steps, outputs.1, z, buffers.z.1, half);
        }
    }
}

/// `u (+)= v^T z` at each point, over `count` tiles.
unsafe fn multiply<T: Product>(
    isa: Isa,
    count: usize,
    c: usize,
    cols: usize,
    init: Init,
    buffers: &Buffers<T>,
) {
    let tiles = Tiles::of(isa);
    for point in 0..POINTS {
        for col in (0..cols).step_by(tiles.panel()) {
            for (m, rows) in tiles.split_rows(c).iter() {
                // SAFETY: the buffers hold these matrices; what is read past a row's end lies in the scratch.
                unsafe {
                    let taps = [Tap {
                        a: buffers.v.0.add(point * buffers.v.1 + m * T::GROUP).cast_const(),
                        b: buffers.z.0.add(point * buffers.z.1 + col * T::GROUP).cast_const(),
                    }];
                    let tile = Tile {
                        taps: &taps,
                        k: count,
                        a_i: T::GROUP,
                        a_k: c * T::GROUP,
                        b_k: cols * T::GROUP,
                        c: buffers.u.0.add(point * buffers.u.1 + m * cols + col),
                        c_i: cols,
                        cols: tiles.panel().min(cols - col),
                        init,
                        ahead: Ahead::NONE,
                    };
                    tiles.along_i(rows, &tile);
                }
            }
        }
    }
}
