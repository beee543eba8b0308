//! From files to rows: reads a data set, then checks every file of it.
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use onsa_tune::data::audit::{self, AuditTask, CheckOptions, FaultKind};
use onsa_tune::data::bounds::Bounds;
use onsa_tune::data::dataset::{Dataset, Item, Split};
use onsa_tune::data::index::{self, DataError, LoadOptions, Progress, Report, Stage};
use rusqlite::Transaction;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::annotations::{self, Boxed};
use super::{classes, datasets, folders, plain, remedies, uploads, versions};
use crate::protocol::{ErrorText, Event};
use crate::store::{blocking, now};
use crate::{App, Problem, problem};

/// Browsers are told of progress this often.
const TELL_EVERY: Duration = Duration::from_millis(300);
/// Faults that are kept with their words; all are counted.
const FAULTS: usize = 5000;

/// Where a data set comes from.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum From {
    /// A finished upload: a zip.
    Upload(String),
    /// A folder that was listed, by its id. It is read and never written.
    Folder(i64),
    /// The sample that comes with onsa: trees seen from above.
    Sample(bool),
}

/// A data set to be.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct NewDataset {
    /// Its name.
    pub name: String,
    /// Where it comes from.
    pub from: From,
}

/// Begins to import a data set and gives its id at once.
///
/// # Errors
/// Its source is not there.
pub async fn begin(app: &App, new: NewDataset) -> Result<i64, Problem> {
    let name = datasets::checked_name(&new.name)?.to_owned();
    let (origin, root, upload) = match new.from {
        From::Folder(id) => {
            let app = app.clone();
            ("folder", Some(blocking(move || folders::find(&app, id)).await?), None)
        }
        From::Upload(id) => {
            let (upload, file) = uploads::finished(app, &id).await?;
            if !super::annotations::has_ending(&upload.name, "zip") {
                return Err(Problem::invalid(format!("{} is not a zip file", upload.name))
                    .hint("pack the images and labels into a zip, or drop the folder itself"));
            }
            ("upload", None, Some((id, file)))
        }
        From::Sample(_) => ("sample", Some(sample(app)?), None),
    };
    let path = root.as_deref().map_or(Ok(""), text_of)?.to_owned();
    let id = app
        .store
        .write(move |t| {
            let sql = "INSERT INTO datasets (name, state, origin, root, created) VALUES (?1, 'importing', ?2, ?3, ?4)";
            t.execute(sql, (name, origin, path, now()))?;
            Ok(t.last_insert_rowid())
        })
        .await?;
    let app = app.clone();
    tokio::spawn(async move {
        let worked = app.clone();
        let result = blocking(move || {
            let root = match (root, &upload) {
                (Some(root), _) => root,
                (None, Some((_, file))) => unpack(&worked, id, file)?,
                (None, None) => return Err(Problem::invalid("the data set has no source")),
            };
            read(&worked, id, &root)
        });
        finish(&app, id, result.await).await;
    });
    Ok(id)
}

/// The sample's folder.
fn sample(app: &App) -> Result<PathBuf, Problem> {
    let candidates = app.config.assets.iter().map(|folder| folder.join("trees"));
    candidates.into_iter().find(|folder| folder.join("data.yaml").is_file()).ok_or_else(|| {
        Problem::missing("the sample data are not on this machine yet")
            .hint("run `onsa demo --fetch-only` once; it takes them from public packages")
    })
}

fn text_of(path: &Path) -> Result<&str, Problem> {
    path.to_str()
        .ok_or_else(|| Problem::invalid(format!("{} is not valid Unicode: rename it", path.display())))
}

/// Unpacks a zip into the data set's own folder.
fn unpack(app: &App, id: i64, file: &Path) -> Result<PathBuf, Problem> {
    let root = datasets::folder(app, id).join("files");
    super::archive::unpack(file, &root)?;
    let text = text_of(&root)?.to_owned();
    app.store.write_now(|t| {
        t.execute("UPDATE datasets SET root = ?2 WHERE id = ?1", (id, text))?;
        Ok(())
    })?;
    let _ = std::fs::remove_file(file);
    Ok(root)
}

