//! Adding a class through the real binary, on drawn images: plain fine-tuning forgets the old class, `add_classes=true` keeps
//! it as it was, and teaching keeps most of it; and what cannot be added is refused.

#![allow(clippy::unwrap_used, reason = "a test may panic")]
mod common;

use std::path::Path;

use common::{Ran, onsa};
use image::{Rgb, RgbImage};
use serde_json::Value;

const SIDE: u32 = 64;
/// Sides of a block: width and height.
const BLOCK: (u32, u32) = (20, 16);
const COLOURS: [(&str, [u8; 3]); 2] = [("gold", [250, 200, 40]), ("blue", [40, 90, 250])];

/// A data set of blocks on grey noise. On each image stands one of each of `drawn`; only `labelled` is labelled.
fn lay(folder: &Path, drawn: &[&str], labelled: &[&str]) {
    for (split, images) in [("train", 0..24), ("val", 24..30)] {
        let part = |kind: &str| folder.join(kind).join(split);
        std::fs::create_dir_all(part("images")).unwrap();
        std::fs::create_dir_all(part("labels")).unwrap();
        for i in images {
            let noise = |n: u32| (n.wrapping_mul(2_654_435_761) >> 16) ^ (n.wrapping_mul(40_503) >> 3);
            let blocks: Vec<(usize, u32, u32)> = COLOURS
                .iter()
                .enumerate()
                .filter(|(_, (name, _))| drawn.contains(name))
                .map(|(c, _)| {
                    // One in the upper half, one in the lower, by turns.
                    let upper = (i as usize + c) % 2;
                    let x = noise(4 * i + c as u32) % (SIDE - BLOCK.0);
                    (c, x, 32 * upper as u32 + noise(7 * i + c as u32) % 16)
                })
                .collect();
            let picture = RgbImage::from_fn(SIDE, SIDE, |px, py| {
                let inside =
                    |x: u32, y: u32| (x..x + BLOCK.0).contains(&px) && (y..y + BLOCK.1).contains(&py);
                match blocks.iter().find(|(_, x, y)| inside(*x, *y)) {
                    Some((c, ..)) => Rgb(COLOURS[*c].1),
                    None => Rgb([(noise(px * 131 + py * 977 + i) % 64) as u8; 3]),
                }
            });
            picture.save(part("images").join(format!("{i:02}.png"))).unwrap();
            let lines = blocks.iter().filter_map(|(c, x, y)| {
                let class = labelled.iter().position(|name| *name == COLOURS[*c].0)?;
                let (w, h, side) = (BLOCK.0 as f32, BLOCK.1 as f32, SIDE as f32);
                let (cx, cy) = ((*x as f32 + w / 2.0) / side, (*y as f32 + h / 2.0) / side);
                Some(format!("{class} {cx} {cy} {} {}\n", w / side, h / side))
            });
            std::fs::write(part("labels").join(format!("{i:02}.txt")), lines.collect::<String>()).unwrap();
        }
    }
    let yaml = format!("train: images/train\nval: images/val\nnames: [{}]\n", labelled.join(", "));
    std::fs::write(folder.join("data.yaml"), yaml).unwrap();
}

fn train(folder: &Path, more: &[&str]) -> Ran {
    let usual = [
        "train",
        "imgsz=64",
        "batch=8",
        "nbs=8",
        "project=runs",
        "mosaic=0",
        "scale=0.1",
        "optimizer=AdamW",
        "--json",
    ];
    onsa(folder, &[&usual[..], more].concat())
}

fn document(ran: &Ran) -> Value {
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).expect("one JSON document and nothing else")
}

