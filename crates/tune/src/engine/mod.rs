//! Networks on the compute engine: plans made once for each input shape, kept, and run.

mod features;
mod inference;
mod input;
mod passes;
mod place;
mod teacher;
mod training;

use std::sync::Arc;

pub(crate) use features::cut;
pub use features::{Features, FeaturesError, HeadNetwork};
pub use inference::{Inference, Maps};
pub use place::{Place, PlaceError, Wanted};
pub use teacher::Teacher;
pub use training::{StepError, TrainStep};

/// The threads that compute. `None`: all that the machine has.
///
/// # Errors
/// The system refuses the threads.
pub fn threads(count: Option<u32>) -> Result<Arc<rayon::ThreadPool>, ThreadsError> {
    let mut builder = rayon::ThreadPoolBuilder::new().thread_name(|i| format!("onsa-compute-{i}"));
    if let Some(count) = count {
        builder = builder.num_threads(count as usize);
    }
    builder.build().map(Arc::new).map_err(|error| ThreadsError(error.to_string()))
}

/// The compute threads cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("the compute threads cannot be started: {0}; try a smaller threads=")]
pub struct ThreadsError(String);
