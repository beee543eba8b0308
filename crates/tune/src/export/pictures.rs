//! The pictures that an export is calibrated and proved on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::proof::Picture;
use crate::data::dataset::{Item, Pixels};
use crate::data::deep::Deep;
use crate::data::raster::Rgb8;
use crate::evaluate::validate::truths;
use crate::predict::View;
use crate::train::start::{decoder, deep_decoder};

/// Up to `count` items, spread over the set, with the bits and channels of `pixels`; their labels count where the data set's
/// classes are the model's.
///
/// # Errors
/// The first that cannot be read: its path and why.
pub fn of_items(
    (items, pixels): (&[Item], Pixels),
    count: usize,
    labelled: bool,
) -> Result<Vec<Picture>, (PathBuf, String)> {
    let count = count.min(items.len());
    let (decode, decode_deep) = (decoder(), deep_decoder(pixels.channels));
    let view = |path: &Path| match pixels.is_deep() {
        true => decode_deep(path).map(|image| View::Deep(Arc::new(image))),
        false => decode(path).map(View::from),
    };
    (0..count)
        .map(|i| {
            let item = &items[i * items.len() / count];
            let image = view(&item.path).map_err(|e| (item.path.clone(), e.to_string()))?;
            let truths = labelled.then(|| truths(item, false));
            Ok(Picture { name: item.path.clone(), image, truths })
        })
        .collect()
}

/// Drawn pictures of `channels` channels: shaded fields, discs and noise, each of another size. For models whose data are not at
/// hand, and for what data do not show.
pub fn drawn(count: usize, channels: usize) -> Vec<Picture> {
    const SIZES: [(usize, usize); 4] = [(640, 480), (480, 640), (333, 517), (1024, 768)];
    (0..count)
        .map(|i| {
            let (width, height) = SIZES[i % SIZES.len()];
            let mut data = Vec::with_capacity(width * height * channels);
            for y in 0..height {
                for x in 0..width {
                    for c in 0..channels {
                        data.push(shade(i, x, y, c % 3, width, height));
                    }
                }
            }
            let name = PathBuf::from(format!("drawn picture {}", i + 1));
            let image = if channels == 3 {
                Rgb8 { width, height, data }.into()
            } else {
                let data = data.iter().map(|&v| u16::from(v) * 257).collect();
                View::Deep(Arc::new(Deep { width, height, channels, data }))
            };
            Picture { name, image, truths: None }
        })
        .collect()
}

fn shade(i: usize, x: usize, y: usize, c: usize, width: usize, height: usize) -> u8 {
    let ramp = (x * (c + 1) * 200 / width + y * (3 - c) * 200 / height) / 2;
    let block = (((x / 61) * 7 + (y / 47) * 13 + c * 5 + i * 31) * 37) % 97;
    let noise = (x * 7919 + y * 104_729 + c * 1_299_721 + i * 15_485_863) % 23;
    let (cx, cy) = (width * (1 + i % 3) / 4, height * (1 + i % 2) / 3);
    let away = x.abs_diff(cx).pow(2) + y.abs_diff(cy).pow(2);
    let disc = if away < (height / 5).pow(2) { 90 } else { 0 };
    ((ramp + block + noise + disc * (1 + (c + i) % 2)) % 256) as u8
}