async fn finish(app: &App, id: i64, result: Result<(), Problem>) {
    if let Err(problem) = result {
        let error = ErrorText { message: problem.message, causes: Vec::new(), hint: problem.hint };
        let written = app.store.write(move |t| {
            let error = serde_json::to_string(&error)?;
            // One whose images were read stays usable: only its check is missing.
            t.execute(
                "UPDATE datasets SET state = 'failed', error = ?2 WHERE id = ?1 AND state = 'importing'",
                (id, error),
            )?;
            Ok(())
        });
        // Where the database refuses, the next start reads the data set again.
        let _ = written.await;
    }
    app.tell(Event::Dataset { dataset: id, stage: None, done: 0, total: 0 });
}

/// Reads images and boxes into the database, then checks every file.
fn read(app: &App, id: i64, root: &Path) -> Result<(), Problem> {
    let report = reporter(app, id);
    let (root, task, mut dataset, data_root) = load(app, id, &found_root(root), &report)?;
    let root = &root;
    let plain = root == &plain::folder(app, id);
    if plain {
        dataset.classes.clear();
    }
    app.store.write_now(|t| {
        let classes = serde_json::to_string(&dataset.classes)?;
        t.execute("DELETE FROM images WHERE dataset = ?1", [id])?;
        t.execute("DELETE FROM image_classes WHERE dataset = ?1", [id])?;
        let mut position = 0;
        for split in Split::ALL {
            for item in dataset.split(split) {
                insert(t, id, position, split, item)?;
                position += 1;
            }
        }
        t.execute(
            "UPDATE datasets SET state = 'ready', classes = ?2, task = ?3, error = NULL WHERE id = ?1",
            (id, classes, task),
        )?;
        if plain {
            t.execute("UPDATE datasets SET root = ?2 WHERE id = ?1", (id, text_of(root)?))?;
            // Until a person has looked, nobody knows what is on them.
            t.execute("UPDATE images SET usable = 2 WHERE dataset = ?1", [id])?;
        }
        Ok(())
    })?;
    let total = Split::ALL.map(|split| dataset.split(split).len()).iter().sum();
    app.tell(Event::Dataset { dataset: id, stage: Some("check".into()), done: 0, total });
    check_files(app, id, root, &data_root, &report)?;
    if !plain {
        versions::snapshot(app, id, "as imported")?;
    }
    Ok(())
}

/// Reads what lies in `root`: its folder (another one for pictures without labels), its task, itself, and where its paths start.
fn load(
    app: &App,
    id: i64,
    root: &Path,
    report: Report<'_>,
) -> Result<(PathBuf, &'static str, Dataset, PathBuf), Problem> {
    let load = LoadOptions { bounds: bounds(app, root), ..LoadOptions::default() };
    let wrong = |e: DataError| Problem::invalid(shorten(&problem::causes(&e), root));
    match index::load_reporting(root, &load, report) {
        Ok(loaded) => return Ok((root.to_owned(), "detect", loaded.dataset, loaded.root)),
        // What has no labels may have a folder a class, or be pictures alone.
        Err(DataError::UnknownForm(_)) => {}
        Err(e) => return Err(wrong(e)),
    }
    let problem = match classes::load(root, &load, report) {
        Ok(loaded) => return Ok((root.to_owned(), "classify", loaded.dataset, root.to_owned())),
        Err(problem) => problem,
    };
    let Some(plain) = plain::arrange(app, id, root)? else {
        return Err(Problem::invalid(shorten(&problem.message, root)).hint(
            "a data set is a folder with data.yaml, images and labels (YOLO), COCO JSON files, Pascal VOC files, one folder of \
             pictures a class, or pictures alone",
        ));
    };
    let load = LoadOptions { bounds: bounds(app, &plain), ..LoadOptions::default() };
    let loaded = index::load_reporting(&plain, &load, report).map_err(wrong)?;
    Ok((plain, "detect", loaded.dataset, loaded.root))
}

