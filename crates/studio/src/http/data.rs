//! Data sets, images, boxes, versions.
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::{self, Answer, Done, Made, done};
use crate::library::annotations::{self, Boxed, NewBoxes, NewSplit, Saved};
use crate::library::datasets::{self, Dataset};
use crate::library::export::{self, Form};
use crate::library::images::{self, Filter, Histograms, Image, Page};
use crate::library::import::{self, NewDataset};
use crate::library::prelabel::{self, Begun, Wish};
use crate::library::remedies::{self, Mended};
use crate::library::versions::{self, Version};
use crate::library::{models, pictures};
use crate::protocol::Event;
use crate::store::blocking;
use crate::{App, Problem};

/// Least confidence of boxes that a model suggests.
const SUGGESTED: f64 = 0.25;

/// A list of data sets.
#[derive(Serialize, JsonSchema)]
pub(super) struct Datasets {
    datasets: Vec<Dataset>,
}

/// A new name.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Named {
    name: String,
}

pub(super) async fn list(State(app): State<App>) -> Answer<Datasets> {
    Ok(Json(Datasets { datasets: app.store.read(datasets::list).await? }))
}

pub(super) async fn begin(State(app): State<App>, Json(new): Json<NewDataset>) -> Answer<Made> {
    Ok(Json(Made { id: import::begin(&app, new).await? }))
}

pub(super) async fn get(State(app): State<App>, Path(id): Path<i64>) -> Answer<Dataset> {
    Ok(Json(app.store.read(move |c| datasets::get(c, id)).await?))
}

pub(super) async fn rename(
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(new): Json<Named>,
) -> Answer<Done> {
    app.store.write(move |t| datasets::rename(t, id, &new.name)).await?;
    changed(&app, id);
    Ok(done())
}

fn changed(app: &App, dataset: i64) {
    app.tell(Event::Dataset { dataset, stage: None, done: 0, total: 0 });
}

pub(super) async fn delete(State(app): State<App>, Path(id): Path<i64>) -> Answer<Done> {
    datasets::delete(&app, id).await?;
    Ok(done())
}

pub(super) async fn audit(State(app): State<App>, Path(id): Path<i64>) -> Answer<Value> {
    let audit = app.store.read(move |c| {
        let mut audit = datasets::audit(c, id)?;
        audit["mended"] = remedies::applied(c, id)?.into();
        Ok(audit)
    });
    Ok(Json(audit.await?))
}

/// A kind of fault.
#[derive(Deserialize, JsonSchema)]
pub(super) struct OfKind {
    /// As the report names it, such as `zero_size_box`.
    kind: String,
}

pub(super) async fn mend(
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(fault): Json<OfKind>,
) -> Answer<Mended> {
    let mut mended = app.store.write(move |t| remedies::apply(t, id, &fault.kind)).await?;
    changed(&app, id);
    if mended.images > 0 {
        let again = app.clone();
        let version = blocking(move || versions::snapshot(&again, id, remedies::NOTE)).await?;
        mended.version = Some(version.number);
        changed(&app, id);
    }
    Ok(Json(mended))
}

pub(super) async fn prelabel(
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(wish): Json<Wish>,
) -> Answer<Begun> {
    Ok(Json(prelabel::begin(&app, id, wish).await?))
}

pub(super) async fn stop_prelabel(State(app): State<App>, Path(id): Path<i64>) -> Answer<Done> {
    prelabel::stop(&app, id)?;
    Ok(done())
}

pub(super) async fn histograms(State(app): State<App>, Path(id): Path<i64>) -> Answer<Histograms> {
    Ok(Json(app.store.read(move |c| images::histograms(c, id)).await?))
}

pub(super) async fn page(
    State(app): State<App>,
    Path(id): Path<i64>,
    Query(filter): Query<Filter>,
) -> Answer<Page> {
    Ok(Json(app.store.read(move |c| images::page(c, id, &filter)).await?))
}

pub(super) async fn add_class(
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(new): Json<Named>,
) -> Answer<Done> {
    app.store.write(move |t| annotations::set_class(t, id, None, &new.name)).await?;
    changed(&app, id);
    Ok(done())
}

pub(super) async fn rename_class(
    State(app): State<App>,
    Path((id, class)): Path<(i64, usize)>,
    Json(new): Json<Named>,
) -> Answer<Done> {
    app.store.write(move |t| annotations::set_class(t, id, Some(class), &new.name)).await?;
    changed(&app, id);
    Ok(done())
}

