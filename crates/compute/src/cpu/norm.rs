//! Batch normalisation (Ioffe and Szegedy, 2015), fused with the activation and residual behind it.
//!
//! Statistics are taken part by part (mean and squared deviations from it, in two passes over what is in cache) and
//! combined in a fixed order in float64 (Chan, Golub and LeVeque, 1983), so that neither the number of threads nor large
//! means cost accuracy.

use crate::graph::Activation;

use super::element::Element;
use super::elementwise::{Act, part_pixels, with_act};
use super::scratch::{Shared, Tensor};
use super::simd::{Isa, MAX_LANES, Simd, dispatch};
use super::team;

/// A part's mean of one channel and its sum of squared deviations from that mean.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Moments {
    pub mean: f32,
    pub m2: f32,
}

dispatch! {
    /// The moments of `pixels` pixels, one for each of `out.len()` channels.
    fn row_moments[T](x: *const T, stride: usize, pixels: usize, out: &mut [Moments]) = row_moments_impl
}

/// Calls the body with `c` (a first channel), `n` (lanes that count) and the constant `V` (vectors) for blocks of four
/// vectors of channels, two and one: a block's rows of parameters stay in registers, and memory is read along its rows.
macro_rules! for_blocks {
    ($simd:ty, $channels:expr, |$c:ident, $n:ident, $v:ident| $body:expr) => {{
        let channels = $channels;
        let lanes = <$simd as Simd>::LANES;
        let mut $c = 0;
        let $n = lanes;
        while $c + 4 * lanes <= channels {
            const $v: usize = 4;
            $body;
            $c += 4 * lanes;
        }
        for_twos!($simd, $c, channels, |$c, $n, $v| $body)
    }};
}

/// As [`for_blocks`] from a channel on, but of two vectors and one.
macro_rules! for_twos {
    ($simd:ty, $first:expr, $channels:expr, |$c:ident, $n:ident, $v:ident| $body:expr) => {{
        let channels = $channels;
        let lanes = <$simd as Simd>::LANES;
        let mut $c = $first;
        let $n = lanes;
        while $c + 2 * lanes <= channels {
            const $v: usize = 2;
            $body;
            $c += 2 * lanes;
        }
        while $c < channels {
            const $v: usize = 1;
            let $n = lanes.min(channels - $c);
            $body;
            $c += lanes;
        }
    }};
}

/// A block's elements.
#[inline(always)]
unsafe fn load_block<S: Simd, T: Element, const V: usize>(p: *const T, n: usize) -> [S::V; V] {
    // SAFETY: the caller's promise: V whole vectors, or one of n elements.
    unsafe {
        let mut out = [S::zero(); V];
        for v in (0..V).step_by(2) {
            if v + 1 < V {
                [out[v], out[v + 1]] = T::load_two::<S>(p.add(v * S::LANES));
            } else {
                out[v] = T::load_n::<S>(p.add(v * S::LANES), n);
            }
        }
        out
    }
}

/// Stores a block's elements.
#[inline(always)]
unsafe fn store_block<S: Simd, T: Element, const V: usize>(p: *mut T, block: [S::V; V], n: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        for v in (0..V).step_by(2) {
            if v + 1 < V {
                T::store_two::<S>(p.add(v * S::LANES), [block[v], block[v + 1]]);
            } else {
                T::store_n::<S>(p.add(v * S::LANES), block[v], n);
            }
        }
    }
}

/// A block's values of a row of parameters.
#[inline(always)]
unsafe fn block<S: Simd, const V: usize>(row: &[f32], c: usize, n: usize) -> [S::V; V] {
    // SAFETY: the row has the block's channels.
    std::array::from_fn(|v| unsafe { S::load_n(row.as_ptr().add(c + v * S::LANES), n) })
}

