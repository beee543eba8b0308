//! The plain outputs of exported files: all anchors of a detector, the probabilities of a classifier.

use super::ProofError;
use crate::boxes::{Detection, Xyxy};
use crate::evaluate::{Postprocess, nms};

fn finite(values: &[f32]) -> Result<(), ProofError> {
    match values.iter().position(|v| !v.is_finite()) {
        Some(place) => Err(ProofError::Output(format!("value {place} of output0 is {}", values[place]))),
        None => Ok(()),
    }
}

/// The boxes of one image's anchors `[1, 4 + classes, anchors]`, best first.
///
/// # Errors
/// Another shape, or a value that is no number.
pub fn choose(
    shape: &[usize],
    values: &[f32],
    classes: usize,
    rules: &Postprocess,
) -> Result<Vec<Detection>, ProofError> {
    let &[1, rows, anchors] = shape else {
        return Err(ProofError::Output(format!("output0 is {shape:?}")));
    };
    if rows != 4 + classes {
        return Err(ProofError::Output(format!("output0 has {rows} rows for {classes} classes")));
    }
    finite(values)?;
    let row = |i: usize| &values[i * anchors..(i + 1) * anchors];
    let mut candidates = Vec::new();
    for anchor in 0..anchors {
        let score = |class: usize| row(4 + class)[anchor];
        let [cx, cy, w, h] = [0, 1, 2, 3].map(|i| row(i)[anchor]);
        let bbox = Xyxy { x1: cx - w / 2.0, y1: cy - h / 2.0, x2: cx + w / 2.0, y2: cy + h / 2.0 };
        let best = (0..classes).fold(0, |best, class| if score(class) > score(best) { class } else { best });
        for class in 0..classes {
            if score(class) > rules.conf && (rules.multi_label || class == best) {
                candidates.push(Detection { class: class as u32, score: score(class), bbox });
            }
        }
    }
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    candidates.truncate(rules.max_candidates);
    Ok(nms(&candidates, rules.iou, rules.max_det, rules.agnostic))
}

/// One image's probabilities `[1, classes]`.
///
/// # Errors
/// Another shape, a value that is no number, or values that do not add up to 1.
pub fn probabilities(shape: &[usize], values: Vec<f32>, classes: usize) -> Result<Vec<f32>, ProofError> {
    if shape != [1, classes] {
        return Err(ProofError::Output(format!("output0 is {shape:?} for {classes} classes")));
    }
    finite(&values)?;
    let sum: f32 = values.iter().sum();
    if (sum - 1.0).abs() > 1e-2 {
        return Err(ProofError::Output(format!("the scores of output0 add up to {sum}")));
    }
    Ok(values)
}
