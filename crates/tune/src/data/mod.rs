//! Data sets: index, audit, cache, augmentation, batches.

pub mod audit;
pub mod augment;
pub mod batch;
pub mod bounds;
pub mod cache;
pub mod classify;
pub mod dataset;
pub mod deep;
pub mod disk_cache;
pub mod division;
pub mod groups;
pub mod index;
pub mod letterbox;
pub mod loader;
pub(crate) mod prefetch;
pub mod raster;
pub mod resize;
pub mod rng;
#[cfg(test)]
mod sample;
#[cfg(test)]
pub(crate) mod test_items;
pub mod val_loader;
