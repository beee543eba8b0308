//! The audit of a large data set in which one image in twenty is faulty: every planted fault is found with its path, line
//! and kind, and none is invented. ONSA_AUDIT_IMAGES sets the number of images; a bench runs it with 100,000.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
mod common;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Cursor;
use std::path::Path;
use std::time::Instant;

use common::onsa;
use image::{ImageFormat, Rgb, RgbImage};
use serde_json::Value;

/// Path below the data set, line, kind.
type Planted = BTreeSet<(String, Option<u64>, String)>;

/// SplitMix64 (Steele, Lea & Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A picture of 32 x 32 pixels in coarse random blocks: no two of them are alike.
fn picture(random: &mut Random) -> RgbImage {
    let blocks: Vec<[u8; 3]> =
        (0..64).map(|_| random.next().to_le_bytes()).map(|b| [b[0], b[1], b[2]]).collect();
    RgbImage::from_fn(32, 32, |x, y| Rgb(blocks[(y / 4 * 8 + x / 4) as usize]))
}

fn encoded(picture: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut out = Cursor::new(Vec::new());
    picture.write_to(&mut out, format).unwrap();
    out.into_inner()
}

/// Writes `count` images, every twentieth with a fault of the next kind, and says what was planted.
fn lay(folder: &Path, count: usize) -> Planted {
    let mut random = Random(count as u64);
    let mut planted = Planted::new();
    for split in ["train", "val"] {
        for kind in ["images", "labels"] {
            std::fs::create_dir_all(folder.join(kind).join(split)).unwrap();
        }
    }
    let mut fault = 0;
    let mut first_training_picture = Vec::new();
    for i in 0..count {
        let split = if i % 10 == 9 { "val" } else { "train" };
        let (image, label) = (format!("images/{split}/{i}.jpg"), format!("labels/{split}/{i}.txt"));
        let mut bytes = encoded(&picture(&mut random), ImageFormat::Jpeg);
        if i == 0 {
            first_training_picture.clone_from(&bytes);
        }
        let rows = 1 + random.next() % 3;
        let mut text = String::new();
        for _ in 0..rows {
            let (cx, cy) = (0.3 + 0.4 * random.unit(), 0.3 + 0.4 * random.unit());
            writeln!(
                text,
                "{} {cx:.6} {cy:.6} {:.6} {:.6}",
                random.next() % 2,
                0.1 + 0.3 * random.unit(),
                0.1 + 0.3 * random.unit()
            )
            .unwrap();
        }
        let next = Some(rows + 1);
        let mut write_label = true;
        if i % 20 == 19 {
            // Of images in the validation split here, so that the last kind is possible: 19, 39, … all end in 9.
            let mut plant =
                |path: &str, line: Option<u64>, kind: &str| planted.insert((path.into(), line, kind.into()));
            match fault % 16 {
                0 => {
                    text.push_str("0 0.5 0.5 0.1\n");
                    plant(&label, next, "wrong_number_count")
                }
                1 => {
                    text.push_str("0 0.5 nan 0.1 0.1\n");
                    plant(&label, next, "non_finite")
                }
                2 => {
                    text.push_str("5 0.5 0.5 0.1 0.1\n");
                    plant(&label, next, "class_out_of_range")
                }
                3 => {
                    text.push_str("0 1.7 0.5 0.1 0.1\n");
                    plant(&label, next, "coordinates_out_of_range")
                }
                4 => {
                    text.push_str("0 0.5 0.5 0 0.1\n");
                    plant(&label, next, "zero_size_box")
                }
                5 => {
                    text.push_str("tree 0.5 0.5 0.1 0.1\n");
                    plant(&label, next, "not_a_number")
                }
                6 => {
                    let first = text.lines().next().unwrap().to_owned();
                    text.push_str(&first);
                    plant(&label, next, "duplicate_box")
                }
                7 => {
                    bytes.clear();
                    plant(&image, None, "empty_image")
                }
                8 => {
                    bytes.truncate(bytes.len() - 40);
                    plant(&image, None, "truncated_image")
                }
                9 => {
                    bytes = b"no picture at all".to_vec();
                    plant(&image, None, "corrupt_image")
                }
                10 => {
                    bytes = encoded(&RgbImage::new(6, 32), ImageFormat::Jpeg);
                    plant(&image, None, "image_too_small")
                }
                11 => {
                    bytes = encoded(&picture(&mut random), ImageFormat::Png);
                    plant(&image, None, "extension_mismatch")
                }
                12 => {
                    write_label = false;
                    plant(&image, None, "missing_label")
                }
                13 => {
                    text.clear();
                    plant(&label, None, "empty_label")
                }
                14 => {
                    let orphan = format!("labels/{split}/orphan{i}.txt");
                    std::fs::write(folder.join(&orphan), "0 0.5 0.5 0.1 0.1\n").unwrap();
                    plant(&orphan, None, "label_without_image")
                }
                _ => {
                    bytes.clone_from(&first_training_picture);
                    plant(&image, None, "train_image_in_val")
                }
            };
            fault += 1;
        }
        std::fs::write(folder.join(&image), bytes).unwrap();
        if write_label {
            std::fs::write(folder.join(&label), text).unwrap();
        }
    }
    std::fs::write(folder.join("data.yaml"), "train: images/train\nval: images/val\nnames: [a, b]\n")
        .unwrap();
    planted
}