#[inline(always)]
unsafe fn row_moments_impl<S: Simd, T: Element>(
    x: *const T,
    stride: usize,
    pixels: usize,
    out: &mut [Moments],
) {
    // SAFETY: the caller's promise.
    unsafe {
        for_blocks!(S, out.len(), |c, n, V| {
            let row = |p: usize| load_block::<S, T, V>(x.add(p * stride + c), n);
            let inverse = S::splat(1.0 / pixels as f32);
            if T::GROUP == 2 {
                // Rounded as the values are, one pass is enough: deviations from the first value lose digits only where it
                // is an outlier.
                let first = row(0);
                let (mut sum, mut squares) = ([S::zero(); V], [S::zero(); V]);
                for p in 0..pixels {
                    let row = row(p);
                    for v in 0..V {
                        let d = S::sub(row[v], first[v]);
                        sum[v] = S::add(sum[v], d);
                        squares[v] = S::fma(d, d, squares[v]);
                    }
                }
                for v in 0..V {
                    let mean = S::mul(sum[v], inverse);
                    let m2 = S::max(S::sub(squares[v], S::mul(sum[v], mean)), S::zero());
                    write_moments::<S>(S::add(first[v], mean), m2, n, &mut out[c + v * S::LANES..]);
                }
            } else {
                let mut sum = [S::zero(); V];
                for p in 0..pixels {
                    for (sum, x) in sum.iter_mut().zip(row(p)) {
                        *sum = S::add(*sum, x);
                    }
                }
                let mean = sum.map(|sum| S::mul(sum, inverse));
                // A second pass over what is in cache: a difference of squares would lose digits where a channel hardly
                // varies. What the deviations sum to is what the mean was rounded by.
                let (mut rest, mut m2) = ([S::zero(); V], [S::zero(); V]);
                for p in 0..pixels {
                    let row = row(p);
                    for v in 0..V {
                        let d = S::sub(row[v], mean[v]);
                        rest[v] = S::add(rest[v], d);
                        m2[v] = S::fma(d, d, m2[v]);
                    }
                }
                for v in 0..V {
                    let rounded = S::mul(rest[v], inverse);
                    let m2 = S::max(S::sub(m2[v], S::mul(rest[v], rounded)), S::zero());
                    write_moments::<S>(S::add(mean[v], rounded), m2, n, &mut out[c + v * S::LANES..]);
                }
            }
        })
    }
}

/// The first `n` lanes to moments.
#[inline(always)]
unsafe fn write_moments<S: Simd>(mean: S::V, m2: S::V, n: usize, out: &mut [Moments]) {
    let (mut means, mut m2s) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
    // SAFETY: the arrays hold a vector of any instruction set.
    unsafe {
        S::store(means.as_mut_ptr(), mean);
        S::store(m2s.as_mut_ptr(), m2);
    }
    for (i, out) in out.iter_mut().take(n).enumerate() {
        *out = Moments { mean: means[i], m2: m2s[i] };
    }
}

/// Calls `run` with the number of each part and, where they are wanted, the part's row of moments.
///
/// # Panics
/// If `moments` are not as many as parts and channels.
pub(super) fn for_each_part(
    parts: usize,
    channels: usize,
    moments: Option<&mut [Moments]>,
    run: impl Fn(usize, Option<&mut [Moments]>) + Sync,
) {
    match moments {
        Some(moments) => {
            assert_eq!(moments.len(), parts * channels);
            team::for_each_chunk(moments, channels, |part, row| run(part, Some(row)));
        }
        None => team::for_each(parts, |part| run(part, None)),
    }
}

