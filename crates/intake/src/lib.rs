//! Every untrusted byte of onsa: checkpoints, images, labels, archives -> plain values.
#![forbid(unsafe_code)]

pub mod archive;
pub mod checkpoint;
pub mod data_yaml;
pub mod idx;
pub mod labels;
pub mod limits;
pub mod picture;
mod zip_directory;
