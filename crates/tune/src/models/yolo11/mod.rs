//! YOLO11 (Jocher and Qiu, 2024): C3k2 blocks, partial self-attention at stride 32, a separable class branch.

use onsa_compute::graph::{Graph, Value};

use super::blocks::{Inner, c2psa, c3k2, classify, conv, sppf};
use super::scaling::Scaling;

/// Index of the head among the top-level modules.
pub const HEAD: usize = 23;

/// The layers as the reference's model files list them (input, repeats, module, arguments), for recognising such files.
pub const LAYERS: &[&str] = &[
    "-1 1 Conv 64 3 2",
    "-1 1 Conv 128 3 2",
    "-1 2 C3k2 256 False 0.25",
    "-1 1 Conv 256 3 2",
    "-1 2 C3k2 512 False 0.25",
    "-1 1 Conv 512 3 2",
    "-1 2 C3k2 512 True",
    "-1 1 Conv 1024 3 2",
    "-1 2 C3k2 1024 True",
    "-1 1 SPPF 1024 5",
    "-1 2 C2PSA 1024",
    "-1 1 nn.Upsample None 2 nearest",
    "-1,6 1 Concat 1",
    "-1 2 C3k2 512 False",
    "-1 1 nn.Upsample None 2 nearest",
    "-1,4 1 Concat 1",
    "-1 2 C3k2 256 False",
    "-1 1 Conv 256 3 2",
    "-1,13 1 Concat 1",
    "-1 2 C3k2 512 False",
    "-1 1 Conv 512 3 2",
    "-1,10 1 Concat 1",
    "-1 2 C3k2 1024 True",
    "16,19,22 1 Detect nc",
];

/// Index of the head of the classification network.
pub const CLASSIFY_HEAD: usize = 10;

/// The classification network: the backbone without its pyramid pooling, and a [`classify`] head.
pub fn classifier(g: &mut Graph, image: Value, scaling: &Scaling, all_c3k: bool, classes: usize) -> Value {
    let [.., x] = backbone(g, image, scaling, all_c3k);
    let x = c2psa(g, x, "model.9", scaling.channels(1024), scaling.repeats(2));
    classify(g, x, &format!("model.{CLASSIFY_HEAD}"), classes)
}

/// Modules 0 to 8: what strides 8, 16 and 32 give. `all_c3k` (scales m, l and x) makes every C3k2 block chain C3k
/// blocks.
fn backbone(g: &mut Graph, image: Value, scaling: &Scaling, all_c3k: bool) -> [Value; 3] {
    let c = |channels| scaling.channels(channels);
    let d = |repeats| scaling.repeats(repeats);
    let light = if all_c3k { Inner::C3k } else { Inner::Bottleneck };

    let x = conv(g, image, "model.0", c(64), 3, 2); // stride 2
    let x = conv(g, x, "model.1", c(128), 3, 2); // stride 4
    let x = c3k2(g, x, "model.2", c(256), d(2), light, 0.25);
    let x = conv(g, x, "model.3", c(256), 3, 2); // stride 8
    let backbone8 = c3k2(g, x, "model.4", c(512), d(2), light, 0.25);
    let x = conv(g, backbone8, "model.5", c(512), 3, 2); // stride 16
    let backbone16 = c3k2(g, x, "model.6", c(512), d(2), Inner::C3k, 0.5);
    let x = conv(g, backbone16, "model.7", c(1024), 3, 2); // stride 32
    let backbone32 = c3k2(g, x, "model.8", c(1024), d(2), Inner::C3k, 0.5);
    [backbone8, backbone16, backbone32]
}

/// Backbone and neck: from the image `[n, h, w, channels]` to the levels of stride 8, 16 and 32. For `all_c3k` see
/// [`backbone`].
pub fn features(g: &mut Graph, image: Value, scaling: &Scaling, all_c3k: bool) -> [Value; 3] {
    let c = |channels| scaling.channels(channels);
    let d = |repeats| scaling.repeats(repeats);
    let light = if all_c3k { Inner::C3k } else { Inner::Bottleneck };

    let [backbone8, backbone16, x] = backbone(g, image, scaling, all_c3k);
    let x = sppf(g, x, "model.9", c(1024));
    let backbone32 = c2psa(g, x, "model.10", c(1024), d(2));

    let up = g.upsample2(backbone32); // stride 16
    let x = g.concat(&[up, backbone16]);
    let down16 = c3k2(g, x, "model.13", c(512), d(2), light, 0.5);
    let up = g.upsample2(down16); // stride 8
    let x = g.concat(&[up, backbone8]);
    let level8 = c3k2(g, x, "model.16", c(256), d(2), light, 0.5);
    let x = conv(g, level8, "model.17", c(256), 3, 2); // stride 16
    let x = g.concat(&[x, down16]);
    let level16 = c3k2(g, x, "model.19", c(512), d(2), light, 0.5);
    let x = conv(g, level16, "model.20", c(512), 3, 2); // stride 32
    let x = g.concat(&[x, backbone32]);
    let level32 = c3k2(g, x, "model.22", c(1024), d(2), Inner::C3k, 0.5);
    [level8, level16, level32]
}
