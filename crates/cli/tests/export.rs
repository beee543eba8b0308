//! `onsa export`: the document, the files, and what is refused.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::path::{Path, PathBuf};

use common::{onsa, small_classifier};
use serde_json::Value;

fn tiny() -> String {
    let path: PathBuf =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models/yolo11n_tiny.weights.safetensors");
    format!("model={}", path.display())
}

#[test]
fn each_format_is_written_proved_and_described() {
    for (format, file, more) in [
        ("onnx", "m.onnx", &["nms=true", "preprocess=true"][..]),
        ("onnx", "h.onnx", &["half=true"]),
        ("tflite", "m.tflite", &[]),
        ("tflite", "h.tflite", &["half=true"]),
        ("torch", "m.pt", &[]),
        ("safetensors", "m.safetensors", &[]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (model, format_is, output) = (tiny(), format!("format={format}"), format!("output={file}"));
        let mut line = vec!["export", &model, &format_is, &output, "imgsz=64", "images=2", "--json"];
        line.extend(more);
        let ran = onsa(folder.path(), &line);
        assert_eq!(ran.code, 0, "{file}: {}", ran.stderr);
        let document: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!((&document["path"], &document["format"]), (&file.into(), &format.into()));
        let proof = &document["proof"];
        assert_eq!((&proof["ok"], &proof["images"]), (&true.into(), &2.into()), "{proof}");
        for figure in ["max_box_difference", "max_score_difference", "map_difference"] {
            assert!(proof[figure].is_f64(), "{figure}: {proof}");
        }
        let mut files: Vec<String> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let mut expected = vec!["export.json".to_owned(), file.to_owned()];
        expected.sort();
        assert_eq!(files, expected);
        let beside = std::fs::read_to_string(folder.path().join("export.json")).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&beside).unwrap(), document);
    }
}

/// Five folders of drawn pictures, a class each.
fn leaves(folder: &Path) {
    for (i, class) in ["0", "1", "2", "3", "4"].into_iter().enumerate() {
        for (split, count) in [("train", 2), ("val", 2)] {
            let place = folder.join("leaves").join(split).join(class);
            std::fs::create_dir_all(&place).unwrap();
            for k in 0..count {
                let shade = |x: u32, y: u32| {
                    image::Rgb(
                        [x * 2 + k * 90, y * 3 + i as u32 * 50, (x / 7 + y / 5) * 29]
                            .map(|v| (v % 256) as u8),
                    )
                };
                image::RgbImage::from_fn(90, 70, shade).save(place.join(format!("{k}.png"))).unwrap();
            }
        }
    }
}

#[test]
fn classifiers_are_written_and_proved_in_every_format() {
    let folder = tempfile::tempdir().unwrap();
    leaves(folder.path());
    let model = format!("model={}", small_classifier(folder.path()));
    for (format, file, more) in [
        ("onnx", "m.onnx", &["preprocess=true"][..]),
        ("onnx", "h.onnx", &["half=true", "dynamic=true"]),
        ("onnx", "i.onnx", &["int8=true", "data=leaves", "tolerance=1"]),
        ("tflite", "m.tflite", &["data=leaves"]),
        ("tflite", "i.tflite", &["int8=true", "data=leaves", "tolerance=1"]),
        ("safetensors", "m.safetensors", &[]),
    ] {
        let (format_is, output) = (format!("format={format}"), format!("output={file}"));
        let mut line = vec!["export", &model, &format_is, &output, "imgsz=64", "images=4", "--json"];
        line.extend(more);
        let ran = onsa(folder.path(), &line);
        assert_eq!(ran.code, 0, "{file}: {}", ran.stderr);
        let document: Value = serde_json::from_str(&ran.stdout).unwrap();
        let proof = &document["proof"];
        assert_eq!((&proof["ok"], &proof["images"]), (&true.into(), &4.into()), "{proof}");
        for figure in ["top1_agreement", "max_score_difference", "top1_difference"] {
            assert!(proof[figure].is_f64(), "{figure}: {proof}");
        }
        assert_eq!(proof["labelled"], more.contains(&"data=leaves"), "{proof}");
        assert!(folder.path().join(file).is_file());
    }
}

#[test]
fn what_makes_no_file_is_wrong_usage() {
    for (more, expected) in [
        (&["format=coreml"][..], "format must be one of onnx"),
        (&["half=true", "int8=true"], "`half` and `int8` contradict one another"),
        (&["format=torch", "nms=true"], "give format=onnx"),
        (&["dynamic=true", "preprocess=true"], "leave dynamic out"),
        (&["int8=true"], "give data="),
        (&["imgsz=65"], "multiple of 32"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let model = tiny();
        let mut line = vec!["export", &model, "output=x.out"];
        line.extend(more);
        if !more.iter().any(|m| m.starts_with("imgsz")) {
            line.push("imgsz=64");
        }
        let ran = onsa(folder.path(), &line);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{more:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{more:?}: {}", ran.stderr);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_classifier_has_no_boxes_to_choose() {
    let folder = tempfile::tempdir().unwrap();
    let model = format!("model={}", small_classifier(folder.path()));
    let ran = onsa(folder.path(), &["export", &model, "nms=true", "output=x.onnx", "imgsz=64"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{}", ran.stderr);
    assert!(ran.stderr.contains("this model gives none"), "{}", ran.stderr);
}

#[test]
fn the_model_itself_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let source = tiny();
    std::fs::copy(source.strip_prefix("model=").unwrap(), folder.path().join("m.safetensors")).unwrap();
    let line = ["export", "model=m.safetensors", "format=safetensors", "output=./m.safetensors", "imgsz=64"];
    let ran = onsa(folder.path(), &line);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("would replace the model"), "{}", ran.stderr);
}
