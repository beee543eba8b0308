//! Images of 16 bits and of other channels than three, from the disk to the figures, by the real binary.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
mod common;

use std::path::Path;

use common::onsa;
use image::{ImageBuffer, Luma};
use serde_json::Value;

fn json(folder: &Path, line: &[&str]) -> Value {
    let ran = onsa(folder, line);
    assert_eq!(ran.code, 0, "{line:?}: {}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

/// Grey PNGs of 16 bits whose classes differ in the lower eight bits alone: a cut to 8 bits makes them equal.
fn faint(folder: &Path) {
    for (split, count) in [("train", 12u32), ("val", 6)] {
        for (name, step) in [("even", 0u16), ("odd", 120)] {
            let dir = folder.join("faint").join(split).join(name);
            std::fs::create_dir_all(&dir).unwrap();
            for i in 0..count {
                let image = ImageBuffer::<Luma<u16>, Vec<u16>>::from_fn(40, 36, |x, y| {
                    Luma([257 * 30 + if (x / 4 + y / 4 + i) % 2 == 0 { step } else { 0 }])
                });
                image.save(dir.join(format!("p{i}_{name}.png"))).unwrap();
            }
        }
    }
}

#[test]
fn sixteen_bits_reach_the_network_and_a_cut_to_eight_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    faint(folder.path());
    let check = json(folder.path(), &["check", "data=faint", "channels=1", "near=false", "--json"]);
    assert_eq!(
        (&check["task"], &check["images"], &check["ok"]),
        (&"classify".into(), &36.into(), &true.into())
    );
    let line = |name: &'static str, bits: &'static str| {
        vec![
            "train",
            "task=classify",
            "model=resnet18",
            "pretrained=false",
            "data=faint",
            "epochs=1",
            "imgsz=32",
            "batch=8",
            "workers=1",
            "project=out",
            "channels=1",
            "auto_augment=none",
            "erasing=0",
            name,
            bits,
        ]
    };
    let ran = onsa(folder.path(), &line("name=deep", "bits=auto"));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("the images have 16 bits and 1 channel"), "{}", ran.stderr);
    assert!(folder.path().join("out/deep/report.html").is_file());
    let best = "model=out/deep/weights/best.safetensors";
    // The first convolution has one channel.
    let inspected = json(folder.path(), &["inspect", "out/deep/weights/best.safetensors", "--json"]);
    let first =
        inspected["tensors"].as_array().unwrap().iter().find(|t| t["name"] == "conv1.weight").unwrap();
    assert_eq!(first["shape"], serde_json::json!([64, 1, 7, 7]));
    let val = json(folder.path(), &["val", best, "data=faint", "plots=false", "--json"]);
    assert_eq!(val["images"], 12);
    // Two pictures that are one in 8 bits get different scores.
    let scores = |file: &str| {
        let source = format!("source=faint/val/{file}");
        json(folder.path(), &["predict", best, &source, "--json"])[0]["top5"].clone()
    };
    assert_ne!(scores("even/p0_even.png"), scores("odd/p0_odd.png"));
    let ran = onsa(folder.path(), &line("name=cut", "bits=8"));
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("the images have 8 bits and 1 channel"), "{}", ran.stderr);
}

/// A TIFF of `pages` grey pages of 16 bits, each a square in another place.
fn pages(width: usize, height: usize, pages: usize, seed: usize) -> Vec<u8> {
    let mut out = b"II*\0\0\0\0\0".to_vec();
    let mut patch = 4;
    for page in 0..pages {
        let data = out.len() as u32;
        for i in 0..width * height {
            let (x, y) = (i % width, i / width);
            let inside = (8 + seed..28 + seed).contains(&x) && (10..30).contains(&y);
            let value = (900 * (page + 1) + if inside { 30_000 } else { 0 } + (x * y + seed) % 97) as u16;
            out.extend(value.to_le_bytes());
        }
        let at = out.len() as u32;
        out[patch..patch + 4].copy_from_slice(&at.to_le_bytes());
        let bytes = (width * height * 2) as u32;
        let entries = [
            (256u16, 4u16, width as u32),
            (257, 4, height as u32),
            (258, 3, 16),
            (259, 3, 1),
            (262, 3, 1),
            (273, 4, data),
            (277, 3, 1),
            (278, 4, height as u32),
            (279, 4, bytes),
        ];
        out.extend((entries.len() as u16).to_le_bytes());
        for (tag, kind, value) in entries {
            out.extend(tag.to_le_bytes());
            out.extend(kind.to_le_bytes());
            out.extend(1u32.to_le_bytes());
            out.extend(value.to_le_bytes());
        }
        patch = out.len();
        out.extend([0; 4]);
    }
    out
}

