//! The anchors that a target may take: where they are, the boxes they predict and how these overlap.

use std::f32::consts::PI;
use std::ops::Range;

use super::{Candidate, Grid, ImageMaps, TalConfig, Truth};
use crate::boxes::Xyxy;
use crate::train::loss::math;

/// Sides below this many pixels count as this long when the test is whether a box holds an anchor's centre.
const SMALLEST_SIDE: f32 = 16.0;
/// How far inside, in pixels, a centre has to be.
const INSIDE: f32 = 1e-9;
/// Keeps denominators away from zero, in square pixels.
const EPS: f32 = 1e-7;

/// Predicted boxes in pixels, decoded on demand: most anchors lie in no target.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    done: Vec<bool>,
    x1: Vec<f32>,
    y1: Vec<f32>,
    x2: Vec<f32>,
    y2: Vec<f32>,
    /// Arc tangent of width over height.
    angle: Vec<f32>,
    /// Probabilities of the bins of one side.
    bins: Vec<f32>,
    /// Overlaps of one row of cells.
    overlaps: Vec<f32>,
}

/// A target as the overlap needs it.
#[derive(Clone, Copy)]
struct Reference {
    bbox: Xyxy,
    area: f32,
    angle: f32,
}

impl Reference {
    fn new(truth: &Truth) -> Self {
        let (w, h) = (truth.bbox.width(), truth.bbox.height() + EPS);
        Self { bbox: truth.bbox, area: w * h, angle: (w / h).atan() }
    }

    /// CIoU with a predicted box, at least 0.
    #[inline(always)]
    fn overlap(&self, x1: f32, y1: f32, x2: f32, y2: f32, angle: f32) -> f32 {
        let b = &self.bbox;
        let iw = (x2.min(b.x2) - x1.max(b.x1)).max(0.0);
        let ih = (y2.min(b.y2) - y1.max(b.y1)).max(0.0);
        let inter = iw * ih;
        let iou = inter / ((x2 - x1) * (y2 - y1 + EPS) + self.area - inter + EPS);
        let cw = x2.max(b.x2) - x1.min(b.x1);
        let ch = y2.max(b.y2) - y1.min(b.y1);
        let dx = x1 + x2 - b.x1 - b.x2;
        let dy = y1 + y2 - b.y1 - b.y2;
        let distance = (dx * dx + dy * dy) * 0.25 / (cw * cw + ch * ch + EPS);
        let turn = angle - self.angle;
        let v = 4.0 / (PI * PI) * turn * turn;
        let alpha = v / (v - iou + (1.0 + EPS));
        (iou - distance - alpha * v).max(0.0)
    }
}

/// The box within which an anchor's centre has to lie.
fn reach(bbox: &Xyxy) -> Xyxy {
    let (cx, cy) = ((bbox.x1 + bbox.x2) / 2.0, (bbox.y1 + bbox.y2) / 2.0);
    let enlarge = |low: f32, high: f32, centre: f32| {
        if high - low < SMALLEST_SIDE {
            (centre - SMALLEST_SIDE / 2.0, centre + SMALLEST_SIDE / 2.0)
        } else {
            (low, high)
        }
    };
    let (x1, x2) = enlarge(bbox.x1, bbox.x2, cx);
    let (y1, y2) = enlarge(bbox.y1, bbox.y2, cy);
    Xyxy { x1, y1, x2, y2 }
}

fn inside(low: f32, high: f32, at: f32) -> bool {
    at - low > INSIDE && high - at > INSIDE
}

/// First and one past the last of `count` cells whose centres lie between `low` and `high` pixels.
fn span(low: f32, high: f32, stride: f32, count: usize) -> (usize, usize) {
    // One cell more on each side than the division says; the test itself decides.
    let guess = |v: f32, margin: f32| ((v / stride - 0.5).floor() + margin).clamp(0.0, count as f32) as usize;
    let (mut from, mut to) = (guess(low, -1.0), guess(high, 2.0));
    while from < to && !inside(low, high, (from as f32 + 0.5) * stride) {
        from += 1;
    }
    while to > from && !inside(low, high, (to as f32 - 0.5) * stride) {
        to -= 1;
    }
    (from, to)
}

fn power(x: f32, exponent: f32) -> f32 {
    if exponent == 6.0 {
        let cube = x * x * x;
        cube * cube
    } else if exponent == 0.5 {
        x.sqrt()
    } else {
        x.powf(exponent)
    }
}

