//! Which of a model's parameters the optimiser steps, in which group, and how fast.

use onsa_compute::Role;

use super::optimiser::{Group, Kind, Matrix, ParamSlot};
use crate::models::Model;

/// The trained parameters, as the optimiser takes them. MuSGD's class branch learns three times as fast.
pub fn slots(model: &Model, trained: &[bool], kind: Kind) -> Vec<ParamSlot> {
    let class_branch = format!("{}.cv3.", model.head_name());
    model
        .graph
        .params()
        .iter()
        .zip(trained)
        .filter(|(_, trained)| **trained)
        .map(|(info, _)| ParamSlot {
            offset: info.offset,
            len: info.len,
            matrix: match info.shape[..] {
                [out, inputs, kh, kw] => Some(Matrix::conv((kh, kw), inputs, out)),
                [out, inputs] => Some(Matrix::linear(inputs, out)),
                _ => None,
            },
            group: match info.role {
                Role::NormScale => Group::Norm,
                Role::NormShift | Role::Bias => Group::Bias,
                _ => Group::Weight,
            },
            lr_scale: if kind == Kind::MuSgd && info.name.starts_with(&class_branch) { 3.0 } else { 1.0 },
        })
        .collect()
}
