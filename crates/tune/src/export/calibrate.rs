//! Ranges of a network's values on pictures, for [`super::quantise`].

use std::collections::HashMap;
use std::sync::Arc;

use onsa_compute::graph::{Activation, Graph, Op, Value};
use onsa_compute::{Executor, Mode, Params, Plan, Trainable};

use super::network::{Kind, Network};
use super::quantise::{Quantisation, Scheme};
use crate::models::Model;

/// A value's least and largest element, 0 included.
#[derive(Clone, Copy)]
struct Range {
    low: f32,
    high: f32,
}

/// SiLU gives -.0027 at this and less below: what reads a value through SiLU alone needs no steps further down.
const SILU_LOW: f32 = -8.0;
/// Convolutions at strides up to this one stay float in networks of SiLU: their values have the longest tails (94 where half
/// of the channels' largest are below 42, in YOLO12n), their error goes through all that follows, and they do a tenth of the
/// multiplications. docs/decisions/int8.md has what each block costs.
const FLOAT_STRIDE: usize = 4;

/// Pictures to measure on, each `[h, w, channels]`, 0 to 1, of the model's size.
#[derive(Clone, Copy, Debug)]
pub struct Samples<'a> {
    /// Such as the model will see: ranges and means.
    pub images: &'a [Vec<f32>],
    /// Others, of which only the extremes count: what the first do not show has room.
    pub others: &'a [Vec<f32>],
}

/// Measures every convolution's input and output. A range holds all that occurred: a value that is cut off costs more than a
/// coarser step, where values have long tails.
///
/// The convolutions that give the network's outputs stay float: they are small, and a step of a box's or score's logit
/// is felt. See [`FLOAT_STRIDE`] for others.
pub fn calibrate(
    model: &Model,
    params: &Params,
    network: &Network,
    samples: Samples<'_>,
    pool: &Arc<rayon::ThreadPool>,
    mut progress: impl FnMut(usize, usize),
) -> Quantisation {
    let smooth = network.nodes.iter().any(|n| matches!(n.kind, Kind::Activation(Activation::Silu)));
    let mut float = output_convs(network);
    if smooth {
        let rows = network.shapes[network.input][1];
        let fine = network.convs().filter(|(_, n, _)| network.shapes[n.output][1] * FLOAT_STRIDE >= rows);
        float.extend(fine.map(|(_, node, _)| node.name.clone()));
    }
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
    let mut ranges: HashMap<usize, Range> = HashMap::new();
    let mut means: HashMap<usize, Vec<f64>> = HashMap::new();
    let (normalise, channels) = (model.architecture.normalise(), model.input[3]);
    let all = samples.images.len() + samples.others.len();
    for (done, image) in samples.images.iter().chain(samples.others).enumerate() {
        normalise.apply(image, channels, executor.input_mut(0));
        executor.forward();
        for &value in &wanted {
            let (root, start) = root_of(&graph, value);
            let at = marked.iter().position(|m| *m == root).expect("every root was marked");
            let (values, stored) = (executor.output(outputs + at), graph.nodes()[root].shape[3]);
            let own = start..start + graph.nodes()[value].shape[3];
            let range = extremes(values, stored, own.clone());
            let so_far = ranges.entry(value).or_insert(Range { low: 0.0, high: 0.0 });
            *so_far = Range { low: so_far.low.min(range.low), high: so_far.high.max(range.high) };
            if done < samples.images.len() {
                let sums = means.entry(value).or_insert_with(|| vec![0.0; own.len()]);
                add_means(values, stored, own, samples.images.len(), sums);
            }
        }
        progress(done + 1, all);
    }
    let mut schemes = vec![None; network.shapes.len()];
    for (value, range) in ranges {
        let low = if only_silu_reads(network, value) { range.low.max(SILU_LOW) } else { range.low };
        schemes[value] = Some(Scheme::of_range(low, range.high));
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
    let means =
        means.into_iter().map(|(value, m)| (value, m.into_iter().map(|v| v as f32).collect())).collect();
    Quantisation { schemes, float, means, smooth }
}

/// Whether a value goes into SiLU and nowhere else.
fn only_silu_reads(network: &Network, value: usize) -> bool {
    let mut readers = network.nodes.iter().filter(|n| n.inputs.contains(&value)).peekable();
    readers.peek().is_some()
        && !network.outputs.contains(&value)
        && readers.all(|n| matches!(n.kind, Kind::Activation(Activation::Silu)))
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

/// Adds each channel's mean over the pixels, divided by `images`.
fn add_means(
    values: &[f32],
    channels: usize,
    range: std::ops::Range<usize>,
    images: usize,
    sums: &mut [f64],
) {
    let share = 1.0 / (values.len() / channels * images) as f64;
    for pixel in values.chunks_exact(channels) {
        for (sum, &v) in sums.iter_mut().zip(&pixel[range.clone()]) {
            *sum += f64::from(v) * share;
        }
    }
}
