//! The CUDA executor against the CPU's: outputs, every gradient, running statistics; both precisions, awkward shapes.
//! Without a GPU these say so and pass; no part of CI has one.

// Its interpreter of graphs serves the test against float64.
#[allow(dead_code)]
mod support;

use std::sync::Arc;

use onsa_compute::cuda;
use onsa_compute::cuda::{CudaError, CudaGraph, Device, DeviceBuffer, Precision};
use onsa_compute::{Activation, Attention, Conv, Executor, Graph, Mode, Params, Plan, Trainable, Value};
use support::build::{block, conv, depthwise};
use support::{random, random_params};

fn device() -> Option<Device> {
    match Device::count() {
        Ok(count) if count > 0 => Some(Device::open(0).expect("the GPU can be used")),
        Ok(_) => None,
        Err(CudaError::Missing { .. } | CudaError::Driver { .. }) => {
            eprintln!("skipped: there is no GPU");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Every operator, with channels `8 * m` and more (or, with `m` 0, numbers that no vector divides).
///
/// `smooth`: without kinks and maxima, at which bfloat16's rounding sends gradients elsewhere.
fn everything(m: usize, smooth: bool) -> Graph {
    let kind = |a: Activation| if smooth { Activation::Silu } else { a };
    let c = |n: usize| if m == 0 { n + 5 } else { 8 * n * m };
    let mut g = Graph::new();
    let x = g.input("x", [2, 24, 20, 3]);
    let a = block(&mut g, x, "a", c(3), 3, 2, Activation::Silu);
    let left = g.slice(a, 0..c(1));
    let right = g.slice(a, c(1)..c(3));
    let width = c(3) - c(1);
    let b = block(&mut g, right, "b", width, 3, 1, kind(Activation::Hardswish));
    let b = g.add(right, b);
    let c1 = block(&mut g, b, "c", c(2), 1, 1, kind(Activation::Relu));
    let inner = g.concat(&[b, c1]);
    let outer = g.concat(&[left, inner, left]);
    let d = depthwise(&mut g, outer, "d", 5, 1);
    let d = g.batch_norm(d, "d.bn", 1e-3, 0.03);
    let pooled = if smooth { d } else { g.max_pool(d, 5, 1, 2) };
    let (key, value) = if m == 0 { (4, 6) } else { (8, 16) };
    let qkv = conv(&mut g, pooled, "qkv", 2 * (2 * key + value), 1, 1, true);
    let attended = g.attention(qkv, Attention { heads: 2, key_dim: key, value_dim: value, areas: 2 });
    let v = g.gather_heads(qkv, 2, 2 * key, value);
    let pe = depthwise(&mut g, v, "pe", 7, 1);
    let attended = g.add(attended, pe);
    let attended = g.scale_channels(attended, "gamma");
    let up = g.upsample2(attended);
    let down = depthwise(&mut g, up, "down", 3, 2);
    let down = g.activation(down, kind(Activation::Relu6));
    let odd = conv(&mut g, down, "odd", c(2), 3, 2, true);
    let odd = g.activation(odd, Activation::Sigmoid);
    let both = g.concat(&[down, attended]);
    let wide = block(&mut g, both, "wide", c(17), 3, 1, Activation::Identity);
    let tall = conv(&mut g, wide, "tall", c(4), 2, 2, false);
    let boxes = conv(&mut g, both, "boxes", 16, 1, 1, true);
    let classes = conv(&mut g, both, "classes", 4, 1, 1, true);
    let head = g.concat(&[boxes, classes]);
    let mean = g.global_avg_pool(both);
    let mean = g.activation(mean, kind(Activation::Hardsigmoid));
    let logits = g.linear(mean, "fc", 3, true);
    g.output("odd", odd);
    g.output("tall", tall);
    g.output("head", head);
    g.output("logits", logits);
    g
}

/// Larger tensors: several blocks of sums, splits, tiles of every size.
fn large() -> Graph {
    let mut g = Graph::new();
    let x = g.input("x", [4, 96, 80, 3]);
    let a = block(&mut g, x, "a", 16, 3, 2, Activation::Silu);
    let b = block(&mut g, a, "b", 32, 3, 2, Activation::Silu);
    let c = block(&mut g, b, "c", 64, 1, 1, Activation::Silu);
    let d = block(&mut g, c, "d", 128, 3, 1, Activation::Silu);
    let e = block(&mut g, d, "e", 256, 3, 2, Activation::Silu);
    let f = depthwise(&mut g, e, "f", 3, 1);
    let f = g.batch_norm(f, "f.bn", 1e-3, 0.03);
    let f = g.activation(f, Activation::Silu);
    let qkv = block(&mut g, f, "qkv", 2 * 128, 1, 1, Activation::Identity);
    let attended = g.attention(qkv, Attention { heads: 2, key_dim: 32, value_dim: 64, areas: 1 });
    let h = block(&mut g, attended, "h", 84, 1, 1, Activation::Silu);
    let last = conv(&mut g, h, "last", 20, 1, 1, true);
    g.output("e", e);
    g.output("last", last);
    g
}

/// Convolution, norm and activation as TensorFlow pads them: at step 2 one more at the end than at the beginning.
fn uneven(g: &mut Graph, x: Value, name: &str, out: usize, (k, s): (usize, usize), a: Activation) -> Value {
    let [_, h, w, c] = g.shape(x);
    let needed = |size: usize| ((size.div_ceil(s) - 1) * s + k).saturating_sub(size);
    let (y, x_) = (needed(h), needed(w));
    let pad = [y / 2, x_ / 2, y - y / 2, x_ - x_ / 2];
    let groups = if out == 0 { c } else { 1 };
    let out = if out == 0 { c } else { out };
    let conv = Conv { name: name.into(), out, kernel: (k, k), stride: (s, s), pad, groups, bias: false };
    let z = g.conv2d(x, conv);
    let u = g.batch_norm(z, &format!("{name}.bn"), 1e-3, 0.01);
    g.activation(u, a)
}

/// What EfficientNet-Lite and MobileNetV3 are made of, at their channels: uneven padding, depthwise windows of both sizes and
/// steps, gates, residuals, and a head of many classes. `smooth` as in [`everything`].
fn mobile(smooth: bool) -> Graph {
    let kind = |a: Activation| if smooth { Activation::Silu } else { a };
    let gate = if smooth { Activation::Sigmoid } else { Activation::Hardsigmoid };
    let (relu6, hard) = (kind(Activation::Relu6), kind(Activation::Hardswish));
    let mut g = Graph::new();
    let x = g.input("x", [4, 90, 96, 3]);
    let stem = uneven(&mut g, x, "stem", 32, (3, 2), relu6);
    let a = uneven(&mut g, stem, "a.dw", 0, (3, 1), relu6);
    let a = uneven(&mut g, a, "a.out", 16, (1, 1), Activation::Identity);
    let mut x = a;
    let blocks = [(3, 2, 24), (5, 1, 24), (5, 2, 40), (3, 2, 80)];
    for (i, (k, s, out)) in blocks.into_iter().enumerate() {
        let c = g.shape(x)[3];
        let y = uneven(&mut g, x, &format!("{i}.in"), 6 * c, (1, 1), hard);
        let mut y = uneven(&mut g, y, &format!("{i}.dw"), 0, (k, s), hard);
        if k == 5 {
            let squeezed = g.global_avg_pool(y);
            let squeezed = g.linear(squeezed, &format!("{i}.fc1"), c, true);
            let squeezed = g.activation(squeezed, kind(Activation::Relu));
            let factors = g.linear(squeezed, &format!("{i}.fc2"), 6 * c, true);
            let factors = g.activation(factors, gate);
            y = g.gate(y, factors);
        }
        let y = uneven(&mut g, y, &format!("{i}.out"), out, (1, 1), Activation::Identity);
        x = if s == 1 && c == out { g.add(x, y) } else { y };
    }
    let last = uneven(&mut g, x, "last", 1280, (1, 1), relu6);
    let pooled = g.global_avg_pool(last);
    let ten = g.linear(pooled, "ten", 10, true);
    let thousand = g.linear(pooled, "thousand", 1000, true);
    g.output("ten", ten);
    g.output("thousand", thousand);
    g
}

/// What ResNet is made of: a stem of 7x7, a max-pool of step 2, bottlenecks, shortcuts of 1x1 and step 2.
fn residual(smooth: bool) -> Graph {
    let kind = if smooth { Activation::Silu } else { Activation::Relu };
    let mut g = Graph::new();
    let x = g.input("x", [4, 64, 56, 3]);
    let stem = block(&mut g, x, "stem", 64, 7, 2, kind);
    let mut x = if smooth { stem } else { g.max_pool(stem, 3, 2, 1) };
    for (i, (width, s)) in [(64, 1), (64, 1), (128, 2)].into_iter().enumerate() {
        let y = block(&mut g, x, &format!("{i}.1"), width, 1, 1, kind);
        let y = block(&mut g, y, &format!("{i}.2"), width, 3, s, kind);
        let y = block(&mut g, y, &format!("{i}.3"), 4 * width, 1, 1, Activation::Identity);
        let kept = if g.shape(x)[3] != 4 * width {
            block(&mut g, x, &format!("{i}.down"), 4 * width, 1, s, Activation::Identity)
        } else {
            x
        };
        let sum = g.add(kept, y);
        x = g.activation(sum, kind);
    }
    let pooled = g.global_avg_pool(x);
    let logits = g.linear(pooled, "fc", 20, true);
    g.output("logits", logits);
    g
}

/// A gate whose input and factors come from one value, and channels that no vector divides.
fn gates(channels: usize) -> Graph {
    let mut g = Graph::new();
    let x = g.input("x", [3, 9, 11, 3]);
    let both = conv(&mut g, x, "both", channels, 3, 1, true);
    let squeezed = g.global_avg_pool(both);
    let factors = g.linear(squeezed, "fc", channels, true);
    let factors = g.activation(factors, Activation::Sigmoid);
    let gated = g.gate(both, factors);
    let again = g.gate(gated, factors);
    g.output("gated", gated);
    g.output("again", again);
    g
}

/// ‖got - expected‖ / ‖expected‖.
fn distance(got: &[f32], expected: &[f32], floor: f64) -> f64 {
    assert_eq!(got.len(), expected.len());
    assert!(got.iter().all(|x| x.is_finite()), "not finite");
    let off: Vec<f32> = got.iter().zip(expected).map(|(g, e)| g - e).collect();
    norm(&off) / norm(expected).max(floor)
}

fn norm(xs: &[f32]) -> f64 {
    xs.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt()
}

/// What a pass gives: outputs, gradients, parameters (the running statistics have moved).
struct Passes {
    outputs: Vec<Vec<f32>>,
    grads: Vec<f32>,
    params: Vec<f32>,
}

fn on_cpu(plan: &Arc<Plan>, params: &Params, input: &[f32], weights: &[Vec<f32>]) -> Passes {
    let pool = Arc::new(rayon::ThreadPoolBuilder::new().build().expect("threads"));
    let mut run = Executor::new(Arc::clone(plan), pool);
    let mut params = params.clone();
    let mut grads = vec![0.0; params.values.len()];
    run.prepare(&params);
    run.input_mut(0).copy_from_slice(input);
    run.forward();
    let outputs = (0..plan.outputs.len()).map(|i| run.output(i).to_vec()).collect();
    if plan.mode == Mode::Training {
        let (_, outs) = run.outputs_and_grads();
        outs.into_iter().zip(weights).for_each(|(out, w)| out.copy_from_slice(w));
        run.backward(&mut grads);
        run.update_running(&mut params);
    }
    Passes { outputs, grads, params: params.values }
}

fn on_gpu(
    device: &Device,
    plan: &Arc<Plan>,
    params: &Params,
    input: &[f32],
    weights: &[Vec<f32>],
    precision: Precision,
) -> Passes {
    let stream = device.stream();
    let mut run = cuda::Executor::new(device, Arc::clone(plan), precision).expect("an executor");
    let mut values = DeviceBuffer::from_slice(device, &params.values).expect("memory");
    let grads = DeviceBuffer::zeros(device, params.values.len()).expect("memory");
    let training = plan.mode == Mode::Training;
    let mut pass = |record: bool, last: bool| {
        let forward = |run: &mut cuda::Executor| {
            run.prepare(&stream, &values)?;
            run.forward(&stream)
        };
        run.write_input(0, input).expect("the input is taken");
        if record {
            let mut graph = CudaGraph::capture(&stream, || forward(&mut run)).expect("a capture");
            graph.replay().expect("a replay");
        } else {
            forward(&mut run).expect("a forward pass");
        }
        stream.synchronize().expect("the forward kernels run");
        let outputs: Vec<Vec<f32>> = plan
            .outputs
            .iter()
            .enumerate()
            .map(|(i, (_, view))| {
                let mut values = vec![0.0; view.len()];
                run.read_output(i, &mut values).expect("the output is read");
                values
            })
            .collect();
        if training {
            for (i, w) in weights.iter().enumerate() {
                run.write_output_grad(i, w).expect("the gradient is taken");
            }
            if record {
                let mut graph =
                    CudaGraph::capture(&stream, || run.backward(&stream, &grads)).expect("a capture");
                graph.replay().expect("a replay");
            } else {
                run.backward(&stream, &grads).expect("a backward pass");
            }
            stream.synchronize().expect("the backward kernels run");
            if last {
                run.update_running(&stream, &values, 0).expect("running statistics");
            }
        }
        (outputs, grads.download().expect("gradients"))
    };
    // Twice, the second time recorded: the same bytes.
    let first = pass(false, false);
    let (outputs, grads) = pass(true, true);
    assert_eq!(outputs, first.0, "a second pass gives the same outputs");
    assert_eq!(grads, first.1, "a second pass gives the same gradients");
    let _ = &mut values;
    Passes { outputs, grads, params: values.download().expect("parameters") }
}

/// How far bfloat16 may be: a dozen layers of its rounding, 2^-9 each. The largest seen is .0603, of a bias of two channels
/// whose gradients nearly cancel; most are about .01.
const ROUGH: f64 = 8e-2;
/// How far float32 may be.
const FINE: f64 = 2e-5;
/// How far TF32 may be: it rounds the factors of a product to 2^-11, where bfloat16 rounds every value to 2^-9 too.
const MEDIUM: f64 = ROUGH / 4.0;

fn check(name: &str, graph: &Graph, mode: Mode, trainable: &Trainable, precision: Precision) {
    let Some(device) = device() else { return };
    let params = random_params(graph, 7);
    let shape = graph.shape(graph.inputs()[0].1);
    let input = random(shape.iter().product(), 99);
    let weights: Vec<Vec<f32>> = graph
        .outputs()
        .iter()
        .enumerate()
        .map(|(i, (_, v))| random(graph.shape(*v).iter().product(), i as u64))
        .collect();
    let plan = Arc::new(Plan::new(graph, mode, trainable));
    let expected = on_cpu(&plan, &params, &input, &weights);
    let mut failures = Vec::new();
    let got = on_gpu(&device, &plan, &params, &input, &weights, precision);
    let tolerance = match precision {
        Precision::Float32 => FINE,
        Precision::Tf32 => MEDIUM,
        Precision::Bf16 => ROUGH,
    };
    let mut compare = |what: String, got: &[f32], expected: &[f32], floor: f64| {
        let off = distance(got, expected, floor);
        println!("{name} {precision:?} {what}: {off:.2e}");
        if off > tolerance {
            failures.push(format!("{precision:?} {what}: {off:.2e}"));
        }
    };
    for (i, (output, _)) in plan.outputs.iter().enumerate() {
        compare(format!("output {output}"), &got.outputs[i], &expected.outputs[i], 1e-6);
    }
    if mode == Mode::Training {
        // A shift in front of a convolution and a norm on batch statistics has no effect: the norm's mean takes it away. Its
        // gradient is a sum that cancels, and what rounding leaves is judged by the other gradients' size.
        let floor = norm(&expected.grads) / 100.0;
        for (i, info) in graph.params().iter().enumerate() {
            if trainable.params[i] {
                let at = info.range();
                compare(
                    format!("gradient {}", info.name),
                    &got.grads[at.clone()],
                    &expected.grads[at],
                    floor,
                );
            }
        }
        compare("parameters".into(), &got.params, &expected.params, 1e-6);
    }
    assert!(failures.is_empty(), "{name}: {failures:#?}");
}

const ALL: [Precision; 3] = [Precision::Float32, Precision::Tf32, Precision::Bf16];

/// The graph of every operator that a precision is checked with.
fn checked(m: usize, precision: Precision) -> Graph {
    everything(m, precision != Precision::Float32)
}

#[test]
fn training_with_even_channels() {
    for precision in ALL {
        let g = checked(1, precision);
        check("even", &g, Mode::Training, &Trainable::all(&g), precision);
    }
}

#[test]
fn training_with_odd_channels() {
    for precision in ALL {
        let g = checked(0, precision);
        check("odd", &g, Mode::Training, &Trainable::all(&g), precision);
    }
}

#[test]
fn training_of_large_tensors() {
    let g = large();
    for precision in ALL {
        check("large", &g, Mode::Training, &Trainable::all(&g), precision);
    }
}

#[test]
fn training_of_classifiers() {
    for precision in ALL {
        let smooth = precision != Precision::Float32;
        for (name, g) in [("mobile", mobile(smooth)), ("residual", residual(smooth))] {
            check(name, &g, Mode::Training, &Trainable::all(&g), precision);
        }
        for channels in [16, 10] {
            let g = gates(channels);
            check("gates", &g, Mode::Training, &Trainable::all(&g), precision);
        }
    }
}

#[test]
fn training_with_frozen_norms() {
    for precision in ALL {
        let g = checked(1, precision);
        let mut trainable = Trainable::all(&g);
        trainable.frozen_norms.extend(["a.bn", "b.bn", "d.bn"].map(str::to_owned));
        for name in ["a.weight", "a.bn.weight", "a.bn.bias", "b.bn.weight", "b.bn.bias"] {
            let at = g.params().iter().position(|p| p.name == name).expect("a parameter of the graph");
            trainable.params[at] = false;
        }
        check("frozen", &g, Mode::Training, &trainable, precision);
    }
}

#[test]
fn inference_with_folded_norms() {
    for (precision, m) in ALL.into_iter().flat_map(|precision| [0, 1].map(|m| (precision, m))) {
        let g = everything(m, false);
        check("inference", &g, Mode::Inference, &Trainable::nothing(&g), precision);
        let g = large();
        check("inference of large tensors", &g, Mode::Inference, &Trainable::nothing(&g), precision);
        for (name, g) in [("mobile", mobile(false)), ("residual", residual(false)), ("gates", gates(10))] {
            check(name, &g, Mode::Inference, &Trainable::nothing(&g), precision);
        }
    }
}