/// The moments of a whole tensor, part by part: `(moments [parts][channels], pixels of each part)`.
///
/// # Safety
/// The tensor must be valid.
pub(crate) unsafe fn part_moments<T: Element>(
    isa: Isa,
    x: Tensor<T>,
    moments: &mut Vec<Moments>,
    counts: &mut Vec<usize>,
) {
    let channels = x.channels();
    let part = part_pixels(channels);
    let pixels = x.pixels();
    counts.clear();
    counts.extend((0..pixels.div_ceil(part)).map(|p| part.min(pixels - p * part)));
    moments.clear();
    moments.resize(counts.len() * channels, Moments::default());
    team::for_each_chunk(moments, channels, |p, out| {
        // SAFETY: the part's pixels exist.
        unsafe { row_moments(isa, x.pixel(p * part), x.pixel_stride, counts[p], out) }
    });
}

/// Channels that one thread combines at a time.
const COMBINED: usize = 16;

/// Combines parts to `(mean, biased variance)` of each channel.
pub(crate) fn combine(isa: Isa, moments: &[Moments], counts: &[usize], mean: &mut [f32], var: &mut [f32]) {
    let channels = mean.len();
    let (means, vars) = (Shared(mean.as_mut_ptr()), Shared(var.as_mut_ptr()));
    team::for_each(channels.div_ceil(COMBINED), |block| {
        let first = block * COMBINED;
        let rows = (moments, channels, first, COMBINED.min(channels - first));
        // SAFETY: blocks are disjoint in both rows.
        unsafe { combine_block(isa, rows, counts, means.get().add(first), vars.get().add(first)) }
    });
}

/// Rows of all channels, and those from one on that count.
type Rows<'a, T> = (&'a [T], usize, usize, usize);

dispatch! {
    /// One block of channels of [`combine`].
    fn combine_block(rows: Rows<Moments>, counts: &[usize], mean: *mut f32, var: *mut f32) = combine_block_impl
}

#[inline(always)]
unsafe fn combine_block_impl<S: Simd>(
    (moments, channels, first, n): Rows<Moments>,
    counts: &[usize],
    mean: *mut f32,
    var: *mut f32,
) {
    let (mut m, mut m2) = ([0.0f64; COMBINED], [0.0f64; COMBINED]);
    let mut total = 0.0;
    for (row, &count) in moments.chunks(channels).zip(counts) {
        let part = count as f64;
        let (share, weight) = (part / (total + part), total * part / (total + part));
        for (i, part) in row[first..first + n].iter().enumerate() {
            let delta = f64::from(part.mean) - m[i];
            m2[i] += f64::from(part.m2) + delta * delta * weight;
            m[i] += delta * share;
        }
        total += part;
    }
    for i in 0..n {
        // SAFETY: both rows have n channels from here on.
        unsafe {
            *mean.add(i) = m[i] as f32;
            *var.add(i) = (m2[i] / total) as f32;
        }
    }
}

/// A norm's affine form: `u = z * scale + shift`; and what gives the normalised input: `(z - mean) * inv_std`.
#[derive(Clone, Default)]
pub(crate) struct Affine {
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
    pub mean: Vec<f32>,
    pub inv_std: Vec<f32>,
}

impl Affine {
    pub fn new(gamma: &[f32], beta: &[f32], mean: &[f32], var: &[f32], eps: f32) -> Affine {
        let mut affine = Affine::default();
        affine.set(gamma, beta, mean, var, eps);
        affine
    }

    /// Takes other values; allocates nothing where the number of channels stays.
    pub fn set(&mut self, gamma: &[f32], beta: &[f32], mean: &[f32], var: &[f32], eps: f32) {
        let refill = |to: &mut Vec<f32>, from: &mut dyn Iterator<Item = f32>| {
            to.clear();
            to.extend(from);
        };
        let inverse = |v: f32| (1.0 / (f64::from(v) + f64::from(eps)).sqrt()) as f32;
        refill(&mut self.inv_std, &mut var.iter().map(|&v| inverse(v)));
        refill(&mut self.scale, &mut gamma.iter().zip(&self.inv_std).map(|(g, i)| g * i));
        refill(&mut self.mean, &mut mean.iter().copied());
        let scaled = beta.iter().zip(mean.iter().zip(&self.scale));
        let shift = scaled.map(|(&b, (&m, &s))| (f64::from(b) - f64::from(m) * f64::from(s)) as f32);
        self.shift.clear();
        self.shift.extend(shift);
    }
}

