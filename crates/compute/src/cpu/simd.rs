//! Vectors of float32 behind one trait: AVX-512, AVX2, and a portable one that the compiler vectorises
//! (on aarch64 to NEON).
//!
//! Kernels are generic over [`Simd`] and `#[inline(always)]`; the `dispatch!` macro makes one copy of each an
//! instruction set, inside a function with that `target_feature`, so that every intrinsic is inlined.

use super::element::{Bf16, Element, Storage};

/// The instruction set that kernels use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Isa {
    /// AVX-512 with AMX's tile registers for products of bfloat16; what [`Isa::Avx512`] becomes for tensors of it.
    Amx,
    /// 16 lanes.
    Avx512,
    /// 8 lanes with fused multiply-add.
    Avx2,
    /// What the compiler makes of plain Rust.
    Portable,
}

impl Isa {
    /// The best that this processor has; the environment variable `ONSA_SIMD` (`avx2`, `portable`) asks for less.
    pub fn detect() -> Isa {
        let wanted = std::env::var("ONSA_SIMD").unwrap_or_default();
        Isa::available()
            .into_iter()
            .find(|isa| wanted.is_empty() || isa.name() == wanted)
            .unwrap_or(Isa::Portable)
    }

    /// All that this processor has, the best first.
    pub fn available() -> Vec<Isa> {
        let mut found = Vec::new();
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl")
            {
                found.push(Isa::Avx512);
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                found.push(Isa::Avx2);
            }
        }
        found.push(Isa::Portable);
        found
    }

    /// Whether this processor takes less time to multiply bfloat16 than float32: with AMX, or AVX-512's instructions where
    /// they run at twice the rate of float32's. On Intel's processors they run at the same or half of it.
    pub(crate) fn bf16_is_fast() -> bool {
        match Isa::detect().for_storage(Storage::Bf16) {
            Isa::Amx => true,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => {
                let name = std::arch::x86_64::__cpuid(0);
                [name.ebx, name.edx, name.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD"
            }
            _ => false,
        }
    }

    /// Whether its kernels multiply bfloat16 by instructions of the processor's own.
    fn multiplies_bf16(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return matches!(self, Isa::Avx512 | Isa::Amx) && is_x86_feature_detected!("avx512bf16");
        #[cfg(not(target_arch = "x86_64"))]
        false
    }

    /// What kernels of tensors in `storage` run with: those of AVX-512 for bfloat16 use its BF16 instructions, so a
    /// processor without them runs AVX2's.
    pub(crate) fn for_storage(self, storage: Storage) -> Isa {
        if self != Isa::Avx512 || storage == Storage::Float32 {
            return self;
        }
        if !self.multiplies_bf16() {
            return Isa::available().into_iter().find(|&isa| isa != Isa::Avx512).unwrap_or(Isa::Portable);
        }
        // By name, AVX-512 alone can be asked for.
        #[cfg(target_arch = "x86_64")]
        if std::env::var_os("ONSA_SIMD").is_none_or(|asked| asked.is_empty()) && super::amx::available() {
            return Isa::Amx;
        }
        self
    }

    /// Lower-case name, as in `ONSA_SIMD`.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Amx => "amx",
            Isa::Avx512 => "avx512",
            Isa::Avx2 => "avx2",
            Isa::Portable => "portable",
        }
    }
}

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
    /// Pairs of bfloat16 numbers in 32-bit lanes, `first` in the lower half.
    unsafe fn pair_bf16(first: Self::V, second: Self::V) -> Self::V;
    /// The bits of both.
    unsafe fn or(a: Self::V, b: Self::V) -> Self::V;
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

