//! Inference endpoints: started, looked at, stopped.
use axum::Json;
use axum::extract::{Path, State};
use schemars::JsonSchema;
use serde::Serialize;

use super::answer::{Answer, Done, done};
use crate::App;
use crate::endpoints::{self, Endpoint};
use crate::library::models;

/// Every endpoint.
#[derive(Serialize, JsonSchema)]
pub(super) struct Endpoints {
    endpoints: Vec<Endpoint>,
}

pub(super) async fn list(State(app): State<App>) -> Answer<Endpoints> {
    Ok(Json(Endpoints { endpoints: endpoints::list(&app) }))
}

/// A model's endpoint.
#[derive(Serialize, JsonSchema)]
pub(super) struct OfModel {
    /// None where it is not started.
    endpoint: Option<Endpoint>,
}

pub(super) async fn get(State(app): State<App>, Path(id): Path<i64>) -> Answer<OfModel> {
    app.store.read(move |c| models::get(c, id)).await?;
    Ok(Json(OfModel { endpoint: endpoints::get(&app, id).await }))
}

pub(super) async fn start(State(app): State<App>, Path(id): Path<i64>) -> Answer<Endpoint> {
    Ok(Json(endpoints::start(&app, id).await?))
}

pub(super) async fn stop(State(app): State<App>, Path(id): Path<i64>) -> Answer<Done> {
    endpoints::stop(&app, id)?;
    Ok(done())
}
