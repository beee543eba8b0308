//! One image of the index: its header and its labels -> an item and faults.

use super::{Entry, LoadOptions, Notes};
use crate::boxes::Label;
use crate::data::audit::{Fault, FaultKind};
use crate::data::dataset::Item;
use onsa_intake::labels::{FileError, Labels, RawBox, read_file, yolo};
use onsa_intake::limits::YOLO_FILE_BYTES;
use onsa_intake::picture::{self, Header, PictureError, PictureFormat};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Fewer pixels a side than this is a mistake, as in the reference.
const SMALLEST_SIDE: u32 = 10;

/// What all scans share.
pub(super) struct Context<'a> {
    pub options: &'a LoadOptions,
    pub class_numbers: HashMap<String, u32>,
    pub yolo: yolo::YoloOptions,
    /// Channels of the network's input.
    pub channels: u32,
}

/// What a scan yields.
pub(super) struct Scanned {
    /// The image, where there is no item that has it.
    image: Option<PathBuf>,
    /// `None` where the header cannot be read.
    pub item: Option<Item>,
    pub faults: Vec<Fault>,
    pub image_bytes: u64,
    /// Bits of a sample of the image.
    pub bits: u8,
    /// SHA-256 of the label content.
    pub label_digest: [u8; 32],
}

impl Scanned {
    /// The image's path.
    pub fn path(&self) -> &Path {
        let own = self.image.as_deref().unwrap_or(Path::new(""));
        self.item.as_ref().map_or(own, |item| &item.path)
    }
}

pub(super) fn scan(entry: Entry, context: &Context) -> Scanned {
    let image = &entry.image;
    let mut faults = Vec::new();
    let header = header(&entry, context.channels, &mut faults);
    let size = header.map(|h| (h.width, h.height));
    let (labels, label_path, label_digest) = match &entry.notes {
        Notes::Yolo => yolo_labels(image, context, &mut faults),
        Notes::Voc(None) => {
            faults.push(missing_label(image));
            (Vec::new(), None, [0; 32])
        }
        Notes::Voc(Some(voc)) => {
            let labels = match size {
                Some(size) => voc.file.to_labels(&context.class_numbers, size),
                None => voc.file.labels.clone(),
            };
            let empty = voc.file.objects.is_empty() && voc.file.labels.faults.is_empty();
            let boxes = settle(labels, &voc.path, image, &mut faults);
            if empty {
                faults.push(empty_label(&voc.path, None, image));
            }
            (boxes, Some(voc.path.clone()), voc.digest)
        }
        Notes::Coco(coco) => {
            let stated = &coco.image;
            let labels = match size {
                Some(size) => stated.to_labels(&coco.classes, size),
                None => Labels { boxes: Vec::new(), faults: stated.faults.clone() },
            };
            let boxes = settle(labels, &coco.path, image, &mut faults);
            if stated.boxes.is_empty() && stated.faults.is_empty() {
                faults.push(empty_label(&coco.path, Some(stated.line), image));
            }
            let digest = digest_of(&boxes);
            (boxes, Some(coco.path.to_path_buf()), digest)
        }
    };
    let keep =
        |b: &&RawBox| context.options.classes.as_ref().is_none_or(|classes| classes.contains(&b.class));
    let label = |b: &RawBox| {
        let class = if context.options.single_cls { 0 } else { b.class };
        Label { class, cx: b.cx, cy: b.cy, w: b.w, h: b.h }
    };
    let mut labels: Vec<Label> = labels.iter().filter(keep).map(label).collect();
    // A data set may have a million images: nothing is kept twice or with room to spare.
    labels.shrink_to_fit();
    let Entry { image, group, .. } = entry;
    let (image_bytes, bits) = header.map_or((0, 8), |h| (h.bytes, h.bits));
    let (image, item) = match header {
        Some(Header { width, height, .. }) => {
            (None, Some(Item { path: image, label_path, width, height, labels, group }))
        }
        None => (Some(image), None),
    };
    Scanned { image, item, faults, image_bytes, bits, label_digest }
}

