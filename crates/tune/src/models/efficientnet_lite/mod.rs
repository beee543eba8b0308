//! EfficientNet-Lite (Google, 2020; after Tan and Le, 2019, arXiv:1905.11946): inverted residuals with ReLU6, without
//! squeeze-and-excitation, with TensorFlow's "same" padding, which at stride 2 is uneven. Parameter names are those of
//! the PyTorch port that the published weights are kept in.

use onsa_compute::graph::{Activation, Conv, Graph, Value};

use super::scaling::Scaling;

/// Side of the published models' images, pixels, for Lite0 to Lite4.
pub const IMAGE_SIZES: [usize; 5] = [224, 240, 260, 280, 300];
/// What batch norms add to the variance.
const NORM_EPS: f32 = 1e-3;
/// The new batch's share of the running statistics.
const NORM_MOMENTUM: f32 = 0.01;
/// Channels of the stem and of the last convolution, the same in all five.
const STEM: usize = 32;
const HEAD: usize = 1280;

/// A stage: repeats, kernel, stride of its first block, expansion, output channels, of the unscaled model.
const STAGES: [(usize, usize, usize, usize, usize); 7] = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
];

/// From the image `[n, h, w, channels]` to the logits `[n, 1, 1, classes]`.
pub fn classifier(g: &mut Graph, image: Value, scaling: &Scaling, classes: usize) -> Value {
    let x = norm(g, image, ("_conv_stem", "_bn0"), STEM, 3, 2, false); // stride 2
    let mut x = g.activation(x, Activation::Relu6);
    let mut index = 0;
    for (stage, (repeats, kernel, stride, expansion, out)) in STAGES.into_iter().enumerate() {
        for j in 0..stage_repeats(scaling, stage, repeats) {
            let stride = if j == 0 { stride } else { 1 };
            let name = format!("_blocks.{index}");
            x = inverted_residual(g, x, &name, kernel, stride, expansion, channels(scaling, out));
            index += 1;
        }
    }
    let x = norm(g, x, ("_conv_head", "_bn1"), HEAD, 1, 1, false);
    let x = g.activation(x, Activation::Relu6);
    let pooled = g.global_avg_pool(x); // [n, 1, 1, 1280]
    g.linear(pooled, "_fc", classes, true)
}

/// The first and the last stage are not repeated more often in the larger models.
fn stage_repeats(scaling: &Scaling, stage: usize, listed: usize) -> usize {
    let fixed = stage == 0 || stage + 1 == STAGES.len();
    if fixed { listed } else { (listed as f64 * scaling.depth).ceil() as usize }
}

/// Channels to the nearest multiple of 8, but never less than nine tenths of the exact number.
fn channels(scaling: &Scaling, listed: usize) -> usize {
    let exact = listed as f64 * scaling.width;
    let near = ((exact + 4.0) as usize / 8 * 8).max(8);
    if (near as f64) < 0.9 * exact { near + 8 } else { near }
}

/// 1x1 to `expansion` times the channels, depthwise, 1x1 without activation; added to its input where both agree.
fn inverted_residual(
    g: &mut Graph,
    x: Value,
    name: &str,
    kernel: usize,
    stride: usize,
    expansion: usize,
    out: usize,
) -> Value {
    let c = g.shape(x)[3];
    let mut y = x;
    if expansion > 1 {
        let names = (format!("{name}._expand_conv"), format!("{name}._bn0"));
        y = norm(g, y, (&names.0, &names.1), expansion * c, 1, 1, false);
        y = g.activation(y, Activation::Relu6);
    }
    let names = (format!("{name}._depthwise_conv"), format!("{name}._bn1"));
    y = norm(g, y, (&names.0, &names.1), expansion * c, kernel, stride, true);
    y = g.activation(y, Activation::Relu6);
    let names = (format!("{name}._project_conv"), format!("{name}._bn2"));
    y = norm(g, y, (&names.0, &names.1), out, 1, 1, false);
    if stride == 1 && c == out { g.add(x, y) } else { y }
}

/// Convolution without bias under "same" padding, then batch norm.
fn norm(
    g: &mut Graph,
    x: Value,
    (conv, bn): (&str, &str),
    out: usize,
    kernel: usize,
    stride: usize,
    depthwise: bool,
) -> Value {
    let [_, h, w, c] = g.shape(x);
    let (top, bottom) = same_padding(h, kernel, stride);
    let (left, right) = same_padding(w, kernel, stride);
    let conv = Conv {
        name: conv.to_owned(),
        out,
        kernel: (kernel, kernel),
        stride: (stride, stride),
        pad: [top, left, bottom, right],
        groups: if depthwise { c } else { 1 },
        bias: false,
    };
    let y = g.conv2d(x, conv);
    g.batch_norm(y, bn, NORM_EPS, NORM_MOMENTUM)
}

/// TensorFlow's "same": so much padding that a side of `size` gives `ceil(size / stride)` outputs, the odd pixel at the
/// end.
fn same_padding(size: usize, kernel: usize, stride: usize) -> (usize, usize) {
    let needed = ((size.div_ceil(stride) - 1) * stride + kernel).saturating_sub(size);
    (needed / 2, needed - needed / 2)
}

/// Dotted prefixes of the top-level modules, from the image on.
pub fn modules(scaling: &Scaling) -> Vec<Vec<String>> {
    let blocks: usize = STAGES.iter().enumerate().map(|(i, stage)| stage_repeats(scaling, i, stage.0)).sum();
    let mut modules = vec![vec!["_conv_stem.".to_owned(), "_bn0.".to_owned()]];
    modules.extend((0..blocks).map(|i| vec![format!("_blocks.{i}.")]));
    modules.push(vec!["_conv_head.".to_owned(), "_bn1.".to_owned()]);
    modules.push(vec!["_fc.".to_owned()]);
    modules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_padding_is_tensorflows() {
        assert_eq!(same_padding(224, 3, 2), (0, 1));
        assert_eq!(same_padding(112, 5, 2), (1, 2));
        assert_eq!(same_padding(7, 5, 1), (2, 2));
        assert_eq!(same_padding(15, 3, 2), (1, 1));
        assert_eq!(same_padding(4, 1, 2), (0, 0));
    }

    #[test]
    fn lite4s_channels_are_the_published_ones() {
        let lite4 = Scaling { depth: 1.8, width: 1.4, max_channels: usize::MAX };
        let all: Vec<usize> = STAGES.iter().map(|stage| channels(&lite4, stage.4)).collect();
        assert_eq!(all, [24, 32, 56, 112, 160, 272, 448]);
        assert_eq!(modules(&lite4).len(), 1 + 1 + 4 + 4 + 6 + 6 + 8 + 1 + 2);
    }
}