dispatch! {
    /// `y = act(z * scale + shift) + residual`.
    fn norm_rows[T](
        z: (*const T, usize), y: (*mut T, usize), pixels: usize, affine: &Affine, activation: Activation,
        residual: Option<(*const T, usize)>,
    ) = norm_rows_impl
}

#[inline(always)]
unsafe fn norm_rows_impl<S: Simd, T: Element>(
    z: (*const T, usize),
    y: (*mut T, usize),
    pixels: usize,
    affine: &Affine,
    activation: Activation,
    residual: Option<(*const T, usize)>,
) {
    // SAFETY: the caller's promise.
    unsafe {
        // Along memory's rows: streams that skip parts of them are slower than loading the parameters again.
        with_act!(activation, A => for p in 0..pixels {
            for_twos!(S, 0, affine.scale.len(), |c, n, V| {
                let x = load_block::<S, T, V>(z.0.add(p * z.1 + c), n);
                let [scale, shift] = [&affine.scale, &affine.shift].map(|row| block::<S, V>(row, c, n));
                let mut u = x;
                for v in 0..V {
                    u[v] = A::value::<S, T>(S::fma(x[v], scale[v], shift[v]));
                }
                if let Some(r) = residual {
                    let r = load_block::<S, T, V>(r.0.add(p * r.1 + c), n);
                    for v in 0..V {
                        u[v] = S::add(u[v], r[v]);
                    }
                }
                store_block::<S, T, V>(y.0.add(p * y.1 + c), u, n)
            })
        })
    }
}

/// `y = act(norm(z)) + residual`.
///
/// # Safety
/// Tensors must be valid and of equal shape.
pub(crate) unsafe fn forward<T: Element>(
    isa: Isa,
    z: Tensor<T>,
    y: Tensor<T>,
    affine: &Affine,
    activation: Activation,
    residual: Option<Tensor<T>>,
) {
    // SAFETY: parts are disjoint.
    super::elementwise::for_parts(y.pixels(), y.channels(), |p, n| unsafe {
        let residual = residual.map(|r| (r.pixel(p).cast_const(), r.pixel_stride));
        let z = (z.pixel(p).cast_const(), z.pixel_stride);
        norm_rows(isa, z, (y.pixel(p), y.pixel_stride), n, affine, activation, residual);
    });
}

/// A channel's sums over one part: of du, and of du times the normalised input.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub du: f32,
    pub du_x: f32,
}

dispatch! {
    /// The gradient sums of one part; u is the norm's output, du = dy * act'(u). With `keep`, du is written over dy.
    fn grad_sums[T](
        z: (*const T, usize), dy: (*mut T, usize), keep: bool, pixels: usize, affine: &Affine,
        activation: Activation, out: &mut [Sums],
    ) = grad_sums_impl
}

