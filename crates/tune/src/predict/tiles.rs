//! Prediction on pictures larger than the network's view: in overlapping tiles, merged.

use super::{Fit, PredictError, Reduction, View};
use crate::boxes::{Detection, Xyxy};
use crate::data::raster::Rgb8;
use crate::engine::Inference;
use crate::evaluate::{Postprocess, detections};

/// Of two boxes of one class from different tiles, the less confident goes if so much of the smaller lies in the other: a part
/// that a tile's border cut off overlaps its whole by little IoU.
const INSIDE: f32 = 0.7;

/// How a picture is cut.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tiling {
    /// Side of a tile, pixels of the picture.
    pub tile: usize,
    /// Share of a tile that its neighbour sees too, 0 to below 1.
    pub overlap: f64,
    /// Tiles run at a time.
    pub batch: usize,
}

impl Tiling {
    /// Whether a picture is larger than a tile.
    pub fn applies(&self, (width, height): (usize, usize)) -> bool {
        width > self.tile || height > self.tile
    }

    /// Left edges (or top edges) of the tiles along a side: the last one ends where the picture ends.
    fn starts(&self, side: usize) -> Vec<usize> {
        if side <= self.tile {
            return vec![0];
        }
        let step = ((self.tile as f64 * (1.0 - self.overlap)) as usize).max(1);
        let count = (side - self.tile).div_ceil(step);
        (0..=count).map(|i| (i * step).min(side - self.tile)).collect()
    }
}

/// The detections of a large picture, best first.
///
/// # Errors
/// The network.
pub fn tiled(
    network: &mut Inference,
    view: &View,
    imgsz: usize,
    reduction: Reduction,
    rules: &Postprocess,
    tiling: &Tiling,
) -> Result<Vec<Detection>, PredictError> {
    let mut places = Vec::new();
    let (width, height) = view.size();
    for y in tiling.starts(height) {
        places.extend(tiling.starts(width).into_iter().map(|x| (x, y)));
    }
    let mut all: Vec<(usize, Detection)> = Vec::new();
    for (group, chunk) in places.chunks(tiling.batch.max(1)).enumerate() {
        let mut pixels = Vec::new();
        let mut boxes = Vec::new();
        for &(x, y) in chunk {
            let tile = view.crop(x, y, tiling.tile);
            let (letterbox, mut input) = tile.preprocess(imgsz, Fit::Square, reduction);
            pixels.append(&mut input);
            boxes.push(letterbox);
        }
        let pool = network.pool();
        let maps = network.run([chunk.len(), imgsz, imgsz], &pixels)?;
        let head = maps.head()?;
        let found = pool.install(|| detections(&head, rules))?;
        for (i, (found, letterbox)) in found.into_iter().zip(&boxes).enumerate() {
            let (x, y) = (chunk[i].0 as f32, chunk[i].1 as f32);
            all.extend(found.into_iter().map(|mut detection| {
                let b = letterbox.box_to_source(&detection.bbox);
                detection.bbox = Xyxy { x1: b.x1 + x, y1: b.y1 + y, x2: b.x2 + x, y2: b.y2 + y };
                (group * tiling.batch.max(1) + i, detection)
            }));
        }
    }
    Ok(merge(all, rules))
}

pub(super) fn crop(image: &Rgb8, x: usize, y: usize, side: usize) -> Rgb8 {
    let (width, height) = (side.min(image.width - x), side.min(image.height - y));
    let mut data = Vec::with_capacity(width * height * 3);
    for row in y..y + height {
        data.extend_from_slice(&image.row(row)[x * 3..(x + width) * 3]);
    }
    Rgb8 { width, height, data }
}

/// Best first; one for each object, whichever tiles saw it.
fn merge(mut all: Vec<(usize, Detection)>, rules: &Postprocess) -> Vec<Detection> {
    all.sort_by(|a, b| b.1.score.total_cmp(&a.1.score));
    let mut kept: Vec<(usize, Detection)> = Vec::new();
    for (tile, candidate) in all {
        if kept.len() == rules.max_det {
            break;
        }
        let hidden = kept.iter().any(|(from, k)| {
            (rules.agnostic || k.class == candidate.class)
                && (k.bbox.iou(&candidate.bbox) > rules.iou
                    || (*from != tile && inside(&k.bbox, &candidate.bbox) > INSIDE))
        });
        if !hidden {
            kept.push((tile, candidate));
        }
    }
    kept.into_iter().map(|(_, detection)| detection).collect()
}

/// Share of the smaller box that lies in the other.
fn inside(a: &Xyxy, b: &Xyxy) -> f32 {
    let area = |r: &Xyxy| r.width().max(0.0) * r.height().max(0.0);
    let shared = Xyxy { x1: a.x1.max(b.x1), y1: a.y1.max(b.y1), x2: a.x2.min(b.x2), y2: a.y2.min(b.y2) };
    area(&shared) / area(a).min(area(b)).max(f32::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_cover_every_side_to_its_end() {
        let tiling = Tiling { tile: 100, overlap: 0.25, batch: 4 };
        assert_eq!(tiling.starts(80), [0]);
        assert_eq!(tiling.starts(100), [0]);
        assert_eq!(tiling.starts(101), [0, 1]);
        assert_eq!(tiling.starts(250), [0, 75, 150]);
        assert_eq!(tiling.starts(260), [0, 75, 150, 160]);
    }

    #[test]
    fn an_object_that_two_tiles_saw_is_one() {
        let at = |score, x1, x2| Detection { class: 0, score, bbox: Xyxy { x1, y1: 0.0, x2, y2: 10.0 } };
        let rules = Postprocess::prediction();
        // The whole in one tile, a third of it in the next; a neighbour of its own.
        let all = vec![(0, at(0.9, 0.0, 30.0)), (1, at(0.6, 20.0, 30.0)), (1, at(0.5, 40.0, 60.0))];
        assert_eq!(merge(all, &rules), [at(0.9, 0.0, 30.0), at(0.5, 40.0, 60.0)]);
        // Within one tile the network's own suppression has decided already.
        let nested = vec![(0, at(0.9, 0.0, 30.0)), (0, at(0.6, 20.0, 30.0))];
        assert_eq!(merge(nested, &rules).len(), 2);
    }

    #[test]
    fn crops_are_the_pictures_own_pixels() {
        let data: Vec<u8> = (0..5 * 4 * 3).collect();
        let image = Rgb8 { width: 5, height: 4, data };
        let tile = crop(&image, 3, 2, 4);
        assert_eq!((tile.width, tile.height), (2, 2));
        assert_eq!(tile.data[..6], image.row(2)[9..15]);
    }
}
