//! A corrected copy of a data set, and a list of what was done. The data set itself is only read.

mod classify;

use super::{Audit, Checked, Fault, FaultKind};
use crate::data::dataset::{Dataset, Item, Split};
use crate::data::groups::leaking;
use crate::durable::{self, WriteError};
use onsa_intake::picture;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A copy that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum FixError {
    /// The data set cannot be loaded at all.
    #[error("{0}")]
    Unloadable(String),
    /// The folder for the copy exists.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// No image is left.
    #[error("{}: no image of it can be used", .0.display())]
    NothingLeft(PathBuf),
    /// The file system refuses.
    #[error("cannot write {}: {source}", path.display())]
    Copy {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl FixError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            FixError::Unloadable(_) => "`onsa check` says where; correct that by hand first".into(),
            FixError::Exists(_) => "give a folder that does not exist yet: output=FOLDER".into(),
            FixError::NothingLeft(_) => "`onsa check` lists what is wrong with each".into(),
            FixError::Copy { .. } => "free some space or choose a folder that can be written".into(),
            FixError::Write(error) => error.hint(),
        }
    }
}

/// What was done about one fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The file at fault, in the data set that was checked.
    pub path: String,
    /// The line in it, from 1.
    pub line: Option<usize>,
    /// The fault.
    pub kind: FaultKind,
    /// What the copy has instead.
    pub action: &'static str,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fixed {
    /// The copy's folder.
    pub output: PathBuf,
    /// Images copied.
    pub images: usize,
    /// Images of the data set that are not in the copy.
    pub left_out: usize,
    /// Boxes written.
    pub boxes: usize,
    /// One for each fault, in the order of the audit.
    pub changes: Vec<Change>,
}

const IMAGE_LEFT_OUT: &str = "image left out";
const ROW_LEFT_OUT: &str = "row left out: look whether the object needs a new box";
const NO_SOUND_ROW: &str = "image left out: no row of its labels is sound";

const EVERY_COPY_LEFT_OUT: &str =
    "image left out, as its copies of other classes are: decide which class is right";

/// Writes a copy of a data set without its faults into `output`, which must not exist: images/ and labels/ with a folder for
/// each split, YOLO labels, data.yaml and changes.csv. What is classified becomes folders of classes within those of the
/// splits, or a table as it was one, and changes.csv. The folder appears only when it is whole.
///
/// # Errors
/// See [`FixError`].
pub fn write_fixed(audit: &Audit, checked: Option<&Checked>, output: &Path) -> Result<Fixed, FixError> {
    let Some(Checked { dataset, classify: form }) = checked else {
        return Err(FixError::Unloadable(audit.faults.first().map_or_else(String::new, Fault::to_string)));
    };
    if fs::symlink_metadata(output).is_ok() {
        return Err(FixError::Exists(output.into()));
    }
    let plan = Plan::new(audit, dataset);
    let name = output.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let scratch = output.with_file_name(format!(".{name}.{}.onsa-scratch", std::process::id()));
    let copied = match form {
        Some(form) => classify::copy(&plan, dataset, *form, &scratch),
        None => copy(&plan, dataset, &scratch),
    };
    let copied = copied.and_then(|mut fixed| {
        if fixed.images == 0 {
            return Err(FixError::NothingLeft(output.into()));
        }
        fixed.left_out = audit.images - fixed.images;
        fixed.changes = plan.changes(audit);
        durable::write(&scratch.join("changes.csv"), as_csv(&fixed.changes).as_bytes())?;
        fs::rename(&scratch, output).map_err(at(output))?;
        fixed.output = output.into();
        Ok(fixed)
    });
    if copied.is_err() {
        // The copy's own error is the one to report.
        let _ = fs::remove_dir_all(&scratch);
    }
    copied
}

fn at(path: &Path) -> impl FnOnce(std::io::Error) -> FixError {
    let path = path.to_owned();
    move |source| FixError::Copy { path, source }
}

