//! The real YOLO12n on pictures, against ONNX Runtime (fixtures/real). The files are brought by `onsa demo --fetch-only`; where
//! they are absent the tests say so, and fail in CI.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use onsa_tune::data::letterbox::Letterbox;
use onsa_tune::data::raster::Rgb8;
use onsa_tune::engine::Inference;
use onsa_tune::evaluate::Postprocess;
use onsa_tune::models::Model;
use onsa_tune::models::open::{Opened, find, open};
use onsa_tune::predict::{Fit, Reduction, predict};
use onsa_tune::train::files::write_weights;
use onsa_tune::train::start::decoder;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

mod support;
use support::{Tensors, asset, json, threads};

const SIDE: usize = 640;

fn network() -> Option<Inference> {
    let source = find(asset("yolov12n.onnx")?.to_str().unwrap(), &[], true).unwrap();
    let opened = open(&source, None, [SIDE, SIDE], true, 0).unwrap();
    assert!(opened.folded);
    Some(Inference::new(&opened.model, opened.params, threads(2)))
}

/// A picture that needs no file: ramps, rectangles and noise, as fixtures/export_real.py draws it.
fn formula() -> Vec<u8> {
    let mut out = Vec::with_capacity(SIDE * SIDE * 3);
    for y in 0..SIDE {
        for x in 0..SIDE {
            for c in 0..3 {
                let wave = (x * (c + 1) / 3 + y * (3 - c) / 2) % 256;
                let blocks = (((x / 53) * 7 + (y / 41) * 13 + c * 5) * 37) % 256;
                let noise = (x * 7919 + y * 104_729 + c * 1_299_721) % 31;
                out.push(((wave + 2 * blocks + noise) / 3 % 256) as u8);
            }
        }
    }
    out
}

/// The picture fitted into the canvas by bilinear interpolation in float64, as fixtures/export_real.py does it: a grey level's
/// difference would move the output more than the tolerance.
fn fit(image: &Rgb8) -> Vec<u8> {
    let place = Letterbox::fit((image.width, image.height), (SIDE, SIDE), true);
    // Source position of each pixel of an axis: the two neighbours and the second one's weight.
    let axis = |new: usize, old: usize| -> Vec<(usize, usize, f64)> {
        let at = |i: usize| ((i as f64 + 0.5) * old as f64 / new as f64 - 0.5).clamp(0.0, (old - 1) as f64);
        (0..new).map(|i| (at(i) as usize, (at(i) as usize + 1).min(old - 1), at(i).fract())).collect()
    };
    let columns = axis(place.inner_width, image.width);
    let mut canvas = vec![114; SIDE * SIDE * 3];
    for (y, &(top, bottom, down)) in axis(place.inner_height, image.height).iter().enumerate() {
        for (x, &(left, right, across)) in columns.iter().enumerate() {
            for c in 0..3 {
                let value =
                    |row: usize, column: usize| f64::from(image.data[(row * image.width + column) * 3 + c]);
                let line = |row| value(row, left) * (1.0 - across) + value(row, right) * across;
                let mixed = line(top) * (1.0 - down) + line(bottom) * down;
                canvas[((place.top + y) * SIDE + place.left + x) * 3 + c] = (mixed + 0.5) as u8;
            }
        }
    }
    canvas
}

fn assert_output(network: &mut Inference, key: &str, picture: &[u8], facts: &Json, expected: &Tensors) {
    let sha256 = Sha256::digest(picture).iter().map(|b| format!("{b:02x}")).collect::<String>();
    assert_eq!(sha256, facts["inputs"][key]["input_u8_sha256"], "{key}: another picture");
    let images: Vec<f32> = picture.iter().map(|&v| f32::from(v) / 255.0).collect();
    let dense = network.run([1, SIDE, SIDE], &images).unwrap().head().unwrap().dense();
    let anchors = dense.len() / 84;
    let (shape, values) = expected.get(&format!("{key}/values"));
    assert!(shape.shape[0] > 100);
    let chosen = &expected.get(&format!("{key}/anchors")).1;
    for (&anchor, want) in chosen.iter().zip(values.chunks(84)) {
        for (row, want) in want.iter().enumerate() {
            let got = dense[row * anchors + anchor as usize];
            let allowed = if row < 4 { 0.05 } else { 1e-4 };
            assert!((got - want).abs() <= allowed, "{key} anchor {anchor} row {row}: {got}, not {want}");
        }
    }
}

