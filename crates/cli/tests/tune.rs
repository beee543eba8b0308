//! Searches and learning-rate sweeps through the real binary, on drawn images. What a search decides from time is tested with a
//! clock of its own (`onsa_tune::search::race`); here the runs are so few that every one of them has its time.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
mod common;

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use common::{Ran, command, onsa};
use onsa::demo::draws::{self, Drawing};
use serde_json::Value;

const DRAWING: Drawing = Drawing { train: 12, val: 4, side: 64, seed: 7 };

/// A drawn data set and a very small pretrained network.
fn prepared() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    draws::lay(DRAWING, &folder.path().join("shapes")).unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    std::fs::copy(fixtures.join("pt/v8_4_190_mid.pt"), folder.path().join("model.pt")).unwrap();
    folder
}

/// Three candidates, two epochs, two folds: 16 runs.
const TUNE: &[&str] = &[
    "tune",
    "model=model.pt",
    "data=shapes/data.yaml",
    "imgsz=64",
    "batch=4",
    "nbs=4",
    "epochs=2",
    "strategies=default,head",
    "rates=1,3",
    "augment=usual",
    "candidates=3",
    "minutes=60",
    "folds=2",
    "device=cpu",
    "project=out",
];

fn document(ran: &Ran) -> Value {
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).expect("one JSON document and nothing else")
}

#[test]
fn a_search_compares_the_best_with_the_default_and_its_command_runs() {
    let folder = prepared();
    let at = folder.path();
    let found = document(&onsa(at, &[TUNE, &["--json"]].concat()));
    assert_eq!((&found["run_dir"], &found["metric"]), (&"out/tune".into(), &"mAP50-95".into()));
    assert!(["better", "not_certain", "default"].contains(&found["verdict"].as_str().unwrap()), "{found}");
    let comparison = &found["comparison"];
    let pairs = comparison["pairs"].as_array().unwrap();
    assert_eq!((pairs.len(), &comparison["epochs"]), (6, &2.into()), "three shuffles of two folds");
    let mean: f64 = pairs.iter().map(|p| p[1].as_f64().unwrap() - p[0].as_f64().unwrap()).sum::<f64>() / 6.0;
    assert!((comparison["difference"]["mean"].as_f64().unwrap() - mean).abs() < 1e-12);
    let interval = comparison["difference"]["interval"].as_array().unwrap();
    assert!(interval[0].as_f64().unwrap() <= mean && mean <= interval[1].as_f64().unwrap());
    let names: Vec<&str> =
        found["candidates"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"default") && names.contains(&"head") && names.len() == 3, "{names:?}");

    let run_dir = at.join("out/tune");
    for file in
        ["journal.jsonl", "tune.csv", "tune.json", "best.txt", "race.svg", "comparison.svg", "report.html"]
    {
        assert!(run_dir.join(file).is_file(), "{file} is missing");
    }
    let line = std::fs::read_to_string(run_dir.join("best.txt")).unwrap();
    assert_eq!(line.trim(), found["command"]);
    let words: Vec<&str> = line.split_whitespace().skip(1).collect();
    let trained = document(&onsa(at, &[&words[..], &["project=out", "plots=false", "--json"]].concat()));
    assert_eq!(trained["epochs"], 2);

    let table = onsa(at, &["resume", "out/tune"]);
    assert_eq!(table.code, 0, "{}", table.stderr);
    assert!(
        table.stdout.contains("candidate ") && table.stdout.contains("command  onsa train model=model.pt")
    );
    let changed = onsa(at, &["resume", "out/tune", "epochs=9"]);
    assert!(changed.code == 2 && changed.stderr.contains("`epochs` cannot be changed"), "{}", changed.stderr);
}

