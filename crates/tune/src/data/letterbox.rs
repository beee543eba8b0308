//! Letterboxing: fit an image into a given shape at its own aspect ratio and pad the rest with grey.

use crate::boxes::{Label, Xyxy};

use super::raster::{FILL, Rgb8};
use super::resize::resize_bilinear;

/// Where an image of one size comes to lie on a canvas of another. All in whole pixels but the ratio.
///
/// Boxes move by the ratio on both axes, as in the reference, although rounding the inner size to whole pixels
/// stretches the picture itself by up to half a pixel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Letterbox {
    /// Width of the image before.
    pub source_width: usize,
    /// Height of the image before.
    pub source_height: usize,
    /// Canvas pixels per source pixel.
    pub ratio: f64,
    /// Width of the resized image within the canvas.
    pub inner_width: usize,
    /// Height of the resized image within the canvas.
    pub inner_height: usize,
    /// Padding left of the image.
    pub left: usize,
    /// Padding above the image.
    pub top: usize,
    /// Width of the canvas.
    pub width: usize,
    /// Height of the canvas.
    pub height: usize,
}

impl Letterbox {
    /// Fits `source` (width, height) centred into `canvas` (width, height). Without `scale_up` a smaller image keeps
    /// its size (validation); with it, it is enlarged (training and prediction). Where the padding is odd, the
    /// right and lower sides get the larger half.
    pub fn fit(source: (usize, usize), canvas: (usize, usize), scale_up: bool) -> Letterbox {
        let (ratio, (inner_width, inner_height)) = inner_size(source, canvas, scale_up);
        Letterbox {
            source_width: source.0,
            source_height: source.1,
            ratio,
            inner_width,
            inner_height,
            left: leading(canvas.0 - inner_width),
            top: leading(canvas.1 - inner_height),
            width: canvas.0,
            height: canvas.1,
        }
    }

    /// The image fitted into `imgsz` x `imgsz` with only as much padding as makes the sides multiples of `stride` (a divisor of
    /// `imgsz`): what prediction of a single image uses.
    pub fn tight(source: (usize, usize), imgsz: usize, stride: usize) -> Letterbox {
        let (ratio, inner) = inner_size(source, (imgsz, imgsz), true);
        let padded = |inner: usize| inner + (imgsz - inner) % stride.max(1);
        let (width, height) = (padded(inner.0), padded(inner.1));
        Letterbox {
            source_width: source.0,
            source_height: source.1,
            ratio,
            inner_width: inner.0,
            inner_height: inner.1,
            left: leading(width - inner.0),
            top: leading(height - inner.1),
            width,
            height,
        }
    }

    /// Resizes and pads `image` into `canvas`, `height * width * 3` bytes RGB.
    pub fn draw(&self, image: &Rgb8, canvas: &mut [u8]) {
        let resized;
        let inner = if (image.width, image.height) == (self.inner_width, self.inner_height) {
            image
        } else {
            resized = resize_bilinear(image, self.inner_width, self.inner_height);
            &resized
        };
        canvas.fill(FILL);
        for (y, row) in inner.data.chunks_exact(inner.width * 3).enumerate() {
            let start = ((self.top + y) * self.width + self.left) * 3;
            canvas[start..start + row.len()].copy_from_slice(row);
        }
    }

    /// The letterboxed image.
    pub fn apply(&self, image: &Rgb8) -> Rgb8 {
        let mut out = Rgb8::filled(self.width, self.height, FILL);
        self.draw(image, &mut out.data);
        out
    }

    /// A label of the source image as fractions of the canvas.
    pub fn label_to_canvas(&self, label: &Label) -> Label {
        let inner_width = (self.source_width as f64 * self.ratio) as f32;
        let inner_height = (self.source_height as f64 * self.ratio) as f32;
        let (width, height) = (self.width as f32, self.height as f32);
        Label {
            class: label.class,
            cx: (label.cx * inner_width + self.left as f32) / width,
            cy: (label.cy * inner_height + self.top as f32) / height,
            w: label.w * inner_width / width,
            h: label.h * inner_height / height,
        }
    }

