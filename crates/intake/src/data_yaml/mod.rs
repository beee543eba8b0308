//! Ultralytics' `data.yaml`: where the images of each split lie and what the classes are called.
//!
//! Keys: `path`, `train`, `val`, `test` (a folder, a list file of image paths, or a list of those), `names` (a list,
//! or a mapping from 0, 1, …), `nc`, `channels`, `kpt_shape`. Nothing in the file is ever run or downloaded.

mod error;
mod read;
#[cfg(test)]
mod tests;
mod tree;

pub use error::{DataYamlError, Problem};

use crate::labels::{FileError, read_file};
use crate::limits::DATA_YAML_BYTES;
use std::path::Path;

/// A text and the line that it stands on, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// The text.
    pub text: String,
    /// Its line.
    pub line: usize,
}

/// What a `data.yaml` says; paths as they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DataYaml {
    /// The data set's root folder.
    pub path: Option<Placed>,
    /// Training images; never empty.
    pub train: Vec<Placed>,
    /// Validation images; empty where the key is missing.
    pub val: Vec<Placed>,
    /// Test images; empty where the key is missing.
    pub test: Vec<Placed>,
    /// Class names by class number; never empty.
    pub names: Vec<String>,
    /// The line of each name, as long as `names`; the line of `nc` where only the number is given.
    pub name_lines: Vec<usize>,
    /// Channels of the images as the file says: 1 or 3; 3 where it says nothing.
    pub channels: u32,
    /// Numbers that follow the box in a row of a pose label file: the product of `kpt_shape`.
    pub keypoint_numbers: Option<usize>,
    /// What was read but has no effect, each with its line.
    pub warnings: Vec<Placed>,
}

/// Reads a `data.yaml` file.
///
/// # Errors
/// A missing or too large file, YAML that does not parse, an unknown, missing, doubled or wrongly typed key, class
/// names with gaps, `nc` that contradicts `names`. Each names the line.
pub fn read(path: &Path) -> Result<DataYaml, DataYamlError> {
    let fault = |line, problem| DataYamlError { path: path.into(), line, problem };
    let bytes = read_file(path, DATA_YAML_BYTES).map_err(|e| match e {
        FileError::Read { source, .. } => fault(None, Problem::Read(source)),
        FileError::TooLarge { limit, .. } => fault(None, Problem::TooLarge { limit }),
    })?;
    let text = std::str::from_utf8(&bytes).map_err(|e| {
        let line = 1 + bytes[..e.valid_up_to()].iter().filter(|&&b| b == b'\n').count();
        fault(Some(line), Problem::NotUtf8)
    })?;
    parse(text, path)
}

/// Reads a `data.yaml` from its text. `name` stands in errors only.
///
/// # Errors
/// As [`read`].
pub fn parse(text: &str, name: &Path) -> Result<DataYaml, DataYamlError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    tree::parse(text).and_then(|root| read::interpret(&root)).map_err(|(line, problem)| DataYamlError {
        path: name.into(),
        line,
        problem,
    })
}