#[cfg(unix)]
#[test]
fn a_search_that_was_killed_goes_on_with_the_same_runs_and_the_same_answer() {
    let folder = prepared();
    let at = folder.path();
    /// Everything that the journal says but times: runs and their figures.
    fn runs(at: &Path, name: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(at.join(format!("out/{name}/journal.jsonl"))).unwrap();
        let events = text.lines().skip(1).map(|line| serde_json::from_str::<Value>(line).unwrap());
        let of = |mut event: Value| {
            let ran = event["event"].get_mut("ran")?.as_object_mut()?;
            ran.remove("cost");
            Some(Value::from(ran.clone()))
        };
        events.filter_map(of).collect()
    }
    let whole = document(&onsa(at, &[TUNE, &["name=whole", "--json"]].concat()));
    let mut child = command(at, &[TUNE, &["name=killed"]].concat())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let journal = at.join("out/killed/journal.jsonl");
    let lines = || std::fs::read_to_string(&journal).map_or(0, |text| text.lines().count());
    while lines() < 5 && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let before = runs(at, "killed");
    assert!(before.len() < runs(at, "whole").len(), "it was killed before its end");
    let mut resumed = document(&onsa(at, &["resume", "out/killed", "--json"]));
    assert_eq!(runs(at, "killed")[..before.len()], before, "what was done is not done again");
    assert_eq!(runs(at, "killed"), runs(at, "whole"));
    let mut whole = whole;
    for found in [&mut whole, &mut resumed] {
        found["run_dir"] = Value::Null;
        found["seconds"] = Value::Null;
        found["candidates"].as_array_mut().unwrap().iter_mut().for_each(|c| c["seconds"] = Value::Null);
    }
    assert_eq!(resumed, whole);

    let label = at.join("shapes/labels/train/0001.txt");
    let text = std::fs::read_to_string(&label).unwrap();
    std::fs::write(&label, format!("{text}0 0.5 0.5 0.2 0.2\n")).unwrap();
    let changed = onsa(at, &["resume", "out/killed"]);
    assert!(
        changed.code == 1 && changed.stderr.contains("has changed since the search began"),
        "{}",
        changed.stderr
    );
}

#[test]
fn classifiers_are_searched_with_seeds_on_the_validation_images() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    for (split, count) in [("train", 4u32), ("val", 3)] {
        for (name, colour) in [("dusk", [40u8, 30, 90]), ("noon", [250, 240, 160])] {
            let dir = at.join("sky").join(split).join(name);
            std::fs::create_dir_all(&dir).unwrap();
            for i in 0..count {
                let pixel =
                    |x: u32, y: u32| image::Rgb(colour.map(|c| c.wrapping_add(((x * y + i) % 5) as u8)));
                image::RgbImage::from_fn(40, 36, pixel).save(dir.join(format!("{i}.png"))).unwrap();
            }
        }
    }
    let shared = ["task=classify", "data=sky", "imgsz=32", "batch=4", "device=cpu", "project=out", "--json"];
    let scratch = ["train", "model=yolov8n-cls", "pretrained=false", "epochs=1", "plots=false"];
    let trained = document(&onsa(at, &[&scratch[..], &shared].concat()));
    let model = format!("model={}", trained["best"].as_str().unwrap());
    let own = ["tune", &model, "epochs=1", "seeds=2", "candidates=3", "lr0=0.01", "auto_augment=none"];
    let ran = onsa(at, &[&own[..], &shared].concat());
    let found = document(&ran);
    assert_eq!(found["metric"], "top1");
    assert!(found["measured"].as_str().unwrap().contains("validation images, 2 seeds"), "{found}");
    assert!(found["comparison"]["method"].as_str().unwrap().contains("over seeds"));
    assert!(ran.stderr.contains("plan: 3 candidates for 1 epochs"), "{}", ran.stderr);
}

