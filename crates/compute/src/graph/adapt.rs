//! Low-rank adapters beside convolutions and linear layers (Hu et al., 2021, "LoRA", arXiv:2106.09685).
//!
//! `y = W x` becomes `y = W x + B s A x`. A is a convolution to `r` channels with W's kernel, step and padding, B one of 1x1
//! back to y's channels, s a constant factor. As A comes first and B looks at one pixel, the sum is again one convolution,
//! with the weights `W + s A B` (in the arena's layout, where a weight is a matrix `[kh * kw * in, out]`).

use super::{ConvGeometry, Graph, Op, ParamId, Role, Value};

/// The parameters of one adapted layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adapter {
    /// The layer's own weight W, `[out, in, kh, kw]` (linear: `[out, in]`).
    pub weight: ParamId,
    /// `LAYER.lora_A.weight`, `[r, in, kh, kw]` (linear: `[r, in]`).
    pub a: ParamId,
    /// `LAYER.lora_B.weight`, `[out, r, 1, 1]` (linear: `[out, r]`).
    pub b: ParamId,
    /// `LAYER.lora_scale`, the factor s once a channel, `[r]`: a constant.
    pub scale: ParamId,
}

impl Graph {
    /// The same graph with adapters of rank `rank` beside the layers that `wanted` names (without `.weight`). Grouped
    /// convolutions get none. The parameters that were there keep their places; the adapters' stand behind them.
    pub fn adapted(&self, rank: usize, wanted: impl Fn(&str) -> bool) -> (Graph, Vec<Adapter>) {
        let mut graph = Graph { params: self.params.clone(), ..Graph::default() };
        let mut places: Vec<Value> = Vec::with_capacity(self.nodes.len());
        let mut adapters = Vec::new();
        for node in &self.nodes {
            let inputs: Vec<Value> = node.inputs.iter().map(|input| places[input.index()]).collect();
            let x = inputs.first().copied();
            let mut value = graph.push(node.op.clone(), inputs, node.shape);
            if let (Op::Conv2d { weight, geometry, .. }, Some(x)) = (&node.op, x) {
                let name = &self.params[weight.index()].name;
                let layer = name.strip_suffix(".weight").unwrap_or(name);
                if geometry.groups == 1 && wanted(layer) {
                    let (sum, adapter) = graph.adapter(x, value, (layer, *weight), *geometry, rank);
                    value = sum;
                    adapters.push(adapter);
                }
            }
            places.push(value);
        }
        let moved = |named: &[(String, Value)]| -> Vec<(String, Value)> {
            named.iter().map(|(name, value)| (name.clone(), places[value.index()])).collect()
        };
        graph.inputs = moved(&self.inputs);
        graph.outputs = moved(&self.outputs);
        (graph, adapters)
    }

    /// Adds `B s A x` to the layer's result `y`.
    fn adapter(
        &mut self,
        x: Value,
        y: Value,
        (layer, weight): (&str, ParamId),
        geometry: ConvGeometry,
        rank: usize,
    ) -> (Value, Adapter) {
        let [n, h, w, out] = self.shape(y);
        let shape = self.params[weight.index()].shape.clone();
        let is_linear = shape.len() == 2;
        let narrow = std::iter::once(rank).chain(shape[1..].iter().copied()).collect();
        let wide = if is_linear { vec![out, rank] } else { vec![out, rank, 1, 1] };
        let a = self.param(format!("{layer}.lora_A.weight"), narrow, Role::Weight);
        let b = self.param(format!("{layer}.lora_B.weight"), wide, Role::Weight);
        let scale = self.param(format!("{layer}.lora_scale"), vec![rank], Role::ChannelScale);
        let pixelwise = ConvGeometry { kernel: (1, 1), stride: (1, 1), pad: [0; 4], groups: 1 };
        let low = self.push(Op::Conv2d { weight: a, bias: None, geometry }, vec![x], [n, h, w, rank]);
        let low = self.push(Op::ScaleChannels { scale }, vec![low], [n, h, w, rank]);
        let high =
            self.push(Op::Conv2d { weight: b, bias: None, geometry: pixelwise }, vec![low], [n, h, w, out]);
        (self.add(y, high), Adapter { weight, a, b, scale })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Conv;

    fn conv(name: &str, out: usize, groups: usize) -> Conv {
        let (kernel, stride, pad) = ((3, 3), (2, 2), [1; 4]);
        Conv { name: name.into(), out, kernel, stride, pad, groups, bias: true }
    }

    #[test]
    fn adapters_stand_behind_what_was_there() {
        let mut graph = Graph::new();
        let x = graph.input("x", [2, 8, 8, 4]);
        let y = graph.conv2d(x, conv("first", 6, 1));
        let y = graph.conv2d(y, conv("second", 6, 6));
        let y = graph.global_avg_pool(y);
        let y = graph.linear(y, "fc", 3, true);
        graph.output("y", y);
        let (adapted, adapters) = graph.adapted(2, |_| true);
        assert_eq!(adapted.params()[..graph.params().len()], *graph.params());
        let added: Vec<(&str, &[usize])> = adapted.params()[graph.params().len()..]
            .iter()
            .map(|info| (info.name.as_str(), info.shape.as_slice()))
            .collect();
        assert_eq!(
            added,
            [
                ("first.lora_A.weight", &[2, 4, 3, 3][..]),
                ("first.lora_B.weight", &[6, 2, 1, 1]),
                ("first.lora_scale", &[2]),
                ("fc.lora_A.weight", &[2, 6]),
                ("fc.lora_B.weight", &[3, 2]),
                ("fc.lora_scale", &[2]),
            ]
        );
        assert_eq!(adapters.len(), 2, "the depthwise convolution has none");
        assert_eq!(adapted.shape(adapted.outputs()[0].1), [2, 1, 1, 3]);
        let (none, adapters) = graph.adapted(2, |layer| layer == "other");
        assert!(adapters.is_empty() && none.nodes().len() == graph.nodes().len());
    }
}
