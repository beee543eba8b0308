//! `onsa check` on data sets with and without faults.
mod common;

use common::onsa;
use onsa::demo::draws::{self, Drawing};
use serde_json::Value;

const DRAWING: Drawing = Drawing { train: 6, val: 3, side: 64, seed: 1 };

#[test]
fn a_sound_data_set_is_ok() {
    let folder = tempfile::tempdir().unwrap();
    let laid = draws::lay(DRAWING, &folder.path().join("shapes")).unwrap();
    let ran = onsa(folder.path(), &["check", "data=shapes/data.yaml", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stdout);
    let audit: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(audit["ok"], true);
    assert_eq!(audit["images"], 9);
    assert_eq!(audit["boxes"], (laid.train.boxes + laid.val.boxes) as u64);
    assert_eq!(audit["classes"], serde_json::json!(["disc", "square", "triangle"]));
}

#[test]
fn planted_faults_are_reported_with_file_and_line_and_exit_1() {
    let folder = tempfile::tempdir().unwrap();
    draws::lay(DRAWING, &folder.path().join("shapes")).unwrap();
    let labels = folder.path().join("shapes/labels/train");
    std::fs::write(labels.join("0000.txt"), "0 0.5 0.5 0.1 0.1\n1 0.5 0.5 0.1\n").unwrap();
    std::fs::write(labels.join("0001.txt"), "7 0.5 0.5 0.1 0.1\n").unwrap();
    std::fs::write(labels.join("0002.txt"), "0 nan 0.5 0.1 0.1\n").unwrap();
    std::fs::write(folder.path().join("shapes/images/train/0003.jpg"), "").unwrap();
    let ran = onsa(folder.path(), &["check", "data=shapes/data.yaml", "--json"]);
    assert_eq!(ran.code, 1);
    let audit: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(audit["ok"], false);
    let mut found: Vec<(String, Value, String)> = audit["faults"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|fault| fault["severity"] == "error")
        .map(|fault| {
            let path = fault["path"].as_str().unwrap();
            let name = path.rsplit('/').next().unwrap().to_owned();
            (name, fault["line"].clone(), fault["kind"].as_str().unwrap().to_owned())
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [
        ("0000.txt", Value::from(2), "wrong_number_count"),
        ("0001.txt", Value::from(1), "class_out_of_range"),
        ("0002.txt", Value::from(1), "non_finite"),
        ("0003.jpg", Value::Null, "empty_image"),
    ];
    assert_eq!(found, expected.map(|(name, line, kind)| (name.to_owned(), line, kind.to_owned())));

    let text = onsa(folder.path(), &["check", "data=shapes/data.yaml"]).stdout;
    assert!(text.contains("labels/train/0000.txt:2: error: "), "{text}");
    assert!(text.lines().last().unwrap().starts_with("4 errors and "), "{text}");
}

#[test]
fn a_data_set_that_cannot_be_loaded_is_one_fault_that_names_the_place() {
    let folder = tempfile::tempdir().unwrap();
    let missing = onsa(folder.path(), &["check", "data=absent/data.yaml"]);
    assert_eq!(missing.code, 1);
    assert!(missing.stdout.starts_with("absent/data.yaml: error: "), "{}", missing.stdout);

    std::fs::write(folder.path().join("data.yaml"), "train: images\nval: images\nname: [a]\n").unwrap();
    let wrong_key = onsa(folder.path(), &["check", "data=data.yaml"]);
    assert_eq!(wrong_key.code, 1);
    insta::assert_snapshot!(wrong_key.stdout);

    std::fs::write(folder.path().join("data.yaml"), "train: absent\nval: absent\nnames: [a]\n").unwrap();
    let no_folder = onsa(folder.path(), &["check", "data=data.yaml"]);
    assert_eq!(no_folder.code, 1);
    insta::assert_snapshot!(no_folder.stdout);
}

#[test]
fn data_is_required() {
    let folder = tempfile::tempdir().unwrap();
    let ran = onsa(folder.path(), &["check"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
    assert_eq!(ran.stderr, "error: `data` is missing\nhint: give it as data=my-data/data.yaml\n");
}
