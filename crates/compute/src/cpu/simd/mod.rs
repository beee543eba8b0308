//! Vectors of float32 behind one trait: AVX-512, AVX2, and a portable one.
//!
//! Kernels are generic over [`Simd`] and `#[inline(always)]`; the `dispatch!` macro makes one copy of each an
//! instruction set, inside a function with that `target_feature`, so that every intrinsic is inlined.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod dispatch;
mod isa;
mod portable;

#[cfg(target_arch = "x86_64")]
pub(crate) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) use avx512::Avx512;
pub(crate) use dispatch::dispatch;
pub use isa::Isa;
pub(crate) use portable::Portable;

/// Asks for the cache line of an address, which need not be valid.
#[inline(always)]
pub(crate) fn prefetch<T>(p: *const T) {
    // SAFETY: a prefetch has no effect but on caches, whatever the address.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// As [`prefetch`], to the second-level cache.
#[inline(always)]
pub(crate) fn prefetch_later<T>(p: *const T) {
    // SAFETY: as above.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T1 }>(p.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = p;
}

/// Most lanes of any instruction set.
pub(crate) const MAX_LANES: usize = 16;

/// A vector of float32 lanes.
///
/// # Safety
/// All functions need the processor to have the implementor's instruction set; loads and stores need their pointers
/// valid for the lanes that they touch.
pub(crate) trait Simd: Copy {
    const LANES: usize;
    type V: Copy;
    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    /// The first `n < LANES` lanes, the others zero.
    unsafe fn load_first(p: *const f32, n: usize) -> Self::V;
    unsafe fn store_first(p: *mut f32, v: Self::V, n: usize);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// a * b + c.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// 2^n for whole numbers n in [-126, 127], given as `n + 1.5 * 2^23` (whose low bits hold n).
    unsafe fn pow2_of_shifted(n: Self::V) -> Self::V;
    /// Lanes of `x` where `a < b`, else zero.
    unsafe fn keep_if_less(a: Self::V, b: Self::V, x: Self::V) -> Self::V;
    /// Lanes of `x` where `a < b`, else of `y`.
    unsafe fn select_less(a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
    /// Sum of the lanes.
    unsafe fn reduce_add(v: Self::V) -> f32;
    /// Largest lane.
    unsafe fn reduce_max(v: Self::V) -> f32;
    /// Writes a block of `LANES` x `LANES` transposed; strides in elements between rows.
    unsafe fn transpose_block(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize);
    /// `n` bfloat16 numbers as float32: all lanes, or the first and zeros.
    unsafe fn load_bf16(p: *const u16, n: usize) -> Self::V;
    /// The first `n` lanes to bfloat16, to the nearest, ties to even.
    unsafe fn store_bf16(p: *mut u16, v: Self::V, n: usize);
    /// Two whole vectors that lie one after the other.
    #[inline(always)]
    unsafe fn load_bf16_two(p: *const u16) -> [Self::V; 2] {
        // SAFETY: the caller's promise.
        unsafe { [0, Self::LANES].map(|at| Self::load_bf16(p.add(at), Self::LANES)) }
    }
    /// Stores two whole vectors one after the other.
    #[inline(always)]
    unsafe fn store_bf16_two(p: *mut u16, v: [Self::V; 2]) {
        // SAFETY: the caller's promise.
        unsafe {
            Self::store_bf16(p, v[0], Self::LANES);
            Self::store_bf16(p.add(Self::LANES), v[1], Self::LANES);
        }
    }
    /// Pairs of bfloat16 numbers in 32-bit lanes, `first` in the lower half.
    unsafe fn pair_bf16(first: Self::V, second: Self::V) -> Self::V;
    /// `n` pairs of the bfloat16 numbers of two rows; the other lanes zero.
    unsafe fn interleave_bf16(first: *const u16, second: *const u16, n: usize) -> Self::V;
    /// `acc` plus the products of two lanes' pairs.
    unsafe fn dot_bf16(a: Self::V, b: Self::V, acc: Self::V) -> Self::V;
    /// 1 / x within 2 units in the last place, for x in [1, 2^100].
    #[inline(always)]
    unsafe fn reciprocal(x: Self::V) -> Self::V {
        // SAFETY: the caller's promise.
        unsafe { Self::div(Self::splat(1.0), x) }
    }

    #[inline(always)]
    unsafe fn zero() -> Self::V {
        // SAFETY: the caller's promise.
        unsafe { Self::splat(0.0) }
    }

    /// Load of `n` lanes, all of them or the first.
    #[inline(always)]
    unsafe fn load_n(p: *const f32, n: usize) -> Self::V {
        // SAFETY: the caller's promise.
        unsafe { if n >= Self::LANES { Self::load(p) } else { Self::load_first(p, n) } }
    }

    /// Store of `n` lanes, all of them or the first.
    #[inline(always)]
    unsafe fn store_n(p: *mut f32, v: Self::V, n: usize) {
        // SAFETY: the caller's promise.
        unsafe { if n >= Self::LANES { Self::store(p, v) } else { Self::store_first(p, v, n) } }
    }

    /// e^x within 2 units in the last place on [-87, 88]; clamped outside. Range reduction by ln 2 in two parts and a
    /// polynomial of degree 5 (Cephes' expf).
    #[inline(always)]
    unsafe fn exp(x: Self::V) -> Self::V {
        // SAFETY: the caller's promise.
        unsafe {
            let x = Self::min(Self::max(x, Self::splat(-87.0)), Self::splat(88.0));
            let shift = Self::splat(12_582_912.0);
            let shifted = Self::fma(x, Self::splat(std::f32::consts::LOG2_E), shift);
            let n = Self::sub(shifted, shift);
            let r = Self::fma(n, Self::splat(-0.693_359_4), x);
            let r = Self::fma(n, Self::splat(2.121_944_4e-4), r);
            let mut p = Self::splat(1.987_569_1e-4);
            for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
                p = Self::fma(p, r, Self::splat(c));
            }
            let p = Self::add(Self::fma(p, Self::mul(r, r), r), Self::splat(1.0));
            Self::mul(p, Self::pow2_of_shifted(shifted))
        }
    }

    /// 1 / (1 + e^-x) within .0003 of itself: an eighth of what rounding to bfloat16 may move it by.
    #[inline(always)]
    unsafe fn sigmoid_rough(x: Self::V) -> Self::V {
        // SAFETY: the caller's promise.
        unsafe { Self::sigmoid(x) }
    }

    /// 1 / (1 + e^-x).
    #[inline(always)]
    unsafe fn sigmoid(x: Self::V) -> Self::V {
        // SAFETY: the caller's promise.
        unsafe { Self::reciprocal(Self::add(Self::splat(1.0), Self::exp(Self::sub(Self::zero(), x)))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    dispatch! {
        /// `y = e^x`.
        fn exps(x: &[f32], y: &mut [f32]) = exps_impl
    }

    #[inline(always)]
    unsafe fn exps_impl<S: Simd>(x: &[f32], y: &mut [f32]) {
        for (x, y) in x.chunks_exact(S::LANES).zip(y.chunks_exact_mut(S::LANES)) {
            // SAFETY: both chunks are whole vectors.
            unsafe { S::store(y.as_mut_ptr(), S::exp(S::load(x.as_ptr()))) };
        }
    }

    dispatch! {
        /// The rough sigmoid.
        fn sigmoids(x: &[f32], y: &mut [f32]) = sigmoids_impl
    }

    #[inline(always)]
    unsafe fn sigmoids_impl<S: Simd>(x: &[f32], y: &mut [f32]) {
        for (x, y) in x.chunks_exact(S::LANES).zip(y.chunks_exact_mut(S::LANES)) {
            // SAFETY: both chunks are whole vectors.
            unsafe { S::store(y.as_mut_ptr(), S::sigmoid_rough(S::load(x.as_ptr()))) };
        }
    }

    #[test]
    fn the_rough_sigmoid_is_far_closer_than_bfloat16_rounds() {
        let mut x: Vec<f32> = (-80_000..80_000).step_by(7).map(|i| i as f32 * 1e-3).collect();
        x.truncate(x.len() / 16 * 16);
        x[0..4].copy_from_slice(&[-1e30, f32::NEG_INFINITY, 1e30, f32::INFINITY]);
        for isa in Isa::available() {
            let mut y = vec![0.0; x.len()];
            // SAFETY: the instruction set is available.
            unsafe { sigmoids(isa, &x, &mut y) };
            assert!(y[..2].iter().all(|&y| (0.0..1e-30).contains(&y)), "{isa:?} {:?}", &y[..2]);
            assert!(y[2..4].iter().all(|&y| (y - 1.0).abs() < 3e-4), "{isa:?} {:?}", &y[2..4]);
            for (&x, &y) in x.iter().zip(&y).skip(4) {
                let exact = 1.0 / (1.0 + (-f64::from(x)).exp());
                let error = (f64::from(y) - exact).abs() / exact;
                assert!(error < 3e-4, "{isa:?} {x}: {y:e}, error {error:e}");
            }
        }
    }

    #[test]
    fn exp_is_exact_to_a_few_units_in_the_last_place() {
        let x: Vec<f32> = (-86_990..87_990).step_by(7).map(|i| i as f32 * 1e-3).collect();
        let x = &x[..x.len() - x.len() % 16];
        for isa in Isa::available() {
            let mut y = vec![0.0; x.len()];
            // SAFETY: the instruction set is available.
            unsafe { exps(isa, x, &mut y) };
            for (&x, &y) in x.iter().zip(&y) {
                let exact = f64::from(x).exp();
                let error = (f64::from(y) - exact).abs() / exact;
                assert!(error < 2.5e-7, "{isa:?} e^{x}: {y:e}, error {error:e}");
            }
        }
    }
}
