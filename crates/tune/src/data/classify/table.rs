//! A CSV table: a row an image, with its path (relative to the table) and its class; optional columns name its split and
//! its group.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::{Entry, Form, Index};
use crate::data::audit::{Fault, FaultKind};
use crate::data::dataset::Split;
use crate::data::groups::without_group;
use crate::data::groups::{GROUP, IMAGE};
use crate::data::index::DataError;

/// Names that a column of classes and of splits may have.
const CLASS: &[&str] = &["label", "class", "category", "target"];
const SPLIT: &[&str] = &["split", "set", "subset"];

/// `group` is the column of groups, where it has another name than the usual ones.
pub(super) fn index(path: &Path, group: Option<&str>) -> Result<Index, DataError> {
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
    let split = column(SPLIT);
    let group = match group {
        Some(name) => Some(
            column(&[name]).ok_or_else(|| at(1, format!("there is no column `{name}` (group={name})")))?,
        ),
        None => column(GROUP),
    };
    let root = path.parent().unwrap_or(Path::new("."));
    let (mut rows, mut faults) = (Vec::new(), Vec::new());
    let mut groups: HashMap<String, Arc<str>> = HashMap::new();
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
        let group = group.map(|g| Arc::clone(groups.entry(g).or_insert_with_key(|g| g.as_str().into())));
        rows.push((root.join(field(image)), field(class), split, group, line));
    }
    let mut classes: Vec<String> = rows.iter().map(|(_, class, ..)| class.clone()).collect();
    // Numbers in their own order: 2 before 10.
    let numeric = classes.iter().all(|class| class.parse::<u64>().is_ok());
    classes.sort_by_key(|class| (numeric.then(|| class.parse::<u64>().unwrap_or(0)), class.clone()));
    classes.dedup();
    let numbers: HashMap<String, u32> = classes.iter().cloned().zip(0..).collect();
    let table: Arc<Path> = path.into();
    let entries = rows
        .into_iter()
        .map(|(image, class, split, group, line)| {
            let class = numbers[&class];
            Entry { image, split, class, group, listed: Some((Arc::clone(&table), line)), known: None }
        })
        .collect();
    let entries: Vec<Entry> = entries;
    if group.is_some() {
        let without: Vec<String> =
            entries.iter().filter(|e| e.group.is_none()).map(|e| e.image.display().to_string()).collect();
        if !without.is_empty() {
            let named = &without[..without.len().min(3)];
            faults.push(without_group(without.len(), entries.len(), named, path));
        }
    }
    Ok(Index { form: Form::Table, root: root.into(), source: path.into(), classes, entries, faults })
}
