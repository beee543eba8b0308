//! The engine: graph -> gradients -> plan -> kernels.
//!
//! A model is Rust code that builds a [`Graph`] once, with static shapes. A [`Plan`] lowers it to a list of steps
//! over one arena (fused operators, concatenation in place, buffers shared by liveness); an [`Executor`] runs the
//! steps on a device. The crate knows nothing of vision: images, boxes and losses are its caller's.

pub mod cpu;
pub mod cuda;
pub mod graph;
pub mod plan;

pub use cpu::{Executor, Isa, Storage};
pub use graph::{Activation, Attention, Conv, Graph, ParamInfo, Params, Role, Value};
pub use plan::{Mode, Plan, Trainable};
