//! Runs that are killed, stopped, continued and made longer, through the real binary: the bytes are those of a run that was
//! never interrupted.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test may panic")]
mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::{Ran, command, onsa};
use onsa::demo::draws::{self, Drawing};
use serde_json::Value;

const DRAWING: Drawing = Drawing { train: 12, val: 3, side: 64, seed: 7 };

/// A drawn data set and a very small pretrained network.
fn prepared() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    draws::lay(DRAWING, &folder.path().join("shapes")).unwrap();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
    std::fs::copy(fixtures.join("pt/v8_4_190_mid.pt"), folder.path().join("model.pt")).unwrap();
    folder
}

/// Two batches are gathered for a step, so a checkpoint may stand between them.
fn line<'a>(name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let usual = [
        "train",
        "model=model.pt",
        "data=shapes/data.yaml",
        "imgsz=64",
        "batch=4",
        "nbs=8",
        "plots=false",
        "project=runs",
        "device=cpu",
    ];
    [&usual[..], &[name], more].concat()
}

fn done(ran: &Ran) {
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

fn weights(folder: &Path, name: &str) -> [Vec<u8>; 2] {
    ["last", "best"]
        .map(|w| std::fs::read(folder.join(format!("runs/{name}/weights/{w}.safetensors"))).unwrap())
}

/// The counters of a run's checkpoint, from the file's header.
fn counters(folder: &Path, name: &str) -> Option<Value> {
    let file = std::fs::read(folder.join(format!("runs/{name}/checkpoint/state.safetensors"))).ok()?;
    let length = u64::from_le_bytes(*file.first_chunk()?) as usize;
    let header: Value = serde_json::from_slice(&file[8..8 + length]).unwrap();
    Some(serde_json::from_str(header["__metadata__"]["onsa.state"].as_str().unwrap()).unwrap())
}

fn start(folder: &Path, line: &[&str]) -> Child {
    command(folder, line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Waits until a run has saved something.
fn until_saved(folder: &Path, name: &str, child: &mut Child) {
    while counters(folder, name).is_none() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_run_killed_at_many_points_ends_with_the_bytes_of_one_that_was_not() {
    let folder = prepared();
    let at = folder.path();
    let begun = Instant::now();
    done(&onsa(at, &line("name=whole", &["epochs=6", "threads=2", "close_mosaic=2", "save_every=1"])));
    let duration = begun.elapsed();
    let expected = weights(at, "whole");
    let mut inside = 0;
    // Fractions of the whole run's time, so that kills fall into starts, epochs and saves alike.
    for (round, fractions) in [[0.35, 0.4, 0.7], [0.5, 0.55, 0.45], [0.62, 0.3, 0.8]].iter().enumerate() {
        let name = format!("killed{round}");
        let run_dir = format!("runs/{name}");
        for (attempt, fraction) in fractions.iter().enumerate() {
            // Another number of threads each time.
            let threads = format!("threads={}", 1 + (round + attempt) % 2);
            let named = format!("name={name}");
            let mut child = match at.join(&run_dir).join("args.yaml").is_file() {
                false => {
                    let _ = std::fs::remove_dir_all(at.join(&run_dir));
                    start(at, &line(&named, &["epochs=6", &threads, "close_mosaic=2", "save_every=1"]))
                }
                true => start(at, &["resume", &run_dir, &threads, "workers=1"]),
            };
            std::thread::sleep(duration.mul_f64(*fraction));
            child.kill().unwrap();
            child.wait().unwrap();
            let counters = counters(at, &name);
            inside += usize::from(counters.is_some_and(|c| c["batch"].as_u64() > Some(0)));
        }
        let ran = onsa(at, &["resume", &run_dir]);
        assert!(ran.code == 0 || ran.stderr.contains("is finished"), "{}", ran.stderr);
        assert!(weights(at, &name) == expected, "{name}: the bytes differ");
        let rows = |name: &str| {
            let text = std::fs::read_to_string(at.join(format!("runs/{name}/results.csv"))).unwrap();
            // All columns but the second, which is the time.
            let rows = text.lines().map(|l| {
                l.split(',').enumerate().filter(|(i, _)| *i != 1).map(|(_, x)| x.to_owned()).collect()
            });
            rows.collect::<Vec<Vec<String>>>()
        };
        assert_eq!(rows(&name), rows("whole"));
    }
    println!("{inside} of 9 kills left a checkpoint from within an epoch");
    assert!(inside > 0, "no kill fell within an epoch");
}

#[test]
fn sigterm_saves_and_ends_within_five_seconds_and_the_run_goes_on_from_there() {
    let folder = prepared();
    let at = folder.path();
    done(&onsa(at, &line("name=whole", &["epochs=30"])));
    // Saved at the epochs' ends only: a state from within one was saved because of the signal.
    let mut child = start(at, &line("name=ended", &["epochs=30", "save_every=epoch"]));
    until_saved(at, "ended", &mut child);
    let begun = Instant::now();
    let signal = format!("kill -TERM {}", child.id());
    assert!(std::process::Command::new("sh").args(["-c", &signal]).status().unwrap().success());
    let status = child.wait().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(status.success(), "{status:?}");
    let stopped_at = counters(at, "ended").unwrap();
    assert!(stopped_at["epoch"].as_u64().unwrap() < 30, "it was stopped before its end: {stopped_at}");
    done(&onsa(at, &["resume", "runs/ended"]));
    assert!(weights(at, "ended") == weights(at, "whole"));
}

#[test]
fn a_finished_run_is_made_longer_and_says_whether_it_equals_one_that_was_so_long() {
    let folder = prepared();
    let at = folder.path();
    let provenance = |name: &str| -> Value {
        serde_json::from_slice(&std::fs::read(at.join(format!("runs/{name}/provenance.json"))).unwrap())
            .unwrap()
    };
    let constant = ["lrf=1", "close_mosaic=0", "warmup_epochs=1"];
    done(&onsa(at, &line("name=long", &[&constant[..], &["epochs=4"]].concat())));
    done(&onsa(at, &line("name=short", &[&constant[..], &["epochs=2"]].concat())));
    let finished = onsa(at, &["resume", "runs/short"]);
    assert_eq!(finished.code, 1);
    assert_eq!(
        finished.stderr,
        "error: runs/short is finished after 2 epochs\nhint: `onsa resume runs/short epochs=4` makes it longer; or start a new \
         run from its weights/best.safetensors\n"
    );
    let not_longer = onsa(at, &["resume", "runs/short", "epochs=1"]);
    assert_eq!(not_longer.code, 1);
    assert!(not_longer.stderr.contains("2 epochs done"), "{}", not_longer.stderr);
    let longer = onsa(at, &["resume", "runs/short", "epochs=4"]);
    done(&longer);
    assert!(longer.stderr.contains("the same as a run of 4 from the start"), "{}", longer.stderr);
    assert!(weights(at, "short") == weights(at, "long"));
    assert_eq!(provenance("short")["extended"][0]["differences"], serde_json::json!([]));
    assert_eq!(provenance("short")["weights"], provenance("long")["weights"]);

    done(&onsa(at, &line("name=falling", &["epochs=2"])));
    let longer = onsa(at, &["resume", "runs/falling", "epochs=4"]);
    done(&longer);
    assert!(longer.stderr.contains("not the same as a run of 4 from the start"), "{}", longer.stderr);
    assert!(longer.stderr.contains("a schedule of 2 epochs"), "{}", longer.stderr);
    let noted = &provenance("falling")["extended"][0];
    assert_eq!((&noted["from_epochs"], &noted["to_epochs"]), (&2.into(), &4.into()));
    assert!(!noted["differences"].as_array().unwrap().is_empty(), "{noted}");
}

#[test]
fn a_run_is_not_continued_on_changed_data_nor_by_two_processes_nor_where_there_is_none() {
    let folder = prepared();
    let at = folder.path();
    let mut child = start(at, &line("name=first", &["epochs=500", "save_every=1"]));
    until_saved(at, "first", &mut child);
    let second = onsa(at, &["resume", "runs/first"]);
    assert_eq!(second.code, 1);
    assert!(second.stderr.contains("another process trains in runs/first"), "{}", second.stderr);
    child.kill().unwrap();
    child.wait().unwrap();

    let label: PathBuf = at.join("shapes/labels/train/0001.txt");
    let text = std::fs::read_to_string(&label).unwrap();
    std::fs::write(&label, text.lines().skip(1).collect::<Vec<_>>().join("\n") + "\n0 0.5 0.5 0.2 0.2\n")
        .unwrap();
    let before = counters(at, "first").unwrap();
    let changed = onsa(at, &["resume", "runs/first"]);
    assert_eq!(changed.code, 1);
    assert!(changed.stderr.contains("has changed since the run began"), "{}", changed.stderr);
    assert_eq!(counters(at, "first").unwrap(), before);

    std::fs::create_dir(at.join("empty")).unwrap();
    let none = onsa(at, &["resume", "empty"]);
    assert_eq!(none.code, 1);
    assert!(none.stderr.contains("holds no run to continue"), "{}", none.stderr);
    assert_eq!(std::fs::read_dir(at.join("empty")).unwrap().count(), 0);
}

#[test]
fn a_rate_that_destroys_the_weights_ends_the_run_with_its_place_and_the_last_good_state() {
    let folder = prepared();
    let at = folder.path();
    let ran = onsa(
        at,
        &line("name=blown", &["epochs=3", "optimizer=SGD", "lr0=1e39", "warmup_epochs=0", "save_every=1"]),
    );
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("epoch 1, batch ") && ran.stderr.contains("no longer finite"),
        "{}",
        ran.stderr
    );
    let ran = onsa(at, &line("name=loss", &["epochs=3", "box=1e39", "save_every=1"]));
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    for word in ["epoch 1, batch 1", "left out", ".jpg", "training cannot go on"] {
        assert!(ran.stderr.contains(word), "{word:?} is not in: {}", ran.stderr);
    }
    let saved = counters(at, "loss");
    assert!(saved.is_none_or(|c| c["batch"] == 0), "amid bad batches no state from within an epoch is saved");
}
