//! Training runs.
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::Response;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{self, Answer, Done, Made, done};
use crate::jobs::create::{self, NewJob};
use crate::jobs::record::{self, Curve, Job, State as JobState};
use crate::jobs::{self, queue};
use crate::protocol::{Event, files};
use crate::store::blocking;
use crate::{App, Problem};

/// Most bytes of a log that are shown: its end.
const LOG: u64 = 64 << 10;
/// Most runs that are compared at once.
const COMPARED: usize = 50;

/// Every run.
#[derive(Serialize, JsonSchema)]
pub(super) struct Jobs {
    jobs: Vec<Job>,
}

pub(super) async fn list(State(app): State<App>) -> Answer<Jobs> {
    Ok(Json(Jobs { jobs: app.store.read(record::list).await? }))
}

pub(super) async fn create(State(app): State<App>, Json(new): Json<NewJob>) -> Answer<Made> {
    Ok(Json(Made { id: create::create(&app, new).await? }))
}

pub(super) async fn get(State(app): State<App>, Path(id): Path<i64>) -> Answer<Job> {
    Ok(Json(app.store.read(move |c| record::get(c, id)).await?))
}

/// How a run is stopped.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Stop {
    /// At once, without saving: what came after the last epoch is lost.
    #[serde(default)]
    now: bool,
}

pub(super) async fn stop(State(app): State<App>, Path(id): Path<i64>, Json(how): Json<Stop>) -> Answer<Done> {
    queue::stop(&app, id, how.now).await?;
    Ok(done())
}

pub(super) async fn resume(State(app): State<App>, Path(id): Path<i64>) -> Answer<Done> {
    queue::resume(&app, id).await?;
    Ok(done())
}

/// A longer run.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Longer {
    /// Epochs in all, those done included.
    epochs: u32,
}

pub(super) async fn extend(
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(longer): Json<Longer>,
) -> Answer<Done> {
    queue::extend(&app, id, longer.epochs).await?;
    Ok(done())
}

pub(super) async fn delete(State(app): State<App>, Path(id): Path<i64>) -> Answer<Done> {
    let model = app.store.write(move |t| {
        let job = record::get(t, id)?;
        if matches!(job.state, JobState::Running | JobState::Stopping) {
            return Err(Problem::conflict("the run is at work: stop it first"));
        }
        // Its model goes with it: the file lies in the run's folder.
        t.execute("DELETE FROM models WHERE job = ?1 AND origin = 'run'", [id])?;
        t.execute("DELETE FROM jobs WHERE id = ?1", [id])?;
        Ok(job.result_model)
    });
    if let Some(model) = model.await? {
        // One without an endpoint has none to stop.
        let _ = crate::endpoints::stop(&app, model);
    }
    let folder = jobs::folder(&app, id);
    blocking(move || {
        // What stays is disk space only.
        let _ = std::fs::remove_dir_all(folder);
        Ok(())
    })
    .await?;
    app.tell(Event::Job { job: id });
    app.tell(Event::Models);
    Ok(done())
}

/// The end of a run's log.
#[derive(Serialize, JsonSchema)]
pub(super) struct Log {
    text: String,
    /// Whether something before it is left out.
    cut: bool,
}

pub(super) async fn log(State(app): State<App>, Path(id): Path<i64>) -> Answer<Log> {
    app.store.read(move |c| record::get(c, id)).await?;
    let path = jobs::folder(&app, id).join(files::LOG);
    let inside = format!("{}/", jobs::folder(&app, id).display());
    let log = blocking(move || {
        let Ok(mut file) = std::fs::File::open(&path) else {
            return Ok(Log { text: String::new(), cut: false });
        };
        let failed = |e: std::io::Error| Problem::path("cannot read", &path, &e);
        let length = file.metadata().map_err(failed)?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LOG))).map_err(failed)?;
        let mut bytes = Vec::new();
        file.take(LOG).read_to_end(&mut bytes).map_err(failed)?;
        Ok(Log { text: String::from_utf8_lossy(&bytes).replace(&inside, ""), cut: length > LOG })
    });
    Ok(Json(log.await?))
}

