//! Wrong training labels, planted among right ones, stand in the report of the run: by the real binary on real photographs.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::Path;

use common::onsa;
use serde_json::Value;

fn json(folder: &Path, line: &[&str]) -> Value {
    let ran = onsa(folder, line);
    assert_eq!(ran.code, 0, "{line:?}: {}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

/// A label file of what the model finds on a photograph; `class_of` may change a box's class, or leave the box out.
fn labels(found: &Value, class_of: impl Fn(&str, u64) -> Option<u64>) -> String {
    let (w, h) = (found["width"].as_f64().unwrap(), found["height"].as_f64().unwrap());
    let mut text = String::new();
    for found in found["boxes"].as_array().unwrap() {
        let name = found["name"].as_str().unwrap();
        let Some(class) = class_of(name, found["class"].as_u64().unwrap()) else { continue };
        let edge = |i: usize| found["xyxy"][i].as_f64().unwrap();
        let (cx, cy) = ((edge(0) + edge(2)) / 2.0 / w, (edge(1) + edge(3)) / 2.0 / h);
        text.push_str(&format!(
            "{class} {cx} {cy} {} {}\n",
            (edge(2) - edge(0)) / w,
            (edge(3) - edge(1)) / h
        ));
    }
    text
}

#[test]
fn a_wrong_training_label_is_listed_with_its_picture() {
    let Some(assets) = common::real_assets() else { return };
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let model = format!("model={}", assets.join("yolov12n.onnx").display());
    let classes = json(at, &["inspect", &model["model=".len()..], "--json"])["classes"].clone();
    for (split, photo) in [("train", "bus"), ("val", "zidane")] {
        for kind in ["images", "labels"] {
            std::fs::create_dir_all(at.join("set").join(kind).join(split)).unwrap();
        }
        let source = assets.join(format!("photos/{photo}.jpg"));
        let line =
            ["predict", &model, &format!("source={}", source.display()), "imgsz=320", "save=false", "--json"];
        let found = json(at, &line);
        // The bus is labelled as a train (class 6); everything else is right.
        let text = labels(&found[0], |name, class| if name == "bus" { Some(6) } else { Some(class) });
        assert!(photo != "bus" || text.lines().any(|line| line.starts_with("6 ")), "no bus was found");
        std::fs::copy(&source, at.join(format!("set/images/{split}/{photo}.jpg"))).unwrap();
        std::fs::write(at.join(format!("set/labels/{split}/{photo}.txt")), text).unwrap();
    }
    let yaml = format!("train: images/train\nval: images/val\nnames: {classes}\n");
    std::fs::write(at.join("set/data.yaml"), yaml).unwrap();
    // A rate that changes nothing: the model knows a bus, and goes on knowing it.
    let train = |name: &str, more: &[&str]| {
        let name = format!("name={name}");
        let mut line = vec![
            "train",
            &model,
            "data=set/data.yaml",
            "epochs=1",
            "imgsz=320",
            "batch=1",
            "workers=0",
            "optimizer=SGD",
            "lr0=0.0000001",
            "warmup_epochs=0",
            "device=cpu",
            "project=out",
            &name,
        ];
        line.extend(more);
        let ran = onsa(at, &line);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        ran.stderr
    };
    let said = train("looked", &[]);
    assert!(said.contains("looking over the labels of 1 training images"), "{said}");
    let table = std::fs::read_to_string(at.join("out/looked/suspicious_labels.csv")).unwrap();
    let planted: Vec<&str> = table.lines().filter(|line| line.contains("bus.jpg,train,bus,")).collect();
    assert!(planted.len() == 1 && planted[0].starts_with("train,"), "{table}");
    let report = std::fs::read_to_string(at.join("out/looked/report.html")).unwrap();
    let section = &report[report.find("id=\"suspects\"").unwrap()..];
    assert!(section.contains("1 validation images and 1 training images"), "{}", &section[..600]);
    assert!(section.contains("training: labelled train, seen as bus"), "{}", &section[..600]);

    let said = train("left", &["suspects=false"]);
    assert!(!said.contains("looking over the labels"), "{said}");
    let table = std::fs::read_to_string(at.join("out/left/suspicious_labels.csv")).unwrap();
    assert!(!table.contains("bus.jpg"), "{table}");
}
