//! Forward and backward passes of a network on a GPU: how far from the CPU's, how fast, and where the time goes.
//!
//! `cuda_speed MODEL BATCH IMGSZ [check] [table] [f32]`

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use onsa_compute::cuda::{self, CudaGraph, Device, DeviceBuffer, Precision};
use onsa_compute::{Executor, Mode, Plan, Trainable};
use onsa_tune::models::{Model, init_fresh, registry};

/// Replays that are timed.
const ROUNDS: usize = 40;

type Failure = Box<dyn std::error::Error>;

fn noise(len: usize, scale: f32) -> Vec<f32> {
    let mut state = 1u64;
    (0..len)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32 * scale
        })
        .collect()
}

fn distance(got: &[f32], expected: &[f32]) -> f64 {
    let norm = |xs: &mut dyn Iterator<Item = f64>| xs.map(|x| x * x).sum::<f64>().sqrt();
    let off = norm(&mut got.iter().zip(expected).map(|(&g, &e)| f64::from(g) - f64::from(e)));
    off / norm(&mut expected.iter().map(|&e| f64::from(e)))
}

fn main() -> Result<(), Failure> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name, batch, side, flags @ ..] = &args[..] else {
        return Err("cuda_speed MODEL BATCH IMGSZ [check] [table] [f32]".into());
    };
    let (batch, side): (usize, usize) = (batch.parse()?, side.parse()?);
    let has = |flag: &str| flags.iter().any(|f| f == flag);
    let precision = if has("f32") { Precision::Float32 } else { Precision::Bf16 };
    let start = Instant::now();
    let device = Device::open(0)?;
    let stream = device.stream();
    let model = Model::build(&registry::find(name)?.architecture(20), [batch, side, side])?;
    let params = init_fresh(&model, 0);
    let trainable = Trainable::all(&model.graph);
    let plan = Arc::new(Plan::new(&model.graph, Mode::Training, &trainable));
    let values = DeviceBuffer::from_slice(&device, &params.values)?;
    let grads = DeviceBuffer::zeros(&device, params.values.len())?;
    let mut run = cuda::Executor::new(&device, Arc::clone(&plan), precision)?;
    let ready = start.elapsed();
    let input = noise(batch * side * side * 3, 1.0);
    run.write_input(0, &input)?;
    let out_grads: Vec<Vec<f32>> = plan
        .output_grads
        .iter()
        .map(|view| noise(view.len(), 2e-3).iter().map(|x| x - 1e-3).collect())
        .collect();
    for (i, g) in out_grads.iter().enumerate() {
        run.write_output_grad(i, g)?;
    }
    if has("check") {
        check(&plan, &params, &input, &out_grads, &mut run, &values, &grads)?;
    }
    let mut graph = CudaGraph::capture(&stream, || -> Result<(), cuda::CudaError> {
        run.prepare(&stream, &values)?;
        run.forward(&stream)?;
        run.backward(&stream, &grads)
    })?;
    let mut times = Vec::new();
    let (begin, end) = (cuda::Event::new(&device)?, cuda::Event::new(&device)?);
    for _ in 0..ROUNDS {
        begin.record(&stream)?;
        graph.replay()?;
        end.record(&stream)?;
        stream.synchronize()?;
        times.push(begin.milliseconds_to(&end)?);
    }
    times.sort_by(f32::total_cmp);
    let median = f64::from(times[ROUNDS / 2]);
    println!(
        "{name} batch {batch} {side} px {precision:?}: {median:.3} ms, {:.0} img/s; {} nodes; {:.2} GB; ready in {:.1} s",
        batch as f64 / median * 1e3,
        graph.nodes()?,
        run.bytes() as f64 / 1e9,
        ready.as_secs_f64()
    );
    if has("table") {
        table(&mut run, &stream, &grads)?;
    }
    Ok(())
}

fn check(
    plan: &Arc<Plan>,
    params: &onsa_compute::Params,
    input: &[f32],
    out_grads: &[Vec<f32>],
    run: &mut cuda::Executor,
    values: &DeviceBuffer<f32>,
    grads: &DeviceBuffer<f32>,
) -> Result<(), Failure> {
    let pool = Arc::new(rayon::ThreadPoolBuilder::new().build()?);
    let mut reference = Executor::new(Arc::clone(plan), pool);
    let mut expected = vec![0.0; params.values.len()];
    reference.prepare(params);
    reference.input_mut(0).copy_from_slice(input);
    reference.forward();
    {
        let (_, outs) = reference.outputs_and_grads();
        outs.into_iter().zip(out_grads).for_each(|(out, g)| out.copy_from_slice(g));
    }
    reference.backward(&mut expected);
    let stream = run.device().stream();
    run.prepare(&stream, values)?;
    run.forward(&stream)?;
    // Only now: the forward pass uses the gradients' places.
    for (i, g) in out_grads.iter().enumerate() {
        run.write_output_grad(i, g)?;
    }
    run.backward(&stream, grads)?;
    stream.synchronize()?;
    for (i, (name, view)) in plan.outputs.iter().enumerate() {
        let mut got = vec![0.0; view.len()];
        run.read_output(i, &mut got)?;
        println!("  output {name}: {:.2e}", distance(&got, reference.output(i)));
    }
    let got = grads.download()?;
    let mut worst: Vec<(f64, &str)> = plan
        .params
        .iter()
        .filter(|info| info.role.is_trained())
        .map(|info| (distance(&got[info.range()], &expected[info.range()]), info.name.as_str()))
        .collect();
    worst.sort_by(|a, b| b.0.total_cmp(&a.0));
    println!(
        "  all gradients: {:.2e}; median {:.2e}; worst {:?}",
        distance(&got, &expected),
        worst[worst.len() / 2].0,
        &worst[..4]
    );
    Ok(())
}

fn table(run: &mut cuda::Executor, stream: &cuda::Stream, grads: &DeviceBuffer<f32>) -> Result<(), Failure> {
    const TIMES: u32 = 10;
    run.start_profile()?;
    for _ in 0..TIMES {
        run.forward(stream)?;
        run.backward(stream, grads)?;
    }
    let profile = run.take_profile().ok_or("no profile")?;
    let mut by_name: BTreeMap<&str, (Duration, usize)> = BTreeMap::new();
    for step in &profile.steps {
        let sum = by_name.entry(step.name).or_default();
        *sum = (sum.0 + step.time / TIMES, sum.1 + 1);
    }
    let total: Duration = by_name.values().map(|sum| sum.0).sum();
    println!("  {:.3} ms by steps (launched one by one)", total.as_secs_f64() * 1e3);
    for (name, (time, count)) in by_name {
        println!("    {:8.1} us {count:4} {name}", time.as_secs_f64() * 1e6);
    }
    let mut steps: Vec<_> = profile.steps.iter().collect();
    steps.sort_by_key(|step| std::cmp::Reverse(step.time));
    for step in steps.iter().take(45) {
        let us = step.time.as_secs_f64() * 1e6 / f64::from(TIMES);
        let rate = 2.0 * step.multiply_adds as f64 / us / 1e6;
        println!("    {us:7.1} us {rate:6.1} TFLOP/s {} {}", step.name, step.detail);
    }
    Ok(())
}
