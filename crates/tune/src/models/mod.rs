//! The model zoo: one folder a family.
//!
//! A name or a checkpoint says which [`Architecture`] is meant; [`Model::build`] makes its graph; [`load`] brings a
//! checkpoint's values, with the head's rows sorted by class name.

pub mod architecture;
pub mod blocks;
pub mod branch;
pub mod efficientnet_lite;
pub mod error;
pub mod freeze;
pub mod identify;
pub mod init;
pub mod lora;
pub mod mobilenet_v3;
pub mod norm;
pub mod normalise;
pub mod open;
pub mod registry;
pub mod resnet;
pub mod scaling;
pub mod transfer;
pub mod weights;
pub mod yolo11;
pub mod yolo12;
pub mod yolov8;

pub use architecture::{Architecture, Level, Model, STRIDES};
pub use branch::{Branch, PartOf};
pub use error::{Mismatch, Misshapen, ModelError};
pub use freeze::{Freeze, Trainable};
pub use init::init_fresh;
pub use normalise::Normalise;
pub use registry::{Family, ModelSpec, Preprocessing, Published, Task};
pub use scaling::{Scale, Scaling};
pub use transfer::{ClassMap, HeadTransfer};
pub use weights::{TensorInfo, WeightSource, load};
