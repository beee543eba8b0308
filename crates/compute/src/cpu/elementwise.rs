//! Activations and other pixel-by-pixel kernels.

use crate::graph::Activation;

use super::element::Element;
use super::scratch::Tensor;
use super::simd::{Isa, Simd, dispatch};
use super::team;

/// Elements of one work item.
const PART_ELEMENTS: usize = 16 * 1024;

/// Calls `f(first pixel, pixels)` for each part of a tensor, in parallel.
pub(crate) fn for_parts(pixels: usize, channels: usize, f: impl Fn(usize, usize) + Sync) {
    let part = part_pixels(channels);
    team::for_each(pixels.div_ceil(part), |p| f(p * part, part.min(pixels - p * part)));
}

/// Pixels of one part.
pub(crate) fn part_pixels(channels: usize) -> usize {
    (PART_ELEMENTS / channels.max(1)).max(1)
}

/// An activation and its derivative, as a type so that loops are made for each; as exact as stored elements are.
pub(super) trait Act {
    unsafe fn value<S: Simd, T: Element>(x: S::V) -> S::V;
    unsafe fn slope<S: Simd, T: Element>(x: S::V) -> S::V;
}

macro_rules! acts {
    ($($name:ident: |$x:ident, $s:ident, $t:ident| $value:expr, $slope:expr;)*) => {
        $(
            pub(super) struct $name;
            impl Act for $name {
                #[inline(always)]
                unsafe fn value<$s: Simd, $t: Element>($x: $s::V) -> $s::V {
                    // SAFETY: vectors of the caller's instruction set.
                    #[allow(unused_unsafe)]
                    unsafe { $value }
                }
                #[inline(always)]
                unsafe fn slope<$s: Simd, $t: Element>($x: $s::V) -> $s::V {
                    // SAFETY: as above.
                    unsafe { $slope }
                }
            }
        )*
    };
}

acts! {
    Identity: |x, S, T| x, { let _ = x; S::splat(1.0) };
    Silu: |x, S, T| S::mul(x, T::sigmoid::<S>(x)), {
        let s = T::sigmoid::<S>(x);
        S::mul(s, S::fma(x, S::sub(S::splat(1.0), s), S::splat(1.0)))
    };
    Relu: |x, S, T| S::max(x, S::zero()), S::keep_if_less(S::zero(), x, S::splat(1.0));
    Relu6: |x, S, T| S::min(S::max(x, S::zero()), S::splat(6.0)),
        S::keep_if_less(S::zero(), x, S::keep_if_less(x, S::splat(6.0), S::splat(1.0)));
    Hardsigmoid: |x, S, T| S::mul(
            S::min(S::max(S::add(x, S::splat(3.0)), S::zero()), S::splat(6.0)),
            S::splat(1.0 / 6.0),
        ),
        S::keep_if_less(S::splat(-3.0), x, S::keep_if_less(x, S::splat(3.0), S::splat(1.0 / 6.0)));
    Hardswish: |x, S, T| S::mul(x, Hardsigmoid::value::<S, T>(x)), {
        // 0 below -3, 1 above 3, between x / 3 + 1/2.
        let middle = S::fma(x, S::splat(1.0 / 3.0), S::splat(0.5));
        let inside = S::keep_if_less(S::splat(-3.0), x, S::keep_if_less(x, S::splat(3.0), middle));
        let above = S::sub(S::splat(1.0), S::keep_if_less(x, S::splat(3.0), S::splat(1.0)));
        S::add(inside, above)
    };
    Sigmoid: |x, S, T| T::sigmoid::<S>(x), {
        let s = T::sigmoid::<S>(x);
        S::mul(s, S::sub(S::splat(1.0), s))
    };
}

/// Runs `$body` with `$act` standing for the activation's type.
macro_rules! with_act {
    ($activation:expr, $act:ident => $body:expr) => {
        match $activation {
            $crate::graph::Activation::Identity => {
                type $act = $crate::cpu::elementwise::Identity;
                $body
            }
            $crate::graph::Activation::Silu => {
                type $act = $crate::cpu::elementwise::Silu;
                $body
            }
            $crate::graph::Activation::Relu => {
                type $act = $crate::cpu::elementwise::Relu;
                $body
            }
            $crate::graph::Activation::Relu6 => {
                type $act = $crate::cpu::elementwise::Relu6;
                $body
            }
            $crate::graph::Activation::Hardswish => {
                type $act = $crate::cpu::elementwise::Hardswish;
                $body
            }
            $crate::graph::Activation::Hardsigmoid => {
                type $act = $crate::cpu::elementwise::Hardsigmoid;
                $body
            }
            $crate::graph::Activation::Sigmoid => {
                type $act = $crate::cpu::elementwise::Sigmoid;
                $body
            }
        }
    };
}
pub(super) use with_act;

/// Calls `$f(channel, lanes)` over a pixel's channels, whole vectors first.
macro_rules! for_channels {
    ($simd:ty, $channels:expr, |$c:ident, $n:ident| $body:expr) => {{
        let channels = $channels;
        let whole = channels - channels % <$simd as Simd>::LANES;
        let mut $c = 0;
        while $c < whole {
            let $n = <$simd as Simd>::LANES;
            $body;
            $c += $n;
        }
        if whole < channels {
            let $n = channels - whole;
            $body;
        }
    }};
}
pub(super) use for_channels;

