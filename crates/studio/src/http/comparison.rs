//! Models side by side on the same validation pictures.
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::{self, Answer, Done, done};
use crate::library::comparison::{self, Comparison};
use crate::library::{evaluations, pictures, versions};
use crate::{App, Problem};

/// Most models that are measured for one comparison.
const MODELS: usize = 8;

/// Models to be measured on the validation pictures of a version.
#[derive(Deserialize, JsonSchema)]
pub(super) struct NewComparison {
    /// Their ids; at most 8.
    models: Vec<i64>,
    /// The version's id.
    version: i64,
}

pub(super) async fn begin(State(app): State<App>, Json(new): Json<NewComparison>) -> Answer<Done> {
    if new.models.is_empty() || new.models.len() > MODELS {
        return Err(Problem::invalid(format!("from 1 to {MODELS} models can be measured at once")));
    }
    for model in new.models {
        evaluations::begin(&app, model, new.version).await?;
    }
    Ok(done())
}

/// Which comparison is asked for.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Asked {
    /// Ids of models, separated by commas; at most 8.
    models: String,
    /// The version's id.
    version: i64,
}

pub(super) async fn get(State(app): State<App>, Query(asked): Query<Asked>) -> Answer<Comparison> {
    let ids: Result<Vec<i64>, _> = asked.models.split(',').map(str::parse).collect();
    let ids = ids.map_err(|_| Problem::invalid("models are ids, separated by commas"))?;
    if ids.len() > MODELS {
        return Err(Problem::invalid(format!("from 1 to {MODELS} models can be measured at once")));
    }
    Ok(Json(comparison::compare(&app, ids, asked.version).await?))
}

/// A validation picture of a version, by its file's name.
pub(super) async fn picture(
    State(app): State<App>,
    Path((id, name)): Path<(i64, String)>,
) -> Result<Response, Problem> {
    let version = app.store.read(move |c| versions::get(c, id)).await?;
    let found = crate::store::blocking(move || versions::val_picture(&version, &name)).await?;
    let (kind, bytes) = pictures::whole(found).await?;
    Ok(answer::picture(kind, bytes))
}
