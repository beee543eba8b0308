//! MobileNetV3 (Howard et al., 2019, arXiv:1905.02244, tables 1 and 2) with torchvision's parameter names.

use onsa_compute::graph::{Activation, Conv, Graph, Value};

use super::scaling::Scaling;

/// What batch norms add to the variance.
const NORM_EPS: f32 = 1e-3;
/// The new batch's share of the running statistics.
const NORM_MOMENTUM: f32 = 0.01;

/// One row of the paper's tables.
#[derive(Clone, Copy, Debug)]
struct Row {
    kernel: usize,
    expanded: usize,
    out: usize,
    squeezes: bool,
    activation: Activation,
    stride: usize,
}

const fn row(kernel: usize, expanded: usize, out: usize, squeezes: bool, hard: bool, stride: usize) -> Row {
    let activation = if hard { Activation::Hardswish } else { Activation::Relu };
    Row { kernel, expanded, out, squeezes, activation, stride }
}

const SMALL: [Row; 11] = [
    row(3, 16, 16, true, false, 2),
    row(3, 72, 24, false, false, 2),
    row(3, 88, 24, false, false, 1),
    row(5, 96, 40, true, true, 2),
    row(5, 240, 40, true, true, 1),
    row(5, 240, 40, true, true, 1),
    row(5, 120, 48, true, true, 1),
    row(5, 144, 48, true, true, 1),
    row(5, 288, 96, true, true, 2),
    row(5, 576, 96, true, true, 1),
    row(5, 576, 96, true, true, 1),
];

const LARGE: [Row; 15] = [
    row(3, 16, 16, false, false, 1),
    row(3, 64, 24, false, false, 2),
    row(3, 72, 24, false, false, 1),
    row(5, 72, 40, true, false, 2),
    row(5, 120, 40, true, false, 1),
    row(5, 120, 40, true, false, 1),
    row(3, 240, 80, false, true, 2),
    row(3, 200, 80, false, true, 1),
    row(3, 184, 80, false, true, 1),
    row(3, 184, 80, false, true, 1),
    row(3, 480, 112, true, true, 1),
    row(3, 672, 112, true, true, 1),
    row(5, 672, 160, true, true, 2),
    row(5, 960, 160, true, true, 1),
    row(5, 960, 160, true, true, 1),
];

/// Which of the two networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Table 2.
    Small,
    /// Table 1.
    Large,
}

impl Size {
    fn rows(self) -> &'static [Row] {
        match self {
            Size::Small => &SMALL,
            Size::Large => &LARGE,
        }
    }

    /// Hidden channels of the unscaled classifier.
    fn hidden(self) -> usize {
        match self {
            Size::Small => 1024,
            Size::Large => 1280,
        }
    }
}

/// From the image `[n, h, w, channels]` to the logits `[n, 1, 1, classes]`.
pub fn classifier(g: &mut Graph, image: Value, size: Size, scaling: &Scaling, classes: usize) -> Value {
    let c = |listed: usize| divisible(listed as f64 * scaling.width);
    let mut x = norm(g, image, "features.0", c(16), (3, 2), false); // stride 2
    x = g.activation(x, Activation::Hardswish);
    for (i, row) in size.rows().iter().enumerate() {
        x = bottleneck(g, x, &format!("features.{}.block", i + 1), row, c(row.expanded), c(row.out));
    }
    let last = 6 * g.shape(x)[3];
    x = norm(g, x, &format!("features.{}", size.rows().len() + 1), last, (1, 1), false);
    x = g.activation(x, Activation::Hardswish);
    let pooled = g.global_avg_pool(x); // [n, 1, 1, last]
    let hidden = g.linear(pooled, "classifier.0", c(size.hidden()), true);
    let hidden = g.activation(hidden, Activation::Hardswish);
    g.linear(hidden, "classifier.3", classes, true)
}

/// 1x1 to `expanded` channels (where that changes anything), depthwise, squeeze-and-excitation, 1x1 without activation.
fn bottleneck(g: &mut Graph, x: Value, name: &str, row: &Row, expanded: usize, out: usize) -> Value {
    let c = g.shape(x)[3];
    let mut place = 0;
    let mut next = || {
        place += 1;
        format!("{name}.{}", place - 1)
    };
    let mut y = x;
    if expanded != c {
        y = norm(g, y, &next(), expanded, (1, 1), false);
        y = g.activation(y, row.activation);
    }
    y = norm(g, y, &next(), expanded, (row.kernel, row.stride), true);
    y = g.activation(y, row.activation);
    if row.squeezes {
        y = squeeze_excite(g, y, &next());
    }
    y = norm(g, y, &next(), out, (1, 1), false);
    if row.stride == 1 && c == out { g.add(x, y) } else { y }
}

/// Squeeze-and-excitation with a hard sigmoid (Hu, Shen and Sun, 2018, arXiv:1709.01507).
fn squeeze_excite(g: &mut Graph, x: Value, name: &str) -> Value {
    let c = g.shape(x)[3];
    let dense = |name: String, out: usize| Conv {
        name,
        out,
        kernel: (1, 1),
        stride: (1, 1),
        pad: [0; 4],
        groups: 1,
        bias: true,
    };
    let squeezed = g.global_avg_pool(x);
    let squeezed = g.conv2d(squeezed, dense(format!("{name}.fc1"), divisible((c / 4) as f64)));
    let squeezed = g.activation(squeezed, Activation::Relu);
    let factors = g.conv2d(squeezed, dense(format!("{name}.fc2"), c));
    let factors = g.activation(factors, Activation::Hardsigmoid);
    g.gate(x, factors)
}

/// Convolution `NAME.0` without bias, then batch norm `NAME.1`.
fn norm(
    g: &mut Graph,
    x: Value,
    name: &str,
    out: usize,
    (kernel, stride): (usize, usize),
    depthwise: bool,
) -> Value {
    let conv = Conv {
        name: format!("{name}.0"),
        out,
        kernel: (kernel, kernel),
        stride: (stride, stride),
        pad: [kernel / 2; 4],
        groups: if depthwise { g.shape(x)[3] } else { 1 },
        bias: false,
    };
    let y = g.conv2d(x, conv);
    g.batch_norm(y, &format!("{name}.1"), NORM_EPS, NORM_MOMENTUM)
}

/// The nearest multiple of 8, but never less than nine tenths of the exact number.
fn divisible(exact: f64) -> usize {
    let near = ((exact + 4.0) as usize / 8 * 8).max(8);
    if (near as f64) < 0.9 * exact { near + 8 } else { near }
}

/// Dotted prefixes of the top-level modules, from the image on.
pub fn modules(size: Size) -> Vec<Vec<String>> {
    let mut modules: Vec<Vec<String>> =
        (0..size.rows().len() + 2).map(|i| vec![format!("features.{i}.")]).collect();
    modules.push(vec!["classifier.0.".to_owned()]);
    modules.push(vec!["classifier.3.".to_owned()]);
    modules
}
