//! AVX-512, with its BF16 instructions in what only kernels of bfloat16 call.

use std::arch::x86_64::*;

use super::Simd;

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

/// Numbers of 16-bit elements, by 32-bit lane: `low(i)` in the lane's lower half, `high(i)` in its upper.
const fn order(low: u16, high: u16) -> [u16; 32] {
    let mut order = [0; 32];
    let mut i = 0;
    while i < 16 {
        order[2 * i] = low + i as u16;
        order[2 * i + 1] = high + i as u16;
        i += 1;
    }
    order
}

/// Elements 0 to 15 to the lanes' upper halves, and 16 to 31.
static WIDEN_FIRST: [u16; 32] = order(0, 0);
static WIDEN_SECOND: [u16; 32] = order(16, 16);
/// A register's two halves, and the lower halves of two registers, to pairs.
static PAIR_HALVES: [u16; 32] = order(0, 16);
static PAIR_ROWS: [u16; 32] = order(0, 32);

/// bfloat16 numbers as float32, those that `order` names. One operation, where extending and shifting take two.
#[inline(always)]
unsafe fn widen(bits: __m512i, order: *const u16) -> __m512 {
    // SAFETY: the caller's instruction set; the order has 32 elements.
    unsafe {
        let order = _mm512_loadu_si512(order.cast());
        _mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(0xaaaa_aaaa, order, bits))
    }
}

/// `n` elements, all 16 or the first and zeros.
#[inline(always)]
unsafe fn row(p: *const u16, n: usize) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe {
        if n >= 16 {
            _mm256_loadu_si256(p.cast())
        } else {
            _mm256_maskz_loadu_epi16((1u32 << n).wrapping_sub(1) as u16, p.cast())
        }
    }
}

/// 16 lanes.
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
        unsafe { widen(_mm512_castsi256_si512(row(p, n)), WIDEN_FIRST.as_ptr()) }
    }
    #[inline(always)]
    unsafe fn load_bf16_two(p: *const u16) -> [__m512; 2] {
        unsafe {
            let bits = _mm512_loadu_si512(p.cast());
            [widen(bits, WIDEN_FIRST.as_ptr()), widen(bits, WIDEN_SECOND.as_ptr())]
        }
    }
    #[inline(always)]
    unsafe fn store_bf16_two(p: *mut u16, [first, second]: [__m512; 2]) {
        unsafe {
            _mm512_storeu_si512(
                p.cast(),
                std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first)),
            )
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
            let halves = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(second, first));
            let order = _mm512_loadu_si512(PAIR_HALVES.as_ptr().cast());
            _mm512_castsi512_ps(_mm512_permutexvar_epi16(order, halves))
        }
    }
    #[inline(always)]
    unsafe fn interleave_bf16(first: *const u16, second: *const u16, n: usize) -> __m512 {
        unsafe {
            let first = _mm512_castsi256_si512(row(first, n));
            let second = _mm512_castsi256_si512(row(second, n));
            let order = _mm512_loadu_si512(PAIR_ROWS.as_ptr().cast());
            _mm512_castsi512_ps(_mm512_permutex2var_epi16(first, order, second))
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
