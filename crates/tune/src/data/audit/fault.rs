//! The faults of data sets: where, what, how grave.

use onsa_intake::labels::{LabelFault, LabelFaultKind};
use onsa_intake::picture::PictureError;
use serde::{Serialize, Serializer};
use std::path::{Path, PathBuf};

/// Whether a fault stops training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The data are wrong: training refuses them.
    Error,
    /// The data can be used; a person should look.
    Warning,
}

/// What is wrong. In JSON in snake case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultKind {
    /// The data set as a whole cannot be read.
    DataSet,
    /// A key of `data.yaml` that has no effect.
    IgnoredKey,
    /// A file of the data set that is not read.
    IgnoredFile,
    /// There is no validation split: one was made.
    SplitMade,
    /// A class without a box in the training split.
    ClassWithoutBoxes,
    /// A listed image that does not exist.
    MissingImage,
    /// A class of one split that another does not have.
    ClassMismatch,
    /// A class without an image.
    ClassWithoutImages,
    /// A class that is trained and not validated.
    ClassNotInVal,
    /// A group (a patient, a field, a cell) with images on both sides of a split.
    GroupLeak,
    /// Images without a group in a data set that has groups.
    NoGroup,
    /// An image or label outside the folders that may be read.
    OutsideFolder,
    /// An image listed twice in a split.
    ListedTwice,
    /// An image that the annotations or image sets do not list.
    ImageNotListed,
    /// An image file that the file system refuses.
    UnreadableImage,
    /// An image file of 0 bytes.
    EmptyImage,
    /// An image file that ends too early.
    TruncatedImage,
    /// An image file whose content is damaged or no image.
    CorruptImage,
    /// An image format or variant that is not read.
    UnsupportedImage,
    /// An image beyond the memory limit.
    ImageTooLarge,
    /// An image of other channels than the network takes.
    WrongChannels,
    /// A file of several pages of which the first alone is used.
    MorePages,
    /// An image of fewer than 10 pixels a side.
    ImageTooSmall,
    /// The file's extension names another format than its content.
    ExtensionMismatch,
    /// An image without a label file: used as background.
    MissingLabel,
    /// A label file without boxes: the image is used as background.
    EmptyLabel,
    /// A label file without an image.
    LabelWithoutImage,
    /// A label file that could belong to several images, or several to one image.
    AmbiguousLabel,
    /// A label file that the file system refuses.
    UnreadableLabel,
    /// See [`LabelFaultKind::Malformed`].
    MalformedLabel,
    /// See [`LabelFaultKind::WrongCount`].
    WrongNumberCount,
    /// See [`LabelFaultKind::NotANumber`].
    NotANumber,
    /// See [`LabelFaultKind::NonFinite`].
    NonFinite,
    /// See [`LabelFaultKind::ClassOutOfRange`].
    ClassOutOfRange,
    /// See [`LabelFaultKind::CoordinatesOutOfRange`].
    CoordinatesOutOfRange,
    /// See [`LabelFaultKind::ZeroSize`].
    ZeroSizeBox,
    /// See [`LabelFaultKind::Duplicate`].
    DuplicateBox,
    /// See [`LabelFaultKind::OutsideImage`].
    BoxOutsideImage,
    /// See [`LabelFaultKind::PolygonAsBox`].
    PolygonAsBox,
    /// See [`LabelFaultKind::Crowd`].
    CrowdRegion,
    /// See [`LabelFaultKind::SizeMismatch`].
    SizeMismatch,
    /// See [`LabelFaultKind::UnknownImage`].
    UnknownImage,
    /// A training image stands in the validation split too, pixel by pixel.
    TrainImageInVal,
    /// Nearly a training image stands in the validation split.
    NearTrainImageInVal,
    /// A training image stands in the test split too, pixel by pixel.
    TrainImageInTest,
    /// Nearly a training image stands in the test split.
    NearTrainImageInTest,
    /// Two images are the same pixel by pixel, and have different classes.
    DuplicateOtherClass,
    /// Two images are nearly the same, and have different classes.
    NearDuplicateOtherClass,
}

