//! A data set drawn on the spot: discs, squares and triangles on noisy ground, for a demo without any download.
//! Every number comes from (seed, image, purpose), so the same call draws the same bytes anywhere.
use std::path::Path;

use image::{DynamicImage, Rgb, RgbImage};
use onsa_tune::boxes::Xyxy;

use super::tiles::{self, Count, Laid, TileError};

/// The classes, by index.
pub const CLASSES: [&str; 3] = ["disc", "square", "triangle"];

/// What to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drawing {
    /// Training images.
    pub train: usize,
    /// Validation images.
    pub val: usize,
    /// The images' side in pixels, at least 64.
    pub side: u32,
    /// Another seed, other pictures.
    pub seed: u64,
}

/// A shape's smallest and largest side, as parts of the image's side.
const SIZES: (f32, f32) = (0.12, 0.38);
/// Shapes in an image: at least one, at most this many.
const MOST: u64 = 5;
/// Shapes overlap no more than this (intersection over union).
const OVERLAP: f32 = 0.02;

/// Draws the set into `folder`, replacing what stood there: images/, labels/ and data.yaml.
///
/// # Errors
/// A file that cannot be written.
pub fn lay(drawing: Drawing, folder: &Path) -> Result<Laid, TileError> {
    tiles::replace(folder, |partial| {
        let train = lay_set(drawing, partial, "train", 0..drawing.train as u64)?;
        let all = (drawing.train + drawing.val) as u64;
        let val = lay_set(drawing, partial, "val", drawing.train as u64..all)?;
        let names: String =
            CLASSES.iter().enumerate().map(|(index, name)| format!("  {index}: {name}\n")).collect();
        let yaml = format!(
            "# Drawn by `onsa demo --offline`.\ntrain: images/train\nval: images/val\nnames:\n{names}"
        );
        tiles::write(&partial.join("data.yaml"), yaml.as_bytes())?;
        Ok(Laid { data: folder.join("data.yaml"), train, val })
    })
}

