//! Weight gradients of 3x3 convolutions with step 1: the transposed algorithm.
//!
//! With v the transformed source and z the result's gradient transformed by A, the gradient of the transformed kernel is
//! `sum over tiles v^T z` for each of the 36 points, and G^T brings it to the kernel. A work item takes one chunk of the
//! tiles and one slice of the kernel's rows and columns, such that v, z and the sums that are formed of them stay in the
//! second-level cache; the chunks' kernels are then summed in order. bfloat16 tiles stand by pairs, as they are summed.
//! Chunks and slices follow from shapes alone.

use std::ops::Range;

use crate::graph::ConvGeometry;

use super::super::ahead::Upcoming;
use super::super::scratch::{Shared, Tensor, floats, with_scratch};
use super::super::simd::Isa;
use super::super::team;
use super::super::tile::{Init, Product};
use super::super::weight_grad::sum_chunks;
use super::apart;
use super::cuts::{CUTS, CUTS_OF_PAIRS, Channels, Cuts, part};
use super::kernel::kernel_grad_row;
use super::points::{IN, OUT, POINTS};
use super::sums::{Buffers, multiply};
use super::transforms::{between, result_grad_group, source_group};
use super::window::Window;

/// A weight gradient ready to run.
pub(crate) struct WinogradWeightGrad {
    input: [usize; 4],
    output: [usize; 4],
    pad: (usize, usize),
    tile_rows: usize,
    tile_cols: usize,
    cuts: Cuts,
    chunks: usize,
}

/// A work item: some of the tiles, and of the channels.
struct Work {
    chunk: usize,
    tiles: Range<usize>,
    channels: Channels,
    outputs: Channels,
}

impl WinogradWeightGrad {
    /// For an input and output of shapes `[n, h, w, c]`; `group` is the stored element's.
    pub fn new(group: usize, g: &ConvGeometry, input: [usize; 4], output: [usize; 4]) -> WinogradWeightGrad {
        let cuts = if group == 1 { CUTS } else { CUTS_OF_PAIRS };
        let (tile_rows, tile_cols) = (output[1].div_ceil(OUT), output[2].div_ceil(OUT));
        let (c, out) = (input[3], output[3]);
        let slices = c.div_ceil(cuts.rows) * out.div_ceil(cuts.cols);
        let tiles = output[0] * tile_rows * tile_cols;
        let wanted = cuts.items.div_ceil(slices).min(tiles.div_ceil(cuts.chunk));
        let chunks = wanted.min(cuts.partial / (9 * c * out)).max(1);
        WinogradWeightGrad { input, output, pad: (g.pad[0], g.pad[1]), tile_rows, tile_cols, cuts, chunks }
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
        let Cuts { rows: most_rows, cols: most_cols, .. } = self.cuts;
        // Whole panels of columns, but nearly equal numbers of rows.
        let slices = (c.div_ceil(most_rows), cols.div_ceil(most_cols));
        // Whole groups of tiles.
        let tiles = self.output[0] * self.tile_rows * self.tile_cols;
        let groups = tiles.div_ceil(T::GROUP);
        let work_of = |item: usize| {
            let (chunk, slice) = (item / (slices.0 * slices.1), item % (slices.0 * slices.1));
            let channels = part(c, slices.0, slice / slices.1);
            let first = slice % slices.1 * most_cols;
            let outputs = (first, most_cols.min(cols - first));
            let (first, count) = part(groups, self.chunks, chunk);
            let tiles = first * T::GROUP..((first + count) * T::GROUP).min(tiles);
            Work { chunk, tiles, channels, outputs }
        };
        let count = self.chunks * slices.0 * slices.1;
        let shared = Shared(partial.as_mut_ptr());
        team::for_each(count, |item| {
            let work = work_of(item);
            let next = (item + 1 < count).then(|| work_of(item + 1));
            // SAFETY: each item writes its slice of its chunk's partial result.
            unsafe {
                let to = shared.get().add(work.chunk * 9 * c * cols);
                self.item(isa, x, dy, work, next, to);
            }
        });
        sum_chunks(isa, partial, self.chunks, out);
    }

