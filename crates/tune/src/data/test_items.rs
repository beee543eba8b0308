//! Items without files, for tests: the decoder draws an image from the item's name.

use std::path::PathBuf;
use std::sync::Arc;

use crate::boxes::Label;

use super::cache::Decoder;
use super::dataset::Item;
use super::raster::Rgb8;
use super::rng::{Draw, Purpose};

/// `n` items whose sizes go round `sizes`, with 0 to 3 labels each.
pub(crate) fn drawn_items(n: usize, sizes: &[(u32, u32)]) -> Vec<Item> {
    let item = |i: usize| {
        let (width, height) = sizes[i % sizes.len()];
        let mut draw = Draw::new(1, 0, i as u32, Purpose::Init);
        let labels = (0..i % 4).map(|k| {
            let (w, h) = (draw.uniform(0.1, 0.6) as f32, draw.uniform(0.1, 0.6) as f32);
            let cx = draw.uniform(f64::from(w) / 2.0, 1.0 - f64::from(w) / 2.0) as f32;
            let cy = draw.uniform(f64::from(h) / 2.0, 1.0 - f64::from(h) / 2.0) as f32;
            Label { class: k as u32, cx, cy, w, h }
        });
        Item {
            path: PathBuf::from(format!("{i}/{width}/{height}")),
            label_path: None,
            width,
            height,
            labels: labels.collect(),
            group: None,
        }
    };
    (0..n).map(item).collect()
}

/// Draws smooth noise for the names that [`drawn_items`] gives, and fails on any other name.
pub(crate) fn drawing_decoder() -> Decoder {
    Arc::new(|path| {
        let name = path.to_string_lossy();
        let numbers: Vec<u32> = name.split('/').filter_map(|part| part.parse().ok()).collect();
        let [sample, width, height] = numbers[..] else {
            return Err("the file is cut off".into());
        };
        let mut draw = Draw::new(2, 0, sample, Purpose::Init);
        let data = (0..width * height * 3).map(|_| draw.bits() as u8).collect();
        Ok(Rgb8 { width: width as usize, height: height as usize, data })
    })
}
