//! Images that 8-bit RGB does not hold: 16 bits a sample, and any number of channels. They go the same way as RGB images
//! beside them, from the cache to the batch, with the same geometry; colour operations have no meaning for them and are
//! left out.

mod batch;
mod classify;
mod resize;
mod sample;
mod warp;

pub(crate) use batch::assemble;
pub use classify::centre_square;
pub use resize::{resize_averaging, resize_bilinear};

use super::letterbox::Letterbox;
use super::raster::{FILL, Rgb8};

/// The grey of what no image covers, as [`FILL`] over 16 bits.
pub const DEEP_FILL: u16 = FILL as u16 * 257;

/// An image of 16 bits a sample and any number of channels, row by row, no padding between rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deep {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// Samples a pixel.
    pub channels: usize,
    /// `height * width * channels` samples, 0 to 65535.
    pub data: Vec<u16>,
}

impl Deep {
    /// An image of one value.
    pub fn filled(width: usize, height: usize, channels: usize, value: u16) -> Deep {
        Deep { width, height, channels, data: vec![value; width * height * channels] }
    }

    /// The image over these samples; `None` where their number is not `width * height * channels`, or 0.
    pub fn new(width: usize, height: usize, channels: usize, data: Vec<u16>) -> Option<Deep> {
        let expected = width.checked_mul(height)?.checked_mul(channels)?;
        (expected > 0 && data.len() == expected).then_some(Deep { width, height, channels, data })
    }

    /// The samples of row `y`.
    pub fn row(&self, y: usize) -> &[u16] {
        &self.data[y * self.width * self.channels..(y + 1) * self.width * self.channels]
    }

    /// A picture of it to look at: its first three channels (or its one or first as grey) stretched from their least to
    /// their largest value. Nothing is computed from it.
    pub fn preview(&self) -> Rgb8 {
        let values = self.data.iter().map(|&v| f32::from(v));
        preview(values, self.channels, self.width, self.height)
    }

    /// The part of `width` x `height` pixels from (`x`, `y`) on, cut off at the image's edges.
    pub fn crop(&self, x: usize, y: usize, width: usize, height: usize) -> Deep {
        let (width, height) = (width.min(self.width - x), height.min(self.height - y));
        let mut data = Vec::with_capacity(width * height * self.channels);
        for row in y..y + height {
            data.extend_from_slice(&self.row(row)[x * self.channels..(x + width) * self.channels]);
        }
        Deep { width, height, channels: self.channels, data }
    }
}

/// See [`Deep::preview`].
pub(crate) fn preview(
    values: impl Iterator<Item = f32>,
    channels: usize,
    width: usize,
    height: usize,
) -> Rgb8 {
    let values: Vec<f32> = values.collect();
    let (low, high) = values.iter().fold((f32::MAX, f32::MIN), |(l, h), &v| (l.min(v), h.max(v)));
    let factor = if high > low { 255.0 / (high - low) } else { 0.0 };
    let byte = |v: f32| ((v - low) * factor).round() as u8;
    let data = values
        .chunks_exact(channels)
        .flat_map(|p| if channels >= 3 { [byte(p[0]), byte(p[1]), byte(p[2])] } else { [byte(p[0]); 3] })
        .collect();
    Rgb8 { width, height, data }
}

impl Letterbox {
    /// As [`Letterbox::draw`]: into `height * width * channels` samples.
    pub fn draw_deep(&self, image: &Deep, canvas: &mut [u16]) {
        let resized;
        let inner = if (image.width, image.height) == (self.inner_width, self.inner_height) {
            image
        } else {
            resized = resize_bilinear(image, self.inner_width, self.inner_height);
            &resized
        };
        canvas.fill(DEEP_FILL);
        for (y, row) in inner.data.chunks_exact(inner.width * inner.channels).enumerate() {
            let start = ((self.top + y) * self.width + self.left) * inner.channels;
            canvas[start..start + row.len()].copy_from_slice(row);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letterboxed_image_keeps_its_samples_and_the_rest_is_grey() {
        let image = Deep::new(2, 4, 2, (0..16).map(|v| v * 4000).collect()).unwrap();
        let fit = Letterbox::fit((2, 4), (4, 4), false);
        let mut out = vec![0; 4 * 4 * 2];
        fit.draw_deep(&image, &mut out);
        assert_eq!(out[..8], [DEEP_FILL, DEEP_FILL, 0, 4000, 8000, 12000, DEEP_FILL, DEEP_FILL]);
    }

    #[test]
    fn a_preview_stretches_what_is_there() {
        let image = Deep::new(3, 1, 1, vec![100, 150, 200]).unwrap();
        assert_eq!(image.preview().data, [0, 0, 0, 128, 128, 128, 255, 255, 255]);
        let flat = Deep::filled(1, 1, 5, 9);
        assert_eq!(flat.preview().data, [0, 0, 0]);
    }
}