    #[allow(clippy::too_many_arguments)]
    unsafe fn item<T: Product>(
        &self,
        isa: Isa,
        x: Tensor<T>,
        dy: Tensor<T>,
        work: Work,
        next: Option<Work>,
        to: *mut f32,
    ) {
        let Work { tiles: range, channels, outputs, .. } = work;
        let (c, cols) = (channels.1, outputs.1);
        let (all, all_cols) = (self.input[3], self.output[3]);
        let most = (self.cuts.run / (POINTS * (c + cols))).max(T::GROUP);
        let runs = range.len().div_ceil(most).max(1);
        let groups = range.len().div_ceil(T::GROUP);
        let whole = groups.div_ceil(runs) * T::GROUP;
        // One block of all rows where sums are kept.
        let blocks = self.cuts.block.map_or(1, |block| c.div_ceil(block));
        let block_rows = c.div_ceil(blocks);
        let (v_len, z_len, u_len) =
            (apart(whole * c, T::GROUP), apart(whole * cols, T::GROUP), apart(block_rows * cols, 1));
        let [v_floats, z_floats] = [POINTS * v_len, POINTS * z_len].map(floats::<T>);
        with_scratch(v_floats + z_floats + POINTS * u_len + between(T::GROUP), |scratch| {
            // SAFETY: the scratch holds all four; the caller promises the rest.
            unsafe {
                let z = scratch.add(v_floats);
                let u = z.add(z_floats);
                let between = u.add(POINTS * u_len);
                let buffers =
                    Buffers { v: (scratch.cast(), v_len), z: (z.cast(), z_len), u: (u, u_len), between };
                let tiles_of = |run: usize| {
                    let (first, count) = part(groups, runs, run);
                    let start = range.start + first * T::GROUP;
                    start..range.end.min(start + count * T::GROUP)
                };
                for run in 0..runs {
                    let Range { start, end } = tiles_of(run);
                    let mut upcoming = match &next {
                        _ if run + 1 < runs => self.upcoming(x, dy, tiles_of(run + 1), channels, outputs),
                        Some(next) => self.upcoming(x, dy, next.tiles.clone(), next.channels, next.outputs),
                        None => Upcoming::nothing(),
                    };
                    for (group, from) in (start..end).step_by(T::GROUP).enumerate() {
                        let tiles = from..end;
                        self.transform(isa, x, dy, tiles, group, channels, outputs, &buffers);
                    }
                    // Further runs are added to the sums, or to the kernel.
                    let (keep, further) = (self.cuts.block.is_none(), run > 0);
                    let init = if keep && further { Init::C } else { Init::Zero };
                    for rows in (0..blocks).map(|block| part(c, blocks, block)) {
                        multiply(isa, end - start, c, rows, cols, init, &buffers, &mut upcoming);
                        if keep && run + 1 < runs {
                            continue;
                        }
                        for row in 0..rows.1 {
                            let to = to.add((channels.0 + rows.0 + row) * all_cols + outputs.0);
                            let (from, steps) = (u.add(row * cols), (all * all_cols, all_cols));
                            kernel_grad_row(isa, from, u_len, cols, to, steps, further && !keep);
                        }
                    }
                }
            }
        });
    }

    /// What the transforms of some tiles read.
    fn upcoming<T: Copy>(
        &self,
        x: Tensor<T>,
        dy: Tensor<T>,
        tiles: Range<usize>,
        channels: Channels,
        outputs: Channels,
    ) -> Upcoming {
        let mut upcoming = Upcoming::nothing();
        let (first, last) = (tiles.start / self.tile_cols, tiles.end.saturating_sub(1) / self.tile_cols);
        let mut rows = |tensor: Tensor<T>, (channel, count): Channels, above: usize, size: usize| {
            let [_, h, w, _] = tensor.shape;
            let row = |tile_row: usize, offset: usize| {
                let inside = (tile_row % self.tile_rows * OUT + offset).saturating_sub(above);
                tile_row / self.tile_rows * h + inside.min(h)
            };
            let (from, end) = (row(first, 0), row(last, size));
            let data = Shared(tensor.data.get().wrapping_add(channel));
            let part = Tensor { data, shape: [1, h, w, count], ..tensor };
            upcoming.pixels(part, from * w, end.saturating_sub(from) * w);
        };
        rows(x, channels, self.pad.0, IN);
        rows(dy, outputs, 0, OUT);
        upcoming
    }

