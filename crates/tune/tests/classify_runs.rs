//! Whole runs of a small classifier on drawn images: the run folder, what each strategy leaves alone and saves, resuming.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use onsa_intake::checkpoint::{self, Checkpoint};
use onsa_tune::models::{Architecture, Family, Model, Scaling, init_fresh};
use onsa_tune::train::observer::{Observer, Silent, Step};
use onsa_tune::train::recipe::{Recipe, TrainArgs};
use onsa_tune::train::{Changes, RunOptions, TrainOutcome, files, resume, train};

const CLASSES: [&str; 3] = ["green", "red", "striped"];

/// Train and validation images that a glance tells apart.
fn draw(folder: &Path) {
    for (split, count) in [("train", 8u32), ("val", 4)] {
        for (class, name) in CLASSES.iter().enumerate() {
            let dir = folder.join("data").join(split).join(name);
            std::fs::create_dir_all(&dir).unwrap();
            for i in 0..count {
                let noise = |x: u32, y: u32| (((x * 31 + y * 17 + i * 7) * 2_654_435_761u32) >> 27) as u8;
                let image = image::RgbImage::from_fn(52, 44, |x, y| {
                    let n = noise(x, y);
                    image::Rgb(match class {
                        0 => [30 + n, 170 + n, 40 + n],
                        1 => [190 + n, 30 + n, 40 + n],
                        _ if (x + i) / 5 % 2 == 0 => [220, 220, 200 + n],
                        _ => [20, 20, 60 + n],
                    })
                });
                image.save(dir.join(format!("{i}.png"))).unwrap();
            }
        }
    }
}

/// A small ResNet with weights in a file, as if pretrained for other classes.
fn start(folder: &Path) -> PathBuf {
    let thin = Scaling { depth: 0.5, width: 0.125, max_channels: 65536 };
    let model =
        Model::build(&Architecture::custom_classifier(Family::ResNet18, thin, None, 4), [1, 32, 32]).unwrap();
    let path = folder.join("start.safetensors");
    let names: Vec<String> = ["a", "b", "c", "d"].map(String::from).to_vec();
    files::write_weights(&path, &model, &init_fresh(&model, 3).values, &names, Some("MIT"), 32).unwrap();
    path
}

fn recipe(folder: &Path, more: &[(&str, &str)]) -> Recipe {
    let mut args = TrainArgs::default();
    let (data, model) = (folder.join("data"), start(folder));
    let project = folder.join("runs");
    let given = [
        ("task", "classify"),
        ("model", model.to_str().unwrap()),
        ("data", data.to_str().unwrap()),
        ("project", project.to_str().unwrap()),
        ("imgsz", "32"),
        ("batch", "6"),
        ("nbs", "6"),
        ("epochs", "4"),
        ("lr0", "0.01"),
        ("warmup_epochs", "0"),
        ("workers", "1"),
        ("threads", "2"),
        ("verbose", "false"),
    ];
    for (name, text) in given.iter().chain(more) {
        args.set_any(name, text).unwrap();
    }
    args.resolve().unwrap()
}

fn run(folder: &Path, more: &[(&str, &str)]) -> TrainOutcome {
    train(&recipe(folder, more), RunOptions::default(), &mut Silent, &AtomicBool::new(false)).unwrap()
}

fn read(path: &Path) -> Checkpoint {
    checkpoint::read(path).unwrap()
}

/// Names of the tensors whose bytes differ, and of those that do not.
fn compare(a: &Path, b: &Path) -> (Vec<String>, Vec<String>) {
    let (a, b) = (read(a), read(b));
    let bits = |t: &checkpoint::Tensor| t.to_f32().iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    a.tensors.iter().map(|t| t.name.clone()).partition(|name| {
        let of = |c: &Checkpoint| c.tensors.iter().find(|t| t.name == *name).map(bits);
        of(&a) != of(&b)
    })
}

