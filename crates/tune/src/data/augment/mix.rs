//! Two samples in one image: mix-up blends them, cut-mix pastes an area of the second into the first.
//!
//! Zhang et al., "mixup: Beyond empirical risk minimization" (2018); Yun et al., "CutMix" (2019).

use crate::boxes::Xyxy;
use crate::data::rng::Draw;

use super::truth::{Truth, clip};

/// The shape of mix-up's Beta distribution: nearly always close to one half.
const MIXUP_BETA: f64 = 32.0;
/// The shape of cut-mix's Beta distribution: uniform.
const CUTMIX_BETA: f64 = 1.0;
/// A box of the second sample comes along if at least this share of it lies in the area.
const CUTMIX_SHARE: f32 = 0.1;

/// The number that makes one blend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MixUpParams {
    /// The first sample's share, 0 to 1.
    pub ratio: f64,
}

impl MixUpParams {
    /// Draws the share from Beta(32, 32).
    pub fn draw(draw: &mut Draw) -> MixUpParams {
        MixUpParams { ratio: draw.beta(MIXUP_BETA) }
    }

    /// Blends `second` into `first` (fractions of a grey level are dropped) and adds its boxes.
    pub fn apply(&self, first: &mut [u8], truths: &mut Vec<Truth>, second: &[u8], second_truths: &[Truth]) {
        self.blend(first, second);
        truths.extend_from_slice(second_truths);
    }

    /// The first sample's share in 2^-16.
    pub(crate) fn share(&self) -> u32 {
        (self.ratio.clamp(0.0, 1.0) * 65536.0).round() as u32
    }

    /// The pixels' part of [`MixUpParams::apply`].
    pub(crate) fn blend(&self, first: &mut [u8], second: &[u8]) {
        // Sums in units of 2^-16 grey level: at most 255 * 2^16, exact in 32 bits.
        let share = self.share();
        for (a, &b) in first.iter_mut().zip(second) {
            *a = ((u32::from(*a) * share + u32::from(b) * (65536 - share)) >> 16) as u8;
        }
    }
}

/// One area that might be pasted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CutArea {
    /// The share of the image that stays; the area's sides are sqrt(1 - this) of the image's.
    pub keep: f64,
    /// The area's centre, fraction of the width.
    pub centre_x: f64,
    /// The area's centre, fraction of the height.
    pub centre_y: f64,
}

impl CutArea {
    /// The area in whole pixels, cut off at the image's edges.
    pub fn pixels(&self, width: usize, height: usize) -> Xyxy {
        let ratio = (1.0 - self.keep).max(0.0).sqrt();
        let axis = |side: usize, centre: f64| {
            let length = (side as f64 * ratio).floor();
            let start = (side as f64 * centre).floor() - (length / 2.0).floor();
            let edge = |v: f64| v.clamp(0.0, side as f64) as f32;
            (edge(start), edge(start + length))
        };
        let ((x1, x2), (y1, y2)) = (axis(width, self.centre_x), axis(height, self.centre_y));
        Xyxy { x1, y1, x2, y2 }
    }
}

/// The numbers that make one cut-mix.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CutMixParams {
    /// Candidates; those that touch a box of the first sample are out.
    pub areas: [CutArea; 3],
    /// Which of the remaining candidates, 0 to below 1.
    pub pick: f64,
}

impl CutMixParams {
    /// Draws three candidate areas and the choice among them.
    pub fn draw(draw: &mut Draw) -> CutMixParams {
        let mut area = || CutArea {
            keep: draw.beta(CUTMIX_BETA),
            centre_x: draw.uniform(0.0, 1.0),
            centre_y: draw.uniform(0.0, 1.0),
        };
        let areas = [area(), area(), area()];
        CutMixParams { areas, pick: draw.uniform(0.0, 1.0) }
    }

    /// Pastes an area of `second` into `first` with the boxes that come along. Nothing changes where every candidate
    /// would cover a box of the first sample, or the area shows no box of the second.
    pub fn apply(
        &self,
        width: usize,
        first: &mut [u8],
        truths: &mut Vec<Truth>,
        second: &[u8],
        second_truths: &[Truth],
    ) {
        let height = first.len() / (width * 3);
        if let Some((area, incoming)) = self.choose((width, height), truths, second_truths) {
            paste(width, first, second, &area);
            truths.extend(incoming);
        }
    }

