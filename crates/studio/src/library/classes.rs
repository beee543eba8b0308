//! Data sets whose pictures have one class each: read from folders, and written as folders.
use std::collections::HashSet;
use std::fs;
use std::path::Path;

use onsa_tune::data::classify::{self, Loaded};
use onsa_tune::data::dataset::Split;
use onsa_tune::data::index::{LoadOptions, Report};

use super::annotations::Boxed;
use super::versions::{Entry, link};
use crate::{Problem, problem};

/// Reads a data set: a folder a class, within train, val and test or alone.
///
/// # Errors
/// It is none, or its pictures do not lie in files of their own.
pub(super) fn load(root: &Path, load: &LoadOptions, report: Report<'_>) -> Result<Loaded, Problem> {
    let loaded =
        classify::load_reporting(root, load, report).map_err(|e| Problem::invalid(problem::causes(&e)))?;
    let unread =
        Split::ALL.into_iter().flat_map(|split| loaded.dataset.split(split)).any(|i| !i.path.is_file());
    if unread {
        return Err(Problem::invalid("the pictures do not lie in files of their own")
            .hint("give a folder with one folder a class, of JPEG, PNG, WebP, BMP or TIFF files"));
    }
    Ok(loaded)
}

/// Writes the pictures as folders: `train/CLASS/NAME`. Every class has its folder in train, for the folders there are the
/// classes.
pub(super) fn write(root: &Path, classes: &[String], entries: &[Entry]) -> Result<(), Problem> {
    let make = |path: &Path| fs::create_dir_all(path).map_err(|e| Problem::path("cannot make", path, &e));
    for class in classes {
        make(&root.join("train").join(class))?;
    }
    let mut taken = HashSet::new();
    for (i, entry) in entries.iter().enumerate() {
        let [Boxed(class, ..)] = entry.boxes[..] else { continue };
        let class =
            classes.get(class as usize).ok_or_else(|| Problem::invalid("a picture has an unknown class"))?;
        let folder = root.join(&entry.split).join(class);
        make(&folder)?;
        let name = if taken.insert((folder.clone(), entry.name.to_lowercase())) {
            entry.name.clone()
        } else {
            let (stem, ending) = entry.name.rsplit_once('.').unwrap_or((&entry.name, "jpg"));
            format!("{stem}_{i}.{ending}")
        };
        link(&entry.path, &folder.join(name))?;
    }
    Ok(())
}
