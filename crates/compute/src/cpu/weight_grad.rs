//! Weight gradients of dense convolutions.
//!
//! `dW[kh][kw, in][out] = sum over pixels x[pixel + (kh, kw)][in] * dy[pixel][out]`. The pixels are cut into chunks and the
//! rows of dW into slices, by shape alone; a work item forms one slice over one chunk, and the chunks are then summed
//! in order.

use rayon::prelude::*;

use crate::graph::ConvGeometry;

use super::scratch::{Shared, Tensor, copy_padded, with_scratch};
use super::simd::Isa;
use super::tile::{Init, MAX_TAPS, Tap, Tile, Tiles};

/// The partial results of all chunks together stay under this many elements.
const PARTIAL_ELEMENTS: usize = 1 << 20;
/// Chunks at most.
const MAX_CHUNKS: usize = 16;
/// Work items at least, where the shape allows.
const MIN_ITEMS: usize = 24;
/// Elements of a band's scratch and gradient rows together.
const BAND_ELEMENTS: usize = 48 * 1024;
/// Pixels of a pointwise band.
const POINTWISE_PIXELS: usize = 256;

/// Sums the chunks' results, each as long as `out`, in order.
pub(crate) fn sum_chunks(partial: &[f32], chunks: usize, out: &mut [f32]) {
    const PART: usize = 4096;
    let len = out.len();
    out.par_chunks_mut(PART).enumerate().for_each(|(part, out)| {
        let start = part * PART;
        out.copy_from_slice(&partial[start..start + out.len()]);
        for chunk in 1..chunks {
            let from = &partial[chunk * len + start..][..out.len()];
            out.iter_mut().zip(from).for_each(|(a, b)| *a += b);
        }
    });
}

/// A band of output rows of one image (of pixels of the whole batch, where the convolution is pointwise).
#[derive(Clone, Copy)]
struct Band {
    image: usize,
    start: usize,
    end: usize,
}

/// A weight gradient ready to run.
pub(crate) struct WeightGrad {
    geometry: ConvGeometry,
    input: [usize; 4],
    output: [usize; 4],
    bands: Vec<Band>,
    chunks: usize,
    slices: usize,
}

impl WeightGrad {
    /// For an input and output of shapes `[n, h, w, c]`.
    pub fn new(geometry: ConvGeometry, input: [usize; 4], output: [usize; 4]) -> WeightGrad {
        let [n, oh, ow, out] = output;
        let mut bands = Vec::new();
        if geometry.is_pointwise() {
            let pixels = n * oh * ow;
            let count = pixels.div_ceil(POINTWISE_PIXELS);
            bands.extend((0..count).map(|b| Band {
                image: 0,
                start: b * pixels / count,
                end: (b + 1) * pixels / count,
            }));
        } else {
            let padded = (ow - 1) * geometry.stride.1 + geometry.kernel.1;
            let row = geometry.stride.0 * padded * input[3] + ow * out;
            let most = (BAND_ELEMENTS / row.max(1)).clamp(1, oh.min(MAX_TAPS));
            let count = oh.div_ceil(most);
            for image in 0..n {
                bands.extend((0..count).map(|b| Band {
                    image,
                    start: b * oh / count,
                    end: (b + 1) * oh / count,
                }));
            }
        }
        let len = geometry.kernel.0 * geometry.kernel.1 * input[3] * out;
        let chunks = (PARTIAL_ELEMENTS / len).clamp(1, MAX_CHUNKS).min(bands.len());
        let rows = geometry.kernel.0 * geometry.kernel.1 * input[3];
        let slices = MIN_ITEMS.div_ceil(chunks).min(rows.div_ceil(32));
        WeightGrad { geometry, input, output, bands, chunks, slices }
    }

    fn len(&self) -> usize {
        self.geometry.kernel.0 * self.run_rows() * self.output[3]
    }

    /// Rows of dW a kernel row: kernel columns times input channels.
    fn run_rows(&self) -> usize {
        self.geometry.kernel.1 * self.input[3]
    }

    /// Elements of `partial` that [`WeightGrad::run`] needs.
    pub fn partial_len(&self) -> usize {
        self.chunks * self.len()
    }

    /// Writes the gradient to `out`, in the layout `[kh][kw][in][out]`.
    ///
    /// # Safety
    /// Tensors must be valid and of the shapes that this was made for; dy's memory must be readable up to the end of
    /// the vector that its last channel lies in.
    pub unsafe fn run(&self, isa: Isa, x: Tensor, dy: Tensor, partial: &mut [f32], out: &mut [f32]) {
        let tiles = Tiles::of(isa);
        let len = self.len();
        let shared = Shared(partial.as_mut_ptr());
        (0..self.chunks * self.slices).into_par_iter().for_each(|item| {
            let (chunk, slice) = (item / self.slices, item % self.slices);
            // SAFETY: each item writes its slice of its chunk's partial result.
            unsafe {
                let to = shared.get().add(chunk * len);
                self.item(tiles, x, dy, chunk, slice, to);
            }
        });
        sum_chunks(partial, self.chunks, out);
    }

