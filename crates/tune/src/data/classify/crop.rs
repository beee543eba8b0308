//! Which part of an image a classifier sees.

use crate::data::raster::Rgb8;
use crate::data::rng::Draw;

/// A rectangle within an image, in pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CropArea {
    /// From the left edge.
    pub left: usize,
    /// From the top edge.
    pub top: usize,
    /// Width, at least 1.
    pub width: usize,
    /// Height, at least 1.
    pub height: usize,
}

/// Tries before the middle of the image is taken.
const TRIES: usize = 10;
/// Width over height of a crop.
const ASPECT: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);

impl CropArea {
    /// The crop of Szegedy et al. (2015, arXiv:1409.4842): between `smallest` and all of the area, width over height
    /// between 3/4 and 4/3 (both drawn so that twice and half are as likely). An image too narrow for that gives the
    /// largest part of such a ratio from its middle.
    pub fn draw(draw: &mut Draw, (width, height): (usize, usize), smallest: f64) -> CropArea {
        let (w, h) = (width as f64, height as f64);
        for _ in 0..TRIES {
            let area = w * h * draw.uniform(smallest, 1.0);
            let aspect = draw.uniform(ASPECT.0.ln(), ASPECT.1.ln()).exp();
            let (cw, ch) = ((area * aspect).sqrt().round() as usize, (area / aspect).sqrt().round() as usize);
            if (1..=width).contains(&cw) && (1..=height).contains(&ch) {
                let top = draw.below((height - ch + 1) as u32) as usize;
                let left = draw.below((width - cw + 1) as u32) as usize;
                return CropArea { left, top, width: cw, height: ch };
            }
        }
        let (cw, ch) = if w / h < ASPECT.0 {
            (width, ((w / ASPECT.0).round() as usize).clamp(1, height))
        } else if w / h > ASPECT.1 {
            (((h * ASPECT.1).round() as usize).clamp(1, width), height)
        } else {
            (width, height)
        };
        CropArea { left: (width - cw) / 2, top: (height - ch) / 2, width: cw, height: ch }
    }
}

/// Copies the middle square of `side` pixels to `out` (`side * side * 3` bytes); the image's short side must be `side`.
///
/// # Panics
/// If the image is smaller, or `out` of another length.
pub fn centre_square(image: &Rgb8, side: usize, out: &mut [u8]) {
    let middle = |length: usize| ((length - side) as f64 / 2.0).round_ties_even() as usize;
    let (left, top) = (middle(image.width), middle(image.height));
    for (y, row) in out.chunks_exact_mut(side * 3).enumerate() {
        row.copy_from_slice(&image.row(top + y)[left * 3..(left + side) * 3]);
    }
}