    /// A box in canvas pixels as pixels of the source image, cut off at its edges.
    pub fn box_to_source(&self, bbox: &Xyxy) -> Xyxy {
        let ratio = self.ratio as f32;
        let (width, height) = (self.source_width as f32, self.source_height as f32);
        let x = |v: f32| ((v - self.left as f32) / ratio).clamp(0.0, width);
        let y = |v: f32| ((v - self.top as f32) / ratio).clamp(0.0, height);
        Xyxy { x1: x(bbox.x1), y1: y(bbox.y1), x2: x(bbox.x2), y2: y(bbox.y2) }
    }
}

fn inner_size(source: (usize, usize), canvas: (usize, usize), scale_up: bool) -> (f64, (usize, usize)) {
    let mut ratio = (canvas.1 as f64 / source.1 as f64).min(canvas.0 as f64 / source.0 as f64);
    if !scale_up {
        ratio = ratio.min(1.0);
    }
    let side =
        |side: usize, limit: usize| ((side as f64 * ratio).round_ties_even() as usize).clamp(1, limit.max(1));
    (ratio, (side(source.0, canvas.0), side(source.1, canvas.1)))
}

/// The padding before the image, of `total` in all: round(total / 2 - 0.1), so the smaller half.
fn leading(total: usize) -> usize {
    total / 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn validation_does_not_enlarge() {
        let small = Letterbox::fit((100, 51), (640, 640), false);
        assert_eq!((small.inner_width, small.inner_height, small.left, small.top), (100, 51, 270, 294));
        let grown = Letterbox::fit((100, 51), (640, 640), true);
        assert_eq!((grown.inner_width, grown.inner_height, grown.left, grown.top), (640, 326, 0, 157));
    }

    #[test]
    fn prediction_pads_to_the_stride_only() {
        let bus = Letterbox::tight((810, 1080), 640, 32);
        assert_eq!((bus.width, bus.height, bus.left, bus.top), (480, 640, 0, 0));
        let zidane = Letterbox::tight((1280, 720), 640, 32);
        assert_eq!((zidane.width, zidane.height, zidane.left, zidane.top), (640, 384, 0, 12));
    }

    #[test]
    fn padding_is_grey_and_pixels_are_kept() {
        let image = Rgb8::filled(2, 4, 9);
        let out = Letterbox::fit((2, 4), (5, 4), false).apply(&image);
        let row: Vec<u8> = out.row(2).iter().copied().step_by(3).collect();
        assert_eq!(row, [114, 9, 9, 114, 114]);
    }

    proptest! {
        #[test]
        fn boxes_return_to_where_they_were(
            w in 1usize..2000, h in 1usize..2000, cx in 0.2f32..0.8, cy in 0.2f32..0.8, bw in 0.0f32..0.4, bh in 0.0f32..0.4,
        ) {
            let label = Label { class: 1, cx, cy, w: bw, h: bh };
            let fit = Letterbox::fit((w, h), (640, 480), true);
            let canvas = fit.label_to_canvas(&label).to_xyxy(640.0, 480.0);
            let back = fit.box_to_source(&canvas);
            let expected = label.to_xyxy(w as f32, h as f32);
            // Half a thousandth of the image: the canvas coordinates are rounded to f32.
            let (dx, dy) = (w as f32 * 5e-4, h as f32 * 5e-4);
            prop_assert!((back.x1 - expected.x1).abs() < dx && (back.x2 - expected.x2).abs() < dx, "{back:?} {expected:?}");
            prop_assert!((back.y1 - expected.y1).abs() < dy && (back.y2 - expected.y2).abs() < dy, "{back:?} {expected:?}");
        }
    }
}
