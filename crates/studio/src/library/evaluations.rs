//! Models on the validation pictures of a version: measured once, in a process of its own, and kept.
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::models::{self, Model};
use super::versions::{self, Version};
use super::{datasets, program};
use crate::protocol::{ErrorText, Event};
use crate::store::blocking;
use crate::{App, Problem};

/// Where the measuring of a model stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not begun.
    None,
    /// It goes on.
    Running,
    /// Its figures are there.
    Done,
    /// It could not be done.
    Failed,
}

/// What was measured of a model.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Measured {
    model_sha256: String,
    /// The document of `onsa val --json`.
    pub metrics: Value,
    /// What was said of each picture (`predictions=` of `onsa val`).
    pub pictures: Vec<Picture>,
}

/// What a model said of a picture.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Picture {
    /// The file.
    pub image: PathBuf,
    pub width: u32,
    pub height: u32,
    /// A detector's boxes.
    #[serde(default)]
    pub boxes: Vec<Marked>,
    /// The boxes that are labelled.
    #[serde(default)]
    pub labels: Vec<Marked>,
    /// A classifier's likeliest classes.
    #[serde(default)]
    pub top5: Vec<Named>,
    /// The class that is labelled.
    pub label: Option<Named>,
}

/// A box in pixels of the picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Marked {
    /// Class number.
    pub class: u32,
    /// Class name.
    pub name: String,
    /// Confidence; 1 for a label.
    #[serde(default = "certain")]
    pub score: f32,
    /// Left, top, right, bottom.
    pub xyxy: [f32; 4],
}

/// A class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Named {
    /// Class number.
    pub class: u32,
    /// Class name.
    pub name: String,
    /// Probability; 1 for a label.
    #[serde(default = "certain")]
    pub score: f32,
}

fn certain() -> f32 {
    1.0
}

/// What is being measured, and what failed since the studio's start: by model and version.
#[derive(Default)]
pub struct Evaluations(Mutex<BTreeMap<(i64, i64), Option<ErrorText>>>);

impl Evaluations {
    fn all(&self) -> MutexGuard<'_, BTreeMap<(i64, i64), Option<ErrorText>>> {
        // Single entries are written under the lock: a panic leaves none half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn kept_at(app: &App, model: i64, version: i64) -> PathBuf {
    app.config.dir.join("cache").join(format!("val-{model}-{version}.json"))
}

/// What is kept of an earlier measuring, if it was of the model as it is now. On this thread.
fn kept(app: &App, model: &Model, version: i64) -> Result<Option<Measured>, Problem> {
    let path = kept_at(app, model.id, version);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Problem::path("cannot read", &path, &e)),
    };
    let measured: Measured = serde_json::from_slice(&bytes)
        .map_err(|e| Problem::path("what was measured is damaged: remove", &path, &e))?;
    Ok(Some(measured).filter(|measured| measured.model_sha256 == model.sha256))
}

/// Where the measuring of a model stands, with what came of it.
pub(super) fn look(
    app: &App,
    model: &Model,
    version: i64,
) -> Result<(State, Option<Measured>, Option<ErrorText>), Problem> {
    match app.evaluations.all().get(&(model.id, version)) {
        Some(None) => return Ok((State::Running, None, None)),
        Some(Some(error)) => return Ok((State::Failed, None, Some(error.clone()))),
        None => {}
    }
    let measured = kept(app, model, version)?;
    Ok((if measured.is_some() { State::Done } else { State::None }, measured, None))
}

/// Begins to measure a model on the validation pictures of a version, unless that was done or goes on.
///
/// # Errors
/// There is no such model or version.
pub async fn begin(app: &App, model: i64, version: i64) -> Result<(), Problem> {
    let (model, version) =
        app.store.read(move |c| Ok((models::get(c, model)?, versions::get(c, version)?))).await?;
    let looked = {
        let (app, model, version) = (app.clone(), model.clone(), version.id);
        blocking(move || Ok(look(&app, &model, version)?.0)).await?
    };
    let key = (model.id, version.id);
    {
        let mut all = app.evaluations.all();
        if looked == State::Done || matches!(all.get(&key), Some(None)) {
            return Ok(());
        }
        all.insert(key, None);
    }
    let app = app.clone();
    tokio::spawn(async move {
        let outcome = measure(&app, &model, &version).await;
        {
            let mut all = app.evaluations.all();
            match outcome {
                Ok(()) => drop(all.remove(&key)),
                Err(problem) => {
                    let error =
                        ErrorText { message: problem.message, causes: Vec::new(), hint: problem.hint };
                    all.insert(key, Some(error));
                }
            }
        }
        app.tell(Event::Evaluation { model: model.id, version: version.id });
    });
    Ok(())
}

async fn measure(app: &App, model: &Model, version: &Version) -> Result<(), Problem> {
    let dataset = version.dataset;
    let classify = app.store.read(move |c| Ok(datasets::get(c, dataset)?.classifies())).await?;
    if classify != (model.about.task.as_deref() == Some("classify")) {
        return Err(Problem::invalid("the model and the data set are for different tasks"));
    }
    let said = kept_at(app, model.id, version.id).with_extension("new.json");
    let data = if classify { version.root.clone() } else { version.root.join("data.yaml") };
    let side = model.about.imgsz.map_or(if classify { 224 } else { 640 }, |[h, w]| h.max(w));
    let mut arguments = vec![
        "val".to_owned(),
        format!("model={}", model.path.display()),
        format!("data={}", data.display()),
        format!("imgsz={side}"),
        format!("predictions={}", said.display()),
        "plots=false".to_owned(),
    ];
    if !classify {
        arguments.push("intervals=true".to_owned());
    }
    let metrics = program::onsa(app, &arguments).await?;
    let (path, sha256) = (kept_at(app, model.id, version.id), model.sha256.clone());
    blocking(move || {
        let bytes = std::fs::read(&said).map_err(|e| Problem::path("cannot read", &said, &e))?;
        let pictures = serde_json::from_slice(&bytes)?;
        let measured = Measured { model_sha256: sha256, metrics, pictures };
        onsa_tune::durable::write(&path, &serde_json::to_vec(&measured)?)?;
        // Only disk space is lost where it stays.
        let _ = std::fs::remove_file(&said);
        Ok(())
    })
    .await
}
