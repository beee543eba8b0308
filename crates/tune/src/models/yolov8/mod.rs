//! YOLOv8 (Jocher, Chaurasia and Qiu, 2023): a backbone of C2f blocks, a path-aggregation neck, a decoupled head.

use onsa_compute::graph::{Graph, Value};

use super::blocks::{c2f, classify, conv, sppf};
use super::scaling::Scaling;

/// Index of the head among the top-level modules.
pub const HEAD: usize = 22;

/// The layers as the reference's model files list them (input, repeats, module, arguments), for recognising such files.
pub const LAYERS: &[&str] = &[
    "-1 1 Conv 64 3 2",
    "-1 1 Conv 128 3 2",
    "-1 3 C2f 128 True",
    "-1 1 Conv 256 3 2",
    "-1 6 C2f 256 True",
    "-1 1 Conv 512 3 2",
    "-1 6 C2f 512 True",
    "-1 1 Conv 1024 3 2",
    "-1 3 C2f 1024 True",
    "-1 1 SPPF 1024 5",
    "-1 1 nn.Upsample None 2 nearest",
    "-1,6 1 Concat 1",
    "-1 3 C2f 512",
    "-1 1 nn.Upsample None 2 nearest",
    "-1,4 1 Concat 1",
    "-1 3 C2f 256",
    "-1 1 Conv 256 3 2",
    "-1,12 1 Concat 1",
    "-1 3 C2f 512",
    "-1 1 Conv 512 3 2",
    "-1,9 1 Concat 1",
    "-1 3 C2f 1024",
    "15,18,21 1 Detect nc",
];

/// Index of the head of the classification network.
pub const CLASSIFY_HEAD: usize = 9;

/// The classification network: the backbone without its pyramid pooling, and a [`classify`] head.
pub fn classifier(g: &mut Graph, image: Value, scaling: &Scaling, classes: usize) -> Value {
    let [.., x] = backbone(g, image, scaling);
    classify(g, x, &format!("model.{CLASSIFY_HEAD}"), classes)
}

/// Modules 0 to 8: what strides 8, 16 and 32 give.
fn backbone(g: &mut Graph, image: Value, scaling: &Scaling) -> [Value; 3] {
    let c = |channels| scaling.channels(channels);
    let d = |repeats| scaling.repeats(repeats);

    let x = conv(g, image, "model.0", c(64), 3, 2); // stride 2
    let x = conv(g, x, "model.1", c(128), 3, 2); // stride 4
    let x = c2f(g, x, "model.2", c(128), d(3), true);
    let x = conv(g, x, "model.3", c(256), 3, 2); // stride 8
    let backbone8 = c2f(g, x, "model.4", c(256), d(6), true);
    let x = conv(g, backbone8, "model.5", c(512), 3, 2); // stride 16
    let backbone16 = c2f(g, x, "model.6", c(512), d(6), true);
    let x = conv(g, backbone16, "model.7", c(1024), 3, 2); // stride 32
    let backbone32 = c2f(g, x, "model.8", c(1024), d(3), true);
    [backbone8, backbone16, backbone32]
}

/// Backbone and neck: from the image `[n, h, w, channels]` to the levels of stride 8, 16 and 32.
pub fn features(g: &mut Graph, image: Value, scaling: &Scaling) -> [Value; 3] {
    let c = |channels| scaling.channels(channels);
    let d = |repeats| scaling.repeats(repeats);

    let [backbone8, backbone16, x] = backbone(g, image, scaling);
    let backbone32 = sppf(g, x, "model.9", c(1024));

    let up = g.upsample2(backbone32); // stride 16
    let x = g.concat(&[up, backbone16]);
    let down16 = c2f(g, x, "model.12", c(512), d(3), false);
    let up = g.upsample2(down16); // stride 8
    let x = g.concat(&[up, backbone8]);
    let level8 = c2f(g, x, "model.15", c(256), d(3), false);
    let x = conv(g, level8, "model.16", c(256), 3, 2); // stride 16
    let x = g.concat(&[x, down16]);
    let level16 = c2f(g, x, "model.18", c(512), d(3), false);
    let x = conv(g, level16, "model.19", c(512), 3, 2); // stride 32
    let x = g.concat(&[x, backbone32]);
    let level32 = c2f(g, x, "model.21", c(1024), d(3), false);
    [level8, level16, level32]
}
