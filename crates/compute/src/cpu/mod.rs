//! The CPU device: float32 or bfloat16, SIMD, threads; the same bytes for any number of threads.

mod ahead;
#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
mod conv;
mod conv_runner;
mod depthwise;
mod element;
mod elementwise;
mod executor;
mod norm;
mod pack;
mod pool;
mod profile;
mod scratch;
mod shape_ops;
mod simd;
mod softmax;
mod team;
mod tile;
mod transpose;
mod turned;
mod weight_grad;
mod window;
mod winograd;

pub use element::Storage;
pub use executor::{Executor, Memory};
pub use profile::{Profile, StepTime};
pub use simd::Isa;
