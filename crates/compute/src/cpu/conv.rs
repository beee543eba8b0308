//! Dense convolution, forward and data gradient: gathers through [`Window`]s, tiles by the micro-kernel.
//!
//! A work item is one image's band of rows. It copies the source rows that it needs into a zero-padded scratch buffer
//! (so that a kernel row's columns and channels are one contiguous run), then forms panel by panel of output channels.
//! Bands depend on shapes alone, so results do not depend on the number of threads.

use crate::graph::Activation;

use super::ahead::Upcoming;
use super::element::Element;
use super::elementwise::activate_rows;
use super::norm::{Moments, for_each_part, row_moments};
use super::pack::{Block, Packing};
use super::scratch::{Shared, Tensor, copy_padded, floats, with_scratch};
use super::simd::{Isa, prefetch};
use super::tile::{Init, MAX_TAPS, Product, Tap, Tile, Tiles};
use super::window::Window;

/// A band's scratch and output together stay under this many float32 elements, or twice as many bfloat16 ones (the
/// second-level cache holds them).
const BAND_ELEMENTS: usize = 48 * 1024;

/// Pixels of one work item of a pointwise convolution: whole tiles. Products of groups take half as long, so that uneven
/// shares of a small map would count.
fn pointwise_pixels(group: usize, pixels: usize) -> usize {
    if group == 1 { 168 } else { (pixels / 48).next_multiple_of(14).clamp(56, 168) }
}

/// What is done with each band once it is formed, while it is in cache.
#[derive(Clone, Copy)]
pub(crate) struct Epilogue<T = f32> {
    /// A row of as many elements as there are output channels.
    pub bias: Option<Shared>,
    pub activation: Activation,
    pub residual: Option<Tensor<T>>,
    /// Whether to add to what the destination holds.
    pub add: bool,
}

impl<T> Epilogue<T> {
    pub const NONE: Epilogue<T> =
        Epilogue { bias: None, activation: Activation::Identity, residual: None, add: false };
}

/// A convolution's weights `[kh][kw][in][out]`.
#[derive(Clone, Copy)]
pub(crate) struct Weights<'a> {
    pub values: &'a [f32],
    pub kernel_cols: usize,
    pub channels: usize,
    pub out: usize,
}

/// One band of one window: which image, which of the window's rows.
struct Band {
    window: usize,
    image: usize,
    rows: (usize, usize),
}

/// A convolution ready to run: windows, bands and places in its packed weights.
pub(crate) struct DenseConv {
    windows: Vec<Window>,
    bands: Vec<Band>,
    /// Offset of each window's packed weights.
    packed: Vec<usize>,
    packings: Vec<Packing>,
    packed_len: usize,
    pointwise: bool,
    /// Pixels of a work item, where it is pointwise.
    part: usize,
}

impl DenseConv {
    /// `source` and `destination` are shapes `[n, h, w, c]`; `group` is the stored element's.
    pub fn new(
        tiles: &Tiles,
        group: usize,
        windows: Vec<Window>,
        source: [usize; 4],
        destination: [usize; 4],
    ) -> DenseConv {
        let depth = source[3];
        let packings: Vec<Packing> = windows
            .iter()
            .map(|w| {
                let rows = w.row_offsets.len() * w.tap_rows(depth).next_multiple_of(group);
                Packing { cols: destination[3], rows }
            })
            .collect();
        let mut packed_len = 0;
        let packed = packings
            .iter()
            .map(|p| {
                let offset = packed_len;
                packed_len += p.len(tiles);
                offset
            })
            .collect();
        let pointwise = windows.len() == 1
            && windows[0].kernel_rows.len() == 1
            && windows[0].kernel_cols.len() == 1
            && windows[0].row_offsets == [0]
            && windows[0].col_offset == 0
            && source[..3] == destination[..3];
        let mut bands = Vec::new();
        if !pointwise {
            for image in 0..destination[0] {
                for (window, w) in windows.iter().enumerate() {
                    assert!(w.row_offsets.len() <= MAX_TAPS, "kernels have at most {MAX_TAPS} rows");
                    let row = w.row_step * w.source_cols() * depth + w.cols * destination[3];
                    let most = (group * BAND_ELEMENTS / row.max(1)).clamp(1, w.rows.max(1));
                    let count = w.rows.div_ceil(most);
                    for b in 0..count {
                        bands.push(Band {
                            window,
                            image,
                            rows: (b * w.rows / count, (b + 1) * w.rows / count),
                        });
                    }
                }
            }
        }
        let part = pointwise_pixels(group, destination[..3].iter().product());
        DenseConv { windows, bands, packed, packings, packed_len, pointwise, part }
    }

    /// Elements of the packed weights.
    pub fn packed_len(&self) -> usize {
        self.packed_len
    }