#[inline(always)]
unsafe fn grad_sums_impl<S: Simd, T: Element>(
    z: (*const T, usize),
    dy: (*mut T, usize),
    keep: bool,
    pixels: usize,
    affine: &Affine,
    activation: Activation,
    out: &mut [Sums],
) {
    // SAFETY: the caller's promise.
    unsafe {
        with_act!(activation, A => for_blocks!(S, out.len(), |c, n, V| {
            let [scale, shift, mean] =
                [&affine.scale, &affine.shift, &affine.mean].map(|row| block::<S, V>(row, c, n));
            let (mut sum, mut sum_x) = ([S::zero(); V], [S::zero(); V]);
            for p in 0..pixels {
                let place = dy.0.add(p * dy.1 + c);
                let (x, dy) = (
                    load_block::<S, T, V>(z.0.add(p * z.1 + c), n),
                    load_block::<S, T, V>(place, n),
                );
                let mut du = dy;
                for v in 0..V {
                    du[v] = S::mul(A::slope::<S, T>(S::fma(x[v], scale[v], shift[v])), dy[v]);
                }
                if keep {
                    store_block::<S, T, V>(place, du, n);
                }
                for v in 0..V {
                    sum[v] = S::add(sum[v], du[v]);
                    sum_x[v] = S::fma(du[v], S::sub(x[v], mean[v]), sum_x[v]);
                }
            }
            let inv_std = block::<S, V>(&affine.inv_std, c, n);
            let (mut a, mut b) = ([0.0; MAX_LANES], [0.0; MAX_LANES]);
            for v in 0..V {
                S::store(a.as_mut_ptr(), sum[v]);
                S::store(b.as_mut_ptr(), S::mul(sum_x[v], inv_std[v]));
                for (i, out) in out[c + v * S::LANES..].iter_mut().take(n).enumerate() {
                    *out = Sums { du: a[i], du_x: b[i] };
                }
            }
        }))
    }
}

dispatch! {
    /// The sums of one block of channels over all parts: of `(du x, du)`.
    fn total_block(rows: Rows<Sums>, totals: &mut [(f64, f64)]) = total_block_impl
}

#[inline(always)]
unsafe fn total_block_impl<S: Simd>((sums, channels, first, n): Rows<Sums>, totals: &mut [(f64, f64)]) {
    let mut block = [(0.0f64, 0.0f64); COMBINED];
    for row in sums.chunks(channels) {
        for (i, s) in row[first..first + n].iter().enumerate() {
            block[i].0 += f64::from(s.du_x);
            block[i].1 += f64::from(s.du);
        }
    }
    totals.copy_from_slice(&block[..n]);
}

/// What turns du to dz: `dz = du * scale - z * slope - offset`, from the means over the batch.
#[derive(Default)]
pub(crate) struct GradAffine {
    pub slope: Vec<f32>,
    pub offset: Vec<f32>,
}

dispatch! {
    /// `dz (+)= du * scale - (z * slope + offset)`; without `grad` the statistics are constants and dz = du * scale.
    fn grad_rows[T](
        z: (*const T, usize), dy: (*const T, usize), dz: (*mut T, usize), pixels: usize, affine: &Affine,
        grad: Option<&GradAffine>, activation: Activation, add: bool,
    ) = grad_rows_impl
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
unsafe fn grad_rows_impl<S: Simd, T: Element>(
    z: (*const T, usize),
    dy: (*const T, usize),
    dz: (*mut T, usize),
    pixels: usize,
    affine: &Affine,
    grad: Option<&GradAffine>,
    activation: Activation,
    add: bool,
) {
    // SAFETY: the caller's promise.
    unsafe {
        with_act!(activation, A => for p in 0..pixels {
            for_twos!(S, 0, affine.scale.len(), |c, n, V| {
                let x = load_block::<S, T, V>(z.0.add(p * z.1 + c), n);
                let dy = load_block::<S, T, V>(dy.0.add(p * dy.1 + c), n);
                let [scale, shift] = [&affine.scale, &affine.shift].map(|row| block::<S, V>(row, c, n));
                let mut out = dy;
                for v in 0..V {
                    let u = S::fma(x[v], scale[v], shift[v]);
                    out[v] = S::mul(S::mul(A::slope::<S, T>(u), dy[v]), scale[v]);
                }
                if let Some(grad) = grad {
                    let [slope, offset] = [&grad.slope, &grad.offset].map(|row| block::<S, V>(row, c, n));
                    for v in 0..V {
                        out[v] = S::sub(out[v], S::fma(x[v], slope[v], offset[v]));
                    }
                }
                let to = dz.0.add(p * dz.1 + c);
                if add {
                    let there = load_block::<S, T, V>(to, n);
                    for v in 0..V {
                        out[v] = S::add(out[v], there[v]);
                    }
                }
                store_block::<S, T, V>(to, out, n)
            })
        })
    }
}

/// One norm's backward pass.
pub(crate) struct Backward<'a, T> {
    pub isa: Isa,
    pub z: Tensor<T>,
    pub dy: Tensor<T>,
    /// May be dy itself.
    pub dz: Tensor<T>,
    pub affine: &'a Affine,
    pub activation: Activation,
    pub batch_stats: bool,
    pub add: bool,
}

