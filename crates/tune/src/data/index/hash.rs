//! The data set's hash: what it was trained on, for provenance and resume.

use super::scan::Scanned;
use crate::data::dataset::Split;
use sha2::{Digest, Sha256};
use std::path::Path;

/// Bytes in lower-case hexadecimal.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// `path` below `root`, with `/` between its parts on every system; the whole path where it lies elsewhere.
pub(super) fn relative(path: &Path, root: &Path) -> String {
    let path = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = path.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    parts.join("/")
}

/// Over class names and, in order, each image's split, relative path, file size and label content.
pub(super) fn of(classes: &[String], scanned: &[(Split, Scanned)], root: &Path) -> String {
    let mut hash = Sha256::new_with_prefix(b"onsa data 1\0");
    let text = |text: &str, hash: &mut Sha256| {
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text.as_bytes());
    };
    hash.update((classes.len() as u64).to_le_bytes());
    for class in classes {
        text(class, &mut hash);
    }
    for (split, scanned) in scanned {
        hash.update([*split as u8]);
        text(&relative(scanned.path(), root), &mut hash);
        hash.update(scanned.image_bytes.to_le_bytes());
        hash.update(scanned.label_digest);
    }
    hexadecimal(&hash.finalize())
}
