//! The engine against the float64 interpreter: forward, every gradient, awkward shapes, every instruction set.

mod support;

use std::sync::Arc;

use onsa_compute::graph::Op;
use onsa_compute::{
    Activation, Attention, Conv, Executor, Graph, Isa, Mode, Params, Plan, Storage, Trainable,
};
use support::build::{block, conv, depthwise};
use support::{evaluate, random, random_params, weighted_sum};

fn pool(threads: usize) -> Arc<rayon::ThreadPool> {
    Arc::new(rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads"))
}

/// Every operator, with the fusions and sharings that detectors have: residuals, slices, nested concatenations.
fn everything() -> Graph {
    everything_with(true)
}

/// As [`everything`]; without kinks no maximum and no activation with a corner: where values are rounded, another of them
/// may be the largest, or one may come to lie on a corner's other side.
fn everything_with(kinks: bool) -> Graph {
    let mut g = Graph::new();
    let x = g.input("x", [2, 8, 12, 3]);
    let corner = |activation| if kinks { activation } else { Activation::Silu };
    let a = block(&mut g, x, "a", 12, 3, 2, Activation::Silu);
    let left = g.slice(a, 0..4);
    let right = g.slice(a, 4..12);
    let b = block(&mut g, right, "b", 8, 3, 1, corner(Activation::Hardswish));
    let b = g.add(right, b);
    let c = block(&mut g, b, "c", 8, 1, 1, corner(Activation::Relu));
    let inner = g.concat(&[b, c]);
    let outer = g.concat(&[left, inner, left]);
    let d = depthwise(&mut g, outer, "d", 5, 1);
    let d = g.batch_norm(d, "d.bn", 1e-3, 0.03);
    let pooled = if kinks { g.max_pool(d, 5, 1, 2) } else { d };
    let qkv = conv(&mut g, pooled, "qkv", 2 * (4 + 4 + 6), 1, 1, true);
    let attended = g.attention(qkv, Attention { heads: 2, key_dim: 4, value_dim: 6, areas: 2 });
    let v = g.gather_heads(qkv, 2, 8, 6);
    let pe = depthwise(&mut g, v, "pe", 3, 1);
    let attended = g.add(attended, pe);
    let attended = g.scale_channels(attended, "gamma");
    let up = g.upsample2(attended);
    let down = depthwise(&mut g, up, "down", 3, 2);
    let down = g.activation(down, corner(Activation::Relu6));
    let odd = conv(&mut g, down, "odd", 5, 3, 2, true);
    let odd = g.activation(odd, Activation::Sigmoid);
    let both = g.concat(&[down, attended]);
    let last = conv(&mut g, both, "last", 7, 1, 1, true);
    let mean = g.global_avg_pool(both);
    let mean = g.activation(mean, corner(Activation::Hardsigmoid));
    let logits = g.linear(mean, "fc", 3, true);
    g.output("odd", odd);
    g.output("last", last);
    g.output("logits", logits);
    g
}

/// Largest difference, over the largest size of the expected values.
fn relative_error(got: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let scale = expected.iter().fold(1e-3f64, |m, x| m.max(x.abs()));
    got.iter().zip(expected).fold(0.0f64, |m, (&g, &e)| {
        assert!(g.is_finite(), "not finite");
        m.max((f64::from(g) - e).abs() / scale)
    })
}

fn check(graph: &Graph, isa: Isa, threads: usize) {
    check_stored(graph, isa, threads, Storage::Float32);
    check_stored(graph, isa, threads, Storage::Bf16);
}

fn check_stored(graph: &Graph, isa: Isa, threads: usize, storage: Storage) {
    let len = graph.shape(graph.inputs()[0].1).iter().product();
    check_input(graph, isa, threads, storage, &random(len, 99));
}

fn check_input(graph: &Graph, isa: Isa, threads: usize, storage: Storage, input: &[f32]) {
    let (output_bound, grad_bound) = match storage {
        Storage::Float32 => (2e-5, 1e-4),
        // Ten layers deep .013 of outputs and .022 of gradients was the most that was seen; a rounding is .0039 at most.
        Storage::Bf16 => (0.02, 0.03),
    };
    let which = format!("{isa:?} {storage:?}");
    let mut params = random_params(graph, 7);
    let wide = |xs: &[f32]| xs.iter().map(|&x| f64::from(x)).collect::<Vec<_>>();
    let wide_input = vec![wide(input)];

    let plan = Plan::new(graph, Mode::Inference, &Trainable::nothing(graph));
    let mut run = Executor::with_isa_and_storage(Arc::new(plan), pool(threads), isa, storage);
    run.prepare(&params);
    run.input_mut(0).copy_from_slice(input);
    run.forward();
    let expected = evaluate(graph, &wide(&params.values), &wide_input, false);
    for (i, (name, v)) in graph.outputs().iter().enumerate() {
        let error = relative_error(run.output(i), &expected[v.index()]);
        assert!(error < output_bound, "{which} inference {name}: {error:e}");
    }

    let trainable = Trainable::all(graph);
    let plan = Arc::new(Plan::new(graph, Mode::Training, &trainable));
    let mut run = Executor::with_isa_and_storage(plan, pool(threads), isa, storage);
    let weights: Vec<Vec<f32>> = graph
        .outputs()
        .iter()
        .enumerate()
        .map(|(i, (_, v))| random(graph.shape(*v).iter().product(), i as u64))
        .collect();
    let mut grads = vec![0.0; params.values.len()];
    // Twice, so that what the first step leaves behind cannot matter.
    for _ in 0..2 {
        run.prepare(&params);
        run.input_mut(0).copy_from_slice(input);
        run.forward();
        let (_, outs) = run.outputs_and_grads();
        outs.into_iter().zip(&weights).for_each(|(out, w)| out.copy_from_slice(w));
        run.backward(&mut grads);
    }
    let values = wide(&params.values);
    let expected = evaluate(graph, &values, &wide_input, true);
    for (i, (name, v)) in graph.outputs().iter().enumerate() {
        let error = relative_error(run.output(i), &expected[v.index()]);
        assert!(error < output_bound, "{which} training {name}: {error:e}");
    }
    for info in graph.params().iter().filter(|p| p.role.is_trained()) {
        // At most 24 elements of each, spread over it.
        let places: Vec<usize> = info.range().step_by(info.len.div_ceil(24)).collect();
        let numeric: Vec<f64> = places
            .iter()
            .map(|&at| {
                let mut shifted = values.clone();
                let h = 1e-6;
                shifted[at] = values[at] + h;
                let up = weighted_sum(graph, &evaluate(graph, &shifted, &wide_input, true), &weights);
                shifted[at] = values[at] - h;
                let down = weighted_sum(graph, &evaluate(graph, &shifted, &wide_input, true), &weights);
                (up - down) / (2.0 * h)
            })
            .collect();
        let got: Vec<f32> = places.iter().map(|&at| grads[at]).collect();
        let error = relative_error(&got, &numeric);
        assert!(error < grad_bound, "{which} gradient of {}: {error:e}", info.name);
    }
    let before = params.clone();
    run.update_running(&mut params);
    for (info, old) in params.infos.iter().zip(&before.infos) {
        let moved = params.values[info.range()] != before.values[old.range()];
        let is_statistic = info.name.contains("running_");
        assert_eq!(moved, is_statistic, "{}", info.name);
    }
}

#[test]
fn every_operator_and_its_gradients() {
    for isa in Isa::available() {
        check_stored(&everything(), isa, 1, Storage::Float32);
        check_stored(&everything_with(false), isa, 1, Storage::Bf16);
    }
}

/// Maxima of values that stay apart when they are rounded: 96 whole numbers, in another order in each channel.
#[test]
fn maxima_are_the_same_however_values_are_stored() {
    for (kernel, stride, pad) in [(5, 1, 2), (2, 2, 0), (3, 2, 1)] {
        let mut g = Graph::new();
        let x = g.input("x", [1, 8, 12, 37]);
        let scaled = g.scale_channels(x, "gamma");
        let pooled = g.max_pool(scaled, kernel, stride, pad);
        let twice = g.add(pooled, pooled);
        g.output("y", twice);
        let input: Vec<f32> = (0..96 * 37).map(|i| ((i / 37 * 31 + i % 37 * 7) % 97) as f32).collect();
        for isa in Isa::available() {
            for storage in [Storage::Float32, Storage::Bf16] {
                check_input(&g, isa, 2, storage, &input);
            }
        }
    }
}

#[test]
fn awkward_shapes() {
    for (h, w, c, out, k, s) in [
        (1, 1, 1, 1, 1, 1),
        (1, 1, 3, 2, 3, 1),
        (5, 7, 1, 17, 3, 2),
        (7, 5, 17, 1, 3, 1),
        (3, 31, 2, 33, 5, 2),
        (2, 2, 33, 40, 1, 1),
        (9, 4, 4, 6, 7, 3),
    ] {
        let mut g = Graph::new();
        let x = g.input("x", [1, h, w, c]);
        let first = conv(&mut g, x, "first", 2, 3, 1, true);
        let y = conv(&mut g, first, "y", out, k, s, true);
        g.output("y", y);
        for isa in Isa::available() {
            check(&g, isa, 2);
        }
    }
}

/// What TensorFlow's "same" padding and squeeze-and-excitation need: padding that differs from side to side, dense and
/// depthwise, and a gate whose input and factors come from one value.
#[test]
fn uneven_padding_and_gates() {
    let mut g = Graph::new();
    let x = g.input("x", [2, 9, 12, 3]);
    let uneven = |name: &str, out, kernel, pad, groups| Conv {
        name: name.into(),
        out,
        kernel: (kernel, kernel),
        stride: (2, 2),
        pad,
        groups,
        bias: true,
    };
    let stem = g.conv2d(x, uneven("stem", 10, 3, [0, 0, 1, 1], 1));
    let stem = g.activation(stem, Activation::Hardswish);
    let deep = g.conv2d(stem, uneven("deep", 10, 5, [1, 1, 2, 2], 10));
    let left = g.conv2d(stem, uneven("left", 10, 5, [1, 2, 2, 1], 10));
    let both = g.add(deep, left);
    let squeezed = g.global_avg_pool(both);
    let squeezed = g.linear(squeezed, "fc1", 4, true);
    let squeezed = g.activation(squeezed, Activation::Relu);
    let factors = g.linear(squeezed, "fc2", 10, true);
    let factors = g.activation(factors, Activation::Hardsigmoid);
    let gated = g.gate(both, factors);
    let again = g.gate(gated, factors);
    g.output("gated", gated);
    g.output("again", again);
    for isa in Isa::available() {
        check(&g, isa, 2);
    }
}

#[test]
fn same_bytes_for_any_number_of_threads() {
    let graph = everything();
    let params = random_params(&graph, 3);
    let run = |threads: usize, storage: Storage| {
        let plan = Arc::new(Plan::new(&graph, Mode::Training, &Trainable::all(&graph)));
        let mut run = Executor::with_storage(plan, pool(threads), storage);
        let len = run.input_mut(0).len();
        run.prepare(&params);
        run.input_mut(0).copy_from_slice(&random(len, 1));
        run.forward();
        let (outs, grads) = run.outputs_and_grads();
        let outs: Vec<Vec<f32>> = outs.into_iter().map(<[f32]>::to_vec).collect();
        grads.into_iter().zip(&outs).for_each(|(g, o)| g.copy_from_slice(o));
        let mut grads = vec![0.0; params.values.len()];
        run.backward(&mut grads);
        (outs, grads.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
    };
    for storage in [Storage::Float32, Storage::Bf16] {
        let one = run(1, storage);
        assert_eq!(one, run(2, storage));
        assert_eq!(one, run(5, storage));
    }
}

#[test]
fn what_is_formed_again_is_the_same_and_spares_memory() {
    let mut deep = Graph::new();
    let mut x = deep.input("x", [2, 16, 16, 8]);
    for i in 0..12 {
        let y = block(&mut deep, x, &format!("{i}"), 8, 3, 1, Activation::Silu);
        x = if i % 2 == 0 { deep.add(x, y) } else { y };
    }
    deep.output("x", x);
    // Of the results, a quarter is kept.
    for (graph, share) in [(everything(), 1.0), (deep, 0.75)] {
        let params = random_params(&graph, 3);
        let input = random(graph.shape(graph.inputs()[0].1).iter().product(), 5);
        let all = Trainable::all(&graph);
        let pass = |plan: &Plan, storage: Storage| {
            let mut run = Executor::with_storage(Arc::new(plan.clone()), pool(2), storage);
            run.prepare(&params);
            run.input_mut(0).copy_from_slice(&input);
            run.forward();
            for (i, grad) in run.outputs_and_grads().1.into_iter().enumerate() {
                grad.copy_from_slice(&random(grad.len(), i as u64));
            }
            let mut grads = vec![0.0; params.values.len()];
            run.backward(&mut grads);
            grads
        };
        let kept = Plan::keeping_all(&graph, Mode::Training, &all);
        let dropped = Plan::new(&graph, Mode::Training, &all);
        assert!(dropped.steps.len() > kept.steps.len(), "something is formed again");
        let (more, less) = (kept.arena_len as f64, dropped.arena_len as f64);
        assert!(less < share * more, "{less} of {more}");
        for storage in [Storage::Float32, Storage::Bf16] {
            assert_eq!(pass(&kept, storage), pass(&dropped, storage));
        }
    }
}

#[test]
fn a_sum_whose_terms_nothing_else_keeps_is_kept_itself() {
    let mut g = Graph::new();
    let mut x = g.input("x", [2, 16, 16, 8]);
    for i in 0..6 {
        let terms = ["a", "b"].map(|term| conv(&mut g, x, &format!("{i}.{term}"), 8, 3, 1, false));
        x = g.add(terms[0], terms[1]);
    }
    g.output("x", x);
    let all = Trainable::all(&g);
    let kept = Plan::keeping_all(&g, Mode::Training, &all);
    assert_eq!(Plan::new(&g, Mode::Training, &all).arena_len, kept.arena_len);
}

#[test]
fn a_norm_that_only_a_sum_reads_is_formed_again_with_the_sum() {
    // As a residual network begins a stage: the shortcut's norm is read by the sum alone, whose activation the next layers read.
    let mut g = Graph::new();
    let mut x = g.input("x", [2, 16, 16, 8]);
    for i in 0..8 {
        let shortcut = block(&mut g, x, &format!("{i}.shortcut"), 8, 1, 1, Activation::Identity);
        let y = block(&mut g, x, &format!("{i}.conv"), 8, 3, 1, Activation::Identity);
        let sum = g.add(y, shortcut);
        x = g.activation(sum, Activation::Relu);
    }
    g.output("x", x);
    let plan = Plan::new(&g, Mode::Training, &Trainable::all(&g));
    let again = plan.steps[plan.backward_start..].iter().filter(|step| step.name() == "norm").count();
    // The smallest are kept, a quarter; without this rule all of them were, since the shortcuts' were.
    assert!(again > 8, "{again} of 16: both norms of most sums");
}

#[test]
fn frozen_parts_get_no_gradient_steps() {
    let graph = everything();
    let all = Plan::new(&graph, Mode::Training, &Trainable::all(&graph));
    let mut trainable = Trainable::all(&graph);
    for (info, train) in graph.params().iter().zip(&mut trainable.params) {
        *train &= info.name.starts_with("last") || info.name.starts_with("fc");
    }
    trainable.frozen_norms = ["a.bn", "b.bn", "c.bn", "d.bn"].map(String::from).into();
    let plan = Plan::new(&graph, Mode::Training, &trainable);
    let backward = |p: &Plan| p.steps.len() - p.backward_start;
    assert!(backward(&plan) < backward(&all) / 3, "{} of {}", backward(&plan), backward(&all));
    assert!(plan.arena_len < all.arena_len / 2, "{} of {}", plan.arena_len, all.arena_len);

    // The trained part's gradients are those of a plan that trains everything with the same statistics.
    let gradients = |trainable: &Trainable| {
        let params = random_params(&graph, 3);
        let mut run = Executor::new(Arc::new(Plan::new(&graph, Mode::Training, trainable)), pool(1));
        let len = run.input_mut(0).len();
        run.prepare(&params);
        run.input_mut(0).copy_from_slice(&random(len, 1));
        run.forward();
        run.outputs_and_grads().1.into_iter().for_each(|g| g.fill(1.0));
        let mut grads = vec![0.0; params.values.len()];
        run.backward(&mut grads);
        grads
    };
    let mut norms_only = Trainable::all(&graph);
    norms_only.frozen_norms = trainable.frozen_norms.clone();
    let (some, whole) = (gradients(&trainable), gradients(&norms_only));
    for (info, train) in graph.params().iter().zip(&trainable.params).filter(|(_, t)| **t) {
        assert!(train);
        for (a, b) in some[info.range()].iter().zip(&whole[info.range()]) {
            assert!((a - b).abs() <= 1e-4 * b.abs().max(1.0), "{}: {a} {b}", info.name);
        }
    }
}

#[test]
fn the_parts_of_a_split_graph_compute_and_learn_what_the_whole_does() {
    let graph = everything();
    let mut trainable = Trainable::all(&graph);
    for (info, train) in graph.params().iter().zip(&mut trainable.params) {
        *train &= ["last", "fc", "odd"].iter().any(|name| info.name.starts_with(name));
    }
    trainable.frozen_norms = ["a.bn", "b.bn", "c.bn", "d.bn"].map(String::from).into();
    let trained = |op: &Op| match op {
        Op::Conv2d { weight, .. } => trainable.params[weight.index()],
        _ => false,
    };
    let split = graph.split(trained).expect("the last layers can be cut off");
    assert_eq!(split.head.params(), graph.params());
    assert!(split.head.multiply_adds() * 4 < graph.multiply_adds());
    let params = random_params(&graph, 3);
    let image = random(2 * 8 * 12 * 3, 1);
    let learn = |graph: &Graph, inputs: &[Vec<f32>]| {
        let plan = Arc::new(Plan::new(graph, Mode::Training, &trainable));
        let mut run = Executor::new(plan, pool(1));
        run.prepare(&params);
        inputs.iter().enumerate().for_each(|(i, x)| run.input_mut(i).copy_from_slice(x));
        run.forward();
        let (outputs, grads) = run.outputs_and_grads();
        let outputs: Vec<Vec<f32>> = outputs.into_iter().map(<[f32]>::to_vec).collect();
        grads.into_iter().for_each(|g| g.fill(1.0));
        let mut grads = vec![0.0; params.values.len()];
        run.backward(&mut grads);
        (outputs, grads)
    };
    let plan = Plan::new(&split.trunk, Mode::Inference, &Trainable::nothing(&split.trunk));
    let mut trunk = Executor::new(Arc::new(plan), pool(1));
    trunk.prepare(&params);
    trunk.input_mut(0).copy_from_slice(&image);
    trunk.forward();
    let taps: Vec<Vec<f32>> = (0..split.trunk.outputs().len()).map(|i| trunk.output(i).to_vec()).collect();
    let (whole, parts) = (learn(&graph, &[image]), learn(&split.head, &taps));
    for (a, b) in whole.0.iter().zip(&parts.0).chain([(&whole.1, &parts.1)]) {
        let wide: Vec<f64> = b.iter().map(|&x| f64::from(x)).collect();
        assert!(relative_error(a, &wide) < 1e-4);
    }
    assert!(graph.split(|_| false).is_none(), "nothing changes");
    assert!(graph.split(|_| true).is_none(), "the image itself would be cached");
}

#[test]
fn calibration_collects_statistics_without_changing_the_output() {
    let graph = everything();
    let params: Params = random_params(&graph, 3);
    let outputs = |mode| {
        let mut run = Executor::new(Arc::new(Plan::new(&graph, mode, &Trainable::nothing(&graph))), pool(1));
        let len = run.input_mut(0).len();
        run.prepare(&params);
        run.input_mut(0).copy_from_slice(&random(len, 1));
        run.forward();
        let statistics: Vec<(String, Vec<f32>)> =
            run.norm_statistics().map(|(name, mean, _)| (name.to_owned(), mean.to_vec())).collect();
        (run.output(1).to_vec(), statistics)
    };
    let (plain, _) = outputs(Mode::Inference);
    let (calibrated, statistics) = outputs(Mode::Calibration);
    let wide: Vec<f64> = plain.iter().map(|&x| f64::from(x)).collect();
    assert!(relative_error(&calibrated, &wide) < 1e-5);
    let expected = evaluate(
        &graph,
        &params.values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>(),
        &[random(2 * 8 * 12 * 3, 1).into_iter().map(f64::from).collect()],
        false,
    );
    // The first norm's input is the first convolution's output: node 1.
    let first: Vec<f64> = (0..12)
        .map(|c| expected[1].iter().skip(c).step_by(12).sum::<f64>() / (expected[1].len() / 12) as f64)
        .collect();
    assert_eq!(statistics[0].0, "a.bn");
    assert!(relative_error(&statistics[0].1, &first) < 1e-5);
}

#[test]
fn shapes_of_winograds_algorithm() {
    for (n, h, w, c, out, pad) in [
        (2, 13, 13, 16, 24, [1; 4]),
        (1, 8, 16, 33, 17, [1; 4]),
        (1, 9, 10, 20, 70, [0, 2, 1, 0]),
        (3, 26, 6, 8, 8, [1; 4]),
    ] {
        let mut g = Graph::new();
        let x = g.input("x", [n, h, w, 2]);
        let first = conv(&mut g, x, "first", c, 1, 1, true);
        let spec = Conv { name: "y".into(), out, kernel: (3, 3), stride: (1, 1), pad, groups: 1, bias: true };
        let y = g.conv2d(first, spec);
        g.output("y", y);
        for isa in Isa::available() {
            check(&g, isa, 2);
        }
    }
}
