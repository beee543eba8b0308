//! The zoo against the reference's own models (fixtures/models/names.json, made by fixtures/export_names.py).

#![allow(clippy::unwrap_used)]

use onsa_compute::graph::Op;
use onsa_tune::models::{Architecture, Family, Model, ModelSpec, Scale, TensorInfo, identify, registry};
use serde_json::Value;
use sha2::{Digest, Sha256};

fn fixture() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/models/names.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn every_model() -> Vec<(ModelSpec, Model)> {
    registry::detectors()
        .into_iter()
        .map(|spec| {
            let model = Model::build(&spec.architecture(80), [1, 640, 640]).unwrap();
            (spec, model)
        })
        .collect()
}

fn lines(model: &Model) -> Vec<String> {
    let mut lines: Vec<String> = model
        .graph
        .params()
        .iter()
        .map(|p| {
            let shape: Vec<String> = p.shape.iter().map(usize::to_string).collect();
            format!("{} {}", p.name, shape.join("x"))
        })
        .collect();
    lines.sort();
    lines
}

fn convolution_macs(model: &Model) -> u64 {
    let convolutions = model.graph.nodes().iter().filter(|n| matches!(n.op, Op::Conv2d { .. }));
    convolutions.map(|n| n.multiply_adds(&model.graph)).sum()
}

#[test]
fn names_and_shapes_are_the_references() {
    let fixture = fixture();
    for (spec, model) in every_model() {
        let expected = &fixture["models"][&spec.name];
        let lines = lines(&model);
        if let Some(names) = expected["names"].as_array() {
            let names: Vec<&str> = names.iter().map(|n| n.as_str().unwrap()).collect();
            for line in &lines {
                assert!(names.contains(&line.as_str()), "{}: the reference has no {line}", spec.name);
            }
            for name in names {
                assert!(lines.iter().any(|l| l == name), "{} lacks {name}", spec.name);
            }
        }
        assert_eq!(lines.len() as u64, expected["tensors"].as_u64().unwrap(), "{}", spec.name);
        let hash: String =
            Sha256::digest(lines.join("\n")).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hash, expected["sha256"].as_str().unwrap(), "{}", spec.name);
    }
}

#[test]
fn parameters_and_operations_are_counted_alike() {
    let fixture = fixture();
    for (spec, model) in every_model() {
        let expected = &fixture["models"][&spec.name];
        assert_eq!(model.parameter_count() as u64, expected["parameters"].as_u64().unwrap(), "{}", spec.name);
        assert_eq!(
            convolution_macs(&model),
            expected["convolution_macs_640"].as_u64().unwrap(),
            "{}",
            spec.name
        );
    }
}

#[test]
fn published_figures_are_met() {
    for (spec, model) in every_model() {
        let published = spec.published.unwrap();
        let millions = model.parameter_count() as f64 / 1e6;
        // Published after folding the norms, with one decimal, partly cut instead of rounded.
        assert!(
            (0.0..0.002 * millions + 0.1).contains(&(millions - published.parameters + 0.05)),
            "{}: {millions} M",
            spec.name
        );
        // The published operations are those of the convolutions; attention's products come on top.
        let gflops = 2.0 * convolution_macs(&model) as f64 / 1e9;
        assert!((gflops - published.gflops).abs() <= 0.06, "{}: {gflops} GFLOPs", spec.name);
        let attends = spec.family != Family::Yolov8;
        assert_eq!(model.gflops() > gflops, attends, "{}: {}", spec.name, model.gflops());
    }
}

#[test]
fn every_model_is_recognised_by_its_tensors_and_by_its_description() {
    for (spec, model) in every_model() {
        let tensors: Vec<TensorInfo> = model
            .graph
            .params()
            .iter()
            .map(|p| TensorInfo { name: p.name.clone(), shape: p.shape.clone() })
            .collect();
        let found = identify::from_tensors(&tensors).unwrap();
        assert_eq!(found.name(), spec.name);
        assert_eq!(lines(&Model::build(&found, [1, 64, 64]).unwrap()), lines(&model), "{}", spec.name);
        let described = identify::from_description(&model.architecture.description()).unwrap();
        assert_eq!(described, model.architecture);
    }
}

#[test]
fn other_numbers_of_classes_change_the_head_alone() {
    let coco = Model::build(&Architecture::published(Family::Yolov8, Scale::S, 80), [1, 64, 64]).unwrap();
    let three = Model::build(&coco.architecture.with_classes(3), [1, 64, 64]).unwrap();
    let (before, after) = (lines(&coco), lines(&three));
    let changed: Vec<&String> = after.iter().filter(|line| !before.contains(line)).collect();
    assert_eq!(changed.len(), 6);
    assert!(
        changed.iter().all(|line| line.starts_with("model.22.cv3.") && line.contains(".2.")),
        "{changed:?}"
    );
}
