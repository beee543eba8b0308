//! Data sets as the database and the API have them.
use rusqlite::{Connection, OptionalExtension, Row};
use schemars::JsonSchema;
use serde::Serialize;

use crate::protocol::{ErrorText, Event};
use crate::store::{self, blocking};
use crate::{App, Problem};

/// A set of images with boxes.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Dataset {
    /// Its id.
    pub id: i64,
    /// As the person calls it.
    pub name: String,
    /// `importing`, `ready` or `failed`.
    pub state: String,
    /// `detect`: its pictures have boxes; `classify`: they have one class each.
    pub task: String,
    /// `folder`, `upload` or `sample`.
    pub origin: String,
    /// Class names by class number.
    pub classes: Vec<String>,
    /// Images and boxes of each split.
    pub splits: Vec<SplitCount>,
    /// Whether the check of its files is done; its report is at `audit`.
    pub checked: bool,
    /// Why it could not be read.
    pub error: Option<ErrorText>,
    /// Grows with every change of a box, a class or a split.
    pub revision: i64,
    /// The first image, to show for it.
    pub cover: Option<i64>,
    /// Milliseconds since 1970.
    pub created: i64,
    /// Where it was read from.
    #[serde(skip)]
    pub root: String,
}

/// A split in figures.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct SplitCount {
    /// `train`, `val` or `test`.
    pub split: String,
    /// Images.
    pub images: i64,
    /// Boxes on them.
    pub boxes: i64,
}

const SELECT: &str =
    "SELECT id, name, state, origin, classes, audit IS NOT NULL, error, revision, created, root,
    (SELECT id FROM images WHERE dataset = datasets.id ORDER BY position LIMIT 1), task FROM datasets";

fn read(row: &Row<'_>) -> rusqlite::Result<Dataset> {
    Ok(Dataset {
        id: row.get(0)?,
        name: row.get(1)?,
        state: row.get(2)?,
        origin: row.get(3)?,
        classes: store::json(row, 4, "data set")?,
        splits: Vec::new(),
        checked: row.get(5)?,
        error: store::json_or_none(row, 6, "data set")?,
        revision: row.get(7)?,
        created: row.get(8)?,
        root: row.get(9)?,
        cover: row.get(10)?,
        task: row.get(11)?,
    })
}

fn splits(connection: &Connection, id: i64) -> Result<Vec<SplitCount>, Problem> {
    let sql = "SELECT split, count(*), sum(box_count) FROM images WHERE dataset = ?1 GROUP BY split";
    let mut statement = connection.prepare_cached(sql)?;
    let counts = statement.query_map([id], |row| {
        Ok(SplitCount { split: row.get(0)?, images: row.get(1)?, boxes: row.get(2)? })
    })?;
    let mut counts = counts.collect::<Result<Vec<_>, _>>()?;
    counts.sort_by_key(|count| ["train", "val", "test"].iter().position(|name| *name == count.split));
    Ok(counts)
}

/// The data set of an id.
///
/// # Errors
/// There is none.
pub fn get(connection: &Connection, id: i64) -> Result<Dataset, Problem> {
    let found =
        connection.prepare_cached(&format!("{SELECT} WHERE id = ?1"))?.query_row([id], read).optional()?;
    let dataset = found.ok_or_else(|| Problem::missing(format!("there is no data set {id}")))?;
    Ok(Dataset { splits: splits(connection, id)?, ..dataset })
}

/// As [`get`], and refuses one that is not ready.
///
/// # Errors
/// There is none, it is still being read, or it could not be read.
pub fn ready(connection: &Connection, id: i64) -> Result<Dataset, Problem> {
    let dataset = get(connection, id)?;
    match dataset.state.as_str() {
        "ready" => Ok(dataset),
        "importing" => Err(Problem::conflict("the data set is still being read")),
        _ => Err(Problem::conflict("the data set could not be read")),
    }
}

/// Every data set, the newest first.
///
/// # Errors
/// Those of the database.
pub fn list(connection: &Connection) -> Result<Vec<Dataset>, Problem> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} ORDER BY id DESC"))?;
    let found = statement.query_map([], read)?.collect::<Result<Vec<_>, _>>()?;
    found
        .into_iter()
        .map(|dataset| Ok(Dataset { splits: splits(connection, dataset.id)?, ..dataset }))
        .collect()
}

/// The report of the check: JSON, as `onsa check --json`, with paths relative to the data set.
///
/// # Errors
/// There is no such data set, or the check goes on.
pub fn audit(connection: &Connection, id: i64) -> Result<serde_json::Value, Problem> {
    let sql = "SELECT audit FROM datasets WHERE id = ?1";
    let found: Option<Option<String>> = connection.query_row(sql, [id], |row| row.get(0)).optional()?;
    match found {
        None => Err(Problem::missing(format!("there is no data set {id}"))),
        Some(None) => Err(Problem::conflict("the files are still being checked")),
        Some(Some(text)) => Ok(serde_json::from_str(&text)?),
    }
}

impl Dataset {
    /// Whether its pictures have one class each.
    pub fn classifies(&self) -> bool {
        self.task == "classify"
    }
}

/// A new name.
///
/// # Errors
/// It is empty or too long, or there is no such data set.
pub fn rename(connection: &Connection, id: i64, name: &str) -> Result<(), Problem> {
    let name = checked_name(name)?;
    match connection.execute("UPDATE datasets SET name = ?2 WHERE id = ?1", (id, name))? {
        0 => Err(Problem::missing(format!("there is no data set {id}"))),
        _ => Ok(()),
    }
}

/// A name without what surrounds it.
///
/// # Errors
/// It is empty or too long.
pub fn checked_name(name: &str) -> Result<&str, Problem> {
    let name = name.trim();
    if name.is_empty() || name.chars().count() > 200 {
        return Err(Problem::invalid("a name has from 1 to 200 characters"));
    }
    Ok(name)
}

/// Forgets a data set, its versions and the studio's own copies. A folder that it was read from stays as it is.
///
/// # Errors
/// There is none, or a run trains on it.
pub async fn delete(app: &App, id: i64) -> Result<(), Problem> {
    app.store
        .write(move |t| {
            get(t, id)?;
            let sql = "SELECT count(*) FROM jobs j JOIN versions v ON v.id = j.version
                       WHERE v.dataset = ?1 AND j.state IN ('queued', 'running', 'stopping')";
            let used: i64 = t.query_row(sql, [id], |row| row.get(0))?;
            if used > 0 {
                return Err(Problem::conflict("a run trains on this data set: stop it first"));
            }
            t.execute("DELETE FROM datasets WHERE id = ?1", [id])?;
            Ok(())
        })
        .await?;
    let folder = folder(app, id);
    blocking(move || {
        // What cannot be removed is only disk space: the data set is gone for the studio.
        let _ = std::fs::remove_dir_all(folder);
        Ok(())
    })
    .await?;
    app.tell(Event::Dataset { dataset: id, stage: None, done: 0, total: 0 });
    Ok(())
}

/// The studio's own folder for a data set.
pub fn folder(app: &App, id: i64) -> std::path::PathBuf {
    app.config.dir.join("datasets").join(id.to_string())
}