#[test]
fn the_pages_of_a_tiff_are_channels_of_a_detector() {
    let folder = tempfile::tempdir().unwrap();
    for (split, count) in [("train", 4), ("val", 2)] {
        for kind in ["images", "labels"] {
            std::fs::create_dir_all(folder.path().join("bands").join(kind).join(split)).unwrap();
        }
        for i in 0..count {
            let bands = folder.path().join("bands");
            let seed = i * 5 + usize::from(split == "val") * 3;
            std::fs::write(bands.join(format!("images/{split}/{i}.tiff")), pages(64, 48, 5, seed)).unwrap();
            let cx = (18 + seed) as f64 / 64.0;
            let label = format!("0 {cx} {} {} {}\n", 20.0 / 48.0, 20.0 / 64.0, 20.0 / 48.0);
            std::fs::write(bands.join(format!("labels/{split}/{i}.txt")), label).unwrap();
        }
    }
    let yaml = |channels: &str| {
        let text = format!("train: images/train\nval: images/val\nnames: [square]\n{channels}");
        std::fs::write(folder.path().join("bands/data.yaml"), text).unwrap();
    };
    // Without the number of channels: the first page alone, and a word about it. With a wrong one: an error.
    yaml("");
    let check = json(folder.path(), &["check", "data=bands", "near=false", "--json"]);
    let told = check["faults"].as_array().unwrap();
    assert!(told.len() == 6 && told.iter().all(|f| f["kind"] == "more_pages"), "{told:?}");
    assert!(told[0]["message"].as_str().unwrap().contains("channels: 5"));
    yaml("channels: 4\n");
    let ran = onsa(folder.path(), &["check", "data=bands", "--json"]);
    let check: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(ran.code == 1 && check["faults"][0]["kind"] == "wrong_channels", "{}", ran.stdout);
    yaml("channels: 5\n");
    let line = [
        "train",
        "model=yolov8n",
        "pretrained=false",
        "data=bands",
        "epochs=1",
        "imgsz=64",
        "batch=2",
        "workers=1",
        "project=out",
        "name=run",
        "mixup=0.5",
        "degrees=10",
        "multi_scale=0.5",
        "close_mosaic=0",
    ];
    let ran = onsa(folder.path(), &line);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("16 bits and 5 channels"), "{}", ran.stderr);
    assert!(folder.path().join("out/run/train_batch0.jpg").is_file());
    let best = "model=out/run/weights/best.safetensors";
    let val = json(folder.path(), &["val", best, "data=bands", "imgsz=64", "plots=false", "--json"]);
    assert_eq!((&val["images"], &val["boxes"]), (&2.into(), &2.into()));
    let found = json(
        folder.path(),
        &["predict", best, "source=bands/images/val", "imgsz=64", "save=false", "--json"],
    );
    assert_eq!((&found[0]["width"], &found[1]["height"]), (&64.into(), &48.into()));
    for (format, more) in
        [("onnx", "int8=false"), ("onnx", "int8=true"), ("tflite", "half=true"), ("torch", "half=false")]
    {
        let (format_is, output) = (format!("format={format}"), format!("output=m.{format}"));
        let line =
            ["export", best, &format_is, &output, "imgsz=64", "data=bands", more, "tolerance=1", "--json"];
        let made = json(folder.path(), &line);
        assert_eq!(
            (&made["proof"]["ok"], &made["proof"]["images"]),
            (&true.into(), &2.into()),
            "{format} {more}: {made}"
        );
    }
    // Without data, on drawn pictures of five channels.
    let made = json(folder.path(), &["export", best, "output=drawn.onnx", "imgsz=64", "images=2", "--json"]);
    assert_eq!(made["proof"]["images"], 2);
    let refused = onsa(folder.path(), &["export", best, "preprocess=true", "imgsz=64"]);
    assert!(refused.code == 2 && refused.stderr.contains("takes 5 channel(s)"), "{}", refused.stderr);
    std::fs::write(folder.path().join("three.tiff"), pages(64, 48, 3, 0)).unwrap();
    let refused = onsa(folder.path(), &["predict", best, "source=three.tiff", "imgsz=64"]);
    assert!(
        refused.code == 1 && refused.stderr.contains("3 channel(s) where 5 are expected"),
        "{}",
        refused.stderr
    );
}
