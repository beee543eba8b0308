//! ONNX exports in ONNX Runtime, against the reference's own outputs and against the engine.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/python.rs"]
mod python;
mod support;

use onsa_tune::engine::Inference;
use onsa_tune::evaluate::{Postprocess, detections};
use onsa_tune::export::network::Network;
use onsa_tune::export::onnx::{Numbers, OnnxOptions, Suppression, encode};
use onsa_tune::models::{Family, load};
use python::{Ran, bytes, python, run};
use support::{FAMILIES, Fixture, threads};

struct Tiny {
    fixture: Fixture,
    model: onsa_tune::models::Model,
    params: onsa_compute::Params,
}

fn tiny(family: Family) -> Tiny {
    let fixture = Fixture::read(family);
    let model = fixture.model();
    let params = load(&model, &fixture.weights, &fixture.classes(), 0).unwrap();
    Tiny { fixture, model, params }
}

impl Tiny {
    fn encode(&self, options: &OnnxOptions) -> Vec<u8> {
        encode(&self.model, &Network::new(&self.model.graph, &self.params), &[], options)
    }

    fn run(&self, python: &std::path::Path, options: &OnnxOptions) -> Ran {
        let (info, images) = self.fixture.values.get("images");
        run("run_onnx.py", python, &self.encode(options), &bytes(images), "float32", &info.shape)
    }

    /// The reference's decoded output, `[n, 4 + classes, anchors]`.
    fn expected(&self) -> &(onsa_tune::models::TensorInfo, Vec<f32>) {
        self.fixture.values.get("eval/decoded")
    }
}

/// Largest differences of the box rows and of the score rows.
fn differences(shape: &[usize], a: &[f32], b: &[f32]) -> (f32, f32) {
    assert_eq!(a.len(), b.len());
    let (rows, anchors) = (shape[1], shape[2]);
    let mut most = [0.0f32; 2];
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        let kind = usize::from((i / anchors) % rows >= 4);
        let off = (a - b).abs();
        most[kind] = if off > most[kind] || off.is_nan() { off } else { most[kind] };
    }
    (most[0], most[1])
}

#[test]
fn every_family_gives_the_references_output() {
    let Some(python) = python("onnxruntime") else { return };
    for family in FAMILIES {
        let tiny = tiny(family);
        let (info, expected) = tiny.expected();
        for dynamic in [false, true] {
            let ran = tiny.run(&python, &OnnxOptions { dynamic, ..OnnxOptions::default() });
            let output = &ran.outputs["output0"];
            assert_eq!(output.shape, info.shape, "{family:?}");
            let (boxes, scores) = differences(&info.shape, &output.floats(), expected);
            assert!(boxes < 2e-3 && scores < 1e-5, "{family:?} dynamic {dynamic}: {boxes} px, {scores}");
        }
    }
}

#[test]
fn a_dynamic_file_takes_other_sizes() {
    let Some(python) = python("onnxruntime") else { return };
    let tiny = tiny(Family::Yolo12);
    let file = tiny.encode(&OnnxOptions { dynamic: true, ..OnnxOptions::default() });
    let (h, w) = (96, 160);
    let images: Vec<f32> = (0..3 * 3 * h * w).map(|i| ((i * 7919) % 256) as f32 / 255.0).collect();
    let ran = run("run_onnx.py", &python, &file, &bytes(&images), "float32", &[3, 3, h, w]);
    let mut network = Inference::new(&tiny.model, tiny.params.clone(), threads(2));
    let nhwc = support::to_nhwc(&[3, 3, h, w], &images);
    let expected = network.run([3, h, w], &nhwc).unwrap().head().unwrap().dense();
    let output = &ran.outputs["output0"];
    assert_eq!(output.shape, [3, 9, 315]);
    let (boxes, scores) = differences(&output.shape, &output.floats(), &expected);
    assert!(boxes < 2e-3 && scores < 1e-5, "{boxes} px, {scores}");
}

#[test]
fn half_precision_stays_near() {
    let Some(python) = python("onnxruntime") else { return };
    for family in FAMILIES {
        let tiny = tiny(family);
        let options = OnnxOptions { numbers: Numbers::Float16, ..OnnxOptions::default() };
        let (whole, half) = (tiny.encode(&OnnxOptions::default()).len(), tiny.encode(&options).len());
        assert!(half * 3 < whole * 2, "{half} of {whole} bytes");
        let ran = tiny.run(&python, &options);
        let (info, expected) = tiny.expected();
        let (boxes, scores) = differences(&info.shape, &ran.outputs["output0"].floats(), expected);
        // A side is an expectation over 16 bins, in strides of up to 32 px: .05 strides for sums of float16 values.
        assert!(boxes < 1.6 && scores < 5e-3, "{family:?}: {boxes} px, {scores}");
    }
}

