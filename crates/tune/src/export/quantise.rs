//! Static int8: scales of values from calibration images, weights a scale for each output channel.
//!
//! The scheme of Jacob et al. (2018, arXiv:1712.05877): a value is `scale * (q - zero)`, weights are symmetric. What rounding
//! the weights adds to a channel's mean is taken off its bias (Nagel et al. 2019, arXiv:1906.04721, section 4.2, with means
//! that were measured).

use std::collections::HashMap;

use super::network::{Conv, Node};

/// One value's scale and zero point: `scale * (q - zero)`, q from -128 to 127.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scheme {
    /// Size of a step.
    pub scale: f32,
    /// What stands for 0.
    pub zero: i8,
}

impl Scheme {
    /// Covers `low..=high` and 0.
    pub fn of_range(low: f32, high: f32) -> Scheme {
        let (low, high) = (low.min(0.0), high.max(0.0));
        // A value that is always 0 has no range of its own.
        let scale = ((high - low) / 255.0).max(f32::MIN_POSITIVE);
        Scheme { scale, zero: (-128.0 - low / scale).round().clamp(-128.0, 127.0) as i8 }
    }
}

/// The schemes of a network's values.
#[derive(Clone, Debug, Default)]
pub struct Quantisation {
    /// By value; none where a value stays float.
    pub schemes: Vec<Option<Scheme>>,
    /// Names of convolutions that stay float.
    pub float: Vec<String>,
    /// Each channel's mean, by value, of the inputs of convolutions.
    pub means: HashMap<usize, Vec<f32>>,
    /// What reads the convolutions' results computes in float (SiLU and attention do): a format whose convolutions may give
    /// float results rounds their inputs alone.
    pub smooth: bool,
}

impl Quantisation {
    /// How a convolution's input is rounded; none where the convolution stays float.
    pub fn input_scheme(&self, node: &Node) -> Option<Scheme> {
        if self.float.contains(&node.name) { None } else { self.schemes[node.inputs[0]] }
    }

    /// The mean of each channel of a convolution's input.
    pub fn input_means(&self, node: &Node) -> Option<&[f32]> {
        self.means.get(&node.inputs[0]).map(Vec::as_slice)
    }

    /// How its output is rounded.
    pub fn output_scheme(&self, node: &Node) -> Option<Scheme> {
        self.schemes[node.output]
    }
}

/// A convolution in integers.
pub struct Weights {
    /// As [`Conv::weight`].
    pub values: Vec<i8>,
    /// One an output channel.
    pub scales: Vec<f32>,
    /// In steps of `bias_scales`.
    pub bias: Vec<i32>,
    /// The input's scale times the weight's.
    pub bias_scales: Vec<f32>,
}

/// Rounds a convolution's weights and bias. `means`: of its input's channels, for the correction of the bias.
pub fn weights(conv: &Conv, input: Scheme, means: Option<&[f32]>) -> Weights {
    let len = conv.kernel_len();
    let groups = conv.geometry.groups.max(1);
    let inner = conv.input / groups;
    let mut out =
        Weights { values: Vec::new(), scales: Vec::new(), bias: Vec::new(), bias_scales: Vec::new() };
    for (channel, (kernel, &bias)) in conv.weight.chunks_exact(len).zip(&conv.bias).enumerate() {
        let largest = kernel.iter().fold(0.0f32, |m, w| m.max(w.abs()));
        // The bias has to fit 32 bits in steps of the product: a channel of almost no weight would need more.
        let scale = (largest / 127.0).max(bias.abs() / (input.scale * 1e9)).max(1e-12);
        let rounded = out.values.len();
        out.values.extend(kernel.iter().map(|w| (w / scale).round().clamp(-127.0, 127.0) as i8));
        out.scales.push(scale);
        let mut bias = f64::from(bias);
        if let Some(means) = means {
            let first = channel / (conv.out / groups) * inner;
            let taps = (len / inner).max(1);
            for (i, (&w, &q)) in kernel.iter().zip(&out.values[rounded..]).enumerate() {
                let lost = f64::from(w) - f64::from(q) * f64::from(scale);
                bias += lost * f64::from(means[first + i / taps]);
            }
        }
        let step = input.scale * scale;
        out.bias.push((bias / f64::from(step)).round() as i32);
        out.bias_scales.push(step);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_is_exact_and_the_ends_are_covered() {
        for (low, high) in [(-0.3, 6.0), (0.0, 1.0), (-4.0, 0.0), (2.0, 3.0), (0.0, 0.0)] {
            let scheme = Scheme::of_range(low, high);
            let round = |v: f32| {
                let q = (v / scheme.scale + f32::from(scheme.zero)).round().clamp(-128.0, 127.0);
                scheme.scale * (q - f32::from(scheme.zero))
            };
            assert_eq!(round(0.0), 0.0);
            for v in [low, high] {
                assert!((round(v) - v).abs() <= scheme.scale, "{v} became {} ({scheme:?})", round(v));
            }
        }
    }

    #[test]
    fn weights_keep_their_largest_value_and_the_bias_fits() {
        let geometry =
            onsa_compute::graph::ConvGeometry { kernel: (1, 1), stride: (1, 1), pad: [0; 4], groups: 1 };
        let conv = Conv {
            geometry,
            input: 2,
            out: 2,
            weight: vec![0.5, -1.0, 1e-9, 0.0],
            bias: vec![0.25, 3.0],
            activation: onsa_compute::graph::Activation::Identity,
        };
        let input = Scheme { scale: 0.02, zero: 0 };
        let q = weights(&conv, input, None);
        assert_eq!(q.values[..2], [64, -127]);
        assert!((f64::from(q.bias[0]) * f64::from(q.bias_scales[0]) - 0.25).abs() < 1e-4);
        assert!((f64::from(q.bias[1]) * f64::from(q.bias_scales[1]) - 3.0).abs() < 1e-4, "{}", q.bias[1]);
    }
    #[test]
    fn the_bias_takes_off_what_rounding_adds_to_the_mean() {
        // Two groups of two inputs, kernels of 1 x 2.
        let geometry =
            onsa_compute::graph::ConvGeometry { kernel: (1, 2), stride: (1, 1), pad: [0; 4], groups: 2 };
        let weight = vec![1.0, 0.3, 0.21, -0.77, 0.501, 0.9, -0.123, 0.04];
        let activation = onsa_compute::graph::Activation::Identity;
        let conv = Conv { geometry, input: 4, out: 2, weight, bias: vec![0.5, -0.25], activation };
        let (means, input) = ([2.0, -1.0, 0.5, 3.0], Scheme { scale: 1e-3, zero: 0 });
        let q = weights(&conv, input, Some(&means));
        for (channel, kernel) in conv.weight.chunks_exact(4).enumerate() {
            let mean = |tap: usize| f64::from(means[2 * channel + tap / 2]);
            let exact: f64 = kernel.iter().enumerate().map(|(i, &w)| f64::from(w) * mean(i)).sum();
            let exact = exact + f64::from(conv.bias[channel]);
            let whole = |i: usize| f64::from(q.values[4 * channel + i]) * f64::from(q.scales[channel]);
            let rounded: f64 = (0..4).map(|i| whole(i) * mean(i)).sum();
            let rounded = rounded + f64::from(q.bias[channel]) * f64::from(q.bias_scales[channel]);
            assert!((exact - rounded).abs() < 2e-5, "{exact} {rounded}");
            let plain = weights(&conv, input, None);
            assert_ne!(plain.bias[channel], q.bias[channel]);
        }
    }
}
