//! Raw head maps to boxes: distribution focal loss expectation, distances to corners, sigmoid scores.
//!
//! Each of a box's four sides is a distribution over `reg_max` bins of its distance from the anchor's
//! centre, in strides (Li et al. 2020, "Generalized Focal Loss", eq. 6: the distance is the expectation).

use std::cmp::Ordering;
use std::ops::Range;

use rayon::prelude::*;

use super::EvaluateError;
use crate::boxes::{Detection, Xyxy};

/// The raw output of one head level for a whole batch.
#[derive(Clone, Debug)]
pub struct Level<'a> {
    /// `[n, height, width, 4 * reg_max + classes.len()]`: the logits of left, top, right and bottom, then of the classes.
    pub values: &'a [f32],
    /// Rows of cells.
    pub height: usize,
    /// Columns of cells.
    pub width: usize,
    /// Side of a cell in pixels of the network's input.
    pub stride: f32,
    /// Which of all classes the logits are of.
    pub classes: Range<usize>,
}

/// The raw outputs of all head levels, their lengths checked.
#[derive(Clone, Debug)]
pub struct HeadMaps<'a> {
    batch: usize,
    classes: usize,
    reg_max: usize,
    levels: Vec<Level<'a>>,
}

/// A class score above the threshold, its box not yet decoded.
#[derive(Clone, Copy)]
struct Pick {
    score: f32,
    anchor: u32,
    class: u32,
}

impl Pick {
    /// Best score first; ties by anchor, then class, so that the order never depends on the sort.
    fn order(a: &Pick, b: &Pick) -> Ordering {
        b.score.total_cmp(&a.score).then(a.anchor.cmp(&b.anchor)).then(a.class.cmp(&b.class))
    }
}