/// Alignment of an anchor whose box overlaps `truth` by `overlap`.
pub(super) fn metric(
    config: &TalConfig,
    grid: &Grid,
    maps: ImageMaps<'_>,
    truth: &Truth,
    anchor: usize,
    overlap: f32,
) -> f32 {
    let (level, cell) = grid.locate(anchor);
    let logit = maps.row(level, cell)[4 * maps.reg_max + truth.class];
    power(math::sigmoid_softplus(logit).0, config.alpha) * power(overlap, config.beta)
}

impl Decoded {
    /// Forgets all boxes; makes room for `anchors`.
    pub fn reset(&mut self, anchors: usize) {
        self.done.clear();
        self.done.resize(anchors, false);
        for v in [&mut self.x1, &mut self.y1, &mut self.x2, &mut self.y2, &mut self.angle] {
            v.resize(anchors, 0.0);
        }
    }

    /// Collects the at most `topk` anchors of largest positive alignment with `truth`, best first.
    pub(super) fn search(
        &mut self,
        truth: &Truth,
        config: &TalConfig,
        grid: &Grid,
        maps: ImageMaps<'_>,
        best: &mut Vec<Candidate>,
    ) {
        let reference = Reference::new(truth);
        let reach = reach(&truth.bbox);
        for (index, level) in grid.levels().iter().enumerate() {
            let stride = level.stride as f32;
            let (x_from, x_to) = span(reach.x1, reach.x2, stride, level.w);
            let (y_from, y_to) = span(reach.y1, reach.y2, stride, level.h);
            for y in y_from..y_to {
                let (from, to) = (y * level.w + x_from, y * level.w + x_to);
                self.decode(grid, maps, index, from..to);
                self.row_overlaps(&reference, level.first + from..level.first + to);
                for (i, &overlap) in self.overlaps.iter().enumerate() {
                    // The score is at most 1, so the overlap alone can rule an anchor out.
                    let bound = power(overlap, config.beta);
                    let full = best.len() == config.topk;
                    if bound <= 0.0 || (full && best.last().is_none_or(|worst| bound <= worst.metric)) {
                        continue;
                    }
                    let anchor = level.first + from + i;
                    let metric = metric(config, grid, maps, truth, anchor, overlap);
                    insert(best, config.topk, Candidate { anchor, metric, overlap });
                }
            }
        }
    }

    /// CIoU of `truth` with the box of `anchor`, at least 0; 0 where the target does not hold the anchor's centre.
    /// The anchor must have been decoded, as every anchor that a target took has.
    pub(super) fn overlap(&self, truth: &Truth, anchor: usize, grid: &Grid) -> f32 {
        debug_assert!(self.done[anchor]);
        let (level, cell) = grid.locate(anchor);
        let (cx, cy) = grid.centre(level, cell);
        let stride = grid.levels()[level].stride as f32;
        let reach = reach(&truth.bbox);
        if !inside(reach.x1, reach.x2, cx * stride) || !inside(reach.y1, reach.y2, cy * stride) {
            return 0.0;
        }
        Reference::new(truth).overlap(
            self.x1[anchor],
            self.y1[anchor],
            self.x2[anchor],
            self.y2[anchor],
            self.angle[anchor],
        )
    }

    /// Decodes the cells of one level that are not decoded yet.
    fn decode(&mut self, grid: &Grid, maps: ImageMaps<'_>, level: usize, cells: Range<usize>) {
        self.bins.resize(maps.reg_max, 0.0);
        pulp::Arch::new().dispatch(Decode { boxes: self, grid, maps, level, cells });
    }

    fn row_overlaps(&mut self, reference: &Reference, anchors: Range<usize>) {
        self.overlaps.resize(anchors.len(), 0.0);
        let (x1, y1) = (&self.x1[anchors.clone()], &self.y1[anchors.clone()]);
        let (x2, y2) = (&self.x2[anchors.clone()], &self.y2[anchors.clone()]);
        let angle = &self.angle[anchors];
        for ((((out, x1), y1), (x2, y2)), angle) in
            self.overlaps.iter_mut().zip(x1).zip(y1).zip(x2.iter().zip(y2)).zip(angle)
        {
            *out = reference.overlap(*x1, *y1, *x2, *y2, *angle);
        }
    }
}

/// The work of [`Decoded::decode`]; compiled once for each instruction set.
struct Decode<'a> {
    boxes: &'a mut Decoded,
    grid: &'a Grid,
    maps: ImageMaps<'a>,
    level: usize,
    cells: Range<usize>,
}

