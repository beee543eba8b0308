//! Branch-free elementary functions that the compiler can vectorise.
//!
//! The standard library's `exp` and `ln_1p` are calls, which keep a loop scalar. These stay within 2 units in the
//! last place of float32 over the ranges stated, and give the same bits on every instruction set, because they use
//! no fused multiply-add.

/// Width of the accumulator arrays: one AVX2 register, two of SSE2 or NEON.
pub(crate) const LANES: usize = 8;

/// 1.5 * 2^23: adding it rounds a small number to the nearest integer in the low bits of the mantissa.
const ROUND: f32 = 12_582_912.0;
/// The upper part of ln 2; its product with a small integer is exact.
const LN_2_HIGH: f32 = 0.693_359_4;
/// ln 2 - `LN_2_HIGH`.
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// e^x for x <= 0. Below -87, where the result would be subnormal, gives e^-87; so does NaN.
#[inline(always)]
pub(crate) fn exp_of_negative(x: f32) -> f32 {
    let x = x.max(-87.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    // Taylor to the seventh power: |r| <= ln 2 / 2, so the first term left out is below 6e-9.
    let p = 1.0 / 5040.0;
    let p = p * r + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r + 1.0;
    let p = p * r + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127);
    p * f32::from_bits(exponent << 23)
}

/// ln(1 + e) for 0 <= e <= 1, accurate relative to the result also where e is tiny.
#[inline(always)]
pub(crate) fn ln_1p_of_unit(e: f32) -> f32 {
    // ln(1 + e) = 2 artanh(e / (2 + e)), whose argument is at most 1/3.
    let z = e / (2.0 + e);
    let w = z * z;
    let p = 1.0 / 13.0;
    let p = p * w + 1.0 / 11.0;
    let p = p * w + 1.0 / 9.0;
    let p = p * w + 1.0 / 7.0;
    let p = p * w + 1.0 / 5.0;
    let p = p * w + 1.0 / 3.0;
    let p = p * w + 1.0;
    2.0 * z * p
}

/// Logistic function and softplus ln(1 + e^x) of one logit.
#[inline(always)]
pub(crate) fn sigmoid_softplus(x: f32) -> (f32, f32) {
    let e = exp_of_negative(-x.abs());
    let numerator = if x >= 0.0 { 1.0 } else { e };
    (numerator / (1.0 + e), x.max(0.0) + ln_1p_of_unit(e))
}

/// The largest of `values`, which must not be empty; if one is not a number, any of them or that.
///
/// Compares bit patterns as integers, a reduction whose order is free, so that it vectorises.
#[inline(always)]
pub(crate) fn max(values: &[f32]) -> f32 {
    // Flips the magnitude bits of negative numbers, so that integers order as the numbers do; its own inverse.
    let flip = |bits: i32| bits ^ ((bits >> 31) & i32::MAX);
    let top = values.iter().fold(i32::MIN, |top, v| top.max(flip(v.to_bits() as i32)));
    f32::from_bits(flip(top) as u32)
}

/// What the softmax over the bins of one side gives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bins {
    /// Expected bin: sum of j * p_j, in stride units.
    pub mean: f32,
    /// ln of the sum of e^logit.
    pub log_sum: f32,
}

/// Softmax over the bins of one side; writes the probabilities into `p` (the same length as `logits`).
#[inline(always)]
pub(crate) fn softmax(logits: &[f32], p: &mut [f32]) -> Bins {
    let top = max(logits);
    let (sum, moment) = exponentials(logits, top, p);
    let scale = 1.0 / sum;
    for v in p.iter_mut() {
        *v *= scale;
    }
    Bins { mean: moment * scale, log_sum: top + sum.ln() }
}

/// The mean that [`softmax`] gives, and no more; `scratch` is as long as `logits`.
#[inline(always)]
pub(crate) fn mean_bin(logits: &[f32], scratch: &mut [f32]) -> f32 {
    let (sum, moment) = exponentials(logits, max(logits), scratch);
    moment * (1.0 / sum)
}

/// Writes e^(logit - top) into `p`; returns their sum and that of j times the j-th.
#[inline(always)]
fn exponentials(logits: &[f32], top: f32, p: &mut [f32]) -> (f32, f32) {
    for (p, &x) in p.iter_mut().zip(logits) {
        *p = exp_of_negative(x - top);
    }
    let mut sums = [0.0f32; LANES];
    let mut moments = [0.0f32; LANES];
    let mut bin: [f32; LANES] = std::array::from_fn(|j| j as f32);
    let chunks = p.chunks_exact(LANES);
    let rest = chunks.remainder();
    let mut next = (p.len() - rest.len()) as f32;
    for chunk in chunks {
        for j in 0..LANES {
            sums[j] += chunk[j];
            moments[j] += chunk[j] * bin[j];
            bin[j] += LANES as f32;
        }
    }
    let (mut sum, mut moment) = (tree_sum(sums), tree_sum(moments));
    for &v in rest {
        sum += v;
        moment += v * next;
        next += 1.0;
    }
    (sum, moment)
}

/// The sum of the lanes, in a fixed order.
#[inline(always)]
pub(crate) fn tree_sum(lanes: [f32; LANES]) -> f32 {
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_against_double_precision() {
        for i in 0..=87_000 {
            let x = -(i as f32) / 1000.0;
            let want = f64::from(x).exp();
            let got = f64::from(exp_of_negative(x));
            assert!((got - want).abs() <= 2.5e-7 * want, "e^{x}: {got} instead of {want}");
        }
        assert_eq!(exp_of_negative(0.0), 1.0);
        assert_eq!(exp_of_negative(f32::NEG_INFINITY), exp_of_negative(-87.0));
    }

    #[test]
    fn softplus_and_sigmoid_against_double_precision() {
        for i in -3000..=3000 {
            let x = i as f32 / 100.0;
            let (s, l) = sigmoid_softplus(x);
            let e = (-f64::from(x).abs()).exp();
            let softplus = f64::from(x).max(0.0) + e.ln_1p();
            let sigmoid = 1.0 / (1.0 + (-f64::from(x)).exp());
            assert!((f64::from(l) - softplus).abs() <= 5e-7 * softplus, "softplus({x}) = {l}");
            assert!((f64::from(s) - sigmoid).abs() <= 5e-7 * sigmoid, "sigmoid({x}) = {s}");
        }
    }

    #[test]
    fn softmax_of_any_number_of_bins() {
        for bins in [1usize, 5, 8, 16, 19] {
            let logits: Vec<f32> = (0..bins).map(|j| ((j * 7 % 5) as f32) * 0.7 - 1.0).collect();
            let mut p = vec![0.0; bins];
            let got = softmax(&logits, &mut p);
            let sum: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
            let mean: f64 =
                logits.iter().enumerate().map(|(j, &x)| j as f64 * f64::from(x).exp() / sum).sum();
            assert!((f64::from(got.mean) - mean).abs() < 1e-5, "{bins} bins");
            assert!((f64::from(got.log_sum) - sum.ln()).abs() < 1e-5, "{bins} bins");
            assert!((p.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{bins} bins");
        }
    }

    #[test]
    fn maximum_looks_at_the_remainder() {
        let mut values = vec![0.0f32; 11];
        values[10] = 3.0;
        assert_eq!(max(&values), 3.0);
        values[4] = 5.0;
        assert_eq!(max(&values), 5.0);
        assert_eq!(max(&[-3.0, -2.5, -9.0]), -2.5);
        assert_eq!(max(&[-0.0, 0.0, -1.0]), 0.0);
        assert_eq!(max(&[f32::NEG_INFINITY]), f32::NEG_INFINITY);
    }
}
