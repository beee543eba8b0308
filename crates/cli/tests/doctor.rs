//! `onsa doctor` on this machine.
mod common;

use common::onsa;

#[test]
fn json_is_one_document_that_names_the_machine() {
    let folder = tempfile::tempdir().unwrap();
    let ran = onsa(folder.path(), &["doctor", "--json"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert!(report["cpu"]["threads"].as_u64().unwrap() >= 1);
    // A GPU is usable, or it is said what is missing.
    let missing = report["gpu"]["missing"].as_array().unwrap();
    assert_eq!(report["gpu"]["usable"].as_bool().unwrap(), missing.is_empty());
    assert_eq!(report["gpu"]["libraries"].as_array().unwrap().len(), 2);
    assert_eq!(report["assets"]["folder"], "[DIR]/assets");
    assert_eq!(report["assets"]["present"].as_array().unwrap().len(), 0);
    assert!(report["assets"]["missing"].as_array().unwrap().iter().any(|name| name == "yolov12n.onnx"));
}

#[test]
fn no_folder_for_assets_is_said_and_is_no_failure() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = common::command(folder.path(), &["doctor"]);
    for name in ["ONSA_ASSETS", "HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"] {
        command.env_remove(name);
    }
    let ran = common::ran(folder.path(), command.output().unwrap());
    assert_eq!(ran.code, 0);
    assert!(ran.stdout.contains("no folder: set ONSA_ASSETS or HOME"), "{}", ran.stdout);
}

#[test]
fn a_gpu_asked_for_by_name_and_missing_is_an_error_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let report: serde_json::Value =
        serde_json::from_str(&onsa(folder.path(), &["doctor", "--json"]).stdout).unwrap();
    if report["gpu"]["usable"] == true {
        return;
    }
    let ran = onsa(folder.path(), &["bench", "model=yolo11n", "imgsz=32", "rounds=1", "device=cuda"]);
    assert_eq!(ran.code, 1);
    assert!(ran.stderr.contains("device=cuda") && ran.stderr.contains("onsa doctor"), "{}", ran.stderr);
    let ran = onsa(folder.path(), &["bench", "model=yolo11n", "imgsz=32", "rounds=1", "device=tpu"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    let ran = onsa(folder.path(), &["bench", "model=yolo11n", "imgsz=32", "rounds=1", "device=auto"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}
