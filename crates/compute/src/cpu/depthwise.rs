//! Depthwise convolution: each channel on its own, vectorised over channels. The padded scratch is float32 for every stored
//! element.

use crate::graph::ConvGeometry;

use super::conv::Epilogue;
use super::element::Element;
use super::elementwise::for_channels;
use super::norm::{Moments, for_each_part};
use super::scratch::{Shared, Tensor, copy_padded_floats, with_scratch};
use super::simd::{Isa, Simd, dispatch};
use super::team;
use super::weight_grad::sum_chunks;

/// A band's scratch stays under this many elements.
const BAND_ELEMENTS: usize = 48 * 1024;
/// Chunks of the weight gradient.
const CHUNKS: usize = 16;
/// Widest kernel whose weight gradient is held in registers.
const MAX_WIDTH: usize = 7;

/// A band of destination rows of one image.
#[derive(Clone, Copy)]
struct Band {
    image: usize,
    start: usize,
    end: usize,
}

/// A depthwise convolution ready to run.
pub(crate) struct Depthwise {
    geometry: ConvGeometry,
    source: [usize; 4],
    destination: [usize; 4],
    bands: Vec<Band>,
}

/// The scratch of a band and how to walk it.
#[derive(Clone, Copy)]
pub(crate) struct Walk {
    kernel: (usize, usize),
    stride: (usize, usize),
    /// Columns of the padded scratch.
    cols: usize,
    channels: usize,
}

impl Depthwise {
    /// `source` and `destination` are shapes `[n, h, w, c]`.
    pub fn new(geometry: ConvGeometry, source: [usize; 4], destination: [usize; 4]) -> Depthwise {
        let [n, oh, _, c] = destination;
        let row = (source[2] + geometry.pad[1] + geometry.pad[3]) * c * geometry.stride.0;
        let most = (BAND_ELEMENTS / row.max(1)).clamp(1, oh);
        let count = oh.div_ceil(most);
        let bands = (0..n)
            .flat_map(|image| (0..count).map(move |b| (image, b)))
            .map(|(image, b)| Band { image, start: b * oh / count, end: (b + 1) * oh / count })
            .collect();
        Depthwise { geometry, source, destination, bands }
    }

    /// The gradient with respect to the input, where the stride is 1: the same kind of convolution with the kernel
    /// turned by half a turn ([`Depthwise::turn`]).
    pub fn data_grad(g: &ConvGeometry, input: [usize; 4], output: [usize; 4]) -> Option<Depthwise> {
        let fits = g.pad.iter().zip([g.kernel.0, g.kernel.1, g.kernel.0, g.kernel.1]).all(|(&p, k)| p < k);
        (g.stride == (1, 1) && fits).then(|| {
            let pad = [
                g.kernel.0 - 1 - g.pad[0],
                g.kernel.1 - 1 - g.pad[1],
                g.kernel.0 - 1 - g.pad[2],
                g.kernel.1 - 1 - g.pad[3],
            ];
            Depthwise::new(ConvGeometry { pad, ..*g }, output, input)
        })
    }

    /// Weights `[kh][kw][c]` with rows and columns in reverse, to `out`.
    pub fn turn(weights: &[f32], channels: usize, out: &mut [f32]) {
        for (to, from) in out.chunks_mut(channels).zip(weights.chunks(channels).rev()) {
            to.copy_from_slice(from);
        }
    }

    /// Pixels of each part.
    pub fn part_counts(&self) -> impl Iterator<Item = usize> {
        self.bands.iter().map(|b| (b.end - b.start) * self.destination[2])
    }

    unsafe fn padded<T: Element>(&self, isa: Isa, x: Tensor<T>, band: &Band, scratch: *mut f32) -> Walk {
        let g = &self.geometry;
        let [_, h, w, c] = self.source;
        let cols = (self.destination[2] - 1) * g.stride.1 + g.kernel.1;
        let rows = (band.end - band.start - 1) * g.stride.0 + g.kernel.0;
        // SAFETY: `scratch` has the size that `scratch_len` says.
        unsafe {
            let first = (band.start * g.stride.0) as isize - g.pad[0] as isize;
            let image = x.pixel(band.image * h * w);
            let left = -(g.pad[1] as isize);
            let size = [h, w, c];
            copy_padded_floats(isa, image, size, x.pixel_stride, (first, rows), (left, cols), scratch);
        }
        Walk { kernel: g.kernel, stride: g.stride, cols, channels: c }
    }

    fn scratch_len(&self, band: &Band) -> usize {
        let g = &self.geometry;
        let cols = (self.destination[2] - 1) * g.stride.1 + g.kernel.1;
        ((band.end - band.start - 1) * g.stride.0 + g.kernel.0) * cols * self.source[3]
    }