/// All curves of a run.
#[derive(Serialize, JsonSchema)]
pub(super) struct Curves {
    curves: Vec<Curve>,
}

pub(super) async fn curves(State(app): State<App>, Path(id): Path<i64>) -> Answer<Curves> {
    let curves = app.store.read(move |c| {
        record::get(c, id)?;
        record::curves(c, id)
    });
    Ok(Json(Curves { curves: curves.await? }))
}

/// Which runs and which figure are compared.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Comparing {
    /// Ids, separated by commas; at most 50.
    runs: String,
    /// The figure, such as `metric/mAP50-95`; by default the one that models of the runs' kind are judged by.
    figure: Option<String>,
}

/// One figure of several runs.
#[derive(Serialize, JsonSchema)]
pub(super) struct Comparison {
    /// The figure.
    figure: String,
    /// Every figure that one of the runs has.
    figures: Vec<String>,
    runs: Vec<Compared>,
}

/// A run beside others.
#[derive(Serialize, JsonSchema)]
struct Compared {
    job: Job,
    curve: Curve,
}

pub(super) async fn compare(State(app): State<App>, Query(asked): Query<Comparing>) -> Answer<Comparison> {
    let ids: Result<Vec<i64>, _> = asked.runs.split(',').filter(|t| !t.is_empty()).map(str::parse).collect();
    let ids = ids.map_err(|_| Problem::invalid("runs are ids, separated by commas"))?;
    if ids.len() > COMPARED {
        return Err(Problem::invalid(format!("at most {COMPARED} runs can be compared")));
    }
    let comparison = app.store.read(move |c| {
        let figures = record::figures(c, &ids)?;
        let judged = ["metric/mAP50-95", "metric/top1"];
        let usual = judged.into_iter().find(|name| figures.iter().any(|figure| figure == name));
        let figure = asked.figure.unwrap_or_else(|| usual.unwrap_or(judged[0]).to_owned());
        let compared = |id| Ok(Compared { job: record::get(c, id)?, curve: record::curve(c, id, &figure)? });
        let runs = ids.into_iter().map(compared).collect::<Result<Vec<_>, Problem>>()?;
        Ok(Comparison { figure, figures, runs })
    });
    Ok(Json(comparison.await?))
}

/// Pictures that a run has drawn.
#[derive(Serialize, JsonSchema)]
pub(super) struct Drawings {
    /// Names of files.
    names: Vec<String>,
}

/// The pictures in a run's folder, sorted.
fn drawn(app: &App, id: i64) -> Vec<(String, PathBuf)> {
    let folder = jobs::folder(app, id).join(files::RUN);
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    let mut found: Vec<(String, PathBuf)> = entries
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .filter(|(name, _)| [".jpg", ".png"].iter().any(|ending| name.ends_with(ending)))
        .collect();
    found.sort();
    found
}

pub(super) async fn drawings(State(app): State<App>, Path(id): Path<i64>) -> Answer<Drawings> {
    app.store.read(move |c| record::get(c, id)).await?;
    let names = blocking(move || Ok(drawn(&app, id).into_iter().map(|(name, _)| name).collect()));
    Ok(Json(Drawings { names: names.await? }))
}

pub(super) async fn drawing(
    State(app): State<App>,
    Path((id, name)): Path<(i64, String)>,
) -> Result<Response, Problem> {
    // The name is looked for in the listing and never becomes part of a path.
    let found = blocking(move || Ok(drawn(&app, id).into_iter().find(|(known, _)| *known == name)));
    let (_, path) = found.await?.ok_or_else(|| Problem::missing("there is no such picture"))?;
    let (kind, bytes) = crate::library::pictures::whole(path).await?;
    Ok(answer::picture(kind, bytes))
}
