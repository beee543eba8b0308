//! How much processor time one training sample takes (on Linux; elsewhere wall time): `cargo run --release -p onsa-tune --example augment_speed [imgsz]`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use onsa_tune::boxes::Label;
use onsa_tune::data::augment::{AugmentConfig, SampleParams};
use onsa_tune::data::cache::{CachePolicy, ImageCache};
use onsa_tune::data::dataset::Item;
use onsa_tune::data::raster::Rgb8;

const ITEMS: usize = 35;

/// Seconds on a processor, so that other processes do not count; where the system does not say, seconds since `start`.
fn seconds(start: Instant) -> f64 {
    let nanoseconds = || {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    };
    nanoseconds().map_or_else(|| start.elapsed().as_secs_f64(), |ns| ns * 1e-9)
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let imgsz: u32 = std::env::args().nth(1).map_or(Ok(416), |argument| argument.parse())?;
    let label = Label { class: 0, cx: 0.5, cy: 0.5, w: 0.1, h: 0.1 };
    let item = |i: usize| Item {
        path: PathBuf::from(i.to_string()),
        label_path: None,
        width: 400,
        height: 400,
        labels: vec![label; 20],
        group: None,
    };
    let items: Vec<Item> = (0..ITEMS).map(item).collect();
    let draw = Arc::new(|_: &std::path::Path| {
        // Smooth in both directions with some colour, as photographs mostly are.
        let pixel = |i: usize| [(i % 400 / 2) as u8, (i / 800) as u8, (i % 251) as u8];
        let data = (0..400 * 400).flat_map(pixel).collect();
        Ok(Rgb8 { width: 400, height: 400, data })
    });
    let cache = ImageCache::new(items, imgsz, CachePolicy::Bytes(1 << 30), draw);
    let start = Instant::now();
    let size = imgsz as usize;
    let mut out = vec![0; size * size * 3];
    let usual = AugmentConfig::default();
    let uncoloured = AugmentConfig { hsv_h: 0.0, hsv_s: 0.0, hsv_v: 0.0, ..usual.clone() };
    let turned = AugmentConfig { degrees: 10.0, shear: 2.0, ..uncoloured.clone() };
    let single = AugmentConfig { mosaic: 0.0, ..uncoloured.clone() };
    for (name, config) in [
        ("mosaic, affine, hsv, flip", usual),
        ("mosaic, affine, flip", uncoloured),
        ("mosaic, rotation, flip", turned),
        ("single, affine, flip", single),
    ] {
        let mut best = f64::INFINITY;
        let mut boxes = 0;
        for epoch in 0..10 {
            let begin = seconds(start);
            for i in 0..ITEMS {
                let params = SampleParams::draw(&config, 0, epoch, i, ITEMS, size);
                boxes += params.render(&cache, (size, size), &mut out)?.labels.len();
            }
            best = best.min((seconds(start) - begin) / ITEMS as f64);
        }
        println!("{name}: {:.2} ms a sample at {imgsz} px ({boxes} boxes)", best * 1e3);
    }
    Ok(())
}
