//! Inference endpoints: a model behind `onsa serve`, a process each, on a free port of this machine and with a key of its
//! own.
//!
//! ```text
//! starting -> running -> stopping -> (gone)
//!     \          \-> starting     the process died: it is started again, on the same port and with the same key
//!      \-> failed                 it never answered, or died again and again
//! ```
//! An endpoint lives at most as long as the studio: its process ends when its standard input does, and the system closes
//! that however the studio ends. Nothing of it is written to the disk, the key least of all.
mod process;
mod requests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::Notify;

use crate::library::models;
use crate::protocol::{ErrorText, Event};
use crate::store::now;
use crate::{App, Problem, config};

/// Bytes of randomness in a key.
const KEY_BYTES: usize = 24;
/// So many deaths in a row, each sooner than [`SOON`] after the process began to answer, mean that it cannot work.
const DEATHS: u32 = 3;
/// See [`DEATHS`].
const SOON: Duration = Duration::from_secs(60);
/// The studio waits so long for its endpoints to answer what is under way.
const FAREWELL: Duration = Duration::from_secs(10);

/// Where an endpoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The model is being loaded.
    Starting,
    /// It answers.
    Running,
    /// It answers what is under way, and ends.
    Stopping,
    /// It could not be started, or died.
    Failed,
}

/// An inference endpoint.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Endpoint {
    /// The model's id.
    pub model: i64,
    /// The model's name.
    pub name: String,
    /// Where it stands.
    pub state: State,
    /// Such as `http://127.0.0.1:40123`; none before it answers.
    pub address: Option<String>,
    /// What every request must carry: `Authorization: Bearer KEY`.
    pub key: String,
    /// Pictures answered; none where the process does not say.
    pub answered: Option<u64>,
    /// Requests turned away; none where the process does not say.
    pub refused: Option<u64>,
    /// Milliseconds since 1970.
    pub started: i64,
    /// Why it failed.
    pub error: Option<ErrorText>,
}

/// One endpoint as the studio keeps it.
struct Kept {
    endpoint: Endpoint,
    address: Option<SocketAddr>,
    stop: Arc<Notify>,
}

/// All endpoints, by model.
#[derive(Default)]
pub struct Endpoints(Mutex<BTreeMap<i64, Kept>>);

impl Endpoints {
    fn all(&self) -> MutexGuard<'_, BTreeMap<i64, Kept>> {
        // Whole entries are written under the lock: a panic leaves none half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, model: i64, change: impl FnOnce(&mut Kept)) {
        if let Some(kept) = self.all().get_mut(&model) {
            change(kept);
        }
    }
}

fn tell(app: &App, model: i64) {
    app.tell(Event::Endpoint { model });
}

/// Starts a model's endpoint; one that runs already is given as it is.
///
/// # Errors
/// There is no such model, or it is of no kind that onsa knows.
pub async fn start(app: &App, id: i64) -> Result<Endpoint, Problem> {
    let model = app.store.read(move |c| models::get(c, id)).await?;
    if model.about.family.is_none() {
        return Err(Problem::invalid("only a model of a kind that onsa knows can answer requests")
            .hint("take its file along and run it in a program that knows it"));
    }
    let stop = Arc::new(Notify::new());
    let endpoint = Endpoint {
        model: id,
        name: model.name.clone(),
        state: State::Starting,
        address: None,
        key: config::random_text(KEY_BYTES)?,
        answered: None,
        refused: None,
        started: now(),
        error: None,
    };
    {
        let mut all = app.endpoints.all();
        if let Some(kept) = all.get(&id).filter(|kept| kept.endpoint.state != State::Failed) {
            return Ok(kept.endpoint.clone());
        }
        all.insert(id, Kept { endpoint: endpoint.clone(), address: None, stop: Arc::clone(&stop) });
    }
    tokio::spawn(supervise(app.clone(), model, endpoint.key.clone(), stop));
    tell(app, id);
    Ok(endpoint)
}

/// Keeps a model's process running until it is told to stop or proves unable to work.
async fn supervise(app: App, model: models::Model, key: String, stop: Arc<Notify>) {
    let id = model.id;
    let (mut port, mut deaths) = (0, 0);
    loop {
        let mut answered_since = None;
        let wish = process::Wish { model: &model, key: &key, port };
        let answers = |address: SocketAddr| {
            (port, answered_since) = (address.port(), Some(Instant::now()));
            app.endpoints.change(id, |kept| {
                kept.address = Some(address);
                kept.endpoint.address = Some(format!("http://{address}"));
                // Told to stop meanwhile, it stays one that stops.
                if kept.endpoint.state == State::Starting {
                    kept.endpoint.state = State::Running;
                }
            });
            tell(&app, id);
        };
        let problem = match process::run(&app, wish, &stop, answers).await {
            Ok(()) => {
                app.endpoints.all().remove(&id);
                tell(&app, id);
                return;
            }
            Err(problem) => problem,
        };
        let since: Option<Instant> = answered_since;
        deaths = if since.is_some_and(|since| since.elapsed() >= SOON) { 0 } else { deaths + 1 };
        let goes_on = since.is_some() && deaths < DEATHS;
        app.endpoints.change(id, |kept| {
            kept.address = None;
            kept.endpoint.address = None;
            kept.endpoint.state = if goes_on { State::Starting } else { State::Failed };
            kept.endpoint.error = (!goes_on).then(|| ErrorText {
                message: problem.message.clone(),
                causes: Vec::new(),
                hint: problem.hint.clone(),
            });
        });
        tell(&app, id);
        if !goes_on {
            return;
        }
    }
}

/// Ends a model's endpoint, once it has answered what is under way; one that failed is forgotten.
///
/// # Errors
/// There is none.
pub fn stop(app: &App, model: i64) -> Result<(), Problem> {
    let mut all = app.endpoints.all();
    let missing = || Problem::missing("this model has no endpoint");
    let kept = all.get_mut(&model).ok_or_else(missing)?;
    if kept.endpoint.state == State::Failed {
        all.remove(&model);
    } else {
        kept.endpoint.state = State::Stopping;
        kept.stop.notify_one();
    }
    drop(all);
    tell(app, model);
    Ok(())
}

/// A model's endpoint with its figures.
pub async fn get(app: &App, model: i64) -> Option<Endpoint> {
    let (mut endpoint, address) = {
        let all = app.endpoints.all();
        let kept = all.get(&model)?;
        (kept.endpoint.clone(), kept.address)
    };
    if let Some(counts) = requests::count(address, &endpoint.key).await {
        (endpoint.answered, endpoint.refused) = (Some(counts.answered), Some(counts.refused));
    }
    Some(endpoint)
}

/// Every endpoint, without figures.
pub fn list(app: &App) -> Vec<Endpoint> {
    app.endpoints.all().values().map(|kept| kept.endpoint.clone()).collect()
}

/// Ends all of them and waits a moment.
pub async fn shut_down(app: &App) {
    let models: Vec<i64> = app.endpoints.all().keys().copied().collect();
    for model in models {
        // One that has gone meanwhile need not be stopped.
        let _ = stop(app, model);
    }
    let began = Instant::now();
    while !app.endpoints.all().is_empty() && began.elapsed() < FAREWELL {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
