//! What a result was made from, and that making it asks nothing of any network.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
mod common;

use std::path::{Path, PathBuf};

use common::{command, onsa, ran};
use onsa::demo::draws::{self, Drawing};
use onsa_intake::checkpoint;
use serde_json::Value;

const DRAWING: Drawing = Drawing { train: 4, val: 2, side: 64, seed: 2 };
const TRAIN: [&str; 8] = [
    "train",
    "data=shapes/data.yaml",
    "imgsz=64",
    "batch=4",
    "epochs=1",
    "plots=false",
    "project=runs",
    "model=model.safetensors",
];

/// A drawn data set, and a small checkpoint under `licence`.
fn prepared(licence: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    draws::lay(DRAWING, &folder.path().join("shapes")).unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/pt/v8_4_190_mid.pt");
    let mut model = checkpoint::read(&fixture).unwrap();
    model.meta.licence = Some(licence.to_owned());
    let bytes = checkpoint::write_safetensors(&model.tensors, &model.meta).unwrap();
    std::fs::write(folder.path().join("model.safetensors"), bytes).unwrap();
    folder
}

#[test]
fn the_licence_of_the_starting_weights_is_written_down_said_and_handed_on() {
    for (licence, binds) in [("AGPL-3.0", true), ("CC-BY-NC-4.0", true), ("Apache-2.0", false)] {
        let folder = prepared(licence);
        let at = folder.path();
        let trained = onsa(at, &TRAIN);
        assert_eq!(trained.code, 0, "{}", trained.stderr);
        let said = trained.stderr.lines().filter(|line| line.contains("licence:")).collect::<Vec<_>>();
        assert_eq!(said.len(), usize::from(binds), "{licence}: {}", trained.stderr);
        assert!(said.iter().all(|line| line.contains(licence) && line.contains("bound")), "{said:?}");
        let provenance: Value =
            serde_json::from_slice(&std::fs::read(at.join("runs/train/provenance.json")).unwrap()).unwrap();
        assert_eq!(provenance["weights"]["licence"], licence);
        assert_eq!(
            provenance["weights"]["sha256"],
            checkpoint::read(&at.join("model.safetensors")).unwrap().sha256
        );
        let result = onsa(at, &["inspect", "runs/train/weights/best.safetensors", "--json"]);
        let result: Value = serde_json::from_str(&result.stdout).unwrap();
        assert_eq!(result["licence"], licence, "the result says under what it stands");
    }
}

#[test]
fn training_validation_and_prediction_work_without_any_network() {
    let folder = prepared("MIT");
    let at = folder.path();
    // A network namespace of its own holds no interface but a loopback that is down.
    let alone = |line: &[&str]| {
        let onsa = command(at, line);
        let mut unshare = std::process::Command::new("unshare");
        unshare.args(["-r", "-n"]).arg(onsa.get_program()).args(onsa.get_args()).current_dir(at);
        for (name, value) in onsa.get_envs() {
            unshare.env(name, value.unwrap_or_default());
        }
        unshare.output()
    };
    let probe = std::process::Command::new("unshare").args(["-r", "-n", "true"]).status();
    if !probe.is_ok_and(|status| status.success()) {
        eprintln!("skipped: this system lets no test make a network namespace");
        return;
    }
    let best = "model=runs/train/weights/best.safetensors";
    for line in [
        &TRAIN[..],
        &["val", best, "data=shapes/data.yaml", "imgsz=64"],
        &["predict", best, "source=shapes/images/val", "imgsz=64"],
        &["check", "data=shapes/data.yaml"],
        &["inspect", "model.safetensors"],
        &["doctor"],
    ] {
        let ran = ran(at, alone(line).unwrap());
        assert_eq!(ran.code, 0, "{line:?}: {}", ran.stderr);
    }
}

/// Every .rs file below `folder`.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn only_the_demo_starts_package_clients_and_only_servers_listen() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for krate in std::fs::read_dir(&crates).unwrap() {
        sources(&krate.unwrap().path().join("src"), &mut files);
    }
    assert!(files.len() > 100, "only {} files", files.len());
    // The emulator of a GPU stands in tests alone: it compiles kernels for the processor.
    // What opens a connection or starts a program that might; then where it may stand, below crates/.
    let network = [
        "std::net",
        "TcpStream",
        "TcpListener",
        "UdpSocket",
        "tokio::net",
        "reqwest",
        "hyper::client",
        "ureq",
        "curl",
    ];
    let programs = ["Command::new"];
    let rules: [(&[&str], &[&str]); 2] = [
        (&network, &["studio/", "cli/src/verbs/studio.rs", "cli/src/verbs/serve.rs", "cli/src/serve/"]),
        (
            &programs,
            &[
                "studio/",
                "cli/src/demo/clients.rs",
                "cli/src/verbs/studio.rs",
                "tune/src/gpu/emulator.rs",
                // ffmpeg, which may open files and pipes and no other protocol.
                "tune/src/predict/video.rs",
            ],
        ),
    ];
    for path in files {
        let place = path.strip_prefix(&crates).unwrap().to_string_lossy().replace('\\', "/");
        let text = std::fs::read_to_string(&path).unwrap();
        // Tests may start what they like.
        if place.contains("/tests") || place.ends_with("tests.rs") {
            continue;
        }
        for (words, allowed) in rules {
            for word in words {
                let free = allowed.iter().any(|start| place.starts_with(start));
                assert!(free || !text.contains(word), "{place} uses {word}: say so in SECURITY.md and here");
            }
        }
    }
}
