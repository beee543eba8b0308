//! What a worker tells the studio, line by line in a file, and what the studio tells the browsers.
use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The environment variable that names the job's folder to a worker.
pub const JOB: &str = "ONSA_JOB";
/// The environment variable with the number of the attempt, from 1.
pub const ATTEMPT: &str = "ONSA_JOB_ATTEMPT";
/// Exit code of a worker that found another one at work on its job.
pub const BUSY: u8 = 75;

/// Files of a job's folder.
pub mod files {
    /// Locked by the worker for as long as it lives.
    pub const LOCK: &str = "lock";
    /// Lines of [`Line`](super::Line), appended.
    pub const PROGRESS: &str = "progress.jsonl";
    /// What the worker writes to stderr, appended.
    pub const LOG: &str = "log.txt";
    /// [`Outcome`](super::Outcome), written once, durably, when the worker ends by itself.
    pub const OUTCOME: &str = "outcome.json";
    /// Written by the studio: the worker is to stop. Its text says why.
    pub const STOP: &str = "stop";
    /// The run's folder.
    pub const RUN: &str = "run";

    /// What the worker of an attempt writes to stdout.
    pub fn document(attempt: u32) -> String {
        format!("document-{attempt}.json")
    }
}

/// Why a worker is to stop.
pub mod reasons {
    /// The person asked for it.
    pub const PERSON: &str = "person";
    /// The studio ends; the job goes on at its next start.
    pub const SHUTDOWN: &str = "shutdown";
    /// At once, without saving.
    pub const NOW: &str = "now";
}

/// One line of a worker's progress.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    /// The first step is about to begin.
    Start {
        /// The last epoch's number.
        epochs: u32,
        /// The epoch that begins now, from 1.
        first_epoch: u32,
        /// Training images.
        train_images: usize,
        /// Validation images.
        val_images: usize,
        /// Names of the loss's parts.
        losses: Vec<String>,
    },
    /// A step is done (not every step is told).
    Step {
        /// From 1.
        epoch: u32,
        /// The last epoch's number.
        epochs: u32,
        /// From 1 within the epoch.
        step: u32,
        /// Steps of the epoch.
        steps: u32,
        /// Running means of the loss's parts.
        losses: Vec<f32>,
        /// Training images a second since the epoch began.
        images_per_second: f64,
        /// Share of the time in which computing waited for data, 0 to 1.
        data_wait: f64,
        /// Expected seconds to the end of the run.
        seconds_left: f64,
        /// Resident memory of the worker in bytes, where the system says.
        memory: Option<u64>,
    },
    /// Validation goes on.
    Validating {
        /// Images seen.
        done: usize,
        /// Of how many.
        images: usize,
    },
    /// An epoch is done and saved.
    Epoch {
        /// From 1.
        epoch: u32,
        /// The last epoch's number.
        epochs: u32,
        /// Mean of each of the loss's parts, by name.
        losses: BTreeMap<String, f32>,
        /// Validation's figures by name, fractions of 1.
        metrics: BTreeMap<String, f64>,
        /// True for the best epoch so far.
        best: bool,
        /// Training images a second.
        images_per_second: f64,
        /// Share of the time in which computing waited for data, 0 to 1.
        data_wait: f64,
    },
    /// Something that the person should know.
    Warning {
        /// One sentence.
        text: String,
    },
}

/// How a worker ended, in its own words. A worker that was killed leaves none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The attempt that this is of.
    pub attempt: u32,
    /// True where the work was done, or stopped as asked.
    pub ok: bool,
    /// What went wrong.
    pub error: Option<ErrorText>,
}

/// An error as a person reads it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorText {
    /// What went wrong, in one sentence.
    pub message: String,
    /// Why, from the nearest cause to the farthest.
    #[serde(default)]
    pub causes: Vec<String>,
    /// What to do about it.
    pub hint: Option<String>,
}

/// What the browsers are told as it happens.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// A job's state has changed: load it anew.
    Job {
        /// Its id.
        job: i64,
    },
    /// A running job has come further.
    Progress {
        /// The job's id.
        job: i64,
        /// What its worker said.
        line: Line,
    },
    /// A data set is being read, or has changed.
    Dataset {
        /// Its id.
        dataset: i64,
        /// What is being done; none when it is over.
        stage: Option<String>,
        /// Images done.
        done: usize,
        /// Of how many.
        total: usize,
    },
    /// The list of models has changed.
    Models,
    /// An endpoint's state has changed: load it anew.
    Endpoint {
        /// The model's id.
        model: i64,
    },
    /// A model has labelled a data set, or could not.
    Prelabelled {
        /// The data set's id.
        dataset: i64,
        /// Why it ended early.
        error: Option<ErrorText>,
    },
    /// A model was measured on a version, or could not be.
    Evaluation {
        /// The model's id.
        model: i64,
        /// The version's id.
        version: i64,
    },
    /// This browser fell behind: load everything anew.
    Behind,
}