/// One fault. Faults sort by path, then line.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Fault {
    /// The file at fault.
    #[serde(serialize_with = "as_text")]
    pub path: PathBuf,
    /// The line in it, from 1, where there is one.
    pub line: Option<usize>,
    /// What is wrong.
    pub kind: FaultKind,
    /// How grave it is.
    pub severity: Severity,
    /// What is wrong and what helps, in plain English, without the path.
    pub message: String,
    /// The image that the fault concerns, where `path` is not the image itself.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "as_optional_text")]
    pub image: Option<PathBuf>,
}

/// JSON holds text only: a path that is not UTF-8 shows a replacement character.
fn as_text<S: Serializer>(path: &Path, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_str(&path.to_string_lossy())
}

fn as_optional_text<S: Serializer>(path: &Option<PathBuf>, s: S) -> Result<S::Ok, S::Error> {
    match path {
        Some(path) => as_text(path, s),
        None => s.serialize_none(),
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}, line {line}: {}", self.path.display(), self.message),
            None => write!(f, "{}: {}", self.path.display(), self.message),
        }
    }
}

impl Fault {
    /// A fault that stops training.
    pub fn error(path: &Path, line: Option<usize>, kind: FaultKind, message: impl Into<String>) -> Fault {
        Fault {
            path: path.into(),
            line,
            kind,
            severity: Severity::Error,
            message: message.into(),
            image: None,
        }
    }

    /// A fault to look at.
    pub fn warning(path: &Path, line: Option<usize>, kind: FaultKind, message: impl Into<String>) -> Fault {
        Fault { severity: Severity::Warning, ..Fault::error(path, line, kind, message) }
    }

    /// The same fault, said to concern `image`.
    pub fn of_image(self, image: &Path) -> Fault {
        Fault { image: Some(image.into()), ..self }
    }

    /// Whether the fault stops training.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    pub(crate) fn from_label(fault: LabelFault, label_path: &Path) -> Fault {
        use LabelFaultKind as L;
        let kind = match fault.kind {
            L::Malformed => FaultKind::MalformedLabel,
            L::WrongCount => FaultKind::WrongNumberCount,
            L::NotANumber => FaultKind::NotANumber,
            L::NonFinite => FaultKind::NonFinite,
            L::ClassOutOfRange => FaultKind::ClassOutOfRange,
            L::CoordinatesOutOfRange => FaultKind::CoordinatesOutOfRange,
            L::ZeroSize => FaultKind::ZeroSizeBox,
            L::Duplicate => FaultKind::DuplicateBox,
            L::OutsideImage => FaultKind::BoxOutsideImage,
            L::PolygonAsBox => FaultKind::PolygonAsBox,
            L::Crowd => FaultKind::CrowdRegion,
            L::SizeMismatch => FaultKind::SizeMismatch,
            L::UnknownImage => FaultKind::UnknownImage,
        };
        let severity = if fault.kind.is_error() { Severity::Error } else { Severity::Warning };
        Fault { severity, ..Fault::error(label_path, fault.line, kind, fault.message) }
    }

    pub(crate) fn from_picture(error: &PictureError, image: &Path) -> Fault {
        let kind = match error {
            PictureError::Read { .. } => FaultKind::UnreadableImage,
            PictureError::Empty { .. } => FaultKind::EmptyImage,
            PictureError::Truncated { .. } => FaultKind::TruncatedImage,
            PictureError::NotAPicture { .. } | PictureError::Corrupt { .. } => FaultKind::CorruptImage,
            PictureError::Unsupported { .. } => FaultKind::UnsupportedImage,
            PictureError::Channels { .. } => FaultKind::WrongChannels,
            PictureError::TooLarge { .. } | PictureError::FileTooLarge { .. } => FaultKind::ImageTooLarge,
        };
        let text = error.to_string();
        let message = text.strip_prefix(&format!("{} ", image.display())).unwrap_or(&text);
        Fault::error(image, None, kind, message)
    }
}
