//! Vision: models, data, training, evaluation, export.
#![deny(unsafe_code)]

pub mod bench;
pub mod boxes;
pub mod data;
pub mod durable;
pub mod engine;
pub mod evaluate;
pub mod export;
#[allow(unsafe_code)]
pub mod gpu;
pub mod models;
pub mod predict;
pub mod search;
pub mod train;