#[test]
fn searches_that_cannot_be_are_explained() {
    let folder = prepared();
    let cases: &[(&[&str], i32, &str)] = &[
        (&["minute=3"], 2, "error: `tune` has no argument `minute`\nhint: did you mean `minutes`?\n"),
        (&["epochss=3"], 2, "error: `tune` has no argument `epochss`\nhint: did you mean `epochs`?\n"),
        (&["seeds=3"], 2, "error: folds= and seeds= are two ways to measure: give one of them\n"),
        (&["time=1"], 2, "error: time=1 is not supported: minutes= says how long the search takes\n"),
        (&["strategies=hed"], 2, "strategies=hed is not allowed: strategies must be a list of default, head"),
    ];
    for (more, code, expected) in cases {
        let line: Vec<&str> = TUNE
            .iter()
            .filter(|word| !more.iter().any(|m| m.split('=').next() == word.split('=').next()))
            .copied()
            .chain(more.iter().copied())
            .collect();
        let ran = onsa(folder.path(), &line);
        assert_eq!((ran.code, ran.stdout.as_str()), (*code, ""), "{more:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(expected), "{more:?}: {}", ran.stderr);
    }
    let line = |more: &[&str]| {
        let usual = ["tune", "model=model.pt", "data=shapes/data.yaml", "imgsz=64", "batch=4", "project=out"];
        onsa(folder.path(), &[&usual[..], more].concat())
    };
    let small = line(&["folds=7"]);
    assert_eq!(small.code, 1);
    assert!(
        small.stderr.contains("folds=7 needs at least 14 training images, and the data set has 12")
            && small.stderr.contains("folds=6 would do"),
        "{}",
        small.stderr
    );
    let nothing = line(&["strategy=full", "lr0=0.001", "mosaic=0"]);
    assert!(nothing.code == 1 && nothing.stderr.contains("nothing is left to search"), "{}", nothing.stderr);
    assert!(!folder.path().join("out").exists(), "nothing was written");
    let short = line(&["minutes=0.0001"]);
    assert_eq!(short.code, 1);
    assert!(short.stderr.contains("minutes=0.0001 is too little"), "{}", short.stderr);
    assert!(!folder.path().join("out/tune").exists(), "a search that has tried nothing leaves nothing");
}

#[test]
fn a_sweep_of_learning_rates_writes_its_curve_and_leaves_the_model_as_it_is() {
    let folder = prepared();
    let at = folder.path();
    let before = std::fs::read(at.join("model.pt")).unwrap();
    let usual = [
        "lr_find",
        "model=model.pt",
        "data=shapes/data.yaml",
        "imgsz=64",
        "batch=4",
        "nbs=8",
        "device=cpu",
        "project=out",
    ];
    let found = document(&onsa(at, &[&usual[..], &["steps=12", "from=1e-5", "to=0.1", "--json"]].concat()));
    let points = found["points"].as_array().unwrap();
    assert!((10..=12).contains(&points.len()), "{found}");
    let rates: Vec<f64> = points.iter().map(|p| p["lr"].as_f64().unwrap()).collect();
    assert!(rates.windows(2).all(|w| w[0] < w[1]) && (rates[0] - 1e-5).abs() < 1e-12, "{rates:?}");
    assert!(points[0]["loss"].as_f64().unwrap() > 0.0);
    assert_eq!(std::fs::read(at.join("model.pt")).unwrap(), before);
    let csv = std::fs::read_to_string(at.join("out/lr_find/lr_find.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + points.len());
    assert!(std::fs::read_to_string(at.join("out/lr_find/lr_find.svg")).unwrap().contains("learning rate"));
    assert!(!at.join("out/lr_find/weights").exists());

    let again = onsa(at, &[&usual[..], &["steps=12", "from=1e-5", "to=0.1"]].concat());
    assert!(again.stdout.contains("lr0=") || again.stdout.contains("none is suggested"), "{}", again.stdout);
    let wrong = onsa(at, &[&usual[..], &["from=1", "to=0.1"]].concat());
    assert!(wrong.code == 2 && wrong.stderr.contains("from=1 is not below to=0.1"), "{}", wrong.stderr);
}