/// Checks every file of a data set, and keeps the report.
fn check_files(app: &App, id: i64, root: &Path, data_root: &Path, report: Report<'_>) -> Result<(), Problem> {
    let classifies = app.store.read_now(|c| Ok(datasets::get(c, id)?.classifies()))?;
    let task = if classifies { AuditTask::Classify } else { AuditTask::Detect };
    let load = LoadOptions { bounds: bounds(app, root), ..LoadOptions::default() };
    let mut found = audit::check(root, &CheckOptions { task, load, ..CheckOptions::default() }, report);
    if root == plain::folder(app, id) {
        // That there are no labels yet is no fault.
        let labels = [FaultKind::MissingLabel, FaultKind::ClassWithoutBoxes, FaultKind::SplitMade];
        found.faults.retain(|fault| !labels.contains(&fault.kind));
    }
    keep_audit(app, id, data_root, &found)
}

/// What of a data set may be read: its own folder, and those that the studio was started with. Its files may name any path.
pub fn bounds(app: &App, root: &Path) -> Bounds {
    Bounds::within(app.config.roots.iter().map(PathBuf::as_path).chain([root]))
}

/// Goes down while a folder holds nothing but one folder: zips are often packed with one around everything.
fn found_root(root: &Path) -> PathBuf {
    let mut root = root.to_owned();
    for _ in 0..4 {
        let Ok(entries) = std::fs::read_dir(&root) else { break };
        let mut entries: Vec<PathBuf> = entries
            .filter_map(Result::ok)
            .filter(|e| !e.file_name().as_encoded_bytes().starts_with(b".") && e.file_name() != "__MACOSX")
            .map(|e| e.path())
            .collect();
        match (entries.pop(), entries.is_empty()) {
            (Some(only), true) if only.is_dir() => root = only,
            _ => break,
        }
    }
    root
}

fn insert(t: &Transaction<'_>, id: i64, position: i64, split: Split, item: &Item) -> Result<(), Problem> {
    let name = item.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let boxes: Vec<Boxed> = item.labels.iter().map(|l| Boxed(l.class, l.cx, l.cy, l.w, l.h)).collect();
    let sql = "INSERT INTO images (dataset, position, path, name, split, width, height, boxes, box_count)
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    t.prepare_cached(sql)?.execute(rusqlite::params![
        id,
        position,
        text_of(&item.path)?,
        name,
        split.name(),
        item.width,
        item.height,
        serde_json::to_string(&boxes)?,
        boxes.len()
    ])?;
    annotations::count_classes(t, id, position, split.name(), &boxes)
}

