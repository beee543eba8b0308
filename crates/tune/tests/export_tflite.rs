//! LiteRT exports in LiteRT's own interpreter, against the reference's outputs.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/python.rs"]
mod python;
mod support;

use onsa_tune::export::network::Network;
use onsa_tune::export::onnx::Numbers;
use onsa_tune::export::tflite::encode;
use onsa_tune::models::load;
use python::{bytes, python, run};
use support::{FAMILIES, Fixture};

/// Largest differences of the box rows, in pixels, and of the score rows.
fn differences(fixture: &Fixture, output: &python::Output) -> (f32, f32) {
    let (info, expected) = fixture.values.get("eval/decoded");
    assert_eq!(output.shape, info.shape);
    let [h, w] = fixture.size();
    let (rows, anchors) = (info.shape[1], info.shape[2]);
    let mut most = [0.0f32; 2];
    for (i, (got, want)) in output.floats().iter().zip(expected).enumerate() {
        let row = (i / anchors) % rows;
        // Boxes come as fractions of the input.
        let side = match row {
            0 | 2 => w as f32,
            1 | 3 => h as f32,
            _ => 1.0,
        };
        let off = (got * side - want).abs();
        let kind = usize::from(row >= 4);
        most[kind] = if off > most[kind] || off.is_nan() { off } else { most[kind] };
    }
    (most[0], most[1])
}

#[test]
fn every_family_gives_the_references_output() {
    let Some(python) = python("ai_edge_litert.interpreter") else { return };
    for family in FAMILIES {
        let fixture = Fixture::read(family);
        let model = fixture.model();
        let params = load(&model, &fixture.weights, &fixture.classes(), 0).unwrap();
        let network = Network::new(&model.graph, &params);
        let images = fixture.images();
        let shape = model.input;
        // Half: .05 strides of 32 px, as for ONNX.
        for (numbers, boxes, scores) in [(Numbers::Float32, 2e-3, 1e-5), (Numbers::Float16, 1.6, 5e-3)] {
            let file = encode(&model, &network, &[], &numbers);
            let ran = run("run_tflite.py", &python, &file, &bytes(&images), "float32", &shape);
            let (box_off, score_off) = differences(&fixture, &ran.outputs["output0"]);
            println!("{family:?} {}: {box_off} px, {score_off}, {} bytes", name(&numbers), file.len());
            assert!(
                box_off < boxes && score_off < scores,
                "{family:?} {}: {box_off} px, {score_off}",
                name(&numbers)
            );
        }
    }
}

fn name(numbers: &Numbers) -> &'static str {
    match numbers {
        Numbers::Float32 => "float32",
        Numbers::Float16 => "float16",
        Numbers::Int8(_) => "int8",
    }
}
