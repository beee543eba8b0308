//! ONNX, operator set 17, the weights inside the file.
//!
//! Without suppression a detector's output is `output0`, `[n, 4 + classes, anchors]`, and its input `images`, `[n, 3, h, w]`:
//! what users of the reference's exports expect. With `letterbox` the input is `image`, `[height, width, 3]`, and boxes are
//! in pixels of that picture.
//!
//! A classifier's output is `output0`, `[n, classes]`, probabilities. Its `images` are the middle squares of pictures, 0 to 1;
//! means and deviations are subtracted and divided by in the graph. With `letterbox` it takes the middle square of `image`
//! itself.

mod builder;
mod decode;
mod layers;
mod letterbox;
pub mod proto;
mod square;
mod suppress;

use prost::Message;

use self::builder::{Attr, Builder, Dim, Elem};
use self::decode::{Decoded, Head, Level};
use self::layers::Style;
pub use self::suppress::Suppression;
use super::network::Network;
use super::quantise::Quantisation;
use crate::models::{Model, Normalise, Task};

/// The operator set.
const OPSET: i64 = 17;
/// The format's version that came with it.
const IR_VERSION: i64 = 8;

/// How weights and values are stored.
#[derive(Clone, Debug, Default)]
pub enum Numbers {
    /// float32.
    #[default]
    Float32,
    /// float16 within the network; inputs, outputs and decoding stay float32.
    Float16,
    /// int8 convolutions, the rest float32.
    Int8(Quantisation),
}

/// What the graph holds beside the network.
#[derive(Clone, Debug, Default)]
pub struct OnnxOptions {
    /// Storage.
    pub numbers: Numbers,
    /// Batch, height and width are the caller's choice (multiples of the largest stride); of a classifier the batch alone,
    /// whose padding is made for one size.
    pub dynamic: bool,
    /// The input is a picture of any size, fitted in the graph. One picture at a time.
    pub letterbox: bool,
    /// Boxes, scores and classes come out instead of all anchors. Of a detector alone.
    pub suppression: Option<Suppression>,
}

/// The bytes of the file. `model` was built for the batch and size of the export, `network` made from its graph.
pub fn encode(
    model: &Model,
    network: &Network,
    metadata: &[(String, String)],
    options: &OnnxOptions,
) -> Vec<u8> {
    let mut b = Builder::default();
    let [n, h, w, channels] = model.input;
    let classifies = model.task() == Task::Classify;
    let free = options.dynamic && !classifies;
    let dim = |name, value| if free { Dim::Free(name) } else { Dim::Fixed(value) };
    let batch = if options.dynamic { Dim::Free("batch") } else { Dim::Fixed(n) };
    let (input, placement) = if options.letterbox && classifies {
        (square::middle_square(&mut b, h), None)
    } else if options.letterbox {
        let (input, placement) = letterbox::letterbox(&mut b, [h, w]);
        (input, Some(placement))
    } else {
        let shape = [batch, Dim::Fixed(channels), dim("height", h), dim("width", w)];
        (b.input("images", Elem::F32, &shape), None)
    };
    let input = normalised(&mut b, input, model.architecture.normalise(), channels);

    let half = matches!(options.numbers, Numbers::Float16);
    let elem = if half { Elem::F16 } else { Elem::F32 };
    let quantised = match &options.numbers {
        Numbers::Int8(quantisation) => Some(quantisation),
        _ => None,
    };
    let style = Style { elem, free_size: free, quantised };
    let input = if half { b.cast(&input, Elem::F16) } else { input };
    let mut maps = layers::write(&mut b, network, &input, &style);
    if half {
        maps = maps.iter().map(|map| b.cast(map, Elem::F32)).collect();
    }
    if classifies {
        let classes = model.architecture.classes;
        let logits = b.reshape(&maps[0], &[0, classes as i64]);
        let scores = b.op_with("Softmax", &[&logits], &[("axis", Attr::Int(1))]);
        b.output("output0", &scores, Elem::F32, &[batch, Dim::Fixed(classes)]);
        return file(b, &model.architecture.name(), metadata);
    }

    let head = Head {
        levels: model
            .levels
            .iter()
            .map(|l| Level { stride: l.stride, height: l.height, width: l.width, classes: l.classes.clone() })
            .collect(),
        bins: model.box_bins,
        classes: model.architecture.class_count(),
    };
    let mut decoded = decode::decode(&mut b, &maps, &head, free);
    if let Some(placement) = &placement {
        // Not cut off at the picture's borders yet: suppression compares whole boxes, as the program does.
        decoded = Decoded {
            low: letterbox::to_picture(&mut b, &decoded.low, placement),
            high: letterbox::to_picture(&mut b, &decoded.high, placement),
            ..decoded
        };
    }
    let anchors = head.levels.iter().map(|l| l.height * l.width).sum::<usize>();
    match &options.suppression {
        None => {
            let all = decode::dense(&mut b, &decoded);
            let shape = [batch, Dim::Fixed(4 + head.classes), dim("anchors", anchors)];
            b.output("output0", &all, Elem::F32, &shape);
        }
        Some(suppression) => {
            let places = suppression.max_det.min(anchors);
            let kept =
                suppress::suppress(&mut b, &decoded, head.classes, suppression, (!free).then_some(places));
            let places = dim("places", places);
            let boxes = match &placement {
                Some(placement) => letterbox::clip(&mut b, &kept.boxes, placement),
                None => kept.boxes,
            };
            b.output("boxes", &boxes, Elem::F32, &[batch, places, Dim::Fixed(4)]);
            b.output("scores", &kept.scores, Elem::F32, &[batch, places]);
            b.output("classes", &kept.classes, Elem::I64, &[batch, places]);
            b.output("count", &kept.count, Elem::I64, &[batch]);
        }
    }
    file(b, &model.architecture.name(), metadata)
}

/// Values from 0 to 1 as the published weights expect them, in float32 whatever the network computes in.
fn normalised(b: &mut Builder, x: String, normalise: Normalise, channels: usize) -> String {
    if normalise == Normalise::NONE {
        return x;
    }
    let (means, factors): (Vec<f32>, Vec<f32>) = normalise.factors(channels).into_iter().unzip();
    let (means, factors) =
        (b.constant(&[1, channels, 1, 1], &means), b.constant(&[1, channels, 1, 1], &factors));
    let x = b.op("Sub", &[&x, &means]);
    b.op("Mul", &[&x, &factors])
}

fn file(b: Builder, name: &str, metadata: &[(String, String)]) -> Vec<u8> {
    let entry = |(key, value): &(String, String)| proto::StringStringEntryProto {
        key: key.clone(),
        value: value.clone(),
    };
    proto::ModelProto {
        ir_version: IR_VERSION,
        producer_name: "onsa".to_owned(),
        producer_version: env!("CARGO_PKG_VERSION").to_owned(),
        graph: Some(b.finish(name)),
        opset_import: vec![proto::OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: metadata.iter().map(entry).collect(),
    }
    .encode_to_vec()
}
