//! COCO detection JSON.

use super::listing::{clean, has_extension, walk};
use super::{
    Bounds, CocoNotes, DataError, Entry, Form, Index, Names, Notes, held, split, top_files, unsupported,
};
use crate::data::audit::{Fault, FaultKind};
use crate::data::dataset::Split;
use onsa_intake::labels::coco::{self, CocoFile};
use onsa_intake::labels::read_file;
use onsa_intake::limits::COCO_FILE_BYTES;
use onsa_intake::picture::is_picture_name;
use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

type Source = (Option<Split>, PathBuf);

/// The JSON files of a folder, with the split that their names show: `annotations/*.json`, else
/// `{train,valid,test}/_annotations.coco.json`, else the one JSON of the folder. Also the files that are passed over.
pub(super) fn find(folder: &Path, top: &[PathBuf]) -> Result<(Vec<Source>, Vec<PathBuf>), DataError> {
    let annotations = folder.join("annotations");
    if annotations.is_dir() {
        let all: Vec<PathBuf> =
            top_files(&annotations)?.into_iter().filter(|p| has_extension(p, "json")).collect();
        // COCO itself keeps captions, keypoints and more beside the boxes, which are called instances.
        let boxes = |p: &PathBuf| stem(p).starts_with("instances_");
        let (json, mut ignored): (Vec<_>, Vec<_>) =
            if all.iter().any(boxes) { all.into_iter().partition(boxes) } else { (all, Vec::new()) };
        let json: Vec<Source> = json.into_iter().map(|p| (split_of(&p), p)).collect();
        if json.len() > 1 && json.iter().any(|(split, _)| split.is_some()) {
            let (known, unknown): (Vec<_>, Vec<_>) = json.into_iter().partition(|(split, _)| split.is_some());
            ignored.extend(unknown.into_iter().map(|(_, p)| p));
            return Ok((known, ignored));
        }
        if !json.is_empty() {
            return Ok((json, ignored));
        }
    }
    let exported = ["train", "valid", "val", "test"]
        .map(|name| (split::named(name), clean(&folder.join(name).join("_annotations.coco.json"))));
    let exported: Vec<Source> = exported.into_iter().filter(|(_, p)| p.is_file()).collect();
    if !exported.is_empty() {
        return Ok((exported, Vec::new()));
    }
    let json: Vec<&PathBuf> = top.iter().filter(|p| has_extension(p, "json")).collect();
    Ok((if let [one] = json[..] { vec![(None, one.clone())] } else { Vec::new() }, Vec::new()))
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|s| s.to_string_lossy().to_ascii_lowercase()).unwrap_or_default()
}

fn split_of(path: &Path) -> Option<Split> {
    let stem = stem(path);
    [("train", Split::Train), ("val", Split::Val), ("test", Split::Test)]
        .into_iter()
        .find(|(word, _)| stem.contains(word))
        .map(|(_, split)| split)
}