    /// Runs the convolution with weights `[kh][kw][c]`.
    ///
    /// # Safety
    /// Tensors must be valid and of the shapes that this was made for, without overlap; weights readable to the end of
    /// their last vector.
    pub unsafe fn run<T: Element>(
        &self,
        isa: Isa,
        x: Tensor<T>,
        y: Tensor<T>,
        weights: &[f32],
        epilogue: Epilogue<T>,
        moments: Option<&mut [Moments]>,
    ) {
        let [_, oh, ow, channels] = self.destination;
        let weights = Shared(weights.as_ptr().cast_mut());
        let run = |band: &Band, moments: Option<&mut [Moments]>| {
            with_scratch(self.scratch_len(band), |scratch| {
                // SAFETY: bands are disjoint in y.
                unsafe {
                    let walk = self.padded(isa, x, band, scratch);
                    let first = (band.image * oh + band.start) * ow;
                    let bias = epilogue.bias.map(|b| b.get().cast_const());
                    let size = (band.end - band.start, ow);
                    let to = (y.pixel(first), y.pixel_stride);
                    forward_rows(isa, scratch, walk, weights.get(), bias, to, size, epilogue.add);
                    epilogue.finish(isa, y, first, size.0, ow, moments);
                }
            });
        };
        for_each_part(self.bands.len(), channels, moments, |band, m| run(&self.bands[band], m));
    }

    /// Elements of `partial` that [`Depthwise::weight_grad`] needs.
    pub fn partial_len(&self) -> usize {
        CHUNKS.min(self.bands.len()) * self.geometry.kernel.0 * self.geometry.kernel.1 * self.source[3]
    }

    /// Writes the weight gradient `[kh][kw][c]`, for the forward geometry.
    ///
    /// # Safety
    /// As [`Depthwise::run`].
    pub unsafe fn weight_grad<T: Element>(
        &self,
        isa: Isa,
        x: Tensor<T>,
        dy: Tensor<T>,
        partial: &mut [f32],
        out: &mut [f32],
    ) {
        let len = out.len();
        let [_, oh, ow, _] = self.destination;
        let chunks = CHUNKS.min(self.bands.len());
        team::for_each_chunk(&mut partial[..chunks * len], len, |chunk, sums| {
            sums.fill(0.0);
            for band in
                &self.bands[chunk * self.bands.len() / chunks..(chunk + 1) * self.bands.len() / chunks]
            {
                with_scratch(self.scratch_len(band), |scratch| {
                    // SAFETY: each chunk has its own sums.
                    unsafe {
                        let walk = self.padded(isa, x, band, scratch);
                        let first = (band.image * oh + band.start) * ow;
                        let dy = (dy.pixel(first).cast_const(), dy.pixel_stride);
                        weight_rows(isa, scratch, walk, dy, (band.end - band.start, ow), sums.as_mut_ptr());
                    }
                });
            }
        });
        sum_chunks(isa, partial, chunks, out);
    }

    /// The data gradient for any stride, by scattering; image by image.
    ///
    /// # Safety
    /// As [`Depthwise::run`].
    pub unsafe fn scatter_data_grad<T: Element>(
        &self,
        dy: Tensor<T>,
        dx: Tensor<T>,
        weights: &[f32],
        add: bool,
    ) {
        let g = self.geometry;
        let [n, h, w, c] = self.source;
        let [_, oh, ow, _] = self.destination;
        team::for_each(n, |image| {
            // SAFETY: each item writes one image of dx.
            unsafe {
                if !add {
                    for p in image * h * w..(image + 1) * h * w {
                        dx.pixel(p).write_bytes(0, c);
                    }
                }
                for (oy, ox) in (0..oh).flat_map(|oy| (0..ow).map(move |ox| (oy, ox))) {
                    let from = dy.pixel((image * oh + oy) * ow + ox);
                    for (ky, kx) in (0..g.kernel.0).flat_map(|ky| (0..g.kernel.1).map(move |kx| (ky, kx))) {
                        let iy = (oy * g.stride.0 + ky).wrapping_sub(g.pad[0]);
                        let ix = (ox * g.stride.1 + kx).wrapping_sub(g.pad[1]);
                        if iy < h && ix < w {
                            let to = dx.pixel((image * h + iy) * w + ix);
                            let weights = &weights[(ky * g.kernel.1 + kx) * c..][..c];
                            for (i, weight) in weights.iter().enumerate() {
                                let sum = (*to.add(i)).to_f32() + weight * (*from.add(i)).to_f32();
                                *to.add(i) = T::from_f32(sum);
                            }
                        }
                    }
                }
            }
        });
    }
}

dispatch! {
    /// Rows of a depthwise convolution from a padded scratch; `size`: rows and columns of the result.
    fn forward_rows[T](
        scratch: *const f32, walk: Walk, weights: *const f32, bias: Option<*const f32>, y: (*mut T, usize),
        size: (usize, usize), add: bool,
    ) = forward_rows_impl
}

