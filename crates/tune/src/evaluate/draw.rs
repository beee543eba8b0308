//! Boxes with names and scores on pictures, and sheets of many small pictures.

use image::codecs::jpeg::JpegEncoder;
use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};

use super::{EvaluateError, Truth, font};
use crate::boxes::{Detection, Xyxy};

/// The longer side of a sheet in pixels.
const SHEET: u32 = 1920;
/// Most pictures on a sheet.
const SHEET_TILES: usize = 16;

const COLOURS: [[u8; 3]; 10] = [
    [0x18, 0xa8, 0xf8],
    [0xff, 0x7a, 0x1a],
    [0x12, 0xcc, 0x8c],
    [0xff, 0x72, 0xb6],
    [0xff, 0xd2, 0x1f],
    [0x9c, 0x7d, 0xff],
    [0xff, 0x4d, 0x4d],
    [0xa8, 0xe0, 0x3a],
    [0x3a, 0xe6, 0xdc],
    [0xf0, 0xf0, 0xf0],
];

/// The colour of a class: ten hues, darker at each further round.
pub fn class_colour(class: u32) -> Rgb<u8> {
    let round = class / COLOURS.len() as u32 % 4;
    Rgb(COLOURS[class as usize % COLOURS.len()].map(|v| (u32::from(v) * (10 - 2 * round) / 10) as u8))
}

/// A box to draw, in pixels of the picture.
#[derive(Clone, Debug, PartialEq)]
pub struct Mark {
    /// Where.
    pub bbox: Xyxy,
    /// Gives the colour.
    pub class: u32,
    /// Beside the box; may be empty.
    pub text: String,
}

fn name_of(class: u32, names: &[String]) -> String {
    names.get(class as usize).cloned().unwrap_or_else(|| format!("class {class}"))
}

/// Detections as marks with name and score.
pub fn detection_marks(detections: &[Detection], names: &[String]) -> Vec<Mark> {
    // Best last, so that it lies on top.
    detections
        .iter()
        .rev()
        .map(|d| {
            let text = format!("{} {:.2}", name_of(d.class, names), d.score);
            Mark { bbox: d.bbox, class: d.class, text }
        })
        .collect()
}

/// Truths as marks with the name.
pub fn truth_marks(truths: &[Truth], names: &[String]) -> Vec<Mark> {
    truths.iter().map(|t| Mark { bbox: t.bbox, class: t.class, text: name_of(t.class, names) }).collect()
}

/// Marks multiplied by `factor`: from one picture to its scaled copy.
pub fn scale_marks(marks: &[Mark], factor: f32) -> Vec<Mark> {
    let scaled =
        |b: Xyxy| Xyxy { x1: b.x1 * factor, y1: b.y1 * factor, x2: b.x2 * factor, y2: b.y2 * factor };
    marks.iter().map(|m| Mark { bbox: scaled(m.bbox), ..m.clone() }).collect()
}

/// Draws boxes first and their texts over them. Line width and text size follow the picture's size; parts outside are cut off.
pub fn draw_marks(image: &mut RgbImage, marks: &[Mark]) {
    let side = image.width().min(image.height()) as f32;
    draw_marks_with(image, marks, (side / 360.0).round().clamp(1.0, 8.0) as u32);
}

/// As [`draw_marks`], with texts `scale` x 8 pixels high and lines at least `scale` pixels wide: for pictures that will be shown smaller than they are.
pub fn draw_marks_with(image: &mut RgbImage, marks: &[Mark], scale: u32) {
    let side = image.width().min(image.height()) as f32;
    let line = (side / 240.0).round().clamp(1.0, 12.0).max(scale as f32) as i64;
    for mark in marks {
        let [x1, y1, x2, y2] = corners(&mark.bbox);
        let colour = class_colour(mark.class);
        // A dark rim keeps the box visible on a ground of its own colour.
        for (grow, colour) in [(1, Rgb(colour.0.map(|v| v / 4))), (0, colour)] {
            let (a, b) = (line + 2 * grow, line + grow);
            fill(image, [x1 - grow, y1 - grow, x2 + grow, y1 - grow + a], colour);
            fill(image, [x1 - grow, y2 - b, x2 + grow, y2 - b + a], colour);
            fill(image, [x1 - grow, y1 - grow, x1 - grow + a, y2 + grow], colour);
            fill(image, [x2 - b, y1 - grow, x2 - b + a, y2 + grow], colour);
        }
    }
    for mark in marks.iter().filter(|m| !m.text.is_empty()) {
        let [x1, y1, ..] = corners(&mark.bbox);
        let (w, h) = (i64::from(font::width(&mark.text, scale)) + 4, i64::from(font::GLYPH * scale) + 4);
        let x = x1.min(i64::from(image.width()) - w).max(0);
        // Above the box, or inside it at the picture's upper edge.
        let y = if y1 >= h { y1 - h } else { y1.max(0) };
        let colour = class_colour(mark.class);
        fill(image, [x, y, x + w, y + h], colour);
        font::write(image, &mark.text, (x + 2, y + 2), scale, readable_on(colour));
    }
}

