//! What a data set is once it has been read: images with their boxes, and class names.

use crate::boxes::Label;
use serde::Serialize;
use std::path::PathBuf;
use std::sync::Arc;

/// One image with its boxes.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The image file.
    pub path: PathBuf,
    /// The file that its boxes come from (for COCO the one of the whole split); `None` for a background image
    /// without a label file.
    pub label_path: Option<PathBuf>,
    /// Width in pixels, after EXIF orientation.
    pub width: u32,
    /// Height in pixels, after EXIF orientation.
    pub height: u32,
    /// The boxes; empty for a background image.
    pub labels: Vec<Label>,
    /// What it belongs to (a patient, a field): images of one group stay on one side of a split.
    pub group: Option<Arc<str>>,
}

/// What the images of a data set are for a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// Channels of the network's input, at least 1.
    pub channels: usize,
    /// Bits of a sample: 8, or 16 where an image has more than 8.
    pub bits: u8,
}

impl Pixels {
    /// RGB of 8 bits, as most images are.
    pub const RGB8: Pixels = Pixels { channels: 3, bits: 8 };

    /// Whether the images are other than RGB of 8 bits: see [`crate::data::deep`].
    pub fn is_deep(self) -> bool {
        self != Pixels::RGB8
    }

    /// In words, for messages: `16 bits and 4 channels`.
    pub fn describe(self) -> String {
        let channels =
            if self.channels == 1 { "1 channel".into() } else { format!("{} channels", self.channels) };
        format!("{} bits and {channels}", self.bits)
    }
}

/// What a person wants the images to be for the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PixelOptions {
    /// Channels; none: what the data set says, or three.
    pub channels: Option<u32>,
    /// Cut 16 bits to 8.
    pub eight_bits: bool,
}

/// A data set with its splits. Each split is sorted by path.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset {
    /// Class names by class number.
    pub classes: Vec<String>,
    /// What is trained on.
    pub train: Vec<Item>,
    /// What every epoch is validated on.
    pub val: Vec<Item>,
    /// What the finished model may be tested on; often empty.
    pub test: Vec<Item>,
    /// What its images are for a network.
    pub pixels: Pixels,
    /// SHA-256 (hexadecimal) over class names, relative image paths, image file sizes and label contents: it changes
    /// when the data do, and not when the folder moves.
    pub hash: String,
}

/// A part of a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// For training.
    Train,
    /// For validation.
    Val,
    /// For testing.
    Test,
}

impl Split {
    /// All splits, in the order of their work.
    pub const ALL: [Split; 3] = [Split::Train, Split::Val, Split::Test];

    /// `train`, `val` or `test`.
    pub fn name(self) -> &'static str {
        match self {
            Split::Train => "train",
            Split::Val => "val",
            Split::Test => "test",
        }
    }
}

impl Dataset {
    /// The items of a split.
    pub fn split(&self, split: Split) -> &[Item] {
        match split {
            Split::Train => &self.train,
            Split::Val => &self.val,
            Split::Test => &self.test,
        }
    }

    /// The items of a split, to change.
    pub fn split_mut(&mut self, split: Split) -> &mut Vec<Item> {
        match split {
            Split::Train => &mut self.train,
            Split::Val => &mut self.val,
            Split::Test => &mut self.test,
        }
    }

    /// Training boxes of each of `classes` classes.
    pub fn class_counts(&self, classes: usize) -> Vec<usize> {
        let mut counts = vec![0; classes];
        for label in self.train.iter().flat_map(|item| &item.labels) {
            // Under single_cls there is one class, whatever the labels say.
            if let Some(count) = counts.get_mut(label.class as usize) {
                *count += 1;
            }
        }
        counts
    }
}
