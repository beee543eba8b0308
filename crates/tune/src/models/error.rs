//! What can be wrong with a request for a model or with a checkpoint.

use std::fmt;

/// An error of the model zoo. Messages are for the person at the command line.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// No model of that name.
    #[error("there is no model named `{name}`{}; registered are yolov8, yolo11 and yolo12, each with n, s, m, l or x; for classification yolov8 and yolo11 with -cls, efficientnet_lite0 to 4, resnet18, 34 and 50, mobilenet_v3_small and _large", hint(.nearest))]
    UnknownModel {
        /// As typed.
        name: String,
        /// The registered name most like it, where one is near.
        nearest: Option<String>,
    },
    /// The image size does not suit the network.
    #[error(
        "an image size of {height}x{width} does not suit the network: give multiples of {stride}, from {stride} up"
    )]
    ImageSize {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
        /// The largest stride.
        stride: usize,
    },
    /// Numbers that no network can be made of.
    #[error("{0}")]
    Architecture(String),
    /// A checkpoint's model description is not one that this program builds.
    #[error("the checkpoint's model description is not supported: {0}")]
    Description(String),
    /// Tensors that belong to no known family.
    #[error("the checkpoint's tensors are those of no supported model: {0}")]
    Unidentified(String),
    /// Tensors that do not fit the model.
    #[error(transparent)]
    Mismatch(#[from] Box<Mismatch>),
    /// A tensor's values could not be read.
    #[error("tensor {name}: {reason}")]
    Tensor {
        /// The tensor's name in the checkpoint.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// The GPU that was to run the model.
    #[error(transparent)]
    Gpu(#[from] onsa_compute::cuda::CudaError),
    /// A request to freeze that cannot be met.
    #[error("freeze: {0}")]
    Freeze(String),
}

fn hint(nearest: &Option<String>) -> String {
    nearest.as_ref().map(|n| format!(" (did you mean `{n}`?)")).unwrap_or_default()
}

/// A tensor whose shape is not the model's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misshapen {
    /// The parameter's name.
    pub name: String,
    /// Shape in the checkpoint.
    pub found: Vec<usize>,
    /// Shape in the model.
    pub needed: Vec<usize>,
}

impl fmt::Display for Misshapen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} instead of {:?}", self.name, self.found, self.needed)
    }
}

/// How a checkpoint's tensors differ from a model's. The message lists the first few of each kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The model's name.
    pub model: String,
    /// Parameters that the checkpoint lacks.
    pub missing: Vec<String>,
    /// Tensors that the model does not have.
    pub unexpected: Vec<String>,
    /// Tensors of another shape.
    pub misshapen: Vec<Misshapen>,
}

impl Mismatch {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshapen.is_empty()
    }
}

impl std::error::Error for Mismatch {}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the checkpoint does not fit {}:", self.model)?;
        list(f, "missing", &self.missing)?;
        list(f, "unexpected", &self.unexpected)?;
        list(f, "misshapen", &self.misshapen)?;
        write!(
            f,
            "\n  use an undamaged checkpoint of this model, or name the model that the checkpoint was saved from"
        )
    }
}

fn list<T: fmt::Display>(f: &mut fmt::Formatter<'_>, what: &str, items: &[T]) -> fmt::Result {
    const SHOWN: usize = 10;
    if items.is_empty() {
        return Ok(());
    }
    write!(f, "\n  {} {what}:", items.len())?;
    for item in items.iter().take(SHOWN) {
        write!(f, "\n    {item}")?;
    }
    if items.len() > SHOWN {
        write!(f, "\n    and {} more", items.len() - SHOWN)?;
    }
    Ok(())
}
