//! The studio: fine-tuning in a browser. A run store in SQLite, a queue with one worker process a job, an HTTP API and
//! the web application that uses it.
//!
//! The way of a request: [`http`] checks who asks and calls [`library`] (data sets and models on disk) or [`jobs`] (the
//! queue); both keep what must survive in [`store`]. [`worker`] is the other side: what a training process does when the
//! studio has started it.
#![forbid(unsafe_code)]

pub mod config;
pub mod endpoints;
pub mod http;
pub mod jobs;
pub mod library;
pub mod problem;
pub mod protocol;
pub mod store;
pub mod worker;

use std::sync::Arc;

use tokio::sync::broadcast;

pub use config::{Config, Studio};
pub use problem::Problem;
use protocol::Event;

/// Events that a slow browser may fall behind before it is told to load the page's figures anew.
const EVENTS: usize = 1024;

/// What every part of the server shares.
#[derive(Clone)]
pub struct App(Arc<Shared>);

/// See [`App`].
pub struct Shared {
    /// Where things lie and who may ask.
    pub config: Config,
    /// What must survive.
    pub store: store::Store,
    /// What the browsers are told as it happens.
    pub events: broadcast::Sender<Event>,
    /// Wakes the queue.
    pub wake: tokio::sync::Notify,
    /// Models that answer requests.
    pub endpoints: endpoints::Endpoints,
    /// Data sets that a model labels.
    pub prelabels: library::prelabel::Prelabels,
    /// Models that are being measured.
    pub evaluations: library::evaluations::Evaluations,
    /// At most this many one-off processes (a trial, an export) at once.
    pub trials: tokio::sync::Semaphore,
    /// Held, never read: one folder has one studio.
    _lock: std::fs::File,
}

impl std::ops::Deref for App {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

impl App {
    /// Opens the studio's folder and its database.
    ///
    /// # Errors
    /// The folder cannot be made, or the database cannot be opened.
    pub fn open(config: Config) -> Result<App, Problem> {
        config.prepare()?;
        let lock = config.lock()?;
        let store = store::Store::open(&config.dir.join("studio.sqlite"))?;
        let (events, _) = broadcast::channel(EVENTS);
        let wake = tokio::sync::Notify::new();
        let trials = tokio::sync::Semaphore::new(1);
        let endpoints = endpoints::Endpoints::default();
        let evaluations = library::evaluations::Evaluations::default();
        let prelabels = library::prelabel::Prelabels::default();
        Ok(App(Arc::new(Shared {
            config,
            store,
            events,
            wake,
            endpoints,
            prelabels,
            evaluations,
            trials,
            _lock: lock,
        })))
    }

    /// Tells the browsers; nobody listening is no failure.
    pub fn tell(&self, event: Event) {
        let _ = self.events.send(event);
    }
}

/// Runs the studio until `stop` resolves: the server, the queue and what both need.
///
/// # Errors
/// The port is taken, or the database cannot be read.
pub async fn serve(studio: Studio, stop: impl Future<Output = ()> + Send + 'static) -> Result<(), Problem> {
    let Studio { app, listener } = studio;
    library::recover(&app).await?;
    let queue = tokio::spawn(jobs::queue::run(app.clone()));
    let router = http::router(app.clone());
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    let shutdown = async move {
        stop.await;
        let _ = ended.send(());
    };
    let server = axum::serve(listener, router);
    tokio::select! {
        result = server.into_future() => result.map_err(|e| Problem::internal("the server stopped", &e))?,
        () = shutdown => {}
    }
    drop(end);
    queue.abort();
    let (ended, ()) = tokio::join!(jobs::queue::shut_down(&app), endpoints::shut_down(&app));
    ended
}
