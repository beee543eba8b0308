//! `onsa predict`: the same answers from every kind of source, in batches, and in tiles.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

fn model() -> String {
    let root: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models");
    format!("model={}", root.join("yolov8n_tiny.weights.safetensors").display())
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("in")).unwrap();
    for (i, (width, height)) in [(90, 60), (90, 60), (60, 90), (90, 60), (200, 130)].into_iter().enumerate() {
        let shade = |x: u32, y: u32| {
            let seed = i as u32;
            image::Rgb([x * 3 + seed * 40, y * 2 + seed * 90, (x / 9 + y / 7) * 31].map(|v| (v % 256) as u8))
        };
        let picture = image::RgbImage::from_fn(width, height, shade);
        picture.save(folder.path().join(format!("in/{i}.png"))).unwrap();
    }
    folder
}

fn predict(folder: &Path, more: &[&str], stdin: &[u8]) -> Value {
    let model = model();
    let mut line = vec!["predict", &model, "imgsz=64", "conf=0.001", "save=false", "--json"];
    if !more.iter().any(|m| m.starts_with("max_det=")) {
        line.push("max_det=5");
    }
    line.extend(more);
    let mut command = common::command(folder, &line);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    let ran = common::ran(folder, child.wait_with_output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("images/s"), "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn every_source_gives_the_same_answers_in_order() {
    let folder = folder();
    let whole = predict(folder.path(), &["source=in"], b"");
    let names: Vec<&str> = whole.as_array().unwrap().iter().map(|d| d["image"].as_str().unwrap()).collect();
    assert_eq!(names, ["in/0.png", "in/1.png", "in/2.png", "in/3.png", "in/4.png"]);
    assert!(whole.as_array().unwrap().iter().all(|d| !d["boxes"].as_array().unwrap().is_empty()));
    let batched = predict(folder.path(), &["source=in", "batch=3", "workers=3"], b"");
    for (one, other) in whole.as_array().unwrap().iter().zip(batched.as_array().unwrap()) {
        assert_eq!(one["image"], other["image"]);
        let pairs = one["boxes"].as_array().unwrap().iter().zip(other["boxes"].as_array().unwrap());
        for (a, b) in pairs {
            let off = a["score"].as_f64().unwrap() - b["score"].as_f64().unwrap();
            assert!(a["class"] == b["class"] && off.abs() < 1e-5, "{a} {b}");
        }
    }
    assert_eq!(predict(folder.path(), &["source=in/*.png"], b""), whole);
    let list = "in/0.png\nin/1.png\nin/2.png\nin/3.png\nin/4.png\n";
    std::fs::write(folder.path().join("list.txt"), list).unwrap();
    assert_eq!(predict(folder.path(), &["source=list.txt"], b""), whole);
    assert_eq!(predict(folder.path(), &["source=-"], list.as_bytes()), whole);
    let bytes = std::fs::read(folder.path().join("in/2.png")).unwrap();
    let alone = predict(folder.path(), &["source=-"], &bytes);
    assert_eq!((&alone[0]["image"], &alone[0]["boxes"]), (&"stdin".into(), &whole[2]["boxes"]));
}

#[test]
fn large_pictures_are_seen_in_tiles() {
    let folder = folder();
    let tiled = predict(folder.path(), &["source=in/4.png", "tile=100", "max_det=300"], b"");
    let boxes = tiled[0]["boxes"].as_array().unwrap();
    let centre = |b: &Value| {
        let at = |i: usize| b["xyxy"][i].as_f64().unwrap();
        ((at(0) + at(2)) / 2.0, (at(1) + at(3)) / 2.0)
    };
    assert!(boxes.iter().all(|b| centre(b).0 <= 200.0 && centre(b).1 <= 130.0));
    for (left, top) in [(true, true), (false, true), (true, false), (false, false)] {
        let there = boxes.iter().map(centre).any(|(x, y)| (x < 100.0) == left && (y < 65.0) == top);
        assert!(there, "nothing was found in one corner of the picture");
    }
    // A picture that fits one tile is seen as without.
    let small = predict(folder.path(), &["source=in/0.png", "tile=100"], b"");
    assert_eq!(small, predict(folder.path(), &["source=in/0.png"], b""));
}
