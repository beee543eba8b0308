//! Samples drawn by the device against `SampleParams::render`.

use std::sync::Arc;

use super::super::augment::{ColourRow, DeviceAugment, DeviceImage, InputView, SampleRow};
use super::super::{Machine, Memory};
use super::Row;
use crate::data::augment::{AugmentConfig, SampleParams};
use crate::data::cache::{CachePolicy, ImageCache};
use crate::data::test_items::{drawing_decoder, drawn_items};
use crate::models::Normalise;

/// The recipes: default, all at once, none.
fn recipes() -> [(&'static str, AugmentConfig); 3] {
    let all = AugmentConfig {
        degrees: 20.0,
        shear: 10.0,
        perspective: 0.0005,
        mixup: 0.7,
        cutmix: 0.7,
        flipud: 0.5,
        mosaic: 0.7,
        ..AugmentConfig::default()
    };
    [("default", AugmentConfig::default()), ("all", all), ("none", AugmentConfig::none())]
}

/// Bytes of tables that end within a word, and what lies behind them.
fn tables(machine: &Arc<dyn Machine>, drawer: &DeviceAugment) -> Row {
    let words: Vec<u64> = (0..70_001u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1).collect();
    let (from, to) =
        (Memory::of(machine, &words).unwrap(), Memory::zeros::<u64>(machine, words.len()).unwrap());
    drawer.enqueue_tables(from.address(), to.address(), 8 * 70_000 - 3).unwrap();
    let got: Vec<u64> = to.read(words.len()).unwrap();
    let wrong = words[..70_000].iter().chain([&0]).zip(&got).filter(|(a, b)| a != b).count();
    Row { name: "tables brought".into(), worst: wrong as f64, limit: 0.0, what: "words that differ" }
}

/// Each size's images are drawn in every recipe into float32 and bfloat16 inputs.
pub(super) fn compare(machine: &Arc<dyn Machine>, sizes: &[(usize, usize)]) -> Vec<Row> {
    let drawer = DeviceAugment::new(machine, Normalise::NONE).unwrap();
    let mut rows = vec![tables(machine, &drawer)];
    for &(size, n) in sizes {
        let shapes = [(64, 48), (50, 90), (96, 96), (66, 20), (640, 480)];
        let items = drawn_items(n + 3, &shapes);
        let cache = ImageCache::new(items, size as u32, CachePolicy::Bytes(1 << 30), drawing_decoder());
        let images: Vec<_> = (0..cache.items().len()).map(|i| cache.get(i).unwrap()).collect();
        let stored: Vec<Memory> = images.iter().map(|i| Memory::of(machine, &i.data).unwrap()).collect();
        let place =
            |item: usize| DeviceImage { address: stored[item].address(), width: images[item].width as u32 };
        for (name, config) in recipes() {
            let (mut samples, mut colours, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
            for item in 0..n {
                let params = SampleParams::draw(&config, 5, 2, item, cache.items().len(), size);
                let plan = params.plan(cache.items(), size as u32, (size, size));
                let mut bytes = vec![0; size * size * 3];
                let sample = params.render(&cache, (size, size), &mut bytes).unwrap();
                assert_eq!(sample.labels, plan.labels);
                samples.push(SampleRow::new(&params, &plan, place));
                colours.push(params.hsv.map_or_else(ColourRow::default, |gains| ColourRow::new(&gains)));
                wanted.extend(bytes);
            }
            let samples = Memory::of(machine, &samples).unwrap();
            let colours = Memory::of(machine, &colours).unwrap();
            let (pixels, addresses) = (n * size * size, [samples.address(), colours.address()]);
            for (stride, half) in [(3, false), (8, true), (4, true), (3, true)] {
                let bytes = pixels * stride * if half { 2 } else { 4 };
                let out = Memory::of(machine, &vec![0xffu8; bytes]).unwrap();
                let input = InputView { address: out.address(), stride, half };
                drawer.enqueue(addresses, input, [n, size, size]).unwrap();
                let got: Vec<f32> = if half {
                    let bits: Vec<u16> = out.read(pixels * stride).unwrap();
                    bits.into_iter().map(|b| f32::from_bits(u32::from(b) << 16)).collect()
                } else {
                    out.read(pixels * stride).unwrap()
                };
                // A grey level in bfloat16 near 1 is rounded to 1/256: half of that on each side.
                let mut worst = 0.0f64;
                for (pixel, want) in got.chunks_exact(stride).zip(wanted.chunks_exact(3)) {
                    for c in 0..3 {
                        let exact = f32::from(want[c]) / 255.0;
                        let exact = if half { half::bf16::from_f32(exact).to_f32() } else { exact };
                        let off = f64::from((pixel[c] - exact).abs()) * 255.0;
                        worst = worst.max(if off.is_nan() { f64::INFINITY } else { off });
                    }
                    if pixel[3..].iter().any(|&v| v != 0.0) {
                        worst = f64::INFINITY;
                    }
                }
                let kind = if half { "bf16" } else { "f32" };
                let name = format!("augment {name} {n} x {size} px {kind} stride {stride}");
                rows.push(Row { name, worst, limit: 1.0, what: "grey levels" });
            }
        }
    }
    rows
}
