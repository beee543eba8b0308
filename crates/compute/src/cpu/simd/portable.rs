//! Plain Rust that the compiler vectorises (on aarch64 to NEON).

use super::super::element::{Bf16, Element};
use super::Simd;

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
