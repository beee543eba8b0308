//! The classification head of YOLO backbones: a 1x1 convolution, the mean over the map, a linear layer.

use onsa_compute::graph::{Graph, Value};

use super::conv;

/// Channels between the backbone and the linear layer.
const HIDDEN: usize = 1280;

/// Logits `[n, 1, 1, classes]`.
pub fn classify(g: &mut Graph, x: Value, name: &str, classes: usize) -> Value {
    let x = conv(g, x, &format!("{name}.conv"), HIDDEN, 1, 1);
    let pooled = g.global_avg_pool(x);
    g.linear(pooled, &format!("{name}.linear"), classes, true)
}
