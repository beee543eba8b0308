//! Mean pooling, enlargement, gathering of heads, channel scales.

use super::element::Element;
use super::elementwise::{for_channels, for_parts, part_pixels};
use super::scratch::Tensor;
use super::simd::{Isa, Simd, dispatch};
use super::team;

/// Channels of one work item of a pooling.
pub(super) const POOL_CHANNELS: usize = 64;

/// Calls `f(image, first channel, channels)` for each work item.
pub(super) fn for_channel_blocks(n: usize, channels: usize, f: impl Fn(usize, usize, usize) + Sync) {
    let blocks = channels.div_ceil(POOL_CHANNELS);
    team::for_each(n * blocks, |item| {
        let first = item % blocks * POOL_CHANNELS;
        f(item / blocks, first, POOL_CHANNELS.min(channels - first));
    });
}

/// Nearest-neighbour enlargement by 2.
///
/// # Safety
/// Tensors must be valid and of fitting shapes.
pub(crate) unsafe fn upsample2<T: Element>(x: Tensor<T>, y: Tensor<T>) {
    let [n, h, w, channels] = x.shape;
    team::for_each(n * h, |row| {
        for (dy, col) in (0..2).flat_map(|dy| (0..2 * w).map(move |col| (dy, col))) {
            // SAFETY: each item writes two rows of y.
            unsafe {
                let from = x.pixel(row * w + col / 2);
                y.pixel((2 * row + dy) * 2 * w + col).copy_from_nonoverlapping(from, channels);
            }
        }
    });
}

dispatch! {
    /// `to (+)= four[0] + four[1] + four[2] + four[3]`.
    fn sum_of_four[T](four: [*const T; 4], channels: usize, to: *mut T, add: bool) = sum_of_four_impl
}

#[inline(always)]
unsafe fn sum_of_four_impl<S: Simd, T: Element>(four: [*const T; 4], channels: usize, to: *mut T, add: bool) {
    // SAFETY: the caller's promise.
    unsafe {
        for_channels!(S, channels, |c, n| {
            let mut sum = T::load_n::<S>(four[0].add(c), n);
            for from in &four[1..] {
                sum = S::add(sum, T::load_n::<S>(from.add(c), n));
            }
            if add {
                sum = S::add(T::load_n::<S>(to.add(c), n), sum);
            }
            T::store_n::<S>(to.add(c), sum, n)
        })
    }
}

/// The gradient of [`upsample2`]: sums of four.
///
/// # Safety
/// Tensors must be valid and of fitting shapes.
pub(crate) unsafe fn upsample2_grad<T: Element>(isa: Isa, dy: Tensor<T>, dx: Tensor<T>, add: bool) {
    let [n, h, w, channels] = dx.shape;
    team::for_each(n * h, |row| {
        for col in 0..w {
            // SAFETY: each item writes one row of dx.
            unsafe {
                let to = dx.pixel(row * w + col);
                let top = dy.pixel(2 * row * 2 * w + 2 * col);
                let (right, below) = (dy.pixel_stride, 2 * w * dy.pixel_stride);
                let four = [0, right, below, below + right].map(|offset| top.add(offset).cast_const());
                sum_of_four(isa, four, channels, to, add);
            }
        }
    });
}

/// Of each of `heads` groups of channels of x those from `start` on, to y; with `back` x's are added to instead.
///
/// # Safety
/// Tensors must be valid; y has `heads` groups of `len` channels.
pub(crate) unsafe fn gather_heads<T: Element>(
    heads: usize,
    start: usize,
    len: usize,
    x: Tensor<T>,
    y: Tensor<T>,
    back: bool,
) {
    let group = x.channels() / heads;
    for_parts(y.pixels(), y.channels(), |first, pixels| {
        for p in first..first + pixels {
            for head in 0..heads {
                // SAFETY: parts are disjoint in pixels.
                unsafe {
                    let (x, y) = (x.pixel(p).add(head * group + start), y.pixel(p).add(head * len));
                    if back {
                        (0..len).for_each(|c| {
                            *x.add(c) = T::from_f32((*x.add(c)).to_f32() + (*y.add(c)).to_f32())
                        });
                    } else {
                        y.copy_from_nonoverlapping(x, len);
                    }
                }
            }
        }
    });
}

/// `y (+)= x * scale`, a factor a channel.
///
/// # Safety
/// Tensors must be valid and of equal shape.
pub(crate) unsafe fn scale_channels<T: Element>(x: Tensor<T>, scale: &[f32], y: Tensor<T>, add: bool) {
    for_parts(y.pixels(), scale.len(), |first, pixels| {
        for p in first..first + pixels {
            // SAFETY: parts are disjoint in pixels.
            unsafe {
                let (x, y) = (x.pixel(p), y.pixel(p));
                for (c, s) in scale.iter().enumerate() {
                    let v = (*x.add(c)).to_f32() * s;
                    *y.add(c) = T::from_f32(if add { (*y.add(c)).to_f32() + v } else { v });
                }
            }
        }
    });
}

/// `y (+)= x * factors`, a factor an image and channel. Its gradient with respect to x is the same with dy in x's place.
///
/// # Safety
/// Tensors must be valid, x and y of equal shape, factors `[n, 1, 1, c]`.
pub(crate) unsafe fn gate<T: Element>(x: Tensor<T>, factors: Tensor<T>, y: Tensor<T>, add: bool) {
    let [_, h, w, channels] = y.shape;
    for_parts(y.pixels(), channels, |first, pixels| {
        for p in first..first + pixels {
            // SAFETY: parts are disjoint in pixels.
            unsafe {
                let (x, factors, y) = (x.pixel(p), factors.pixel(p / (h * w)), y.pixel(p));
                for c in 0..channels {
                    let v = (*x.add(c)).to_f32() * (*factors.add(c)).to_f32();
                    *y.add(c) = T::from_f32(if add { (*y.add(c)).to_f32() + v } else { v });
                }
            }
        }
    });
}