#[inline(always)]
unsafe fn forward_rows_impl<S: Simd, T: Element>(
    scratch: *const f32,
    walk: Walk,
    weights: *const f32,
    bias: Option<*const f32>,
    y: (*mut T, usize),
    size: (usize, usize),
    add: bool,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for row in 0..size.0 {
            for_channels!(S, walk.channels, |c, n| {
                let mut col = 0;
                while col + 8 <= size.1 {
                    forward_pixels::<S, T, 8>(scratch, walk, weights, bias, y, (row, col, size.1), c, n, add);
                    col += 8;
                }
                while col < size.1 {
                    forward_pixels::<S, T, 1>(scratch, walk, weights, bias, y, (row, col, size.1), c, n, add);
                    col += 1;
                }
            })
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn forward_pixels<S: Simd, T: Element, const P: usize>(
    scratch: *const f32,
    walk: Walk,
    weights: *const f32,
    bias: Option<*const f32>,
    y: (*mut T, usize),
    (row, col, width): (usize, usize, usize),
    c: usize,
    n: usize,
    add: bool,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let start = bias.map_or(S::zero(), |b| S::load_n(b.add(c), n));
        let mut acc = [start; P];
        for ky in 0..walk.kernel.0 {
            let from = scratch
                .add(((row * walk.stride.0 + ky) * walk.cols + col * walk.stride.1) * walk.channels + c);
            for kx in 0..walk.kernel.1 {
                let weight = S::load_n(weights.add((ky * walk.kernel.1 + kx) * walk.channels + c), n);
                for (p, x) in acc.iter_mut().enumerate() {
                    let v = S::load_n(from.add((p * walk.stride.1 + kx) * walk.channels), n);
                    *x = S::fma(v, weight, *x);
                }
            }
        }
        for (p, x) in acc.iter().enumerate() {
            let to = y.0.add((row * width + col + p) * y.1 + c);
            let x = if add { S::add(*x, T::load_n::<S>(to, n)) } else { *x };
            T::store_n::<S>(to, x, n);
        }
    }
}

dispatch! {
    /// Adds a band's weight gradient to `sums` `[kh][kw][c]`.
    fn weight_rows[T](
        scratch: *const f32, walk: Walk, dy: (*const T, usize), size: (usize, usize), sums: *mut f32,
    ) = weight_rows_impl
}

#[inline(always)]
unsafe fn weight_rows_impl<S: Simd, T: Element>(
    scratch: *const f32,
    walk: Walk,
    dy: (*const T, usize),
    size: (usize, usize),
    sums: *mut f32,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for_channels!(S, walk.channels, |c, n| for ky in 0..walk.kernel.0 {
            let mut kx = 0;
            while kx < walk.kernel.1 {
                let width = (walk.kernel.1 - kx).min(MAX_WIDTH);
                match width {
                    7 => weight_taps::<S, T, 7>(scratch, walk, dy, size, sums, (ky, kx), c, n),
                    5 => weight_taps::<S, T, 5>(scratch, walk, dy, size, sums, (ky, kx), c, n),
                    3 => weight_taps::<S, T, 3>(scratch, walk, dy, size, sums, (ky, kx), c, n),
                    _ => weight_taps::<S, T, 1>(scratch, walk, dy, size, sums, (ky, kx), c, n),
                }
                kx += if matches!(width, 3 | 5 | 7) { width } else { 1 };
            }
        })
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn weight_taps<S: Simd, T: Element, const W: usize>(
    scratch: *const f32,
    walk: Walk,
    dy: (*const T, usize),
    size: (usize, usize),
    sums: *mut f32,
    (ky, kx): (usize, usize),
    c: usize,
    n: usize,
) {
    // SAFETY: the caller's promise.
    unsafe {
        let to = sums.add((ky * walk.kernel.1 + kx) * walk.channels + c);
        let mut acc = [S::zero(); W];
        for (t, x) in acc.iter_mut().enumerate() {
            *x = S::load_n(to.add(t * walk.channels), n);
        }
        for row in 0..size.0 {
            let mut from = scratch.add(((row * walk.stride.0 + ky) * walk.cols + kx) * walk.channels + c);
            for col in 0..size.1 {
                let g = T::load_n::<S>(dy.0.add((row * size.1 + col) * dy.1 + c), n);
                for (t, x) in acc.iter_mut().enumerate() {
                    *x = S::fma(S::load_n(from.add(t * walk.channels), n), g, *x);
                }
                from = from.add(walk.stride.1 * walk.channels);
            }
        }
        for (t, x) in acc.iter().enumerate() {
            S::store_n(to.add(t * walk.channels), *x, n);
        }
    }
}
