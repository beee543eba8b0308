//! Models: those that lie on this machine, those that were uploaded, and those that runs gave.
use std::path::{Path, PathBuf};

use onsa_tune::models::registry;
use rusqlite::{Connection, OptionalExtension, Row};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::annotations::has_ending;
use super::{datasets, program, uploads};
use crate::jobs::record;
use crate::protocol::Event;
use crate::store::{self, now};
use crate::{App, Problem};

/// Endings of model files.
const ENDINGS: [&str; 4] = ["pt", "pth", "safetensors", "onnx"];

/// A model file.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Model {
    /// Its id.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// `found` on this machine, `upload`, or `run`.
    pub origin: String,
    /// Its size.
    pub bytes: i64,
    /// Of the file, hexadecimal.
    pub sha256: String,
    /// What the file says of itself.
    pub about: About,
    /// The run that it came of.
    pub job: Option<i64>,
    /// Milliseconds since 1970.
    pub created: i64,
    /// Where it lies.
    #[serde(skip)]
    pub path: PathBuf,
}

/// What a model file says of itself; what it does not say is none.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub struct About {
    /// `safetensors`, `onnx`, ...
    pub format: Option<String>,
    /// Such as `yolo11`; none for a model that onsa does not know.
    pub family: Option<String>,
    /// Such as `yolo11n`.
    pub model: Option<String>,
    /// Such as `detect`.
    pub task: Option<String>,
    /// Class names.
    pub classes: Option<Vec<String>>,
    /// Numbers that training can change.
    pub parameters: Option<u64>,
    /// The weights' licence.
    pub licence: Option<String>,
    /// Input height and width in pixels.
    pub imgsz: Option<[u32; 2]>,
}

/// An architecture that onsa knows.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Known {
    /// Such as `yolo11n`.
    pub name: String,
    /// Who made it.
    pub provenance: String,
    /// Licence of its published weights.
    pub licence: String,
    /// `detect` or `classify`.
    pub task: String,
    /// Published accuracy, a fraction of 1: a detector's mAP50-95 on COCO, a classifier's top-1 on ImageNet.
    pub accuracy: Option<f64>,
    /// Millions of parameters.
    pub parameters: Option<f64>,
    /// Thousand millions of operations an image: of 640 pixels for a detector, of its published size for a classifier.
    pub gflops: Option<f64>,
    /// The model here that has weights of it, if there is one.
    pub model: Option<i64>,
}

/// What a person can start from.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Gallery {
    /// Model files, the newest first.
    pub models: Vec<Model>,
    /// Architectures, smallest first.
    pub known: Vec<Known>,
}

const COLUMNS: &str = "id, name, origin, bytes, sha256, about, job, created, path";

fn read(row: &Row<'_>) -> rusqlite::Result<Model> {
    Ok(Model {
        id: row.get(0)?,
        name: row.get(1)?,
        origin: row.get(2)?,
        bytes: row.get(3)?,
        sha256: row.get(4)?,
        about: store::json(row, 5, "model")?,
        job: row.get(6)?,
        created: row.get(7)?,
        path: PathBuf::from(row.get::<_, String>(8)?),
    })
}

/// The model of an id.
///
/// # Errors
/// There is none.
pub fn get(connection: &Connection, id: i64) -> Result<Model, Problem> {
    let sql = format!("SELECT {COLUMNS} FROM models WHERE id = ?1");
    let found = connection.query_row(&sql, [id], read).optional()?;
    found.ok_or_else(|| Problem::missing(format!("there is no model {id}")))
}

/// Every model and every known architecture.
///
/// # Errors
/// Those of the database.
pub fn gallery(connection: &Connection) -> Result<Gallery, Problem> {
    let mut statement =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM models ORDER BY id DESC"))?;
    let models: Vec<Model> = statement.query_map([], read)?.collect::<Result<_, _>>()?;
    let known = registry::models().into_iter().map(|spec| {
        let accuracy = |published: &registry::Published| match published.accuracy {
            registry::Accuracy::Map50To95(share) | registry::Accuracy::Top1(share) => share,
        };
        let starts = |m: &&Model| m.origin != "run" && m.about.model.as_deref() == Some(&spec.name);
        Known {
            model: models.iter().find(starts).map(|model| model.id),
            provenance: spec.provenance.to_owned(),
            licence: spec.weights_licence.to_owned(),
            task: spec.task.name().to_owned(),
            accuracy: spec.published.as_ref().map(accuracy),
            parameters: spec.published.as_ref().map(|published| published.parameters),
            gflops: spec.published.as_ref().map(|published| published.gflops),
            name: spec.name,
        }
    });
    let mut known: Vec<Known> = known.collect();
    let size = |known: &Known| known.gflops.unwrap_or(f64::INFINITY);
    known.sort_by(|a, b| b.task.cmp(&a.task).then(size(a).total_cmp(&size(b))));
    Ok(Gallery { known, models })
}

