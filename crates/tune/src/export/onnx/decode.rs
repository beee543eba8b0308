//! From the head's raw maps to boxes and scores, in the graph: `[n, 4 + classes, anchors]`, rows centre x, centre y, width,
//! height in pixels of the network's input, then the scores (0 to 1). The layout that the reference's exports have.

use std::ops::Range;

use super::builder::{Attr, Builder, Elem};

/// A head's level.
#[derive(Clone, Debug)]
pub struct Level {
    /// Pixels between two positions.
    pub stride: usize,
    /// Rows of positions (of the size that the graph was built for).
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Which of all classes its logits are of.
    pub classes: Range<usize>,
}

/// What the maps are.
#[derive(Clone, Debug)]
pub struct Head {
    /// The levels: of each head, finest first.
    pub levels: Vec<Level>,
    /// Bins of each side's distribution.
    pub bins: usize,
    /// Number of all classes.
    pub classes: usize,
}

/// Boxes of all anchors.
pub struct Decoded {
    /// `[n, 2, anchors]`: left and top edges, pixels of the network's input.
    pub low: String,
    /// `[n, 2, anchors]`: right and bottom edges.
    pub high: String,
    /// `[n, classes, anchors]`: 0 to 1.
    pub scores: String,
}

/// Decodes float32 maps (`[n, 4 * bins + classes, h, w]`, one a level).
pub fn decode(b: &mut Builder, maps: &[String], head: &Head, free_size: bool) -> Decoded {
    let (mut sides, mut scores) = (Vec::new(), Vec::new());
    let mut first = 0;
    for levels in head.levels.chunk_by(|one, next| one.classes == next.classes) {
        let classes = &levels[0].classes;
        let (box_channels, own) = (4 * head.bins as i64, classes.len() as i64);
        let maps = &maps[first..first + levels.len()];
        first += levels.len();
        let flat: Vec<String> = maps.iter().map(|map| b.reshape(map, &[0, box_channels + own, -1])).collect();
        let flat: Vec<&str> = flat.iter().map(String::as_str).collect();
        let all = b.concat(&flat, 2);
        let parts = b.split(&all, 1, &[box_channels, own]);
        let told = b.op("Sigmoid", &[&parts[1]]);
        scores.push(among_all(b, told, classes, head.classes));
        sides.push(parts[0].clone());
    }
    let mut join = |parts: Vec<String>| match &parts[..] {
        [one] => one.clone(),
        parts => b.concat(&parts.iter().map(String::as_str).collect::<Vec<_>>(), 2),
    };
    let (sides, scores) = (join(sides), join(scores));

    // The expectation over bins 0, 1, 2… of each side (Li et al. 2020, eq. 6).
    let sides = b.reshape(&sides, &[0, 4, head.bins as i64, -1]);
    let shares = b.op_with("Softmax", &[&sides], &[("axis", Attr::Int(2))]);
    let bins: Vec<f32> = (0..head.bins).map(|bin| bin as f32).collect();
    let bins = b.constant(&[1, 1, head.bins, 1], &bins);
    let weighted = b.op("Mul", &[&shares, &bins]);
    let axis = b.ints(&[2]);
    let distances = b.op_with("ReduceSum", &[&weighted, &axis], &[("keepdims", Attr::Int(0))]);

    let (centres, strides) = if free_size { free_grid(b, maps, head) } else { fixed_grid(b, head) };
    let edges = b.split(&distances, 1, &[2, 2]);
    let low = b.op("Sub", &[&centres, &edges[0]]);
    let high = b.op("Add", &[&centres, &edges[1]]);
    Decoded { low: b.op("Mul", &[&low, &strides]), high: b.op("Mul", &[&high, &strides]), scores }
}

/// Scores `[n, own, anchors]` of some classes among those of all: 0 for the others.
fn among_all(b: &mut Builder, scores: String, own: &Range<usize>, all: usize) -> String {
    if *own == (0..all) {
        return scores;
    }
    let pads = b.ints(&[0, own.start as i64, 0, 0, (all - own.end) as i64, 0]);
    let zero = b.scalar(Elem::F32, 0.0);
    b.op_with("Pad", &[&scores, &pads, &zero], &[("mode", Attr::Text("constant"))])
}

/// Decoded boxes as one tensor `[n, 4 + classes, anchors]`.
pub fn dense(b: &mut Builder, decoded: &Decoded) -> String {
    let sum = b.op("Add", &[&decoded.low, &decoded.high]);
    let two = b.scalar(Elem::F32, 2.0);
    let centre = b.op("Div", &[&sum, &two]);
    let size = b.op("Sub", &[&decoded.high, &decoded.low]);
    b.concat(&[&centre, &size, &decoded.scores], 1)
}

/// Centres `[1, 2, anchors]` in cells and strides `[1, 1, anchors]`, as constants.
fn fixed_grid(b: &mut Builder, head: &Head) -> (String, String) {
    let (mut xs, mut ys, mut strides) = (Vec::new(), Vec::new(), Vec::new());
    for level in &head.levels {
        for cell in 0..level.height * level.width {
            xs.push((cell % level.width) as f32 + 0.5);
            ys.push((cell / level.width) as f32 + 0.5);
            strides.push(level.stride as f32);
        }
    }
    let anchors = xs.len();
    xs.append(&mut ys);
    (b.constant(&[1, 2, anchors], &xs), b.constant(&[1, 1, anchors], &strides))
}

/// The same, from the maps' sizes when the model runs.
fn free_grid(b: &mut Builder, maps: &[String], head: &Head) -> (String, String) {
    let (zero, one) = (b.scalar(Elem::I64, 0.0), b.scalar(Elem::I64, 1.0));
    let half = b.scalar(Elem::F32, 0.5);
    let (mut xs, mut ys, mut strides) = (Vec::new(), Vec::new(), Vec::new());
    for (map, level) in maps.iter().zip(&head.levels) {
        let size = b.op_with("Shape", &[map], &[("start", Attr::Int(2))]);
        for (axis, out, shape) in [(1, &mut xs, [1, -1]), (0, &mut ys, [-1, 1])] {
            let at = b.scalar(Elem::I64, f64::from(axis));
            let count = b.op_with("Gather", &[&size, &at], &[("axis", Attr::Int(0))]);
            let range = b.op("Range", &[&zero, &count, &one]);
            let range = b.cast(&range, Elem::F32);
            let centres = b.op("Add", &[&range, &half]);
            let centres = b.reshape(&centres, &shape);
            let grid = b.op("Expand", &[&centres, &size]);
            out.push(b.reshape(&grid, &[1, 1, -1]));
        }
        let stride = b.constant(&[1, 1], &[level.stride as f32]);
        let grid = b.op("Expand", &[&stride, &size]);
        strides.push(b.reshape(&grid, &[1, 1, -1]));
    }
    let mut join = |list: &[String]| {
        let names: Vec<&str> = list.iter().map(String::as_str).collect();
        b.concat(&names, 2)
    };
    let (xs, ys, strides) = (join(&xs), join(&ys), join(&strides));
    (b.concat(&[&xs, &ys], 1), strides)
}
