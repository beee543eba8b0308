//! Labels of detection: YOLO text, Pascal VOC XML, COCO JSON -> boxes and faults, each with its line.
//!
//! A faulty row never hides the others: every reader returns the boxes that are sound and a fault for each that is
//! not. Whether faults stop anything is the caller's decision.

pub mod coco;
mod file;
mod pixels;
pub mod voc;
pub mod yolo;

pub use file::{FileError, read_file};

use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// One sound box: centre and size as fractions of the image's width and height.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RawBox {
    /// Class number, from 0.
    pub class: u32,
    /// Centre, fraction of the width.
    pub cx: f32,
    /// Centre, fraction of the height.
    pub cy: f32,
    /// Width, fraction of the image's width; above 0.
    pub w: f32,
    /// Height, fraction of the image's height; above 0.
    pub h: f32,
    /// The line it came from, from 1.
    pub line: usize,
}

/// The boxes of one image, and what is wrong with the rest.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labels {
    /// Sound boxes in the file's order, without doubles.
    pub boxes: Vec<RawBox>,
    /// Faults in the file's order.
    pub faults: Vec<LabelFault>,
}

/// Something wrong in a label file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelFault {
    /// The line, from 1; `None` for the file as a whole.
    pub line: Option<usize>,
    /// Which fault.
    pub kind: LabelFaultKind,
    /// What is wrong and what helps, in plain English.
    pub message: String,
}

/// The faults of label files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LabelFaultKind {
    /// Not text, XML or JSON as the format asks, or longer than the cap.
    Malformed,
    /// A row with too few or too many numbers.
    WrongCount,
    /// A number that does not parse.
    NotANumber,
    /// NaN or infinity.
    NonFinite,
    /// A class number that the data set has no name for, or a class name that it does not list.
    ClassOutOfRange,
    /// Coordinates beyond the image.
    CoordinatesOutOfRange,
    /// A box without width or height.
    ZeroSize,
    /// The same box again; it counts once.
    Duplicate,
    /// A box whose centre lies in the image and whose edge lies beyond it; it is kept.
    OutsideImage,
    /// Polygons, of which only the enclosing boxes are used.
    PolygonAsBox,
    /// A crowd region, which is left out.
    Crowd,
    /// The label file gives another image size than the image has.
    SizeMismatch,
    /// A box for an image that the file does not list.
    UnknownImage,
}

impl LabelFaultKind {
    /// Whether the labels are wrong as they stand; else the fault only deserves a look.
    pub fn is_error(self) -> bool {
        use LabelFaultKind::*;
        !matches!(self, Duplicate | OutsideImage | PolygonAsBox | Crowd)
    }
}

impl Labels {
    fn fault(&mut self, line: impl Into<Option<usize>>, kind: LabelFaultKind, message: impl Into<String>) {
        self.faults.push(LabelFault { line: line.into(), kind, message: message.into() });
    }

    /// Moves repeated boxes (same class, same four numbers) to the faults.
    fn drop_duplicates(&mut self) {
        let mut first = HashMap::new();
        let mut again = Vec::new();
        self.boxes.retain(|b| match first.entry((b.class, [b.cx, b.cy, b.w, b.h].map(f32::to_bits))) {
            Entry::Vacant(slot) => {
                slot.insert(b.line);
                true
            }
            Entry::Occupied(slot) => {
                again.push((b.line, *slot.get()));
                false
            }
        });
        for (line, earlier) in again {
            let message = format!("the same box stands on line {earlier}; it counts once: delete one");
            self.fault(line, LabelFaultKind::Duplicate, message);
        }
    }
}

/// Finds the line of a place in a text.
struct Lines {
    /// Where each line starts, in bytes.
    starts: Vec<usize>,
}

impl Lines {
    fn new(text: &str) -> Lines {
        let after = |(at, b): (usize, u8)| (b == b'\n').then_some(at + 1);
        Lines { starts: std::iter::once(0).chain(text.bytes().enumerate().filter_map(after)).collect() }
    }

    /// The line, from 1, of the byte at `at`.
    fn of(&self, at: usize) -> usize {
        self.starts.partition_point(|&start| start <= at)
    }
}

/// The text of a label file, without a byte order mark, or the line of its first byte that is not UTF-8.
fn utf8(bytes: &[u8]) -> Result<&str, usize> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    std::str::from_utf8(bytes)
        .map_err(|e| 1 + bytes[..e.valid_up_to()].iter().filter(|&&b| b == b'\n').count())
}
