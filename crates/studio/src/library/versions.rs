//! Versions: snapshots that never change. Each is a YOLO data set of its own, with the pictures as hard links where the
//! disk allows (no copy, and safe against removal of the originals), and with the hash that a training run records.
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use onsa_tune::data::classify;
use onsa_tune::data::index::{self, DataError, LoadOptions};
use rusqlite::{Connection, OptionalExtension, Row};
use schemars::JsonSchema;
use serde::Serialize;

use super::annotations::Boxed;
use super::{classes, datasets};
use crate::store::{self, now};
use crate::{App, Problem, problem};

/// A snapshot.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Version {
    /// Its id.
    pub id: i64,
    /// The data set's id.
    pub dataset: i64,
    /// From 1.
    pub number: i64,
    /// The data set's revision that it was made from.
    pub revision: i64,
    /// SHA-256 over class names, image names and sizes, and boxes; the one that training records.
    pub hash: String,
    /// Why it was made.
    pub note: String,
    /// Images.
    pub images: i64,
    /// Boxes.
    pub boxes: i64,
    /// Milliseconds since 1970.
    pub created: i64,
    /// Where it lies.
    #[serde(skip)]
    pub root: PathBuf,
}

const COLUMNS: &str = "id, dataset, number, revision, hash, note, images, boxes, created, root";

fn read(row: &Row<'_>) -> rusqlite::Result<Version> {
    Ok(Version {
        id: row.get(0)?,
        dataset: row.get(1)?,
        number: row.get(2)?,
        revision: row.get(3)?,
        hash: row.get(4)?,
        note: row.get(5)?,
        images: row.get(6)?,
        boxes: row.get(7)?,
        created: row.get(8)?,
        root: PathBuf::from(row.get::<_, String>(9)?),
    })
}

/// The version of an id.
///
/// # Errors
/// There is none.
pub fn get(connection: &Connection, id: i64) -> Result<Version, Problem> {
    let sql = format!("SELECT {COLUMNS} FROM versions WHERE id = ?1");
    let found = connection.query_row(&sql, [id], read).optional()?;
    found.ok_or_else(|| Problem::missing(format!("there is no version {id}")))
}

/// A data set's versions, the newest first.
///
/// # Errors
/// Those of the database.
pub fn list(connection: &Connection, dataset: i64) -> Result<Vec<Version>, Problem> {
    let sql = format!("SELECT {COLUMNS} FROM versions WHERE dataset = ?1 ORDER BY number DESC");
    let mut statement = connection.prepare_cached(&sql)?;
    let versions = statement.query_map([dataset], read)?.collect::<Result<_, _>>()?;
    Ok(versions)
}

/// An image to be written into a version.
pub(super) struct Entry {
    pub path: PathBuf,
    pub name: String,
    pub split: String,
    pub boxes: Vec<Boxed>,
}

/// Makes a version of the data set as it is now, on this thread; where nothing has changed since the last one, gives
/// that one.
///
/// # Errors
/// The data set cannot be trained on (no images, no boxes), or the disk refuses.
pub fn snapshot(app: &App, dataset: i64, note: &str) -> Result<Version, Problem> {
    let (set, last, entries) = app.store.read_now(|c| {
        // One transaction: revision, classes and boxes belong together.
        let t = c.unchecked_transaction()?;
        let set = datasets::ready(&t, dataset)?;
        if set.classes.is_empty() {
            return Err(Problem::invalid("nobody has said yet what is to be found on the pictures")
                .hint("open a picture, add a class, and draw the first boxes"));
        }
        let last = list(&t, dataset)?.into_iter().next();
        if last.as_ref().is_some_and(|last| last.revision == set.revision) {
            return Ok((set, last, Vec::new()));
        }
        let mut entries = entries(&t, dataset)?;
        if set.classifies() {
            // A picture without a class cannot be learnt from.
            entries.retain(|entry| !entry.boxes.is_empty());
        }
        Ok((set, last, entries))
    })?;
    if let Some(last) = last.as_ref().filter(|last| last.revision == set.revision) {
        return Ok(last.clone());
    }
    let folder = datasets::folder(app, dataset).join("versions");
    fs::create_dir_all(&folder).map_err(|e| Problem::path("cannot make", &folder, &e))?;
    let scratch = folder.join(format!("new-{}", crate::config::random_text(6)?));
    let shortened =
        |e: DataError| Problem::invalid(problem::causes(&e).replace(&format!("{}/", scratch.display()), ""));
    let written = if set.classifies() {
        classes::write(&scratch, &set.classes, &entries).and_then(|()| {
            Ok(classify::load(&scratch, &LoadOptions::default()).map_err(shortened)?.dataset.hash)
        })
    } else {
        write(&scratch, &set.classes, &entries).and_then(|()| {
            let loaded = index::load(&scratch.join("data.yaml"), &LoadOptions::default());
            Ok(loaded.map_err(shortened)?.dataset.hash)
        })
    };
    let hash = match written {
        Ok(hash) => hash,
        Err(problem) => {
            let _ = fs::remove_dir_all(&scratch);
            return Err(problem);
        }
    };
    let boxes: usize = entries.iter().map(|entry| entry.boxes.len()).sum();
    let result = app.store.write_now(|t| {
        let number: i64 = t.query_row(
            "SELECT coalesce(max(number), 0) + 1 FROM versions WHERE dataset = ?1",
            [dataset],
            |row| row.get(0),
        )?;
        let root = folder.join(number.to_string());
        // A folder without a row is one of a studio that was killed here.
        let _ = fs::remove_dir_all(&root);
        fs::rename(&scratch, &root).map_err(|e| Problem::path("cannot make", &root, &e))?;
        let sql = "INSERT INTO versions (dataset, number, revision, hash, note, root, images, boxes, created)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
        let root = root.display().to_string();
        let images = entries.len();
        t.execute(
            sql,
            rusqlite::params![dataset, number, set.revision, hash, note, root, images, boxes, now()],
        )?;
        get(t, t.last_insert_rowid())
    });
    if result.is_err() {
        let _ = fs::remove_dir_all(&scratch);
    }
    result
}

