//! A CSV table: a row an image, with its path (relative to the table) and its class; optional columns name its split and
//! its group.

use std::path::Path;

use super::{Entry, Index};
use crate::data::audit::{Fault, FaultKind};
use crate::data::dataset::Split;
use crate::data::index::DataError;

/// Names that a column of paths, of classes, of splits and of groups may have.
const IMAGE: &[&str] = &["image", "path", "file", "filename", "file_name", "image_path"];
const CLASS: &[&str] = &["label", "class", "category", "target"];
const SPLIT: &[&str] = &["split", "set", "subset"];
const GROUP: &[&str] = &["group", "patient", "patient_id", "subject", "field", "cell"];

pub(super) fn index(path: &Path) -> Result<Index, DataError> {
    let at = |line: u64, message: String| DataError::Line { path: path.into(), line: line as usize, message };
    let broken = |error: csv::Error| {
        let line = error.position().map_or(1, csv::Position::line);
        at(line, format!("the table cannot be read: {error}"))
    };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_path(path).map_err(broken)?;
    let headers = reader.headers().map_err(broken)?.clone();
    let column = |names: &[&str]| {
        headers
            .iter()
            .position(|h| names.iter().any(|n| h.trim_start_matches('\u{feff}').eq_ignore_ascii_case(n)))
    };
    let missing = |what: &str, names: &[&str]| {
        at(1, format!("there is no column of {what}: call it one of {}", names.join(", ")))
    };
    let image = column(IMAGE).ok_or_else(|| missing("image paths", IMAGE))?;
    let class = column(CLASS).ok_or_else(|| missing("classes", CLASS))?;
    let (split, group) = (column(SPLIT), column(GROUP));
    let root = path.parent().unwrap_or(Path::new("."));
    let (mut rows, mut faults) = (Vec::new(), Vec::new());
    for record in reader.records() {
        let record = record.map_err(broken)?;
        let line = record.position().map_or(0, csv::Position::line) as usize;
        let field = |i: usize| record.get(i).unwrap_or_default().to_owned();
        let mut wrong = |message: String| {
            faults.push(Fault::error(path, Some(line), FaultKind::MalformedLabel, message));
        };
        let split = match split.map(&field).unwrap_or_default().to_ascii_lowercase().as_str() {
            "" | "train" | "training" => Split::Train,
            "val" | "valid" | "validation" => Split::Val,
            "test" | "testing" => Split::Test,
            other => {
                wrong(format!("the split `{other}` is none of train, val and test"));
                continue;
            }
        };
        if field(image).is_empty() || field(class).is_empty() {
            wrong("the row names no image or no class: fill it in or delete the row".into());
            continue;
        }
        let group = group.map(&field).filter(|group| !group.is_empty());
        rows.push((root.join(field(image)), field(class), split, group, line));
    }
    let mut classes: Vec<String> = rows.iter().map(|(_, class, ..)| class.clone()).collect();
    // Numbers in their own order: 2 before 10.
    let numeric = classes.iter().all(|class| class.parse::<u64>().is_ok());
    classes.sort_by_key(|class| (numeric.then(|| class.parse::<u64>().unwrap_or(0)), class.clone()));
    classes.dedup();
    let entries = rows
        .into_iter()
        .map(|(image, class, split, group, line)| {
            let class =
                classes.iter().position(|c| *c == class).expect("the classes come from the rows") as u32;
            Entry { image, split, class, group, listed: Some((path.into(), line)), known: None }
        })
        .collect();
    Ok(Index { root: root.into(), source: path.into(), classes, entries, faults })
}
