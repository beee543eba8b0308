//! A detector's training sample of images of 16 bits. The numbers are drawn as for 8 bits.

use super::warp::{Tile, warp};
use crate::boxes::Xyxy;
use crate::data::augment::sample::{Layout, Sample, SampleParams};
use crate::data::cache::{ImageCache, ImageError};

fn draw(
    layout: &Layout,
    cache: &ImageCache,
    shape: (usize, usize),
    out: &mut [u16],
) -> Result<(), ImageError> {
    let mut images = Vec::with_capacity(layout.members.len());
    for (member, _) in &layout.members {
        images.push(cache.get_deep(*member)?);
    }
    let tiles: Vec<Tile> =
        images.iter().zip(&layout.members).map(|(image, &(_, place))| Tile { image, place }).collect();
    warp(&tiles, &layout.map, shape, out);
    Ok(())
}

impl SampleParams {
    /// As [`SampleParams::render`], into `width * height * channels` samples. The colour jitter is left out.
    pub fn render_deep(
        &self,
        cache: &ImageCache,
        (width, height): (usize, usize),
        channels: usize,
        out: &mut [u16],
    ) -> Result<Sample, ImageError> {
        let plan = self.plan(cache.items(), cache.imgsz(), (width, height));
        let shape = (width, channels);
        draw(&plan.view, cache, shape, out)?;
        let mut second = vec![0; if plan.mixup.is_some() || plan.cutmix.is_some() { out.len() } else { 0 }];
        if let Some((layout, params)) = &plan.mixup {
            draw(layout, cache, shape, &mut second)?;
            let share = u64::from(params.share());
            for (a, &b) in out.iter_mut().zip(&second) {
                *a = ((u64::from(*a) * share + u64::from(b) * (65536 - share)) >> 16) as u16;
            }
        }
        if let Some((layout, area)) = &plan.cutmix {
            draw(layout, cache, shape, &mut second)?;
            paste(shape, out, &second, area);
        }
        flip(out, shape, self.flip_up_down, self.flip_left_right);
        Ok(Sample { labels: plan.labels })
    }
}

fn paste((width, channels): (usize, usize), first: &mut [u16], second: &[u16], area: &Xyxy) {
    let (left, right) = (area.x1 as usize * channels, area.x2 as usize * channels);
    for y in area.y1 as usize..area.y2 as usize {
        let row = y * width * channels;
        first[row + left..row + right].copy_from_slice(&second[row + left..row + right]);
    }
}

/// Turns upside down, then mirrors.
pub(super) fn flip(image: &mut [u16], (width, channels): (usize, usize), upside_down: bool, mirrored: bool) {
    let stride = width * channels;
    if upside_down {
        let height = image.len() / stride;
        let (upper, lower) = image.split_at_mut(height / 2 * stride);
        for (a, b) in upper.chunks_exact_mut(stride).zip(lower.rchunks_exact_mut(stride)) {
            a.swap_with_slice(b);
        }
    }
    if mirrored {
        for row in image.chunks_exact_mut(stride) {
            for x in 0..width / 2 {
                for c in 0..channels {
                    row.swap(x * channels + c, (width - 1 - x) * channels + c);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::augment::AugmentConfig;
    use crate::data::cache::CachePolicy;
    use crate::data::dataset::Pixels;
    use crate::data::deep::Deep;
    use crate::data::test_items::{drawing_decoder, drawn_items};
    use std::sync::Arc;

    #[test]
    fn flips_move_whole_pixels() {
        let mut image: Vec<u16> = (0..12).collect();
        flip(&mut image, (3, 2), false, true);
        assert_eq!(image, [4, 5, 2, 3, 0, 1, 10, 11, 8, 9, 6, 7]);
        flip(&mut image, (3, 2), true, true);
        assert_eq!(image, [6, 7, 8, 9, 10, 11, 0, 1, 2, 3, 4, 5]);
    }

    /// Every geometric operation at once: the same numbers give the same picture as with 8 bits, to rounding.
    #[test]
    fn a_sample_is_that_of_8_bits_without_colour() {
        let items = drawn_items(6, &[(64, 48), (50, 90)]);
        let rgb = ImageCache::new(items.clone(), 64, CachePolicy::None, drawing_decoder());
        let wide = drawing_decoder();
        let deep = ImageCache::new(items, 64, CachePolicy::None, drawing_decoder()).with_pixels(
            Pixels { channels: 3, bits: 16 },
            Arc::new(move |path| {
                let image = wide(path)?;
                let data = image.data.iter().map(|&v| u16::from(v) * 257).collect();
                Ok(Deep { width: image.width, height: image.height, channels: 3, data })
            }),
        );
        let config = AugmentConfig {
            hsv_h: 0.0,
            hsv_s: 0.0,
            hsv_v: 0.0,
            degrees: 20.0,
            mixup: 0.5,
            cutmix: 0.5,
            flipud: 0.5,
            mosaic: 0.5,
            ..AugmentConfig::default()
        };
        for item in 0..6 {
            let params = SampleParams::draw(&config, 3, 1, item, 6, 64);
            let mut expected = vec![0u8; 64 * 64 * 3];
            let labels = params.render(&rgb, (64, 64), &mut expected).unwrap();
            let mut out = vec![0u16; 64 * 64 * 3];
            assert_eq!(params.render_deep(&deep, (64, 64), 3, &mut out).unwrap(), labels);
            // Enlarging, warping and blending each round once.
            let worst = expected.iter().zip(&out).map(|(&a, &b)| (f32::from(a) - f32::from(b) / 257.0).abs());
            assert!(worst.fold(0.0, f32::max) <= 3.0, "item {item}");
        }
    }
}