/// Reads the files. `whole` says that they are all that describes the images of a folder, so that images that none
/// lists deserve a word.
pub(super) fn index(
    source: &Path,
    files: &[Source],
    whole: bool,
    ignored: Vec<PathBuf>,
    bounds: &Bounds,
) -> Result<Index, DataError> {
    let source = clean(source);
    let root = if whole { source.clone() } else { root_of(&source) };
    let not_read = |p: &PathBuf| {
        let message = "the file is not read: its name shows neither boxes (instances_…) nor a split";
        Fault::warning(p, None, FaultKind::IgnoredFile, message)
    };
    let mut faults: Vec<Fault> = ignored.iter().map(not_read).collect();
    let mut names = Names::default();
    let mut class_places = Vec::new();
    let mut entries = Vec::new();
    let mut bases_used = BTreeSet::new();
    for (split, path) in files {
        let path: Arc<Path> = clean(path).into();
        held(&path, bounds)?;
        let file: CocoFile = coco::parse(&read_file(&path, COCO_FILE_BYTES)?)
            .map_err(|e| DataError::Line { path: path.to_path_buf(), line: e.line, message: e.message })?;
        let classes: Arc<[u32]> = file.classes.iter().map(|name| names.number(name)).collect();
        class_places.resize(names.list.len(), (path.to_path_buf(), None));
        faults.extend(file.faults.into_iter().map(|f| Fault::from_label(f, &path)));
        let mut finder = Finder { bases: bases(&path), last: 0 };
        for image in file.images {
            let (base, found) = finder.find(&image.file_name);
            bases_used.extend(base);
            let listed = Some((path.clone(), image.line));
            let notes =
                Notes::Coco(Box::new(CocoNotes { path: path.clone(), image, classes: classes.clone() }));
            let split = split.unwrap_or(Split::Train);
            entries.push(Entry { image: found, split, listed, group: None, notes });
        }
    }
    if whole {
        let listed: HashSet<&Path> = entries.iter().map(|e| e.image.as_path()).collect();
        for image in bases_used
            .iter()
            .filter(|b| bounds.hold(b))
            .map(|b| walk(b, bounds))
            .collect::<Result<Vec<_>, _>>()?
            .concat()
        {
            if !listed.contains(image.as_path()) && is_picture_name(&image) == Some(true) {
                let message =
                    "no annotation file lists this image, which is not used: list it, with or without boxes";
                faults.push(Fault::warning(&image, None, FaultKind::ImageNotListed, message));
            }
        }
    }
    entries.retain(|entry| {
        let unread = is_picture_name(&entry.image) == Some(false);
        if unread {
            faults.push(unsupported(&entry.image));
        }
        !unread
    });
    let classes = names.list;
    Ok(Index {
        form: Form::Coco,
        root,
        source,
        classes,
        class_places,
        keypoint_numbers: None,
        channels: 3,
        entries,
        faults,
    })
}

/// The data set's folder, from the place of its JSON.
fn root_of(json: &Path) -> PathBuf {
    let folder = parent(json);
    if folder.file_name().is_some_and(|name| name == "annotations") { parent(&folder) } else { folder }
}

fn parent(path: &Path) -> PathBuf {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.into(),
        _ => ".".into(),
    }
}

/// The folders that a JSON's image names may start from, the likeliest first.
fn bases(json: &Path) -> Vec<PathBuf> {
    let (here, root) = (parent(json), root_of(json));
    let stem = stem(json);
    let name = stem.strip_prefix("instances_").unwrap_or(&stem);
    let mut folders =
        vec![here.clone(), here.join("images"), root.join("images").join(name), root.join(name)];
    let split_names: &[&str] = match split_of(json) {
        Some(Split::Train) => &["train"],
        Some(Split::Val) => &["val", "valid"],
        Some(Split::Test) => &["test"],
        None => &[],
    };
    for split in split_names {
        folders.extend([root.join("images").join(split), root.join(split), root.join(split).join("images")]);
    }
    folders.extend([root.join("images"), root]);
    let mut seen = HashSet::new();
    folders.into_iter().map(|f| clean(&f)).filter(|f| f.is_dir() && seen.insert(f.clone())).collect()
}

/// Finds images by trying first the folder where the last one lay.
struct Finder {
    bases: Vec<PathBuf>,
    last: usize,
}

impl Finder {
    /// The folder and the image; no folder where the image is in none, and then the path where it should be.
    fn find(&mut self, file_name: &str) -> (Option<PathBuf>, PathBuf) {
        let order = std::iter::once(self.last).chain(0..self.bases.len());
        for i in order {
            let Some(base) = self.bases.get(i) else { continue };
            let image = clean(&base.join(file_name));
            if image.is_file() {
                self.last = i;
                return (Some(base.clone()), image);
            }
        }
        let base = self.bases.get(self.last).cloned().unwrap_or_default();
        (None, clean(&base.join(file_name)))
    }
}