/// Says where a picture has not the channels that the network takes, or pages that it does not see.
pub(crate) fn check_channels(image: &Path, header: &Header, channels: u32) -> Option<Fault> {
    let (all, pages) = (header.all_channels(), header.pages);
    if all == channels || (pages == 1 && picture::gives(header.channels, channels)) {
        return None;
    }
    let state = format!("state channels: {all} in data.yaml, or channels={all}");
    Some(if picture::gives(header.channels, channels) {
        let message =
            format!("the file has {pages} pages, and the first alone is used: {state}, to use all of them");
        Fault::warning(image, None, FaultKind::MorePages, message)
    } else {
        let message =
            format!("the image has {all} channel(s) where {channels} are expected: {state}, or convert it");
        Fault::error(image, None, FaultKind::WrongChannels, message)
    })
}

fn header(entry: &Entry, channels: u32, faults: &mut Vec<Fault>) -> Option<Header> {
    let image = &entry.image;
    let header = match picture::probe(image) {
        Ok(header) => header,
        Err(PictureError::Read { source, .. }) if source.kind() == ErrorKind::NotFound => {
            let message =
                format!("the image {} does not exist: add the file or remove its entry", image.display());
            let (path, line) = match &entry.listed {
                Some((list, line)) => (list.as_ref(), Some(*line)),
                None => (image.as_path(), None),
            };
            faults.push(Fault::error(path, line, FaultKind::MissingImage, message).of_image(image));
            return None;
        }
        Err(e) => {
            faults.push(Fault::from_picture(&e, image));
            return None;
        }
    };
    faults.extend(check_channels(image, &header, channels));
    if PictureFormat::of_name(image).is_some_and(|named| named != header.format) {
        let message =
            format!("the content is {}, whatever the extension says: rename the file", header.format.name());
        faults.push(Fault::warning(image, None, FaultKind::ExtensionMismatch, message));
    }
    if header.width < SMALLEST_SIDE || header.height < SMALLEST_SIDE {
        let message = format!(
            "the image has {} x {} pixels, but each side must have {SMALLEST_SIDE} at least: remove it",
            header.width, header.height
        );
        faults.push(Fault::error(image, None, FaultKind::ImageTooSmall, message));
    }
    Some(header)
}

fn missing_label(image: &Path) -> Fault {
    let message = "the image has no label file and is used as background: label it if it shows an object";
    Fault::warning(image, None, FaultKind::MissingLabel, message)
}

fn empty_label(path: &Path, line: Option<usize>, image: &Path) -> Fault {
    let message =
        "there is no box for the image, which is used as background: label it if it shows an object";
    Fault::warning(path, line, FaultKind::EmptyLabel, message).of_image(image)
}

/// Takes the faults out of `labels`; the boxes remain.
fn settle(labels: Labels, path: &Path, image: &Path, faults: &mut Vec<Fault>) -> Vec<RawBox> {
    faults.extend(labels.faults.into_iter().map(|f| Fault::from_label(f, path).of_image(image)));
    labels.boxes
}

fn yolo_labels(
    image: &Path,
    context: &Context,
    faults: &mut Vec<Fault>,
) -> (Vec<RawBox>, Option<PathBuf>, [u8; 32]) {
    for path in super::label_paths(image) {
        if !context.options.bounds.hold(&path) {
            let message =
                "the label file lies outside the data set's folder and is not read: put it into the folder";
            faults.push(Fault::error(&path, None, FaultKind::OutsideFolder, message).of_image(image));
            return (Vec::new(), Some(path), [0; 32]);
        }
        let bytes = match read_file(&path, YOLO_FILE_BYTES) {
            Ok(bytes) => bytes,
            Err(FileError::Read { source, .. })
                if matches!(source.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) =>
            {
                continue;
            }
            Err(e) => {
                let fault = Fault::error(&path, None, FaultKind::UnreadableLabel, e.to_string());
                faults.push(fault.of_image(image));
                return (Vec::new(), Some(path), [0; 32]);
            }
        };
        let labels = yolo::parse(&bytes, &context.yolo);
        if labels.boxes.is_empty() && labels.faults.is_empty() {
            faults.push(empty_label(&path, None, image));
        }
        let boxes = settle(labels, &path, image, faults);
        return (boxes, Some(path), Sha256::digest(&bytes).into());
    }
    // Of an image that does not exist, that is all there is to say.
    if !faults.iter().any(|f| f.kind == FaultKind::MissingImage) {
        faults.push(missing_label(image));
    }
    (Vec::new(), None, [0; 32])
}

fn digest_of(boxes: &[RawBox]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for b in boxes {
        hash.update(b.class.to_le_bytes());
        [b.cx, b.cy, b.w, b.h].iter().for_each(|v| hash.update(v.to_le_bytes()));
    }
    hash.finalize().into()
}