dispatch! {
    /// `y = act(y) + residual` over `pixels` pixels of `channels`; the residual with its pixel stride.
    fn activate_rows[T](
        y: *mut T, stride: usize, pixels: usize, channels: usize, activation: Activation,
        residual: Option<(*mut T, usize)>,
    ) = activate_rows_impl
}

#[inline(always)]
unsafe fn activate_rows_impl<S: Simd, T: Element>(
    y: *mut T,
    stride: usize,
    pixels: usize,
    channels: usize,
    activation: Activation,
    residual: Option<(*mut T, usize)>,
) {
    // SAFETY: the caller's promise.
    unsafe {
        with_act!(activation, A => for p in 0..pixels {
            let y = y.add(p * stride);
            for_channels!(S, channels, |c, n| {
                let mut x = A::value::<S, T>(T::load_n::<S>(y.add(c), n));
                if let Some((r, r_stride)) = residual {
                    x = S::add(x, T::load_n::<S>(r.add(p * r_stride + c), n));
                }
                T::store_n::<S>(y.add(c), x, n)
            })
        })
    }
}

dispatch! {
    /// `y = act(x)`, or with `grad` (dy) `y (+)= dy * act'(x)`.
    fn activation_rows[T](
        x: (*const T, usize), dy: Option<(*const T, usize)>, y: (*mut T, usize), pixels: usize,
        channels: usize, activation: Activation, add: bool,
    ) = activation_rows_impl
}

#[inline(always)]
unsafe fn activation_rows_impl<S: Simd, T: Element>(
    x: (*const T, usize),
    dy: Option<(*const T, usize)>,
    y: (*mut T, usize),
    pixels: usize,
    channels: usize,
    activation: Activation,
    add: bool,
) {
    // SAFETY: the caller's promise.
    unsafe {
        with_act!(activation, A => for p in 0..pixels {
            for_channels!(S, channels, |c, n| {
                let v = T::load_n::<S>(x.0.add(p * x.1 + c), n);
                let to = y.0.add(p * y.1 + c);
                let mut out = match dy {
                    Some(dy) => S::mul(A::slope::<S, T>(v), T::load_n::<S>(dy.0.add(p * dy.1 + c), n)),
                    None => A::value::<S, T>(v),
                };
                if add {
                    out = S::add(out, T::load_n::<S>(to, n));
                }
                T::store_n::<S>(to, out, n)
            })
        })
    }
}

/// `y = act(x)`, or where `dy` is given `y (+)= dy * act'(x)`.
///
/// # Safety
/// Tensors must be valid and of equal shape.
pub(crate) unsafe fn activation<T: Element>(
    isa: Isa,
    x: Tensor<T>,
    dy: Option<Tensor<T>>,
    y: Tensor<T>,
    a: Activation,
    add: bool,
) {
    let channels = y.channels();
    // SAFETY: parts are disjoint.
    for_parts(y.pixels(), channels, |p, n| unsafe {
        let dy = dy.map(|dy| (dy.pixel(p).cast_const(), dy.pixel_stride));
        let x = (x.pixel(p).cast_const(), x.pixel_stride);
        activation_rows(isa, x, dy, (y.pixel(p), y.pixel_stride), n, channels, a, add);
    });
}

dispatch! {
    /// `y = x + (z if given) + (y if add)`.
    fn sum_rows[T](
        x: (*const T, usize), z: Option<(*const T, usize)>, y: (*mut T, usize), pixels: usize,
        channels: usize, add: bool,
    ) = sum_rows_impl
}

#[inline(always)]
unsafe fn sum_rows_impl<S: Simd, T: Element>(
    x: (*const T, usize),
    z: Option<(*const T, usize)>,
    y: (*mut T, usize),
    pixels: usize,
    channels: usize,
    add: bool,
) {
    // SAFETY: the caller's promise.
    unsafe {
        for p in 0..pixels {
            for_channels!(S, channels, |c, n| {
                let to = y.0.add(p * y.1 + c);
                let mut v = T::load_n::<S>(x.0.add(p * x.1 + c), n);
                if let Some(z) = z {
                    v = S::add(v, T::load_n::<S>(z.0.add(p * z.1 + c), n));
                }
                if add {
                    v = S::add(v, T::load_n::<S>(to, n));
                }
                T::store_n::<S>(to, v, n)
            })
        }
    }
}

/// `y = x + z`, with `add` also `+ y`; without `z` a copy.
///
/// # Safety
/// Tensors must be valid and of equal shape.
pub(crate) unsafe fn sum<T: Element>(isa: Isa, x: Tensor<T>, z: Option<Tensor<T>>, y: Tensor<T>, add: bool) {
    let channels = y.channels();
    // SAFETY: parts are disjoint.
    for_parts(y.pixels(), channels, |p, n| unsafe {
        let z = z.map(|z| (z.pixel(p).cast_const(), z.pixel_stride));
        let x = (x.pixel(p).cast_const(), x.pixel_stride);
        sum_rows(isa, x, z, (y.pixel(p), y.pixel_stride), n, channels, add);
    });
}

/// `y = 0`.
///
/// # Safety
/// The tensor must be valid.
pub(crate) unsafe fn zero<T: Element>(y: Tensor<T>) {
    let channels = y.channels();
    for_parts(y.pixels(), channels, |p, n| {
        for i in p..p + n {
            // SAFETY: pixel i belongs to this part alone.
            unsafe { y.pixel(i).write_bytes(0, channels) };
        }
    });
}
