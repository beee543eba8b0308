//! One training sample: all its random numbers as plain data, and how they become pixels and boxes.

use crate::boxes::Label;
use crate::data::cache::{ImageCache, ImageError};
use crate::data::rng::{Draw, Purpose};

use super::affine::{AffineParams, move_truths};
use super::config::AugmentConfig;
use super::flip::{flip_left_right, flip_up_down};
use super::hsv::HsvGains;
use super::mix::{CutMixParams, MixUpParams};
use super::mosaic::MosaicLayout;
use super::truth::{Truth, clip_all};
use super::warp::{Scene, Tile};

/// An item or a mosaic, seen through one map.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewParams {
    /// The item; the mosaic's top left image where there is one.
    pub item: usize,
    /// The mosaic; without it the item alone, its centre where the map's `translate` puts it.
    pub mosaic: Option<MosaicLayout>,
    /// The map.
    pub affine: AffineParams,
}

/// Every random number of one training sample.
#[derive(Clone, Debug, PartialEq)]
pub struct SampleParams {
    /// What the sample shows.
    pub view: ViewParams,
    /// A second view, blended in.
    pub mixup: Option<(ViewParams, MixUpParams)>,
    /// A third view, of which an area is pasted in.
    pub cutmix: Option<(ViewParams, CutMixParams)>,
    /// Colour jitter.
    pub hsv: Option<HsvGains>,
    /// Whether to turn upside down.
    pub flip_up_down: bool,
    /// Whether to mirror.
    pub flip_left_right: bool,
}

/// What a sample became, beside its pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Classes and boxes as fractions of the sample, all within 0 to 1.
    pub labels: Vec<Label>,
}

impl ViewParams {
    fn draw(
        config: &AugmentConfig,
        item: usize,
        items: usize,
        size: usize,
        mosaic: &mut Draw,
        affine: &mut Draw,
    ) -> ViewParams {
        ViewParams {
            item,
            mosaic: mosaic.chance(config.mosaic).then(|| MosaicLayout::draw(size, items, mosaic)),
            affine: AffineParams::draw(config, affine),
        }
    }

    /// Draws the view into `out` (RGB, `width` * `height` * 3 bytes) and gives its boxes in pixels.
    fn render(
        &self,
        cache: &ImageCache,
        (width, height): (usize, usize),
        out: &mut [u8],
    ) -> Result<Vec<Truth>, ImageError> {
        let Some(layout) = &self.mosaic else {
            return self.render_single(cache, (width, height), out);
        };
        // A mosaic's output is square: rectangular training has no mosaic.
        let size = width;
        let [b, c, d] = layout.partners;
        let members = [self.item, b, c, d];
        let mut images = Vec::with_capacity(members.len());
        for member in members {
            images.push(cache.get(member)?);
        }
        let mut truths = Vec::new();
        let mut tiles = Vec::with_capacity(members.len());
        for (position, (member, image)) in members.into_iter().zip(&images).enumerate() {
            let place = layout.place(position, size, image.width, image.height);
            let (left, top) = (place.left as f32, place.top as f32);
            let labels = &cache.items()[member].labels;
            truths.extend(Truth::place(labels, image.width as f32, image.height as f32, left, top));
            tiles.push(Tile { image, place });
        }
        let canvas = (2 * size, 2 * size);
        clip_all(&mut truths, canvas.0 as f32, canvas.1 as f32);
        let map = self.affine.matrix(canvas, (width, height));
        Scene { tiles }.warp(&map, width, out);
        Ok(move_truths(&truths, &map, self.affine.scale, (width, height)))
    }

    fn render_single(
        &self,
        cache: &ImageCache,
        (width, height): (usize, usize),
        out: &mut [u8],
    ) -> Result<Vec<Truth>, ImageError> {
        let image = cache.get(self.item)?;
        let labels = &cache.items()[self.item].labels;
        let truths = Truth::place(labels, image.width as f32, image.height as f32, 0.0, 0.0);
        let map = self.affine.matrix((image.width, image.height), (width, height));
        Scene { tiles: vec![Tile::at(&image, 0, 0)] }.warp(&map, width, out);
        Ok(move_truths(&truths, &map, self.affine.scale, (width, height)))
    }
}

impl SampleParams {
    /// Draws the numbers of item `item` out of `items` in this epoch, for a network size of `size` pixels.
    pub fn draw(
        config: &AugmentConfig,
        seed: u64,
        epoch: u32,
        item: usize,
        items: usize,
        size: usize,
    ) -> SampleParams {
        let stream = |purpose| Draw::new(seed, epoch, item as u32, purpose);
        let view = |item, mosaic, affine| {
            ViewParams::draw(config, item, items, size, &mut stream(mosaic), &mut stream(affine))
        };
        let mut mix = stream(Purpose::MixUp);
        let mixup = mix.chance(config.mixup).then(|| {
            let partner = mix.below(items as u32) as usize;
            (view(partner, Purpose::MixUpMosaic, Purpose::MixUpAffine), MixUpParams::draw(&mut mix))
        });
        let mut cut = stream(Purpose::CutMix);
        let cutmix = cut.chance(config.cutmix).then(|| {
            let partner = cut.below(items as u32) as usize;
            (view(partner, Purpose::CutMixMosaic, Purpose::CutMixAffine), CutMixParams::draw(&mut cut))
        });
        let mut flip = stream(Purpose::Flip);
        let coloured = config.hsv_h > 0.0 || config.hsv_s > 0.0 || config.hsv_v > 0.0;
        SampleParams {
            view: view(item, Purpose::Mosaic, Purpose::Affine),
            mixup,
            cutmix,
            hsv: coloured.then(|| HsvGains::draw(config, &mut stream(Purpose::Hsv))),
            flip_up_down: flip.chance(config.flipud),
            flip_left_right: flip.chance(config.fliplr),
        }
    }

    /// Draws the sample into `out` (RGB, `width * height * 3` bytes). The error names the file that could not be read.
    pub fn render(
        &self,
        cache: &ImageCache,
        (width, height): (usize, usize),
        out: &mut [u8],
    ) -> Result<Sample, ImageError> {
        let mut truths = self.view.render(cache, (width, height), out)?;
        if self.mixup.is_some() || self.cutmix.is_some() {
            let mut second = vec![0; out.len()];
            if let Some((view, params)) = &self.mixup {
                let second_truths = view.render(cache, (width, height), &mut second)?;
                params.apply(out, &mut truths, &second, &second_truths);
            }
            if let Some((view, params)) = &self.cutmix {
                let second_truths = view.render(cache, (width, height), &mut second)?;
                params.apply(width, out, &mut truths, &second, &second_truths);
            }
        }
        if let Some(gains) = &self.hsv {
            gains.apply(out);
        }
        if self.flip_up_down {
            flip_up_down(out, width, &mut truths);
        }
        if self.flip_left_right {
            flip_left_right(out, width, &mut truths);
        }
        let labels = truths.iter().map(|t| t.bbox.to_label(t.class, width as f32, height as f32)).collect();
        Ok(Sample { labels })
    }
}