/// Keeps the report with paths relative to the data set, and marks the images that have faults.
fn keep_audit(app: &App, id: i64, root: &Path, audit: &audit::Audit) -> Result<(), Problem> {
    let mut document = serde_json::to_value(audit)?;
    let mut kinds: HashMap<String, (usize, &str)> = HashMap::new();
    for fault in &audit.faults {
        let kind = serde_json::to_value(fault.kind)?.as_str().unwrap_or_default().to_owned();
        kinds.entry(kind).or_insert((0, if fault.is_error() { "error" } else { "warning" })).0 += 1;
    }
    let mut kinds: Vec<Value> = kinds
        .into_iter()
        .map(|(kind, (count, severity))| {
            let remedy = remedies::of(&kind, severity == "error");
            json!({"kind": kind, "count": count, "severity": severity, "remedy": remedy})
        })
        .collect();
    kinds.sort_by_key(|k| (k["severity"].as_str() != Some("error"), std::cmp::Reverse(k["count"].as_u64())));
    let all = document["faults"].as_array().map_or(0, Vec::len);
    if let Some(faults) = document["faults"].as_array_mut() {
        faults.truncate(FAULTS);
        for fault in faults {
            for key in ["path", "image", "message"] {
                if let Some(text) = fault[key].as_str() {
                    fault[key] = shorten(text, root).into();
                }
            }
        }
    }
    document["kinds"] = kinds.into();
    document["fault_count"] = all.into();
    app.store.write_now(|t| {
        let mut mark = t.prepare_cached(
            "UPDATE images SET faults = faults + 1, usable = CASE WHEN ?3 = 0 OR usable = 0 THEN 0 ELSE max(usable, ?3) END
             WHERE dataset = ?1 AND path = ?2",
        )?;
        for fault in &audit.faults {
            let image = fault.image.as_deref().unwrap_or(&fault.path);
            let Some(path) = image.to_str() else { continue };
            mark.execute((id, path, usable(fault)))?;
        }
        let mut keep = t.prepare_cached(
            "INSERT OR IGNORE INTO image_faults (image, kind, error) SELECT id, ?3, ?4 FROM images WHERE dataset = ?1 AND path = ?2",
        )?;
        for fault in &audit.faults {
            let image = fault.image.as_deref().unwrap_or(&fault.path);
            let Some(path) = image.to_str() else { continue };
            keep.execute((id, path, remedies::name(fault.kind)?, fault.is_error()))?;
        }
        let text = serde_json::to_string(&document)?;
        t.execute("UPDATE datasets SET audit = ?2 WHERE id = ?1", (id, text))?;
        Ok(())
    })
}

/// What a fault makes of its image: see the column `usable`.
fn usable(fault: &audit::Fault) -> i64 {
    match (fault.is_error(), &fault.image) {
        (false, _) => 1,
        (true, None) => 0,
        (true, Some(_)) => 2,
    }
}

/// Without the folder's path before the names in it.
fn shorten(text: &str, root: &Path) -> String {
    let folder = root.display().to_string();
    if text == folder {
        return root.file_name().unwrap_or_default().to_string_lossy().into_owned();
    }
    text.replace(&format!("{folder}/"), "")
}

/// Tells the browsers how far the reading is, a few times a second.
fn reporter(app: &App, id: i64) -> impl Fn(Progress) + Sync + use<> {
    let app = app.clone();
    let told = Mutex::new(Instant::now());
    move |progress: Progress| {
        let Ok(mut told) = told.try_lock() else { return };
        if told.elapsed() >= TELL_EVERY {
            *told = Instant::now();
            let stage = match progress.stage {
                Stage::Scan => "read",
                Stage::Decode => "check",
            };
            let (done, total) = (progress.done, progress.total);
            app.tell(Event::Dataset { dataset: id, stage: Some(stage.into()), done, total });
        }
    }
}

/// Reads data sets again whose import or check was cut off.
pub(super) async fn recover(app: &App) -> Result<(), Problem> {
    let cut = app.store.read(|c| {
        let sql =
            "SELECT id, root FROM datasets WHERE state = 'importing' OR (state = 'ready' AND audit IS NULL)";
        let mut statement = c.prepare(sql)?;
        let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?)
    });
    for (id, root) in cut.await? {
        let app = app.clone();
        tokio::spawn(async move {
            let worked = app.clone();
            let result = blocking(move || {
                if root.is_empty() {
                    return Err(Problem::invalid("the studio ended while the zip was being unpacked")
                        .hint("upload it again"));
                }
                // Boxes that were drawn meanwhile are worth more than a missing check.
                let drawn = worked.store.read_now(|c| Ok(datasets::get(c, id)?.revision > 0))?;
                if drawn {
                    check_again(&worked, id, Path::new(&root))
                } else {
                    read(&worked, id, Path::new(&root))
                }
            });
            finish(&app, id, result.await).await;
        });
    }
    Ok(())
}

fn check_again(app: &App, id: i64, root: &Path) -> Result<(), Problem> {
    let root = found_root(root);
    check_files(app, id, &root, &root, &reporter(app, id))
}