    /// The area to paste, in whole pixels, and the boxes that come along; none where nothing is pasted.
    pub(crate) fn choose(
        &self,
        (width, height): (usize, usize),
        truths: &[Truth],
        second_truths: &[Truth],
    ) -> Option<(Xyxy, Vec<Truth>)> {
        let free: Vec<Xyxy> = self
            .areas
            .iter()
            .map(|area| area.pixels(width, height))
            .filter(|area| area.area() > 0.0)
            .filter(|area| truths.iter().all(|truth| overlap(area, &truth.bbox).area() <= 0.0))
            .collect();
        if free.is_empty() {
            return None;
        }
        let area = free[((self.pick * free.len() as f64) as usize).min(free.len() - 1)];
        let incoming: Vec<Truth> = second_truths
            .iter()
            .filter_map(|truth| {
                let bbox = overlap(&area, &truth.bbox);
                let share = bbox.area() / truth.bbox.area();
                (share >= CUTMIX_SHARE).then_some(Truth { class: truth.class, bbox })
            })
            .collect();
        (!incoming.is_empty()).then_some((area, incoming))
    }
}

/// Copies an area of `second` to the same place of `first`.
pub(crate) fn paste(width: usize, first: &mut [u8], second: &[u8], area: &Xyxy) {
    let (left, right) = (area.x1 as usize * 3, area.x2 as usize * 3);
    for y in area.y1 as usize..area.y2 as usize {
        let row = y * width * 3;
        first[row + left..row + right].copy_from_slice(&second[row + left..row + right]);
    }
}

/// What both boxes share; of area 0 where they share nothing.
fn overlap(area: &Xyxy, bbox: &Xyxy) -> Xyxy {
    let shifted =
        Xyxy { x1: bbox.x1 - area.x1, y1: bbox.y1 - area.y1, x2: bbox.x2 - area.x1, y2: bbox.y2 - area.y1 };
    let inner = clip(&shifted, area.width(), area.height());
    Xyxy { x1: inner.x1 + area.x1, y1: inner.y1 + area.y1, x2: inner.x2 + area.x1, y2: inner.y2 + area.y1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth(class: u32, x1: f32, y1: f32, x2: f32, y2: f32) -> Truth {
        Truth { class, bbox: Xyxy { x1, y1, x2, y2 } }
    }

    #[test]
    fn mixup_weighs_pixels_and_keeps_all_boxes() {
        let mut first = vec![100, 0, 255];
        let mut truths = vec![truth(0, 0.0, 0.0, 1.0, 1.0)];
        let second = [truth(1, 0.0, 0.0, 1.0, 1.0)];
        MixUpParams { ratio: 0.25 }.apply(&mut first, &mut truths, &[200, 10, 255], &second);
        assert_eq!(first, [175, 7, 255]);
        assert_eq!(truths.iter().map(|t| t.class).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn cutmix_spares_boxes_and_brings_those_that_show() {
        let size = 10;
        let dark = vec![0u8; size * size * 3];
        let bright = vec![9u8; size * size * 3];
        // A quarter of the image: 5 x 5 pixels around the given centres.
        let area = |centre_x, centre_y| CutArea { keep: 0.75, centre_x, centre_y };
        let params = CutMixParams { areas: [area(0.2, 0.2), area(0.7, 0.7), area(0.2, 0.2)], pick: 0.99 };
        let mut image = dark.clone();
        let mut truths = vec![truth(0, 0.0, 0.0, 3.0, 3.0)];
        let second =
            [truth(1, 6.0, 6.0, 20.0, 7.0), truth(2, 0.0, 9.0, 6.0, 9.5), truth(3, 4.0, 4.0, 10.0, 10.0)];
        params.apply(size, &mut image, &mut truths, &bright, &second);
        assert_eq!(area(0.7, 0.7).pixels(size, size), Xyxy { x1: 5.0, y1: 5.0, x2: 10.0, y2: 10.0 });
        assert_eq!(image.iter().filter(|&&v| v == 9).count(), 25 * 3);
        assert_eq!(image[(5 * size + 5) * 3], 9);
        // The second box lies below rows 5..10 with a sixth of its width inside; the third is cut to the area.
        let expected = [
            truth(0, 0.0, 0.0, 3.0, 3.0),
            truth(1, 6.0, 6.0, 10.0, 7.0),
            truth(2, 5.0, 9.0, 6.0, 9.5),
            truth(3, 5.0, 5.0, 10.0, 10.0),
        ];
        assert_eq!(truths, expected);

        let mut image = dark.clone();
        let mut everywhere = vec![truth(0, 0.0, 0.0, 10.0, 10.0)];
        params.apply(size, &mut image, &mut everywhere, &bright, &second);
        assert_eq!((image, everywhere.len()), (dark.clone(), 1));

        let mut image = dark.clone();
        let mut none = Vec::new();
        let params = CutMixParams { pick: 0.5, ..params };
        params.apply(size, &mut image, &mut none, &bright, &[truth(1, 0.0, 0.0, 5.2, 5.2)]);
        assert!(none.is_empty() && image == dark, "a box of which only a 676th shows must not come along");
    }
}