fn entries(c: &Connection, dataset: i64) -> Result<Vec<Entry>, Problem> {
    let sql =
        "SELECT id, path, name, split, boxes FROM images WHERE dataset = ?1 AND usable = 1 ORDER BY position";
    let mut statement = c.prepare(sql)?;
    let mut rows = statement.query([dataset])?;
    let mut entries = Vec::new();
    while let Some(row) = rows.next()? {
        entries.push(Entry {
            path: PathBuf::from(row.get::<_, String>(1)?),
            name: row.get(2)?,
            split: row.get(3)?,
            boxes: store::json(row, 4, "image")?,
        });
    }
    Ok(entries)
}

/// A validation picture of a version by its file's name, of a data set of classes by `CLASS/NAME`. The name is looked for in the listing and never becomes part of a
/// path. On this thread.
///
/// # Errors
/// There is none of that name.
pub fn val_picture(version: &Version, name: &str) -> Result<PathBuf, Problem> {
    let boxes = version.root.join("images/val");
    let folder = if boxes.is_dir() { boxes } else { version.root.join("val") };
    let named = |entry: &walkdir::DirEntry| {
        let relative = entry.path().strip_prefix(&folder).ok().and_then(Path::to_str);
        relative == Some(name) && entry.path().is_file()
    };
    let mut files = walkdir::WalkDir::new(&folder).max_depth(2).into_iter().filter_map(Result::ok);
    let found = files.find(named).ok_or_else(|| Problem::missing("there is no such picture"))?;
    Ok(found.into_path())
}

/// A picture without a copy where the disk allows.
pub(super) fn link(from: &Path, to: &Path) -> Result<(), Problem> {
    if fs::hard_link(from, to).is_err() {
        fs::copy(from, to).map_err(|e| Problem::path("cannot write", to, &e))?;
    }
    Ok(())
}

/// Writes a YOLO data set.
fn write(root: &Path, classes: &[String], entries: &[Entry]) -> Result<(), Problem> {
    let failed = |path: &Path, e: std::io::Error| Problem::path("cannot write", path, &e);
    let mut taken = HashSet::new();
    for split in ["train", "val", "test"] {
        for kind in ["images", "labels"] {
            let path = root.join(kind).join(split);
            fs::create_dir_all(&path).map_err(|e| failed(&path, e))?;
        }
    }
    for (i, entry) in entries.iter().enumerate() {
        // Two images may differ in their folder or ending only; their label files must not be one.
        let (stem, ending) = entry.name.rsplit_once('.').unwrap_or((&entry.name, "jpg"));
        let mut stem = stem.to_owned();
        if !taken.insert((entry.split.clone(), stem.to_lowercase())) {
            stem = format!("{stem}_{i}");
            taken.insert((entry.split.clone(), stem.to_lowercase()));
        }
        let image = root.join("images").join(&entry.split).join(format!("{stem}.{ending}"));
        link(&entry.path, &image)?;
        let label = root.join("labels").join(&entry.split).join(format!("{stem}.txt"));
        fs::write(&label, label_text(&entry.boxes)).map_err(|e| failed(&label, e))?;
    }
    // Where no picture of validation has been looked at yet, some are taken for it when the version is read.
    let has = |split: &str| split == "train" || entries.iter().any(|entry| entry.split == split);
    let mut yaml = String::new();
    for split in ["train", "val", "test"].into_iter().filter(|split| has(split)) {
        yaml.push_str(&format!("{split}: images/{split}\n"));
    }
    yaml.push_str("names:\n");
    for (i, name) in classes.iter().enumerate() {
        // A JSON string is a YAML string, whatever is in it.
        yaml.push_str(&format!("  {i}: {}\n", serde_json::Value::from(name.as_str())));
    }
    let path = root.join("data.yaml");
    Ok(onsa_tune::durable::write(&path, yaml.as_bytes())?)
}

/// A YOLO label file: `class cx cy w h`, one line a box.
pub(super) fn label_text(boxes: &[Boxed]) -> String {
    boxes.iter().map(|Boxed(class, cx, cy, w, h)| format!("{class} {cx} {cy} {w} {h}\n")).collect()
}
