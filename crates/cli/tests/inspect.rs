//! `onsa inspect` on fixtures, on real weights and on files that are none.
mod common;

use std::path::{Path, PathBuf};

use common::onsa;
use serde_json::Value;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models").join(name)
}

fn inspect(path: &Path) -> Value {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let ran = onsa(folder.path(), &["inspect", path.to_str().expect("a path in UTF-8"), "--json"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    serde_json::from_str(&ran.stdout).expect("one JSON document")
}

#[test]
fn each_family_is_recognised_by_its_tensors() {
    for (file, family) in [
        ("yolov8n_tiny.weights.safetensors", "yolov8"),
        ("yolo11n_tiny.weights.safetensors", "yolo11"),
        ("yolo12n_tiny.weights.safetensors", "yolo12"),
    ] {
        let document = inspect(&fixture(file));
        assert_eq!(
            (&document["format"], &document["family"]),
            (&"safetensors".into(), &family.into()),
            "{file}"
        );
        let tensors = document["tensors"].as_array().unwrap();
        let stem = tensors.iter().find(|tensor| tensor["name"] == "model.0.conv.weight").unwrap();
        assert_eq!(stem["dtype"], "float16");
        assert_eq!(stem["shape"].as_array().unwrap()[1..], [3, 3, 3].map(Value::from));
        let statistics = tensors.iter().filter(|t| t["name"].as_str().unwrap().contains("running_")).count();
        assert!(statistics > 0);
        let elements: u64 = tensors
            .iter()
            .filter(|tensor| !tensor["name"].as_str().unwrap().contains("running_"))
            .map(|tensor| {
                tensor["shape"].as_array().unwrap().iter().map(|d| d.as_u64().unwrap()).product::<u64>()
            })
            .sum();
        assert_eq!(document["parameters"], elements);
    }
}

#[test]
fn the_real_yolo12n_shows_its_classes_and_licence() {
    let Some(assets) = common::real_assets() else { return };
    let document = inspect(&assets.join("yolov12n.onnx"));
    assert_eq!((&document["format"], &document["model"]), (&"onnx".into(), &"yolo12n".into()));
    assert_eq!(document["task"], "detect");
    assert_eq!(document["classes"].as_array().unwrap().len(), 80);
    assert_eq!(document["classes"][5], "bus");
    assert_eq!(document["norm_folded"], true);
    assert!(document["licence"].as_str().unwrap().contains("AGPL-3.0"), "{}", document["licence"]);
    assert_eq!(document["sha256"], "e548ab3a406227202334bf5a6623c9814ac6286ff04e68aeb4dc2357732d1a4f");
}

#[test]
fn files_that_are_no_models_fail_with_their_path() {
    let folder = tempfile::tempdir().unwrap();
    let whole = std::fs::read(fixture("yolov8n_tiny.weights.safetensors")).unwrap();
    std::fs::write(folder.path().join("empty.pt"), "").unwrap();
    std::fs::write(folder.path().join("text.pt"), "not a model\n").unwrap();
    std::fs::write(folder.path().join("cut.safetensors"), &whole[..whole.len() / 2]).unwrap();
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    let said: String = ["absent.pt", "empty.pt", "text.pt", "cut.safetensors", "folder"]
        .iter()
        .map(|name| {
            let ran = onsa(folder.path(), &["inspect", name]);
            assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{name}");
            ran.stderr
        })
        .collect();
    insta::assert_snapshot!(said);
}

#[test]
fn a_pickle_with_a_foreign_global_is_refused_and_not_run() {
    let folder = tempfile::tempdir().unwrap();
    // Protocol 2: os.system("touch owned"), as a hostile legacy .pt would hold it.
    let hostile = b"\x80\x02cos\nsystem\nX\x0b\x00\x00\x00touch owned\x85R.";
    std::fs::write(folder.path().join("hostile.pt"), hostile).unwrap();
    let ran = onsa(folder.path(), &["inspect", "hostile.pt"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(ran.stderr.starts_with("error: hostile.pt: "), "{}", ran.stderr);
    assert!(!folder.path().join("owned").exists());
}

#[test]
fn a_file_is_required() {
    let folder = tempfile::tempdir().unwrap();
    let ran = onsa(folder.path(), &["inspect"]);
    assert_eq!(
        (ran.code, ran.stderr.as_str()),
        (2, "error: no file is given\nhint: onsa inspect yolo11n.pt\n")
    );
}
