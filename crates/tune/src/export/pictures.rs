//! The pictures that an export is calibrated and proved on.

use std::path::PathBuf;

use super::proof::Picture;
use crate::data::dataset::Item;
use crate::data::raster::Rgb8;
use crate::evaluate::validate::truths;
use crate::train::start::decoder;

/// Up to `count` items, spread over the set; their labels count where the data set's classes are the model's.
///
/// # Errors
/// The first that cannot be read: its path and why.
pub fn of_items(items: &[Item], count: usize, labelled: bool) -> Result<Vec<Picture>, (PathBuf, String)> {
    let count = count.min(items.len());
    let decode = decoder();
    (0..count)
        .map(|i| {
            let item = &items[i * items.len() / count];
            let image = decode(&item.path).map_err(|e| (item.path.clone(), e.to_string()))?;
            let truths = labelled.then(|| truths(item, false));
            Ok(Picture { name: item.path.clone(), image, truths })
        })
        .collect()
}

/// Drawn pictures: shaded fields, discs and noise, each of another size. For models whose data are not at hand.
pub fn drawn(count: usize) -> Vec<Picture> {
    const SIZES: [(usize, usize); 4] = [(640, 480), (480, 640), (333, 517), (1024, 768)];
    (0..count)
        .map(|i| {
            let (width, height) = SIZES[i % SIZES.len()];
            let mut data = Vec::with_capacity(width * height * 3);
            for y in 0..height {
                for x in 0..width {
                    for c in 0..3 {
                        data.push(shade(i, x, y, c, width, height));
                    }
                }
            }
            let name = PathBuf::from(format!("drawn picture {}", i + 1));
            Picture { name, image: Rgb8 { width, height, data }, truths: None }
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
