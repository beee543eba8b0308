//! YOLO12 (Tian, Ye and Doermann, 2025, arXiv:2502.12524): area attention at strides 16 and 32, no pyramid pooling.

use onsa_compute::graph::{Graph, Value};

use super::blocks::{AreaBlock, Inner, a2c2f, c3k2, conv};
use super::scaling::Scaling;

/// Index of the head among the top-level modules.
pub const HEAD: usize = 21;

/// The layers as the reference's model files list them (input, repeats, module, arguments), for recognising such files.
pub const LAYERS: &[&str] = &[
    "-1 1 Conv 64 3 2",
    "-1 1 Conv 128 3 2",
    "-1 2 C3k2 256 False 0.25",
    "-1 1 Conv 256 3 2",
    "-1 2 C3k2 512 False 0.25",
    "-1 1 Conv 512 3 2",
    "-1 4 A2C2f 512 True 4",
    "-1 1 Conv 1024 3 2",
    "-1 4 A2C2f 1024 True 1",
    "-1 1 nn.Upsample None 2 nearest",
    "-1,6 1 Concat 1",
    "-1 2 A2C2f 512 False -1",
    "-1 1 nn.Upsample None 2 nearest",
    "-1,4 1 Concat 1",
    "-1 2 A2C2f 256 False -1",
    "-1 1 Conv 256 3 2",
    "-1,11 1 Concat 1",
    "-1 2 A2C2f 512 False -1",
    "-1 1 Conv 512 3 2",
    "-1,8 1 Concat 1",
    "-1 2 C3k2 1024 True",
    "14,17,20 1 Detect nc",
];

/// Backbone and neck: from the image `[n, h, w, channels]` to the levels of stride 8, 16 and 32. `all_c3k` (scales m, l
/// and x) makes every C3k2 block chain C3k blocks; `residual` (l and x) scales and adds the input of each attending
/// block and narrows its feed-forward network.
pub fn features(g: &mut Graph, image: Value, scaling: &Scaling, all_c3k: bool, residual: bool) -> [Value; 3] {
    let c = |channels| scaling.channels(channels);
    let d = |repeats| scaling.repeats(repeats);
    let light = if all_c3k { Inner::C3k } else { Inner::Bottleneck };
    let mlp_ratio = if residual { 1.2 } else { 2.0 };
    let attention = |areas| AreaBlock::Attention { areas, mlp_ratio, residual };

    let x = conv(g, image, "model.0", c(64), 3, 2); // stride 2
    let x = conv(g, x, "model.1", c(128), 3, 2); // stride 4
    let x = c3k2(g, x, "model.2", c(256), d(2), light, 0.25);
    let x = conv(g, x, "model.3", c(256), 3, 2); // stride 8
    let backbone8 = c3k2(g, x, "model.4", c(512), d(2), light, 0.25);
    let x = conv(g, backbone8, "model.5", c(512), 3, 2); // stride 16
    let backbone16 = a2c2f(g, x, "model.6", c(512), d(4), attention(4));
    let x = conv(g, backbone16, "model.7", c(1024), 3, 2); // stride 32
    let backbone32 = a2c2f(g, x, "model.8", c(1024), d(4), attention(1));

    let up = g.upsample2(backbone32); // stride 16
    let x = g.concat(&[up, backbone16]);
    let down16 = a2c2f(g, x, "model.11", c(512), d(2), AreaBlock::C3k);
    let up = g.upsample2(down16); // stride 8
    let x = g.concat(&[up, backbone8]);
    let level8 = a2c2f(g, x, "model.14", c(256), d(2), AreaBlock::C3k);
    let x = conv(g, level8, "model.15", c(256), 3, 2); // stride 16
    let x = g.concat(&[x, down16]);
    let level16 = a2c2f(g, x, "model.17", c(512), d(2), AreaBlock::C3k);
    let x = conv(g, level16, "model.18", c(512), 3, 2); // stride 32
    let x = g.concat(&[x, backbone32]);
    let level32 = c3k2(g, x, "model.20", c(1024), d(2), Inner::C3k, 0.5);
    [level8, level16, level32]
}
