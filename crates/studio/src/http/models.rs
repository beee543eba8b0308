//! Models: what is there, trying one, taking one away.
use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::{self, Answer, Done, Made, done};
use crate::library::exports::{self, Exported};
use crate::library::models::{self, Gallery, Model};
use crate::{App, Problem, config};

pub(super) async fn gallery(State(app): State<App>) -> Answer<Gallery> {
    Ok(Json(app.store.read(models::gallery).await?))
}

/// A finished upload that is to be a model.
#[derive(Deserialize, JsonSchema)]
pub(super) struct NewModel {
    /// The upload's id.
    upload: String,
    /// The model's name.
    name: String,
}

pub(super) async fn add(State(app): State<App>, Json(new): Json<NewModel>) -> Answer<Made> {
    Ok(Json(Made { id: models::add_upload(&app, &new.upload, &new.name).await? }))
}

pub(super) async fn get(State(app): State<App>, Path(id): Path<i64>) -> Answer<Model> {
    Ok(Json(app.store.read(move |c| models::get(c, id)).await?))
}

pub(super) async fn delete(State(app): State<App>, Path(id): Path<i64>) -> Answer<Done> {
    models::delete(&app, id).await?;
    Ok(done())
}

/// How a picture is tried.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Trial {
    /// Least confidence, 0 to 1; 0.05 where it is not given.
    conf: Option<f64>,
}

/// Finds objects in the picture that is sent.
pub(super) async fn predict(
    State(app): State<App>,
    Path(id): Path<i64>,
    Query(trial): Query<Trial>,
    picture: Bytes,
) -> Answer<Value> {
    let conf = trial.conf.unwrap_or(0.05);
    if !(0.0..=1.0).contains(&conf) {
        return Err(Problem::invalid("conf is from 0 to 1"));
    }
    if picture.is_empty() {
        return Err(Problem::invalid("send a picture: JPEG, PNG, WebP, BMP, TIFF or DICOM"));
    }
    // The file's name is the studio's own; the content decides what it is.
    let path = app.config.dir.join("cache").join(format!("trial-{}.img", config::random_text(8)?));
    tokio::fs::write(&path, &picture).await.map_err(|e| Problem::path("cannot write", &path, &e))?;
    let found = models::predict(&app, id, &path, conf).await;
    let _ = tokio::fs::remove_file(&path).await;
    Ok(Json(found?))
}

/// The model file as it is.
pub(super) async fn file(State(app): State<App>, Path(id): Path<i64>) -> Result<Response, Problem> {
    let model = app.store.read(move |c| models::get(c, id)).await?;
    let ending = model.path.extension().map_or_else(String::new, |e| format!(".{}", e.to_string_lossy()));
    answer::download(&model.path, &format!("{}{ending}", model.name), "application/octet-stream").await
}

/// The format of an export.
#[derive(Deserialize, JsonSchema)]
pub(super) struct AsFormat {
    /// `onnx`, `onnx-whole`, `torch`, `safetensors`, `tflite` or `tflite-int8`.
    format: String,
    /// The data set whose newest version's pictures the export is proved on, and which give the ranges of 8-bit numbers; by
    /// default those that the model was trained on, where a run of the studio trained it.
    dataset: Option<i64>,
}

/// Exports of a model.
#[derive(Serialize, JsonSchema)]
pub(super) struct Exports {
    exports: Vec<Exported>,
}

pub(super) async fn exports(State(app): State<App>, Path(id): Path<i64>) -> Answer<Exports> {
    Ok(Json(Exports { exports: exports::list(&app, id).await? }))
}

pub(super) async fn export(
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(wish): Json<AsFormat>,
) -> Answer<Exported> {
    Ok(Json(exports::export(&app, id, &wish.format, wish.dataset).await?))
}

/// An export that was made.
pub(super) async fn exported(
    State(app): State<App>,
    Path((id, format)): Path<(i64, String)>,
) -> Result<Response, Problem> {
    let (path, name) = exports::file(&app, id, &format).await?;
    let ending = path.extension().map_or_else(String::new, |e| format!(".{}", e.to_string_lossy()));
    answer::download(&path, &format!("{name}{ending}"), "application/octet-stream").await
}
