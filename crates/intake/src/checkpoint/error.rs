//! What can be wrong with a model file, and what its owner can do about it.

use std::path::PathBuf;

/// Why a model file was not read. Nothing of a refused file is kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// Any of the others, with the file it concerns.
    #[error("{}: {error}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: Box<CheckpointError>,
    },
    /// The operating system could not open or read the file.
    #[error("cannot be read: {0}; check that the path is right and the file may be read")]
    Io(#[from] std::io::Error),
    /// The path leads to a folder, a device or a pipe.
    #[error("is not a regular file; give the path of the model file itself")]
    NotAFile,
    /// No known format begins like this.
    #[error("is no model file that onsa knows: {hint}")]
    UnknownFormat {
        /// What the file looks like, and what to give instead.
        hint: String,
    },
    /// A known format in a form that onsa does not read.
    #[error("{what} is not supported; {remedy}")]
    Unsupported {
        /// The form.
        what: String,
        /// What to do instead.
        remedy: &'static str,
    },
    /// The file ends too early.
    #[error("the file is truncated: it ends within {part}; download or copy it again")]
    Truncated {
        /// Where it ends.
        part: String,
    },
    /// The bytes contradict the format.
    #[error("{part} is corrupt: {reason}; download or copy the file again")]
    Corrupt {
        /// Which part of the file.
        part: String,
        /// The contradiction.
        reason: String,
    },
    /// More than a real model file needs (see [`crate::limits`]).
    #[error(
        "{what} exceeds the limit of {limit}; a real model file stays far below it, so this one is refused"
    )]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The cap.
        limit: u64,
    },
    /// A pickle opcode that no checkpoint needs.
    #[error(
        "the pickle uses opcode 0x{opcode:02x} ({name}) at byte {offset}, which onsa refuses; \
         save the weights again with torch.save(model.state_dict(), …) or as safetensors"
    )]
    Opcode {
        /// The opcode.
        opcode: u8,
        /// Its name in Python's `pickletools`, or "unknown".
        name: &'static str,
        /// Where in the pickle, bytes from its start.
        offset: u64,
    },
    /// The pickle's stack machine is used wrongly.
    #[error("the pickle is malformed at byte {offset}: {reason}; download or copy the file again")]
    Pickle {
        /// Where in the pickle, bytes from its start.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// The pickle names, or would call, something that is no part of a model.
    #[error(
        "the pickle {action} {name} at byte {offset}, which {reason}. onsa executes nothing from a model file and \
         refuses this one. If you trust its maker, ask for the weights alone: safetensors, or \
         torch.save(model.state_dict(), …)"
    )]
    ForeignGlobal {
        /// Full name, `module.name`.
        name: String,
        /// "names" or "calls".
        action: &'static str,
        /// Why it is refused.
        reason: &'static str,
        /// Where in the pickle, bytes from its start.
        offset: u64,
    },
    /// A tensor points to a storage that the file does not hold.
    #[error(
        "tensor {tensor} needs storage {key}, which the file does not hold; download or copy the file again"
    )]
    MissingStorage {
        /// Dotted name.
        tensor: String,
        /// The storage's key.
        key: String,
    },
    /// A storage has another size than its tensors say.
    #[error(
        "tensor {tensor} needs storage {key} of {expected} bytes, but the file holds {found}; \
         download or copy the file again"
    )]
    StorageSize {
        /// Dotted name.
        tensor: String,
        /// The storage's key.
        key: String,
        /// Bytes that the tensor's type and the storage's length ask for.
        expected: u64,
        /// Bytes in the file.
        found: u64,
    },
    /// A tensor's shape, strides, type or data contradict each other.
    #[error("tensor {tensor} is not usable: {reason}; export the model again")]
    BadTensor {
        /// Dotted name.
        tensor: String,
        /// What is wrong.
        reason: String,
    },
    /// A weight is an object whose bytes only its own class can make.
    #[error(
        "entry {entry} is an object of class {class}, whose data only that class's own code can build; \
         save plain tensors with torch.save(model.state_dict(), …)"
    )]
    NotATensor {
        /// Dotted name.
        entry: String,
        /// Full name of the class.
        class: String,
    },
    /// Two tensors have one name.
    #[error("tensor {0} stands in the file twice; export the model again")]
    DuplicateTensor(String),
    /// The file is sound but holds no weights.
    #[error("holds no weights: {0}")]
    NoWeights(String),
    /// An ONNX tensor lies in another file.
    #[error(
        "tensor {tensor} lies in another file ({location}), which onsa refuses to follow; \
         export the model with its weights inside (below 2 GiB that is the default)"
    )]
    ExternalData {
        /// Name of the initialiser.
        tensor: String,
        /// The file that it names.
        location: String,
    },
    /// Metadata that should be written or was read is not what its key promises.
    #[error("metadata {key} is not readable: {reason}; remove the key or write it as documented")]
    Metadata {
        /// The key.
        key: String,
        /// What is wrong.
        reason: String,
    },
}

impl CheckpointError {
    /// The error itself, without the file around it.
    #[must_use]
    pub fn kind(&self) -> &CheckpointError {
        match self {
            CheckpointError::InFile { error, .. } => error.kind(),
            other => other,
        }
    }

    pub(super) fn corrupt(part: impl Into<String>, reason: impl Into<String>) -> Self {
        CheckpointError::Corrupt { part: part.into(), reason: reason.into() }
    }

    pub(super) fn bad(tensor: impl Into<String>, reason: impl Into<String>) -> Self {
        CheckpointError::BadTensor { tensor: tensor.into(), reason: reason.into() }
    }

    /// An end of file inside `part` is truncation; any other failure is the operating system's.
    pub(super) fn io(error: std::io::Error, part: &str) -> Self {
        match error.kind() {
            std::io::ErrorKind::UnexpectedEof => CheckpointError::Truncated { part: part.to_owned() },
            _ => CheckpointError::Io(error),
        }
    }
}