#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::Simd;
    use std::arch::x86_64::*;

    /// 2^(k / 16).
    const SIXTEENTHS: [f32; 16] = [
        1.0,
        1.0442737,
        1.0905077,
        1.1387886,
        1.1892071,
        1.2418578,
        1.2968396,
        1.3542556,
        std::f32::consts::SQRT_2,
        1.4768262,
        1.5422108,
        1.6104903,
        1.6817929,
        1.7562522,
        1.8340081,
        1.9152066,
    ];

    #[derive(Clone, Copy)]
    pub(crate) struct Avx512;

    // SAFETY (whole impl): `dispatch!` enters these only on processors with the features; pointers are the caller's.
    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Simd for Avx512 {
        const LANES: usize = 16;
        type V = __m512;
        #[inline(always)]
        unsafe fn splat(x: f32) -> __m512 {
            unsafe { _mm512_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m512 {
            unsafe { _mm512_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m512) {
            unsafe { _mm512_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn load_first(p: *const f32, n: usize) -> __m512 {
            unsafe { _mm512_maskz_loadu_ps((1u32 << n).wrapping_sub(1) as u16, p) }
        }
        #[inline(always)]
        unsafe fn store_first(p: *mut f32, v: __m512, n: usize) {
            unsafe { _mm512_mask_storeu_ps(p, (1u32 << n).wrapping_sub(1) as u16, v) }
        }
        #[inline(always)]
        unsafe fn add(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn div(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_div_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn min(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_min_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m512, b: __m512, c: __m512) -> __m512 {
            unsafe { _mm512_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn pow2_of_shifted(n: __m512) -> __m512 {
            unsafe {
                let bits = _mm512_add_epi32(_mm512_castps_si512(n), _mm512_set1_epi32(127));
                _mm512_castsi512_ps(_mm512_slli_epi32::<23>(bits))
            }
        }
        #[inline(always)]
        unsafe fn keep_if_less(a: __m512, b: __m512, x: __m512) -> __m512 {
            unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), x) }
        }
        #[inline(always)]
        unsafe fn select_less(a: __m512, b: __m512, x: __m512, y: __m512) -> __m512 {
            unsafe { _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask::<_CMP_LT_OQ>(a, b), x) }
        }
        #[inline(always)]
        unsafe fn reduce_add(v: __m512) -> f32 {
            unsafe { _mm512_reduce_add_ps(v) }
        }
        #[inline(always)]
        unsafe fn reduce_max(v: __m512) -> f32 {
            unsafe { _mm512_reduce_max_ps(v) }
        }
        /// 2^t of a whole part (which `scalef` takes by itself) and a fraction in [0, 1), by a polynomial of degree 3; what
        /// overflows is 0 or 1 in the end, so that nothing need be clamped.
        #[inline(always)]
        unsafe fn sigmoid_rough(x: __m512) -> __m512 {
            unsafe {
                let t = _mm512_mul_ps(x, _mm512_set1_ps(-std::f32::consts::LOG2_E));
                // The fraction: t less t rounded down.
                let f = _mm512_reduce_ps::<0x09>(t);
                let p = _mm512_fmadd_ps(f, _mm512_set1_ps(0.078_024_52), _mm512_set1_ps(0.226_067_16));
                let p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.695_833_54));
                let p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(0.999_925_2));
                _mm512_rcp14_ps(_mm512_add_ps(_mm512_scalef_ps(p, t), _mm512_set1_ps(1.0)))
            }
        }
        #[inline(always)]
        unsafe fn load_bf16(p: *const u16, n: usize) -> __m512 {
            unsafe {
                let bits = if n >= 16 {
                    _mm256_loadu_si256(p.cast())
                } else {
                    _mm256_maskz_loadu_epi16((1u32 << n).wrapping_sub(1) as u16, p.cast())
                };
                _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)))
            }
        }
        #[inline(always)]
        unsafe fn store_bf16(p: *mut u16, v: __m512, n: usize) {
            unsafe {
                let bits: __m256i = std::mem::transmute(_mm512_cvtneps_pbh(v));
                if n >= 16 {
                    _mm256_storeu_si256(p.cast(), bits);
                } else {
                    _mm256_mask_storeu_epi16(p.cast(), (1u32 << n).wrapping_sub(1) as u16, bits);
                }
            }
        }
        #[inline(always)]
        unsafe fn pair_bf16(first: __m512, second: __m512) -> __m512 {
            unsafe {
                let [low, high] = [first, second].map(|v| {
                    _mm512_cvtepu16_epi32(std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(v)))
                });
                _mm512_castsi512_ps(_mm512_or_si512(low, _mm512_slli_epi32::<16>(high)))
            }
        }
        #[inline(always)]
        unsafe fn or(a: __m512, b: __m512) -> __m512 {
            unsafe { _mm512_or_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn interleave_bf16(first: *const u16, second: *const u16, n: usize) -> __m512 {
            unsafe {
                let row = |p: *const u16| {
                    _mm512_cvtepu16_epi32(if n >= 16 {
                        _mm256_loadu_si256(p.cast())
                    } else {
                        _mm256_maskz_loadu_epi16((1u32 << n).wrapping_sub(1) as u16, p.cast())
                    })
                };
                _mm512_castsi512_ps(_mm512_or_si512(row(first), _mm512_slli_epi32::<16>(row(second))))
            }
        }
        #[inline(always)]
        unsafe fn dot_bf16(a: __m512, b: __m512, acc: __m512) -> __m512 {
            unsafe {
                let [a, b] = [a, b].map(|v| std::mem::transmute::<__m512, __m512bh>(v));
                _mm512_dpbf16_ps(acc, a, b)
            }
        }
        /// 2^(k / 16) from a table in a register and a polynomial of degree 3 for the rest: a third fewer operations.
        #[inline(always)]
        unsafe fn exp(x: __m512) -> __m512 {
            unsafe {
                let x = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-87.0)), _mm512_set1_ps(88.0));
                let log2e = _mm512_set1_ps(std::f32::consts::LOG2_E);
                // 1.5 * 2^19: the last place of a sum with it is 1/16.
                let shift = _mm512_set1_ps(786_432.0);
                let shifted = _mm512_fmadd_ps(x, log2e, shift);
                let n = _mm512_sub_ps(shifted, shift);
                let r = _mm512_fmsub_ps(x, log2e, n);
                // The rest of log2 e.
                let r = _mm512_fmadd_ps(x, _mm512_set1_ps(1.925_963e-8), r);
                let p = _mm512_set1_ps(5.550_411e-2);
                let p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(0.240_226_5));
                let p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(std::f32::consts::LN_2));
                let table =
                    _mm512_permutexvar_ps(_mm512_castps_si512(shifted), _mm512_loadu_ps(SIXTEENTHS.as_ptr()));
                let y = _mm512_fmadd_ps(_mm512_mul_ps(p, r), table, table);
                _mm512_scalef_ps(y, n)
            }
        }
        /// An estimate of 14 bits and one step of Newton's iteration; division is several times slower.
        #[inline(always)]
        unsafe fn reciprocal(x: __m512) -> __m512 {
            unsafe {
                let y = _mm512_rcp14_ps(x);
                _mm512_fmadd_ps(y, _mm512_fnmadd_ps(x, y, _mm512_set1_ps(1.0)), y)
            }
        }
        #[inline(always)]
        unsafe fn transpose_block(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
            unsafe {
                let mut r = [_mm512_setzero_ps(); 16];
                for (i, x) in r.iter_mut().enumerate() {
                    *x = _mm512_loadu_ps(from.add(i * from_stride));
                }
                let mut t = r;
                for i in 0..8 {
                    t[2 * i] = _mm512_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                    t[2 * i + 1] = _mm512_unpackhi_ps(r[2 * i], r[2 * i + 1]);
                }
                let pair = |a, b, high| {
                    let (a, b) = (_mm512_castps_pd(a), _mm512_castps_pd(b));
                    _mm512_castpd_ps(if high { _mm512_unpackhi_pd(a, b) } else { _mm512_unpacklo_pd(a, b) })
                };
                for g in (0..16).step_by(4) {
                    for j in 0..4 {
                        r[g + j] = pair(t[g + j / 2], t[g + j / 2 + 2], j % 2 == 1);
                    }
                }
                // r[4 g + j] holds, in its quarter q, column 4 q + j of rows 4 g to 4 g + 3.
                for j in 0..4 {
                    let even = _mm512_shuffle_f32x4::<0x88>(r[j], r[4 + j]);
                    let odd = _mm512_shuffle_f32x4::<0xdd>(r[j], r[4 + j]);
                    let even_low = _mm512_shuffle_f32x4::<0x88>(r[8 + j], r[12 + j]);
                    let odd_low = _mm512_shuffle_f32x4::<0xdd>(r[8 + j], r[12 + j]);
                    let out = |column: usize, v| _mm512_storeu_ps(to.add(column * to_stride), v);
                    out(j, _mm512_shuffle_f32x4::<0x88>(even, even_low));
                    out(4 + j, _mm512_shuffle_f32x4::<0x88>(odd, odd_low));
                    out(8 + j, _mm512_shuffle_f32x4::<0xdd>(even, even_low));
                    out(12 + j, _mm512_shuffle_f32x4::<0xdd>(odd, odd_low));
                }
            }
        }
    }

    #[derive(Clone, Copy)]
    pub(crate) struct Avx2;

    /// Lane i has its sign bit set if i < n.
    #[inline(always)]
    unsafe fn mask(n: usize) -> __m256i {
        // SAFETY: AVX2 is the caller's promise.
        unsafe { _mm256_cmpgt_epi32(_mm256_set1_epi32(n as i32), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)) }
    }

    /// Bits whose upper half is the nearest bfloat16 number, ties to even; what is no number stays none.
    #[inline(always)]
    unsafe fn rounded(v: __m256) -> __m256i {
        // SAFETY: AVX2 is the caller's promise.
        unsafe {
            let bits = _mm256_castps_si256(v);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x40_0000));
            let none = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
            _mm256_blendv_epi8(up, quiet, none)
        }
    }

    // SAFETY (whole impl): as above.
    #[allow(clippy::undocumented_unsafe_blocks)]
    impl Simd for Avx2 {
        const LANES: usize = 8;
        type V = __m256;
        #[inline(always)]
        unsafe fn splat(x: f32) -> __m256 {
            unsafe { _mm256_set1_ps(x) }
        }
        #[inline(always)]
        unsafe fn load(p: *const f32) -> __m256 {
            unsafe { _mm256_loadu_ps(p) }
        }
        #[inline(always)]
        unsafe fn store(p: *mut f32, v: __m256) {
            unsafe { _mm256_storeu_ps(p, v) }
        }
        #[inline(always)]
        unsafe fn load_first(p: *const f32, n: usize) -> __m256 {
            unsafe { _mm256_maskload_ps(p, mask(n)) }
        }
        #[inline(always)]
        unsafe fn store_first(p: *mut f32, v: __m256, n: usize) {
            unsafe { _mm256_maskstore_ps(p, mask(n), v) }
        }
        #[inline(always)]
        unsafe fn add(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_add_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn sub(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_sub_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn mul(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_mul_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn div(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_div_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn max(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_max_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn min(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_min_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn fma(a: __m256, b: __m256, c: __m256) -> __m256 {
            unsafe { _mm256_fmadd_ps(a, b, c) }
        }
        #[inline(always)]
        unsafe fn pow2_of_shifted(n: __m256) -> __m256 {
            unsafe {
                let bits = _mm256_add_epi32(_mm256_castps_si256(n), _mm256_set1_epi32(127));
                _mm256_castsi256_ps(_mm256_slli_epi32::<23>(bits))
            }
        }
        #[inline(always)]
        unsafe fn keep_if_less(a: __m256, b: __m256, x: __m256) -> __m256 {
            unsafe { _mm256_and_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(a, b), x) }
        }
        #[inline(always)]
        unsafe fn load_bf16(p: *const u16, n: usize) -> __m256 {
            unsafe {
                let bits = if n >= 8 {
                    _mm_loadu_si128(p.cast())
                } else {
                    let mut whole = [0u16; 8];
                    whole.as_mut_ptr().copy_from_nonoverlapping(p, n);
                    _mm_loadu_si128(whole.as_ptr().cast())
                };
                _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(bits)))
            }
        }
        #[inline(always)]
        unsafe fn store_bf16(p: *mut u16, v: __m256, n: usize) {
            unsafe {
                let bits = _mm256_srli_epi32::<16>(rounded(v));
                // Packs within halves; the second permutation brings the two halves' quarters together.
                let packed = _mm256_permute4x64_epi64::<0b1000>(_mm256_packus_epi32(bits, bits));
                let packed = _mm256_castsi256_si128(packed);
                if n >= 8 {
                    _mm_storeu_si128(p.cast(), packed);
                } else {
                    let mut whole = [0u16; 8];
                    _mm_storeu_si128(whole.as_mut_ptr().cast(), packed);
                    p.copy_from_nonoverlapping(whole.as_ptr(), n);
                }
            }
        }
        #[inline(always)]
        unsafe fn pair_bf16(first: __m256, second: __m256) -> __m256 {
            unsafe {
                let low = _mm256_srli_epi32::<16>(rounded(first));
                let high = _mm256_and_si256(rounded(second), _mm256_set1_epi32(-0x10000));
                _mm256_castsi256_ps(_mm256_or_si256(low, high))
            }
        }
        #[inline(always)]
        unsafe fn or(a: __m256, b: __m256) -> __m256 {
            unsafe { _mm256_or_ps(a, b) }
        }
        #[inline(always)]
        unsafe fn interleave_bf16(first: *const u16, second: *const u16, n: usize) -> __m256 {
            unsafe {
                let bits = |p| _mm256_castps_si256(Self::load_bf16(p, n));
                let low = _mm256_srli_epi32::<16>(bits(first));
                _mm256_castsi256_ps(_mm256_or_si256(low, bits(second)))
            }
        }
        #[inline(always)]
        unsafe fn dot_bf16(a: __m256, b: __m256, acc: __m256) -> __m256 {
            unsafe {
                let low = |v| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_castps_si256(v)));
                let high = |v| _mm256_and_ps(v, _mm256_castsi256_ps(_mm256_set1_epi32(-0x10000)));
                _mm256_fmadd_ps(low(a), low(b), _mm256_fmadd_ps(high(a), high(b), acc))
            }
        }
        #[inline(always)]
        unsafe fn select_less(a: __m256, b: __m256, x: __m256, y: __m256) -> __m256 {
            unsafe { _mm256_blendv_ps(y, x, _mm256_cmp_ps::<_CMP_LT_OQ>(a, b)) }
        }
        #[inline(always)]
        unsafe fn reduce_add(v: __m256) -> f32 {
            unsafe {
                let x = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
                let x = _mm_add_ps(x, _mm_movehl_ps(x, x));
                _mm_cvtss_f32(_mm_add_ss(x, _mm_movehdup_ps(x)))
            }
        }
        #[inline(always)]
        unsafe fn reduce_max(v: __m256) -> f32 {
            unsafe {
                let x = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
                let x = _mm_max_ps(x, _mm_movehl_ps(x, x));
                _mm_cvtss_f32(_mm_max_ss(x, _mm_movehdup_ps(x)))
            }
        }
        #[inline(always)]
        unsafe fn transpose_block(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
            unsafe {
                let mut r = [_mm256_setzero_ps(); 8];
                for (i, x) in r.iter_mut().enumerate() {
                    *x = _mm256_loadu_ps(from.add(i * from_stride));
                }
                let mut t = r;
                for i in 0..4 {
                    t[2 * i] = _mm256_unpacklo_ps(r[2 * i], r[2 * i + 1]);
                    t[2 * i + 1] = _mm256_unpackhi_ps(r[2 * i], r[2 * i + 1]);
                }
                let pair = |a, b, high| {
                    let (a, b) = (_mm256_castps_pd(a), _mm256_castps_pd(b));
                    _mm256_castpd_ps(if high { _mm256_unpackhi_pd(a, b) } else { _mm256_unpacklo_pd(a, b) })
                };
                for g in [0, 4] {
                    for j in 0..4 {
                        r[g + j] = pair(t[g + j / 2], t[g + j / 2 + 2], j % 2 == 1);
                    }
                }
                for j in 0..4 {
                    _mm256_storeu_ps(to.add(j * to_stride), _mm256_permute2f128_ps::<0x20>(r[j], r[4 + j]));
                    _mm256_storeu_ps(
                        to.add((4 + j) * to_stride),
                        _mm256_permute2f128_ps::<0x31>(r[j], r[4 + j]),
                    );
                }
            }
        }
    }
}

