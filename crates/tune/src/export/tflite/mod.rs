//! LiteRT (TensorFlow Lite), written directly.
//!
//! Input `images`, `[n, h, w, 3]`, RGB, 0 to 1. Output `output0`, `[n, 4 + classes, anchors]` as in ONNX, but the boxes as
//! fractions of the network's input: what users of the reference's files of this format expect. Of a classifier, `output0` is
//! `[n, classes]`, probabilities; means and deviations are in the graph.

mod layers;
pub mod read;
pub mod schema;

use self::layers::Writer;
use self::schema::{Model as File, Op, Options};
use super::network::Network;
use super::onnx::Numbers;
use crate::models::{Model, Task};

/// The bytes of the file. `model` was built for the batch and size of the export, `network` made from its graph.
pub fn encode(model: &Model, network: &Network, metadata: &[(String, String)], numbers: &Numbers) -> Vec<u8> {
    let mut writer = Writer::new(network, numbers, model.architecture.normalise());
    let maps = writer.network();
    let output = match model.task() {
        Task::Detect => decode(&mut writer, model, &maps),
        Task::Classify => {
            let shape = [model.input[0], model.architecture.classes];
            let logits = writer.reshape(maps[0], &shape);
            writer.op(Op::Softmax, &[logits], &shape, Options::Softmax { beta: 1.0 })
        }
    };
    writer.tensors[output as usize].name = "output0".to_owned();
    let entries = metadata.iter().map(|(key, value)| (key.clone(), serde_json::Value::from(value.clone())));
    let text = serde_json::Value::Object(entries.collect()).to_string();
    let file = File {
        description: format!("{} exported by onsa {}", model.architecture.name(), env!("CARGO_PKG_VERSION")),
        inputs: vec![writer.input()],
        outputs: vec![output],
        tensors: writer.tensors,
        operators: writer.operators,
        metadata: vec![("metadata.json".to_owned(), text)],
    };
    file.encode()
}

/// From raw maps to boxes and scores: see [`super::onnx`], with channels last.
fn decode(w: &mut Writer<'_>, model: &Model, maps: &[i32]) -> i32 {
    let [n, height, width, _] = model.input;
    let (bins, classes) = (model.box_bins, model.architecture.class_count());
    let cells = |l: &crate::models::Level| l.height * l.width;
    let anchors: usize = model.levels.iter().map(cells).sum();
    let along = Options::Concatenation { axis: 1 };
    let (mut sides, mut scores) = (Vec::new(), Vec::new());
    let mut maps = maps.iter();
    for levels in model.levels.chunk_by(|one, next| one.classes == next.classes) {
        let own = &levels[0].classes;
        let channels = 4 * bins + own.len();
        let places: usize = levels.iter().map(cells).sum();
        let flat: Vec<i32> = levels
            .iter()
            .zip(&mut maps)
            .map(|(level, &map)| w.reshape(map, &[n, cells(level), channels]))
            .collect();
        let all = w.op(Op::Concatenation, &flat, &[n, places, channels], along);
        sides.push(w.slice(all, &[0, 0, 0], &[n, places, 4 * bins]));
        let logits = w.slice(all, &[0, 0, 4 * bins], &[n, places, own.len()]);
        let told = w.op(Op::Logistic, &[logits], &[n, places, own.len()], Options::None);
        // Of the classes that a head does not tell, its scores are 0.
        scores.push(match *own == (0..classes) {
            true => told,
            false => w.padded_last(told, &[n, places, own.len()], (own.start, classes - own.end)),
        });
    }
    let mut join = |parts: Vec<i32>, channels: usize| match parts[..] {
        [one] => one,
        _ => w.op(Op::Concatenation, &parts, &[n, anchors, channels], along),
    };
    let (sides, scores) = (join(sides, 4 * bins), join(scores, classes));

    let sides = w.reshape(sides, &[n, anchors, 4, bins]);
    let shares = w.op(Op::Softmax, &[sides], &[n, anchors, 4, bins], Options::Softmax { beta: 1.0 });
    let values: Vec<f32> = (0..bins).map(|bin| bin as f32).collect();
    let values = w.floats("bins", &[bins], &values);
    let weighted = w.op(Op::Mul, &[shares, values], &[n, anchors, 4, bins], Options::None);
    let axis = w.ints("axis", &[3]);
    let distances = w.op(Op::Sum, &[weighted, axis], &[n, anchors, 4], Options::None);

    let (mut centres, mut units) = (Vec::new(), Vec::new());
    for level in &model.levels {
        for cell in 0..cells(level) {
            centres.extend([(cell % level.width) as f32 + 0.5, (cell / level.width) as f32 + 0.5]);
            // A stride as a fraction of the input.
            units.extend([level.stride as f32 / width as f32, level.stride as f32 / height as f32]);
        }
    }
    let centres = w.floats("centres", &[1, anchors, 2], &centres);
    let units = w.floats("units", &[1, anchors, 2], &units);
    let low = w.slice(distances, &[0, 0, 0], &[n, anchors, 2]);
    let high = w.slice(distances, &[0, 0, 2], &[n, anchors, 2]);
    let pair = [n, anchors, 2];
    let low = w.op(Op::Sub, &[centres, low], &pair, Options::None);
    let high = w.op(Op::Add, &[centres, high], &pair, Options::None);
    let sum = w.op(Op::Add, &[low, high], &pair, Options::None);
    let half = w.floats("half", &[1], &[0.5]);
    let centre = w.op(Op::Mul, &[sum, half], &pair, Options::None);
    let size = w.op(Op::Sub, &[high, low], &pair, Options::None);
    let centre = w.op(Op::Mul, &[centre, units], &pair, Options::None);
    let size = w.op(Op::Mul, &[size, units], &pair, Options::None);
    let rows = 4 + classes;
    let joined = Options::Concatenation { axis: 2 };
    let all = w.op(Op::Concatenation, &[centre, size, scores], &[n, anchors, rows], joined);
    let order = w.ints("order", &[0, 2, 1]);
    w.op(Op::Transpose, &[all, order], &[n, rows, anchors], Options::None)
}
