//! A classifier's samples of images of 16 bits. The numbers are drawn as for 8 bits.

use super::sample::flip;
use super::{Deep, resize_averaging};
use crate::data::classify::augment::ClassifySample;
use crate::data::classify::{CropArea, moving};

impl ClassifySample {
    /// As [`ClassifySample::render`]: the crop, the flips, what RandAugment moves and the erased rectangle. Operations on
    /// colours are left out.
    pub fn render_deep(&self, image: &Deep, side: usize) -> Deep {
        let CropArea { left, top, width, height } = self.crop;
        let area = (left as f64, top as f64, width as f64, height as f64);
        let mut out = resize_averaging(image, area, (side, side));
        let channels = out.channels;
        flip(&mut out.data, (side, channels), self.flipud, self.fliplr);
        for op in &self.operations {
            if let Some(from) = moving(*op, (side, side)) {
                out = moved(&out, from);
            }
        }
        if let Some(CropArea { left, top, width, height }) = self.erased {
            for y in top..top + height {
                out.data[(y * side + left) * channels..(y * side + left + width) * channels].fill(0);
            }
        }
        out
    }
}

/// The image whose pixel at a place is, bilinearly, the source's where `from` says; black outside.
fn moved(image: &Deep, from: impl Fn(f64, f64) -> (f64, f64)) -> Deep {
    let mut out = Deep::filled(image.width, image.height, image.channels, 0);
    let value = |x: i64, y: i64, c: usize| -> f32 {
        let inside = x >= 0 && y >= 0 && x < image.width as i64 && y < image.height as i64;
        if inside {
            f32::from(image.data[(y as usize * image.width + x as usize) * image.channels + c])
        } else {
            0.0
        }
    };
    for (at, pixel) in out.data.chunks_exact_mut(image.channels).enumerate() {
        let (x, y) = from((at % image.width) as f64, (at / image.width) as f64);
        let (x0, y0) = (x.floor(), y.floor());
        let (fx, fy) = ((x - x0) as f32, (y - y0) as f32);
        let (x0, y0) = (x0 as i64, y0 as i64);
        for (c, out) in pixel.iter_mut().enumerate() {
            let top = value(x0, y0, c) * (1.0 - fx) + value(x0 + 1, y0, c) * fx;
            let below = value(x0, y0 + 1, c) * (1.0 - fx) + value(x0 + 1, y0 + 1, c) * fx;
            *out = (top * (1.0 - fy) + below * fy).round() as u16;
        }
    }
    out
}

/// Copies the middle square of `side` pixels to `out` (`side * side * channels`); the image's short side must be `side`.
///
/// # Panics
/// If the image is smaller, or `out` of another length.
pub fn centre_square(image: &Deep, side: usize, out: &mut [u16]) {
    let middle = |length: usize| ((length - side) as f64 / 2.0).round_ties_even() as usize;
    let (left, top) = (middle(image.width), middle(image.height));
    let channels = image.channels;
    for (y, row) in out.chunks_exact_mut(side * channels).enumerate() {
        row.copy_from_slice(&image.row(top + y)[left * channels..(left + side) * channels]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::classify::ClassifyAugment;
    use crate::data::raster::Rgb8;

    #[test]
    fn a_sample_is_that_of_8_bits_where_no_colour_changes() {
        let data: Vec<u8> = (0..40 * 30 * 3).map(|i| (i * 7 % 251) as u8).collect();
        let deep = Deep {
            width: 40,
            height: 30,
            channels: 3,
            data: data.iter().map(|&v| u16::from(v) * 257).collect(),
        };
        let rgb = Rgb8::new(40, 30, data).unwrap();
        let augment = ClassifyAugment {
            scale: 0.5,
            fliplr: 0.5,
            flipud: 0.5,
            rand_augment: true,
            hsv: (0.0, 0.0, 0.0),
            erasing: 0.5,
        };
        let mut compared = 0;
        for item in 0..60 {
            let sample = augment.draw(7, 1, item, (40, 30), 24);
            if !sample.operations.iter().all(|&op| moving(op, (24, 24)).is_some()) {
                continue;
            }
            compared += 1;
            let (expected, out) = (sample.render(&rgb, 24), sample.render_deep(&deep, 24));
            let worst = expected
                .data
                .iter()
                .zip(&out.data)
                .map(|(&a, &b)| (f32::from(a) - f32::from(b) / 257.0).abs());
            assert!(worst.fold(0.0, f32::max) <= 2.5, "item {item}");
        }
        assert!(compared >= 5, "{compared}");
    }
}
