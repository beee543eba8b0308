//! Pretrained models from files, executing nothing.
//!
//! [`read`] takes Ultralytics' and other PyTorch files (`.pt`, `.pth`: whole modules, state dicts and training
//! checkpoints, zip and legacy containers), safetensors and ONNX, and tells them apart by their bytes. The result is a
//! list of named tensors and a [`Meta`]; a file that is damaged, hostile or not understood is an error, never a guess.
//!
//! Memory peaks at no more than twice the file's size and 64 MiB: every length is checked before it is allocated, and all
//! caps stand in [`crate::limits`].

mod error;
mod meta;
mod onnx;
mod pickle;
mod safetensors;
mod tensor;
mod torch;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use sha2::{Digest, Sha256};

pub use error::CheckpointError;
pub use meta::{ConvInfo, Meta};
pub use onnx::export_meta;
pub use safetensors::{write_safetensors, write_safetensors_to};
pub use tensor::{Dtype, Tensor};

use crate::limits::MAX_CHECKPOINT_BYTES;
use crate::zip_directory::DirectoryHeaders;

/// Container of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// PyTorch's zip container (1.6 and later).
    TorchZip,
    /// PyTorch's pickle stream (before 1.6).
    TorchLegacy,
    /// safetensors.
    Safetensors,
    /// ONNX.
    Onnx,
}

impl Format {
    /// "torch", "torch-legacy", "safetensors" or "onnx".
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Format::TorchZip => "torch",
            Format::TorchLegacy => "torch-legacy",
            Format::Safetensors => "safetensors",
            Format::Onnx => "onnx",
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A model file's contents.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    /// Container.
    pub format: Format,
    /// Weights, in the order of the file (safetensors: of their bytes). Names are distinct.
    pub tensors: Vec<Tensor>,
    /// What the file says about itself.
    pub meta: Meta,
    /// SHA-256 of the file, 64 lower-case hexadecimal digits.
    pub sha256: String,
}

impl Checkpoint {
    /// The tensor of this name.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|t| t.name == name)
    }
}

/// What a format's reader gives.
struct Parts {
    format: Format,
    tensors: Vec<Tensor>,
    meta: Meta,
}

/// Reads a model file; its format is found from its bytes.
///
/// # Errors
/// [`CheckpointError::InFile`] with the path and the reason: see [`CheckpointError`].
pub fn read(path: &Path) -> Result<Checkpoint, CheckpointError> {
    read_file(path).map_err(|e| CheckpointError::InFile { path: path.to_owned(), error: Box::new(e) })
}

fn read_file(path: &Path) -> Result<Checkpoint, CheckpointError> {
    // Opening a pipe would wait for its writer: look first.
    if !std::fs::metadata(path)?.is_file() {
        return Err(CheckpointError::NotAFile);
    }
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    read_from(file, length)
}

/// Reads a model from memory, as [`read`] does from a file.
///
/// # Errors
/// As [`read`], without the path.
pub fn read_bytes(bytes: &[u8]) -> Result<Checkpoint, CheckpointError> {
    read_from(Cursor::new(bytes), bytes.len() as u64)
}

fn read_from(mut reader: impl Read + Seek, length: u64) -> Result<Checkpoint, CheckpointError> {
    if length > MAX_CHECKPOINT_BYTES {
        return Err(CheckpointError::Limit {
            what: "the size of the file, bytes,",
            limit: MAX_CHECKPOINT_BYTES,
        });
    }
    let mut head = Vec::new();
    reader.by_ref().take(512).read_to_end(&mut head)?;
    let format = detect(&head, length)?;
    reader.rewind()?;
    let scan = scan(&mut reader, format == Format::TorchZip)?;
    if scan.length != length {
        return Err(CheckpointError::corrupt("the file", "its length changed while it was read"));
    }
    reader.seek(SeekFrom::Start(0))?;
    let parts = match format {
        Format::TorchZip => torch::read_zip(BufReader::new(reader), length, scan.directory_entries)?,
        Format::TorchLegacy => torch::read_legacy(reader, length)?,
        Format::Safetensors => safetensors::read(&whole(reader, length)?)?,
        Format::Onnx => onnx::read(&whole(reader, length)?)?,
    };
    let mut names = std::collections::HashSet::with_capacity(parts.tensors.len());
    if let Some(twice) = parts.tensors.iter().find(|t| !names.insert(t.name.as_str())) {
        return Err(CheckpointError::DuplicateTensor(twice.name.clone()));
    }
    Ok(Checkpoint { format: parts.format, tensors: parts.tensors, meta: parts.meta, sha256: scan.sha256 })
}

