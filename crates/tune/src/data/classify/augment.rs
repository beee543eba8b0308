//! Training augmentation of classifiers: random resized crop, flips, RandAugment or colour jitter, random erasing, in
//! this order. As for detectors, drawing the numbers is separate from applying them.

use super::crop::CropArea;
use super::pixel_ops::{Op, apply};
use crate::data::augment::AugmentConfig;
use crate::data::augment::hsv::HsvGains;
use crate::data::raster::Rgb8;
use crate::data::resize::resize_averaging;
use crate::data::rng::{Draw, Purpose};

/// Operations of RandAugment in a row, and their strength out of 30 (Cubuk et al., 2019, arXiv:1909.13719).
const OPERATIONS: usize = 2;
const STRENGTH: f64 = 9.0 / 30.0;
/// Area of the erased rectangle as a share of the image's, and its height over its width (Zhong et al., 2017,
/// arXiv:1708.04896).
const ERASED: (f64, f64) = (0.02, 0.33);
const ERASED_ASPECT: (f64, f64) = (0.3, 3.3);

/// How strongly a classifier's training images are varied.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassifyAugment {
    /// The smallest crop is 1 less this, as a share of the image's area; 0 to below 1.
    pub scale: f64,
    /// Probability of mirroring left and right.
    pub fliplr: f64,
    /// Probability of turning upside down.
    pub flipud: f64,
    /// Whether RandAugment runs; where it does, the colour jitter does not.
    pub rand_augment: bool,
    /// Gains of the colour jitter.
    pub hsv: (f64, f64, f64),
    /// Probability of erasing a rectangle.
    pub erasing: f64,
}

/// The numbers of one sample.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassifySample {
    /// What part of the image is seen.
    pub crop: CropArea,
    /// Mirrored.
    pub fliplr: bool,
    /// Upside down.
    pub flipud: bool,
    /// RandAugment's operations.
    pub operations: Vec<Op>,
    /// Colour jitter.
    pub hsv: Option<HsvGains>,
    /// What is blackened, in pixels of the result.
    pub erased: Option<CropArea>,
}

impl ClassifyAugment {
    /// Draws the numbers of sample `item` in `epoch` for an image of `size` and a result of `side` pixels.
    pub fn draw(
        &self,
        seed: u64,
        epoch: u32,
        item: usize,
        size: (usize, usize),
        side: usize,
    ) -> ClassifySample {
        let stream = |purpose| Draw::new(seed, epoch, item as u32, purpose);
        let crop = CropArea::draw(&mut stream(Purpose::Crop), size, 1.0 - self.scale);
        let mut flips = stream(Purpose::Flip);
        let (fliplr, flipud) = (flips.chance(self.fliplr), flips.chance(self.flipud));
        let mut draw = stream(Purpose::RandAugment);
        let count = if self.rand_augment { OPERATIONS } else { 0 };
        let operations = (0..count).map(|_| Op::draw(&mut draw, STRENGTH, side)).collect();
        let (hsv_h, hsv_s, hsv_v) = self.hsv;
        let config = AugmentConfig { hsv_h, hsv_s, hsv_v, ..AugmentConfig::none() };
        let hsv = (!self.rand_augment).then(|| HsvGains::draw(&config, &mut stream(Purpose::Hsv)));
        let mut draw = stream(Purpose::Erase);
        let erased = draw.chance(self.erasing).then(|| erased(&mut draw, side)).flatten();
        ClassifySample { crop, fliplr, flipud, operations, hsv, erased }
    }
}

/// A rectangle within `side` x `side` pixels; `None` after ten that did not fit.
fn erased(draw: &mut Draw, side: usize) -> Option<CropArea> {
    for _ in 0..10 {
        let area = (side * side) as f64 * draw.uniform(ERASED.0, ERASED.1);
        let aspect = draw.uniform(ERASED_ASPECT.0.ln(), ERASED_ASPECT.1.ln()).exp();
        let (height, width) =
            ((area * aspect).sqrt().round() as usize, (area / aspect).sqrt().round() as usize);
        if (1..side).contains(&height) && (1..side).contains(&width) {
            let top = draw.below((side - height + 1) as u32) as usize;
            let left = draw.below((side - width + 1) as u32) as usize;
            return Some(CropArea { left, top, width, height });
        }
    }
    None
}

impl ClassifySample {
    /// The sample of `side` x `side` pixels.
    pub fn render(&self, image: &Rgb8, side: usize) -> Rgb8 {
        let CropArea { left, top, width, height } = self.crop;
        let area = (left as f64, top as f64, width as f64, height as f64);
        let mut out = resize_averaging(image, area, (side, side));
        if self.fliplr {
            for row in out.data.chunks_exact_mut(side * 3) {
                row.as_chunks_mut::<3>().0.reverse();
            }
        }
        if self.flipud {
            let upper: Vec<u8> = out.data.clone();
            for (to, from) in out.data.chunks_exact_mut(side * 3).zip(upper.chunks_exact(side * 3).rev()) {
                to.copy_from_slice(from);
            }
        }
        for op in &self.operations {
            out = apply(*op, &out);
        }
        if let Some(gains) = &self.hsv {
            gains.apply(&mut out.data);
        }
        if let Some(CropArea { left, top, width, height }) = self.erased {
            for y in top..top + height {
                out.data[(y * side + left) * 3..(y * side + left + width) * 3].fill(0);
            }
        }
        out
    }
}
