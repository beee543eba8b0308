//! What can go wrong while predictions are decoded, counted or drawn.

use std::path::PathBuf;

/// An error of decoding, evaluation, plotting or reporting.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// A raw head map does not have the length that its shape says.
    #[error(
        "head level {level}: {found} values, but {batch} x {height} x {width} x {channels} are {expected}; \
         pass the model's raw output of this level, channels last"
    )]
    MapLength {
        /// Index of the level, from the finest.
        level: usize,
        /// Values given.
        found: usize,
        /// Values that the shape needs.
        expected: usize,
        /// Images in the batch.
        batch: usize,
        /// Rows of the map.
        height: usize,
        /// Columns of the map.
        width: usize,
        /// 4 * reg_max + classes.
        channels: usize,
    },
    /// A head without classes, bins or levels.
    #[error("a detection head needs at least one {what}")]
    EmptyHead {
        /// What is missing.
        what: &'static str,
    },
    /// The network put out NaN or an infinite box.
    #[error(
        "image {image} of the batch: the model's output at anchor {anchor} is not a finite number; \
         the weights are damaged or the training diverged, so start again from an earlier checkpoint \
         or with a lower learning rate"
    )]
    NonFiniteOutput {
        /// Index in the batch.
        image: usize,
        /// Index over all levels, finest first, row by row.
        anchor: usize,
    },
    /// An option outside its range.
    #[error("{name} is {value}, but must lie between {low} and {high}")]
    Option {
        /// The option's name as users write it.
        name: &'static str,
        /// The value given.
        value: f32,
        /// Least value allowed.
        low: f32,
        /// Greatest value allowed.
        high: f32,
    },
    /// A detection or a truth names a class that the class list lacks.
    #[error(
        "evaluated image {image}: a {what} has class {class}, but there are {classes} classes; \
         use the class list that the model was trained with"
    )]
    Class {
        /// Number of the image in the order of evaluation, from 0.
        image: usize,
        /// "detection" or "truth".
        what: &'static str,
        /// The class given.
        class: u32,
        /// Length of the class list.
        classes: usize,
    },
    /// A detection or a truth with NaN or infinity in it.
    #[error(
        "evaluated image {image}: a {what} has a box or a score that is not a finite number; run `onsa check` on the data"
    )]
    NonFinite {
        /// Number of the image in the order of evaluation, from 0.
        image: usize,
        /// "detection" or "truth".
        what: &'static str,
    },
    /// results.csv cannot be read as a table of numbers.
    #[error("results.csv, line {line}: {problem}; delete the file or restore it from the run that wrote it")]
    Results {
        /// Line, from 1.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// An image that was there a moment ago cannot be read.
    #[error("{}: the image can no longer be read: {source}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// The reader's reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A picture could not be encoded.
    #[error("cannot encode a picture of {width} x {height} as JPEG: {source}")]
    Encode {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
        /// The encoder's reason.
        source: image::ImageError,
    },
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] crate::durable::WriteError),
}
