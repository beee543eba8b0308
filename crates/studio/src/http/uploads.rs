//! Uploads and folders: the two ways in.
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::{Answer, Done, done};
use crate::App;
use crate::library::folders::{self, Listing};
use crate::library::uploads::{self, NewUpload, Upload};

/// Where a piece belongs.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Place {
    /// Bytes before it.
    offset: u64,
}

pub(super) async fn begin(State(app): State<App>, Json(new): Json<NewUpload>) -> Answer<Upload> {
    Ok(Json(uploads::begin(&app, new).await?))
}

pub(super) async fn get(State(app): State<App>, Path(id): Path<String>) -> Answer<Upload> {
    Ok(Json(uploads::get(&app, &id).await?))
}

pub(super) async fn add(
    State(app): State<App>,
    Path(id): Path<String>,
    Query(place): Query<Place>,
    body: Body,
) -> Answer<Upload> {
    Ok(Json(uploads::add(&app, &id, place.offset, body).await?))
}

pub(super) async fn forget(State(app): State<App>, Path(id): Path<String>) -> Answer<Done> {
    uploads::forget(&app, &id).await?;
    Ok(done())
}

pub(super) async fn folders(State(app): State<App>) -> Answer<Listing> {
    Ok(Json(folders::top(&app).await?))
}

pub(super) async fn folder(State(app): State<App>, Path(id): Path<i64>) -> Answer<Listing> {
    Ok(Json(folders::list(&app, id).await?))
}
