//! AVX2 with fused multiply-add; bfloat16 by shifts and masks.

use std::arch::x86_64::*;

use super::Simd;

/// 8 lanes.
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

// SAFETY (whole impl): `dispatch!` enters these only on processors with the features; pointers are the caller's.
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
                _mm256_storeu_ps(to.add((4 + j) * to_stride), _mm256_permute2f128_ps::<0x31>(r[j], r[4 + j]));
            }
        }
    }
}
