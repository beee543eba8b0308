//! Weight gradients of dense convolutions.
//!
//! `dW[kh][kw, in][out] = sum over pixels x[pixel + (kh, kw)][in] * dy[pixel][out]`. The pixels are cut into chunks and the
//! rows of dW into slices, by shape alone; a work item forms one slice over one chunk, and the chunks are then summed
//! in order. Where tensors are bfloat16 the summed pixels go by pairs, and so both operands of a band are copied to rows
//! of pairs first.

use crate::graph::ConvGeometry;

use super::ahead::Upcoming;
use super::element::Element;
use super::elementwise::for_channels;
use super::scratch::{Shared, Tensor, copy_padded, floats, with_scratch};
use super::simd::{Isa, Simd, dispatch};
use super::team;
use super::tile::{Init, MAX_TAPS, Product, Tap, Tile, Tiles};
use super::turned::Turned;

/// Chunks at most.
const MAX_CHUNKS: usize = 16;

/// How work is cut, by the stored element.
struct Cuts {
    /// Work items at least, where the shape allows.
    items: usize,
    /// Elements of a band's scratch and gradient rows together.
    band: usize,
    /// Pixels of a pointwise band at least, and the elements that its operands may take beyond.
    pixels: usize,
    pointwise: usize,
    /// The partial results of all chunks together stay under this many elements.
    partial: usize,
}

const CUTS: Cuts = Cuts { items: 24, band: 48 * 1024, pixels: 256, pointwise: 0, partial: 1 << 20 };

/// Pairs are copied, so a band is worth more, and a second slice copies the gradient again.
const CUTS_OF_PAIRS: Cuts =
    Cuts { items: 16, band: 128 * 1024, pixels: 256, pointwise: 128 * 1024, partial: 1 << 20 };

/// With AMX the copies take longer than the products: as few as may be.
const CUTS_OF_TURNED: Cuts =
    Cuts { items: 16, band: 192 * 1024, pixels: 512, pointwise: 192 * 1024, partial: 1 << 22 };

/// Sums the chunks' results, each as long as `out`, in order.
pub(crate) fn sum_chunks(isa: Isa, partial: &[f32], chunks: usize, out: &mut [f32]) {
    const PART: usize = 4096;
    let len = out.len();
    assert!(partial.len() >= chunks * len);
    team::for_each_chunk(out, PART, |part, out| {
        let from = partial[part * PART..].as_ptr();
        // SAFETY: each of the chunks has the part's elements, `len` apart.
        unsafe { sum_part(isa, from, len, chunks, out) }
    });
}

dispatch! {
    /// `out = from[0] + from[1] + …`, the rows `step` apart.
    fn sum_part(from: *const f32, step: usize, rows: usize, out: &mut [f32]) = sum_part_impl
}

#[inline(always)]
unsafe fn sum_part_impl<S: Simd>(from: *const f32, step: usize, rows: usize, out: &mut [f32]) {
    // SAFETY: the caller's promise.
    unsafe {
        for_channels!(S, out.len(), |c, n| {
            let mut sum = S::load_n(from.add(c), n);
            for row in 1..rows {
                sum = S::add(sum, S::load_n(from.add(row * step + c), n));
            }
            S::store_n(out.as_mut_ptr().add(c), sum, n)
        })
    }
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
    /// Whether products read the source along the summed pixels too ([`Turned`]).
    turned: bool,
}

