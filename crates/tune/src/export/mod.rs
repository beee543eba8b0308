//! Export: a trained model in the formats that people deploy, proved before it is called done.
//!
//! The way of the data: a model's graph and parameters -> [`network::Network`] (norms folded) -> a format's own folder.

pub mod calibrate;
pub mod job;
pub mod metadata;
pub mod network;
pub mod onnx;
pub mod pictures;
pub mod proof;
pub mod quantise;
pub mod tflite;
pub mod torch;
