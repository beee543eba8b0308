//! The worker's side: what a training process does when the studio has started it.
//!
//! The studio sets [`JOB`] to the job's folder. The process locks a file there for as long as it lives, so a job never
//! has two workers; appends its progress; watches for a file that asks it to stop; and at the end writes its outcome
//! durably. None of it needs the studio alive: a studio that was killed finds all of it again.
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use onsa_tune::durable;
use onsa_tune::train::observer::{EpochEnd, RunStart, Step};

use crate::Problem;
pub use crate::protocol::ErrorText;
use crate::protocol::{ATTEMPT, BUSY, JOB, Line, Outcome, files, reasons};

/// Steps are told at most this often: the studio and twenty browsers must not slow the training.
const STEP_EVERY: Duration = Duration::from_millis(500);
/// The stop file is looked for this often.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The studio itself holds the lock for moments.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);
/// Exit code of a worker that was told to end at once.
const ENDED: i32 = 130;

/// A job that this process works on.
pub struct Job {
    dir: PathBuf,
    attempt: u32,
    progress: Mutex<Progress>,
    /// Held, never read: the system frees it when the process ends, however it ends.
    _lock: File,
}

struct Progress {
    file: File,
    losses: Vec<String>,
    epochs: u32,
    /// Epochs that this process has finished, and when it began.
    done: u32,
    began: Instant,
    told: Option<Instant>,
}

static CURRENT: OnceLock<Option<Job>> = OnceLock::new();

/// What the process is to do about its job.
pub enum Attached {
    /// No studio started it.
    Alone,
    /// It is the job's worker.
    Working(&'static Job),
    /// There is nothing to do: end with this code.
    Leave(u8),
}

/// Takes up the job that the environment names. Call it once, first.
///
/// # Errors
/// The job's folder cannot be used.
pub fn attach() -> Result<Attached, Problem> {
    let Some(dir) = std::env::var_os(JOB).map(PathBuf::from) else {
        return Ok(Attached::Alone);
    };
    let attempt = std::env::var(ATTEMPT).ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let path = dir.join(files::LOCK);
    let lock = open(&path)?;
    let began = Instant::now();
    loop {
        match lock.try_lock() {
            Ok(()) => break,
            Err(TryLockError::WouldBlock) if began.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(Duration::from_millis(20));
            }
            Err(TryLockError::WouldBlock) => return Ok(Attached::Leave(BUSY)),
            Err(TryLockError::Error(e)) => return Err(Problem::path("cannot lock", &path, &e)),
        }
    }
    if dir.join(files::OUTCOME).exists() {
        // Another worker of the same job has ended meanwhile: running again would be running twice.
        return Ok(Attached::Leave(BUSY));
    }
    let path = dir.join(files::PROGRESS);
    let mut file = open(&path)?;
    // A worker that was killed may have left half a line.
    file.write_all(b"\n").map_err(|e| Problem::path("cannot write", &path, &e))?;
    let progress =
        Progress { file, losses: Vec::new(), epochs: 0, done: 0, began: Instant::now(), told: None };
    let job = Job { dir, attempt, progress: Mutex::new(progress), _lock: lock };
    match CURRENT.get_or_init(|| Some(job)) {
        Some(job) => Ok(Attached::Working(job)),
        None => Ok(Attached::Alone),
    }
}

/// The job that [`attach`] took up.
pub fn current() -> Option<&'static Job> {
    CURRENT.get().and_then(Option::as_ref)
}

fn open(path: &std::path::Path) -> Result<File, Problem> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map_err(|e| Problem::path("cannot open", path, &e))
}

impl Job {
    /// Turns `stop` true when the studio asks for it.
    pub fn watch(&'static self, stop: &'static AtomicBool) {
        let path = self.dir.join(files::STOP);
        std::thread::spawn(move || {
            loop {
                if let Ok(reason) = std::fs::read_to_string(&path) {
                    stop.store(true, Ordering::SeqCst);
                    if reason == reasons::NOW {
                        std::process::exit(ENDED);
                    }
                }
                std::thread::sleep(LOOK_EVERY);
            }
        });
    }

    /// Writes how the work ended, so that it is never done again.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn finish(&self, error: Option<ErrorText>) -> Result<(), Problem> {
        let outcome = Outcome { attempt: self.attempt, ok: error.is_none(), error };
        let text = serde_json::to_vec(&outcome)?;
        Ok(durable::write(&self.dir.join(files::OUTCOME), &text)?)
    }

    fn tell(progress: &mut Progress, line: &Line) {
        // Progress is for the eye: a full disk must not end the run, whose own writes say so themselves.
        let Ok(mut text) = serde_json::to_vec(line) else { return };
        text.push(b'\n');
        let _ = progress.file.write_all(&text);
    }

    fn with(&self, act: impl FnOnce(&mut Progress)) {
        act(&mut self.progress.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The first step is about to begin.
    pub fn start(&self, run: &RunStart<'_>) {
        self.with(|progress| {
            progress.losses = run.losses.iter().map(|name| (*name).to_owned()).collect();
            (progress.epochs, progress.done, progress.began) = (run.epochs, 0, Instant::now());
            let line = Line::Start {
                epochs: run.epochs,
                first_epoch: run.first_epoch,
                train_images: run.train_images,
                val_images: run.val_images,
                losses: progress.losses.clone(),
            };
            Job::tell(progress, &line);
        });
    }

    /// A step is done.
    pub fn step(&self, step: &Step<'_>) {
        self.with(|progress| {
            if progress.told.is_some_and(|told| told.elapsed() < STEP_EVERY) {
                return;
            }
            progress.told = Some(Instant::now());
            let elapsed = step.elapsed.as_secs_f64().max(1e-9);
            let share = f64::from(step.step) / f64::from(step.steps.max(1));
            let done = f64::from(progress.done) + share;
            let left = f64::from(progress.epochs.saturating_sub(step.epoch)) + 1.0 - share;
            let line = Line::Step {
                epoch: step.epoch,
                epochs: progress.epochs,
                step: step.step,
                steps: step.steps,
                losses: step.losses.to_vec(),
                images_per_second: step.images as f64 * f64::from(step.step) / elapsed,
                data_wait: step.waited.as_secs_f64() / elapsed,
                seconds_left: progress.began.elapsed().as_secs_f64() / done.max(1e-9) * left,
                memory: resident(),
            };
            Job::tell(progress, &line);
        });
    }

    /// Validation has seen `done` of `images` images.
    pub fn validating(&self, done: usize, images: usize) {
        self.with(|progress| {
            if done < images && progress.told.is_some_and(|told| told.elapsed() < STEP_EVERY) {
                return;
            }
            progress.told = Some(Instant::now());
            Job::tell(progress, &Line::Validating { done, images });
        });
    }

    /// An epoch is done and saved.
    pub fn epoch(&self, end: &EpochEnd<'_>) {
        self.with(|progress| {
            progress.done += 1;
            let losses: BTreeMap<String, f32> =
                progress.losses.iter().cloned().zip(end.losses.iter().copied()).collect();
            let line = Line::Epoch {
                epoch: end.epoch,
                epochs: end.epochs,
                losses,
                metrics: end.metrics.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect(),
                best: end.best,
                images_per_second: end.images_per_second,
                data_wait: end.data_wait_fraction,
            };
            Job::tell(progress, &line);
        });
    }

    /// Something that the person should know.
    pub fn warning(&self, text: &str) {
        self.with(|progress| Job::tell(progress, &Line::Warning { text: text.to_owned() }));
    }
}

/// Resident memory of this process in bytes; `None` where /proc does not say.
fn resident() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