/// Looks into a model file, in a process of its own, and keeps it.
async fn keep(
    app: &App,
    name: &str,
    origin: &'static str,
    path: &Path,
    job: Option<i64>,
) -> Result<i64, Problem> {
    let text =
        path.to_str().ok_or_else(|| Problem::invalid("the file's name is not valid Unicode"))?.to_owned();
    let document = program::onsa(app, &["inspect".into(), text.clone()]).await?;
    let sha256: String = serde_json::from_value(document["sha256"].clone())?;
    let about: About = serde_json::from_value(document)?;
    let about = serde_json::to_string(&about)?;
    let bytes = std::fs::metadata(path).map_err(|e| Problem::path("cannot read", path, &e))?.len() as i64;
    let name = name.to_owned();
    let id = app.store.write(move |t| {
        let sql = "INSERT INTO models (name, origin, path, bytes, sha256, about, job, created)
                   VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
                   ON CONFLICT (path) DO UPDATE SET bytes = ?4, sha256 = ?5, about = ?6";
        t.execute(sql, rusqlite::params![name, origin, text, bytes, sha256, about, job, now()])?;
        Ok(t.query_row("SELECT id FROM models WHERE path = ?1", [&text], |row| row.get(0))?)
    });
    let id = id.await?;
    app.tell(Event::Models);
    Ok(id)
}

/// Takes an uploaded file in as a model.
///
/// # Errors
/// It is no model file.
pub async fn add_upload(app: &App, upload: &str, name: &str) -> Result<i64, Problem> {
    let name = datasets::checked_name(name)?.to_owned();
    let (upload, file) = uploads::finished(app, upload).await?;
    let ending = ENDINGS.into_iter().find(|ending| has_ending(&upload.name, ending));
    let ending = ending.ok_or_else(|| {
        Problem::invalid(format!("{} is not a model file", upload.name))
            .hint("onsa reads .pt, .pth, .safetensors and .onnx")
    })?;
    let path = app.config.dir.join("models").join(format!("{}.{ending}", upload.id));
    std::fs::rename(&file, &path).map_err(|e| Problem::path("cannot move", &file, &e))?;
    match keep(app, &name, "upload", &path, None).await {
        Ok(id) => {
            uploads::forget(app, &upload.id).await?;
            Ok(id)
        }
        Err(problem) => {
            let _ = std::fs::remove_file(&path);
            uploads::forget(app, &upload.id).await?;
            Err(problem)
        }
    }
}

/// Takes in the best weights of a run.
///
/// # Errors
/// They cannot be read.
pub async fn add_run(app: &App, job: i64, best: &Path) -> Result<i64, Problem> {
    let name = app.store.read(move |c| Ok(record::get(c, job)?.name)).await?;
    keep(app, &name, "run", best, Some(job)).await
}

/// Forgets a model; an uploaded file is removed.
///
/// # Errors
/// There is none, or it is the result of a run (which goes with its run).
pub async fn delete(app: &App, id: i64) -> Result<(), Problem> {
    let model = app.store.read(move |c| get(c, id)).await?;
    if model.origin != "upload" {
        return Err(Problem::conflict("only uploaded models can be removed here").hint(
            "a run's model goes with its run; files that were found on this machine are not the studio's",
        ));
    }
    app.store
        .write(move |t| {
            t.execute("DELETE FROM models WHERE id = ?1", [id])?;
            Ok(())
        })
        .await?;
    // One without an endpoint has none to stop.
    let _ = crate::endpoints::stop(app, id);
    let _ = std::fs::remove_file(&model.path);
    app.tell(Event::Models);
    Ok(())
}

/// Finds starting models on this machine, and takes in what runs gave while no studio looked.
pub(super) async fn recover(app: &App) -> Result<(), Problem> {
    let known = app.store.read(|c| Ok(gallery(c)?.models)).await?;
    let mut files = Vec::new();
    for folder in &app.config.assets {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        files.extend(entries.filter_map(Result::ok).map(|entry| entry.path()));
    }
    files.sort();
    for path in files {
        let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let is_model = ENDINGS.iter().any(|ending| has_ending(&name, ending));
        if is_model && !known.iter().any(|model| model.path == path) {
            let stem = name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem);
            // A file that is no model of ours is none of the studio's business.
            let _ = keep(app, stem, "found", &path, None).await;
        }
    }
    let ended = app.store.read(|c| {
        let sql = "SELECT id FROM jobs WHERE state = 'done' AND id NOT IN (SELECT job FROM models WHERE job IS NOT NULL)";
        let mut statement = c.prepare(sql)?;
        Ok(statement.query_map([], |row| row.get::<_, i64>(0))?.collect::<Result<Vec<_>, _>>()?)
    });
    for job in ended.await? {
        let best = crate::jobs::folder(app, job).join("run/weights/best.safetensors");
        if best.is_file() {
            // The run stays done; its weights stay in its folder.
            let _ = add_run(app, job, &best).await;
        }
    }
    Ok(())
}

/// Finds objects in a picture file, in a process of its own: the document of `onsa predict --json` for it.
///
/// # Errors
/// The model or the picture cannot be read.
pub async fn predict(app: &App, model: i64, picture: &Path, conf: f64) -> Result<Value, Problem> {
    let model = app.store.read(move |c| get(c, model)).await?;
    let classifies = model.about.task.as_deref() == Some("classify");
    let side = model.about.imgsz.map_or(if classifies { 224 } else { 640 }, |[h, w]| h.max(w));
    let arguments = [
        "predict".to_owned(),
        format!("model={}", model.path.display()),
        format!("source={}", picture.display()),
        format!("imgsz={side}"),
        format!("conf={conf}"),
        "save=false".to_owned(),
    ];
    let mut document = program::onsa(app, &arguments).await?;
    let mut first = document.get_mut(0).map(Value::take).unwrap_or_default();
    if let Some(object) = first.as_object_mut() {
        // The person knows which picture; where it lay meanwhile is the studio's matter.
        object.remove("image");
    }
    Ok(first)
}
