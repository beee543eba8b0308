//! Short ways to say what detectors are made of.

use onsa_compute::{Activation, Conv, Graph, Value};

/// A convolution that keeps the size at step 1.
pub fn conv(g: &mut Graph, x: Value, name: &str, out: usize, k: usize, s: usize, bias: bool) -> Value {
    let (kernel, pad) = ((k, k), [k / 2; 4]);
    g.conv2d(x, Conv { name: name.into(), out, kernel, stride: (s, s), pad, groups: 1, bias })
}

/// The same, each channel on its own.
pub fn depthwise(g: &mut Graph, x: Value, name: &str, k: usize, s: usize) -> Value {
    let c = g.shape(x)[3];
    let (kernel, pad) = ((k, k), [k / 2; 4]);
    g.conv2d(x, Conv { name: name.into(), out: c, kernel, stride: (s, s), pad, groups: c, bias: false })
}

/// Convolution, norm, activation.
pub fn block(g: &mut Graph, x: Value, name: &str, out: usize, k: usize, s: usize, a: Activation) -> Value {
    let z = conv(g, x, name, out, k, s, false);
    let u = g.batch_norm(z, &format!("{name}.bn"), 1e-3, 0.03);
    g.activation(u, a)
}