impl WeightGrad {
    /// For an input and output of shapes `[n, h, w, c]`; `group` is the stored element's, pairs where the source is
    /// `turned` for AMX.
    pub fn new(
        (group, turned): (usize, bool),
        geometry: ConvGeometry,
        input: [usize; 4],
        output: [usize; 4],
    ) -> WeightGrad {
        let cuts = match (group, turned) {
            (1, _) => CUTS,
            (_, false) => CUTS_OF_PAIRS,
            (_, true) => CUTS_OF_TURNED,
        };
        let [n, oh, ow, out] = output;
        let mut bands = Vec::new();
        if geometry.is_pointwise() {
            let pixels = n * oh * ow;
            let most = (cuts.pointwise / (input[3] + out)).clamp(cuts.pixels, 4 * cuts.pixels);
            let count = pixels.div_ceil(most);
            bands.extend((0..count).map(|b| Band {
                image: 0,
                start: b * pixels / count,
                end: (b + 1) * pixels / count,
            }));
        } else {
            let padded = (ow - 1) * geometry.stride.1 + geometry.kernel.1;
            let row = geometry.stride.0 * padded * input[3] + ow * out;
            let most = (cuts.band / row.max(1)).clamp(1, oh.min(MAX_TAPS));
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
        let chunks = (cuts.partial / len).clamp(1, MAX_CHUNKS).min(bands.len());
        let rows = geometry.kernel.0 * geometry.kernel.1 * input[3];
        let slices = cuts.items.div_ceil(chunks).min(rows.div_ceil(32));
        WeightGrad { geometry, input, output, bands, chunks, slices, turned }
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
    pub unsafe fn run<T: Product>(
        &self,
        isa: Isa,
        x: Tensor<T>,
        dy: Tensor<T>,
        partial: &mut [f32],
        out: &mut [f32],
    ) {
        let len = self.len();
        let shared = Shared(partial.as_mut_ptr());
        team::for_each(self.chunks * self.slices, |item| {
            let (chunk, slice) = (item / self.slices, item % self.slices);
            // SAFETY: each item writes its slice of its chunk's partial result.
            unsafe {
                let to = shared.get().add(chunk * len);
                self.item(isa, x, dy, chunk, slice, to);
            }
        });
        sum_chunks(isa, partial, self.chunks, out);
    }

    unsafe fn item<T: Product>(
        &self,
        isa: Isa,
        x: Tensor<T>,
        dy: Tensor<T>,
        chunk: usize,
        slice: usize,
        out: *mut f32,
    ) {
        let g = &self.geometry;
        let tiles = Tiles::of(isa);
        // The tiles of all kernel rows (turned, of all kernel columns), cut evenly between the slices.
        let (columns, run) = if self.turned { (g.kernel.1, self.input[3]) } else { (1, self.run_rows()) };
        let split = tiles.split_rows(run);
        let all: Vec<(usize, usize, usize)> = (0..g.kernel.0)
            .flat_map(|kh| (0..columns).map(move |kx| (kh, kx * run)))
            .flat_map(|(kh, first)| split.iter().map(move |(m, rows)| (kh, first + m, rows)))
            .collect();
        let mine = &all[slice * all.len() / self.slices..(slice + 1) * all.len() / self.slices];
        let bands_of =
            |chunk| chunk * self.bands.len() / self.chunks..(chunk + 1) * self.bands.len() / self.chunks;
        let bands = bands_of(chunk);
        let after = bands_of(if slice + 1 < self.slices { chunk } else { chunk + 1 });
        for i in bands.clone() {
            let band = &self.bands[i];
            let mut upcoming = self.upcoming(x, dy, if i + 1 < bands.end { i + 1 } else { after.start });
            let init = if i == bands.start { Init::Zero } else { Init::C };
            // SAFETY: bands lie in the tensors; `mine` are rows of dW that no other item writes.
            unsafe {
                self.with_operands(x, dy, band, |operands, scratch| {
                    if T::GROUP == 1 {
                        self.multiply(tiles, operands, mine, init, &mut upcoming, out);
                    } else if self.turned {
                        let rows = Turned::new(self.geometry, self.input[3], self.output[3], &operands);
                        rows.multiply(isa, &operands, mine, init, scratch, out);
                    } else {
                        let pairs = self.pair_up(isa, operands, mine, scratch);
                        self.multiply(tiles, pairs, mine, init, &mut upcoming, out);
                    }
                });
            }
        }
    }

    /// What a band reads of the tensors.
    fn upcoming<T: Copy>(&self, x: Tensor<T>, dy: Tensor<T>, band: usize) -> Upcoming {
        let mut upcoming = Upcoming::nothing();
        if let Some(band) = self.bands.get(band) {
            let g = &self.geometry;
            if g.is_pointwise() {
                upcoming.pixels(dy, band.start, band.end - band.start);
                upcoming.pixels(x, band.start, band.end - band.start);
            } else {
                let row = |row: usize| row as isize - g.pad[0] as isize;
                upcoming.rows(dy, band.image, band.start as isize, band.end as isize);
                let end = (band.end - 1) * g.stride.0 + g.kernel.0;
                upcoming.rows(x, band.image, row(band.start * g.stride.0), row(end));
            }
        }
        upcoming
    }

    /// Calls `f` with a band's operands, in place or copied with zeros around, and a scratch behind them that has room for
    /// their pairs.
    unsafe fn with_operands<T: Product>(
        &self,
        x: Tensor<T>,
        dy: Tensor<T>,
        band: &Band,
        f: impl FnOnce(Operands<T>, *mut T),
    ) {
        let g = &self.geometry;
        let [_, h, w, c] = self.input;
        let [_, oh, ow, _] = self.output;
        let count = band.end - band.start;
        // SAFETY: the scratch holds the padded rows that the band needs, and then the pairs.
        unsafe {
            if g.is_pointwise() {
                let operands = Operands {
                    x: x.pixel(band.start),
                    x_row: 0,
                    x_run: 1,
                    x_pixel: x.pixel_stride,
                    dy: dy.pixel(band.start),
                    dy_row: 0,
                    dy_run: 1,
                    dy_pixel: dy.pixel_stride,
                    rows: 1,
                    k: count,
                };
                let len = self.copies_len(&operands, 1, c);
                return with_scratch(floats::<T>(len), |scratch| f(operands, scratch.cast()));
            }
            let rows = (count - 1) * g.stride.0 + g.kernel.0;
            let scratch_cols = (ow - 1) * g.stride.1 + g.kernel.1;
            let operands = Operands {
                x: std::ptr::null(),
                x_row: scratch_cols * c,
                x_run: 1,
                x_pixel: g.stride.1 * c,
                dy: dy.pixel((band.image * oh + band.start) * ow),
                dy_row: ow * dy.pixel_stride,
                dy_run: 1,
                dy_pixel: dy.pixel_stride,
                rows: count,
                k: ow,
            };
            let padded = (rows * scratch_cols * c).next_multiple_of(64);
            let len = padded + self.copies_len(&operands, rows, self.run_rows());
            with_scratch(floats::<T>(len), |scratch| {
                let scratch = scratch.cast::<T>();
                let first = (band.start * g.stride.0) as isize - g.pad[0] as isize;
                let left = -(g.pad[1] as isize);
                let image = x.pixel(band.image * h * w);
                copy_padded(image, [h, w, c], x.pixel_stride, (first, rows), (left, scratch_cols), scratch);
                f(Operands { x: scratch, ..operands }, scratch.add(padded));
            });
        }
    }

    /// Elements that copies of a band's operands take: `rows` source rows of `run` elements a pixel.
    fn copies_len<T: Element>(&self, operands: &Operands<T>, rows: usize, run: usize) -> usize {
        if T::GROUP == 1 {
            return 0;
        }
        if self.turned {
            return Turned::new(self.geometry, self.input[3], self.output[3], operands).len();
        }
        let pair = rows * run + operands.rows * self.output[3].next_multiple_of(PAIR_COLS);
        operands.k.div_ceil(2) * pair * 2 + 64
    }

    /// Copies the operands to rows of pairs of pixels, of x only what the tiles of `mine` read.
    unsafe fn pair_up<T: Product>(
        &self,
        isa: Isa,
        from: Operands<T>,
        mine: &[(usize, usize, usize)],
        scratch: *mut T,
    ) -> Operands<T> {
        let stride = self.geometry.stride.0;
        let low = mine.iter().map(|&(_, m, _)| m).min().unwrap_or(0);
        let high = mine.iter().map(|&(_, m, rows)| m + rows).max().unwrap_or(0);
        let needed = |row: usize| {
            mine.iter().any(|&(kh, _, _)| {
                row >= kh && (row - kh).is_multiple_of(stride) && (row - kh) / stride < from.rows
            })
        };
        let tiles = Tiles::of(isa);
        let cols = self.output[3];
        let (run, width, pairs) = (high - low, cols.next_multiple_of(PAIR_COLS), from.k.div_ceil(2));
        let rows = (from.rows - 1) * stride + self.geometry.kernel.0;
        let (x_row, dy_row) = (pairs * run * 2, pairs * width * 2);
        // SAFETY: the scratch has room for all rows of pairs; the operands hold `k` pixels a row.
        unsafe {
            let dy = scratch.add((rows * x_row).next_multiple_of(64));
            for row in (0..rows).filter(|&row| needed(row)) {
                let (from_row, to) = (from.x.add(row * from.x_row), scratch.add(row * x_row));
                for (m, len) in
                    tiles.split_rows(self.run_rows()).iter().filter(|(m, _)| (low..high).contains(m))
                {
                    let to = to.add((m - low) * pairs * 2);
                    pair_pixels(isa, from_row.add(m), from.x_pixel, from.k, len, to, len);
                }
            }
            for row in 0..from.rows {
                let (from_row, to) = (from.dy.add(row * from.dy_row), dy.add(row * dy_row));
                for col in (0..cols).step_by(tiles.panel()) {
                    let len = tiles.panel().min(cols - col);
                    let to = to.add(col * pairs * 2);
                    pair_pixels(isa, from_row.add(col), from.dy_pixel, from.k, len, to, tiles.panel());
                }
            }
            // The first channel of all would lie before the pairs: it is never read.
            let x = scratch.wrapping_sub(low * pairs * 2).cast_const();
            let (x_run, dy_run) = (pairs * 2, pairs * 2);
            Operands { x, x_row, x_run, x_pixel: 0, dy, dy_row, dy_run, dy_pixel: tiles.panel() * 2, ..from }
        }
    }

    /// Forms the tiles of `mine` from a band's operands.
    unsafe fn multiply<T: Product>(
        &self,
        tiles: &Tiles,
        from: Operands<T>,
        mine: &[(usize, usize, usize)],
        init: Init,
        upcoming: &mut Upcoming,
        out: *mut f32,
    ) {
        let cols = self.output[3];
        let run_rows = self.run_rows();
        let mut taps = [Tap { a: from.x, b: from.dy }; MAX_TAPS];
        for col in (0..cols).step_by(tiles.panel()) {
            for &(kh, m, rows) in mine {
                // SAFETY: as the caller's.
                unsafe {
                    for (i, tap) in taps[..from.rows].iter_mut().enumerate() {
                        let row = i * self.geometry.stride.0 + kh;
                        tap.a = from.x.wrapping_add(row * from.x_row + m * from.x_run);
                        tap.b = from.dy.add(i * from.dy_row + col * from.dy_run);
                    }
                    let tile = Tile {
                        taps: &taps[..from.rows],
                        k: from.k,
                        a_i: T::GROUP,
                        // The pairs of a tile stand one after the other.
                        a_k: if T::GROUP == 1 { from.x_pixel } else { rows * T::GROUP },
                        b_k: from.dy_pixel,
                        c: out.add((kh * run_rows + m) * cols + col),
                        c_i: cols,
                        cols: tiles.panel().min(cols - col),
                        init,
                        ahead: upcoming.take(from.rows * from.k.div_ceil(T::GROUP)),
                    };
                    tiles.along_i(rows, &tile);
                }
            }
        }
    }
}

/// Columns of pairs of the result's gradient are filled up to a multiple of this: the widest panel.
const PAIR_COLS: usize = 32;

/// A band's operands, in elements: rows of pixels, or rows of pairs of them, tile by tile, so that the products read memory
/// along its rows.
#[derive(Clone, Copy)]
pub(super) struct Operands<T> {
    /// The first source row's channels (and kernel columns).
    pub x: *const T,
    /// Elements between rows, between the channels that tiles begin at, and between pixels.
    pub x_row: usize,
    x_run: usize,
    pub x_pixel: usize,
    /// The first result row's channels.
    pub dy: *const T,
    pub dy_row: usize,
    dy_run: usize,
    pub dy_pixel: usize,
    /// Rows of the result, at most [`MAX_TAPS`].
    pub rows: usize,
    /// Pixels of a row.
    pub k: usize,
}

/// A row of `k` pixels of `len` channels to pairs, `width` apart; a last pixel without a neighbour is paired with zeros.
pub(super) unsafe fn pair_pixels<T: Element>(
    isa: Isa,
    from: *const T,
    pixel: usize,
    k: usize,
    len: usize,
    to: *mut T,
    width: usize,
) {
    // SAFETY: the caller's promise: k pixels of `len` channels, room for their pairs.
    unsafe {
        pair_rows(isa, from, pixel, k / 2, len, to, width * 2);
        if !k.is_multiple_of(2) {
            let (from, to) = (from.add((k - 1) * pixel), to.add(k / 2 * width * 2));
            for c in 0..len {
                *to.add(2 * c) = *from.add(c);
                *to.add(2 * c + 1) = T::default();
            }
        }
    }
}

dispatch! {
    /// `pairs` times two rows of `len` 16-bit elements, `pixel` apart, to one row of pairs; the rows of pairs `step` apart.
    fn pair_rows[T](from: *const T, pixel: usize, pairs: usize, len: usize, to: *mut T, step: usize) = pair_rows_impl
}

#[inline(always)]
unsafe fn pair_rows_impl<S: Simd, T: Element>(
    from: *const T,
    pixel: usize,
    pairs: usize,
    len: usize,
    to: *mut T,
    step: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for p in 0..pairs {
            let (first, to) = (from.add(2 * p * pixel), to.add(p * step));
            let second = first.add(pixel);
            for_channels!(S, len, |c, n| {
                let pair = S::interleave_bf16(first.add(c).cast(), second.add(c).cast(), n);
                S::store_n(to.add(2 * c).cast(), pair, n)
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::element::{Bf16, Storage};
    use super::*;

    #[test]
    fn turned_pixels_give_the_same_gradient() {
        for (k, s, h, w, c, out) in
            [(3, 1, 9, 13, 5, 33), (3, 2, 10, 7, 17, 20), (1, 1, 6, 41, 12, 4), (5, 2, 8, 8, 3, 40)]
        {
            let geometry = ConvGeometry { kernel: (k, k), stride: (s, s), pad: [k / 2; 4], groups: 1 };
            let (oh, ow) = ((h - 1) / s + 1, (w - 1) / s + 1);
            let numbers = |len: usize, step: usize| -> Vec<Bf16> {
                (0..len + 64).map(|i| Bf16::from_f32(((i * step) % 97) as f32 / 48.0 - 1.0)).collect()
            };
            let (mut x, mut dy) = (numbers(2 * h * w * c, 31), numbers(2 * oh * ow * out, 57));
            for isa in Isa::available() {
                let isa = isa.for_storage(Storage::Bf16);
                let mut gradients = [false, true].map(|turned| {
                    let kernel = WeightGrad::new((2, turned), geometry, [2, h, w, c], [2, oh, ow, out]);
                    let (mut partial, mut to) =
                        (vec![0.0; kernel.partial_len()], vec![f32::NAN; kernel.len()]);
                    let tensor = |data: &mut Vec<Bf16>, shape: [usize; 4]| Tensor {
                        data: Shared(data.as_mut_ptr()),
                        pixel_stride: shape[3],
                        shape,
                    };
                    let (x, dy) = (tensor(&mut x, [2, h, w, c]), tensor(&mut dy, [2, oh, ow, out]));
                    // SAFETY: the tensors are as long as their shapes say, and a vector more.
                    unsafe { kernel.run(isa, x, dy, &mut partial, &mut to) };
                    to
                });
                let [turned, plain] = [gradients[1].split_off(0), gradients[0].split_off(0)];
                let most = plain.iter().fold(0.0f32, |m, x| m.max(x.abs()));
                assert!(most > 0.1);
                for (a, b) in turned.iter().zip(&plain) {
                    assert!((a - b).abs() < 1e-5 * most, "{isa:?} {k} {s}: {a} {b}");
                }
            }
        }
    }
}
