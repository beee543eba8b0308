//! A run that cannot start or go on.

use std::path::PathBuf;

use onsa_compute::cuda::CudaError;

use super::added::AddError;
use super::optimiser;
use super::recipe::{RecipeError, run_dir::RunDirError};
use super::state::StateError;
use crate::data::index::DataError;
use crate::data::loader::LoaderError;
use crate::durable::WriteError;
use crate::engine::{PlaceError, StepError, ThreadsError};
use crate::evaluate::EvaluateError;
use crate::evaluate::validate::ValidateError;
use crate::gpu::loader::TableError;
use crate::gpu::step::SubmitError;
use crate::models::ModelError;
use crate::models::open::OpenError;

/// See the module.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum TrainError {
    #[error("{}: the data set has {count} error{}:\n  {}{}", data.display(), if *count == 1 { "" } else { "s" }, first.join("\n  "), if *count > first.len() { "\n  …" } else { "" })]
    FaultyData { data: PathBuf, count: usize, first: Vec<String> },
    #[error("{}: there are no {split} images", data.display())]
    EmptySplit { data: PathBuf, split: &'static str },
    #[error("{model} is a model to {task}, and this run is to do something else")]
    OtherTask { model: String, task: &'static str },
    #[error("{what} trains on the processor only, so far")]
    NotOnGpu { what: &'static str },
    #[error("{}: no training image has a box", data.display())]
    NoBoxes { data: PathBuf },
    #[error("{place}: {reason}, several times in a row: training cannot go on")]
    Diverged { place: String, reason: String },
    #[error("{place}: after this step the weights of {tensor} are no longer finite; the step was not kept")]
    WeightsNotFinite { place: String, tensor: String },
    #[error("{} holds no run to continue: there is no args.yaml", .0.display())]
    NoCheckpoint(PathBuf),
    #[error("{} has changed since the run began", data.display())]
    DataChanged { data: PathBuf },
    #[error("{} is finished after {epochs} epochs", run_dir.display())]
    Finished { run_dir: PathBuf, epochs: u32 },
    #[error("{} has {done} epochs done: epochs={epochs} is not longer", run_dir.display())]
    NotLonger { run_dir: PathBuf, done: u32, epochs: u32 },
    #[error("another process trains in {}", run_dir.display())]
    InUse { run_dir: PathBuf },
    #[error("cannot make the folder {}: {source}", path.display())]
    Folder { path: PathBuf, source: std::io::Error },
    #[error("the data loader ended before training did. A fault of this program: please report it")]
    LoaderEnded,
    #[error(transparent)]
    Data(#[from] DataError),
    #[error(transparent)]
    Add(#[from] AddError),
    #[error("{0}")]
    OldImage(String),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Model(#[from] ModelError),
    #[error(transparent)]
    Loader(#[from] LoaderError),
    #[error(transparent)]
    Step(#[from] StepError),
    #[error(transparent)]
    Tables(#[from] TableError),
    #[error(transparent)]
    Submit(#[from] SubmitError),
    #[error(transparent)]
    Cuda(#[from] CudaError),
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("batch=-1: fitting the batch to the memory needs a GPU; give a number")]
    BatchNeedsGpu,
    #[error("batch={batch}: a batch of this size does not fit in the GPU's memory")]
    BatchTooLarge { batch: usize, fits: usize },
    #[error(transparent)]
    Validate(#[from] ValidateError),
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Recipe(#[from] RecipeError),
    #[error(transparent)]
    RunDir(#[from] RunDirError),
    #[error(transparent)]
    Threads(#[from] ThreadsError),
    #[error("the optimiser's parameters do not fit: {0}")]
    Slots(#[from] optimiser::SlotError),
    #[error("the checkpoint's optimiser does not fit: {0}")]
    OptimiserState(#[from] optimiser::StateError),
}

impl TrainError {
    /// What to do about it, where the message does not already say.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            TrainError::FaultyData { data, .. } => format!(
                "`onsa check data={}` lists every fault; faulty=leave_out trains without the faulty items",
                data.display()
            ),
            TrainError::EmptySplit { split, .. } => format!("check `{split}:` in the data.yaml"),
            TrainError::OtherTask { task, .. } => format!("add task={task}, or choose another model"),
            TrainError::NotOnGpu { .. } => {
                "leave device= out, or give device=cpu; bits=8 cuts 16 bits to 8".into()
            }
            TrainError::NoBoxes { .. } => {
                "label files stand in labels/ beside images/, one .txt an image".into()
            }
            TrainError::Diverged { .. } => {
                "try a smaller learning rate (lr0=0.0005) or check the named images and their labels".into()
            }
            TrainError::NoCheckpoint(_) => {
                "give the folder of an interrupted run, such as runs/detect/train".into()
            }
            TrainError::DataChanged { .. } => {
                "resuming would not continue the same run: restore the data, or start a new run".into()
            }
            TrainError::BatchTooLarge { fits: 0, .. } => "a smaller imgsz= or model needs less memory".into(),
            TrainError::BatchTooLarge { fits, .. } => {
                format!("batch={fits} would fit; batch=-1 finds the largest that does")
            }
            TrainError::WeightsNotFinite { .. } => {
                "weights/ and checkpoint/ hold the last good state; try a smaller learning rate (lr0=0.0005)"
                    .into()
            }
            TrainError::Finished { run_dir, epochs } => format!(
                "`onsa resume {} epochs={}` makes it longer; or start a new run from its weights/best.safetensors",
                run_dir.display(),
                epochs.saturating_mul(2)
            ),
            TrainError::NotLonger { done, .. } => format!("give a number of epochs above {done}"),
            TrainError::InUse { .. } => {
                "wait until it ends, or stop it; a run has one process at a time".into()
            }
            TrainError::Add(error) => return error.hint(),
            TrainError::Open(error) => return error.hint(),
            TrainError::Write(error) => error.hint(),
            TrainError::State(StateError::Write(error)) => error.hint(),
            TrainError::Evaluate(EvaluateError::Write(error)) => error.hint(),
            TrainError::Recipe(error) => return error.hint(),
            _ => return None,
        })
    }
}
