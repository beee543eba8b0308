//! The numbers that tensors are stored in: float32, or bfloat16 with every sum in float32.
//!
//! bfloat16 is float32 cut to its upper 16 bits (8 bits of precision, the same range), so a load is a shift and a store a
//! rounding. Products of two are summed in float32 by pairs: one 32-bit lane holds two neighbouring values of the
//! summed axis, which processors with AVX-512's BF16 instructions multiply and add in one.

use super::simd::{Isa, Simd};

/// What an executor stores activations and their gradients in. Parameters, their gradients, statistics and every sum are
/// float32 in either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Storage {
    /// Everything in float32.
    Float32,
    /// bfloat16, and dense products of bfloat16 operands: half the memory, and twice the rate where the processor
    /// has instructions for it.
    Bf16,
}

impl Storage {
    /// Bytes of an element.
    pub fn bytes(self) -> usize {
        match self {
            Storage::Float32 => 4,
            Storage::Bf16 => 2,
        }
    }

    /// Values of the summed axis in a 32-bit lane of a product's operand ([`Element::GROUP`]).
    pub(crate) fn group(self) -> usize {
        match self {
            Storage::Float32 => f32::GROUP,
            Storage::Bf16 => Bf16::GROUP,
        }
    }

    /// Whether this processor multiplies bfloat16 faster than float32.
    pub fn bf16_is_fast() -> bool {
        Isa::bf16_is_fast()
    }
}

/// A bfloat16 number's bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Bf16(pub u16);

/// An element of a tensor in memory.
///
/// # Safety
/// The functions need what [`Simd`]'s need: the instruction set, and pointers valid for the elements touched.
pub(crate) trait Element: Copy + Default + Send + Sync + 'static {
    /// Values of the summed axis in a 32-bit lane of a product's operand.
    const GROUP: usize;
    fn from_f32(x: f32) -> Self;
    fn to_f32(self) -> f32;
    /// `n` elements as float32: all lanes, or the first and zeros.
    unsafe fn load_n<S: Simd>(p: *const Self, n: usize) -> S::V;
    unsafe fn store_n<S: Simd>(p: *mut Self, v: S::V, n: usize);
    /// Two whole vectors that lie one after the other.
    unsafe fn load_two<S: Simd>(p: *const Self) -> [S::V; 2];
    unsafe fn store_two<S: Simd>(p: *mut Self, v: [S::V; 2]);
    /// A whole vector of groups.
    unsafe fn load_groups<S: Simd>(p: *const Self) -> S::V;
    /// One group in every lane.
    unsafe fn splat_group<S: Simd>(p: *const Self) -> S::V;
    /// One element in every lane, as a group whose other values are zero.
    unsafe fn splat_single<S: Simd>(p: *const Self) -> S::V;
    /// `acc` plus, lane by lane, the products of two groups' values.
    unsafe fn dot<S: Simd>(a: S::V, b: S::V, acc: S::V) -> S::V;
    /// 1 / (1 + e^-x), as exactly as an element holds it.
    unsafe fn sigmoid<S: Simd>(x: S::V) -> S::V;
    /// Two rows of float32 as groups; the second is not used where groups have one value.
    unsafe fn group<S: Simd>(first: S::V, second: S::V) -> S::V;
}