#[test]
fn plain_fine_tuning_forgets_what_add_classes_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    lay(&at.join("old"), &["gold"], &["gold"]);
    // The new images show old objects too, and say nothing of them.
    lay(&at.join("new"), &["gold", "blue"], &["blue"]);
    lay(&at.join("both"), &["gold", "blue"], &["gold", "blue"]);
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/pt/v8_4_190_mid.pt");
    let fixture = format!("model={}", fixture.display());
    let base = document(&train(
        at,
        &[&fixture, "data=old/data.yaml", "epochs=60", "lr0=0.01", "name=base", "plots=false"],
    ));
    let start = format!("model={}", base["best"].as_str().unwrap());
    assert!(base["metrics"]["map50"].as_f64().unwrap() > 0.9, "the old class is known at first: {base}");

    let add = |mode: &str, name: &str, plots: &str| {
        let (mode, name, plots) =
            (format!("add_classes={mode}"), format!("name={name}"), format!("plots={plots}"));
        let line = [
            &start,
            "data=new/data.yaml",
            "old_data=both/data.yaml",
            "epochs=60",
            "lr0=0.01",
            &mode,
            &name,
            &plots,
        ];
        let ran = train(at, &line);
        let figures = document(&ran)["added_classes"].clone();
        assert_eq!((&figures["basis"], &figures["images"]), (&"labels".into(), &6.into()), "{figures}");
        assert_eq!(
            (&figures["old"][0]["name"], &figures["new"][0]["name"]),
            (&"gold".into(), &"blue".into())
        );
        let of = |value: &Value| value.as_f64().unwrap();
        let gold = &figures["old"][0];
        (of(&gold["before"]), of(&gold["after"]), of(&figures["new"][0]["ap50"]), ran)
    };
    let (before, forgotten, blue, _) = add("plain", "plain", "false");
    assert!(before > 0.8 && blue > 0.8, "plain: gold {before} before, blue {blue}");
    assert!(forgotten < 0.3, "plain fine-tuning forgets: gold {forgotten}");
    let (_, kept, blue, ran) = add("distil", "taught", "true");
    assert!(kept > 0.8 && blue > 0.8, "add_classes=distil: gold {kept}, blue {blue}");
    assert!(ran.stderr.contains("distill "), "the epochs' lines name the loss: {}", ran.stderr);
    let report = std::fs::read_to_string(at.join("runs/taught/report.html")).unwrap();
    assert!(report.contains("Old and new classes") && report.contains("Distillation loss"));

    let (before, kept, blue, ran) = add("true", "kept", "true");
    assert!(kept == before && blue > 0.8, "add_classes: gold {before} before, {kept} after, blue {blue}");
    assert!(ran.stderr.contains("classes: the model's 1 are kept, 1 added: blue"), "{}", ran.stderr);
    assert!(ran.stderr.contains("shares the first 2 layers of the model (freeze=2)"), "{}", ran.stderr);

    let run_dir = at.join("runs/kept");
    let report = std::fs::read_to_string(run_dir.join("report.html")).unwrap();
    assert!(report.contains("Old and new classes") && report.contains("branch of their own"));
    let json = std::fs::read_to_string(run_dir.join("added_classes.json")).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), document(&ran)["added_classes"]);
    // The new data number the class from 0, the model from 1: they are matched by name.
    let val = [
        "val",
        "model=runs/kept/weights/best.safetensors",
        "data=new/data.yaml",
        "imgsz=64",
        "plots=false",
        "--json",
    ];
    let val = document(&onsa(at, &val));
    assert_eq!(val["per_class"][0]["name"], "blue", "{val}");
    assert!(val["map50"].as_f64().unwrap() > 0.8, "{val}");
    let names = document(&onsa(at, &["inspect", "runs/kept/weights/best.safetensors", "--json"]));
    assert_eq!(names["classes"], serde_json::json!(["gold", "blue"]));
    assert_eq!(names["branches"], serde_json::json!([{"shared_layers": 2, "classes": ["blue"]}]));
    let shown = onsa(at, &["inspect", "runs/kept/weights/best.safetensors"]).stdout;
    assert!(shown.contains("branch      shares the first 2 layers; 1: blue\n"), "{shown}");

    // Every box of the old class is the starting model's, number for number.
    let predict = |model: &str| -> Vec<Vec<Value>> {
        let line =
            ["predict", model, "source=both/images/val", "imgsz=64", "save=false", "device=cpu", "--json"];
        let found = document(&onsa(at, &line));
        let gold = |image: &Value| {
            let boxes = image["boxes"].as_array().unwrap().iter();
            boxes.filter(|b| b["name"] == "gold").cloned().collect::<Vec<_>>()
        };
        found.as_array().unwrap().iter().map(gold).collect()
    };
    let (old, new) = (predict(&start), predict("model=runs/kept/weights/best.safetensors"));
    assert!(old == new && old.iter().flatten().count() >= 6, "{old:?} became {new:?}");
    for format in ["onnx", "tflite", "safetensors"] {
        let (format, output) = (format!("format={format}"), format!("output=out.{format}"));
        let line = ["export", "model=runs/kept/weights/best.safetensors", &format, &output, "--json"];
        let proof = document(&onsa(at, &line))["proof"].clone();
        assert_eq!(proof["ok"], true, "{format}: {proof}");
        assert!(proof["boxes"].as_u64().unwrap() > 6, "{format}: {proof}");
    }
    for mode in ["mode=train", "mode=predict"] {
        let model = "model=runs/kept/weights/best.safetensors";
        let timed = onsa(at, &["bench", model, "imgsz=64", "rounds=1", "device=cpu", mode, "--json"]);
        assert!(document(&timed)["images_per_second"].as_f64().unwrap() > 0.0);
    }
    let line = ["export", "model=runs/kept/weights/best.safetensors", "format=torch", "output=out.pt"];
    let refused = onsa(at, &line);
    assert!(refused.code == 2 && refused.stderr.contains("give format=onnx"), "{}", refused.stderr);
    assert!(!at.join("out.pt").exists());
}

