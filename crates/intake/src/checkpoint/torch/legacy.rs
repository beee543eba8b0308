//! The legacy stream (PyTorch before 1.6): five pickles (a magic number, the protocol, the machine, the object, the keys of
//! the storages), then each storage as an int64 count of elements and its bytes.

use std::collections::HashMap;
use std::io::{BufReader, Read, Seek, SeekFrom};

use super::super::error::CheckpointError;
use super::super::pickle::{self, Value};
use super::super::{Format, Parts};
use super::plan::Plan;
use super::storage::Storages;
use super::tensors::storage;
use crate::limits::MAX_TENSORS;

/// The first pickle: protocol 2, the integer 0x1950a86a20f9469cfc6c, STOP.
pub const MAGIC: [u8; 15] =
    [0x80, 0x02, 0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, b'.'];

const PROTOCOL: i64 = 1001;

/// Reads a legacy file of `file_bytes` bytes.
pub fn read(reader: impl Read + Seek, file_bytes: u64) -> Result<Parts, CheckpointError> {
    let mut reader = BufReader::new(reader);
    let mut magic = [0; MAGIC.len()];
    reader.read_exact(&mut magic).map_err(|e| CheckpointError::io(e, "its first bytes"))?;
    if magic != MAGIC {
        return Err(CheckpointError::corrupt("the beginning", "it lacks PyTorch's magic number"));
    }
    let (_, protocol) = pickle::load(&mut reader)?;
    if protocol != Value::Int(PROTOCOL) {
        return Err(CheckpointError::Unsupported {
            what: "the protocol of this legacy PyTorch file".to_owned(),
            remedy: "save the model again with a current PyTorch",
        });
    }
    let (machine, info) = pickle::load(&mut reader)?;
    let big_endian = match machine.item(info, "little_endian") {
        Some(Value::Bool(little)) => !little,
        _ => {
            return Err(CheckpointError::corrupt(
                "the description of the machine",
                "it does not say its byte order",
            ));
        }
    };

    let (graph, root) = pickle::load(&mut reader)?;
    // Bytes an element of each storage takes: the type stands only in the references.
    let mut lengths: HashMap<String, (u64, u64)> = HashMap::new();
    for reference in graph.persistent() {
        if let Some(s) = storage(&graph, reference, "(any)")? {
            let size = s.dtype.map_or(1, |d| d.size() as u64);
            let known = lengths.entry(s.key.clone()).or_insert((s.numel, size));
            if *known != (s.numel, size) {
                return Err(CheckpointError::corrupt(
                    format!("storage {}", s.key),
                    "its type or length is given in two ways",
                ));
            }
        }
    }
    let plan = Plan::new(&graph, root)?;
    drop(graph);

    let (graph, keys) = pickle::load(&mut reader)?;
    let keys = graph.sequence(keys).filter(|k| k.len() <= MAX_TENSORS);
    let keys =
        keys.ok_or_else(|| CheckpointError::corrupt("the list of storages", "it is no list, or too long"))?;
    let mut places = HashMap::new();
    for &key in keys {
        let key = graph
            .str(key)
            .ok_or_else(|| CheckpointError::corrupt("the list of storages", "a key is no text"))?;
        let part = format!("storage {key}");
        let mut count = [0; 8];
        reader.read_exact(&mut count).map_err(|e| CheckpointError::io(e, &part))?;
        let count = if big_endian { u64::from_be_bytes(count) } else { u64::from_le_bytes(count) };
        let &(numel, size) = lengths
            .get(key)
            .ok_or_else(|| CheckpointError::corrupt(&part, "the list names it, but no tensor uses it"))?;
        if count != numel {
            return Err(CheckpointError::corrupt(
                part,
                format!("its tensors say {numel} elements, its own head {count}"),
            ));
        }
        let start = reader.stream_position()?;
        let bytes = numel.checked_mul(size);
        let end = bytes.and_then(|b| start.checked_add(b)).filter(|&e| e <= file_bytes);
        let (Some(bytes), Some(end)) = (bytes, end) else { return Err(CheckpointError::Truncated { part }) };
        if places.insert(key.to_owned(), (start, bytes)).is_some() {
            return Err(CheckpointError::corrupt(part, "the list names it twice"));
        }
        reader.seek(SeekFrom::Start(end))?;
    }
    if reader.stream_position()? != file_bytes {
        return Err(CheckpointError::corrupt("the end", "bytes follow the last storage"));
    }
    drop(graph);
    plan.fill(Format::TorchLegacy, &mut Stream { reader, places }, big_endian, file_bytes)
}

struct Stream<R> {
    reader: R,
    places: HashMap<String, (u64, u64)>,
}

impl<R: Read + Seek> Storages for Stream<R> {
    fn bytes(&mut self, key: &str) -> Result<Option<u64>, CheckpointError> {
        Ok(self.places.get(key).map(|&(_, bytes)| bytes))
    }

    fn load(&mut self, key: &str, bytes: usize) -> Result<Vec<u8>, CheckpointError> {
        let part = format!("storage {key}");
        let &(start, _) =
            self.places.get(key).ok_or_else(|| CheckpointError::corrupt(&part, "it is missing"))?;
        self.reader.seek(SeekFrom::Start(start))?;
        let mut data = vec![0; bytes];
        self.reader.read_exact(&mut data).map_err(|e| CheckpointError::io(e, &part))?;
        Ok(data)
    }
}
