//! Bad input: exit code 1 or 2, one message that names the place, nothing on stdout, nothing half-written.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
mod common;

use std::io::Write;
use std::path::Path;

use common::onsa;
use onsa::demo::draws::{self, Drawing};

const DRAWING: Drawing = Drawing { train: 6, val: 3, side: 64, seed: 1 };

/// A drawn data set and a small checkpoint in a folder of their own.
fn prepared() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    draws::lay(DRAWING, &folder.path().join("shapes")).unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    std::fs::copy(fixtures.join("pt/v8_4_190_mid.pt"), folder.path().join("model.pt")).unwrap();
    folder
}

/// Trains and expects to be refused with exactly this code, all these words on stderr, and no run folder.
fn refused(folder: &Path, model: &str, data: &str, code: i32, words: &[&str]) {
    let (model, data) = (format!("model={model}"), format!("data={data}"));
    let ran = onsa(folder, &["train", &model, &data, "imgsz=64", "batch=4", "epochs=1", "project=out"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{model} {data}: {}", ran.stderr);
    assert!(ran.stderr.contains("error: "), "{}", ran.stderr);
    assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
    for word in words {
        assert!(ran.stderr.contains(word), "{model} {data}: {word:?} is not in: {}", ran.stderr);
    }
    assert!(!folder.join("out").exists(), "{model} {data}: a refused run wrote something");
}

#[test]
fn models_that_cannot_be_used_are_named() {
    let folder = prepared();
    let at = folder.path();
    let whole = std::fs::read(at.join("model.pt")).unwrap();
    std::fs::write(at.join("cut.pt"), &whole[..whole.len() * 2 / 3]).unwrap();
    std::fs::write(at.join("hostile.pt"), b"\x80\x02cos\nsystem\nX\x0b\x00\x00\x00touch owned\x85R.")
        .unwrap();
    let data = "shapes/data.yaml";
    refused(at, "yolo99z", data, 1, &["yolo99z"]);
    refused(at, "yolo11m.pt", data, 1, &["yolo11m.pt"]);
    refused(at, "cut.pt", data, 1, &["cut.pt"]);
    refused(at, "hostile.pt", data, 1, &["hostile.pt", "no model file"]);
    assert!(!at.join("owned").exists());
}

#[test]
fn data_sets_that_cannot_be_read_are_named_with_their_line() {
    let folder = prepared();
    let at = folder.path();
    let yaml = |name: &str, text: &str| std::fs::write(at.join("shapes").join(name), text).unwrap();
    yaml("key.yaml", "train: images/train\nval: images/val\nlabls: 3\nnames: [a, b, c]\n");
    yaml("folder.yaml", "train: images/nowhere\nval: images/val\nnames: [a, b, c]\n");
    yaml("empty.yaml", "train: images/none\nval: images/val\nnames: [a, b, c]\n");
    std::fs::create_dir_all(at.join("shapes/images/none")).unwrap();
    refused(at, "model.pt", "nowhere.yaml", 1, &["nowhere.yaml"]);
    refused(at, "model.pt", "shapes/key.yaml", 1, &["key.yaml", "3", "labls"]);
    refused(at, "model.pt", "shapes/folder.yaml", 1, &["images/nowhere"]);
    refused(at, "model.pt", "shapes/empty.yaml", 1, &["images/none"]);
}

#[test]
fn labels_and_images_with_faults_stop_a_run_before_it_begins() {
    for (label, image, words) in [
        (Some("0 0.5 0.5 0.1\n"), None, ["labels/train/0000.txt, line 1", "4"]),
        (Some("0 0.5 0.5 0.1 0.1\n0 nan 0.5 0.1 0.1\n"), None, ["labels/train/0000.txt, line 2", "nan"]),
        (Some("9 0.5 0.5 0.1 0.1\n"), None, ["labels/train/0000.txt, line 1", "9"]),
        (None, Some(Vec::new()), ["images/train/0000.jpg", "empty"]),
        (None, Some(b"not a picture".to_vec()), ["images/train/0000.jpg", "image"]),
    ] {
        let folder = prepared();
        let shapes = folder.path().join("shapes");
        if let Some(text) = label {
            std::fs::write(shapes.join("labels/train/0000.txt"), text).unwrap();
        }
        if let Some(bytes) = image {
            std::fs::write(shapes.join("images/train/0000.jpg"), bytes).unwrap();
        }
        refused(folder.path(), "model.pt", "shapes/data.yaml", 1, &words);
    }
}

#[test]
fn an_image_of_60000_by_60000_pixels_is_refused_unread() {
    let folder = prepared();
    let path = folder.path().join("shapes/images/train/huge.png");
    let mut file = std::fs::File::create(&path).unwrap();
    // A header that announces 60,000 x 60,000 grey pixels of 8 bits, and hardly any data behind it.
    let side = 60_000u32.to_be_bytes();
    file.write_all(b"\x89PNG\r\n\x1a\n").unwrap();
    for (kind, data) in [
        (b"IHDR", [&side[..], &side, &[8, 0, 0, 0, 0]].concat()),
        (b"IDAT", vec![0x78, 0x9c, 3, 0, 0, 0, 0, 1]),
        (b"IEND", Vec::new()),
    ] {
        let body = [&kind[..], &data].concat();
        file.write_all(&(data.len() as u32).to_be_bytes()).unwrap();
        file.write_all(&body).unwrap();
        file.write_all(&crc32(&body).to_be_bytes()).unwrap();
    }
    drop(file);
    refused(folder.path(), "model.pt", "shapes/data.yaml", 1, &["images/train/huge.png", "60000"]);
}

/// ISO 3309, as PNG has it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    })
}

#[test]
fn arguments_that_are_wrong_are_usage_errors_with_the_nearest_name() {
    let folder = prepared();
    for (wrong, words) in [
        ("epoch=3", ["`train` has no argument `epoch`", "did you mean `epochs`?"]),
        ("imgsz=100", ["imgsz=100", "multiple of 32"]),
        ("lr0=fast", ["lr0=fast", "number"]),
        ("copy_paste=0.5", ["copy_paste=0.5", "outlines"]),
        ("freeze=99", ["freeze", "99"]),
    ] {
        let ran =
            onsa(folder.path(), &["train", "model=model.pt", "data=shapes/data.yaml", "project=out", wrong]);
        assert!(ran.code == 1 || ran.code == 2, "{wrong}: {}", ran.code);
        for word in words {
            assert!(ran.stderr.contains(word), "{wrong}: {word:?} is not in {}", ran.stderr);
        }
        assert!(!folder.path().join("out").exists(), "{wrong}: something was written");
    }
}

#[test]
fn prediction_and_validation_name_what_they_cannot_use() {
    let folder = prepared();
    std::fs::create_dir(folder.path().join("none")).unwrap();
    std::fs::write(folder.path().join("broken.jpg"), "no picture").unwrap();
    for (line, word) in [
        (&["predict", "model=model.pt", "source=none"][..], "none: there is no image here"),
        (&["predict", "model=model.pt", "source=absent.jpg"], "absent.jpg"),
        (&["predict", "model=model.pt", "source=broken.jpg", "save=false"], "broken.jpg"),
        (&["val", "model=model.pt", "data=absent.yaml"], "absent.yaml"),
        (&["val", "model=model.pt", "data=shapes/data.yaml"], "the model's classes"),
    ] {
        let ran = onsa(folder.path(), line);
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{line:?}");
        assert!(ran.stderr.contains(word), "{line:?}: {}", ran.stderr);
    }
    assert!(!folder.path().join("runs").exists(), "nothing was written");
}