/// The gradient of [`gate`] with respect to its factors: `d_factors (+)=` the sum of `x * dy` over an image's pixels.
///
/// # Safety
/// Tensors must be valid, x and dy of equal shape, d_factors `[n, 1, 1, c]`.
pub(crate) unsafe fn gate_factors_grad<T: Element>(
    x: Tensor<T>,
    dy: Tensor<T>,
    d_factors: Tensor<T>,
    add: bool,
) {
    let [n, h, w, channels] = x.shape;
    for_channel_blocks(n, channels, |image, first, count| {
        let mut sums = [0.0f64; POOL_CHANNELS];
        for p in image * h * w..(image + 1) * h * w {
            // SAFETY: the pixel exists; `count` channels from `first` on do.
            let (x, dy) = unsafe { (x.pixel(p).add(first), dy.pixel(p).add(first)) };
            for (c, sum) in sums[..count].iter_mut().enumerate() {
                // SAFETY: as above.
                *sum += f64::from(unsafe { (*x.add(c)).to_f32() * (*dy.add(c)).to_f32() });
            }
        }
        for (c, sum) in sums[..count].iter().enumerate() {
            // SAFETY: this item alone writes these channels of this image.
            unsafe {
                let to = d_factors.pixel(image).add(first + c);
                *to = T::from_f32(if add { (*to).to_f32() + *sum as f32 } else { *sum as f32 });
            }
        }
    });
}

/// Sums over pixels of `x * y` (or of x alone) for each channel, part by part, in float64 across parts.
///
/// # Safety
/// Tensors must be valid and of equal shape.
pub(crate) unsafe fn channel_sums<T: Element>(isa: Isa, x: Tensor<T>, y: Option<Tensor<T>>, out: &mut [f32]) {
    let channels = out.len();
    let part = part_pixels(channels);
    let pixels = x.pixels();
    let mut sums = vec![0.0; pixels.div_ceil(part) * channels];
    team::for_each_chunk(&mut sums, channels, |i, sums| {
        let (first, count) = (i * part, part.min(pixels - i * part));
        // SAFETY: the part's pixels exist.
        unsafe {
            let y = y.map(|y| (y.pixel(first).cast_const(), y.pixel_stride));
            sum_rows(isa, (x.pixel(first).cast_const(), x.pixel_stride), y, count, sums);
        }
    });
    for (c, out) in out.iter_mut().enumerate() {
        *out = sums.chunks(channels).map(|row| f64::from(row[c])).sum::<f64>() as f32;
    }
}

dispatch! {
    /// Each channel's sum over `pixels` pixels of `x`, or of `x * y`.
    fn sum_rows[T](x: (*const T, usize), y: Option<(*const T, usize)>, pixels: usize, out: &mut [f32]) = sum_rows_impl
}

#[inline(always)]
unsafe fn sum_rows_impl<S: Simd, T: Element>(
    x: (*const T, usize),
    y: Option<(*const T, usize)>,
    pixels: usize,
    out: &mut [f32],
) {
    // SAFETY: the caller's promise.
    unsafe {
        for_channels!(S, out.len(), |c, n| {
            let mut sum = S::zero();
            for p in 0..pixels {
                let mut v = T::load_n::<S>(x.0.add(p * x.1 + c), n);
                if let Some(y) = y {
                    v = S::mul(v, T::load_n::<S>(y.0.add(p * y.1 + c), n));
                }
                sum = S::add(sum, v);
            }
            S::store_n(out.as_mut_ptr().add(c), sum, n)
        })
    }
}

/// Mean over an image's pixels.
///
/// # Safety
/// Tensors must be valid; y is `[n, 1, 1, c]`.
pub(crate) unsafe fn global_avg_pool<T: Element>(x: Tensor<T>, y: Tensor<T>) {
    let [n, h, w, channels] = x.shape;
    team::for_each(n, |image| {
        let mut sums = vec![0.0f64; channels];
        for p in image * h * w..(image + 1) * h * w {
            for (c, sum) in sums.iter_mut().enumerate() {
                // SAFETY: the pixel exists.
                *sum += f64::from(unsafe { *x.pixel(p).add(c) }.to_f32());
            }
        }
        for (c, sum) in sums.iter().enumerate() {
            // SAFETY: each item writes one image's row.
            unsafe { *y.pixel(image).add(c) = T::from_f32((sum / (h * w) as f64) as f32) };
        }
    });
}

/// The gradient of [`global_avg_pool`].
///
/// # Safety
/// Tensors must be valid; dy is `[n, 1, 1, c]`.
pub(crate) unsafe fn global_avg_pool_grad<T: Element>(dy: Tensor<T>, dx: Tensor<T>, add: bool) {
    let [_, h, w, channels] = dx.shape;
    let factor = 1.0 / (h * w) as f32;
    for_parts(dx.pixels(), channels, |first, pixels| {
        for p in first..first + pixels {
            // SAFETY: parts are disjoint in pixels.
            unsafe {
                let (from, to) = (dy.pixel(p / (h * w)), dx.pixel(p));
                for c in 0..channels {
                    let v = (*from.add(c)).to_f32() * factor;
                    *to.add(c) = T::from_f32(if add { (*to.add(c)).to_f32() + v } else { v });
                }
            }
        }
    });
}
