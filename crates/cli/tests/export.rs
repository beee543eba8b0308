//! `onsa export`: the document, the files, and what is refused.
mod common;

use std::path::{Path, PathBuf};

use common::onsa;
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

#[test]
fn a_litert_file_is_written_and_said_to_be_unproved() {
    let folder = tempfile::tempdir().unwrap();
    let ran =
        onsa(folder.path(), &["export", &tiny(), "format=tflite", "output=m.tflite", "imgsz=64", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let document: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&document["format"], &document["proof"]), (&"tflite".into(), &Value::Null));
    assert!(ran.stderr.contains("not proved"), "{}", ran.stderr);
    assert_eq!(&std::fs::read(folder.path().join("m.tflite")).unwrap()[4..8], b"TFL3");
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
fn the_model_itself_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let source = tiny();
    std::fs::copy(source.strip_prefix("model=").unwrap(), folder.path().join("m.safetensors")).unwrap();
    let line = ["export", "model=m.safetensors", "format=safetensors", "output=./m.safetensors", "imgsz=64"];
    let ran = onsa(folder.path(), &line);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("would replace the model"), "{}", ran.stderr);
}