impl pulp::NullaryFnOnce for Decode<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self { boxes, grid, maps, level, cells } = self;
        let (first, stride) = (grid.levels()[level].first, grid.levels()[level].stride as f32);
        for cell in cells {
            let anchor = first + cell;
            if std::mem::replace(&mut boxes.done[anchor], true) {
                continue;
            }
            let row = maps.row(level, cell);
            let mut side = [0.0; 4];
            for (side, logits) in side.iter_mut().zip(row.chunks_exact(maps.reg_max)) {
                *side = math::mean_bin(logits, &mut boxes.bins);
            }
            let (cx, cy) = grid.centre(level, cell);
            let [l, t, r, b] = side;
            let (x1, y1, x2, y2) = (cx - l, cy - t, cx + r, cy + b);
            boxes.x1[anchor] = x1 * stride;
            boxes.y1[anchor] = y1 * stride;
            boxes.x2[anchor] = x2 * stride;
            boxes.y2[anchor] = y2 * stride;
            boxes.angle[anchor] = ((x2 - x1) * stride / ((y2 - y1) * stride + EPS)).atan();
        }
    }
}

/// Keeps `best` sorted by falling metric and at most `topk` long; of equal metrics the earlier stays first.
fn insert(best: &mut Vec<Candidate>, topk: usize, candidate: Candidate) {
    let at = best.partition_point(|c| c.metric >= candidate.metric);
    // A metric that is not a number, from maps that are not finite, fails this test; the loss reports those maps.
    if at < topk && candidate.metric > 0.0 {
        best.truncate(topk - 1);
        best.insert(at, candidate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::loss::ciou::ciou;

    #[test]
    fn row_overlap_equals_the_loss_overlap() {
        let target = Xyxy { x1: 10.0, y1: 20.0, x2: 50.0, y2: 35.0 };
        let reference = Reference::new(&Truth { class: 0, bbox: target });
        for (x1, y1, x2, y2) in [(12.0, 18.0, 40.0, 33.0), (0.0, 0.0, 60.0, 60.0), (20.0, 21.0, 22.0, 34.0)] {
            let angle = f32::atan((x2 - x1) / (y2 - y1));
            let got = reference.overlap(x1, y1, x2, y2, angle);
            let p = [f64::from(x1), f64::from(y1), f64::from(x2), f64::from(y2)];
            let want = ciou(p, [10.0, 20.0, 50.0, 35.0]).0.max(0.0);
            assert!((f64::from(got) - want).abs() < 1e-5, "{got} {want}");
        }
    }

    #[test]
    fn span_is_the_set_of_centres_inside() {
        for stride in [8.0f32, 32.0] {
            for (low, high) in
                [(4.0, 12.0), (3.9, 12.1), (-50.0, 500.0), (60.0, 61.0), (70.0, 300.0), (-9.0, -1.0)]
            {
                let (from, to) = span(low, high, stride, 10);
                let want: Vec<usize> =
                    (0..10).filter(|&i| inside(low, high, (i as f32 + 0.5) * stride)).collect();
                assert_eq!((from..to).collect::<Vec<_>>(), want, "{low} {high} stride {stride}");
            }
        }
    }

    #[test]
    fn small_sides_reach_sixteen_pixels() {
        // Measured on the reference: a square of 2 to 16 px at (32, 32) holds the four centres of stride 8 around it,
        // one of 17 px also the four of stride 16.
        let held = |side: f32, stride: f32| {
            let b = Xyxy {
                x1: 32.0 - side / 2.0,
                y1: 32.0 - side / 2.0,
                x2: 32.0 + side / 2.0,
                y2: 32.0 + side / 2.0,
            };
            let r = reach(&b);
            let (from, to) = span(r.x1, r.x2, stride, 8);
            (to - from) * (to - from)
        };
        for side in [2.0, 7.9, 8.1, 12.0, 16.0] {
            assert_eq!((held(side, 8.0), held(side, 16.0)), (4, 0), "{side}");
        }
        assert_eq!((held(17.0, 8.0), held(17.0, 16.0)), (4, 4));
    }

    #[test]
    fn insertion_keeps_the_best_and_the_earlier_of_equals() {
        let mut best = Vec::new();
        for (anchor, metric) in [(0, 0.2), (1, 0.5), (2, 0.2), (3, 0.9), (4, 0.5), (5, 0.0), (6, f32::NAN)] {
            insert(&mut best, 3, Candidate { anchor, metric, overlap: 1.0 });
        }
        assert_eq!(best.iter().map(|c| c.anchor).collect::<Vec<_>>(), [3, 1, 4]);
    }
}
