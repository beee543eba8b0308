//! Fuzz targets for every reader of onsa-intake. See README.md.

pub mod targets;
