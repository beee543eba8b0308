//! The verbs on a classifier, as a person types them.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use common::onsa;
use serde_json::Value;

fn draw(folder: &std::path::Path) {
    for (split, count) in [("train", 6u32), ("test", 3)] {
        for (name, colour) in [("dusk", [40u8, 30, 90]), ("noon", [250, 240, 160])] {
            let dir = folder.join("sky").join(split).join(name);
            std::fs::create_dir_all(&dir).unwrap();
            for i in 0..count {
                let image = image::RgbImage::from_fn(48, 40, |x, y| {
                    image::Rgb(colour.map(|c| c.wrapping_add(((x * y + i) % 5) as u8)))
                });
                image.save(dir.join(format!("{i}.png"))).unwrap();
            }
        }
    }
}

#[test]
fn train_val_predict_and_inspect_speak_of_classes() {
    let folder = tempfile::tempdir().unwrap();
    draw(folder.path());
    let json = |line: &[&str]| -> Value {
        let ran = onsa(folder.path(), line);
        assert_eq!(ran.code, 0, "{line:?}: {}", ran.stderr);
        serde_json::from_str(&ran.stdout).unwrap()
    };
    let trained = json(&[
        "train",
        "task=classify",
        "model=yolov8n-cls",
        "pretrained=false",
        "data=sky",
        "epochs=2",
        "imgsz=32",
        "batch=4",
        "project=out",
        "name=sky",
        "workers=1",
        "--json",
    ]);
    let best = trained["best"].as_str().unwrap();
    assert_eq!(trained["run_dir"], "out/sky");
    assert!(trained["metrics"]["top1"].is_number() && trained["metrics"]["balanced_accuracy"].is_number());

    let val = json(&[
        "val",
        &format!("model={best}"),
        "data=sky",
        "project=out",
        "name=val",
        "predictions=said.json",
        "--json",
    ]);
    let said = std::fs::read_to_string(folder.path().join("said.json")).unwrap();
    let said: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(said.as_array().unwrap().len(), 6);
    assert!(said[0]["label"]["name"] == "dusk" && said[0]["top5"].as_array().unwrap().len() == 2, "{said}");
    assert_eq!((&val["images"], &val["top5"]), (&Value::from(6), &Value::from(1.0)));
    assert!(val["auc"].is_number(), "two classes have an area: {val}");
    assert_eq!(val["per_class"][1]["name"], "noon");
    assert!(val["intervals"]["top1"]["low"].is_number());
    assert!(folder.path().join("out/val/confusion_matrix.svg").is_file());
    assert_eq!(val["top1"], trained["metrics"]["top1"], "the run's own figure");

    let seen = json(&["predict", &format!("model={best}"), "source=sky/test/noon", "--json"]);
    let top = seen[0]["top5"].as_array().unwrap();
    assert_eq!(top.len(), 2);
    let sum: f64 = top.iter().map(|one| one["score"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-6 && top[0]["score"].as_f64() >= top[1]["score"].as_f64());
    assert!(["dusk", "noon"].contains(&top[0]["name"].as_str().unwrap()));

    let inside = json(&["inspect", best, "--json"]);
    assert_eq!((&inside["task"], &inside["model"]), (&Value::from("classify"), &Value::from("yolov8n-cls")));
    assert_eq!(inside["classes"], serde_json::json!(["dusk", "noon"]));
}

#[test]
fn a_model_of_another_task_and_a_wrong_folder_are_explained() {
    let folder = tempfile::tempdir().unwrap();
    draw(folder.path());
    let ran =
        onsa(folder.path(), &["train", "task=classify", "model=yolo11n", "pretrained=false", "data=sky"]);
    assert_eq!(ran.code, 1);
    assert!(
        ran.stderr.contains("yolo11n is a model to detect") && ran.stderr.contains("task=detect"),
        "{}",
        ran.stderr
    );
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    let ran =
        onsa(folder.path(), &["train", "task=classify", "model=resnet18", "pretrained=false", "data=empty"]);
    assert!(ran.code == 1 && ran.stderr.contains("one folder of images a class"), "{}", ran.stderr);
    let ran = onsa(folder.path(), &["train", "task=classify", "model=resnet18", "data=sky", "mixup=0.5"]);
    assert!(ran.code == 2 && ran.stderr.contains("mixup=0.5 is not supported"), "{}", ran.stderr);
}
