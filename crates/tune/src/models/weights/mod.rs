//! From a checkpoint's tensors to a model's parameters.

mod names;
#[cfg(test)]
mod tests;

use onsa_compute::graph::Params;

use super::architecture::Model;
use super::error::{Mismatch, Misshapen, ModelError};
use super::init::init_fresh;
use super::norm::identity_variance;
use super::transfer::ClassMap;

pub(in crate::models) use names::Names;

/// A tensor's name and shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// Dotted name in the checkpoint.
    pub name: String,
    /// Shape in PyTorch's order.
    pub shape: Vec<usize>,
}

/// Where tensors come from: a checkpoint of any format.
pub trait WeightSource {
    /// Every tensor's name and shape.
    fn tensors(&self) -> Vec<TensorInfo>;
    /// Values of the tensor at that place of [`WeightSource::tensors`], in PyTorch's order.
    ///
    /// # Errors
    /// A reason, where the values cannot be had as float32.
    fn read(&self, index: usize) -> Result<Vec<f32>, String>;
}

/// Fills a model's parameters from a checkpoint. `classes` says where the rows of the head's last class convolution
/// come from; rows without a source are initialised from `seed`. A first convolution for other image channels takes the
/// filters of the checkpoint's: their sum for one, else in turn, scaled.
///
/// A checkpoint whose norms are folded into the convolutions gets norms that change nothing; before training,
/// [`super::norm::calibrate`] them.
///
/// # Errors
/// [`ModelError::Mismatch`] lists every tensor that is missing, unexpected or misshapen; nothing is filled by halves.
pub fn load(
    model: &Model,
    source: &dyn WeightSource,
    classes: &ClassMap,
    seed: u64,
) -> Result<Params, ModelError> {
    let architecture = &model.architecture;
    if classes.rows.len() != architecture.classes
        || classes.rows.iter().flatten().any(|&row| row >= classes.source_classes)
    {
        return Err(ModelError::Architecture(format!(
            "the class map sorts {} classes out of {}, the model has {}",
            classes.rows.len(),
            classes.source_classes,
            architecture.classes
        )));
    }
    let tensors = source.tensors();
    let mut names = Names::new(&tensors);
    let folded = names.is_folded();
    let mut mismatch = Mismatch {
        model: architecture.name(),
        missing: vec![],
        unexpected: std::mem::take(&mut names.foreign),
        misshapen: vec![],
    };

    let mut fills = Vec::with_capacity(model.graph.params().len());
    for (i, info) in model.graph.params().iter().enumerate() {
        let from = if folded { folded_name(&info.name) } else { From::Tensor(info.name.clone()) };
        let name = match from {
            From::Tensor(name) => name,
            From::Constant(value) => {
                fills.push((i, Fill::Constant(value)));
                continue;
            }
        };
        let Some((index, shape)) = names.by_name.remove(&name) else {
            mismatch.missing.push(name);
            continue;
        };
        match Fill::of(model, &info.name, &info.shape, index, shape, classes) {
            Ok(fill) => fills.push((i, fill)),
            Err(needed) => mismatch.misshapen.push(Misshapen { name, found: shape.to_vec(), needed }),
        }
    }
    mismatch.unexpected.extend(names.by_name.into_keys());
    mismatch.unexpected.sort();
    if !mismatch.is_empty() {
        return Err(Box::new(mismatch).into());
    }

    let mut params = init_fresh(model, seed);
    for (i, fill) in fills {
        fill.apply(&mut params, i, &tensors, source)?;
    }
    Ok(params)
}

/// Where a parameter's values are in a checkpoint without norms.
enum From {
    Tensor(String),
    Constant(f32),
}

/// `model.0.bn.bias` is the folded convolution's bias; the norm's other values make it change nothing else.
fn folded_name(name: &str) -> From {
    match name.rsplit_once(".bn.") {
        Some((module, "bias")) => From::Tensor(format!("{module}.conv.bias")),
        Some((_, "weight")) => From::Constant(1.0),
        Some((_, "running_mean")) => From::Constant(0.0),
        Some((_, "running_var")) => From::Constant(identity_variance()),
        _ => From::Tensor(name.to_owned()),
    }
}

