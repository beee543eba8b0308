//! Pascal VOC: one XML a picture, found by its name, wherever in the folder the two lie.

use super::listing::{clean, has_extension};
use super::{Bounds, DataError, Entry, Form, Index, Notes, VocNotes, held, split, unsupported};
use crate::data::audit::{Fault, FaultKind};
use crate::data::dataset::Split;
use onsa_intake::labels::{read_file, voc};
use onsa_intake::limits::{CLASSES, LIST_FILE_BYTES, VOC_FILE_BYTES};
use onsa_intake::picture::is_picture_name;
use rayon::prelude::*;
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// `files`: all files below `root`.
pub(super) fn index(root: &Path, files: &[PathBuf], bounds: &Bounds) -> Result<Index, DataError> {
    let root = clean(root);
    let mut faults: Vec<Fault> =
        files.iter().filter(|p| is_picture_name(p) == Some(false)).map(|p| unsupported(p)).collect();
    let images: Vec<&PathBuf> = files.iter().filter(|p| is_picture_name(p) == Some(true)).collect();
    let xml: Vec<&PathBuf> = files.iter().filter(|p| has_extension(p, "xml") && bounds.hold(p)).collect();
    let read: Vec<Result<VocNotes, Fault>> = xml.par_iter().map(|path| read_one(path)).collect();

    let mut by_stem: HashMap<String, Vec<usize>> = HashMap::new();
    for (i, image) in images.iter().enumerate() {
        by_stem.entry(stem(image)).or_default().push(i);
    }
    let mut notes: Vec<Option<VocNotes>> = images.iter().map(|_| None).collect();
    let mut names = BTreeSet::new();
    for result in read {
        let voc = match result {
            Ok(voc) => voc,
            Err(fault) => {
                faults.push(fault);
                continue;
            }
        };
        match match_image(&voc, &images, &by_stem, &root) {
            Ok(i) if notes[i].is_some() => {
                let message = format!("a second label file for {}: delete one", images[i].display());
                let fault = Fault::error(&voc.path, None, FaultKind::AmbiguousLabel, message);
                faults.push(fault.of_image(images[i]));
            }
            Ok(i) => {
                names.extend(voc.file.objects.iter().map(|o| o.name.clone()));
                notes[i] = Some(voc);
            }
            Err(fault) => faults.push(fault),
        }
    }
    if names.len() > CLASSES {
        let message =
            format!("{} holds more than {CLASSES} class names, the most that is read", root.display());
        return Err(DataError::Option(message));
    }
    if names.is_empty() {
        return Err(DataError::Empty { path: root, split: Split::Train.name() });
    }
    let splits = splits(&root, &images, &by_stem, bounds, &mut faults)?;
    let mut entries = Vec::new();
    for ((image, notes), place) in images.iter().zip(notes).zip(splits) {
        let Some((split, listed)) = place else {
            let message =
                "no image set or split folder holds this image, which is not used: list it or move it";
            faults.push(Fault::warning(image, None, FaultKind::ImageNotListed, message));
            continue;
        };
        entries.push(Entry {
            image: (*image).clone(),
            split,
            listed,
            group: None,
            notes: Notes::Voc(notes.map(Box::new)),
        });
    }
    let classes: Vec<String> = names.into_iter().collect();
    let class_places = vec![(root.clone(), None); classes.len()];
    let source = root.clone();
    Ok(Index {
        form: Form::Voc,
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

fn read_one(path: &Path) -> Result<VocNotes, Fault> {
    let bytes = read_file(path, VOC_FILE_BYTES)
        .map_err(|e| Fault::error(path, None, FaultKind::UnreadableLabel, e.to_string()))?;
    Ok(VocNotes { path: path.into(), file: voc::parse(&bytes), digest: Sha256::digest(&bytes).into() })
}

fn stem(path: &Path) -> String {
    path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The image that a label file belongs to: of the same name, else of the name that the file gives; of several the one
/// in the same folder, else the one in the same split folder.
fn match_image(
    voc: &VocNotes,
    images: &[&PathBuf],
    by_stem: &HashMap<String, Vec<usize>>,
    root: &Path,
) -> Result<usize, Fault> {
    let stated = voc.file.filename.as_deref().map(|name| stem(Path::new(&name.replace('\\', "/"))));
    let candidates = by_stem.get(&stem(&voc.path)).or_else(|| by_stem.get(&stated?));
    let Some(candidates) = candidates else {
        let message = "no image goes with this label file: add the image or delete the file";
        return Err(Fault::error(&voc.path, None, FaultKind::LabelWithoutImage, message));
    };
    let split = |p: &Path| split::of_path(p.strip_prefix(root).unwrap_or(p));
    let only = |test: &dyn Fn(&Path) -> bool| {
        let mut hits = candidates.iter().copied().filter(|&i| test(images[i]));
        hits.next().filter(|_| hits.next().is_none())
    };
    only(&|_| true)
        .or_else(|| only(&|image| image.parent() == voc.path.parent()))
        .or_else(|| only(&|image| split(image) == split(&voc.path)))
        .ok_or_else(|| {
            let message = format!(
                "several images could go with this label file, such as {} and {}: rename one",
                images[candidates[0]].display(),
                images[candidates[1]].display()
            );
            Fault::error(&voc.path, None, FaultKind::AmbiguousLabel, message)
        })
}

/// An image's split, and the list and line that give it; `None`: it is in no split.
type Place = Option<(Split, Option<(Arc<Path>, usize)>)>;

/// By the lists of `ImageSets/Main`, else by folders called train, val …, else all for training.
fn splits(
    root: &Path,
    images: &[&PathBuf],
    by_stem: &HashMap<String, Vec<usize>>,
    bounds: &Bounds,
    faults: &mut Vec<Fault>,
) -> Result<Vec<Place>, DataError> {
    let mut places: Vec<Place> = vec![None; images.len()];
    let sets = [root.join("ImageSets").join("Main"), root.join("ImageSets")];
    let list = |name: &str| sets.iter().map(|s| s.join(format!("{name}.txt"))).find(|p| p.is_file());
    let lists = [
        (Split::Train, list("train").or_else(|| list("trainval"))),
        (Split::Val, list("val")),
        (Split::Test, list("test")),
    ];
    if lists[0].1.is_none() {
        let split = |image: &&PathBuf| split::of_path(image.strip_prefix(root).unwrap_or(image));
        let found: Vec<Option<Split>> = images.iter().map(split).collect();
        let fallback = if found.iter().any(Option::is_some) { None } else { Some(Split::Train) };
        return Ok(found.into_iter().map(|split| split.or(fallback).map(|s| (s, None))).collect());
    }
    for (split, path) in lists.into_iter().filter_map(|(split, path)| Some((split, path?))) {
        held(&path, bounds)?;
        let bytes = read_file(&path, LIST_FILE_BYTES)?;
        let path: Arc<Path> = path.into();
        // Names that are not UTF-8 cannot match and are told as missing.
        for (i, row) in String::from_utf8_lossy(&bytes).lines().enumerate() {
            let Some(name) = row.split_whitespace().next() else { continue };
            let line = Some(i + 1);
            match by_stem.get(name).or_else(|| by_stem.get(&stem(Path::new(name)))).map(Vec::as_slice) {
                Some(&[image]) => match &places[image] {
                    None => places[image] = Some((split, Some((path.clone(), i + 1)))),
                    Some((earlier, _)) => {
                        let message =
                            format!("the image is in {} already; this line is passed over", earlier.name());
                        let fault = Fault::warning(&path, line, FaultKind::ListedTwice, message);
                        faults.push(fault.of_image(images[image]));
                    }
                },
                Some(_) => {
                    let message = format!("several images are called `{name}`: rename all but one");
                    faults.push(Fault::error(&path, line, FaultKind::AmbiguousLabel, message));
                }
                None => {
                    let message = format!("there is no image called `{name}`: add it or delete the line");
                    faults.push(Fault::error(&path, line, FaultKind::MissingImage, message));
                }
            }
        }
    }
    Ok(places)
}