fn found(audit: &Value, folder: &str) -> Planted {
    let faults = audit["faults"].as_array().unwrap();
    let found: Planted = faults
        .iter()
        .map(|f| {
            let path = f["path"].as_str().unwrap();
            let path = path.strip_prefix(&format!("{folder}/")).unwrap_or(path);
            (path.to_owned(), f["line"].as_u64(), f["kind"].as_str().unwrap().to_owned())
        })
        .collect();
    assert_eq!(found.len(), faults.len(), "a fault is told twice");
    found
}

/// Runs a command and watches its resident memory: the largest value seen, in bytes (0 where the system does not say).
fn watched(folder: &Path, line: &[&str]) -> (common::Ran, u64) {
    let mut command = common::command(folder, line);
    let out = tempfile::NamedTempFile::new().unwrap();
    let err = tempfile::NamedTempFile::new().unwrap();
    let mut child = command.stdout(out.reopen().unwrap()).stderr(err.reopen().unwrap()).spawn().unwrap();
    let mut peak = 0;
    let status = loop {
        let text = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = text.lines().find(|l| l.starts_with("VmHWM:"));
        let now = line.and_then(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0);
        peak = peak.max(now * 1024);
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None => std::thread::sleep(std::time::Duration::from_millis(20)),
        }
    };
    let read = |file: &tempfile::NamedTempFile| std::fs::read(file.path()).unwrap();
    let output = std::process::Output { status, stdout: read(&out), stderr: read(&err) };
    (common::ran(folder, output), peak)
}

#[test]
fn every_planted_fault_is_found_and_none_invented() {
    let count: usize = std::env::var("ONSA_AUDIT_IMAGES").map_or(10_000, |n| n.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let planted = lay(&folder.path().join("data"), count);
    assert_eq!(planted.len(), count / 20);
    let begun = Instant::now();
    let (ran, peak) = watched(folder.path(), &["check", "data=data/data.yaml", "--json"]);
    let seconds = begun.elapsed().as_secs_f64();
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let audit: Value = serde_json::from_str(&ran.stdout).unwrap();
    let found_in_data = found(&audit, "data");
    let missed: Vec<_> = planted.difference(&found_in_data).take(5).collect();
    let invented: Vec<_> = found_in_data.difference(&planted).take(5).collect();
    assert!(missed.is_empty() && invented.is_empty(), "missed {missed:?}, invented {invented:?}");
    println!(
        "{count} images, {} planted faults: all found, none invented; {:.0} images/s, at most {} MiB resident",
        planted.len(),
        count as f64 / seconds,
        peak >> 20
    );
}

#[test]
fn a_corrected_copy_has_no_faults_lists_what_was_done_and_leaves_the_data_set_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let planted = lay(&folder.path().join("data"), 640);
    let audit: Value =
        serde_json::from_str(&onsa(folder.path(), &["check", "data=data/data.yaml", "--json"]).stdout)
            .unwrap();
    let before = audit["hash"].clone();
    let ran = onsa(folder.path(), &["check", "data=data/data.yaml", "--fix", "output=fixed", "--json"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let fixed: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(fixed["audit"]["hash"], before, "the data set itself stays as it is");
    let changes = std::fs::read_to_string(folder.path().join("fixed/changes.csv")).unwrap();
    assert_eq!(changes.lines().count(), planted.len() + 1, "one line a fault");
    let again = onsa(folder.path(), &["check", "data=fixed/data.yaml", "--json"]);
    assert_eq!(again.code, 0, "{}", again.stdout);
    let audit: Value = serde_json::from_str(&again.stdout).unwrap();
    let kinds: BTreeSet<String> = found(&audit, "fixed").into_iter().map(|(_, _, kind)| kind).collect();
    assert_eq!(kinds, BTreeSet::from(["empty_label".to_owned()]), "only backgrounds remain to be looked at");
    assert_eq!(audit["images"], fixed["fixed"]["images"]);
    assert_eq!(audit["boxes"], fixed["fixed"]["boxes"]);

    let refused = onsa(folder.path(), &["check", "data=data/data.yaml", "--fix", "output=fixed"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("fixed exists already"), "{}", refused.stderr);
}
