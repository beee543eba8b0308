//! Where a plan's time goes.

use std::time::Duration;

/// Accumulated time of each of a plan's steps.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// In the order of the plan's steps.
    pub steps: Vec<StepTime>,
    /// Time in which weights were packed.
    pub prepare: Duration,
}

/// One step's share.
#[derive(Clone, Debug, Default)]
pub struct StepTime {
    /// The operator's name.
    pub name: &'static str,
    /// Accumulated time.
    pub time: Duration,
    /// Multiply-adds of one run; 0 where the step is no matrix work.
    pub multiply_adds: u64,
    /// What is worked on: shapes and window.
    pub detail: String,
}
