//! Maximum pooling and its gradient.

use super::element::Element;
use super::elementwise::for_channels;
use super::scratch::{Tensor, with_scratch};
use super::shape_ops::{POOL_CHANNELS, for_channel_blocks};
use super::simd::{Isa, MAX_LANES, Simd, dispatch};

/// A pooling window.
#[derive(Clone, Copy)]
pub(crate) struct Pool {
    pub kernel: usize,
    pub stride: usize,
    pub pad: usize,
}

impl Pool {
    /// The rows (or columns) of a size that the window at `o` covers.
    fn span(self, o: usize, size: usize) -> std::ops::Range<usize> {
        let start = (o * self.stride).saturating_sub(self.pad);
        start..(o * self.stride + self.kernel - self.pad).min(size)
    }
}

/// Maximum pooling; what is no number stays none.
///
/// # Safety
/// Tensors must be valid and of fitting shapes.
pub(crate) unsafe fn max_pool<T: Element>(isa: Isa, pool: Pool, x: Tensor<T>, y: Tensor<T>) {
    let [n, h, w, channels] = x.shape;
    let [_, oh, ow, _] = y.shape;
    for_channel_blocks(n, channels, |image, first, count| {
        // SAFETY: this item alone writes these channels of this image.
        unsafe {
            let x = (x.pixel(image * h * w).add(first).cast_const(), x.pixel_stride);
            let y = (y.pixel(image * oh * ow).add(first), y.pixel_stride);
            channels_max(isa, pool, ((h, w), (oh, ow)), count, x, y);
        }
    });
}

dispatch! {
    /// The maxima of `count` channels of one image.
    fn channels_max[T](
        pool: Pool, sizes: ((usize, usize), (usize, usize)), count: usize, x: (*const T, usize), y: (*mut T, usize),
    ) = channels_max_impl
}

#[inline(always)]
unsafe fn channels_max_impl<S: Simd, T: Element>(
    pool: Pool,
    ((h, w), (oh, ow)): ((usize, usize), (usize, usize)),
    count: usize,
    x: (*const T, usize),
    y: (*mut T, usize),
) {
    // SAFETY: the caller's promise.
    unsafe {
        for (oy, ox) in (0..oh).flat_map(|oy| (0..ow).map(move |ox| (oy, ox))) {
            for_channels!(S, count, |c, n| {
                let mut most = S::splat(f32::NEG_INFINITY);
                for iy in pool.span(oy, h) {
                    for ix in pool.span(ox, w) {
                        let v = T::load_n::<S>(x.0.add((iy * w + ix) * x.1 + c), n);
                        // Comparisons with what is no number are false: it is taken over, and kept.
                        let larger = S::select_less(v, most, most, v);
                        most = S::select_less(most, S::splat(f32::INFINITY), larger, most);
                    }
                }
                T::store_n::<S>(y.0.add((oy * ow + ox) * y.1 + c), most, n)
            })
        }
    }
}

/// The gradient of maximum pooling: each window's gradient goes to its first maximum in reading order.
///
/// # Safety
/// Tensors must be valid and of fitting shapes.
pub(crate) unsafe fn max_pool_grad<T: Element>(
    isa: Isa,
    pool: Pool,
    x: Tensor<T>,
    dy: Tensor<T>,
    dx: Tensor<T>,
    add: bool,
) {
    let [n, h, w, channels] = x.shape;
    let [_, oh, ow, _] = dy.shape;
    for_channel_blocks(n, channels, |image, first, count| {
        with_scratch(h * w * POOL_CHANNELS, |sums| {
            // SAFETY: this item alone writes these channels of this image; the scratch holds a sum for each pixel.
            unsafe {
                let x = (x.pixel(image * h * w).add(first).cast_const(), x.pixel_stride);
                let dy = (dy.pixel(image * oh * ow).add(first).cast_const(), dy.pixel_stride);
                let dx = (dx.pixel(image * h * w).add(first), dx.pixel_stride);
                channels_grad(isa, pool, ((h, w), (oh, ow)), count, x, dy, dx, sums, add);
            }
        });
    });
}

dispatch! {
    /// The gradient of `count` channels of one image; `sums` is lent.
    fn channels_grad[T](
        pool: Pool, sizes: ((usize, usize), (usize, usize)), count: usize, x: (*const T, usize),
        dy: (*const T, usize), dx: (*mut T, usize), sums: *mut f32, add: bool,
    ) = channels_grad_impl
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn channels_grad_impl<S: Simd, T: Element>(
    pool: Pool,
    ((h, w), (oh, ow)): ((usize, usize), (usize, usize)),
    count: usize,
    x: (*const T, usize),
    dy: (*const T, usize),
    dx: (*mut T, usize),
    sums: *mut f32,
    add: bool,
) {
    // SAFETY: the caller's promise; places are pixels of the image, exact in float32.
    unsafe {
        for_channels!(S, count, |c, n| {
            sums.write_bytes(0, h * w * S::LANES);
            for (oy, ox) in (0..oh).flat_map(|oy| (0..ow).map(move |ox| (oy, ox))) {
                let (mut most, mut place) = (S::splat(f32::NEG_INFINITY), S::zero());
                for iy in pool.span(oy, h) {
                    for ix in pool.span(ox, w) {
                        let pixel = iy * w + ix;
                        let v = T::load_n::<S>(x.0.add(pixel * x.1 + c), n);
                        place = S::select_less(most, v, S::splat(pixel as f32), place);
                        most = S::select_less(most, v, v, most);
                    }
                }
                let (mut places, mut grads) = ([0.0f32; MAX_LANES], [0.0f32; MAX_LANES]);
                S::store(places.as_mut_ptr(), place);
                S::store(grads.as_mut_ptr(), T::load_n::<S>(dy.0.add((oy * ow + ox) * dy.1 + c), n));
                for lane in 0..n {
                    *sums.add(places[lane] as usize * S::LANES + lane) += grads[lane];
                }
            }
            for pixel in 0..h * w {
                let to = dx.0.add(pixel * dx.1 + c);
                let mut sum = S::load(sums.add(pixel * S::LANES));
                if add {
                    sum = S::add(sum, T::load_n::<S>(to, n));
                }
                T::store_n::<S>(to, sum, n);
            }
        })
    }
}