pub(super) async fn divide(
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(new): Json<NewSplit>,
) -> Answer<Done> {
    app.store.write(move |t| annotations::divide(t, id, &new)).await?;
    changed(&app, id);
    Ok(done())
}

pub(super) async fn image(State(app): State<App>, Path(id): Path<i64>) -> Answer<Image> {
    Ok(Json(app.store.read(move |c| images::get(c, id)).await?))
}

pub(super) async fn save_boxes(
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(new): Json<NewBoxes>,
) -> Answer<Saved> {
    Ok(Json(app.store.write(move |t| annotations::save(t, id, &new)).await?))
}

async fn path_of(app: &App, id: i64) -> Result<std::path::PathBuf, Problem> {
    let image = app.store.read(move |c| images::get(c, id)).await?;
    let path = std::path::PathBuf::from(image.path);
    // The file may have become a link since it was imported.
    let (app, looked) = (app.clone(), path.clone());
    let dataset = image.dataset;
    let held = blocking(move || {
        let root = app.store.read_now(|c| Ok(datasets::get(c, dataset)?.root))?;
        Ok(import::bounds(&app, std::path::Path::new(&root)).hold(&looked))
    });
    if held.await? {
        Ok(path)
    } else {
        Err(Problem::missing("the picture lies outside the data set's folder"))
    }
}

pub(super) async fn thumbnail(State(app): State<App>, Path(id): Path<i64>) -> Result<Response, Problem> {
    let path = path_of(&app, id).await?;
    Ok(answer::picture("image/jpeg", pictures::thumbnail(&app, path).await?))
}

pub(super) async fn picture(State(app): State<App>, Path(id): Path<i64>) -> Result<Response, Problem> {
    let (kind, bytes) = pictures::whole(path_of(&app, id).await?).await?;
    Ok(answer::picture(kind, bytes))
}

/// Which model is to suggest boxes.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Suggester {
    model: i64,
}

/// Boxes that a model suggests, with the data set's class numbers.
#[derive(Serialize, JsonSchema)]
pub(super) struct Suggestion {
    boxes: Vec<Boxed>,
    /// Boxes of classes that the data set does not have.
    left_out: usize,
}

pub(super) async fn suggest(
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(by): Json<Suggester>,
) -> Answer<Suggestion> {
    let (image, classes) = app
        .store
        .read(move |c| {
            let image = images::get(c, id)?;
            let classes = datasets::get(c, image.dataset)?.classes;
            Ok((image, classes))
        })
        .await?;
    let found = models::predict(&app, by.model, std::path::Path::new(&image.path), SUGGESTED).await?;
    let (boxes, left_out) = annotations::of_prediction(&found, &classes, (image.width, image.height));
    Ok(Json(Suggestion { boxes, left_out }))
}

/// A data set's versions.
#[derive(Serialize, JsonSchema)]
pub(super) struct Versions {
    versions: Vec<Version>,
}

/// Why a version is made.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Note {
    #[serde(default)]
    note: String,
}

pub(super) async fn versions(State(app): State<App>, Path(id): Path<i64>) -> Answer<Versions> {
    Ok(Json(Versions { versions: app.store.read(move |c| versions::list(c, id)).await? }))
}

pub(super) async fn snapshot(
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(new): Json<Note>,
) -> Answer<Version> {
    let version = blocking({
        let app = app.clone();
        move || versions::snapshot(&app, id, new.note.trim())
    })
    .await?;
    changed(&app, id);
    Ok(Json(version))
}

/// The form of an export.
#[derive(Deserialize, JsonSchema)]
pub(super) struct AsForm {
    /// `yolo`, `coco` or `folders`.
    format: String,
}

pub(super) async fn export(
    State(app): State<App>,
    Path(id): Path<i64>,
    Query(form): Query<AsForm>,
) -> Result<Response, Problem> {
    let format = Form::named(&form.format)?;
    let (version, name) = app
        .store
        .read(move |c| {
            let version = versions::get(c, id)?;
            let name = datasets::get(c, version.dataset)?.name;
            Ok((version, name))
        })
        .await?;
    let file = format!("{name}-v{}-{}.zip", version.number, form.format);
    let path = blocking({
        let app = app.clone();
        move || export::zip(&app, &version, format)
    })
    .await?;
    answer::download(&path, &file, "application/zip").await
}
