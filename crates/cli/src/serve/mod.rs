//! HTTP inference on the engine: a picture in, JSON out.
//!
//! The way of a request: [`guard`] (who may ask, how often) -> [`routes`] (the body, within its limits) -> [`model`] (a
//! bounded queue before each model's own thread, which runs batches) -> JSON. What does not fit the queue is answered 429
//! at once: waiting longer would help nobody.

pub mod accept;
pub mod config;
pub mod guard;
pub mod metrics;
pub mod model;
pub mod openapi;
pub mod routes;