    /// Packs weights `[kh][kw][in][out]`; `turned` where the source's channels are the weights' last axis (data
    /// gradients). `scale`: a factor for each output channel, not with `turned`.
    ///
    /// # Safety
    /// `out` has [`DenseConv::packed_len`] elements, zero before the first packing.
    pub unsafe fn pack<T: Element>(
        &self,
        isa: Isa,
        weights: &Weights,
        turned: bool,
        scale: Option<&[f32]>,
        out: *mut T,
    ) {
        let tiles = Tiles::of(isa);
        let depth = if turned { weights.out } else { weights.channels };
        let len = weights.channels * weights.out;
        for ((window, packing), &offset) in self.windows.iter().zip(&self.packings).zip(&self.packed) {
            let tap_rows = window.tap_rows(depth).next_multiple_of(T::GROUP);
            for (tap, &ky) in window.kernel_rows.iter().enumerate() {
                for (i, &kx) in window.kernel_cols.iter().enumerate() {
                    let from = (ky * weights.kernel_cols + kx) * len;
                    let data = weights.values[from..from + len].as_ptr();
                    let block = Block { data, turned, rows: depth, scale };
                    // SAFETY: the window's packing has a block of `depth` rows for each of its kernel positions.
                    unsafe { packing.pack(isa, tiles, tap * tap_rows + i * depth, &block, out.add(offset)) };
                }
            }
        }
    }

    /// Number of parts in which statistics are taken.
    pub fn parts(&self, pixels: usize) -> usize {
        if self.pointwise { pixels.div_ceil(self.part) } else { self.bands.len() }
    }

    /// Pixels of each part, for an output of this shape.
    pub fn part_counts(&self, output: [usize; 4], out: &mut Vec<usize>) {
        if self.pointwise {
            let pixels = output[0] * output[1] * output[2];
            out.extend((0..self.parts(pixels)).map(|p| self.part.min(pixels - p * self.part)));
        } else {
            out.extend(self.bands.iter().map(|b| (b.rows.1 - b.rows.0) * self.windows[b.window].cols));
        }
    }

    /// Runs the convolution. `moments`, of [`DenseConv::parts`] rows of the destination's channels, receives the
    /// statistics of each part.
    ///
    /// # Safety
    /// Tensors must be valid and of the shapes that the convolution was made for; the destination overlaps neither the
    /// source nor the residual; `packed` holds the packed weights.
    pub unsafe fn run<T: Product>(
        &self,
        isa: Isa,
        source: Tensor<T>,
        destination: Tensor<T>,
        packed: Shared<T>,
        epilogue: Epilogue<T>,
        moments: Option<&mut [Moments]>,
    ) {
        let tiles = Tiles::of(isa);
        let parts = self.parts(destination.pixels());
        let job = Job { isa, tiles, source, destination, packed, epilogue };
        let run = |part: usize, moments: Option<&mut [Moments]>| {
            // SAFETY: parts are disjoint in the destination; the caller promises the rest.
            unsafe {
                if self.pointwise {
                    self.pointwise_part(&job, part, moments);
                } else {
                    self.band_part(&job, part, moments);
                }
            }
        };
        for_each_part(parts, destination.channels(), moments, run);
    }

    unsafe fn pointwise_part<T: Product>(&self, job: &Job<T>, part: usize, moments: Option<&mut [Moments]>) {
        let Job { isa, tiles, source, destination, packed, epilogue } = *job;
        let first = part * self.part;
        let pixels = self.part.min(destination.pixels() - first);
        let depth = source.channels();
        let mut upcoming = Upcoming::nothing();
        let next = first + pixels;
        upcoming.pixels(source, next, self.part.min(destination.pixels() - next));
        // SAFETY: pixels first..first + pixels exist in both tensors.
        unsafe {
            for (col, cols, width, offset) in self.packings[0].panels(tiles) {
                for (i, rows) in tiles.split_rows(pixels).iter() {
                    let taps = [Tap { a: source.pixel(first + i), b: packed.get().add(offset) }];
                    if col == 0 {
                        // The next tile's pixels, of which each is a stream of its own.
                        let next = source.pixel(first + i).wrapping_add(rows * source.pixel_stride);
                        for row in 0..rows {
                            for k in (0..depth).step_by(64 / size_of::<T>()) {
                                prefetch(next.wrapping_add(row * source.pixel_stride + k));
                            }
                        }
                    }
                    let tile = Tile {
                        taps: &taps,
                        k: depth,
                        a_i: source.pixel_stride,
                        a_k: T::GROUP,
                        b_k: width * T::GROUP,
                        c: destination.pixel(first + i).add(col),
                        c_i: destination.pixel_stride,
                        cols,
                        init: epilogue.init(col),
                        ahead: upcoming.take(depth / T::GROUP),
                    };
                    tiles.along_k(rows, &tile);
                }
            }
            epilogue.finish(isa, destination, first, 1, pixels, moments);
        }
    }