/// Whole pixels; far-off values are brought near, so that sums cannot overflow.
fn corners(bbox: &Xyxy) -> [i64; 4] {
    [bbox.x1, bbox.y1, bbox.x2, bbox.y2].map(|v| v.round().clamp(-1e6, 1e6) as i64)
}

fn readable_on(ground: Rgb<u8>) -> Rgb<u8> {
    let [r, g, b] = ground.0.map(f32::from);
    if 0.299 * r + 0.587 * g + 0.114 * b > 110.0 { Rgb([0, 0, 0]) } else { Rgb([255, 255, 255]) }
}

/// Fills [x1, x2) x [y1, y2), cut to the image.
fn fill(image: &mut RgbImage, [x1, y1, x2, y2]: [i64; 4], colour: Rgb<u8>) {
    let (columns, rows) = (i64::from(image.width()), i64::from(image.height()));
    for y in y1.clamp(0, rows)..y2.clamp(0, rows) {
        for x in x1.clamp(0, columns)..x2.clamp(0, columns) {
            image.put_pixel(x as u32, y as u32, colour);
        }
    }
}

/// The picture at most `side` pixels long; its marks must be scaled by the returned factor.
pub fn shrink(image: &RgbImage, side: u32) -> (RgbImage, f32) {
    let long = image.width().max(image.height());
    if long <= side {
        return (image.clone(), 1.0);
    }
    let factor = side as f32 / long as f32;
    (resize(image, factor), factor)
}

fn resize(image: &RgbImage, factor: f32) -> RgbImage {
    let to = |v: u32| ((v as f32 * factor).round() as u32).max(1);
    imageops::resize(image, to(image.width()), to(image.height()), FilterType::Triangle)
}

/// A picture of a sheet.
#[derive(Clone, Debug)]
pub struct Tile<'a> {
    /// The picture.
    pub image: &'a RgbImage,
    /// Its boxes.
    pub marks: Vec<Mark>,
    /// In its corner, mostly the file's name.
    pub caption: &'a str,
}