/// Which images the copy leaves out, and why.
struct Plan<'a> {
    /// Image -> what is said of the faults that cost it its place.
    left_out: BTreeMap<&'a Path, &'static str>,
    /// Training images that stand in another split too: left out of that one.
    leaks: HashSet<&'a Path>,
    /// Images with at least one faulty row.
    faulty_rows: HashSet<&'a Path>,
    /// Groups that stand in training and in another split: left out of that one.
    leaking: HashSet<Arc<str>>,
}

impl<'a> Plan<'a> {
    fn new(audit: &'a Audit, dataset: &'a Dataset) -> Plan<'a> {
        let mut plan = Plan {
            left_out: BTreeMap::new(),
            leaks: HashSet::new(),
            faulty_rows: HashSet::new(),
            leaking: leaking(dataset, &audit.faults),
        };
        for fault in &audit.faults {
            let image = fault.image.as_deref().unwrap_or(&fault.path);
            match fault.kind {
                FaultKind::TrainImageInVal | FaultKind::TrainImageInTest => {
                    plan.leaks.insert(image);
                }
                FaultKind::GroupLeak => {}
                FaultKind::DuplicateOtherClass => {
                    plan.left_out.insert(image, EVERY_COPY_LEFT_OUT);
                }
                _ if !fault.is_error() => {}
                _ if fault.line.is_some() && fault.image.is_some() => {
                    plan.faulty_rows.insert(image);
                }
                _ => {
                    plan.left_out.insert(image, IMAGE_LEFT_OUT);
                }
            }
        }
        // With all its rows gone an image would pass for background, which it is not.
        let emptied = |item: &&Item| item.labels.is_empty() && plan.faulty_rows.contains(item.path.as_path());
        let items = Split::ALL.into_iter().flat_map(|split| dataset.split(split));
        let emptied: Vec<&Path> = items.filter(emptied).map(|item| item.path.as_path()).collect();
        for image in emptied {
            plan.left_out.entry(image).or_insert(NO_SOUND_ROW);
        }
        plan
    }

    fn keeps(&self, split: Split, item: &Item) -> bool {
        let image = item.path.as_path();
        let leaks = || {
            self.leaks.contains(image)
                || item.group.as_ref().is_some_and(|group| self.leaking.contains(group))
        };
        !self.left_out.contains_key(image) && (split == Split::Train || !leaks())
    }

    fn changes(&self, audit: &Audit) -> Vec<Change> {
        let change = |fault: &Fault| Change {
            path: fault.path.to_string_lossy().into_owned(),
            line: fault.line,
            kind: fault.kind,
            action: self.action(fault),
        };
        audit.faults.iter().map(change).collect()
    }

    fn action(&self, fault: &Fault) -> &'static str {
        let image = fault.image.as_deref().unwrap_or(&fault.path);
        match fault.kind {
            FaultKind::LabelWithoutImage => return "label file left out",
            FaultKind::MissingImage => return "there is nothing to copy",
            FaultKind::TrainImageInVal | FaultKind::TrainImageInTest => return "image left out of this split",
            FaultKind::GroupLeak => return "the group's images left out of validation and test",
            _ => {}
        }
        if let Some(action) = self.left_out.get(image) {
            return action;
        }
        match fault.kind {
            FaultKind::DuplicateBox => "repeated row left out",
            FaultKind::PolygonAsBox => "written as its enclosing box",
            FaultKind::CrowdRegion => "crowd region left out",
            FaultKind::ExtensionMismatch => "copied with the extension of its content",
            FaultKind::MissingLabel | FaultKind::EmptyLabel => "kept as background, with an empty label file",
            FaultKind::ListedTwice => "copied once",
            FaultKind::SplitMade => "written as it was made",
            FaultKind::IgnoredKey | FaultKind::IgnoredFile | FaultKind::ImageNotListed => "left out",
            _ if self.faulty_rows.contains(image) => ROW_LEFT_OUT,
            _ => "kept: look at it",
        }
    }
}

