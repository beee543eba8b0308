use std::path::PathBuf;

/// Why a picture could not be read. Each names the file and a remedy.
#[derive(Debug, thiserror::Error)]
pub enum PictureError {
    /// The file system refused.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file of 0 bytes.
    #[error("{} is empty (0 bytes): copy the picture again or delete the file", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// The first bytes belong to no picture format that is known here.
    #[error(
        "{} is not a picture (its first bytes are {start}): replace it by a JPEG, PNG, WebP, BMP, TIFF or DICOM file",
        path.display()
    )]
    NotAPicture {
        /// The file.
        path: PathBuf,
        /// The first bytes, in hexadecimal.
        start: String,
    },
    /// A picture, of a format or variant that is not read.
    #[error("{} cannot be read: {detail}: convert it to JPEG, PNG, WebP, BMP or TIFF of 8 or 16 bits", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// The format or feature.
        detail: String,
    },
    /// A picture of other channels than are expected.
    #[error(
        "{} has {found} channel(s) where {wanted} are expected: state its number with channels: {found} in data.yaml \
         (or channels={found}), or convert it",
        path.display()
    )]
    Channels {
        /// The file.
        path: PathBuf,
        /// Channels that it has, over all its pages.
        found: u32,
        /// Channels that were asked for.
        wanted: u32,
    },
    /// Decoding would take more memory than [`crate::limits::PICTURE_MEMORY_BYTES`].
    #[error(
        "{} is too large: {width} x {height} pixels take {} MiB to decode and the limit is {} MiB: \
         scale it down or cut it into tiles",
        path.display(), needed >> 20, limit >> 20
    )]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Pixels a row, as the header says.
        width: u32,
        /// Rows, as the header says.
        height: u32,
        /// Bytes that decoding would take.
        needed: u64,
        /// Bytes that it may take.
        limit: u64,
    },
    /// The file is longer than [`crate::limits::PICTURE_FILE_BYTES`].
    #[error(
        "{} is too large: the file has {} MiB and the limit is {} MiB: scale it down or cut it into tiles",
        path.display(), bytes >> 20, limit >> 20
    )]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// The longest that is read.
        limit: u64,
    },
    /// The file ends before the picture does.
    #[error("{} is cut off ({detail}): copy the picture again or delete the file", path.display())]
    Truncated {
        /// The file.
        path: PathBuf,
        /// What is missing.
        detail: String,
    },
    /// The content contradicts its format.
    #[error("{} is damaged ({detail}): copy the picture again or delete the file", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What the decoder said.
        detail: String,
    },
}