#[test]
fn suppression_in_the_graph_keeps_what_the_engine_keeps() {
    let Some(python) = python("onnxruntime") else { return };
    for (family, dynamic) in [(Family::Yolov8, false), (Family::Yolo11, true)] {
        let tiny = tiny(family);
        let images = tiny.fixture.images();
        let [h, w] = tiny.fixture.size();
        let mut network = Inference::new(&tiny.model, tiny.params.clone(), threads(2));
        // Low enough that a random network finds much, and much of it overlaps.
        let scores = network.run([2, h, w], &images).unwrap().head().unwrap().dense();
        let classes = tiny.model.architecture.classes;
        let anchors = scores.len() / 2 / (4 + classes);
        let mut best: Vec<f32> = scores[4 * anchors..(4 + classes) * anchors].to_vec();
        best.sort_by(f32::total_cmp);
        let conf = best[best.len() / 3];
        let suppression = Suppression { conf, iou: 0.3, max_det: 12 };
        let rules = Postprocess { conf, iou: 0.3, max_det: 12, ..Postprocess::prediction() };
        let head = network.run([2, h, w], &images).unwrap();
        let expected = detections(&head.head().unwrap(), &rules).unwrap();

        let options = OnnxOptions { suppression: Some(suppression), dynamic, ..OnnxOptions::default() };
        let ran = tiny.run(&python, &options);
        let (boxes, scores) = (ran.outputs["boxes"].floats(), ran.outputs["scores"].floats());
        let (classes, count) = (ran.outputs["classes"].whole(), ran.outputs["count"].whole());
        assert_eq!(ran.outputs["boxes"].shape, [2, 12, 4]);
        for (image, expected) in expected.iter().enumerate() {
            assert!(expected.len() > 3, "too few boxes to say anything");
            assert_eq!(count[image] as usize, expected.len(), "{family:?} image {image}");
            for (place, want) in expected.iter().enumerate() {
                let at = image * 12 + place;
                assert_eq!(classes[at], i64::from(want.class));
                assert!((scores[at] - want.score).abs() < 1e-5);
                let b = want.bbox;
                for (got, want) in boxes[at * 4..][..4].iter().zip([b.x1, b.y1, b.x2, b.y2]) {
                    assert!((got - want).abs() < 2e-3, "{got}, not {want}");
                }
            }
            for at in image * 12 + expected.len()..(image + 1) * 12 {
                assert_eq!((classes[at], scores[at]), (-1, 0.0));
            }
        }
    }
}

#[test]
fn pictures_are_fitted_in_the_graph_as_the_engine_fits_them() {
    let Some(python) = python("onnxruntime") else { return };
    let mut tiny = tiny(Family::Yolov8);
    tiny.model = tiny.model.resized([1, 64, 96]).unwrap();
    let file = tiny.encode(&OnnxOptions { letterbox: true, ..OnnxOptions::default() });
    let plain = tiny.encode(&OnnxOptions::default());
    for (width, height) in [(300, 140), (33, 57), (96, 64), (1, 9), (1000, 667), (64, 64)] {
        let data: Vec<u8> = (0..width * height * 3).map(|i| ((i * 7919 + i / 977) % 256) as u8).collect();
        let image = onsa_tune::data::raster::Rgb8::new(width, height, data.clone()).unwrap();
        let fit = onsa_tune::data::letterbox::Letterbox::fit((width, height), (96, 64), true);
        let canvas = fit.apply(&image).data;
        let plane = |c: usize| canvas.iter().skip(c).step_by(3).map(|&v| f32::from(v) / 255.0);
        let input: Vec<f32> = (0..3).flat_map(plane).collect();
        // The same network in the same runtime: what differs is the fitting alone.
        let mut expected = run("run_onnx.py", &python, &plain, &bytes(&input), "float32", &[1, 3, 64, 96])
            .outputs["output0"]
            .floats();
        let ran = run("run_onnx.py", &python, &file, &data, "uint8", &[height, width, 3]);
        let output = &ran.outputs["output0"];
        // Into pixels of the picture.
        let anchors = output.shape[2];
        for (row, moved) in [(0, fit.left as f32), (1, fit.top as f32), (2, 0.0), (3, 0.0)] {
            for value in &mut expected[row * anchors..(row + 1) * anchors] {
                *value = (*value - moved) / fit.ratio as f32;
            }
        }
        let (boxes, scores) = differences(&output.shape, &output.floats(), &expected);
        // In pixels of the canvas: one grey level of one pixel would move more.
        let boxes = boxes * fit.ratio as f32;
        assert!(boxes < 1e-3 && scores < 1e-6, "{width}x{height}: {boxes} px, {scores}");
    }
}
