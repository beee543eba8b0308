//! X-rays as DICOM files, from the folder to the figures; and nothing of the patient in what is made of them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
mod common;

use std::path::Path;

use common::onsa;
use serde_json::Value;

/// What is planted in every fixture.
const PLANTED: [&[u8]; 3] = [b"Planted", b"planted", b"1970"];

fn element(group: u16, number: u16, vr: &[u8; 2], value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend(group.to_le_bytes());
    out.extend(number.to_le_bytes());
    out.extend(vr);
    let padded = value.len() + value.len() % 2;
    if vr == b"OW" {
        out.extend([0, 0]);
        out.extend((padded as u32).to_le_bytes());
    } else {
        out.extend((padded as u16).to_le_bytes());
    }
    out.extend(value);
    out.resize(out.len() + value.len() % 2, b' ');
    out
}

/// A grey file of twelve bits with a window, and a patient.
fn file(side: u16, shade: impl Fn(usize, usize) -> u16) -> Vec<u8> {
    let number = |n: u16, v: u16| element(0x28, n, b"US", &v.to_le_bytes());
    let pixels: Vec<u8> = (0..usize::from(side) * usize::from(side))
        .flat_map(|i| shade(i % usize::from(side), i / usize::from(side)).to_le_bytes())
        .collect();
    let body = [
        element(2, 0x10, b"UI", b"1.2.840.10008.1.2.1\0"),
        element(0x10, 0x10, b"PN", b"Planted^Patient"),
        element(0x10, 0x20, b"LO", b"planted-77"),
        element(0x10, 0x30, b"DA", b"19700101"),
        number(2, 1),
        element(0x28, 4, b"CS", b"MONOCHROME1"),
        number(0x10, side),
        number(0x11, side),
        number(0x100, 16),
        number(0x101, 12),
        number(0x102, 11),
        number(0x103, 0),
        element(0x28, 0x1050, b"DS", b"2000"),
        element(0x28, 0x1051, b"DS", b"1500"),
        element(0x7FE0, 0x10, b"OW", &pixels),
    ];
    [vec![0; 128], b"DICM".to_vec(), body.concat()].concat()
}

/// The files below `folder` that hold a planted text, other than the data themselves.
fn told(folder: &Path, out: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            told(&path, out);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            let holds = |word: &&[u8]| bytes.windows(word.len()).any(|w| w == *word);
            out.extend(
                PLANTED
                    .iter()
                    .filter(|w| holds(w))
                    .map(|w| format!("{}: {}", path.display(), String::from_utf8_lossy(w))),
            );
        }
    }
}

#[test]
fn x_rays_train_a_classifier_and_no_run_knows_the_patient() {
    let folder = tempfile::tempdir().unwrap();
    for (split, count) in [("train", 6), ("val", 3)] {
        for (class, slope) in [("clear", 0usize), ("mass", 60)] {
            let dir = folder.path().join("xrays").join(split).join(class);
            std::fs::create_dir_all(&dir).unwrap();
            for i in 0..count {
                let bytes = file(40, |x, y| {
                    (1400 + i * 30 + (x + y) * 7 + slope * usize::from((12..24).contains(&x))) as u16
                });
                std::fs::write(dir.join(format!("{split}{i}_{class}.dcm")), bytes).unwrap();
            }
        }
    }
    let mut said = String::new();
    let mut run = |line: &[&str]| -> String {
        let ran = onsa(folder.path(), line);
        assert_eq!(ran.code, 0, "{line:?}: {}", ran.stderr);
        said.push_str(&ran.stderr);
        said.push_str(&ran.stdout);
        ran.stdout
    };
    let audit: Value =
        serde_json::from_str(&run(&["check", "data=xrays", "channels=1", "near=false", "--json"])).unwrap();
    assert_eq!((&audit["images"], &audit["ok"]), (&18.into(), &true.into()));
    run(&[
        "train",
        "task=classify",
        "model=resnet18",
        "pretrained=false",
        "data=xrays",
        "channels=1",
        "epochs=1",
        "imgsz=32",
        "batch=4",
        "workers=1",
        "project=out",
        "name=run",
    ]);
    let best = "model=out/run/weights/best.safetensors";
    run(&["val", best, "data=xrays", "project=out", "name=val"]);
    let seen: Value =
        serde_json::from_str(&run(&["predict", best, "source=xrays/val/mass/val0_mass.dcm", "--json"]))
            .unwrap();
    assert!(seen[0]["top5"][0]["score"].is_number());
    // A broken file is told without a word of what it holds.
    let whole = file(40, |_, _| 9);
    std::fs::write(folder.path().join("xrays/train/mass/cut.dcm"), &whole[..whole.len() / 2]).unwrap();
    let broken = onsa(folder.path(), &["check", "data=xrays", "channels=1"]);
    assert!(broken.code == 1 && broken.stdout.contains("cut.dcm: error: is cut off"), "{}", broken.stdout);
    said.push_str(&broken.stdout);
    for word in PLANTED {
        assert!(
            !said.contains(&*String::from_utf8_lossy(word)),
            "the log tells {}",
            String::from_utf8_lossy(word)
        );
    }
    let mut found = Vec::new();
    told(&folder.path().join("out"), &mut found);
    // A date as four digits may stand in a picture's bytes by chance.
    found.retain(|line| !line.ends_with("1970"));
    assert_eq!(found, Vec::<String>::new());
    assert!(folder.path().join("out/run/report.html").is_file());
}