/// What a parameter's values are made of.
enum Fill {
    Constant(f32),
    /// The tensor as it is.
    Whole {
        index: usize,
    },
    /// Rows of the tensor; the others stay as they were initialised.
    Rows {
        index: usize,
        rows: Vec<Option<usize>>,
    },
    /// The tensor's input channels: their sum for one, else repeated in turn and scaled by source / target, so that an image
    /// of equal channels meets about the same filter. The rule is that of timm (R. Wightman, PyTorch Image Models,
    /// `in_chans`).
    InputChannels {
        index: usize,
        source: usize,
        target: usize,
    },
}

impl Fill {
    /// The way from a tensor of that shape to the parameter, or the shape that would be needed.
    fn of(
        model: &Model,
        name: &str,
        target: &[usize],
        index: usize,
        source: &[usize],
        classes: &ClassMap,
    ) -> Result<Fill, Vec<usize>> {
        let is_class_logits = model
            .architecture
            .class_layers()
            .iter()
            .any(|layer| name.strip_prefix(layer.as_str()).is_some_and(|rest| rest.starts_with('.')));
        if is_class_logits {
            let mut needed = target.to_vec();
            needed[0] = classes.source_classes;
            return match source == needed {
                true if classes.is_identity() => Ok(Fill::Whole { index }),
                true => Ok(Fill::Rows { index, rows: classes.rows.clone() }),
                false => Err(needed),
            };
        }
        if source == target {
            return Ok(Fill::Whole { index });
        }
        let is_first = name == model.architecture.first_weight();
        if is_first
            && source.len() == 4
            && source[0] == target[0]
            && source[2..] == target[2..]
            && source[1] > 0
        {
            return Ok(Fill::InputChannels { index, source: source[1], target: target[1] });
        }
        Err(target.to_vec())
    }

    fn apply(
        self,
        params: &mut Params,
        i: usize,
        tensors: &[TensorInfo],
        source: &dyn WeightSource,
    ) -> Result<(), ModelError> {
        let read = |index: usize| {
            let tensor = &tensors[index];
            let fail = |reason| ModelError::Tensor { name: tensor.name.clone(), reason };
            let values = source.read(index).map_err(fail)?;
            if values.len() != tensor.shape.iter().product::<usize>() {
                return Err(fail(format!("holds {} values, its shape is {:?}", values.len(), tensor.shape)));
            }
            if let Some(place) = values.iter().position(|v| !v.is_finite()) {
                return Err(fail(format!(
                    "value {place} is {}; the checkpoint is damaged, use another",
                    values[place]
                )));
            }
            Ok(values)
        };
        match self {
            Fill::Constant(value) => {
                let range = params.infos[i].range();
                params.values[range].fill(value);
            }
            Fill::Whole { index } => params.set_torch(i, &read(index)?),
            Fill::Rows { index, rows } => {
                let values = read(index)?;
                let mut filled = params.get_torch(i);
                let width = filled.len() / rows.len();
                for (new, old) in rows.iter().enumerate() {
                    if let Some(old) = old {
                        filled[new * width..][..width].copy_from_slice(&values[old * width..][..width]);
                    }
                }
                params.set_torch(i, &filled);
            }
            Fill::InputChannels { index, source, target } => {
                let values = read(index)?;
                let mut filled = params.get_torch(i);
                let [out, _, kh, kw] = params.infos[i].shape[..] else {
                    unreachable!("a convolution's weight has four dimensions")
                };
                let area = kh * kw;
                for o in 0..out {
                    let from = &values[o * source * area..][..source * area];
                    let to = &mut filled[o * target * area..][..target * area];
                    for (c, to) in to.chunks_exact_mut(area).enumerate() {
                        for (t, value) in to.iter_mut().enumerate() {
                            *value = match target {
                                1 => (0..source).map(|c| from[c * area + t]).sum(),
                                _ => from[c % source * area + t] * (source as f32 / target as f32),
                            };
                        }
                    }
                }
                params.set_torch(i, &filled);
            }
        }
        Ok(())
    }
}
