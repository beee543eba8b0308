//! Runs scripts of tests/support/ in a Python that has ONNX Runtime or LiteRT: `ONSA_PYTHON`, which `tests/run` sets.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value as Json;

/// The Python that has these modules. Elsewhere than in CI a test without one says so and is skipped.
pub fn python(modules: &str) -> Option<PathBuf> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path =
        std::env::var_os("ONSA_PYTHON").map_or_else(|| root.join("target/python/bin/python"), PathBuf::from);
    let has = Command::new(&path).args(["-c", &format!("import {modules}")]).output();
    if has.is_ok_and(|output| output.status.success()) {
        return Some(path);
    }
    assert!(
        std::env::var_os("CI").is_none(),
        "{} cannot import {modules}; tests/run provides it",
        path.display()
    );
    eprintln!("skipped: no Python with {modules}; set ONSA_PYTHON to one, or use tests/run");
    None
}

/// One output of a foreign runtime.
pub struct Output {
    pub dtype: String,
    pub shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Output {
    pub fn floats(&self) -> Vec<f32> {
        assert_eq!(self.dtype, "float32");
        self.bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect()
    }

    pub fn whole(&self) -> Vec<i64> {
        assert_eq!(self.dtype, "int64");
        self.bytes.as_chunks().0.iter().map(|&b| i64::from_le_bytes(b)).collect()
    }
}

/// What a foreign runtime made of a file.
pub struct Ran {
    pub outputs: std::collections::BTreeMap<String, Output>,
    pub metadata: Json,
}

/// A Python with torch and the reference itself: `ONSA_REFERENCE`. Gigabytes, so it is nowhere required.
pub fn reference() -> Option<PathBuf> {
    let path = std::env::var_os("ONSA_REFERENCE").map(PathBuf::from);
    if path.is_none() {
        eprintln!("skipped: no ONSA_REFERENCE, a Python with torch and ultralytics");
    }
    path
}

/// Runs `script` on a model and one input.
pub fn run(script: &str, python: &Path, model: &[u8], input: &[u8], dtype: &str, shape: &[usize]) -> Ran {
    run_with(script, python, model, input, dtype, shape, &[])
}

/// As [`run`], with further arguments.
pub fn run_with(
    script: &str,
    python: &Path,
    model: &[u8],
    input: &[u8],
    dtype: &str,
    shape: &[usize],
    more: &[&str],
) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("model"), model).unwrap();
    std::fs::write(at("input.raw"), input).unwrap();
    let shape = shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    let output = Command::new(python)
        .arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/support").join(script))
        .args([at("model"), at("input.raw")])
        .args([dtype, &shape])
        .arg(folder.path())
        .args(more)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said: Json = serde_json::from_slice(&output.stdout).unwrap();
    let outputs = said["outputs"].as_object().unwrap().iter().map(|(name, facts)| {
        let output = Output {
            dtype: facts["dtype"].as_str().unwrap().to_owned(),
            shape: serde_json::from_value(facts["shape"].clone()).unwrap(),
            bytes: std::fs::read(at(&format!("{name}.raw"))).unwrap(),
        };
        (name.clone(), output)
    });
    Ran { outputs: outputs.collect(), metadata: said["metadata"].clone() }
}

pub fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}
