//! Two networks that begin alike, as one graph: the common beginning is computed once.

use super::{Graph, Op, ParamId, Value};

impl Graph {
    /// This graph with `other` beside it, whose first `shared` nodes are the same as here and are computed once. What comes
    /// after them is copied; the copies' parameters, norms and outputs have `prefix` before their names. The parameters that
    /// were there keep their places; the copies' stand behind them.
    ///
    /// # Panics
    /// If the graphs do not begin alike, or a copied node is an input: the caller's mistake, never the user's data.
    pub fn with_branch(&self, other: &Graph, shared: usize, prefix: &str) -> Graph {
        let mut graph = self.clone();
        for (own, theirs) in self.nodes.iter().zip(&other.nodes).take(shared) {
            let alike = own.shape == theirs.shape && own.inputs == theirs.inputs;
            assert!(alike && shared <= self.nodes.len(), "the graphs begin differently");
        }
        let mut places: Vec<Value> = (0..shared as u32).map(Value).collect();
        let mut copied: Vec<Option<ParamId>> = vec![None; other.params.len()];
        for node in &other.nodes[shared..] {
            assert!(!matches!(node.op, Op::Input), "a branch has no input of its own");
            let mut copy = |graph: &mut Graph, id: ParamId| {
                *copied[id.index()].get_or_insert_with(|| {
                    let info = &other.params[id.index()];
                    graph.param(format!("{prefix}{}", info.name), info.shape.clone(), info.role)
                })
            };
            let op = match &node.op {
                Op::Conv2d { weight, bias, geometry } => Op::Conv2d {
                    weight: copy(&mut graph, *weight),
                    bias: bias.map(|bias| copy(&mut graph, bias)),
                    geometry: *geometry,
                },
                Op::BatchNorm { name, scale, shift, mean, var, eps, momentum } => Op::BatchNorm {
                    name: format!("{prefix}{name}"),
                    scale: copy(&mut graph, *scale),
                    shift: copy(&mut graph, *shift),
                    mean: copy(&mut graph, *mean),
                    var: copy(&mut graph, *var),
                    eps: *eps,
                    momentum: *momentum,
                },
                Op::ScaleChannels { scale } => Op::ScaleChannels { scale: copy(&mut graph, *scale) },
                without_parameters => without_parameters.clone(),
            };
            let inputs = node.inputs.iter().map(|input| places[input.index()]).collect();
            places.push(graph.push(op, inputs, node.shape));
        }
        for (name, value) in &other.outputs {
            graph.outputs.push((format!("{prefix}{name}"), places[value.index()]));
        }
        graph
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Conv;

    fn network(out: usize) -> Graph {
        let mut graph = Graph::new();
        let mut x = graph.input("x", [1, 8, 8, 2]);
        for (name, out) in [("first", 4), ("second", 6), ("last", out)] {
            let (kernel, stride, pad) = ((3, 3), (1, 1), [1; 4]);
            x = graph.conv2d(x, Conv { name: name.into(), out, kernel, stride, pad, groups: 1, bias: true });
        }
        graph.output("y", x);
        graph
    }

    #[test]
    fn what_both_begin_with_is_computed_once_and_old_parameters_keep_their_places() {
        let (one, two) = (network(3), network(1));
        let both = one.with_branch(&two, 2, "b.");
        assert_eq!(both.params()[..one.params().len()], *one.params());
        let added: Vec<&str> = both.params()[one.params().len()..].iter().map(|p| p.name.as_str()).collect();
        assert_eq!(added, ["b.second.weight", "b.second.bias", "b.last.weight", "b.last.bias"]);
        assert_eq!(both.nodes().len(), one.nodes().len() + 2);
        let outputs: Vec<(&str, usize)> =
            both.outputs().iter().map(|(name, value)| (name.as_str(), both.shape(*value)[3])).collect();
        assert_eq!(outputs, [("y", 3), ("b.y", 1)]);
        // The copy of the second convolution reads the first one's result.
        assert_eq!(both.nodes()[one.nodes().len()].inputs, one.nodes()[2].inputs);
    }
}