#[test]
fn a_run_learns_and_leaves_a_whole_folder() {
    let folder = tempfile::tempdir().unwrap();
    draw(folder.path());
    let outcome = run(folder.path(), &[("epochs", "12"), ("auto_augment", "none"), ("erasing", "0")]);
    let metrics = outcome.metrics.as_ref().and_then(|m| m.classify()).unwrap();
    assert!(metrics.top1 > 0.6, "{metrics:?}");
    assert_eq!((metrics.images, metrics.top5, metrics.per_class.len()), (12, 1.0, 3));
    let interval = metrics.intervals.top1.unwrap();
    assert!(interval.low <= metrics.top1 && metrics.top1 <= interval.high);
    for file in [
        "args.yaml",
        "results.csv",
        "results.svg",
        "confusion_matrix.svg",
        "confusion_matrix_normalized.svg",
        "train_batch0.jpg",
        "val_batch0_pred.jpg",
        "report.html",
        "provenance.json",
        "weights/best.safetensors",
        "weights/last.safetensors",
        "checkpoint/state.safetensors",
    ] {
        assert!(outcome.run_dir.join(file).is_file(), "{file}");
    }
    let csv = std::fs::read_to_string(outcome.run_dir.join("results.csv")).unwrap();
    let header =
        "epoch,time,train/loss,metrics/accuracy_top1,metrics/accuracy_top5,val/loss,lr/pg0,lr/pg1,lr/pg2";
    assert_eq!(csv.lines().next(), Some(header));
    assert_eq!(csv.lines().count(), 13);
    let meta = read(&outcome.best).meta;
    assert_eq!(meta.task.as_deref(), Some("classify"));
    assert_eq!(meta.names.unwrap(), CLASSES);
    assert_eq!((meta.licence.as_deref(), meta.imgsz), (Some("MIT"), Some([32, 32])));
}

#[test]
fn what_a_strategy_freezes_stays_as_it_was_to_the_last_bit() {
    let folder = tempfile::tempdir().unwrap();
    draw(folder.path());
    let first = start(folder.path());
    let is_head = |name: &String| name.starts_with("fc.");
    let changed = |more: &[(&str, &str)]| compare(&run(folder.path(), more).last, &first).0;
    for strategy in ["head", "freeze"] {
        let changed = changed(&[("strategy", strategy), ("name", strategy)]);
        assert!(changed.len() == 2 && changed.iter().all(is_head), "{strategy}: {changed:?}");
    }
    // The first stage of three lasts the whole run.
    let gradual = changed(&[("strategy", "gradual"), ("unfreeze", "4"), ("name", "gradual")]);
    assert!(gradual.len() == 2 && gradual.iter().all(is_head), "{gradual:?}");
    let thawed = changed(&[("strategy", "gradual"), ("unfreeze", "3"), ("name", "thawed")]);
    assert!(thawed.iter().any(|name| name.starts_with("layer4.")), "{thawed:?}");
    assert!(
        thawed.iter().all(|name| !name.starts_with("conv1") && !name.starts_with("layer1.")),
        "{thawed:?}"
    );
    let parts = changed(&[("freeze", "[0, layer1, layer2.0, *.bn2.*]"), ("name", "parts")]);
    assert!(parts.iter().all(|n| {
        !["conv1.", "bn1.", "layer1.", "layer2."].iter().any(|p| n.starts_with(p)) && !n.contains(".bn2.")
    }));
    assert!(parts.iter().any(|n| n.contains("layer3.0.bn1.running_mean")), "{parts:?}");
    // The saved weights have the adapters taken in; norms, biases and what is too thin for an adapter stay.
    let lora = changed(&[("strategy", "lora"), ("lora_rank", "2"), ("freeze", "layer1"), ("name", "lora")]);
    assert!(lora.iter().any(|name| name == "layer2.0.conv1.weight") && lora.iter().any(is_head), "{lora:?}");
    assert!(lora.iter().all(|name| is_head(name) || name.contains("conv") || name.contains("downsample.0")));
    assert!(lora.iter().all(|name| !name.starts_with("layer1.") && !name.contains("lora")), "{lora:?}");
    let full = compare(&run(folder.path(), &[("strategy", "full"), ("name", "full")]).last, &first);
    assert!(full.1.is_empty(), "unchanged: {:?}", full.1);
}