#[test]
fn what_cannot_be_added_is_refused_with_a_hint_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    lay(&at.join("old"), &["gold"], &["gold"]);
    lay(&at.join("new"), &["blue"], &["blue"]);
    std::fs::write(
        at.join("leaves.yaml"),
        "path: old\ntrain: images/train\nval: images/val\nnames: [LEAF]\n",
    )
    .unwrap();
    std::fs::create_dir(at.join("empty")).unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/pt/v8_4_190_mid.pt");
    std::fs::copy(fixture, at.join("model.pt")).unwrap();
    let refused = |code: i32, line: &[&str], words: &[&str]| {
        let key = |argument: &str| argument.split('=').next().map(str::to_owned);
        let usual = ["model=model.pt", "data=new/data.yaml", "epochs=1", "device=cpu"];
        let usual = usual.into_iter().filter(|u| !line.iter().any(|given| key(given) == key(u)));
        let ran = train(at, &usual.chain(line.iter().copied()).collect::<Vec<_>>());
        assert_eq!((ran.code, ran.stdout.as_str()), (code, ""), "{line:?}: {}", ran.stderr);
        assert!(!ran.stderr.contains("panicked"), "{}", ran.stderr);
        for word in words {
            assert!(ran.stderr.contains(word), "{line:?}: {word:?} is not in: {}", ran.stderr);
        }
        assert!(!at.join("runs").exists(), "{line:?}: a refused run wrote something");
    };
    let add = "add_classes=true";
    refused(
        1,
        &[add, "data=leaves.yaml"],
        &["has every class of the data already (LEAF)", "leave add_classes out"],
    );
    let taught = "add_classes=distil";
    refused(1, &[taught, "replay=nowhere"], &["replay=nowhere", "nothing at this path", "hint"]);
    refused(1, &[taught, "replay=empty"], &["replay=empty", "neither a data set nor a folder with images"]);
    refused(2, &[add, "replay=old"], &["replay=old", "nothing has to teach them", "add_classes=distil"]);
    refused(2, &[add, "distill=2"], &["distill=2", "add_classes=distil"]);
    refused(2, &[add, "freeze=[1,2]"], &["how many layers old and new classes share"]);
    refused(1, &[add, "freeze=23"], &["23"]);
    refused(
        1,
        &[add, "old_data=old/data.yaml"],
        &["old_data=old/data.yaml", "none of its classes", "onsa inspect"],
    );
    refused(
        1,
        &[taught, "device=cuda"],
        &["where it makes no branch, trains on the processor only", "device=cpu"],
    );
    refused(1, &[add, "model=yolo11n", "pretrained=true"], &["yolo11n"]);
    refused(2, &[add, "pretrained=false"], &["pretrained=false starts from nothing"]);
    refused(2, &[add, "strategy=head"], &["strategy=head"]);
    refused(2, &[add, "single_cls=true"], &["single_cls=true"]);
    refused(2, &[taught, "replay_ratio=2"], &["it belongs to replay="]);
    refused(2, &["replay=old"], &["it belongs to add_classes=true"]);
    refused(2, &["distill=2"], &["it belongs to add_classes=true"]);
    refused(2, &["add_classes=maybe"], &["false, true, distil, plain"]);
}

