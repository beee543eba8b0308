use onsa_intake::data_yaml::DataYamlError;
use onsa_intake::labels::FileError;
use std::path::{Path, PathBuf};

/// Why a data set cannot be read at all. Faults of single files are no such errors but
/// [`crate::data::audit::Fault`]s.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// There is nothing at the path.
    #[error("{} does not exist: give data= a data.yaml, a COCO .json or a data set's folder", .0.display())]
    NotFound(PathBuf),
    /// A file or folder that lies outside the folders that may be read.
    #[error("{} lies outside the data set's folder: put everything into one folder", .0.display())]
    Outside(PathBuf),
    /// A file or folder of which no known form of data set can be made.
    #[error(
        "{} is no data set that is known here: expected a data.yaml, or COCO JSON in annotations/, or Pascal VOC .xml \
         files. For YOLO labels write a data.yaml with train:, val: and names:",
        .0.display()
    )]
    UnknownForm(PathBuf),
    /// A file or folder of which no classification data set can be made.
    #[error(
        "{} is no classification data set: expected train/ and val/ (or test/) that hold one folder of images a class, a \
         .csv with the columns image and label, or IDX files",
        .0.display()
    )]
    UnknownClassifyForm(PathBuf),
    /// The data.yaml is wrong.
    #[error(transparent)]
    Yaml(#[from] DataYamlError),
    /// A line of a file of the data set that leaves nothing to go on with.
    #[error("{}:{line}: {message}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Its line, from 1.
        line: usize,
        /// What is wrong and what helps.
        message: String,
    },
    /// A text file that cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A folder that cannot be listed.
    #[error("cannot list {}: {message}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        message: String,
    },
    /// No image for a split.
    #[error("{}: there is no image to {}: expected JPEG, PNG, WebP, BMP, TIFF or DICOM files", path.display(), match *split {
        "train" => "train on",
        "val" => "validate on",
        _ => "test on",
    })]
    Empty {
        /// The folder, list or data set.
        path: PathBuf,
        /// `train`, `val` or `test`.
        split: &'static str,
    },
    /// An option that does not fit the data set.
    #[error("{0}")]
    Option(String),
}

impl DataError {
    /// The file and line at fault, as far as they are known.
    pub fn place(&self) -> Option<(&Path, Option<usize>)> {
        match self {
            DataError::NotFound(path)
            | DataError::Outside(path)
            | DataError::UnknownForm(path)
            | DataError::UnknownClassifyForm(path) => Some((path, None)),
            DataError::Yaml(e) => Some((&e.path, e.line)),
            DataError::Line { path, line, .. } => Some((path, Some(*line))),
            DataError::File(FileError::Read { path, .. } | FileError::TooLarge { path, .. }) => {
                Some((path, None))
            }
            DataError::Folder { path, .. } | DataError::Empty { path, .. } => Some((path, None)),
            DataError::Option(_) => None,
        }
    }
}
