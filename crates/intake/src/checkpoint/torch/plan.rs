//! What to read, once the pickle has been understood; its inert objects are no longer needed then.

use super::super::error::CheckpointError;
use super::super::meta::{Meta, norm_folded};
use super::super::pickle::{Graph, Value};
use super::super::{Format, Parts};
use super::describe::Stride;
use super::storage::{Storages, fill};
use super::tensors::View;
use super::{contents, describe};

/// The tensors to load, and the metadata.
pub struct Plan {
    views: Vec<View>,
    meta: Meta,
    /// The last view is the module's `stride`, no weight.
    stride: bool,
}

impl Plan {
    /// Finds the weights in a pickle and describes them.
    pub fn new(graph: &Graph, root: Value) -> Result<Plan, CheckpointError> {
        let found = contents::find(graph, root)?;
        let mut views = found.views;
        let mut meta = describe::meta(graph, root, &found.model, found.skipped)?;
        let mut stride = false;
        match describe::stride(graph, &found.model)? {
            Stride::Absent => {}
            Stride::Plain(values) => meta.stride = Some(values),
            Stride::Tensor(view) => {
                views.push(view);
                stride = true;
            }
        }
        Ok(Plan { views, meta, stride })
    }

    /// Loads the tensors.
    pub fn fill(
        mut self,
        format: Format,
        storages: &mut impl Storages,
        big_endian: bool,
        file_bytes: u64,
    ) -> Result<Parts, CheckpointError> {
        let mut tensors = fill(self.views, storages, big_endian, file_bytes)?;
        if self.stride {
            self.meta.stride = tensors.pop().map(|t| t.to_f32());
        }
        self.meta.norm_folded = norm_folded(&tensors);
        Ok(Parts { format, tensors, meta: self.meta })
    }
}
