//! A classifier's samples drawn by the device against `ClassifySample::render`.

use std::sync::Arc;

use super::super::augment::{DeviceAugment, DeviceImage, InputView};
use super::super::crops::{CropPlaces, CropTables, DeviceCrops, OPERATIONS};
use super::super::{Machine, Memory};
use super::Row;
use crate::data::classify::ClassifyAugment;
use crate::data::classify::augment::ClassifySample;
use crate::data::raster::Rgb8;
use crate::data::rng::{Draw, Purpose};
use crate::models::Normalise;

/// The recipes: default, colour jitter, none.
fn recipes() -> [(&'static str, ClassifyAugment); 3] {
    let usual = ClassifyAugment {
        scale: 0.5,
        fliplr: 0.5,
        flipud: 0.0,
        rand_augment: true,
        hsv: (0.015, 0.7, 0.4),
        erasing: 0.4,
    };
    let jitter = ClassifyAugment { rand_augment: false, flipud: 0.5, scale: 0.92, ..usual.clone() };
    let none = ClassifyAugment {
        scale: 0.0,
        fliplr: 0.0,
        flipud: 0.0,
        rand_augment: false,
        hsv: (0.0, 0.0, 0.0),
        erasing: 0.0,
    };
    [("default", usual), ("jitter", jitter), ("none", none)]
}

/// Pictures with flat and with busy parts, so that every operation has something to do.
fn picture(seed: u32, (width, height): (usize, usize)) -> Rgb8 {
    let mut draw = Draw::new(8, 0, seed, Purpose::Init);
    let (low, span) = (draw.below(80), 60 + draw.below(100));
    let pixel = |i: usize| {
        let (x, y) = (i % width, i / width);
        let base = low + (x * 3 + y * 2) as u32 % span;
        [base, base / 2 + (x * y % 31) as u32, low + draw.below(span)].map(|v| v as u8)
    };
    Rgb8::new(width, height, (0..width * height).flat_map(pixel).collect()).unwrap()
}

/// Each size's images are drawn in every recipe; the samples go on until every operation has occurred.
pub(super) fn compare(machine: &Arc<dyn Machine>, sizes: &[(usize, usize)]) -> Vec<Row> {
    let mut rows = Vec::new();
    for &(side, n) in sizes {
        let shapes = [(40, 30), (31, 57), (side, side), (3 * side / 2, 2 * side), (side / 2, 2 * side)];
        let images: Vec<Rgb8> = (0..n).map(|i| picture(i as u32, shapes[i % shapes.len()])).collect();
        let stored: Vec<Memory> = images.iter().map(|i| Memory::of(machine, &i.data).unwrap()).collect();
        for (name, config) in recipes() {
            let mut seen = std::collections::HashSet::new();
            let mut worst = 0.0f64;
            let drawer = DeviceAugment::new(machine, Normalise::IMAGENET).unwrap();
            let operations = if config.rand_augment { OPERATIONS } else { 0 };
            let crops = DeviceCrops::new(machine, (n, side), operations).unwrap();
            for epoch in 0..6 {
                let sample = |item: usize| -> ClassifySample {
                    let size = (images[item].width, images[item].height);
                    config.draw(5, epoch, item, size, side)
                };
                let samples: Vec<ClassifySample> = (0..n).map(sample).collect();
                seen.extend(samples.iter().flat_map(|s| &s.operations).map(std::mem::discriminant));
                let tables: Vec<CropTables> = samples
                    .iter()
                    .enumerate()
                    .map(|(i, sample)| {
                        let size = (images[i].width, images[i].height);
                        let image = DeviceImage { address: stored[i].address(), width: size.0 as u32 };
                        CropTables::new(sample, image, size, side).expect("no crop is three times as large")
                    })
                    .collect();
                let flat: Vec<_> = tables.iter().flat_map(|t| t.taps.iter().copied()).collect();
                let colours: Vec<_> = tables.iter().filter_map(|t| t.colours).collect();
                let row_memory =
                    Memory::of(machine, &tables.iter().map(|t| t.row).collect::<Vec<_>>()).unwrap();
                let tap_memory = Memory::of(machine, &flat).unwrap();
                let colour_memory = Memory::of(machine, &colours).unwrap();
                let places = CropPlaces {
                    rows: row_memory.address(),
                    taps: tap_memory.address(),
                    colours: colour_memory.address(),
                };
                let stride = 4;
                let out = Memory::of(machine, &vec![7.0f32; n * side * side * stride]).unwrap();
                let input = InputView { address: out.address(), stride, half: false };
                crops.enqueue(places, drawer.pixelwise(), input).unwrap();
                let got: Vec<f32> = out.read(n * side * side * stride).unwrap();
                for (i, sample) in samples.iter().enumerate() {
                    let want = sample.render(&images[i], side);
                    let fractions: Vec<f32> = want.data.iter().map(|&v| f32::from(v) / 255.0).collect();
                    let mut normalised = vec![0.0; fractions.len()];
                    Normalise::IMAGENET.apply(&fractions, 3, &mut normalised);
                    let own = &got[i * side * side * stride..][..side * side * stride];
                    for (pixel, want) in own.chunks_exact(stride).zip(normalised.chunks_exact(3)) {
                        let off = pixel[..3].iter().zip(want).map(|(a, b)| f64::from((a - b).abs()));
                        worst = off.chain([f64::from(pixel[3].abs())]).fold(worst, f64::max);
                    }
                }
            }
            if config.rand_augment && n >= 20 && seen.len() < 14 {
                worst = f64::INFINITY;
            }
            let name = format!("crops {name} {n} x {side} px");
            rows.push(Row { name, worst, limit: 0.0, what: "largest difference" });
        }
    }
    rows
}
