//! Training augmentation. Every random number is a named field of a plain struct; drawing them (from
//! [`Draw`](super::rng::Draw)) is separate from applying them, so that given numbers can be injected.
//!
//! Order: mosaic, affine, mix-up, cut-mix, HSV, vertical flip, horizontal flip.

pub mod affine;
pub mod config;
pub mod flip;
pub mod hsv;
pub mod mix;
pub mod mosaic;
pub mod sample;
pub mod truth;
pub mod warp;

pub use affine::{AffineParams, Homography};
pub use config::{AugmentConfig, AugmentError};
pub use hsv::HsvGains;
pub use mix::{CutArea, CutMixParams, MixUpParams};
pub use mosaic::MosaicLayout;
pub use sample::{Sample, SampleParams, ViewParams};
pub use truth::Truth;
pub use warp::{Scene, Tile};
