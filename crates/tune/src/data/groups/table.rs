//! A CSV file that tells the groups of images: the columns image and group.

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use onsa_intake::labels::read_file;
use onsa_intake::limits::LIST_FILE_BYTES;

use crate::data::index::{DataError, clean};

/// Names that a column of paths and of groups may have.
pub(crate) const IMAGE: &[&str] = &["image", "path", "file", "filename", "file_name", "image_path"];
pub(crate) const GROUP: &[&str] = &["group", "patient", "patient_id", "subject", "field", "cell"];

pub(super) struct Groups {
    /// By whole path, of what the table says relative to itself and to the data set's root.
    paths: HashMap<PathBuf, String>,
    /// By file name, of rows that name no folder.
    names: HashMap<OsString, String>,
}

impl Groups {
    pub fn group_of(&self, image: &Path) -> Option<String> {
        let by_name = || self.names.get(image.file_name()?);
        self.paths.get(&clean(image)).or_else(by_name).cloned()
    }
}

pub(super) fn read(path: &Path, root: &Path) -> Result<Groups, DataError> {
    let at = |line: u64, message: String| DataError::Line { path: path.into(), line: line as usize, message };
    let broken = |error: csv::Error| {
        let line = error.position().map_or(1, csv::Position::line);
        at(line, format!("the table cannot be read: {error}"))
    };
    let bytes = read_file(path, LIST_FILE_BYTES)?;
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(bytes.as_slice());
    let headers = reader.headers().map_err(broken)?.clone();
    let column = |names: &[&str]| {
        let is = |h: &str| names.iter().any(|n| h.trim_start_matches('\u{feff}').eq_ignore_ascii_case(n));
        let missing = || at(1, format!("there is no column that is called one of {}", names.join(", ")));
        headers.iter().position(is).ok_or_else(missing)
    };
    let (image, group) = (column(IMAGE)?, column(GROUP)?);
    let mut groups = Groups { paths: HashMap::new(), names: HashMap::new() };
    let here = path.parent().unwrap_or(Path::new("."));
    for record in reader.records() {
        let record = record.map_err(broken)?;
        let line = record.position().map_or(0, csv::Position::line);
        let (image, group) =
            (Path::new(record.get(image).unwrap_or_default()), record.get(group).unwrap_or_default());
        if image.as_os_str().is_empty() || group.is_empty() {
            continue;
        }
        let mut held: Vec<Option<String>> =
            [here, root].map(|folder| groups.paths.insert(clean(&folder.join(image)), group.into())).into();
        if let [name] = image.iter().collect::<Vec<_>>()[..] {
            held.push(groups.names.insert(name.into(), group.into()));
        }
        if held.iter().flatten().any(|other| other != group) {
            let message = format!("{} has another group further up: give it one", image.display());
            return Err(at(line, message));
        }
    }
    Ok(groups)
}
