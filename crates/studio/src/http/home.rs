//! What the application needs to know first.
use axum::Json;
use axum::extract::State;
use onsa_tune::train::recipe::TrainArgs;
use onsa_tune::train::recipe::table::Argument;
use schemars::JsonSchema;
use serde::Serialize;

use super::answer::Answer;
use super::{assets, openapi};
use crate::App;
use crate::jobs::strategy::Strategy;

/// Arguments that the studio itself sets, and that are the command line's matter.
pub(crate) const OWN: [&str; 8] =
    ["model", "data", "project", "name", "exist_ok", "verbose", "task", "pretrained"];

/// The studio.
#[derive(Serialize, JsonSchema)]
pub(super) struct Overview {
    version: &'static str,
    /// Whether the web application is in this program.
    application: bool,
    /// Whether models can be exported.
    exports: bool,
    datasets: i64,
    models: i64,
    runs: i64,
    /// Whether the sample data are on this machine.
    sample: bool,
}

pub(super) async fn about(State(app): State<App>) -> Answer<Overview> {
    let count = |c: &rusqlite::Connection, table: &str| {
        c.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0))
    };
    let counts =
        app.store.read(move |c| Ok((count(c, "datasets")?, count(c, "models")?, count(c, "jobs")?))).await?;
    Ok(Json(Overview {
        version: env!("CARGO_PKG_VERSION"),
        application: assets::present(),
        exports: app.config.exports,
        datasets: counts.0,
        models: counts.1,
        runs: counts.2,
        sample: app.config.assets.iter().any(|folder| folder.join("trees/data.yaml").is_file()),
    }))
}

/// How a training can be set up.
#[derive(Serialize, JsonSchema)]
pub(super) struct Recipe {
    /// Every argument of `onsa train` that a person can set here, in the help's order.
    arguments: Vec<ArgumentText>,
    /// Names of the strategies, the gentlest first.
    strategies: Vec<&'static str>,
    /// Training images a second that this machine has reached with 10^9 operations an image at 640 pixels, if a run
    /// has been measured: divide by the model's own.
    speed: Option<f64>,
}

/// An argument.
#[derive(Serialize, JsonSchema)]
struct ArgumentText {
    name: &'static str,
    heading: &'static str,
    help: String,
    /// What stands for the value, such as `NUMBER`.
    value: &'static str,
    /// True for arguments that are true or false.
    flag: bool,
    default: String,
}

impl ArgumentText {
    fn of(argument: &Argument) -> ArgumentText {
        ArgumentText {
            name: argument.name,
            heading: argument.heading,
            help: argument.help.trim().to_owned(),
            value: argument.value,
            flag: argument.flag,
            default: (argument.default)(),
        }
    }
}

pub(super) async fn recipe(State(app): State<App>) -> Answer<Recipe> {
    let speed = app.store.read(crate::jobs::record::speed).await?;
    let arguments = TrainArgs::TABLE.iter().filter(|argument| !OWN.contains(&argument.name));
    Ok(Json(Recipe {
        arguments: arguments.map(ArgumentText::of).collect(),
        strategies: Strategy::ALL.map(Strategy::name).to_vec(),
        speed,
    }))
}

pub(super) async fn documentation() -> Json<serde_json::Value> {
    Json(openapi::document())
}
