//! The blocks that the families share: functions that add nodes to a graph.
//!
//! Every function takes the dotted name of its module, so the parameters carry the names of the reference's state
//! dict. Values are `[n, h, w, c]`; a block changes c, and h and w only where it has a stride.

mod attention;
mod classify;
mod csp;
mod detect;

use onsa_compute::graph::{Activation, Conv, Graph, Value};

pub use attention::{AreaBlock, a2c2f, area_heads, c2psa, psa_heads};
pub use classify::classify;
pub use csp::{Inner, c2f, c3k, c3k2, sppf};
pub use detect::{BOX_BINS, ClassBranch, Head, detect};

/// What every batch norm adds to the variance.
pub const NORM_EPS: f32 = 1e-3;
/// The new batch's share of a batch norm's running statistics.
pub const NORM_MOMENTUM: f32 = 0.03;

/// Convolution without bias, batch norm, SiLU. Padding keeps h and w at stride 1.
pub fn conv(g: &mut Graph, x: Value, name: &str, out: usize, kernel: usize, stride: usize) -> Value {
    let y = conv_norm(g, x, name, out, kernel, stride, 1);
    g.activation(y, Activation::Silu)
}

/// [`conv`] at stride 1 without its SiLU.
pub fn conv_linear(g: &mut Graph, x: Value, name: &str, out: usize, kernel: usize) -> Value {
    conv_norm(g, x, name, out, kernel, 1, 1)
}

/// Depthwise convolution at stride 1, batch norm, SiLU.
pub fn depthwise(g: &mut Graph, x: Value, name: &str, kernel: usize) -> Value {
    let y = depthwise_linear(g, x, name, kernel);
    g.activation(y, Activation::Silu)
}

/// [`depthwise`] without its SiLU.
pub fn depthwise_linear(g: &mut Graph, x: Value, name: &str, kernel: usize) -> Value {
    let channels = g.shape(x)[3];
    conv_norm(g, x, name, channels, kernel, 1, channels)
}

fn conv_norm(
    g: &mut Graph,
    x: Value,
    name: &str,
    out: usize,
    kernel: usize,
    stride: usize,
    groups: usize,
) -> Value {
    let y = g.conv2d(
        x,
        Conv {
            name: format!("{name}.conv"),
            out,
            kernel: (kernel, kernel),
            stride: (stride, stride),
            pad: [kernel / 2; 4],
            groups,
            bias: false,
        },
    );
    g.batch_norm(y, &format!("{name}.bn"), NORM_EPS, NORM_MOMENTUM)
}