#[test]
fn what_is_frozen_costs_no_memory() {
    let folder = tempfile::tempdir().unwrap();
    draw(folder.path());
    let bytes = |strategy| {
        run(folder.path(), &[("strategy", strategy), ("epochs", "1"), ("name", strategy), ("plots", "false")])
            .arena_bytes
    };
    let (full, freeze, head) = (bytes("full"), bytes("freeze"), bytes("head"));
    // Full training keeps the convolutions' outputs alone, so there is less left to save than there was.
    assert!(freeze * 5 < full * 3, "freeze {freeze}, full {full}");
    assert!(head * 25 < full, "head {head}, full {full}");
}

#[test]
fn auto_writes_down_what_it_chose_and_why() {
    let folder = tempfile::tempdir().unwrap();
    draw(folder.path());
    struct Listening(Vec<String>);
    impl Observer for Listening {
        fn message(&mut self, text: &str) {
            self.0.push(text.to_owned());
        }
    }
    let mut listening = Listening(Vec::new());
    let recipe = recipe(folder.path(), &[("strategy", "auto"), ("epochs", "1")]);
    let outcome = train(&recipe, RunOptions::default(), &mut listening, &AtomicBool::new(false)).unwrap();
    let said = listening.0.iter().find(|text| text.starts_with("strategy=auto: ")).unwrap();
    // Eight images a class are few.
    assert!(said.contains("head, because 8 images a class"), "{said}");
    let args = std::fs::read_to_string(outcome.run_dir.join("args.yaml")).unwrap();
    assert!(args.contains("strategy: head\n"), "{args}");
    let report = std::fs::read_to_string(outcome.run_dir.join("report.html")).unwrap();
    assert!(report.contains("strategy=auto: head"));
}

/// Stops a run after so many steps.
struct StopAfter<'a>(u32, &'a AtomicBool);

impl Observer for StopAfter<'_> {
    fn step(&mut self, _: &Step<'_>) {
        self.0 -= 1;
        if self.0 == 0 {
            self.1.store(true, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_stopped_run_resumes_to_the_same_bytes_in_every_strategy() {
    let folder = tempfile::tempdir().unwrap();
    draw(folder.path());
    // 24 images in batches of 6: 4 steps an epoch. Stopped within an epoch, and where a stage has just begun.
    for (strategy, steps) in
        [("default", 6), ("head", 6), ("lora", 3), ("lora", 6), ("gradual", 4), ("gradual", 5)]
    {
        let more = |name: &'static str| {
            [
                ("strategy", strategy),
                ("unfreeze", if strategy == "gradual" { "1" } else { "0" }),
                ("name", name),
                ("plots", "false"),
                ("exist_ok", "true"),
            ]
        };
        let whole = run(folder.path(), &more("whole"));
        let stop = AtomicBool::new(false);
        let broken = recipe(folder.path(), &more("broken"));
        let stopped = train(&broken, RunOptions::default(), &mut StopAfter(steps, &stop), &stop).unwrap();
        assert!(stopped.stopped);
        let resumed =
            resume(&stopped.run_dir, &Changes::default(), &mut Silent, &AtomicBool::new(false)).unwrap();
        let (changed, same) = compare(&whole.last, &resumed.last);
        assert!(changed.is_empty() && !same.is_empty(), "{strategy}, {steps} steps: {changed:?}");
        std::fs::remove_dir_all(folder.path().join("runs")).unwrap();
    }
}
