//! PyTorch files: the zip container (since 1.6) and the legacy stream, with whole modules or state dicts inside.

mod contents;
mod describe;
mod legacy;
mod module;
mod plan;
mod storage;
mod tensors;
mod zip;

pub(super) use describe::{class_names, image_size};
pub(super) use legacy::{MAGIC, read as read_legacy};
pub(super) use zip::read as read_zip;

#[cfg(test)]
mod tests;
