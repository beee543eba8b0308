//! Static int8: scales of values from calibration images, weights a scale for each output channel.
//!
//! The scheme of Jacob et al. (2018, arXiv:1712.05877): a value is `scale * (q - zero)`, weights are symmetric.

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
}

impl Quantisation {
    /// How a convolution's input is rounded; none where the convolution stays float.
    pub fn input_scheme(&self, node: &Node) -> Option<Scheme> {
        if self.float.contains(&node.name) { None } else { self.schemes[node.inputs[0]] }
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

/// Rounds a convolution's weights and bias.
pub fn weights(conv: &Conv, input: Scheme) -> Weights {
    let len = conv.kernel_len();
    let mut out =
        Weights { values: Vec::new(), scales: Vec::new(), bias: Vec::new(), bias_scales: Vec::new() };
    for (kernel, &bias) in conv.weight.chunks_exact(len).zip(&conv.bias) {
        let largest = kernel.iter().fold(0.0f32, |m, w| m.max(w.abs()));
        // The bias has to fit 32 bits in steps of the product: a channel of almost no weight would need more.
        let scale = (largest / 127.0).max(bias.abs() / (input.scale * 1e9)).max(1e-12);
        out.values.extend(kernel.iter().map(|w| (w / scale).round().clamp(-127.0, 127.0) as i8));
        out.scales.push(scale);
        let step = input.scale * scale;
        out.bias.push((f64::from(bias) / f64::from(step)).round() as i32);
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
        let q = weights(&conv, input);
        assert_eq!(q.values[..2], [64, -127]);
        assert!((f64::from(q.bias[0]) * f64::from(q.bias_scales[0]) - 0.25).abs() < 1e-4);
        assert!((f64::from(q.bias[1]) * f64::from(q.bias_scales[1]) - 3.0).abs() < 1e-4, "{}", q.bias[1]);
    }
}
