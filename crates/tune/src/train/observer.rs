//! What a run tells the one who watches it. The loop calls these in a fixed order and never waits for an answer; an
//! observer can stop nothing (the stop flag does that) and change nothing.
use std::path::Path;
use std::time::Duration;

/// What is known when the first step is about to begin.
#[derive(Clone, Copy, Debug)]
pub struct RunStart<'a> {
    /// The run's folder.
    pub run_dir: &'a Path,
    /// The last epoch's number; the first is 1.
    pub epochs: u32,
    /// The epoch that begins now: 1, or later after a resume.
    pub first_epoch: u32,
    /// Training images after faulty ones are left out.
    pub train_images: usize,
    /// Validation images.
    pub val_images: usize,
    /// Names of the loss's parts in the order of [`Step::losses`], such as `box`, `cls`, `dfl`.
    pub losses: &'a [&'a str],
}

/// One training step, just done.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// Counted from 1.
    pub epoch: u32,
    /// Counted from 1 within the epoch.
    pub step: u32,
    /// Steps in the epoch.
    pub steps: u32,
    /// Images of this step.
    pub images: usize,
    /// Running means of the loss's parts since the epoch began.
    pub losses: &'a [f32],
    /// Labelled objects in this step's batch, after augmentation.
    pub objects: usize,
    /// Time since the epoch began.
    pub elapsed: Duration,
    /// Of that, the time in which computing waited for data.
    pub waited: Duration,
}

/// One epoch, done and validated.
#[derive(Clone, Copy, Debug)]
pub struct EpochEnd<'a> {
    /// Counted from 1.
    pub epoch: u32,
    /// The last epoch's number.
    pub epochs: u32,
    /// Mean losses of training.
    pub losses: &'a [f32],
    /// Validation's figures by name (`mAP50`, `mAP50-95`, `precision`, `recall`), fractions of 1; empty without validation.
    pub metrics: &'a [(&'a str, f64)],
    /// True where this is the best epoch so far.
    pub best: bool,
    /// Training images a second, without validation.
    pub images_per_second: f64,
    /// Share of the training time in which computing waited for data, 0 to 1.
    pub data_wait_fraction: f64,
}

/// Watches a run.
pub trait Observer {
    /// The first step is about to begin.
    fn start(&mut self, _run: &RunStart<'_>) {}
    /// An epoch of `steps` steps begins.
    fn epoch_start(&mut self, _epoch: u32, _epochs: u32, _steps: u32) {}
    /// A step is done.
    fn step(&mut self, _step: &Step<'_>) {}
    /// Validation has seen `done` of `images` images.
    fn validating(&mut self, _done: usize, _images: usize) {}
    /// An epoch is done, saved and, where asked for, validated.
    fn epoch_end(&mut self, _end: &EpochEnd<'_>) {}
    /// A line for the log, such as which optimiser and rate run.
    fn message(&mut self, _text: &str) {}
    /// Something that the person should know and that does not stop the run.
    fn warning(&mut self, _text: &str) {}
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}
