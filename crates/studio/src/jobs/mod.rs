//! Training runs: a queue in the database, one worker process each.
//!
//! ```text
//! queued -> running -> done | failed
//!    ^         |  \-> stopping -> stopped -> queued (resume)
//!    \---------/  the worker was killed, or the studio ended
//! ```
//! A state is written before what it says begins, and a job's outcome is written by its worker before the state says so.
//! So whatever is killed in between, the next start of the studio finds out which of both it was.
pub mod create;
pub mod queue;
pub mod record;
pub mod strategy;
mod supervise;

use std::path::PathBuf;

use crate::App;

/// A job's folder.
pub fn folder(app: &App, job: i64) -> PathBuf {
    app.config.dir.join("jobs").join(job.to_string())
}