/// Up to 16 pictures in a near-square grid, row by row, the longer side at most 1,920 pixels; further ones are left out. Used for
/// `train_batch0.jpg` and `val_batch0_labels.jpg` and their like. None without pictures.
pub fn sheet(tiles: &[Tile<'_>]) -> Option<RgbImage> {
    let tiles = &tiles[..tiles.len().min(SHEET_TILES)];
    let width = tiles.iter().map(|t| t.image.width()).max()?;
    let height = tiles.iter().map(|t| t.image.height()).max()?;
    let columns = (tiles.len() as f64).sqrt().ceil() as u32;
    let rows = (tiles.len() as u32).div_ceil(columns);
    let factor =
        (SHEET as f32 / (columns * width) as f32).min(SHEET as f32 / (rows * height) as f32).min(1.0);
    let cell = |v: u32| ((v as f32 * factor).round() as u32).max(1);
    let (width, height) = (cell(width), cell(height));
    let mut out = RgbImage::from_pixel(columns * width, rows * height, Rgb([255, 255, 255]));
    for (index, tile) in tiles.iter().enumerate() {
        let mut small = if factor < 1.0 { resize(tile.image, factor) } else { tile.image.clone() };
        draw_marks(&mut small, &scale_marks(&tile.marks, factor));
        if !tile.caption.is_empty() {
            let text = tail(tile.caption, (small.width().saturating_sub(8) / font::GLYPH) as usize);
            let w = i64::from(font::width(&text, 1)) + 8;
            let bottom = i64::from(small.height());
            fill(&mut small, [0, bottom - 14, w, bottom], Rgb([20, 24, 28]));
            font::write(&mut small, &text, (4, bottom - 11), 1, Rgb([235, 238, 241]));
        }
        // A seam of one white pixel to the right and below parts the cells.
        let (inner_width, inner_height) = (width.saturating_sub(1), height.saturating_sub(1));
        let (column, row) = (index as u32 % columns, index as u32 / columns);
        let [x, y] = [column * width, row * height].map(i64::from);
        fill(&mut out, [x, y, x + i64::from(inner_width), y + i64::from(inner_height)], Rgb([114; 3]));
        let part = imageops::crop_imm(&small, 0, 0, inner_width, inner_height).to_image();
        let middle = |room: u32, size: u32| i64::from(room.saturating_sub(size) / 2);
        let (dx, dy) = (middle(inner_width, part.width()), middle(inner_height, part.height()));
        imageops::replace(&mut out, &part, x + dx, y + dy);
    }
    Some(out)
}

/// The last `length` characters: the end of a path says most.
fn tail(text: &str, length: usize) -> String {
    let count = text.chars().count();
    text.chars().skip(count.saturating_sub(length)).collect()
}

/// The picture as a JPEG file; `quality` 1 to 100.
///
/// # Errors
/// If the encoder refuses the size (above 65,535 pixels a side, or empty).
pub fn encode_jpeg(image: &RgbImage, quality: u8) -> Result<Vec<u8>, EvaluateError> {
    let mut out = Vec::new();
    let (width, height) = (image.width(), image.height());
    JpegEncoder::new_with_quality(&mut out, quality)
        .encode_image(image)
        .map_err(|source| EvaluateError::Encode { width, height, source })?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grey(width: u32, height: u32) -> RgbImage {
        RgbImage::from_pixel(width, height, Rgb([114, 114, 114]))
    }

    fn mark(x1: f32, y1: f32, x2: f32, y2: f32, text: &str) -> Mark {
        Mark { bbox: Xyxy { x1, y1, x2, y2 }, class: 0, text: text.into() }
    }

    #[test]
    fn a_box_is_an_outline_in_the_classes_colour() {
        let mut image = grey(100, 80);
        draw_marks(&mut image, &[mark(20.0, 30.0, 60.0, 70.0, "")]);
        let colour = class_colour(0);
        for at in [(20, 30), (59, 30), (20, 69), (59, 69), (40, 30), (20, 50), (59, 50)] {
            assert_eq!(*image.get_pixel(at.0, at.1), colour, "{at:?}");
        }
        for at in [(40, 50), (10, 10), (63, 50), (22, 32)] {
            assert_eq!(image.get_pixel(at.0, at.1).0, [114; 3], "{at:?}");
        }
    }

    #[test]
    fn the_text_stands_above_the_box_and_stays_in_the_picture() {
        let mut image = grey(100, 80);
        draw_marks(&mut image, &[mark(90.0, 30.0, 99.0, 70.0, "tree 0.93")]);
        // 9 characters of 8 px and a margin of 4 end at the right edge; the line is 12 px high above y 30.
        assert_eq!(*image.get_pixel(24, 18), class_colour(0));
        assert_eq!(image.get_pixel(23, 18).0, [114; 3]);
        assert!(image.pixels().any(|p| p.0 == [0, 0, 0]));
    }

    #[test]
    fn wild_boxes_do_not_panic() {
        let mut image = grey(10, 10);
        let far = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1e30, 1e30, 5.0];
        for a in far {
            for b in far {
                draw_marks(&mut image, &[mark(a, b, b, a, "x"), mark(a, a, b, b, "")]);
            }
        }
        assert_eq!((image.width(), image.height()), (10, 10));
    }

    #[test]
    fn a_sheet_is_a_grid_of_scaled_pictures() {
        let pictures: Vec<_> = (0..20).map(|i| RgbImage::from_pixel(800, 100, Rgb([10 * i, 0, 0]))).collect();
        let tiles: Vec<_> =
            pictures.iter().map(|image| Tile { image, marks: Vec::new(), caption: "" }).collect();
        let all = sheet(&tiles).unwrap();
        assert_eq!((all.width(), all.height()), (1920, 240));
        let centre = |i: u32| all.get_pixel(i % 4 * 480 + 240, i / 4 * 60 + 30).0[0];
        assert_eq!([centre(0), centre(1), centre(4), centre(15)], [0, 10, 40, 150]);
        let three = sheet(&tiles[..3]).unwrap();
        assert_eq!((three.width(), three.height()), (1600, 200));
        assert_eq!(three.get_pixel(1200, 150).0, [255; 3]);
        let narrow = RgbImage::from_pixel(10, 100, Rgb([9, 9, 9]));
        let mixed =
            sheet(&[Tile { image: &narrow, marks: Vec::new(), caption: "n" }, tiles[0].clone()]).unwrap();
        assert_eq!((mixed.get_pixel(100, 50).0, mixed.get_pixel(399, 50).0), ([114; 3], [9; 3]));
        assert!(sheet(&[]).is_none());
    }

    #[test]
    fn shrinking_keeps_the_shape_and_tells_the_factor() {
        let (small, factor) = shrink(&grey(800, 400), 200);
        assert_eq!((small.width(), small.height(), factor), (200, 100, 0.25));
        assert_eq!(shrink(&grey(80, 40), 200).1, 1.0);
    }

    #[test]
    fn a_jpeg_reads_back() {
        let bytes = encode_jpeg(&grey(64, 48), 90).unwrap();
        let back = image::load_from_memory(&bytes).unwrap().to_rgb8();
        assert_eq!((back.width(), back.height()), (64, 48));
        assert!(back.pixels().all(|p| p.0.iter().all(|v| v.abs_diff(114) < 3)));
        assert!(encode_jpeg(&RgbImage::new(0, 0), 90).is_err());
    }
}
