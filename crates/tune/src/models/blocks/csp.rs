//! Cross-stage-partial blocks (Wang et al., 2020, arXiv:1911.11929) and spatial pyramid pooling (He et al., 2014).

use onsa_compute::graph::{Graph, Value};

use super::conv;

/// Two convolutions with a residual sum where the channels allow it: `hidden` channels between them.
fn bottleneck(
    g: &mut Graph,
    x: Value,
    name: &str,
    hidden: usize,
    kernels: (usize, usize),
    shortcut: bool,
) -> Value {
    let channels = g.shape(x)[3];
    let y = conv(g, x, &format!("{name}.cv1"), hidden, kernels.0, 1);
    let y = conv(g, y, &format!("{name}.cv2"), channels, kernels.1, 1);
    if shortcut { g.add(x, y) } else { y }
}

/// `cv1` to `2 * hidden` channels; the second half goes through `repeats` inner blocks, each of whose outputs joins
/// the concatenation that `cv2` takes. The halves are views.
fn split_and_chain(
    g: &mut Graph,
    x: Value,
    name: &str,
    (out, hidden): (usize, usize),
    repeats: usize,
    inner: impl Fn(&mut Graph, Value, &str) -> Value,
) -> Value {
    let both = conv(g, x, &format!("{name}.cv1"), 2 * hidden, 1, 1); // [n, h, w, 2 hidden]
    let mut parts = vec![both];
    let mut last = g.slice(both, hidden..2 * hidden);
    for j in 0..repeats {
        last = inner(g, last, &format!("{name}.m.{j}"));
        parts.push(last);
    }
    let all = g.concat(&parts); // [n, h, w, (2 + repeats) hidden]
    conv(g, all, &format!("{name}.cv2"), out, 1, 1)
}

/// YOLOv8's block: bottlenecks of two 3x3 convolutions at full width.
pub fn c2f(g: &mut Graph, x: Value, name: &str, out: usize, repeats: usize, shortcut: bool) -> Value {
    let hidden = out / 2;
    split_and_chain(g, x, name, (out, hidden), repeats, |g, x, name| {
        bottleneck(g, x, name, hidden, (3, 3), shortcut)
    })
}

/// What a [`c3k2`] block chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inner {
    /// A bottleneck of half the width.
    Bottleneck,
    /// A [`c3k`] block of two bottlenecks.
    C3k,
}

/// YOLO11's block: as [`c2f`] with `hidden = out * expansion` (rounded down) and a choice of inner block.
pub fn c3k2(
    g: &mut Graph,
    x: Value,
    name: &str,
    out: usize,
    repeats: usize,
    inner: Inner,
    expansion: f64,
) -> Value {
    let hidden = (out as f64 * expansion) as usize;
    split_and_chain(g, x, name, (out, hidden), repeats, |g, x, name| match inner {
        Inner::Bottleneck => bottleneck(g, x, name, hidden / 2, (3, 3), true),
        Inner::C3k => c3k(g, x, name, hidden, 2),
    })
}

/// Two parallel 1x1 convolutions to half the width, the first followed by `repeats` bottlenecks of 3x3 kernels,
/// concatenated and merged by `cv3`.
pub fn c3k(g: &mut Graph, x: Value, name: &str, out: usize, repeats: usize) -> Value {
    let hidden = out / 2;
    let mut deep = conv(g, x, &format!("{name}.cv1"), hidden, 1, 1);
    for j in 0..repeats {
        deep = bottleneck(g, deep, &format!("{name}.m.{j}"), hidden, (3, 3), true);
    }
    let shallow = conv(g, x, &format!("{name}.cv2"), hidden, 1, 1);
    let both = g.concat(&[deep, shallow]);
    conv(g, both, &format!("{name}.cv3"), out, 1, 1)
}

/// Spatial pyramid pooling, the fast form: three 5x5 maximum poolings in a row stand for windows of 5, 9 and 13.
pub fn sppf(g: &mut Graph, x: Value, name: &str, out: usize) -> Value {
    let hidden = g.shape(x)[3] / 2;
    let y = conv(g, x, &format!("{name}.cv1"), hidden, 1, 1);
    let y5 = g.max_pool(y, 5, 1, 2);
    let y9 = g.max_pool(y5, 5, 1, 2);
    let y13 = g.max_pool(y9, 5, 1, 2);
    let all = g.concat(&[y, y5, y9, y13]);
    conv(g, all, &format!("{name}.cv2"), out, 1, 1)
}