impl Element for f32 {
    const GROUP: usize = 1;
    #[inline(always)]
    fn from_f32(x: f32) -> f32 {
        x
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
    #[inline(always)]
    unsafe fn load_n<S: Simd>(p: *const f32, n: usize) -> S::V {
        // SAFETY: the caller's promise, here and below.
        unsafe { S::load_n(p, n) }
    }
    #[inline(always)]
    unsafe fn store_n<S: Simd>(p: *mut f32, v: S::V, n: usize) {
        // SAFETY: as above.
        unsafe { S::store_n(p, v, n) }
    }
    #[inline(always)]
    unsafe fn load_two<S: Simd>(p: *const f32) -> [S::V; 2] {
        // SAFETY: as above.
        unsafe { [S::load(p), S::load(p.add(S::LANES))] }
    }
    #[inline(always)]
    unsafe fn store_two<S: Simd>(p: *mut f32, v: [S::V; 2]) {
        // SAFETY: as above.
        unsafe {
            S::store(p, v[0]);
            S::store(p.add(S::LANES), v[1]);
        }
    }
    #[inline(always)]
    unsafe fn load_groups<S: Simd>(p: *const f32) -> S::V {
        // SAFETY: as above.
        unsafe { S::load(p) }
    }
    #[inline(always)]
    unsafe fn splat_group<S: Simd>(p: *const f32) -> S::V {
        // SAFETY: as above.
        unsafe { S::splat(*p) }
    }
    #[inline(always)]
    unsafe fn splat_single<S: Simd>(p: *const f32) -> S::V {
        // SAFETY: as above.
        unsafe { S::splat(*p) }
    }
    #[inline(always)]
    unsafe fn dot<S: Simd>(a: S::V, b: S::V, acc: S::V) -> S::V {
        // SAFETY: as above.
        unsafe { S::fma(a, b, acc) }
    }
    #[inline(always)]
    unsafe fn sigmoid<S: Simd>(x: S::V) -> S::V {
        // SAFETY: as above.
        unsafe { S::sigmoid(x) }
    }
    #[inline(always)]
    unsafe fn group<S: Simd>(first: S::V, _: S::V) -> S::V {
        first
    }
}

impl Element for Bf16 {
    const GROUP: usize = 2;
    /// To the nearest, ties to even; what is no number stays none.
    #[inline(always)]
    fn from_f32(x: f32) -> Bf16 {
        let bits = x.to_bits();
        if x.is_nan() {
            return Bf16((bits >> 16) as u16 | 0x40);
        }
        Bf16((bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16) as u16)
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
    #[inline(always)]
    unsafe fn load_n<S: Simd>(p: *const Bf16, n: usize) -> S::V {
        // SAFETY: the caller's promise, here and below.
        unsafe { S::load_bf16(p.cast(), n) }
    }
    #[inline(always)]
    unsafe fn store_n<S: Simd>(p: *mut Bf16, v: S::V, n: usize) {
        // SAFETY: as above.
        unsafe { S::store_bf16(p.cast(), v, n) }
    }
    #[inline(always)]
    unsafe fn load_two<S: Simd>(p: *const Bf16) -> [S::V; 2] {
        // SAFETY: as above.
        unsafe { S::load_bf16_two(p.cast()) }
    }
    #[inline(always)]
    unsafe fn store_two<S: Simd>(p: *mut Bf16, v: [S::V; 2]) {
        // SAFETY: as above.
        unsafe { S::store_bf16_two(p.cast(), v) }
    }
    #[inline(always)]
    unsafe fn load_groups<S: Simd>(p: *const Bf16) -> S::V {
        // SAFETY: as above; loads need no alignment.
        unsafe { S::load(p.cast()) }
    }
    #[inline(always)]
    unsafe fn splat_group<S: Simd>(p: *const Bf16) -> S::V {
        // SAFETY: as above.
        unsafe { S::splat(f32::from_bits(p.cast::<u32>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn splat_single<S: Simd>(p: *const Bf16) -> S::V {
        // SAFETY: as above.
        unsafe { S::splat(f32::from_bits(u32::from((*p).0))) }
    }
    #[inline(always)]
    unsafe fn dot<S: Simd>(a: S::V, b: S::V, acc: S::V) -> S::V {
        // SAFETY: as above.
        unsafe { S::dot_bf16(a, b, acc) }
    }
    #[inline(always)]
    unsafe fn sigmoid<S: Simd>(x: S::V) -> S::V {
        // SAFETY: as above.
        unsafe { S::sigmoid_rough(x) }
    }
    #[inline(always)]
    unsafe fn group<S: Simd>(first: S::V, second: S::V) -> S::V {
        // SAFETY: as above.
        unsafe { S::pair_bf16(first, second) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::dispatch;
    use super::*;

    #[test]
    fn rounding_goes_to_the_nearest_and_ties_to_even() {
        let bits = |b: u32| Bf16::from_f32(f32::from_bits(b)).0;
        assert_eq!(bits(0x3f80_8000), 0x3f80);
        assert_eq!(bits(0x3f81_8000), 0x3f82);
        assert_eq!(bits(0x3f80_8001), 0x3f81);
        assert_eq!(bits(0x7f7f_ffff), 0x7f80);
        assert!(Bf16::from_f32(f32::NAN).to_f32().is_nan());
        assert_eq!(Bf16::from_f32(-1.5).to_f32(), -1.5);
    }

    dispatch! {
        /// Through bfloat16 and back; and the sum of each lane's products of pairs `(x, y) . (y, x)`.
        fn round_trip[T](x: &[f32], y: &[f32], stored: *mut T, back: &mut [f32], dots: &mut [f32]) = round_trip_impl
    }

    #[inline(always)]
    unsafe fn round_trip_impl<S: Simd, T: Element>(
        x: &[f32],
        y: &[f32],
        stored: *mut T,
        back: &mut [f32],
        dots: &mut [f32],
    ) {
        for i in (0..x.len()).step_by(S::LANES) {
            let n = S::LANES.min(x.len() - i);
            // SAFETY: all hold as many elements as x.
            unsafe {
                let (a, b) = (S::load_n(x.as_ptr().add(i), n), S::load_n(y.as_ptr().add(i), n));
                T::store_n::<S>(stored.add(i), a, n);
                S::store_n(back.as_mut_ptr().add(i), T::load_n::<S>(stored.add(i), n), n);
                if i + 2 * S::LANES <= x.len() {
                    let two = [a, S::load(x.as_ptr().add(i + S::LANES))];
                    T::store_two::<S>(stored.add(i), two);
                    let [_, second] = T::load_two::<S>(stored.add(i));
                    S::store(back.as_mut_ptr().add(i + S::LANES), second);
                    T::store_n::<S>(stored.add(i), T::load_two::<S>(stored.add(i))[0], n);
                }
                let dot = T::dot::<S>(T::group::<S>(a, b), T::group::<S>(b, a), S::zero());
                S::store_n(dots.as_mut_ptr().add(i), dot, n);
            }
        }
    }

    #[test]
    fn vectors_store_load_and_multiply_as_single_numbers_do() {
        let x: Vec<f32> = (0..37).map(|i| (i as f32 - 11.3) * 1.37f32.powi(i % 9)).collect();
        let y: Vec<f32> = (0..37).map(|i| (i as f32 * 0.731).sin()).collect();
        for isa in Isa::available() {
            let isa = isa.for_storage(Storage::Bf16);
            let (mut stored, mut back, mut dots) = (vec![Bf16(0); 37], vec![0.0; 37], vec![0.0; 37]);
            // SAFETY: the instruction set is available and all slices have the same length.
            unsafe { round_trip(isa, &x, &y, stored.as_mut_ptr(), &mut back, &mut dots) };
            for i in 0..37 {
                assert_eq!(stored[i], Bf16::from_f32(x[i]), "{isa:?} {i}");
                assert_eq!(back[i], stored[i].to_f32());
                let product = stored[i].to_f32() * Bf16::from_f32(y[i]).to_f32();
                assert!((dots[i] - 2.0 * product).abs() <= 1e-6 * product.abs(), "{isa:?} {i}");
            }
        }
    }
}
