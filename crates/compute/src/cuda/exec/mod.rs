//! The executor: a plan's steps as launches.

mod attention;
mod dense;
mod depthwise;
mod elementwise;
mod executor;
mod layout;
mod norms;
mod profile;
mod side;
mod structures;
mod tiles;
mod workspace;

pub use executor::{Executor, NormStatistics};
pub use layout::{MemoryNeeded, memory_needed};
pub use workspace::{Workspace, WorkspaceBytes};
