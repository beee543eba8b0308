//! Ranges of a network's values on pictures, for [`super::quantise`].

use std::collections::HashMap;
use std::sync::Arc;

use onsa_compute::graph::{Graph, Op, Value};
use onsa_compute::{Executor, Mode, Params, Plan, Trainable};

use super::network::{Kind, Network};
use super::quantise::{Quantisation, Scheme};
use crate::models::Model;

/// A value's least and largest element.
#[derive(Clone, Copy)]
struct Range {
    low: f32,
    high: f32,
}

/// Measures every convolution's input and output on `images` (each `[h, w, channels]`, 0 to 1, of the model's size). A range
/// is the mean of the pictures' extremes: one picture's outlier does not coarsen all steps.
///
/// The convolutions that give the network's outputs stay float: they are small, and a step of a box's or score's logit
/// is felt.
pub fn calibrate(
    model: &Model,
    params: &Params,
    network: &Network,
    images: &[Vec<f32>],
    pool: &Arc<rayon::ThreadPool>,
    mut progress: impl FnMut(usize, usize),
) -> Quantisation {
    let float = output_convs(network);
    let mut wanted: Vec<usize> = network
        .convs()
        .filter(|(_, node, _)| !float.contains(&node.name))
        .flat_map(|(_, node, _)| [node.inputs[0], node.output])
        .collect();
    wanted.sort_unstable();
    wanted.dedup();

    // The engine keeps what is an output; a view's channels are read from the value that it is cut from.
    let mut graph = model.graph.clone();
    let by_index: HashMap<usize, Value> =
        graph.nodes().iter().flat_map(|node| &node.inputs).map(|v| (v.index(), *v)).collect();
    let outputs = graph.outputs().len();
    let mut marked: Vec<usize> = Vec::new();
    for &value in &wanted {
        let (root, _) = root_of(&graph, value);
        if !marked.contains(&root) {
            let handle = by_index
                .get(&root)
                .copied()
                .or_else(|| graph.outputs().iter().map(|(_, v)| *v).find(|v| v.index() == root));
            let handle =
                handle.expect("a convolution's input and output are read by some node or are outputs");
            graph.output(&format!("value{root}"), handle);
            marked.push(root);
        }
    }
    let plan = Plan::new(&graph, Mode::Inference, &Trainable::nothing(&graph));
    let mut executor = Executor::new(Arc::new(plan), Arc::clone(pool));
    executor.prepare(params);
    let mut sums: HashMap<usize, Range> = HashMap::new();
    let (normalise, channels) = (model.architecture.normalise(), model.input[3]);
    for (done, image) in images.iter().enumerate() {
        normalise.apply(image, channels, executor.input_mut(0));
        executor.forward();
        for &value in &wanted {
            let (root, start) = root_of(&graph, value);
            let at = marked.iter().position(|m| *m == root).expect("every root was marked");
            let range = extremes(
                executor.output(outputs + at),
                graph.nodes()[root].shape[3],
                start..start + graph.nodes()[value].shape[3],
            );
            let sum = sums.entry(value).or_insert(Range { low: 0.0, high: 0.0 });
            sum.low += range.low / images.len() as f32;
            sum.high += range.high / images.len() as f32;
        }
        progress(done + 1, images.len());
    }
    let mut schemes = vec![None; network.shapes.len()];
    for (value, range) in sums {
        schemes[value] = Some(Scheme::of_range(range.low, range.high));
    }
    // The picture's own steps: exact where all channels enter alike.
    let factors = normalise.factors(channels);
    let ends = |value: f32| factors.iter().map(move |(mean, factor)| (value - mean) * factor);
    let (low, high) = (ends(0.0).fold(0.0, f32::min), ends(1.0).fold(0.0, f32::max));
    schemes[network.input] = Some(Scheme::of_range(low, high));
    for (_, node, _) in network.convs() {
        if float.contains(&node.name) {
            schemes[node.output] = None;
        }
    }
    Quantisation { schemes, float }
}

/// Names of the convolutions whose results go into the network's outputs as they are.
fn output_convs(network: &Network) -> Vec<String> {
    let mut ends: Vec<usize> = network.outputs.clone();
    for node in network.nodes.iter().rev() {
        if ends.contains(&node.output) && matches!(node.kind, Kind::Concat | Kind::Slice { .. }) {
            ends.extend(&node.inputs);
        }
    }
    network
        .convs()
        .filter(|(_, node, _)| ends.contains(&node.output))
        .map(|(_, n, _)| n.name.clone())
        .collect()
}

/// The value that a slice is cut from, and the first channel.
fn root_of(graph: &Graph, mut value: usize) -> (usize, usize) {
    let mut channel = 0;
    while let Op::Slice { start } = graph.nodes()[value].op {
        channel += start;
        value = graph.nodes()[value].inputs[0].index();
    }
    (value, channel)
}

fn extremes(values: &[f32], channels: usize, range: std::ops::Range<usize>) -> Range {
    let mut out = Range { low: f32::INFINITY, high: f32::NEG_INFINITY };
    for pixel in values.chunks_exact(channels) {
        for &v in &pixel[range.clone()] {
            out = Range { low: out.low.min(v), high: out.high.max(v) };
        }
    }
    out
}
