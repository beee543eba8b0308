//! The zip container: `<name>/data.pkl`, `<name>/data/<key>` for each storage, `<name>/byteorder`.

use std::collections::HashMap;
use std::io::{Read, Seek};

use zip::read::ZipReadOptions;
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

use super::super::error::CheckpointError;
use super::super::pickle;
use super::super::{Format, Parts};
use super::plan::Plan;
use super::storage::Storages;
use crate::limits::{MAX_ZIP_ENTRIES, MAX_ZIP_TEXT};

/// Reads a `.pt` container of `file_bytes` bytes. `directory_entries` counts the central directory headers in it, an upper
/// bound for what opening it allocates.
pub fn read(
    reader: impl Read + Seek,
    file_bytes: u64,
    directory_entries: u64,
) -> Result<Parts, CheckpointError> {
    if directory_entries > MAX_ZIP_ENTRIES {
        return Err(CheckpointError::Limit { what: "the number of zip entries", limit: MAX_ZIP_ENTRIES });
    }
    let mut container = Container::open(reader)?;
    let big_endian = match container.text("byteorder")?.as_deref().map(str::trim_ascii) {
        None | Some("little") => false,
        Some("big") => true,
        Some(other) => {
            return Err(CheckpointError::corrupt("the entry byteorder", format!("it says {other:?}")));
        }
    };
    let plan = {
        let (graph, root) = container.pickle()?;
        Plan::new(&graph, root)?
    };
    plan.fill(Format::TorchZip, &mut container, big_endian, file_bytes)
}

struct Container<R> {
    archive: ZipArchive<R>,
    /// Folder of all entries, with its slash.
    prefix: String,
    entries: HashMap<String, usize>,
}

