//! Pictures without any labels, which a person wants to draw boxes on: they are put, as links, into a folder of the studio's own
//! that has the form of a data set. The folder that they came from is never written.
use std::fs;
use std::path::{Path, PathBuf};

use onsa_intake::picture::is_picture_name;

use super::datasets;
use super::versions::link;
use crate::{App, Problem};

/// A data set must name a class; nobody has said yet what is to be found, so that no box has it and nobody is shown it.
const NAMES: &str = "train: images\nnames: [unnamed]\n";

/// Where a data set lies whose pictures came without labels.
pub(super) fn folder(app: &App, id: i64) -> PathBuf {
    datasets::folder(app, id).join("plain")
}

/// Arranges the pictures that lie directly in `folder`, and gives the folder of the data set; none where there are none. Links
/// are not followed: they may lead anywhere.
///
/// # Errors
/// The disk refuses.
pub(super) fn arrange(app: &App, id: i64, folder: &Path) -> Result<Option<PathBuf>, Problem> {
    let unreadable = |e: std::io::Error| Problem::path("cannot read", folder, &e);
    let mut pictures = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        let is_file = entry.file_type().is_ok_and(|kind| kind.is_file());
        if is_file && !hidden && is_picture_name(&entry.path()).is_some() {
            pictures.push(entry.path());
        }
    }
    if pictures.is_empty() {
        return Ok(None);
    }
    let root = self::folder(app, id);
    let images = root.join("images");
    // What a studio left that was killed here is done again.
    let _ = fs::remove_dir_all(&root);
    fs::create_dir_all(&images).map_err(|e| Problem::path("cannot make", &images, &e))?;
    for picture in &pictures {
        if let Some(name) = picture.file_name() {
            link(picture, &images.join(name))?;
        }
    }
    onsa_tune::durable::write(&root.join("data.yaml"), NAMES.as_bytes())?;
    Ok(Some(root))
}
