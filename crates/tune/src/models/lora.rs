//! Low-rank adapters (Hu et al., 2021, "LoRA", arXiv:2106.09685): a network whose weights stay as they are, with narrow
//! layers beside them that learn.
//!
//! A convolution or linear layer with weights W gets `W x + alpha / r * B A x`; see [`onsa_compute::graph::Graph::adapted`] for its
//! form. A starts as a fresh layer does (uniform in +-1/sqrt(fan in)), B at zero: the network starts unchanged. What is
//! saved, validated and exported is the plain network with the weights `W + alpha / r * A B` ([`Model::merged`]).

use std::borrow::Cow;
use std::collections::BTreeSet;

use onsa_compute::graph::{Op, Params, Role};

use super::architecture::Model;
use super::init::uniform;

/// What adapters a network gets.
#[derive(Clone, Debug, PartialEq)]
pub struct LowRank {
    /// Channels between A and B.
    pub rank: usize,
    /// The adapters' results are multiplied by `alpha / rank`.
    pub alpha: f64,
    /// The layers that get one, by name (without `.weight`).
    pub layers: BTreeSet<String>,
}

impl LowRank {
    /// Adapters beside every layer of `model` of which `wanted` is true, that can have one and is smaller than its weight would
    /// be: dense convolutions and linear layers, the layers that give the logits left out, for these are trained themselves.
    pub fn beside(model: &Model, rank: usize, alpha: f64, wanted: impl Fn(&str) -> bool) -> LowRank {
        let logits = model.architecture.logit_layers();
        let infos = model.graph.params();
        let layers = model.graph.nodes().iter().filter_map(|node| {
            let Op::Conv2d { weight, geometry, .. } = &node.op else { return None };
            let info = &infos[weight.index()];
            let layer = info.name.strip_suffix(".weight")?;
            let (rows, columns) = info.matrix()?;
            let smaller = rank * (rows + columns) < info.len;
            let can = geometry.groups == 1 && smaller && !logits.iter().any(|logits| logits == layer);
            (can && wanted(&info.name)).then(|| layer.to_owned())
        });
        LowRank { rank, alpha, layers: layers.collect() }
    }
}

/// Whether a parameter is an adapter's, and learns.
pub fn is_adapter(name: &str) -> bool {
    name.ends_with(".lora_A.weight") || name.ends_with(".lora_B.weight")
}

impl Model {
    /// The same network with adapters. The plain network's parameters keep their places, at the front.
    pub fn adapted(&self, low_rank: &LowRank) -> Model {
        let (graph, adapters) = self.graph.adapted(low_rank.rank, |layer| low_rank.layers.contains(layer));
        Model { graph, adapters, low_rank: Some(low_rank.clone()), ..self.clone() }
    }

    /// Starting values of this network with adapters, from those of the plain one.
    pub fn adapt(&self, plain: &Params, seed: u64) -> Params {
        let mut params = self.blank_params();
        let infos = params.infos.clone();
        // The places in the arena are the same; behind the last lies nothing of the plain network's.
        let end = plain.infos.last().map_or(0, |last| last.offset + last.len);
        params.values[..end].copy_from_slice(&plain.values[..end]);
        let low_rank = self.low_rank.as_ref();
        for adapter in &self.adapters {
            let a = &infos[adapter.a.index()];
            let fan_in: usize = a.shape[1..].iter().product();
            let fresh = uniform(seed, &a.name, a.len, 1.0 / (fan_in as f32).sqrt());
            params.set_torch(adapter.a.index(), &fresh);
            let factor = low_rank.map_or(1.0, |low_rank| low_rank.alpha / low_rank.rank as f64);
            params.values[infos[adapter.scale.index()].range()].fill(factor as f32);
        }
        params
    }

    /// The plain network's arena with each adapter taken into its layer's weights; `values` as they are without adapters.
    /// A weight whose adapter gives exactly nothing keeps its bits.
    pub fn merged<'a>(&self, values: &'a [f32]) -> Cow<'a, [f32]> {
        let Some(first) = self.adapters.first() else { return Cow::Borrowed(values) };
        let infos = self.graph.params();
        let plain =
            infos[..first.a.index()].last().map_or(0, |last| (last.offset + last.len).next_multiple_of(16));
        let mut merged = values[..plain].to_vec();
        for adapter in &self.adapters {
            let get = |id: onsa_compute::graph::ParamId| &values[infos[id.index()].range()];
            let (a, b, scale) = (get(adapter.a), get(adapter.b), get(adapter.scale));
            let (rank, out) = (scale.len(), infos[adapter.weight.index()].shape[0]);
            let weight = &mut merged[infos[adapter.weight.index()].range()];
            for (row, a) in weight.chunks_exact_mut(out).zip(a.chunks_exact(rank)) {
                for (o, w) in row.iter_mut().enumerate() {
                    let terms = a.iter().zip(scale).zip(b[o..].iter().step_by(out));
                    let change: f64 =
                        terms.map(|((&a, &s), &b)| f64::from(a) * f64::from(s) * f64::from(b)).sum();
                    if change != 0.0 {
                        *w = (f64::from(*w) + change) as f32;
                    }
                }
            }
        }
        Cow::Owned(merged)
    }

    /// Values of the adapters that learn.
    pub fn adapter_count(&self) -> usize {
        let infos = self.graph.params().iter();
        infos.filter(|info| info.role == Role::Weight && is_adapter(&info.name)).map(|info| info.len).sum()
    }
}

#[cfg(test)]
mod tests;
