//! The CUDA device: kernels of our own, compiled by NVRTC when they are first needed, replayed from captured graphs.
//!
//! Nothing is linked: the driver and NVRTC are opened at run time ([`libraries`]), so the same binary runs where no GPU
//! is. What is missing, and how to get it, is [`CudaError`]'s text.
//!
//! The base layer: [`Device`] (a GPU with its context and stream), [`DeviceBuffer`] and [`PinnedBuffer`] (plain
//! allocations), [`Source`] (a `.cu` text, compiled once and kept on disk), [`Kernel`] (launches), [`CudaGraph`]
//! (capture and replay). Other crates bring kernels of their own as `Source`s: they include `"common.cuh"`, and the
//! test that compiles every source without a GPU calls [`compile_all`].
//!
//! # How a training step is put together
//! The executor of a plan only enqueues work on a stream, so that one [`CudaGraph::capture`] takes the whole step; what
//! comes before, between and behind its passes (augmentation, loss, optimiser) enqueues on the same stream:
//!
//! ```text
//! caller        writes the input tensor                      Executor::input(i)       -> Tensor
//! executor      prepare(stream, params)                      weights to the kernels' types and layouts
//! executor      forward(stream)
//! caller        loss: reads outputs, writes their gradients  output(i), output_grad(i) -> Tensor
//! executor      backward(stream, grads)                      grads: float32, in the layout of `Params::values`
//! executor      update_running(stream, params, skip)         skip: address of a u32 on the device, not 0: a bad batch
//! caller        clip, optimiser, moving average on params and grads
//! ```
//!
//! A `Tensor` is a view in the executor's arena: device address, element type (bfloat16 or float32), elements from one
//! pixel to the next, shape `[n, h, w, c]`. Parameters and gradients are one `DeviceBuffer<f32>` each, with the offsets of
//! `ParamInfo`; running statistics are among the parameters.

mod buffer;
mod capture;
mod compiler;
mod device;
mod error;
mod event;
mod exec;
mod kernels;
mod launch;
pub mod libraries;
mod sources;
mod tensor;

pub use buffer::{DeviceBuffer, PinnedBuffer, Plain};
pub use capture::CudaGraph;
pub use compiler::{Arch, Compiled, KernelReport, compile, compile_all};
pub use device::{Device, DeviceInfo, Stream};
pub use error::CudaError;
pub use event::Event;
pub use exec::{Executor, MemoryNeeded, NormStatistics, Workspace, WorkspaceBytes, memory_needed};
pub use launch::{Argument, Kernel, Module};
pub use sources::{COMMON, SOURCES, Source};
pub use tensor::{Precision, Tensor};
