//! ResNet (He, Zhang, Ren and Sun, 2016, arXiv:1512.03385) with torchvision's parameter names. Bottlenecks stride in
//! their 3x3 convolution, as torchvision's do.

use onsa_compute::graph::{Activation, Conv, Graph, Value};

use super::scaling::Scaling;

/// Residual blocks in each of the four stages.
pub const BLOCKS_18: [usize; 4] = [2, 2, 2, 2];
/// See [`BLOCKS_18`].
pub const BLOCKS_34: [usize; 4] = [3, 4, 6, 3];
/// What batch norms add to the variance.
const NORM_EPS: f32 = 1e-5;
/// The new batch's share of the running statistics.
const NORM_MOMENTUM: f32 = 0.1;
/// A bottleneck's outputs for each of its inner channels.
const EXPANSION: usize = 4;

/// Which residual block the network is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Two 3x3 convolutions.
    Basic,
    /// 1x1, 3x3 and 1x1 convolutions.
    Bottleneck,
}

/// From the image `[n, h, w, channels]` to the logits `[n, 1, 1, classes]`.
pub fn classifier(
    g: &mut Graph,
    image: Value,
    block: Block,
    blocks: [usize; 4],
    scaling: &Scaling,
    classes: usize,
) -> Value {
    let stem = norm(g, image, "conv1", "bn1", scaling.channels(64), 7, 2); // stride 2
    let stem = g.activation(stem, Activation::Relu);
    let mut x = g.max_pool(stem, 3, 2, 1); // stride 4
    for (stage, listed) in blocks.into_iter().enumerate() {
        let width = scaling.channels(64 << stage);
        for j in 0..scaling.repeats(listed) {
            let stride = if stage > 0 && j == 0 { 2 } else { 1 };
            x = residual(g, x, &format!("layer{}.{j}", stage + 1), block, width, stride);
        }
    }
    let pooled = g.global_avg_pool(x); // [n, 1, 1, c]
    g.linear(pooled, "fc", classes, true)
}

fn residual(g: &mut Graph, x: Value, name: &str, block: Block, width: usize, stride: usize) -> Value {
    let part = |conv: usize| (format!("{name}.conv{conv}"), format!("{name}.bn{conv}"));
    let mut convolve = |x: Value, place: usize, out: usize, kernel: usize, stride: usize| {
        let (conv, bn) = part(place);
        norm(g, x, &conv, &bn, out, kernel, stride)
    };
    let (y, out) = match block {
        Block::Basic => {
            let y = convolve(x, 1, width, 3, stride);
            let y = g.activation(y, Activation::Relu);
            let (conv, bn) = part(2);
            (norm(g, y, &conv, &bn, width, 3, 1), width)
        }
        Block::Bottleneck => {
            let out = EXPANSION * width;
            let y = convolve(x, 1, width, 1, 1);
            let y = g.activation(y, Activation::Relu);
            let (conv, bn) = part(2);
            let y = norm(g, y, &conv, &bn, width, 3, stride);
            let y = g.activation(y, Activation::Relu);
            let (conv, bn) = part(3);
            (norm(g, y, &conv, &bn, out, 1, 1), out)
        }
    };
    let kept = if stride > 1 || g.shape(x)[3] != out {
        norm(g, x, &format!("{name}.downsample.0"), &format!("{name}.downsample.1"), out, 1, stride)
    } else {
        x
    };
    let sum = g.add(kept, y);
    g.activation(sum, Activation::Relu)
}

/// Convolution without bias, then batch norm.
fn norm(g: &mut Graph, x: Value, conv: &str, bn: &str, out: usize, kernel: usize, stride: usize) -> Value {
    let conv = Conv {
        name: conv.to_owned(),
        out,
        kernel: (kernel, kernel),
        stride: (stride, stride),
        pad: [kernel / 2; 4],
        groups: 1,
        bias: false,
    };
    let y = g.conv2d(x, conv);
    g.batch_norm(y, bn, NORM_EPS, NORM_MOMENTUM)
}

/// Dotted prefixes of the top-level modules, from the image on.
pub fn modules() -> Vec<Vec<String>> {
    let mut modules = vec![vec!["conv1.".to_owned(), "bn1.".to_owned()]];
    modules.extend((1..=4).map(|stage| vec![format!("layer{stage}.")]));
    modules.push(vec!["fc.".to_owned()]);
    modules
}
