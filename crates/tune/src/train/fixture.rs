//! Reads the committed outputs of the pinned reference, for tests.

use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde_json::Value;

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name)
}

fn bytes(name: &str) -> Vec<u8> {
    let path = path(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A json document of fixtures/.
pub fn json(name: &str) -> Value {
    serde_json::from_slice(&bytes(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// A number of a json document.
pub fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// A safetensors file of fixtures/.
pub struct Tensors {
    bytes: Vec<u8>,
    name: String,
}

impl Tensors {
    pub fn open(name: &str) -> Self {
        Self { bytes: bytes(name), name: name.to_owned() }
    }

    fn raw(&self, tensor: &str) -> (Vec<u8>, Vec<usize>) {
        let file = SafeTensors::deserialize(&self.bytes).unwrap_or_else(|e| panic!("{}: {e}", self.name));
        let view = file.tensor(tensor).unwrap_or_else(|e| panic!("{} {tensor}: {e}", self.name));
        (view.data().to_vec(), view.shape().to_vec())
    }

    /// The name of the one tensor that begins and ends like this.
    pub fn find(&self, start: &str, end: &str) -> String {
        let file = SafeTensors::deserialize(&self.bytes).unwrap_or_else(|e| panic!("{}: {e}", self.name));
        let names = file.names();
        let mut found = names.iter().filter(|n| n.starts_with(start) && n.ends_with(end));
        let name = found.next().unwrap_or_else(|| panic!("{}: no {start}…{end}", self.name));
        assert!(found.next().is_none(), "{}: more than one {start}…{end}", self.name);
        (*name).to_string()
    }

    pub fn shape(&self, tensor: &str) -> Vec<usize> {
        self.raw(tensor).1
    }

    pub fn f32(&self, tensor: &str) -> Vec<f32> {
        self.raw(tensor).0.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }

    pub fn i32(&self, tensor: &str) -> Vec<i32> {
        self.raw(tensor).0.chunks_exact(4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()
    }
}