    unsafe fn band_part<T: Product>(&self, job: &Job<T>, part: usize, moments: Option<&mut [Moments]>) {
        let Job { isa, tiles, source, destination, packed, epilogue } = *job;
        let band = &self.bands[part];
        let window = &self.windows[band.window];
        let packing = &self.packings[band.window];
        let (i0, i1) = band.rows;
        let [_, h, w, depth] = source.shape;
        let [_, dh, dw, _] = destination.shape;
        let (first_row, rows) = window.source_rows(i0, i1);
        let cols = window.source_cols();
        let tap_rows = window.tap_rows(depth);
        let packed_rows = tap_rows.next_multiple_of(T::GROUP);
        let steps = window.row_offsets.len() * tap_rows.div_ceil(T::GROUP);
        // The thread that has this band takes the next one too.
        let mut upcoming = Upcoming::nothing();
        if let Some(next) = self.bands.get(part + 1) {
            let (first, rows) = self.windows[next.window].source_rows(next.rows.0, next.rows.1);
            upcoming.rows(source, next.image, first, first + rows as isize);
        }
        // SAFETY: the scratch buffer has the size of the padded window; destination pixels are the band's own.
        unsafe {
            with_scratch(floats::<T>(rows * cols * depth), |scratch| {
                let scratch = scratch.cast::<T>();
                let image = source.pixel(band.image * h * w);
                let row_range = (first_row, rows);
                copy_padded(
                    image,
                    [h, w, depth],
                    source.pixel_stride,
                    row_range,
                    (window.col_offset, cols),
                    scratch,
                );
                let weights = packed.get().add(self.packed[band.window]).cast_const();
                let mut taps = [Tap { a: scratch.cast_const(), b: weights }; MAX_TAPS];
                for (col, count, width, offset) in packing.panels(tiles) {
                    for i in i0..i1 {
                        let to = destination
                            .pixel((band.image * dh + window.row0 + i * window.step.0) * dw + window.col0);
                        for (j, tile_rows) in tiles.split_rows(window.cols).iter() {
                            for (t, tap) in taps[..window.row_offsets.len()].iter_mut().enumerate() {
                                let row = (i * window.row_step) as isize + window.row_offsets[t] - first_row;
                                tap.a = scratch.add((row as usize * cols + j * window.col_step) * depth);
                                tap.b = weights.add(offset + t * packed_rows * width);
                            }
                            let tile = Tile {
                                taps: &taps[..window.row_offsets.len()],
                                k: tap_rows,
                                a_i: window.col_step * depth,
                                a_k: T::GROUP,
                                b_k: width * T::GROUP,
                                c: to.add(j * window.step.1 * destination.pixel_stride + col),
                                c_i: window.step.1 * destination.pixel_stride,
                                cols: count,
                                init: epilogue.init(col),
                                ahead: upcoming.take(steps),
                            };
                            tiles.along_k(tile_rows, &tile);
                        }
                    }
                }
            });
            if epilogue.has_work() || moments.is_some() {
                let first = (band.image * dh + i0) * dw;
                epilogue.finish(isa, destination, first, i1 - i0, dw, moments);
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Job<T> {
    isa: Isa,
    tiles: &'static Tiles,
    source: Tensor<T>,
    destination: Tensor<T>,
    packed: Shared<T>,
    epilogue: Epilogue<T>,
}

impl<T: Element> Epilogue<T> {
    /// What the accumulators of the panel from column `col` on start from.
    unsafe fn init(&self, col: usize) -> Init {
        match self.bias {
            _ if self.add => Init::C,
            // SAFETY: the bias row has an element for each column.
            Some(bias) => Init::Row(unsafe { bias.get().add(col) }),
            None => Init::Zero,
        }
    }

    fn has_work(&self) -> bool {
        self.activation != Activation::Identity || self.residual.is_some()
    }

    /// Activation, residual and statistics of `rows` rows of `cols` consecutive pixels from pixel `first` on.
    pub(super) unsafe fn finish(
        &self,
        isa: Isa,
        y: Tensor<T>,
        first: usize,
        rows: usize,
        cols: usize,
        moments: Option<&mut [Moments]>,
    ) {
        let pixels = rows * cols;
        // SAFETY: these pixels are the caller's own part of y.
        unsafe {
            if self.has_work() {
                let residual = self.residual.map(|r| (r.pixel(first), r.pixel_stride));
                activate_rows(
                    isa,
                    y.pixel(first),
                    y.pixel_stride,
                    pixels,
                    y.channels(),
                    self.activation,
                    residual,
                );
            }
            if let Some(moments) = moments {
                row_moments(isa, y.pixel(first), y.pixel_stride, pixels, moments);
            }
        }
    }
}
