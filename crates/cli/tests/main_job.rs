//! The main job through the real binary, on drawn images: train, validate, predict, and what a run leaves behind.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
mod common;

use std::path::Path;

use common::{Ran, onsa};
use onsa::demo::draws::{self, CLASSES, Drawing};
use serde_json::Value;

const DRAWING: Drawing = Drawing { train: 10, val: 4, side: 64, seed: 3 };
/// A small network, from scratch.
const TRAIN: &[&str] = &[
    "train",
    "model=yolov8n",
    "pretrained=false",
    "data=shapes/data.yaml",
    "imgsz=64",
    "batch=4",
    "nbs=4",
    "close_mosaic=1",
];

fn shapes(folder: &Path) {
    draws::lay(DRAWING, &folder.join("shapes")).unwrap();
}

fn train(folder: &Path, more: &[&str]) -> Ran {
    onsa(folder, &[TRAIN, more].concat())
}

fn document(ran: &Ran) -> Value {
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).expect("one JSON document and nothing else")
}

fn keys(document: &Value) -> Vec<&str> {
    document.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn a_run_is_trained_validated_and_used_for_prediction() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    shapes(at);
    let run = document(&train(at, &["epochs=3", "project=out", "name=first", "--json"]));
    for key in ["run_dir", "best", "last", "epochs", "images_per_second", "data_wait_fraction", "metrics"] {
        assert!(keys(&run).contains(&key), "{key} is missing: {run}");
    }
    assert_eq!((&run["run_dir"], &run["epochs"]), (&"out/first".into(), &3.into()));
    assert!(run["images_per_second"].as_f64().unwrap() > 0.0);

    let run_dir = at.join("out/first");
    for file in [
        "args.yaml",
        "results.csv",
        "results.svg",
        "labels.svg",
        "train_batch0.jpg",
        "val_batch0_labels.jpg",
        "val_batch0_pred.jpg",
        "confusion_matrix.svg",
        "confusion_matrix_normalized.svg",
        "BoxF1_curve.svg",
        "BoxPR_curve.svg",
        "BoxP_curve.svg",
        "BoxR_curve.svg",
        "report.html",
        "weights/best.safetensors",
        "weights/last.safetensors",
        "checkpoint/state.safetensors",
        "provenance.json",
    ] {
        assert!(run_dir.join(file).is_file(), "{file} is missing");
    }
    let csv = std::fs::read_to_string(run_dir.join("results.csv")).unwrap();
    assert_eq!(csv.lines().count(), 4, "{csv}");

    let report = std::fs::read_to_string(run_dir.join("report.html")).unwrap();
    for outside in ["src=\"http", "href=\"http", "url(http", "<script src", "@import"] {
        assert!(!report.contains(outside), "the report refers to something outside: {outside}");
    }
    assert!(report.contains("data:image/"), "sample predictions are inside");

    let provenance: Value =
        serde_json::from_slice(&std::fs::read(run_dir.join("provenance.json")).unwrap()).unwrap();
    for key in ["onsa", "weights", "data", "seed", "device"] {
        assert!(keys(&provenance).contains(&key), "{provenance}");
    }

    let best = "model=out/first/weights/best.safetensors";
    let val = document(&onsa(at, &["val", best, "data=shapes/data.yaml", "imgsz=64", "--json"]));
    for key in ["map50", "map50_95", "precision", "recall", "images", "boxes", "per_class"] {
        assert!(keys(&val).contains(&key), "{key} is missing: {val}");
    }
    assert_eq!(val["images"], 4);
    assert_eq!(val["per_class"].as_array().unwrap().len(), CLASSES.len());
    assert_eq!(val["map50"], run["metrics"]["map50"], "the same weights, the same figure");

    let predict =
        ["predict", best, "source=shapes/images/val", "imgsz=64", "conf=0.001", "name=seen", "--json"];
    let predicted = document(&onsa(at, &predict));
    let images = predicted.as_array().unwrap();
    assert_eq!(images.len(), 4);
    assert!(images.iter().any(|image| !image["boxes"].as_array().unwrap().is_empty()), "{predicted}");
    for image in images {
        assert_eq!((&image["width"], &image["height"]), (&64.into(), &64.into()));
        for found in image["boxes"].as_array().unwrap() {
            let class = found["class"].as_u64().unwrap() as usize;
            assert_eq!(found["name"], CLASSES[class]);
            let corners: Vec<f64> =
                found["xyxy"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
            assert_eq!(corners.len(), 4);
            assert!(corners.iter().all(|x| (0.0..=64.0).contains(x)), "{found}");
        }
    }
    assert!(at.join("runs/detect/seen/0010.jpg").is_file(), "the pictures are drawn");
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_one_thread_and_on_two() {
    let folder = tempfile::tempdir().unwrap();
    shapes(folder.path());
    let weights = |threads: &str, name: &str| {
        let ran = train(
            folder.path(),
            &[
                &format!("threads={threads}"),
                "epochs=3",
                "plots=false",
                "seed=5",
                "project=out",
                &format!("name={name}"),
            ],
        );
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        std::fs::read(folder.path().join("out").join(name).join("weights/last.safetensors")).unwrap()
    };
    let one = weights("1", "one");
    assert!(one == weights("2", "two"), "the bytes differ between 1 and 2 threads");
    let other = train(folder.path(), &["epochs=3", "plots=false", "seed=6", "project=out", "name=other"]);
    assert_eq!(other.code, 0, "{}", other.stderr);
    let other = std::fs::read(folder.path().join("out/other/weights/last.safetensors")).unwrap();
    assert!(one != other, "another seed gives other weights");
}

#[test]
fn batches_of_other_shapes_and_weighted_classes_train_too() {
    let folder = tempfile::tempdir().unwrap();
    shapes(folder.path());
    for (more, said) in [
        (&["rect=true"][..], None),
        (&["multi_scale=0.5"], None),
        (&["cls_pw=1"], Some("class weights: disc ")),
        (&["optimizer=MuSGD", "cos_lr=true", "mixup=1", "time=0.5"], None),
    ] {
        let ran = train(folder.path(), &[&["plots=false", "epochs=1", "project=out"], more].concat());
        assert_eq!(ran.code, 0, "{more:?}: {}", ran.stderr);
        assert!(said.is_none_or(|text| ran.stderr.contains(text)), "{more:?}: {}", ran.stderr);
    }
}

#[test]
fn a_given_rate_is_honoured_and_the_log_says_what_runs() {
    let folder = tempfile::tempdir().unwrap();
    shapes(folder.path());
    let ran = train(folder.path(), &["lr0=0.0123", "plots=false", "epochs=2", "project=out", "name=rate"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let line = ran.stderr.lines().find(|line| line.contains("AdamW")).unwrap_or_default();
    assert!(line.contains("0.0123"), "{}", ran.stderr);
}

#[test]
fn faulty_items_are_left_out_only_when_asked_and_then_named() {
    let folder = tempfile::tempdir().unwrap();
    shapes(folder.path());
    std::fs::write(folder.path().join("shapes/labels/train/0002.txt"), "0 0.5 0.5 0.1\n").unwrap();
    std::fs::write(folder.path().join("shapes/images/train/0003.jpg"), "").unwrap();
    let refused = train(folder.path(), &["project=out"]);
    assert_eq!((refused.code, refused.stdout.as_str()), (1, ""));
    assert!(!folder.path().join("out").exists(), "a refused run writes nothing");
    let left = train(folder.path(), &["project=out", "plots=false", "epochs=1", "faulty=leave_out"]);
    assert_eq!(left.code, 0, "{}", left.stderr);
    assert!(left.stderr.contains("2 "), "how many: {}", left.stderr);
    assert!(left.stderr.contains("0002.") && left.stderr.contains("0003.jpg"), "which: {}", left.stderr);
    assert!(left.stderr.contains("8 training images"), "{}", left.stderr);
}