fn zip_error(error: ZipError, part: &str) -> CheckpointError {
    match error {
        ZipError::Io(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => CheckpointError::io(e, part),
        // The checksum's and the decompressor's complaints come as input errors too.
        ZipError::Io(e)
            if matches!(
                e.kind(),
                std::io::ErrorKind::InvalidData
                    | std::io::ErrorKind::InvalidInput
                    | std::io::ErrorKind::Other
            ) =>
        {
            CheckpointError::corrupt(part, e.to_string())
        }
        ZipError::Io(e) => CheckpointError::Io(e),
        other => CheckpointError::corrupt(part, other.to_string()),
    }
}

impl<R: Read + Seek> Container<R> {
    fn open(reader: R) -> Result<Self, CheckpointError> {
        let mut archive = ZipArchive::new(reader).map_err(|e| match e {
            // The directory stands at the end: a file cut short has none.
            ZipError::InvalidArchive(_) | ZipError::Io(_) => CheckpointError::Truncated {
                part: "its zip container (no sound directory at its end)".to_owned(),
            },
            other => zip_error(other, "the zip container"),
        })?;
        if archive.has_duplicate_names() {
            return Err(CheckpointError::corrupt("the zip container", "two entries have one name"));
        }
        if archive.has_overlapping_entries().map_err(|e| zip_error(e, "the zip container"))? {
            return Err(CheckpointError::corrupt("the zip container", "entries overlap"));
        }
        let mut entries = HashMap::new();
        let mut prefix = None;
        for (i, name) in archive.file_names().enumerate() {
            let name = name.map_err(|e| zip_error(e, "the zip container"))?.into_owned();
            if let Some(folder) = name.strip_suffix("data.pkl").filter(|f| f.is_empty() || f.ends_with('/')) {
                if prefix.is_some() {
                    return Err(CheckpointError::corrupt(
                        "the zip container",
                        "it holds two entries named data.pkl",
                    ));
                }
                prefix = Some(folder.to_owned());
            }
            entries.insert(name, i);
        }
        let Some(prefix) = prefix else {
            return Err(CheckpointError::UnknownFormat {
                hint: "it is a zip archive without the entry data.pkl that PyTorch writes; unpack it and give the model file inside"
                    .to_owned(),
            });
        };
        if entries.contains_key(&format!("{prefix}constants.pkl")) {
            return Err(CheckpointError::Unsupported {
                what: "TorchScript (a program, not only weights)".to_owned(),
                remedy: "give the .pt file that it was exported from, or export to ONNX",
            });
        }
        Ok(Container { archive, prefix, entries })
    }

    /// Opens an entry after comparing its two headers; only plain and deflated ones.
    fn entry(&mut self, name: &str) -> Result<Option<zip::read::ZipFile<'_, R>>, CheckpointError> {
        let full = format!("{}{name}", self.prefix);
        let Some(&index) = self.entries.get(&full) else { return Ok(None) };
        let part = format!("the entry {full}");
        let options = ZipReadOptions::new().enforce_header_consistency(true);
        let file = self.archive.by_index_with_options(index, options).map_err(|e| zip_error(e, &part))?;
        let method = file.compression();
        if !matches!(method, CompressionMethod::Stored | CompressionMethod::Deflated) || file.encrypted() {
            return Err(CheckpointError::Unsupported {
                what: format!("the encryption or compression method of {full} ({method})"),
                remedy: "save the model again with torch.save",
            });
        }
        if method == CompressionMethod::Stored && file.size() != file.compressed_size() {
            return Err(CheckpointError::corrupt(part, "its two sizes differ although it is not compressed"));
        }
        Ok(Some(file))
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, CheckpointError> {
        let Some(file) = self.entry(name)? else { return Ok(None) };
        let mut text = String::new();
        file.take(MAX_ZIP_TEXT + 1)
            .read_to_string(&mut text)
            .map_err(|e| zip_error(ZipError::Io(e), &format!("the entry {name}")))?;
        if text.len() as u64 > MAX_ZIP_TEXT {
            return Err(CheckpointError::Limit {
                what: "the size of a text entry, bytes,",
                limit: MAX_ZIP_TEXT,
            });
        }
        Ok(Some(text))
    }

    fn pickle(&mut self) -> Result<(pickle::Graph, pickle::Value), CheckpointError> {
        let part = "the entry data.pkl";
        let file = self.entry("data.pkl")?.ok_or_else(|| CheckpointError::corrupt(part, "it is missing"))?;
        let size = file.size();
        let mut reader = std::io::BufReader::new(file.take(size));
        let loaded = pickle::load(&mut reader).map_err(|e| match e {
            CheckpointError::Io(e) => zip_error(ZipError::Io(e), part),
            other => other,
        })?;
        // Reading on to the end compares the checksum, and shows what no pickle should have.
        match reader.read(&mut [0]) {
            Ok(0) => Ok(loaded),
            Ok(_) => Err(CheckpointError::corrupt(part, "bytes follow the end of the pickle")),
            Err(e) => Err(zip_error(ZipError::Io(e), part)),
        }
    }
}

impl<R: Read + Seek> Storages for Container<R> {
    fn bytes(&mut self, key: &str) -> Result<Option<u64>, CheckpointError> {
        Ok(self.entry(&format!("data/{key}"))?.map(|f| f.size()))
    }

    fn load(&mut self, key: &str, bytes: usize) -> Result<Vec<u8>, CheckpointError> {
        let part = format!("the entry data/{key}");
        let file = self
            .entry(&format!("data/{key}"))?
            .ok_or_else(|| CheckpointError::corrupt(&part, "it is missing"))?;
        let mut data = vec![0; bytes];
        let mut stream = file.take(bytes as u64 + 1);
        stream.read_exact(&mut data).map_err(|e| zip_error(ZipError::Io(e), &part))?;
        // The checksum is compared at the end of the entry.
        match stream.read(&mut [0]) {
            Ok(0) => Ok(data),
            Ok(_) => Err(CheckpointError::corrupt(part, "it is longer than its header says")),
            Err(e) => Err(zip_error(ZipError::Io(e), &part)),
        }
    }
}
