//! Every untrusted byte of onsa: checkpoints, images, labels -> plain values.
#![forbid(unsafe_code)]

pub mod checkpoint;
pub mod data_yaml;
pub mod labels;
pub mod limits;
pub mod picture;
