//! Attention blocks: YOLO11's over the whole map, YOLO12's over areas (Tian et al., 2025, arXiv:2502.12524).
//!
//! Both add a positional term, a depthwise convolution of the values, to the attention's result before projecting it.

use onsa_compute::graph::{Attention, Graph, Value};

use super::{c3k, conv, conv_linear, depthwise_linear};

/// Number of heads of a [`c2psa`] block with `out` channels, or None where that many channels cannot be cut into
/// heads (half of them are attended to, in heads of about 64).
pub fn psa_heads(out: usize) -> Option<usize> {
    let channels = out / 2;
    let heads = channels / 64;
    (heads > 0 && channels.is_multiple_of(heads)).then_some(heads)
}

/// Number of heads of an [`a2c2f`] block with `out` channels (half of them, in heads of 32), or None where they do
/// not divide.
pub fn area_heads(out: usize) -> Option<usize> {
    let channels = out / 2;
    (channels > 0 && channels.is_multiple_of(32)).then_some(channels / 32)
}

/// YOLO11's partial self-attention: `cv1`'s second half goes through `repeats` transformer blocks (attention, then a
/// two-layer network, each added to its input).
///
/// # Panics
/// If [`psa_heads`] has no answer for `out`.
pub fn c2psa(g: &mut Graph, x: Value, name: &str, out: usize, repeats: usize) -> Value {
    let hidden = out / 2;
    let heads = psa_heads(out).expect("the caller has checked that the width can be cut into heads");
    let both = conv(g, x, &format!("{name}.cv1"), 2 * hidden, 1, 1);
    let kept = g.slice(both, 0..hidden);
    let mut attended = g.slice(both, hidden..2 * hidden);
    for j in 0..repeats {
        let block = format!("{name}.m.{j}");
        let value_dim = hidden / heads;
        let shape = Attention { heads, key_dim: value_dim / 2, value_dim, areas: 1 };
        attended = attention_residual(g, attended, &format!("{block}.attn"), shape, 3);
        attended = feed_forward_residual(g, attended, &format!("{block}.ffn"), 2 * hidden);
    }
    let all = g.concat(&[kept, attended]);
    conv(g, all, &format!("{name}.cv2"), out, 1, 1)
}

/// The inner blocks of an [`a2c2f`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum AreaBlock {
    /// Two transformer blocks with attention inside each of `areas` runs of positions.
    Attention {
        /// Number of equal runs that the positions, row by row, are cut into.
        areas: usize,
        /// Width of the feed-forward network, as a multiple of its input's.
        mlp_ratio: f64,
        /// Whether the block's input is added to its result, scaled by a parameter a channel (`gamma`).
        residual: bool,
    },
    /// A [`c3k`] block of two bottlenecks, without attention.
    C3k,
}

/// YOLO12's block: `cv1` to half the width, `repeats` inner blocks in a row, all outputs concatenated for `cv2`.
///
/// # Panics
/// If the inner blocks attend and [`area_heads`] has no answer for `out`, or if the positions do not divide into areas.
pub fn a2c2f(g: &mut Graph, x: Value, name: &str, out: usize, repeats: usize, inner: AreaBlock) -> Value {
    let hidden = out / 2;
    let mut last = conv(g, x, &format!("{name}.cv1"), hidden, 1, 1);
    let mut parts = vec![last];
    for j in 0..repeats {
        let block = format!("{name}.m.{j}");
        last = match inner {
            AreaBlock::C3k => c3k(g, last, &block, hidden, 2),
            AreaBlock::Attention { areas, mlp_ratio, .. } => {
                let heads = area_heads(out).expect("the caller has checked that heads of 32 channels divide");
                let shape = Attention { heads, key_dim: 32, value_dim: 32, areas };
                let wide = (hidden as f64 * mlp_ratio) as usize;
                (0..2).fold(last, |x, t| {
                    let x = attention_residual(g, x, &format!("{block}.{t}.attn"), shape, 7);
                    feed_forward_residual(g, x, &format!("{block}.{t}.mlp"), wide)
                })
            }
        };
        parts.push(last);
    }
    let all = g.concat(&parts); // [n, h, w, (1 + repeats) hidden]
    let y = conv(g, all, &format!("{name}.cv2"), out, 1, 1);
    if matches!(inner, AreaBlock::Attention { residual: true, .. }) {
        let scaled = g.scale_channels(y, &format!("{name}.gamma"));
        g.add(x, scaled)
    } else {
        y
    }
}

/// `x + proj(attention(qkv(x)) + pe(values))`.
fn attention_residual(
    g: &mut Graph,
    x: Value,
    name: &str,
    shape: Attention,
    position_kernel: usize,
) -> Value {
    let Attention { heads, key_dim, value_dim, .. } = shape;
    let qkv = conv_linear(g, x, &format!("{name}.qkv"), heads * (2 * key_dim + value_dim), 1);
    let values = g.gather_heads(qkv, heads, 2 * key_dim, value_dim); // [n, h, w, heads value_dim]
    let attended = g.attention(qkv, shape);
    let position = depthwise_linear(g, values, &format!("{name}.pe"), position_kernel);
    let sum = g.add(attended, position);
    let projected = conv_linear(g, sum, &format!("{name}.proj"), heads * value_dim, 1);
    g.add(x, projected)
}

/// `x + linear(conv(x))`, 1x1 both, `wide` channels between them.
fn feed_forward_residual(g: &mut Graph, x: Value, name: &str, wide: usize) -> Value {
    let channels = g.shape(x)[3];
    let y = conv(g, x, &format!("{name}.0"), wide, 1, 1);
    let y = conv_linear(g, y, &format!("{name}.1"), channels, 1);
    g.add(x, y)
}
