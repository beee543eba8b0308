//! Weight gradients for AMX, which reads both operands along the summed pixels: the source's pixels are turned to one row a
//! channel, the result's gradient is paired.
//!
//! A channel's row holds the band's source pixels by the remainders of their row and column modulo the stride, so that what
//! a kernel position reads is one contiguous run: all rows of the band, of `width` pixels each. The pixels of a run that
//! lie beyond a row of the result meet zeros of the gradient.

use crate::graph::ConvGeometry;

use super::ahead::Ahead;
use super::element::Element;
use super::simd::Isa;
use super::tile::{Init, Product, Tap, Tile, Tiles};
use super::transpose::transpose;
use super::weight_grad::{Operands, pair_pixels};

/// A whole step of the summed axis.
const STEP: usize = 32;

/// The places of a band's turned pixels.
pub(super) struct Turned {
    geometry: ConvGeometry,
    channels: usize,
    cols: usize,
    /// Rows of the result and of the source.
    rows: usize,
    source_rows: usize,
    /// Columns of the result and of the source.
    ow: usize,
    source_cols: usize,
    /// Pixels of a row of one remainder, whole pairs.
    width: usize,
    /// Elements of one remainder of columns, and of a channel's row.
    region: usize,
    length: usize,
    /// Summed pixels, whole steps.
    k: usize,
}

impl Turned {
    pub fn new<T>(geometry: ConvGeometry, channels: usize, cols: usize, from: &Operands<T>) -> Turned {
        let (kernel, stride) = (geometry.kernel, geometry.stride);
        let source_rows = (from.rows - 1) * stride.0 + kernel.0;
        let source_cols = (from.k - 1) * stride.1 + kernel.1;
        let width = source_cols.div_ceil(stride.1).next_multiple_of(2);
        let region = source_rows * width;
        Turned {
            geometry,
            channels,
            cols,
            rows: from.rows,
            source_rows,
            ow: from.k,
            source_cols,
            width,
            region,
            length: stride.1 * region + 2 * STEP,
            k: (from.rows * width).next_multiple_of(STEP),
        }
    }

    /// Elements of scratch that [`Turned::multiply`] needs.
    pub fn len(&self) -> usize {
        self.turned_len() + self.pixels_len() + self.cols.next_multiple_of(STEP) * self.k
    }

    fn turned_len(&self) -> usize {
        (self.channels * self.length).next_multiple_of(64)
    }

    fn pixels_len(&self) -> usize {
        (self.width * self.channels).next_multiple_of(64)
    }

    /// The place among all source rows of the first with this remainder.
    fn first_slot(&self, remainder: usize) -> usize {
        (0..remainder).map(|r| (self.source_rows - r).div_ceil(self.geometry.stride.0)).sum()
    }

    /// Forms the tiles of `mine`, `(kernel row, kernel column * channels + first channel, channels)`, of one band.
    ///
    /// # Safety
    /// The operands must be valid, `scratch` as long as [`Turned::len`] says, `out` the gradient `[kh][kw][in][out]`.
    pub unsafe fn multiply<T: Product>(
        &self,
        isa: Isa,
        from: &Operands<T>,
        mine: &[(usize, usize, usize)],
        init: Init,
        scratch: *mut T,
        out: *mut f32,
    ) {
        let tiles = Tiles::of(isa);
        let (stride, panel) = (self.geometry.stride, tiles.panel());
        let run_rows = self.geometry.kernel.1 * self.channels;
        // SAFETY: the scratch has room for the three; what is read beyond a channel's own pixels is another's, or zero.
        unsafe {
            let pixels = scratch.add(self.turned_len());
            let dy = pixels.add(self.pixels_len());
            self.turn(isa, from, pixels, scratch);
            self.pair(isa, from, panel, dy);
            for col in (0..self.cols).step_by(panel) {
                for &(kh, m, rows) in mine {
                    let (kx, channel) = (m / self.channels, m % self.channels);
                    let row = self.first_slot(kh % stride.0) + kh / stride.0;
                    let at = kx % stride.1 * self.region + row * self.width + kx / stride.1;
                    let a = scratch.add(channel * self.length + at).cast_const();
                    let taps = [Tap { a, b: dy.add(col * self.k).cast_const() }];
                    let tile = Tile {
                        taps: &taps,
                        k: self.k,
                        a_i: self.length,
                        a_k: T::GROUP,
                        b_k: panel * T::GROUP,
                        c: out.add((kh * run_rows + m) * self.cols + col),
                        c_i: self.cols,
                        cols: panel.min(self.cols - col),
                        init,
                        ahead: Ahead::NONE,
                    };
                    tiles.along_k_sums(rows, &tile);
                }
            }
        }
    }

    /// Turns the source's pixels, row by row and remainder by remainder, by way of `pixels`.
    unsafe fn turn<T: Element>(&self, isa: Isa, from: &Operands<T>, pixels: *mut T, to: *mut T) {
        let stride = self.geometry.stride;
        let (c, pairs) = (self.channels, self.width / 2);
        let step = from.x_pixel / stride.1;
        // SAFETY: the operands' pixels exist; the places are those of `new`.
        unsafe {
            for row in 0..self.source_rows {
                let slot = self.first_slot(row % stride.0) + row / stride.0;
                for remainder in 0..stride.1 {
                    let count = (self.source_cols - remainder).div_ceil(stride.1);
                    let x = from.x.add(row * from.x_row + remainder * step);
                    pair_pixels(isa, x, from.x_pixel, count, c, pixels, c);
                    let filled = count.div_ceil(2);
                    pixels.add(filled * c * 2).write_bytes(0, (pairs - filled) * c * 2);
                    let to = to.add(remainder * self.region + slot * self.width);
                    transpose(
                        isa,
                        pixels.cast::<f32>().cast_const(),
                        c,
                        pairs,
                        c,
                        to.cast(),
                        self.length / 2,
                    );
                }
            }
            for channel in 0..c {
                to.add((channel + 1) * self.length - 2 * STEP).write_bytes(0, 2 * STEP);
            }
        }
    }

    /// Pairs the result's gradient, panel by panel, with zeros where a run's pixels lie beyond a row.
    unsafe fn pair<T: Element>(&self, isa: Isa, from: &Operands<T>, panel: usize, to: *mut T) {
        let pairs = self.ow.div_ceil(2);
        // SAFETY: the operands' pixels exist; a panel takes `k * panel` elements.
        unsafe {
            for col in (0..self.cols).step_by(panel) {
                let (len, to) = (panel.min(self.cols - col), to.add(col * self.k));
                for row in 0..self.rows {
                    let x = from.dy.add(row * from.dy_row + col);
                    let to = to.add(row * self.width * panel);
                    pair_pixels(isa, x, from.dy_pixel, self.ow, len, to, panel);
                    to.add(pairs * 2 * panel).write_bytes(0, (self.width - pairs * 2) * panel);
                }
                let filled = self.rows * self.width;
                to.add(filled * panel).write_bytes(0, (self.k - filled) * panel);
            }
        }
    }
}
