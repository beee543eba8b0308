//! A run of pixels by AVX2, four at a time, to the same bits as one at a time.
//!
//! Eight bytes of a line hold a pixel and its right neighbour. Both lines' eight lie in one register, the two values of a
//! channel side by side, so that one instruction interpolates all channels of both lines along x (products of 16 bits,
//! sums of 32), and a second multiplies by the weights along y.

use core::arch::x86_64::{__m128i, __m256i};

use pulp::x86::V3;

use super::{BITS, HALF, ONE, Run, WEIGHT_BITS, weight};

/// Draws as many of the run's pixels as it can, from the first on, and returns how many: none without AVX2, and none from
/// the place on where eight bytes would reach beyond the image.
pub(super) fn draw(run: &Run<'_>, out: &mut [u8]) -> usize {
    // A run of no pixels may begin anywhere.
    let Some(simd) = V3::try_new().filter(|_| out.len() >= 12) else { return 0 };
    match run.ys.step {
        0 => simd.vectorize(Pass::<true> { simd, run, out }),
        _ => simd.vectorize(Pass::<false> { simd, run, out }),
    }
}

/// `LEVEL`: the run lies along a line of the image.
struct Pass<'a, const LEVEL: bool> {
    simd: V3,
    run: &'a Run<'a>,
    out: &'a mut [u8],
}

impl<const LEVEL: bool> pulp::NullaryFnOnce for Pass<'_, LEVEL> {
    type Output = usize;

    // No closures: they would be compiled without the instructions.
    #[inline(always)]
    fn call(self) -> usize {
        let Self { simd, run: Run { image, xs, ys }, out } = self;
        let (mut x, mut y) = (xs.start, ys.start);
        let stride = image.width * 3;
        let lower = &image.data[stride..];
        let upper = &image.data[..lower.len()];
        let down = weights_down(simd, weight(y));
        let line = (y >> BITS) as usize * stride;
        let (level_upper, level_lower) = (&upper[line..], &lower[line..]);
        let (groups, _) = out.as_chunks_mut::<12>();
        let mut done = 0;
        for group in groups {
            let mut pixels = [down; 4];
            for pixel in &mut pixels {
                let (upper, lower, down) = if LEVEL {
                    let at = (x >> BITS) as usize * 3;
                    (level_upper.get(at..), level_lower.get(at..), down)
                } else {
                    let at = (y >> BITS) as usize * stride + (x >> BITS) as usize * 3;
                    (upper.get(at..), lower.get(at..), weights_down(simd, weight(y)))
                };
                let (Some(upper), Some(lower)) = (upper, lower) else { return done };
                let (Some(upper), Some(lower)) = (upper.first_chunk(), lower.first_chunk()) else {
                    return done;
                };
                *pixel = weigh(simd, *upper, *lower, weight(x), down);
                x += xs.step;
                y += ys.step;
            }
            group.copy_from_slice(&pack(simd, pixels)[..12]);
            done += 4;
        }
        done
    }
}

/// The weights along y: four of the upper line, four of the lower.
#[inline(always)]
fn weights_down(simd: V3, wy: u32) -> __m256i {
    let V3 { avx, avx2, .. } = simd;
    let sign: __m256i = pulp::cast([-1i32, -1, -1, -1, 1, 1, 1, 1]);
    let base: __m256i = pulp::cast([ONE, ONE, ONE, ONE, 0, 0, 0, 0]);
    avx2._mm256_add_epi32(avx2._mm256_sign_epi32(avx._mm256_set1_epi32(wy as i32), sign), base)
}

/// A pixel's weighted sums: red, green, blue and 0 of the upper line, then of the lower.
#[inline(always)]
fn weigh(simd: V3, upper: [u8; 8], lower: [u8; 8], wx: u32, down: __m256i) -> __m256i {
    let V3 { sse2, ssse3, avx, avx2, .. } = simd;
    let taps = sse2._mm_set_epi64x(i64::from_le_bytes(lower), i64::from_le_bytes(upper));
    let side_by_side: __m128i = pulp::cast([0u8, 3, 1, 4, 2, 5, 128, 128, 8, 11, 9, 12, 10, 13, 128, 128]);
    let taps = avx2._mm256_cvtepu8_epi16(ssse3._mm_shuffle_epi8(taps, side_by_side));
    let across = avx._mm256_set1_epi32((ONE - wx + (wx << 16)) as i32);
    avx2._mm256_mullo_epi32(avx2._mm256_madd_epi16(taps, across), down)
}

/// The pixels of two weighted sums.
#[inline(always)]
fn finish(simd: V3, a: __m256i, b: __m256i) -> __m256i {
    let V3 { avx, avx2, .. } = simd;
    let upper = avx2._mm256_permute2x128_si256::<0x20>(a, b);
    let lower = avx2._mm256_permute2x128_si256::<0x31>(a, b);
    let half = avx._mm256_set1_epi32(HALF as i32);
    let sum = avx2._mm256_add_epi32(avx2._mm256_add_epi32(upper, lower), half);
    avx2._mm256_srli_epi32::<{ 2 * WEIGHT_BITS as i32 }>(sum)
}

/// The pixels of four weighted sums, in the first twelve bytes.
#[inline(always)]
fn pack(simd: V3, [a, b, c, d]: [__m256i; 4]) -> [u8; 16] {
    let V3 { sse2, ssse3, avx, avx2, .. } = simd;
    let words = avx2._mm256_packus_epi32(finish(simd, a, c), finish(simd, b, d));
    let bytes = avx2._mm256_packus_epi16(words, words);
    let (ab, cd) = (avx._mm256_castsi256_si128(bytes), avx2._mm256_extracti128_si256::<1>(bytes));
    let three_of_four: __m128i = pulp::cast([0u8, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 128, 128, 128, 128]);
    pulp::cast(ssse3._mm_shuffle_epi8(sse2._mm_unpacklo_epi64(ab, cd), three_of_four))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Ramp;
    use super::super::tests::noise;
    use super::*;
    use crate::data::augment::warp::fixed;

    proptest! {
        #[test]
        fn four_at_a_time_equal_one_at_a_time(
            seed: u32, n in 1usize..70, (from, to) in ((0.0f64..50.0, 0.0f64..30.0), (0.0f64..50.0, 0.0f64..30.0)), level: bool,
        ) {
            // A straight way through the image, from a point of it to another; the last line and column are only neighbours.
            let image = noise(52, 32, seed);
            let step = |from: f64, to: f64| fixed((to - from) / n as f64);
            let run = Run {
                image: &image,
                xs: Ramp { start: fixed(from.0), step: step(from.0, to.0) },
                ys: Ramp { start: fixed(from.1), step: if level { 0 } else { step(from.1, to.1) } },
            };
            let (mut one, mut four) = (vec![0; n * 3], vec![0; n * 3]);
            run.draw(0, &mut one);
            let done = draw(&run, &mut four);
            prop_assert_eq!(&four[..done * 3], &one[..done * 3]);
            // Eight bytes reach beyond the image nowhere but at its end.
            if V3::try_new().is_some() && from.1.max(to.1) < 29.0 {
                prop_assert_eq!(done, n / 4 * 4);
            }
        }
    }
}
