//! One training sample: all its random numbers as plain data, and how they become pixels and boxes.

use crate::boxes::{Label, Xyxy};
use crate::data::cache::{ImageCache, ImageError};
use crate::data::dataset::Item;
use crate::data::resize::load_size;
use crate::data::rng::{Draw, Purpose};

use super::affine::{AffineParams, Homography, move_truths};
use super::config::AugmentConfig;
use super::flip::{flip_left_right, flip_up_down, mirror, overturn};
use super::hsv::HsvGains;
use super::mix::{CutMixParams, MixUpParams, paste};
use super::mosaic::{MosaicLayout, Placement};
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

    /// Where the view's images lie and where their boxes go. Needs no pixels.
    fn lay_out(&self, items: &[Item], imgsz: u32, (width, height): (usize, usize)) -> Layout {
        let size_of = |member: usize| {
            let (w, h) = load_size(items[member].width, items[member].height, imgsz);
            (w as usize, h as usize)
        };
        let mut truths = Vec::new();
        let (members, canvas) = match &self.mosaic {
            None => {
                let (w, h) = size_of(self.item);
                truths = Truth::place(&items[self.item].labels, w as f32, h as f32, 0.0, 0.0);
                (vec![(self.item, Placement { x1: 0, y1: 0, x2: w, y2: h, left: 0, top: 0 })], (w, h))
            }
            Some(layout) => {
                // A mosaic's output is square: rectangular training has no mosaic.
                let size = width;
                let canvas = (2 * size, 2 * size);
                let [b, c, d] = layout.partners;
                let mut members = Vec::with_capacity(4);
                for (position, member) in [self.item, b, c, d].into_iter().enumerate() {
                    let (w, h) = size_of(member);
                    let place = layout.place(position, size, w, h);
                    let (left, top) = (place.left as f32, place.top as f32);
                    truths.extend(Truth::place(&items[member].labels, w as f32, h as f32, left, top));
                    members.push((member, place));
                }
                clip_all(&mut truths, canvas.0 as f32, canvas.1 as f32);
                (members, canvas)
            }
        };
        let map = self.affine.matrix(canvas, (width, height));
        let truths = move_truths(&truths, &map, self.affine.scale, (width, height));
        Layout { members, map, truths }
    }
}

/// A view's images on their canvas, its map, and its boxes in pixels of the sample.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layout {
    /// Items and where they lie.
    pub(crate) members: Vec<(usize, Placement)>,
    /// From the canvas to the sample.
    pub(crate) map: Homography,
    truths: Vec<Truth>,
}

impl Layout {
    /// Draws the view into `out` (RGB, rows of `width` pixels).
    fn draw(&self, cache: &ImageCache, width: usize, out: &mut [u8]) -> Result<(), ImageError> {
        let mut images = Vec::with_capacity(self.members.len());
        for (member, _) in &self.members {
            images.push(cache.get(*member)?);
        }
        let tiles =
            images.iter().zip(&self.members).map(|(image, &(_, place))| Tile { image, place }).collect();
        Scene { tiles }.warp(&self.map, width, out);
        Ok(())
    }
}

impl SamplePlan {
    /// The items whose pixels are needed.
    pub(crate) fn items(&self) -> impl Iterator<Item = usize> + '_ {
        let others =
            self.mixup.iter().map(|(layout, _)| layout).chain(self.cutmix.iter().map(|(layout, _)| layout));
        std::iter::once(&self.view)
            .chain(others)
            .flat_map(|layout| layout.members.iter().map(|&(item, _)| item))
    }
}

/// All that a sample's pixels are made from, and its labels.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SamplePlan {
    /// What the sample shows.
    pub(crate) view: Layout,
    /// What is blended in.
    pub(crate) mixup: Option<(Layout, MixUpParams)>,
    /// What is pasted in, and where in whole pixels.
    pub(crate) cutmix: Option<(Layout, Xyxy)>,
    /// As in [`Sample`].
    pub(crate) labels: Vec<Label>,
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

    /// Adds `by` to the number of every item that comes in beside the sample's own: numbers that were drawn out of a run of
    /// items then name those of the run that begins at item `by`.
    pub fn shift_partners(&mut self, by: usize) {
        let mosaic = |view: &mut ViewParams| {
            if let Some(layout) = &mut view.mosaic {
                layout.partners.iter_mut().for_each(|partner| *partner += by);
            }
        };
        mosaic(&mut self.view);
        let mixup = self.mixup.iter_mut().map(|(view, _)| view);
        for view in mixup.chain(self.cutmix.iter_mut().map(|(view, _)| view)) {
            view.item += by;
            mosaic(view);
        }
    }

    /// Draws the sample into `out` (RGB, `width * height * 3` bytes). The error names the file that could not be read.
    pub fn render(
        &self,
        cache: &ImageCache,
        (width, height): (usize, usize),
        out: &mut [u8],
    ) -> Result<Sample, ImageError> {
        let plan = self.plan(cache.items(), cache.imgsz(), (width, height));
        plan.view.draw(cache, width, out)?;
        let mut second = vec![0; if plan.mixup.is_some() || plan.cutmix.is_some() { out.len() } else { 0 }];
        if let Some((layout, params)) = &plan.mixup {
            layout.draw(cache, width, &mut second)?;
            params.blend(out, &second);
        }
        if let Some((layout, area)) = &plan.cutmix {
            layout.draw(cache, width, &mut second)?;
            paste(width, out, &second, area);
        }
        if let Some(gains) = &self.hsv {
            gains.apply(out);
        }
        if self.flip_up_down {
            flip_up_down(out, width, &mut []);
        }
        if self.flip_left_right {
            flip_left_right(out, width, &mut []);
        }
        Ok(Sample { labels: plan.labels })
    }

    /// What the sample is made from, without making its pixels. `imgsz`: the size that images are loaded for.
    pub(crate) fn plan(&self, items: &[Item], imgsz: u32, (width, height): (usize, usize)) -> SamplePlan {
        let size = (width, height);
        let view = self.view.lay_out(items, imgsz, size);
        let mut truths = view.truths.clone();
        let mixup = self.mixup.as_ref().map(|(view, params)| {
            let layout = view.lay_out(items, imgsz, size);
            truths.extend_from_slice(&layout.truths);
            (layout, *params)
        });
        let cutmix = self.cutmix.as_ref().and_then(|(view, params)| {
            let layout = view.lay_out(items, imgsz, size);
            let (area, incoming) = params.choose(size, &truths, &layout.truths)?;
            truths.extend(incoming);
            Some((layout, area))
        });
        if self.flip_up_down {
            overturn(height, &mut truths);
        }
        if self.flip_left_right {
            mirror(width, &mut truths);
        }
        let labels = truths.iter().map(|t| t.bbox.to_label(t.class, width as f32, height as f32)).collect();
        SamplePlan { view, mixup, cutmix, labels }
    }
}