impl<'a> HeadMaps<'a> {
    /// Maps of `batch` images. `reg_max` 1 means distances without bins. The levels of a head come finest first.
    ///
    /// # Errors
    /// If a map's length does not fit its shape, or there are no classes, bins or levels.
    pub fn new(batch: usize, reg_max: usize, levels: Vec<Level<'a>>) -> Result<HeadMaps<'a>, EvaluateError> {
        let fewest = levels.iter().map(|level| level.classes.len()).min().unwrap_or(0);
        for (count, what) in [(levels.len(), "level"), (fewest, "class"), (reg_max, "bin")] {
            if count == 0 {
                return Err(EvaluateError::EmptyHead { what });
            }
        }
        let classes = levels.iter().map(|level| level.classes.end).max().unwrap_or(0);
        for (index, level) in levels.iter().enumerate() {
            let channels = 4 * reg_max + level.classes.len();
            let expected = batch * level.height * level.width * channels;
            if level.values.len() != expected {
                return Err(EvaluateError::MapLength {
                    level: index,
                    found: level.values.len(),
                    expected,
                    batch,
                    height: level.height,
                    width: level.width,
                    channels,
                });
            }
        }
        Ok(HeadMaps { batch, classes, reg_max, levels })
    }

    /// Images in the batch.
    pub fn batch(&self) -> usize {
        self.batch
    }

    /// Cells over all levels.
    pub fn anchors(&self) -> usize {
        self.levels.iter().map(|l| l.height * l.width).sum()
    }

    fn channels(&self, level: &Level<'a>) -> usize {
        4 * self.reg_max + level.classes.len()
    }

    /// One image's part of a level: `[height * width, channels]`.
    fn image_of(&self, level: &Level<'a>, image: usize) -> &'a [f32] {
        let len = level.height * level.width * self.channels(level);
        &level.values[image * len..(image + 1) * len]
    }

    /// The channels of one anchor, with its level and its cell in it.
    fn anchor(&self, image: usize, anchor: usize) -> (&Level<'a>, usize, &'a [f32]) {
        let mut cell = anchor;
        for level in &self.levels {
            let cells = level.height * level.width;
            if cell < cells {
                let channels = self.channels(level);
                return (level, cell, &self.image_of(level, image)[cell * channels..(cell + 1) * channels]);
            }
            cell -= cells;
        }
        unreachable!("anchor {anchor} of {}", self.anchors())
    }

    fn corners(&self, level: &Level<'a>, cell: usize, logits: &[f32]) -> Xyxy {
        let side = |i: usize| expectation(&logits[i * self.reg_max..(i + 1) * self.reg_max]);
        let cx = (cell % level.width) as f32 + 0.5;
        let cy = (cell / level.width) as f32 + 0.5;
        Xyxy {
            x1: (cx - side(0)) * level.stride,
            y1: (cy - side(1)) * level.stride,
            x2: (cx + side(2)) * level.stride,
            y2: (cy + side(3)) * level.stride,
        }
    }

    /// All anchors of all images as the reference's exported models put them out: `[n, 4 + classes, anchors]`,
    /// rows centre x, centre y, width, height in pixels of the network's input, then the scores (0 to 1; of classes that an
    /// anchor's level does not tell, 0).
    pub fn dense(&self) -> Vec<f32> {
        let anchors = self.anchors();
        let mut out = vec![0.0; self.batch * (4 + self.classes) * anchors];
        if out.is_empty() {
            return out;
        }
        out.par_chunks_mut((4 + self.classes) * anchors).enumerate().for_each(|(image, out)| {
            for anchor in 0..anchors {
                let (level, cell, values) = self.anchor(image, anchor);
                let b = self.corners(level, cell, values);
                let rows = [(b.x1 + b.x2) / 2.0, (b.y1 + b.y2) / 2.0, b.width(), b.height()];
                for (row, value) in rows.into_iter().enumerate() {
                    out[row * anchors + anchor] = value;
                }
                for (class, logit) in values[4 * self.reg_max..].iter().enumerate() {
                    out[(4 + level.classes.start + class) * anchors + anchor] = sigmoid(*logit);
                }
            }
        });
        out
    }

    /// The boxes of one image that score above `conf` (0 to 1), best first, at most `limit` of them, in pixels of the
    /// network's input. `multi_label`: one for each class above `conf`; else only an anchor's best class.
    /// Boxes are decoded only where a score passes.
    ///
    /// # Errors
    /// If a class logit is NaN or a box that scores above `conf` is not finite.
    pub fn candidates(
        &self,
        image: usize,
        conf: f32,
        multi_label: bool,
        limit: usize,
    ) -> Result<Vec<Detection>, EvaluateError> {
        // Compared before the sigmoid: of 8,400 x 80 logits only a few need one. The slack covers its rounding.
        let least = (f64::from(conf) / (1.0 - f64::from(conf))).ln() as f32 - 1e-3;
        let mut picks = Vec::new();
        let mut first = 0;
        for level in &self.levels {
            for (cell, values) in self.image_of(level, image).chunks_exact(self.channels(level)).enumerate() {
                let anchor = first + cell;
                let mut best = Pick { score: conf, anchor: anchor as u32, class: u32::MAX };
                for (class, &logit) in level.classes.clone().zip(&values[4 * self.reg_max..]) {
                    if logit < least {
                        continue;
                    }
                    // NaN is not less than anything, so it comes here.
                    if logit.is_nan() {
                        return Err(EvaluateError::NonFiniteOutput { image, anchor });
                    }
                    let pick = Pick { score: sigmoid(logit), anchor: anchor as u32, class: class as u32 };
                    if multi_label && pick.score > conf {
                        picks.push(pick);
                    } else if pick.score > best.score {
                        best = pick;
                    }
                }
                if best.class != u32::MAX {
                    picks.push(best);
                }
            }
            first += level.height * level.width;
        }
        if picks.len() > limit {
            picks.select_nth_unstable_by(limit, Pick::order);
            picks.truncate(limit);
        }
        picks.sort_unstable_by(Pick::order);
        picks
            .into_iter()
            .map(|pick| {
                let anchor = pick.anchor as usize;
                let (level, cell, values) = self.anchor(image, anchor);
                let bbox = self.corners(level, cell, values);
                if [bbox.x1, bbox.y1, bbox.x2, bbox.y2].iter().all(|v| v.is_finite()) {
                    Ok(Detection { class: pick.class, score: pick.score, bbox })
                } else {
                    Err(EvaluateError::NonFiniteOutput { image, anchor })
                }
            })
            .collect()
    }
}

/// The expectation of softmax(logits) over bins 0, 1, 2…; a single logit is the distance itself.
fn expectation(logits: &[f32]) -> f32 {
    if let [distance] = logits {
        return *distance;
    }
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut weighted) = (0.0, 0.0);
    for (bin, logit) in logits.iter().enumerate() {
        let e = (logit - max).exp();
        sum += e;
        weighted += e * bin as f32;
    }
    weighted / sum
}

/// 1 / (1 + e^-x).
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

/// Undoes a letterbox in place: pixels of the network's input to pixels of the original image, clipped to it.
/// The letterbox scaled the image by `gain` and then put it `pad` (left, top) pixels from the corner;
/// `size` is the original's width and height.
pub fn to_original(detections: &mut [Detection], gain: f32, pad: (f32, f32), size: (u32, u32)) {
    let (width, height) = (size.0 as f32, size.1 as f32);
    for Detection { bbox, .. } in detections {
        bbox.x1 = ((bbox.x1 - pad.0) / gain).clamp(0.0, width);
        bbox.x2 = ((bbox.x2 - pad.0) / gain).clamp(0.0, width);
        bbox.y1 = ((bbox.y1 - pad.1) / gain).clamp(0.0, height);
        bbox.y2 = ((bbox.y2 - pad.1) / gain).clamp(0.0, height);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BINS: usize = 4;

    /// One anchor: each side's logits favour one bin wholly, then the class logits.
    fn anchor(sides: [usize; 4], classes: &[f32]) -> Vec<f32> {
        let mut out = Vec::new();
        for bin in sides {
            out.extend((0..BINS).map(|b| if b == bin { 100.0 } else { 0.0 }));
        }
        out.extend(classes);
        out
    }

    /// Two levels: 1 x 2 cells of stride 8 and one cell of stride 16; two classes.
    fn two_levels(fine: &[f32], coarse: &[f32]) -> (Vec<f32>, Vec<f32>) {
        (fine.to_vec(), coarse.to_vec())
    }

    fn maps<'a>(fine: &'a [f32], coarse: &'a [f32]) -> HeadMaps<'a> {
        HeadMaps::new(
            1,
            BINS,
            vec![
                Level { values: fine, height: 1, width: 2, stride: 8.0, classes: 0..2 },
                Level { values: coarse, height: 1, width: 1, stride: 16.0, classes: 0..2 },
            ],
        )
        .unwrap()
    }

    #[test]
    fn distances_become_corners_around_the_cell_centre() {
        let fine = [anchor([0, 0, 0, 0], &[-9.0, -9.0]), anchor([1, 0, 2, 3], &[2.0, -9.0])].concat();
        let (fine, coarse) = two_levels(&fine, &anchor([1, 1, 1, 1], &[-9.0, 0.0]));
        let found = maps(&fine, &coarse).candidates(0, 0.25, true, 100).unwrap();
        assert_eq!(found.len(), 2);
        // Cell 1 of stride 8 has its centre at (12, 4).
        assert_eq!(found[0].bbox, Xyxy { x1: 4.0, y1: 4.0, x2: 28.0, y2: 28.0 });
        assert_eq!((found[0].class, found[0].score), (0, 1.0 / (1.0 + (-2.0f32).exp())));
        assert_eq!(found[1].bbox, Xyxy { x1: -8.0, y1: -8.0, x2: 24.0, y2: 24.0 });
        assert_eq!((found[1].class, found[1].score), (1, 0.5));
    }

    #[test]
    fn the_expectation_weighs_the_bins() {
        // softmax(0, ln 3) = 1/4, 3/4.
        assert!((expectation(&[0.0, 3.0f32.ln()]) - 0.75).abs() < 1e-6);
        assert_eq!(expectation(&[2.5]), 2.5);
        assert!((expectation(&[1000.0, 1000.0, 1000.0]) - 1.0).abs() < 1e-6);
    }

    #[test]
    fn the_dense_output_has_the_references_order() {
        let fine = [anchor([0, 0, 0, 0], &[-9.0, 9.0]), anchor([1, 0, 2, 3], &[2.0, -9.0])].concat();
        let (fine, coarse) = two_levels(&fine, &anchor([1, 1, 1, 1], &[-9.0, 0.0]));
        let dense = maps(&fine, &coarse).dense();
        assert_eq!(dense.len(), 6 * 3);
        let row = |r: usize| &dense[r * 3..r * 3 + 3];
        assert_eq!(row(0), [4.0, 16.0, 8.0]);
        assert_eq!(row(1), [4.0, 16.0, 8.0]);
        assert_eq!(row(2), [0.0, 24.0, 32.0]);
        assert_eq!(row(3), [0.0, 24.0, 32.0]);
        assert_eq!(row(4), [sigmoid(-9.0), sigmoid(2.0), sigmoid(-9.0)]);
        assert_eq!(row(5), [sigmoid(9.0), sigmoid(-9.0), 0.5]);
    }

    #[test]
    fn one_label_or_several() {
        let fine = [anchor([1; 4], &[1.0, 2.0]), anchor([1; 4], &[-9.0, -9.0])].concat();
        let coarse = anchor([1; 4], &[0.5, 0.5]);
        let maps = maps(&fine, &coarse);
        let classes = |multi| {
            let found = maps.candidates(0, 0.25, multi, 100).unwrap();
            found.iter().map(|d| d.class).collect::<Vec<_>>()
        };
        assert_eq!(classes(true), [1, 0, 0, 1]);
        assert_eq!(classes(false), [1, 0]);
        assert_eq!(maps.candidates(0, 0.25, true, 1).unwrap().len(), 1);
        assert_eq!(maps.candidates(0, 0.5f32, true, 9).unwrap().len(), 4);
        assert_eq!(maps.candidates(0, sigmoid(2.0), true, 9).unwrap().len(), 0);
    }

    #[test]
    fn a_branch_tells_its_own_classes_and_changes_no_other_box() {
        let fine = [anchor([1; 4], &[1.0, 2.0]), anchor([1; 4], &[-9.0, -9.0])].concat();
        let coarse = anchor([1; 4], &[0.5, 0.5]);
        let branch = anchor([2; 4], &[1.5]);
        let alone = maps(&fine, &coarse);
        let more = Level { values: &branch, height: 1, width: 1, stride: 32.0, classes: 2..3 };
        let levels = alone.levels.iter().cloned().chain([more]).collect();
        let both = HeadMaps::new(1, BINS, levels).unwrap();
        for multi in [true, false] {
            let (own, mut all) =
                (alone.candidates(0, 0.25, multi, 9), both.candidates(0, 0.25, multi, 9).unwrap());
            let added: Vec<_> = all.extract_if(.., |found| found.class == 2).collect();
            assert_eq!(all, own.unwrap());
            assert_eq!((added.len(), added[0].score), (1, sigmoid(1.5)));
            assert_eq!(added[0].bbox, Xyxy { x1: -48.0, y1: -48.0, x2: 80.0, y2: 80.0 });
        }
        // Where a level says nothing of a class, its score is 0.
        let dense = both.dense();
        assert_eq!((both.anchors(), dense.len()), (4, 7 * 4));
        assert_eq!(dense[4 * 4..5 * 4][3], 0.0);
        assert_eq!(dense[6 * 4..], [0.0, 0.0, 0.0, sigmoid(1.5)]);
    }

    #[test]
    fn nan_is_an_error_and_not_a_missing_box() {
        let coarse = anchor([1; 4], &[-9.0, -9.0]);
        let fine = [anchor([1; 4], &[f32::NAN, -9.0]), anchor([1; 4], &[-9.0, -9.0])].concat();
        let error = maps(&fine, &coarse).candidates(0, 0.25, false, 9).unwrap_err();
        assert!(matches!(error, EvaluateError::NonFiniteOutput { image: 0, anchor: 0 }), "{error}");
        let mut fine = [anchor([1; 4], &[-9.0, -9.0]), anchor([1; 4], &[5.0, -9.0])].concat();
        fine[4 * BINS + 2] = f32::NAN;
        let error = maps(&fine, &coarse).candidates(0, 0.25, true, 9).unwrap_err();
        assert!(matches!(error, EvaluateError::NonFiniteOutput { image: 0, anchor: 1 }), "{error}");
    }

    #[test]
    fn a_map_of_the_wrong_length_is_refused() {
        let level = Level { values: &[0.0; 17], height: 1, width: 1, stride: 8.0, classes: 0..2 };
        let error = HeadMaps::new(1, BINS, vec![level]).unwrap_err();
        assert!(error.to_string().contains("head level 0: 17 values"), "{error}");
    }

    #[test]
    fn the_letterbox_is_undone_and_clipped() {
        let bbox = Xyxy { x1: 10.0, y1: 30.0, x2: 210.0, y2: 70.0 };
        let mut found = [Detection { class: 0, score: 1.0, bbox }];
        to_original(&mut found, 0.5, (0.0, 20.0), (400, 200));
        assert_eq!(found[0].bbox, Xyxy { x1: 20.0, y1: 20.0, x2: 400.0, y2: 100.0 });
    }
}