#[test]
fn raw_output_equals_onnx_runtimes() {
    let Some(mut network) = network() else { return };
    let (facts, expected) = (json("real/yolov12n.json"), Tensors::read_file("real/yolov12n.safetensors"));
    assert_output(&mut network, "formula", &formula(), &facts, &expected);
    for photo in ["bus", "zidane"] {
        let Some(path) = asset(&format!("photos/{photo}.jpg")) else { return };
        let image = decoder()(&path).unwrap();
        assert_output(&mut network, &format!("{photo}_rust"), &fit(&image), &facts, &expected);
    }
}

#[test]
fn the_photographs_show_what_onnx_runtime_sees_in_them() {
    let Some(mut network) = network() else { return };
    let facts = json("real/yolov12n.json");
    for (reduction, kind) in [(Reduction::Antialiased, "_antialias"), (Reduction::Linear, "_rust")] {
        for photo in ["bus", "zidane"] {
            let Some(path) = asset(&format!("photos/{photo}.jpg")) else { return };
            let options = Postprocess::prediction();
            let found =
                predict(&mut network, &path, SIDE, (Fit::Square, reduction), &options).unwrap().detections;
            let want =
                facts["inputs"][format!("{photo}{kind}")]["detections_conf_0.25_iou_0.7_original_pixels"]
                    .as_array();
            let want = want.unwrap();
            assert_eq!(found.len(), want.len(), "{photo}{kind}");
            for (found, want) in found.iter().zip(want) {
                assert_eq!(u64::from(found.class), want["class"].as_u64().unwrap(), "{photo}{kind}");
                let score = want["score"].as_f64().unwrap();
                assert!(
                    (f64::from(found.score) - score).abs() <= 0.01,
                    "{photo}{kind}: {} for {score}",
                    found.score
                );
                let b = &found.bbox;
                for (got, want) in [b.x1, b.y1, b.x2, b.y2].into_iter().zip(want["xyxy"].as_array().unwrap())
                {
                    let off = (f64::from(got) - want.as_f64().unwrap()).abs();
                    assert!(off <= 2.0, "{photo}{kind}: an edge is off by {off} px");
                }
            }
        }
    }
}

/// Bits of the head's maps of a small picture, level by level.
fn maps(opened: &Opened) -> Vec<Vec<u32>> {
    let mut network = Inference::new(&opened.model, opened.params.clone(), threads(2));
    let picture: Vec<f32> = formula()[..64 * 64 * 3].iter().map(|&v| f32::from(v) / 255.0).collect();
    let maps = network.run([1, 64, 64], &picture).unwrap();
    maps.values().iter().map(|map| map.iter().map(|v| v.to_bits()).collect()).collect()
}

#[test]
fn a_branch_leaves_folded_norms_as_they_are_and_they_are_seen_again_in_the_joined_file() {
    let Some(path) = asset("yolov12n.onnx") else { return };
    let source = find(path.to_str().unwrap(), &[], true).unwrap();
    let start = open(&source, None, [64, 64], true, 0).unwrap();
    let tree = vec!["Tree".to_owned()];
    let trained = open(&source, Some(&tree), [64, 64], true, 0).unwrap();
    let joined = start.model.architecture.with_branch(2, &trained.model.architecture);
    let model = Model::build(&joined, [1, 64, 64]).unwrap();
    let params = model.join(&start.params, &trained.params);
    let names: Vec<String> = start.names.iter().chain(&tree).cloned().collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("joined.safetensors");
    write_weights(&file, &model, &params.values, &names, None, 64).unwrap();

    let source = find(file.to_str().unwrap(), &[], true).unwrap();
    let again = open(&source, None, [64, 64], true, 0).unwrap();
    assert_eq!((again.names.len(), again.model.architecture.branches[0].from), (81, 2));
    assert!(maps(&start)[..] == maps(&again)[..3]);
    let branch = open(&source, Some(&tree), [64, 64], true, 0).unwrap();
    assert!(maps(&branch)[..] == maps(&trained)[..] && branch.transfer.fresh.is_empty());
    assert!(again.folded && branch.folded, "training has to calibrate them");
}
