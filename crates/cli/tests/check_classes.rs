//! `onsa check` on classified images, and groups that must stay together, by the real binary.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
mod common;

use std::path::Path;

use common::onsa;
use serde_json::Value;

/// Two patients in training, one of them in validation too.
fn lay(folder: &Path) {
    let mut seed = 1u32;
    for (split, class, patient, n) in [
        ("train", "ill", "p1", 3),
        ("train", "well", "p2", 3),
        ("val", "ill", "p2", 1),
        ("val", "well", "p3", 1),
    ] {
        let dir = folder.join("scans").join(split).join(class);
        std::fs::create_dir_all(&dir).unwrap();
        for i in 0..n {
            let image = image::RgbImage::from_fn(32, 32, |x, y| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let shade = ((x / 8 + y / 8 * 4) * 13 + seed % 60) as u8;
                image::Rgb([shade, shade.wrapping_mul(3), (seed >> 24) as u8])
            });
            image.save(dir.join(format!("{patient}_{i}.png"))).unwrap();
        }
    }
}

fn checked(folder: &Path, more: &[&str]) -> (i32, Value) {
    let line: Vec<&str> =
        ["check", "data=scans", "near=false", "--json"].iter().chain(more).copied().collect();
    let ran = onsa(folder, &line);
    (ran.code, serde_json::from_str(&ran.stdout).unwrap())
}

#[test]
fn a_patient_on_both_sides_is_an_error_that_training_refuses_and_a_new_division_mends() {
    let folder = tempfile::tempdir().unwrap();
    lay(folder.path());
    let (code, audit) = checked(folder.path(), &[]);
    assert_eq!((code, &audit["ok"], &audit["task"]), (0, &true.into(), &"classify".into()));
    assert_eq!(audit["images_per_class"], serde_json::json!([4, 4]));
    let (code, audit) = checked(folder.path(), &["group={group}_*"]);
    assert_eq!((code, &audit["faults"][0]["kind"]), (1, &"group_leak".into()), "{audit}");
    assert!(audit["faults"][0]["path"].as_str().unwrap().ends_with("scans/val/ill/p2_0.png"));
    let (code, audit) = checked(folder.path(), &["group={group}_*", "resplit=true"]);
    assert_eq!((code, &audit["ok"]), (0, &true.into()), "{audit}");
    assert_eq!(audit["splits"][1]["images"], 1, "p3 alone makes up nearest to a fifth: {audit}");
    let ran = onsa(
        folder.path(),
        &["train", "task=classify", "model=yolov8n-cls", "pretrained=false", "data=scans", "group={group}_*"],
    );
    assert!(ran.code == 1 && ran.stderr.contains("the group `p2`"), "{}", ran.stderr);
    let text = onsa(folder.path(), &["check", "data=scans", "near=false"]).stdout;
    assert!(text.contains("class ill: train 3, val 1, test 0"), "{text}");
}

#[test]
fn a_corrected_copy_of_folders_has_no_errors() {
    let folder = tempfile::tempdir().unwrap();
    lay(folder.path());
    let scans = folder.path().join("scans");
    std::fs::copy(scans.join("train/ill/p1_0.png"), scans.join("train/well/p9_0.png")).unwrap();
    std::fs::write(scans.join("train/well/p8_0.jpg"), "").unwrap();
    let (code, audit) = checked(folder.path(), &["--fix", "output=fixed", "group={group}_*"]);
    assert_eq!(code, 0);
    assert_eq!((&audit["fixed"]["images"], &audit["fixed"]["left_out"]), (&6.into(), &4.into()), "{audit}");
    let ran = onsa(folder.path(), &["check", "data=fixed", "near=false", "group={group}_*", "--json"]);
    let again: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, &again["ok"]), (0, &true.into()), "{again}");
    let changes = std::fs::read_to_string(folder.path().join("fixed/changes.csv")).unwrap();
    assert_eq!(changes.lines().count(), audit["audit"]["faults"].as_array().unwrap().len() + 1);
}
