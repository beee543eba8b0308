//! What the demo trains on: real weights and images out of packages, or images drawn on the spot.
pub mod assets;
pub mod clients;
pub mod draws;
pub mod tiles;
