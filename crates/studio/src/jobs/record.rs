//! A job as the database and the API have it.
use rusqlite::{Connection, OptionalExtension, Row};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Problem;
use crate::protocol::{ErrorText, Line};
use crate::store::{self, now};

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Waits for its turn.
    Queued,
    /// Its worker runs.
    Running,
    /// Its worker was asked to stop.
    Stopping,
    /// Stopped by a person; can be resumed.
    Stopped,
    /// Done.
    Done,
    /// Ended with an error.
    Failed,
}

impl State {
    /// As the database has it.
    pub fn name(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Running => "running",
            State::Stopping => "stopping",
            State::Stopped => "stopped",
            State::Done => "done",
            State::Failed => "failed",
        }
    }

    fn parse(text: &str) -> State {
        [State::Queued, State::Running, State::Stopping, State::Stopped, State::Done]
            .into_iter()
            .find(|state| state.name() == text)
            .unwrap_or(State::Failed)
    }
}

/// A training run.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Job {
    /// Its id.
    pub id: i64,
    /// As the person calls it.
    pub name: String,
    /// Where it stands.
    pub state: State,
    /// The data set's id and name, and the version's id and number; none once deleted.
    pub data: Option<JobData>,
    /// The starting model's name.
    pub model_name: String,
    /// The strategy's name; `expert` for arguments set by hand.
    pub strategy: String,
    /// The arguments that differ from the defaults.
    pub arguments: Vec<(String, String)>,
    /// Workers started so far.
    pub attempt: u32,
    /// Epochs asked for.
    pub epochs: u32,
    /// Epochs done.
    pub epochs_done: u32,
    /// Best mAP50-95 (or top-1 accuracy) so far, a fraction of 1.
    pub best: Option<f64>,
    /// The worker's document (`onsa train --json`).
    pub summary: Option<serde_json::Value>,
    /// What went wrong.
    pub error: Option<ErrorText>,
    /// The model that came of it.
    pub result_model: Option<i64>,
    /// Milliseconds since 1970.
    pub created: i64,
    /// Milliseconds since 1970.
    pub started: Option<i64>,
    /// Milliseconds since 1970.
    pub finished: Option<i64>,
    /// What is passed to the worker as `model=`.
    #[serde(skip)]
    pub model: String,
    /// Workers in a row that ended without an outcome or a new epoch.
    #[serde(skip)]
    pub crashes: u32,
}

/// What a job trains on.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct JobData {
    /// The data set's id.
    pub dataset: i64,
    /// Its name.
    pub name: String,
    /// The version's id.
    pub version: i64,
    /// The version's number.
    pub number: i64,
}

const SELECT: &str =
    "SELECT j.id, j.name, j.state, j.model_name, j.strategy, j.arguments, j.attempt, j.epochs,
    j.summary, j.error, j.created, j.started, j.finished, j.model, j.crashes, v.id, v.number, d.id, d.name,
    (SELECT max(epoch) FROM figures WHERE job = j.id AND name = 'speed'),
    coalesce((SELECT max(value) FROM figures WHERE job = j.id AND name = 'metric/mAP50-95'),
             (SELECT max(value) FROM figures WHERE job = j.id AND name = 'metric/top1')),
    (SELECT id FROM models WHERE job = j.id LIMIT 1)
    FROM jobs j LEFT JOIN versions v ON v.id = j.version LEFT JOIN datasets d ON d.id = v.dataset";

fn read(row: &Row<'_>) -> rusqlite::Result<Job> {
    let state: String = row.get(2)?;
    let data = match row.get::<_, Option<i64>>(15)? {
        Some(version) => {
            Some(JobData { version, number: row.get(16)?, dataset: row.get(17)?, name: row.get(18)? })
        }
        None => None,
    };
    Ok(Job {
        id: row.get(0)?,
        name: row.get(1)?,
        state: State::parse(&state),
        data,
        model_name: row.get(3)?,
        strategy: row.get(4)?,
        arguments: store::json(row, 5, "run")?,
        attempt: row.get(6)?,
        epochs: row.get(7)?,
        epochs_done: row.get::<_, Option<u32>>(19)?.unwrap_or(0),
        best: row.get(20)?,
        summary: store::json_or_none(row, 8, "run")?,
        error: store::json_or_none(row, 9, "run")?,
        result_model: row.get(21)?,
        created: row.get(10)?,
        started: row.get(11)?,
        finished: row.get(12)?,
        model: row.get(13)?,
        crashes: row.get(14)?,
    })
}

/// The job of an id.
///
/// # Errors
/// There is none.
pub fn get(connection: &Connection, id: i64) -> Result<Job, Problem> {
    let job =
        connection.prepare_cached(&format!("{SELECT} WHERE j.id = ?1"))?.query_row([id], read).optional()?;
    job.ok_or_else(|| Problem::missing(format!("there is no run {id}")))
}

/// Every job, the newest first.
///
/// # Errors
/// Those of the database.
pub fn list(connection: &Connection) -> Result<Vec<Job>, Problem> {
    let mut statement = connection.prepare_cached(&format!("{SELECT} ORDER BY j.id DESC"))?;
    let jobs = statement.query_map([], read)?.collect::<Result<_, _>>()?;
    Ok(jobs)
}