fn lay_set(
    drawing: Drawing,
    folder: &Path,
    set: &str,
    images: std::ops::Range<u64>,
) -> Result<Count, TileError> {
    let mut count = Count::default();
    for index in images {
        let (picture, shapes) = draw(drawing, index);
        let path = folder.join("images").join(set).join(format!("{index:04}.jpg"));
        tiles::write(&path, &tiles::encode(&DynamicImage::ImageRgb8(picture), &path)?)?;
        let side = drawing.side as f32;
        let line = |shape: &Shape| {
            let label = shape.bbox.to_label(shape.class, side, side);
            format!("{} {:.6} {:.6} {:.6} {:.6}\n", label.class, label.cx, label.cy, label.w, label.h)
        };
        let lines: String = shapes.iter().map(line).collect();
        tiles::write(&folder.join("labels").join(set).join(format!("{index:04}.txt")), lines.as_bytes())?;
        count.tiles += 1;
        count.boxes += shapes.len();
    }
    Ok(count)
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Shape {
    class: u32,
    bbox: Xyxy,
    colour: [f32; 3],
}

impl Shape {
    /// True if the pixel's centre lies inside.
    fn covers(&self, x: f32, y: f32) -> bool {
        let b = &self.bbox;
        if x < b.x1 || x > b.x2 || y < b.y1 || y > b.y2 {
            return false;
        }
        // -1 to 1 across the box.
        let u = (x - b.x1) / b.width() * 2.0 - 1.0;
        let v = (y - b.y1) / b.height() * 2.0 - 1.0;
        match self.class {
            0 => u * u + v * v <= 1.0,
            1 => true,
            _ => u.abs() <= (v + 1.0) / 2.0,
        }
    }
}

/// One picture and what is on it.
fn draw(drawing: Drawing, index: u64) -> (RgbImage, Vec<Shape>) {
    let side = drawing.side as f32;
    let random = |purpose: u64| fraction(drawing.seed, index, purpose);
    let ground = [random(0), random(1), random(2)].map(|value| 60.0 + 130.0 * value);
    let slope = [random(3), random(4)].map(|value| (value - 0.5) * 60.0);
    let mut shapes: Vec<Shape> = Vec::new();
    let wanted = 1 + (random(5) * MOST as f32) as usize;
    // A place that is taken is tried again a few times; a crowded picture then simply has fewer shapes.
    for attempt in 0..4 * MOST {
        let own = |purpose: u64| random(16 + attempt * 16 + purpose);
        let size = side * (SIZES.0 + (SIZES.1 - SIZES.0) * own(0));
        let (x1, y1) = (((side - size) * own(1)).floor(), ((side - size) * own(2)).floor());
        let bbox = Xyxy { x1, y1, x2: x1 + size.floor(), y2: y1 + size.floor() };
        // A colour that stands out from the ground by at least 50 levels in every channel.
        let colour = std::array::from_fn(|channel| {
            let away = 50.0 + 60.0 * own(4 + channel as u64);
            if ground[channel] > 125.0 { ground[channel] - away } else { ground[channel] + away }
        });
        let class = (own(3) * CLASSES.len() as f32) as u32;
        if shapes.len() < wanted && shapes.iter().all(|shape| shape.bbox.iou(&bbox) <= OVERLAP) {
            shapes.push(Shape { class, bbox, colour });
        }
    }
    let picture = RgbImage::from_fn(drawing.side, drawing.side, |px, py| {
        let (x, y) = (px as f32 + 0.5, py as f32 + 0.5);
        let noise =
            (fraction(drawing.seed ^ 0x5eed, index, u64::from(py) << 32 | u64::from(px)) - 0.5) * 24.0;
        let shade = slope[0] * (x / side - 0.5) + slope[1] * (y / side - 0.5);
        let top = shapes.iter().rev().find(|shape| shape.covers(x, y));
        Rgb(std::array::from_fn(|channel| {
            let level = top.map_or(ground[channel] + shade, |shape| shape.colour[channel]);
            (level + noise).clamp(0.0, 255.0) as u8
        }))
    });
    (picture, shapes)
}

/// A number from 0 to below 1 that depends on nothing but its arguments: three rounds of the SplitMix64 finaliser.
fn fraction(seed: u64, image: u64, purpose: u64) -> f32 {
    let mix = |value: u64| {
        let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    };
    let step = 0x9e37_79b9_7f4a_7c15_u64;
    let bits = [seed, image, purpose]
        .into_iter()
        .fold(0, |state: u64, part| mix(state.wrapping_add(step).wrapping_add(part)));
    (bits >> 40) as f32 / (1u64 << 24) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Drawing = Drawing { train: 12, val: 4, side: 96, seed: 7 };

    #[test]
    fn the_same_seed_draws_the_same_and_another_one_does_not() {
        assert_eq!(draw(SMALL, 3), draw(SMALL, 3));
        assert_ne!(draw(SMALL, 3).0, draw(SMALL, 4).0);
        assert_ne!(draw(SMALL, 3).0, draw(Drawing { seed: 8, ..SMALL }, 3).0);
    }

    #[test]
    fn shapes_lie_inside_stand_out_and_hardly_overlap() {
        for index in 0..50 {
            let (picture, shapes) = draw(SMALL, index);
            assert!((1..=MOST as usize).contains(&shapes.len()));
            for (position, shape) in shapes.iter().enumerate() {
                let b = shape.bbox;
                assert!(b.x1 >= 0.0 && b.y1 >= 0.0 && b.x2 <= 96.0 && b.y2 <= 96.0, "{b:?}");
                assert!(shapes[..position].iter().all(|other| other.bbox.iou(&b) <= OVERLAP));
                let centre = picture.get_pixel(((b.x1 + b.x2) / 2.0) as u32, ((b.y1 + b.y2) / 2.0) as u32);
                let off = (f32::from(centre.0[0]) - shape.colour[0]).abs();
                assert!(off <= 14.0, "the centre of a shape has its colour, within the noise: {off}");
            }
        }
    }

    #[test]
    fn every_class_is_drawn() {
        let mut seen = [0; 3];
        for index in 0..50 {
            draw(SMALL, index).1.iter().for_each(|shape| seen[shape.class as usize] += 1);
        }
        assert!(seen.iter().all(|&count| count > 20), "{seen:?}");
    }

    #[test]
    fn the_set_has_a_label_file_for_each_image() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("shapes");
        let laid = lay(SMALL, &folder).unwrap();
        assert_eq!((laid.train.tiles, laid.val.tiles), (12, 4));
        let lines = |set: &str| -> usize {
            let files = std::fs::read_dir(folder.join("labels").join(set)).unwrap();
            files.map(|f| std::fs::read_to_string(f.unwrap().path()).unwrap().lines().count()).sum()
        };
        assert_eq!((lines("train"), lines("val")), (laid.train.boxes, laid.val.boxes));
        assert!(folder.join("images/val/0015.jpg").is_file());
    }
}