impl<T: Element> Backward<'_, T> {
    /// Writes dz; `(d scale, d shift)` of each channel are then in [`Lent::parameters`].
    ///
    /// # Safety
    /// Tensors must be valid and of equal shape.
    pub unsafe fn run(&self, lent: &mut Lent) {
        let Backward { isa, z, dy, dz, affine, activation, batch_stats, add } = *self;
        let Lent { sums, totals, grad } = lent;
        let channels = z.channels();
        let pixels = z.pixels();
        let part = part_pixels(channels);
        let parts = pixels.div_ceil(part);
        // Where dz takes dy's place, du can wait there: the activation's slope is then formed once. Its lines are in the
        // cache, and what is rounded once more is a gradient that was rounded as it was written.
        let keep = dz.data.get() == dy.data.get() && activation != Activation::Identity && !add;
        sums.clear();
        sums.resize(parts * channels, Sums::default());
        team::for_each_chunk(sums, channels, |p, out| {
            let n = part.min(pixels - p * part);
            // SAFETY: the part's pixels exist, and are this item's alone.
            unsafe {
                let z = (z.pixel(p * part).cast_const(), z.pixel_stride);
                let dy = (dy.pixel(p * part), dy.pixel_stride);
                grad_sums(isa, z, dy, keep, n, affine, activation, out);
            }
        });
        totals.clear();
        totals.resize(channels, (0.0, 0.0));
        let (sums, rows) = (&*sums, channels);
        team::for_each_chunk(totals, COMBINED, |block, totals| {
            let rows = (&sums[..], rows, block * COMBINED, totals.len());
            // SAFETY: the rows have the block's channels.
            unsafe { total_block(isa, rows, totals) }
        });
        grad.slope.clear();
        grad.offset.clear();
        if batch_stats {
            let count = pixels as f64;
            for (c, (d_scale, d_shift)) in totals.iter().enumerate() {
                // dz = scale * (du - mean(du) - x * mean(du x)) with x = (z - mean) * inv_std.
                let scale = f64::from(affine.scale[c]);
                let slope = scale * d_scale / count * f64::from(affine.inv_std[c]);
                grad.slope.push(slope as f32);
                grad.offset.push((scale * d_shift / count - slope * f64::from(affine.mean[c])) as f32);
            }
        }
        let grad = batch_stats.then_some(&*grad);
        let activation = if keep { Activation::Identity } else { activation };
        // SAFETY: parts are disjoint; dz may lie over dy, each element is read before it is written.
        super::elementwise::for_parts(pixels, channels, |p, n| unsafe {
            let z = (z.pixel(p).cast_const(), z.pixel_stride);
            let dy = (dy.pixel(p).cast_const(), dy.pixel_stride);
            let dz = (dz.pixel(p), dz.pixel_stride);
            grad_rows(isa, z, dy, dz, n, affine, grad, activation, add);
        });
    }
}

/// What backward passes are lent, so that they allocate nothing.
#[derive(Default)]
pub(crate) struct Lent {
    sums: Vec<Sums>,
    totals: Vec<(f64, f64)>,
    grad: GradAffine,
}

impl Lent {
    /// `(d scale, d shift)` of each channel, of the last pass.
    pub fn parameters(&self) -> impl Iterator<Item = (f32, f32)> {
        self.totals.iter().map(|&(scale, shift)| (scale as f32, shift as f32))
    }
}