fn copy(plan: &Plan<'_>, dataset: &Dataset, folder: &Path) -> Result<Fixed, FixError> {
    let mut fixed = Fixed { output: folder.into(), images: 0, left_out: 0, boxes: 0, changes: Vec::new() };
    let mut yaml = String::new();
    for split in Split::ALL {
        let kept: Vec<&Item> = dataset.split(split).iter().filter(|item| plan.keeps(split, item)).collect();
        if kept.is_empty() {
            continue;
        }
        yaml.push_str(&format!("{0}: images/{0}\n", split.name()));
        let [images, labels] = ["images", "labels"].map(|kind| folder.join(kind).join(split.name()));
        for place in [&images, &labels] {
            fs::create_dir_all(place).map_err(at(place))?;
        }
        let mut taken = HashSet::new();
        for item in kept {
            let stem = free_stem(&item.path, &mut taken);
            let to = images.join(format!("{stem}.{}", extension(item)));
            fs::copy(&item.path, &to).map_err(at(&to))?;
            let to = labels.join(format!("{stem}.txt"));
            fs::write(&to, rows(item)).map_err(at(&to))?;
            fixed.images += 1;
            fixed.boxes += item.labels.len();
        }
    }
    yaml.push_str("names:\n");
    for (class, name) in dataset.classes.iter().enumerate() {
        // A JSON text is a YAML text too.
        yaml.push_str(&format!("  {class}: {}\n", serde_json::Value::from(name.as_str())));
    }
    fs::create_dir_all(folder).map_err(at(folder))?;
    durable::write(&folder.join("data.yaml"), yaml.as_bytes())?;
    Ok(fixed)
}

/// The image's own name without extension; numbered where the split has it already, in any letter case.
fn free_stem(image: &Path, taken: &mut HashSet<String>) -> String {
    let stem = image.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let numbered = (2..).map(|n: u32| format!("{stem}-{n}"));
    let mut names = std::iter::once(stem.clone()).chain(numbered);
    names.find(|name| taken.insert(name.to_lowercase())).expect("there is always a next number")
}

/// The extension of what the file is.
fn extension(item: &Item) -> String {
    let own = item.path.extension().unwrap_or_default().to_string_lossy().into_owned();
    match picture::probe(&item.path) {
        Ok(header) if picture::PictureFormat::of_name(&item.path) != Some(header.format) => {
            header.format.extension().to_owned()
        }
        _ => own,
    }
}

fn rows(item: &Item) -> String {
    item.labels.iter().map(|l| format!("{} {} {} {} {}\n", l.class, l.cx, l.cy, l.w, l.h)).collect()
}

fn as_csv(changes: &[Change]) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('"', "\"\""));
    let mut text = String::from("path,line,kind,action\n");
    for change in changes {
        let line = change.line.map_or(String::new(), |line| line.to_string());
        let kind = serde_json::to_value(change.kind).ok();
        let kind = kind.as_ref().and_then(|k| k.as_str()).unwrap_or_default();
        text.push_str(&format!("{},{line},{kind},{}\n", quoted(&change.path), quoted(change.action)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_fall_together_are_numbered() {
        let mut taken = HashSet::new();
        let stems = ["a/x.jpg", "b/X.png", "c/x.jpg", "y.jpg"].map(|p| free_stem(Path::new(p), &mut taken));
        assert_eq!(stems, ["x", "X-2", "x-3", "y"]);
    }

    #[test]
    fn a_list_of_changes_survives_commas_and_quotes() {
        let change = Change {
            path: "a,\"b\".txt".into(),
            line: Some(3),
            kind: FaultKind::NonFinite,
            action: ROW_LEFT_OUT,
        };
        let text = as_csv(&[change]);
        assert_eq!(
            text,
            format!("path,line,kind,action\n\"a,\"\"b\"\".txt\",3,non_finite,\"{ROW_LEFT_OUT}\"\n")
        );
    }
}
