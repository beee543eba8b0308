//! Which architecture a checkpoint holds: from its model description, or from its tensors' names and shapes.

mod description;
mod measure;
#[cfg(test)]
mod tests;

use serde_json::Value as Json;

use super::architecture::Architecture;
use super::error::ModelError;
use super::weights::{Names, TensorInfo};
use description::{Described, described};
use measure::{from_names, read_sizes};

/// The architecture of a checkpoint. A description (`yaml` in Ultralytics' files) decides family and multiples where there
/// is one; the number of classes, the class branch's width and the image channels are read off the tensors.
///
/// # Errors
/// A description or tensors of no supported family.
pub fn identify(description: Option<&Json>, tensors: &[TensorInfo]) -> Result<Architecture, ModelError> {
    let names = Names::new(tensors);
    let Some(description) = description else {
        return from_names(&names);
    };
    let mut architecture = match described(description)? {
        Described::Full(architecture) => architecture,
        // Several scales, none named: the tensors know.
        Described::FamilyAlone(_) => from_names(&names)?,
    };
    read_sizes(&mut architecture, &names);
    Ok(architecture)
}

/// The architecture that an Ultralytics model description stands for.
///
/// # Errors
/// A description of no supported family, or one that leaves its scale open.
pub fn from_description(description: &Json) -> Result<Architecture, ModelError> {
    match described(description)? {
        Described::Full(architecture) => Ok(architecture),
        Described::FamilyAlone(family) => Err(ModelError::Description(format!(
            "it lists several scales of {} and names none; set `scale`",
            family.name()
        ))),
    }
}

/// The architecture that tensors of these names and shapes belong to.
///
/// # Errors
/// Fewer than half of the convolutions of every known model are there.
pub fn from_tensors(tensors: &[TensorInfo]) -> Result<Architecture, ModelError> {
    from_names(&Names::new(tensors))
}
