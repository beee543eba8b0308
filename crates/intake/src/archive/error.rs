use std::path::PathBuf;

/// Why an archive was not unpacked. No message names the archive: an upload's path would say nothing to the person.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The archive cannot be read.
    #[error("the archive cannot be read: {0}")]
    Read(std::io::Error),
    /// It is no zip archive, or its directory is damaged.
    #[error("the archive is no sound zip file: {0}")]
    Damaged(String),
    /// A name that would leave the folder, or mean different files on different systems.
    #[error("the archive was refused: the name {name:?} is not allowed: {why}")]
    Name {
        /// As the archive spells it.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// An entry that cannot be unpacked.
    #[error("the archive was refused: {name:?}: {why}")]
    Entry {
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// More of something than is allowed.
    #[error("the archive was refused: it has more than {limit} {what}")]
    Cap {
        /// Of what.
        what: &'static str,
        /// The most that is allowed.
        limit: u64,
    },
    /// It unpacks to far more than any data set would.
    #[error(
        "the archive was refused: its {archive} bytes unpack to more than {limit}, as archives made to fill a disk do"
    )]
    Bomb {
        /// The archive's length in bytes.
        archive: u64,
        /// The most that it may unpack to.
        limit: u64,
    },
    /// The target folder exists.
    #[error("cannot unpack into {}: it exists already", .0.display())]
    Exists(PathBuf),
    /// The file system refuses.
    #[error("cannot unpack {}: {}", path.display(), crate::archive::error::describe(source))]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl ArchiveError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            ArchiveError::Read(_) => "upload or copy it again",
            ArchiveError::Damaged(_) => {
                "make the zip file again, or upload it again if the upload was cut off"
            }
            ArchiveError::Name { .. } => "zip the folder itself, with plain names and no links",
            ArchiveError::Entry { .. } => "take that file out, or zip the folder again without encryption",
            ArchiveError::Cap { .. } => "split the data set, or give its folder instead of an archive",
            ArchiveError::Bomb { .. } => "if the data are sound, unpack it yourself and give the folder",
            ArchiveError::Exists(_) => "choose another name",
            ArchiveError::Write { .. } => "free some space or choose a folder that can be written",
        }
    }
}

fn describe(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::StorageFull => "the disk is full".into(),
        _ => error.to_string(),
    }
}