/// A classifier's data set: plain colours with a little noise, a folder a class.
fn paint(folder: &Path, colours: &[(&str, [u8; 3])]) {
    for (split, images) in [("train", 0..16u32), ("val", 16..24)] {
        for (name, colour) in colours {
            let to = folder.join(split).join(name);
            std::fs::create_dir_all(&to).unwrap();
            for i in images.clone() {
                let noise = |x: u32, y: u32| ((x * 131 + y * 977 + i * 57) % 40) as u8;
                let picture =
                    RgbImage::from_fn(40, 40, |x, y| Rgb(colour.map(|c| c.saturating_add(noise(x, y)))));
                picture.save(to.join(format!("{i:02}.png"))).unwrap();
            }
        }
    }
}

#[test]
fn a_classifier_keeps_its_classes_where_plain_fine_tuning_forgets_them() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    paint(&at.join("old"), &[("night", [10, 10, 30]), ("sand", [200, 170, 90])]);
    paint(&at.join("new"), &[("grass", [20, 150, 20]), ("brick", [170, 40, 30])]);
    // What is replayed has no labels: the starting model says what is on it.
    std::fs::create_dir(at.join("pictures")).unwrap();
    for class in ["night", "sand"] {
        for i in 0..8 {
            let from = at.join(format!("old/train/{class}/{i:02}.png"));
            std::fs::copy(from, at.join(format!("pictures/{class}{i}.png"))).unwrap();
        }
    }
    let classify = |more: &[&str]| {
        let usual = [
            "train",
            "task=classify",
            "imgsz=32",
            "batch=8",
            "nbs=8",
            "project=runs",
            "optimizer=AdamW",
            "auto_augment=none",
            "erasing=0",
            "hsv_h=0",
            "hsv_s=0",
            "workers=1",
            "device=cpu",
            "--json",
        ];
        onsa(at, &[&usual[..], more].concat())
    };
    let base = [
        "model=yolov8n-cls",
        "pretrained=false",
        "data=old",
        "epochs=16",
        "lr0=0.002",
        "name=base",
        "plots=false",
    ];
    let base = document(&classify(&base));
    assert!(base["metrics"]["top1"].as_f64().unwrap() > 0.9, "the old classes are known at first: {base}");
    let start = format!("model={}", base["best"].as_str().unwrap());
    let add = |mode: &str, name: &str, more: &[&str]| {
        let (mode, name) = (format!("add_classes={mode}"), format!("name={name}"));
        let usual = [start.as_str(), "data=new", "epochs=16", "lr0=0.002", &mode, &name];
        let ran = classify(&[&usual[..], more].concat());
        (document(&ran)["added_classes"].clone(), ran)
    };
    let of = |value: &Value| value.as_f64().unwrap();
    let recall = |figures: &Value| {
        let new = figures["new"].as_array().unwrap();
        new.iter().map(|class| of(&class["recall"])).sum::<f64>() / new.len() as f64
    };
    let (plain, _) = add("plain", "plain", &["old_data=old", "plots=false"]);
    assert_eq!((&plain["counted"], &plain["basis"]), (&"images".into(), &"labels".into()), "{plain}");
    assert!(of(&plain["before"]) > 0.9 && recall(&plain) > 0.9, "{plain}");
    assert!(of(&plain["after"]) < 0.3, "plain fine-tuning forgets: {plain}");
    let (kept, ran) = add("true", "kept", &["old_data=old", "replay=pictures"]);
    assert!(of(&kept["after"]) > 0.9 && recall(&kept) > 0.9, "{kept}");
    assert!(ran.stderr.contains("classes: the model's 2 are kept, 2 added"), "{}", ran.stderr);
    let report = std::fs::read_to_string(at.join("runs/kept/report.html")).unwrap();
    assert!(report.contains("Old and new classes") && report.contains("accuracy"), "the report tells it");
    let names = document(&onsa(at, &["inspect", "runs/kept/weights/best.safetensors", "--json"]));
    assert_eq!(names["classes"].as_array().unwrap().len(), 4, "{names}");
    assert_eq!(names["classes"][0], base["metrics"]["per_class"][0]["name"], "the old classes come first");
    // Without labelled old images: agreement with the starting model, here on the replayed pictures.
    let (agreed, ran) = add("true", "agreed", &["old_data=pictures", "replay=old", "plots=false"]);
    assert_eq!((&agreed["basis"], &agreed["images"]), (&"agreement".into(), &16.into()), "{agreed}");
    assert!(of(&agreed["after"]) > 0.9 && agreed["before"].is_null(), "{agreed}");
    assert!(ran.stderr.contains("replay: 16 of the 32 images"), "{}", ran.stderr);
}