/// The ids of the jobs in a state, the oldest first.
///
/// # Errors
/// Those of the database.
pub fn in_state(connection: &Connection, state: State) -> Result<Vec<i64>, Problem> {
    let mut statement = connection.prepare_cached("SELECT id FROM jobs WHERE state = ?1 ORDER BY id")?;
    let ids = statement.query_map([state.name()], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(ids)
}

/// Brings a job from one of the states `from` to `to`; says whether it was in one of them.
///
/// # Errors
/// Those of the database.
pub fn change(connection: &Connection, id: i64, from: &[State], to: State) -> Result<bool, Problem> {
    let from: Vec<String> = from.iter().map(|state| format!("'{}'", state.name())).collect();
    let ended = matches!(to, State::Done | State::Failed | State::Stopped).then(now);
    let sql = format!(
        "UPDATE jobs SET state = ?2, finished = ?3, error = CASE WHEN ?2 = 'queued' THEN NULL ELSE error END
         WHERE id = ?1 AND state IN ({})",
        from.join(", ")
    );
    Ok(connection.execute(&sql, rusqlite::params![id, to.name(), ended])? == 1)
}

/// Keeps the figures of a finished epoch; the same epoch again replaces them.
///
/// # Errors
/// Those of the database.
pub fn keep_epoch(connection: &Connection, id: i64, line: &Line) -> Result<(), Problem> {
    let Line::Epoch { epoch, losses, metrics, images_per_second, data_wait, .. } = line else {
        return Ok(());
    };
    let mut statement = connection
        .prepare_cached("INSERT OR REPLACE INTO figures (job, name, epoch, value) VALUES (?1, ?2, ?3, ?4)")?;
    let losses = losses.iter().map(|(name, value)| (format!("loss/{name}"), f64::from(*value)));
    let metrics = metrics.iter().map(|(name, value)| (format!("metric/{name}"), *value));
    let own = [("speed".to_owned(), *images_per_second), ("data_wait".to_owned(), *data_wait)];
    for (name, value) in losses.chain(metrics).chain(own) {
        // SQLite stores NaN as NULL; a figure that is none is not kept.
        if value.is_finite() {
            statement.execute(rusqlite::params![id, name, epoch, value])?;
        }
    }
    Ok(())
}

/// Training images a second that runs have reached, as if the model had 10^9 operations an image of 640 pixels; the
/// newest run counts. `None` before the first run.
///
/// # Errors
/// Those of the database.
pub fn speed(connection: &Connection) -> Result<Option<f64>, Problem> {
    let sql =
        "SELECT job, avg(value) FROM figures WHERE name = 'speed' GROUP BY job ORDER BY job DESC LIMIT 1";
    let found =
        connection.query_row(sql, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, f64>(1)?))).optional()?;
    let Some((job, rate)) = found else { return Ok(None) };
    let job = get(connection, job)?;
    let known = onsa_tune::models::registry::detectors();
    let named = |name: &str| {
        known
            .iter()
            .find(|spec| spec.name == name)
            .and_then(|spec| spec.published)
            .map(|published| published.gflops)
    };
    let model = connection
        .query_row("SELECT about ->> 'model' FROM models WHERE path = ?1", [&job.model], |row| {
            row.get::<_, Option<String>>(0)
        })
        .optional()?
        .flatten();
    let gflops = named(model.as_deref().unwrap_or(&job.model));
    let side =
        job.arguments.iter().find(|(name, _)| name == "imgsz").and_then(|(_, text)| text.parse::<f64>().ok());
    let share = (side.unwrap_or(640.0) / 640.0).powi(2);
    Ok(gflops.map(|gflops| rate * gflops * share))
}

/// A figure of a run, epoch by epoch.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Curve {
    /// Such as `loss/box`, `metric/mAP50`, `speed`.
    pub name: String,
    /// Epochs, from 1, ascending.
    pub epochs: Vec<u32>,
    /// Their values.
    pub values: Vec<f64>,
}

/// All curves of a run.
///
/// # Errors
/// Those of the database.
pub fn curves(connection: &Connection, id: i64) -> Result<Vec<Curve>, Problem> {
    let sql = "SELECT name, epoch, value FROM figures WHERE job = ?1 ORDER BY name, epoch";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([id])?;
    let mut curves: Vec<Curve> = Vec::new();
    while let Some(row) = rows.next()? {
        let name = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        if curves.last().is_none_or(|curve| curve.name != name) {
            curves.push(Curve { name: name.to_owned(), epochs: Vec::new(), values: Vec::new() });
        }
        if let Some(curve) = curves.last_mut() {
            curve.epochs.push(row.get(1)?);
            curve.values.push(row.get(2)?);
        }
    }
    Ok(curves)
}

/// One figure of a run.
///
/// # Errors
/// Those of the database.
pub fn curve(connection: &Connection, id: i64, name: &str) -> Result<Curve, Problem> {
    let sql = "SELECT epoch, value FROM figures WHERE job = ?1 AND name = ?2 ORDER BY epoch";
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query((id, name))?;
    let mut curve = Curve { name: name.to_owned(), epochs: Vec::new(), values: Vec::new() };
    while let Some(row) = rows.next()? {
        curve.epochs.push(row.get(0)?);
        curve.values.push(row.get(1)?);
    }
    Ok(curve)
}

/// The names of all figures that any of the runs has, sorted.
///
/// # Errors
/// Those of the database.
pub fn figures(connection: &Connection, ids: &[i64]) -> Result<Vec<String>, Problem> {
    // From name to name in the index: a run has few names and very many rows.
    let sql = "WITH RECURSIVE n (name) AS (
                   SELECT min(name) FROM figures WHERE job = ?1
                   UNION ALL SELECT (SELECT min(name) FROM figures WHERE job = ?1 AND name > n.name) FROM n
                   WHERE n.name IS NOT NULL)
               SELECT name FROM n WHERE name IS NOT NULL";
    let mut statement = connection.prepare_cached(sql)?;
    let mut names = std::collections::BTreeSet::new();
    for id in ids {
        for name in statement.query_map([id], |row| row.get::<_, String>(0))? {
            names.insert(name?);
        }
    }
    Ok(names.into_iter().collect())
}
