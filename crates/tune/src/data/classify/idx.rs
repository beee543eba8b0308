//! IDX files, as MNIST and Fashion-MNIST come: `train-images-idx3-ubyte` with `train-labels-idx1-ubyte`, and `t10k-…` to
//! validate on, each with or without `.gz`.
//!
//! An image has no file of its own. Its path is that of the IDX file followed by its number, as if that were a folder.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use onsa_intake::idx::{self, Idx};

use super::{Entry, Form, Index};
use crate::data::dataset::Split;
use crate::data::index::DataError;
use crate::data::raster::Rgb8;

const PARTS: [(&str, Split); 2] = [("train", Split::Train), ("t10k", Split::Val)];

fn find(folder: &Path, stem: &str) -> Option<PathBuf> {
    ["", ".gz"].into_iter().map(|end| folder.join(format!("{stem}{end}"))).find(|path| path.is_file())
}

/// Whether a folder holds such files.
pub(super) fn is_here(folder: &Path) -> bool {
    find(folder, "train-images-idx3-ubyte").is_some()
}

pub(super) fn index(folder: &Path) -> Result<Index, DataError> {
    let wrong = |path: &Path, message: String| DataError::Line { path: path.into(), line: 1, message };
    let read = |path: &Path| idx::read(path).map_err(|error| wrong(path, error.to_string()));
    let mut entries = Vec::new();
    for (part, split) in PARTS {
        let Some(images) = find(folder, &format!("{part}-images-idx3-ubyte")) else { continue };
        let labels = find(folder, &format!("{part}-labels-idx1-ubyte")).ok_or_else(|| {
            wrong(&images, format!("its labels, {part}-labels-idx1-ubyte, are not beside it"))
        })?;
        let (pictures, classes) = (read(&images)?, read(&labels)?);
        let [count, rows, columns] = pictures.shape[..] else {
            return Err(wrong(
                &images,
                format!("has {} dimensions, not images, rows, columns", pictures.shape.len()),
            ));
        };
        if classes.shape != [count] {
            return Err(wrong(
                &labels,
                format!("has labels of shape {:?} for {count} images", classes.shape),
            ));
        }
        for (i, &class) in classes.data.iter().enumerate() {
            entries.push(Entry {
                image: images.join(format!("{i:06}")),
                split,
                class: u32::from(class),
                group: None,
                listed: None,
                known: Some((columns as u32, rows as u32)),
            });
        }
    }
    let count = entries.iter().map(|e| e.class + 1).max().unwrap_or(0);
    let classes = (0..count).map(|i| i.to_string()).collect();
    let (root, source) = (folder.into(), folder.into());
    Ok(Index { form: Form::Idx, root, source, classes, entries, faults: Vec::new() })
}

/// IDX files that have been read, by path.
#[derive(Default)]
pub struct IdxStore(Mutex<HashMap<PathBuf, Arc<Idx>>>);

/// The image at a path that leads into an IDX file, grey as RGB; `None` for any other path.
///
/// # Errors
/// The file cannot be read, or has no image of that number.
pub fn decode_idx(
    store: &IdxStore,
    path: &Path,
) -> Option<Result<Rgb8, Box<dyn std::error::Error + Send + Sync>>> {
    let file = path.parent().filter(|file| file.is_file())?;
    let number: usize = path.file_name()?.to_str()?.parse().ok()?;
    Some(picture(store, file, number))
}

fn picture(
    store: &IdxStore,
    file: &Path,
    number: usize,
) -> Result<Rgb8, Box<dyn std::error::Error + Send + Sync>> {
    let mut held = store.0.lock().unwrap_or_else(PoisonError::into_inner);
    let idx = match held.get(file) {
        Some(idx) => Arc::clone(idx),
        None => {
            let idx = Arc::new(idx::read(file)?);
            held.insert(file.to_owned(), Arc::clone(&idx));
            idx
        }
    };
    drop(held);
    let [count, rows, columns] = idx.shape[..] else { return Err("it holds no images".into()) };
    if number >= count {
        return Err(format!("it holds {count} images, and none of number {number}").into());
    }
    let grey = &idx.data[number * rows * columns..][..rows * columns];
    let data = grey.iter().flat_map(|&v| [v; 3]).collect();
    Rgb8::new(columns, rows, data).ok_or_else(|| "its images have no pixels".into())
}