/// Plain Rust on arrays.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

const N: usize = 8;

#[inline(always)]
fn map(a: [f32; N], b: [f32; N], f: impl Fn(f32, f32) -> f32) -> [f32; N] {
    std::array::from_fn(|i| f(a[i], b[i]))
}

// SAFETY (whole impl): only the loads and stores need anything; their pointers are the caller's promise.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Simd for Portable {
    const LANES: usize = N;
    type V = [f32; N];
    #[inline(always)]
    unsafe fn splat(x: f32) -> [f32; N] {
        [x; N]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> [f32; N] {
        unsafe { p.cast::<[f32; N]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: [f32; N]) {
        unsafe { p.cast::<[f32; N]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn load_first(p: *const f32, n: usize) -> [f32; N] {
        std::array::from_fn(|i| if i < n { unsafe { *p.add(i) } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store_first(p: *mut f32, v: [f32; N], n: usize) {
        for (i, x) in v.into_iter().enumerate().take(n) {
            unsafe { *p.add(i) = x };
        }
    }
    #[inline(always)]
    unsafe fn add(a: [f32; N], b: [f32; N]) -> [f32; N] {
        map(a, b, |a, b| a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: [f32; N], b: [f32; N]) -> [f32; N] {
        map(a, b, |a, b| a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; N], b: [f32; N]) -> [f32; N] {
        map(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn div(a: [f32; N], b: [f32; N]) -> [f32; N] {
        map(a, b, |a, b| a / b)
    }
    #[inline(always)]
    unsafe fn max(a: [f32; N], b: [f32; N]) -> [f32; N] {
        map(a, b, |a, b| if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(a: [f32; N], b: [f32; N]) -> [f32; N] {
        map(a, b, |a, b| if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn fma(a: [f32; N], b: [f32; N], c: [f32; N]) -> [f32; N] {
        // aarch64 always has the fused instruction; x86-64 without AVX2 would call a slow library function.
        if cfg!(target_arch = "aarch64") {
            std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
        } else {
            std::array::from_fn(|i| a[i] * b[i] + c[i])
        }
    }
    #[inline(always)]
    unsafe fn pow2_of_shifted(n: [f32; N]) -> [f32; N] {
        n.map(|x| f32::from_bits(x.to_bits().wrapping_add(127) << 23))
    }
    #[inline(always)]
    unsafe fn keep_if_less(a: [f32; N], b: [f32; N], x: [f32; N]) -> [f32; N] {
        std::array::from_fn(|i| if a[i] < b[i] { x[i] } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16, n: usize) -> [f32; N] {
        std::array::from_fn(|i| if i < n { Bf16(unsafe { *p.add(i) }).to_f32() } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: [f32; N], n: usize) {
        for (i, x) in v.into_iter().enumerate().take(n) {
            unsafe { *p.add(i) = Bf16::from_f32(x).0 };
        }
    }
    #[inline(always)]
    unsafe fn pair_bf16(first: [f32; N], second: [f32; N]) -> [f32; N] {
        let bits = |x: f32| u32::from(Bf16::from_f32(x).0);
        map(first, second, |a, b| f32::from_bits(bits(a) | bits(b) << 16))
    }
    #[inline(always)]
    unsafe fn or(a: [f32; N], b: [f32; N]) -> [f32; N] {
        map(a, b, |a, b| f32::from_bits(a.to_bits() | b.to_bits()))
    }
    #[inline(always)]
    unsafe fn interleave_bf16(first: *const u16, second: *const u16, n: usize) -> [f32; N] {
        let bits = |p: *const u16, i: usize| if i < n { u32::from(unsafe { *p.add(i) }) } else { 0 };
        std::array::from_fn(|i| f32::from_bits(bits(first, i) | bits(second, i) << 16))
    }
    #[inline(always)]
    unsafe fn dot_bf16(a: [f32; N], b: [f32; N], acc: [f32; N]) -> [f32; N] {
        let low = |x: f32| f32::from_bits(x.to_bits() << 16);
        let high = |x: f32| f32::from_bits(x.to_bits() & 0xffff_0000);
        std::array::from_fn(|i| low(a[i]) * low(b[i]) + (high(a[i]) * high(b[i]) + acc[i]))
    }
    #[inline(always)]
    unsafe fn select_less(a: [f32; N], b: [f32; N], x: [f32; N], y: [f32; N]) -> [f32; N] {
        std::array::from_fn(|i| if a[i] < b[i] { x[i] } else { y[i] })
    }
    #[inline(always)]
    unsafe fn reduce_add(v: [f32; N]) -> f32 {
        v.iter().sum()
    }
    #[inline(always)]
    unsafe fn reduce_max(v: [f32; N]) -> f32 {
        v.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
    #[inline(always)]
    unsafe fn transpose_block(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        for i in 0..N {
            for j in 0..N {
                unsafe { *to.add(j * to_stride + i) = *from.add(i * from_stride + j) };
            }
        }
    }
}

/// Makes `$name(isa, args…)` of a kernel `$body::<S>(args…)` that is generic over [`Simd`]; of `$name[T](…)` likewise
/// `$body::<S, T>(args…)`, generic over the stored [`Element`] too.
macro_rules! dispatch {
    ($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) = $body:ident) => {
        $(#[$meta])*
        ///
        /// # Safety
        /// Pointers must be valid for what the kernel's arguments say; `isa` must be one that this processor has.
        #[allow(clippy::too_many_arguments)]
        pub(crate) unsafe fn $name(isa: $crate::cpu::Isa, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx512($($arg: $ty),*) {
                // SAFETY: the caller's promise.
                unsafe { $body::<$crate::cpu::simd::Avx512>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx2($($arg: $ty),*) {
                // SAFETY: the caller's promise.
                unsafe { $body::<$crate::cpu::simd::Avx2>($($arg),*) }
            }
            // SAFETY: the caller's promise.
            unsafe {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    $crate::cpu::Isa::Avx512 | $crate::cpu::Isa::Amx => avx512($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::cpu::Isa::Avx2 => avx2($($arg),*),
                    _ => $body::<$crate::cpu::simd::Portable>($($arg),*),
                }
            }
        }
    };
    ($(#[$meta:meta])* fn $name:ident[$t:ident]($($arg:ident: $ty:ty),* $(,)?) = $body:ident) => {
        $(#[$meta])*
        ///
        /// # Safety
        /// Pointers must be valid for what the kernel's arguments say; `isa` must be one that this processor has, and
        /// for bfloat16 one that [`Isa::for_storage`]($crate::cpu::Isa::for_storage) gave.
        #[allow(clippy::too_many_arguments)]
        pub(crate) unsafe fn $name<$t: $crate::cpu::element::Element>(isa: $crate::cpu::Isa, $($arg: $ty),*) {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx512<$t: $crate::cpu::element::Element>($($arg: $ty),*) {
                // SAFETY: the caller's promise.
                unsafe { $body::<$crate::cpu::simd::Avx512, $t>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx512_bf16<$t: $crate::cpu::element::Element>($($arg: $ty),*) {
                // SAFETY: the caller's promise.
                unsafe { $body::<$crate::cpu::simd::Avx512, $t>($($arg),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx2<$t: $crate::cpu::element::Element>($($arg: $ty),*) {
                // SAFETY: the caller's promise.
                unsafe { $body::<$crate::cpu::simd::Avx2, $t>($($arg),*) }
            }
            // SAFETY: the caller's promise.
            unsafe {
                match isa {
                    #[cfg(target_arch = "x86_64")]
                    $crate::cpu::Isa::Avx512 | $crate::cpu::Isa::Amx if $t::GROUP == 2 => {
                        avx512_bf16::<$t>($($arg),*)
                    }
                    #[cfg(target_arch = "x86_64")]
                    $crate::cpu::Isa::Avx512 | $crate::cpu::Isa::Amx => avx512::<$t>($($arg),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::cpu::Isa::Avx2 => avx2::<$t>($($arg),*),
                    _ => $body::<$crate::cpu::simd::Portable, $t>($($arg),*),
                }
            }
        }
    };
}
pub(crate) use dispatch;

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
