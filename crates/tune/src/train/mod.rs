//! Training: recipe, loss, assignment, optimisers, schedule, the loop.

pub mod added;
pub mod assign;
pub mod auto;
pub mod clip;
pub mod ema;
pub mod error;
pub mod extend;
pub mod files;
pub mod finish;
pub mod finite;
pub mod lock;
pub mod loss;
pub mod observer;
pub mod optimiser;
pub mod pace;
pub mod recipe;
pub mod run;
pub mod saver;
pub mod schedule;
pub mod slots;
pub mod start;
pub mod state;
pub mod strategy;

pub use error::TrainError;
pub use run::{Changes, RunOptions, TrainOutcome, resume, train};

#[cfg(test)]
pub(crate) mod fixture;
