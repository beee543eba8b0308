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
    assert_eq!(report["gpu"], "not supported in this build");
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