fn whole(reader: impl Read, length: u64) -> Result<Vec<u8>, CheckpointError> {
    let capacity = usize::try_from(length).map_err(|_| CheckpointError::Limit {
        what: "the size of the file, bytes,",
        limit: usize::MAX as u64,
    })?;
    let mut bytes = Vec::with_capacity(capacity);
    reader.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

struct Scan {
    length: u64,
    sha256: String,
    /// Places where a zip directory header could begin.
    directory_entries: u64,
}

/// One pass over the file, in constant memory; looks for directory headers where `zip`.
fn scan(reader: &mut impl Read, zip: bool) -> Result<Scan, CheckpointError> {
    let (mut digest, mut length, mut headers) = (Sha256::new(), 0, DirectoryHeaders::default());
    let mut block = vec![0; 1 << 18];
    loop {
        let n = match reader.read(&mut block) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e.into()),
        };
        digest.update(&block[..n]);
        length += n as u64;
        if zip {
            headers.take(&block[..n]);
        }
    }
    let sha256 = digest.finalize().iter().map(|b| format!("{b:02x}")).collect();
    Ok(Scan { length, sha256, directory_entries: headers.count() })
}

fn detect(head: &[u8], length: u64) -> Result<Format, CheckpointError> {
    let unknown = |hint: &str| Err(CheckpointError::UnknownFormat { hint: hint.to_owned() });
    if head.is_empty() {
        return unknown("it is empty; download or copy it again");
    }
    if head.starts_with(b"PK\x03\x04") {
        return Ok(Format::TorchZip);
    }
    if head.starts_with(&torch::MAGIC) {
        return Ok(Format::TorchLegacy);
    }
    if let Some((size, rest)) = head.split_first_chunk::<8>()
        && rest.first() == Some(&b'{')
        && u64::from_le_bytes(*size) <= length
    {
        return Ok(Format::Safetensors);
    }
    if head.starts_with(b"version https://git-lfs") {
        return unknown("it is a Git LFS pointer, not the model itself; fetch the model with `git lfs pull`");
    }
    let text = head.trim_ascii_start();
    if text.starts_with(b"<") {
        return unknown("it is a web page, not a model; download the model itself");
    }
    if head.starts_with(b"GGUF") || head.starts_with(b"\x89HDF") || head.get(4..8) == Some(b"TFL3") {
        return unknown(
            "it is a GGUF, HDF5 or TensorFlow Lite file; give the model as .pt, safetensors or ONNX",
        );
    }
    if head[0] == 0x80 && head.get(1).is_some_and(|p| (2..=5).contains(p)) {
        return unknown(
            "it is a pickle that PyTorch did not write; save the weights with torch.save(model.state_dict(), …)",
        );
    }
    if torch::MAGIC.starts_with(head) || head.len() < 16 {
        return unknown("it is far too short; download or copy it again");
    }
    // ModelProto has no magic number: its usual first fields are the versions, producer, graph and opset.
    if onnx::plausible(head) {
        return Ok(Format::Onnx);
    }
    unknown("it is neither PyTorch (.pt, .pth), safetensors nor ONNX; convert it to one of these")
}
