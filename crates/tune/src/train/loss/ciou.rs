//! Complete intersection over union and its gradient.
//!
//! Zheng et al., "Distance-IoU Loss: Faster and Better Learning for Bounding Box Regression", AAAI 2020:
//! CIoU = IoU - d^2 / c^2 - alpha * v, where d is the distance of the centres, c the diagonal of the smallest box
//! around both, v = 4 / pi^2 * (atan(W/H) - atan(w/h))^2 and alpha = v / (1 - IoU + v). alpha counts as a constant
//! when the gradient is taken, as in the paper.

use std::f64::consts::PI;

/// Keeps denominators away from zero, in the squared unit of the boxes.
pub(crate) const EPS: f64 = 1e-7;

/// Corners x1, y1, x2, y2 in any one unit.
pub(crate) type Corners = [f64; 4];

/// CIoU of `predicted` with `target`, at most 1, and its derivative by the corners of `predicted`.
pub(crate) fn ciou(predicted: Corners, target: Corners) -> (f64, Corners) {
    let [x1, y1, x2, y2] = predicted;
    let [tx1, ty1, tx2, ty2] = target;
    let (w, h) = (x2 - x1, y2 - y1 + EPS);
    let (tw, th) = (tx2 - tx1, ty2 - ty1 + EPS);
    let step = |c: bool| if c { 1.0 } else { 0.0 };
    // Sides of the predicted box that bound the intersection; the others bound the box around both.
    let inner = [step(x1 > tx1), step(y1 > ty1), step(x2 < tx2), step(y2 < ty2)];
    const SIGN: Corners = [-1.0, -1.0, 1.0, 1.0];

    let iw = x2.min(tx2) - x1.max(tx1);
    let ih = y2.min(ty2) - y1.max(ty1);
    let overlap = iw > 0.0 && ih > 0.0;
    let inter = if overlap { iw * ih } else { 0.0 };
    let union = w * h + tw * th - inter + EPS;
    let iou = inter / union;

    let cw = x2.max(tx2) - x1.min(tx1);
    let ch = y2.max(ty2) - y1.min(ty1);
    let diagonal = cw * cw + ch * ch + EPS;
    let dx = (x1 + x2 - tx1 - tx2) / 2.0;
    let dy = (y1 + y2 - ty1 - ty2) / 2.0;
    let distance = dx * dx + dy * dy;

    let angle = (w / h).atan() - (tw / th).atan();
    let v = 4.0 / (PI * PI) * angle * angle;
    let alpha = v / (v - iou + 1.0 + EPS);

    let mut gradient = [0.0; 4];
    for (i, g) in gradient.iter_mut().enumerate() {
        let horizontal = i % 2 == 0;
        // The side's effect on the box's own width or height, on the intersection, and on the box around both.
        let area = SIGN[i] * if horizontal { h } else { w };
        let d_inter = match (overlap, horizontal) {
            (false, _) => 0.0,
            (true, true) => SIGN[i] * inner[i] * ih,
            (true, false) => SIGN[i] * inner[i] * iw,
        };
        let d_union = area - d_inter;
        let d_iou = (d_inter * union - inter * d_union) / (union * union);
        let d_diagonal = 2.0 * SIGN[i] * (1.0 - inner[i]) * if horizontal { cw } else { ch };
        let d_distance = if horizontal { dx } else { dy };
        let d_penalty = (d_distance * diagonal - distance * d_diagonal) / (diagonal * diagonal);
        let d_atan = SIGN[i] * if horizontal { h } else { -w } / (w * w + h * h);
        let d_v = 8.0 / (PI * PI) * angle * d_atan;
        *g = d_iou - d_penalty - alpha * d_v;
    }
    (iou - distance / diagonal - alpha * v, gradient)
}

/// CIoU and its alpha, written straight from the paper, for finite differences: with `alpha` given it is a constant.
#[cfg(test)]
pub(super) fn paper(p: Corners, t: Corners, alpha: Option<f64>) -> (f64, f64) {
    let (w, h, tw, th) = (p[2] - p[0], p[3] - p[1] + EPS, t[2] - t[0], t[3] - t[1] + EPS);
    let inter = (p[2].min(t[2]) - p[0].max(t[0])).max(0.0) * (p[3].min(t[3]) - p[1].max(t[1])).max(0.0);
    let iou = inter / (w * h + tw * th - inter + EPS);
    let c = (p[2].max(t[2]) - p[0].min(t[0])).powi(2) + (p[3].max(t[3]) - p[1].min(t[1])).powi(2) + EPS;
    let d = ((p[0] + p[2] - t[0] - t[2]).powi(2) + (p[1] + p[3] - t[1] - t[3]).powi(2)) / 4.0;
    let v = 4.0 / (PI * PI) * ((tw / th).atan() - (w / h).atan()).powi(2);
    let alpha = alpha.unwrap_or(v / (v - iou + 1.0 + EPS));
    (iou - d / c - alpha * v, alpha)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAIRS: [(Corners, Corners); 6] = [
        ([0.0, 0.0, 4.0, 2.0], [1.0, 0.5, 3.5, 5.0]),  // crossing
        ([1.5, 1.0, 2.5, 2.0], [1.0, 0.5, 3.5, 5.0]),  // inside
        ([0.0, 0.0, 9.0, 8.0], [1.0, 0.5, 3.5, 5.0]),  // around
        ([5.0, 6.0, 7.0, 6.5], [1.0, 0.5, 3.5, 5.0]),  // apart
        ([3.0, -2.0, 3.4, 9.0], [1.0, 0.5, 3.5, 5.0]), // thin
        ([1.2, 6.0, 3.0, 7.0], [1.0, 0.5, 3.5, 5.0]),  // below: overlapping columns only
    ];

    #[test]
    fn gradient_equals_finite_differences() {
        for (p, t) in PAIRS {
            let (value, gradient) = ciou(p, t);
            let (want, alpha) = paper(p, t, None);
            assert!((value - want).abs() < 1e-12, "{p:?} {value} {want}");
            for i in 0..4 {
                let step = 1e-5;
                let (mut up, mut down) = (p, p);
                up[i] += step;
                down[i] -= step;
                let slope = (paper(up, t, Some(alpha)).0 - paper(down, t, Some(alpha)).0) / (2.0 * step);
                assert!((gradient[i] - slope).abs() < 1e-7, "{p:?} corner {i}: {} {slope}", gradient[i]);
            }
        }
    }

    #[test]
    fn equal_boxes_give_one_and_distance_is_punished() {
        let b = [1.0, 2.0, 5.0, 4.0];
        assert!((ciou(b, b).0 - 1.0).abs() < 1e-6);
        // Apart by (10, 0): IoU 0, equal shape, distance^2 100 over diagonal^2 14^2 + 2^2.
        let far = [11.0, 2.0, 15.0, 4.0];
        assert!((ciou(far, b).0 + 100.0 / 200.0).abs() < 1e-6);
    }

    #[test]
    fn an_empty_prediction_stays_finite() {
        let (value, gradient) = ciou([2.0, 2.0, 2.0, 2.0], [1.0, 0.5, 3.5, 5.0]);
        assert!(value.is_finite() && gradient.iter().all(|g| g.is_finite()), "{value} {gradient:?}");
    }
}