    unsafe fn item(&self, tiles: &Tiles, x: Tensor, dy: Tensor, chunk: usize, slice: usize, out: *mut f32) {
        let g = &self.geometry;
        let run_rows = self.run_rows();
        // The tiles of all kernel rows, cut evenly between the slices.
        let split = tiles.split_rows(run_rows);
        let all: Vec<(usize, usize, usize)> =
            (0..g.kernel.0).flat_map(|kh| split.iter().map(move |(m, rows)| (kh, m, rows))).collect();
        debug_assert_eq!(all.len(), g.kernel.0 * split.len());
        let mine = &all[slice * all.len() / self.slices..(slice + 1) * all.len() / self.slices];
        let bands = chunk * self.bands.len() / self.chunks..(chunk + 1) * self.bands.len() / self.chunks;
        for (i, band) in self.bands[bands].iter().enumerate() {
            let init = if i == 0 { Init::Zero } else { Init::C };
            // SAFETY: bands lie in the tensors; `mine` are rows of dW that no other item writes.
            unsafe {
                if g.is_pointwise() {
                    self.pointwise_band(tiles, x, dy, band, mine, init, out);
                } else {
                    self.window_band(tiles, x, dy, band, mine, init, out);
                }
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    unsafe fn pointwise_band(
        &self,
        tiles: &Tiles,
        x: Tensor,
        dy: Tensor,
        band: &Band,
        mine: &[(usize, usize, usize)],
        init: Init,
        out: *mut f32,
    ) {
        let cols = self.output[3];
        for col in (0..cols).step_by(tiles.panel()) {
            for &(_, m, rows) in mine {
                // SAFETY: as the caller's.
                unsafe {
                    let taps = [Tap { a: x.pixel(band.start).add(m), b: dy.pixel(band.start).add(col) }];
                    let tile = Tile {
                        taps: &taps,
                        k: band.end - band.start,
                        a_i: 1,
                        a_k: x.pixel_stride,
                        b_k: dy.pixel_stride,
                        c: out.add(m * cols + col),
                        c_i: cols,
                        cols: tiles.panel().min(cols - col),
                        init,
                    };
                    tiles.along_i(rows, &tile);
                }
            }
        }
    }

    #[allow(clippy::too_many_arguments)]
    unsafe fn window_band(
        &self,
        tiles: &Tiles,
        x: Tensor,
        dy: Tensor,
        band: &Band,
        mine: &[(usize, usize, usize)],
        init: Init,
        out: *mut f32,
    ) {
        let g = &self.geometry;
        let [_, h, w, c] = self.input;
        let [_, oh, ow, cols] = self.output;
        let rows = (band.end - band.start - 1) * g.stride.0 + g.kernel.0;
        let scratch_cols = (ow - 1) * g.stride.1 + g.kernel.1;
        let run_rows = self.run_rows();
        with_scratch(rows * scratch_cols * c, |scratch| {
            // SAFETY: the scratch holds the padded rows that the band needs.
            unsafe {
                let first = (band.start * g.stride.0) as isize - g.pad[0] as isize;
                let left = -(g.pad[1] as isize);
                let image = x.pixel(band.image * h * w);
                copy_padded(image, [h, w, c], x.pixel_stride, (first, rows), (left, scratch_cols), scratch);
                let count = band.end - band.start;
                let mut taps = [Tap { a: scratch, b: scratch }; MAX_TAPS];
                for col in (0..cols).step_by(tiles.panel()) {
                    for &(kh, m, tile_rows) in mine {
                        for (i, tap) in taps[..count].iter_mut().enumerate() {
                            tap.a = scratch.add((i * g.stride.0 + kh) * scratch_cols * c + m);
                            tap.b = dy.pixel((band.image * oh + band.start + i) * ow).add(col);
                        }
                        let tile = Tile {
                            taps: &taps[..count],
                            k: ow,
                            a_i: 1,
                            a_k: g.stride.1 * c,
                            b_k: dy.pixel_stride,
                            c: out.add((kh * run_rows + m) * cols + col),
                            c_i: cols,
                            cols: tiles.panel().min(cols - col),
                            init,
                        };
                        tiles.along_i(tile_rows, &tile);
                    }
                }
            }
        });
    }
}
