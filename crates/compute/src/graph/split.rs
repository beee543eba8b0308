//! A graph cut in two: what training leaves as it is, and what depends on something trained.

use super::{Graph, Op, Value};

/// The two parts of a graph. Both have all of its parameters, in the same places.
#[derive(Clone, Debug)]
pub struct Split {
    /// The graph's inputs to the values that the other part needs, as outputs `tap0`, `tap1`, …
    pub trunk: Graph,
    /// Those values, as inputs of the same names, to the graph's outputs.
    pub head: Graph,
}

impl Graph {
    /// Cuts the graph where values begin to depend on what `changes` is true of: a node changes by itself (its parameters
    /// are trained, or it takes statistics over the batch) or because an input does. None where an output changes with
    /// nothing, or an input is needed on both sides: then there is nothing to cut.
    pub fn split(&self, changes: impl Fn(&Op) -> bool) -> Option<Split> {
        let mut changing = vec![false; self.nodes.len()];
        for (i, node) in self.nodes.iter().enumerate() {
            let given = matches!(node.op, Op::Input);
            changing[i] =
                !given && changes(&node.op) || node.inputs.iter().any(|input| changing[input.index()]);
        }
        if self.outputs.iter().any(|(_, output)| !changing[output.index()]) {
            return None;
        }
        let mut taps: Vec<Value> = Vec::new();
        for (_, node) in self.nodes.iter().enumerate().filter(|(i, _)| changing[*i]) {
            for &input in node.inputs.iter().filter(|input| !changing[input.index()]) {
                if matches!(self.nodes[input.index()].op, Op::Input) {
                    return None;
                }
                if !taps.contains(&input) {
                    taps.push(input);
                }
            }
        }
        let name = |i: usize| format!("tap{i}");
        let mut trunk = Graph { params: self.params.clone(), ..Graph::new() };
        let mut places = vec![None; self.nodes.len()];
        let move_node = |graph: &mut Graph, places: &mut Vec<Option<Value>>, i: usize| {
            let node = &self.nodes[i];
            let inputs = node
                .inputs
                .iter()
                .map(|input| places[input.index()].expect("inputs stand before what they are needed for"))
                .collect();
            places[i] = Some(graph.push(node.op.clone(), inputs, node.shape));
        };
        // Only what a tap needs.
        let mut needed = vec![false; self.nodes.len()];
        taps.iter().for_each(|tap| needed[tap.index()] = true);
        for i in (0..self.nodes.len()).rev().filter(|&i| !changing[i]) {
            if needed[i] {
                self.nodes[i].inputs.iter().for_each(|input| needed[input.index()] = true);
            }
        }
        for i in (0..self.nodes.len()).filter(|&i| needed[i] && !changing[i]) {
            move_node(&mut trunk, &mut places, i);
        }
        for (input, value) in &self.inputs {
            if let Some(value) = places[value.index()] {
                trunk.inputs.push((input.clone(), value));
            }
        }
        for (i, tap) in taps.iter().enumerate() {
            let value = places[tap.index()].expect("a tap is needed, so it was moved");
            trunk.outputs.push((name(i), value));
        }
        let mut head = Graph { params: self.params.clone(), ..Graph::new() };
        let mut places = vec![None; self.nodes.len()];
        for (i, tap) in taps.iter().enumerate() {
            places[tap.index()] = Some(head.input(&name(i), self.shape(*tap)));
        }
        for i in (0..self.nodes.len()).filter(|&i| changing[i]) {
            move_node(&mut head, &mut places, i);
        }
        for (output, value) in &self.outputs {
            let value = places[value.index()].expect("outputs change, so they were moved");
            head.outputs.push((output.clone(), value));
        }
        Some(Split { trunk, head })
    }
}
