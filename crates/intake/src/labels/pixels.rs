//! Boxes given as pixel corners (Pascal VOC, COCO) -> fractions of the image.

use super::{LabelFaultKind, Labels, RawBox};

/// How far a corner may lie beyond the image: 1 % of the side, but a pixel at least (VOC counts from 1, and tools
/// round). Such a box is clipped.
fn tolerance(side: f64) -> f64 {
    (0.01 * side).max(1.0)
}

/// Adds the box `[x1, y1, x2, y2]` (pixels, origin at the top left corner of the top left pixel) of an image of
/// `size` (width, height), or the fault that keeps it out.
pub(super) fn add(labels: &mut Labels, class: u32, corners: [f64; 4], size: (u32, u32), line: usize) {
    use LabelFaultKind::*;
    let [x1, y1, x2, y2] = corners;
    if !corners.iter().all(|v| v.is_finite()) {
        return labels.fault(line, NonFinite, "the box holds NaN or infinity: draw it anew or delete it");
    }
    if x2 <= x1 || y2 <= y1 {
        let message =
            format!("the box has no area (x {x1} to {x2}, y {y1} to {y2}): draw it anew or delete it");
        return labels.fault(line, ZeroSize, message);
    }
    let (w, h) = (f64::from(size.0), f64::from(size.1));
    let (tx, ty) = (tolerance(w), tolerance(h));
    let (l, t, r, b) = (x1.max(0.0), y1.max(0.0), x2.min(w), y2.min(h));
    if x1 < -tx || y1 < -ty || x2 > w + tx || y2 > h + ty || r <= l || b <= t {
        let message = format!(
            "the box (x {x1} to {x2}, y {y1} to {y2}) lies beyond the image of {} x {} pixels: correct it",
            size.0, size.1
        );
        return labels.fault(line, CoordinatesOutOfRange, message);
    }
    let boxed = RawBox {
        class,
        cx: ((l + r) / 2.0 / w) as f32,
        cy: ((t + b) / 2.0 / h) as f32,
        w: ((r - l) / w) as f32,
        h: ((b - t) / h) as f32,
        line,
    };
    if boxed.w > 0.0 && boxed.h > 0.0 {
        labels.boxes.push(boxed);
    } else {
        labels.fault(line, ZeroSize, "the box has no area: draw it anew or delete it");
    }
}
