//! Non-maximum suppression in the graph: of each anchor its best class, suppressed within the class, the best `max_det` of an
//! image in falling order.

use super::builder::{Attr, Builder, Elem};
use super::decode::Decoded;

/// What the suppression keeps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Suppression {
    /// Least score, 0 to 1.
    pub conf: f32,
    /// Of two boxes that overlap by more than this IoU the lower score goes.
    pub iou: f32,
    /// Most boxes an image; the outputs have as many places, or as many as there are anchors.
    pub max_det: usize,
}

/// The kept boxes. Places beyond an image's count hold zeros, and class -1.
pub struct Kept {
    /// `[n, places, 4]`: left, top, right, bottom.
    pub boxes: String,
    /// `[n, places]`, best first.
    pub scores: String,
    /// `[n, places]`, int64.
    pub classes: String,
    /// `[n]`, int64.
    pub count: String,
}

/// Suppresses. `places`: the number of places, or none where it is known only when the model runs.
pub fn suppress(
    b: &mut Builder,
    decoded: &Decoded,
    classes: usize,
    options: &Suppression,
    places: Option<usize>,
) -> Kept {
    let axis = || [("axis", Attr::Int(1)), ("keepdims", Attr::Int(1))];
    let best = b.op_with(
        "ReduceMax",
        &[&decoded.scores],
        &[("axes", Attr::Ints(vec![1])), ("keepdims", Attr::Int(1))],
    );
    let class = b.op_with("ArgMax", &[&decoded.scores], &axis());
    let all = (0..classes as i64).flat_map(i64::to_le_bytes).collect();
    let all = b.tensor("/classes", Elem::I64, &[1, classes, 1], all);
    let own = b.op("Equal", &[&class, &all]);
    let zero = b.scalar(Elem::F32, 0.0);
    let scores = b.named("candidates", "Where", &[&own, &decoded.scores, &zero], &[]); // [n, classes, anchors]
    let boxes = b.concat(&[&decoded.low, &decoded.high], 1);
    let order = [("perm", Attr::Ints(vec![0, 2, 1]))];
    let boxes = b.named("corners", "Transpose", &[&boxes], &order); // [n, anchors, 4]

    let most = b.ints(&[options.max_det as i64]);
    let iou = b.constant(&[1], &[options.iou]);
    let conf = b.constant(&[1], &[options.conf]);
    // [kept, (image, class, anchor)]
    let selected = b.named("suppression", "NonMaxSuppression", &[&boxes, &scores, &most, &iou, &conf], &[]);
    let columns = b.ints(&[0, 2]);
    let places_of = b.op_with("Gather", &[&selected, &columns], &[("axis", Attr::Int(1))]);

    // Back among the anchors, the rest at 0, so that every image of the batch has as many places.
    let axes = b.ints(&[1]);
    let (best, class) = (b.op("Squeeze", &[&best, &axes]), b.op("Squeeze", &[&class, &axes]));
    let kept_scores = b.op("GatherND", &[&best, &places_of]);
    let nothing = b.op("Mul", &[&best, &zero]);
    let spread = b.op("ScatterND", &[&nothing, &places_of, &kept_scores]); // [n, anchors]
    let count = match places {
        Some(places) => b.ints(&[places as i64]),
        None => {
            let anchors = b.op_with("Shape", &[&spread], &[("start", Attr::Int(1))]);
            b.op("Min", &[&anchors, &most])
        }
    };
    let top = b.op_many("TopK", &[&spread, &count], &[("axis", Attr::Int(1))], 2);
    let (scores, order) = (&top[0], &top[1]);
    let along = [("axis", Attr::Int(1))];
    let class = b.op_with("GatherElements", &[&class, order], &along);
    let last = b.ints(&[2]);
    let order = b.op("Unsqueeze", &[order, &last]);
    let shape = {
        let front = b.op_with("Shape", &[scores], &[]);
        let four = b.ints(&[4]);
        b.concat(&[&front, &four], 0)
    };
    let order = b.op("Expand", &[&order, &shape]);
    let boxes = b.op_with("GatherElements", &[&boxes, &order], &along);

    let real = b.op("Greater", &[scores, &zero]);
    let none = b.scalar(Elem::I64, -1.0);
    let classes = b.op("Where", &[&real, &class, &none]);
    let flags = b.op("Unsqueeze", &[&real, &last]);
    let boxes = b.op("Where", &[&flags, &boxes, &zero]);
    let ones = b.cast(&real, Elem::I64);
    let count = b.op_with("ReduceSum", &[&ones, &axes], &[("keepdims", Attr::Int(0))]);
    Kept { boxes, scores: scores.clone(), classes, count }
}