    /// Transforms a group of tiles of the source and of the result's gradient, the first ones of a range, to number `to` of a
    /// run.
    #[allow(clippy::too_many_arguments)]
    unsafe fn transform<T: Product>(
        &self,
        isa: Isa,
        x: Tensor<T>,
        dy: Tensor<T>,
        tiles: Range<usize>,
        to: usize,
        channels: Channels,
        outputs: Channels,
        buffers: &Buffers<T>,
    ) {
        let [_, h, w, _] = self.input;
        let [_, oh, ow, _] = self.output;
        let (c, cols) = (channels.1, outputs.1);
        let mut source = [Window::zeros(); 2];
        let mut grad = source;
        // SAFETY: windows read what their images have; the buffers hold the group.
        unsafe {
            for (i, tile) in tiles.take(T::GROUP).enumerate() {
                let (row, col) = (tile / self.tile_cols, tile % self.tile_cols);
                let (image, row) = (row / self.tile_rows, row % self.tile_rows);
                let (top, left) = ((row * OUT) as isize, (col * OUT) as isize);
                let at = (top - self.pad.0 as isize, left - self.pad.1 as isize);
                let from = x.pixel(image * h * w).add(channels.0);
                source[i] = Window::new(from, (h, w), x.pixel_stride, at, (IN, IN));
                let from = dy.pixel(image * oh * ow).add(outputs.0);
                grad[i] = Window::new(from, (oh, ow), dy.pixel_stride, (top, left), (OUT, OUT));
            }
            let to_v = buffers.v.0.add(to * T::GROUP * c);
            source_group(isa, source, c, buffers.between, to_v, buffers.v.1);
            let to_z = buffers.z.0.add(to * T::GROUP * cols);
            result_grad_group(isa, grad, cols, buffers.between, to_z, buffers.z.1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::element::{Bf16, Storage};
    use super::*;

    /// However work is cut: odd numbers of tiles, several runs and blocks, sums kept or added in the kernel.
    fn check<T: Product>(storage: Storage, tolerance: f64) {
        let [n, h, w, c, out] = [3, 9, 13, 21, 37];
        let g = ConvGeometry { kernel: (3, 3), stride: (1, 1), pad: [1; 4], groups: 1 };
        let numbers = |len: usize, step: usize| -> Vec<T> {
            (0..len + 64).map(|i| T::from_f32(((i * step) % 97) as f32 / 48.0 - 1.0)).collect()
        };
        let (mut x, mut dy) = (numbers(n * h * w * c, 31), numbers(n * h * w * out, 57));
        let mut expected = vec![0.0f64; 9 * c * out];
        for (tap, image, y, col) in
            (0..9 * n * h * w).map(|i| (i % 9, i / 9 / h / w, i / 9 / w % h, i / 9 % w))
        {
            let (from_y, from_x) = (y + tap / 3, col + tap % 3);
            if !(1..=h).contains(&from_y) || !(1..=w).contains(&from_x) {
                continue;
            }
            let from = ((image * h + from_y - 1) * w + from_x - 1) * c;
            let at = ((image * h + y) * w + col) * out;
            for (i, o) in (0..c * out).map(|i| (i / out, i % out)) {
                expected[(tap * c + i) * out + o] += f64::from(x[from + i].to_f32() * dy[at + o].to_f32());
            }
        }
        let most = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let tensor = |data: &mut Vec<T>, channels: usize| Tensor {
            data: Shared(data.as_mut_ptr()),
            pixel_stride: channels,
            shape: [n, h, w, channels],
        };
        let (x, dy) = (tensor(&mut x, c), tensor(&mut dy, out));
        for isa in Isa::available() {
            let isa = isa.for_storage(storage);
            for block in [None, Some(4), Some(64)] {
                let mut kernel = WinogradWeightGrad::new(T::GROUP, &g, [n, h, w, c], [n, h, w, out]);
                kernel.cuts = Cuts { run: 6 * POINTS * (11 + 32), rows: 11, cols: 32, block, ..kernel.cuts };
                kernel.chunks = 2;
                let (mut partial, mut to) = (vec![0.0; kernel.partial_len()], vec![f32::NAN; 9 * c * out]);
                // SAFETY: the tensors are as long as their shapes say, and a vector more.
                unsafe { kernel.run(isa, x, dy, &mut partial, &mut to) };
                for (got, expected) in to.iter().zip(&expected) {
                    let error = (f64::from(*got) - expected).abs() / most;
                    assert!(error < tolerance, "{isa:?} {block:?}: {got} {expected}");
                }
            }
        }
    }

    #[test]
    fn cuts_leave_the_gradient_as_it_is() {
        check::<f32>(Storage::Float32, 1e-6);
        // Transformed tiles are rounded to 1/512 of themselves, and these sums are small.
        check::<Bf16>(Storage::Bf16, 2e-2);
    }
}
