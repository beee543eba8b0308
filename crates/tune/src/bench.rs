//! How fast a model runs here, and where its time goes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use onsa_compute::Executor;
use serde::Serialize;

use crate::boxes::Label;
use crate::data::batch::{Batch, Target};
use crate::data::rng::{Draw, Purpose};
use crate::engine::{Inference, Place, StepError, TrainStep};
use crate::models::{Freeze, Model, ModelError, Trainable, init_fresh};
use crate::train::clip::clip_global_norm;
use crate::train::ema::Ema;
use crate::train::loss::LossConfig;
use crate::train::optimiser::{Kind, Optimiser, SlotError};
use crate::train::schedule::Rates;
use crate::train::slots::slots;

mod gpu;

/// Batches that are not counted.
const WARM_UP: usize = 2;
/// Labelled objects on each drawn image.
const OBJECTS: usize = 8;

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BenchMode {
    /// Whole steps on drawn batches: forward, loss, backward, clipping, AdamW, moving average. No data loading. On a GPU
    /// forward and backward passes in one recorded graph.
    Train,
    /// Forward passes.
    Predict,
}

/// One operator's share of a batch.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OperatorShare {
    /// The operator's name.
    pub name: String,
    /// Milliseconds a batch.
    pub ms: f64,
    /// Share of the batch's time, 0 to 1.
    pub share: f64,
    /// Thousand millions of operations a second (two a multiply-add); 0 where it is no matrix work.
    pub gflops: f64,
}

/// What a benchmark found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BenchResult {
    /// What was timed.
    pub mode: BenchMode,
    /// Images a second, from the median batch.
    pub images_per_second: f64,
    /// Median milliseconds a batch.
    pub ms_per_batch: f64,
    /// Thousand millions of operations a second, convolutions and attention counted; a training step counts three
    /// times its forward pass.
    pub gflops: f64,
    /// By operator, the longest first.
    pub operators: Vec<OperatorShare>,
    /// The largest single convolution steps, the longest first: `name in,out,width,kernel,stride,groups`.
    pub slowest: Vec<OperatorShare>,
    /// The largest resident set of this process so far, where the system says; on a GPU, the memory in use there.
    pub peak_memory_bytes: Option<u64>,
    /// Bytes of the plan's arena.
    pub arena_bytes: usize,
    /// Always 0: batches are drawn before the clock starts.
    pub data_wait_fraction: f64,
}

/// A benchmark that failed.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A step.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The optimiser's slots.
    #[error(transparent)]
    Slots(#[from] SlotError),
    /// The GPU.
    #[error(transparent)]
    Gpu(#[from] onsa_compute::cuda::CudaError),
}

/// A batch of noise with boxes on it.
fn drawn_batch([n, h, w]: [usize; 3], classes: usize, channels: usize) -> Batch {
    let mut draw = Draw::new(0, 0, 0, Purpose::Benchmark);
    let images: Vec<f32> = (0..n * h * w * channels).map(|_| draw.unit() as f32).collect();
    let targets = (0..n * OBJECTS)
        .map(|i| Target {
            image: (i / OBJECTS) as u32,
            label: Label {
                class: (i % classes) as u32,
                cx: draw.uniform(0.2, 0.8) as f32,
                cy: draw.uniform(0.2, 0.8) as f32,
                w: draw.uniform(0.05, 0.35) as f32,
                h: draw.uniform(0.05, 0.35) as f32,
            },
        })
        .collect();
    Batch { n, h, w, images, images_u8: Vec::new(), targets, items: vec![0; n] }
}

/// Times `rounds` batches (after two that are not counted) of `[n, h, w]` pixels, training of a model with branches without
/// these. `progress(done, all)` after each.
///
/// # Errors
/// See [`BenchError`].
pub fn bench(
    model: &Model,
    size: [usize; 3],
    mode: BenchMode,
    rounds: usize,
    place: &Place,
    mut progress: impl FnMut(usize, usize),
) -> Result<BenchResult, BenchError> {
    let model = match mode {
        // Of a model with branches one part is trained at a time.
        BenchMode::Train if !model.architecture.branches.is_empty() => {
            Model::build(&model.architecture.part(0), size)?
        }
        _ => model.resized(size)?,
    };
    let pool = match place {
        Place::Cpu(pool, _) => std::sync::Arc::clone(pool),
        Place::Gpu(device, precision, _) => {
            return gpu::bench(&model, size, mode, rounds, (device, *precision), progress);
        }
    };
    let mut params = init_fresh(&model, 0);
    let batch = drawn_batch(size, model.architecture.classes, model.architecture.image_channels);
    let mut times = Vec::new();
    let mut report = |i: usize, took: Duration| {
        if i >= WARM_UP {
            times.push(took);
        }
        progress(i + 1, rounds + WARM_UP);
    };
    let (steps, prepare, arena_bytes) = match mode {
        BenchMode::Predict => {
            let mut network = Inference::new(&model, params, pool);
            for i in 0..rounds + WARM_UP {
                let start = Instant::now();
                network.run(size, &batch.images)?;
                report(i, start.elapsed());
                if i + 1 == WARM_UP {
                    network.last_executor().map(Executor::start_profile);
                }
            }
            profile_of(network.last_executor())
        }
        BenchMode::Train => {
            let trainable = Trainable::new(&model, &Freeze::None)?;
            let slots = slots(&model, &trainable.params, Kind::AdamW);
            let len = params.values.len();
            let mut optimiser = Optimiser::new(Kind::AdamW, 0.9, len, &slots)?;
            let mut ema = Ema::new(&params.values);
            let mut grads = vec![0.0; len];
            let loss = LossConfig::new(model.architecture.classes);
            let mut step = TrainStep::new(&model, trainable.into(), loss, pool).stored_in(place.storage());
            for i in 0..rounds + WARM_UP {
                let start = Instant::now();
                step.run(&batch, &mut params, &mut grads)?;
                step.pool().install(|| {
                    // Noise has no gradient that could overflow here; if it had, the next step would report it.
                    let _ = clip_global_norm(&mut grads, optimiser.slots(), 10.0);
                    optimiser.step(&mut params.values, &grads, &Rates::constant(1e-4, 0.9, 5e-4));
                    ema.update(&params.values);
                });
                report(i, start.elapsed());
                if i + 1 == WARM_UP {
                    step.largest_executor().map(Executor::start_profile);
                }
            }
            profile_of(step.largest_executor())
        }
    };
    let threads_memory = (peak_memory(), arena_bytes);
    Ok(result(&model, size, mode, times, (&steps, prepare), threads_memory))
}

/// The figures of batches that took `times`, with the steps' profile over all of them.
fn result(
    model: &Model,
    size: [usize; 3],
    mode: BenchMode,
    mut times: Vec<Duration>,
    (steps, prepare): (&[onsa_compute::cpu::StepTime], Duration),
    (peak_memory_bytes, arena_bytes): (Option<u64>, usize),
) -> BenchResult {
    times.sort_unstable();
    let rounds = times.len();
    let median = times[rounds / 2].as_secs_f64();
    let passes = if mode == BenchMode::Train { 3.0 } else { 1.0 };
    let operations = passes * 2.0 * model.graph.multiply_adds() as f64;
    let (operators, slowest) = shares(steps, prepare, rounds, median);
    BenchResult {
        mode,
        images_per_second: size[0] as f64 / median,
        ms_per_batch: median * 1e3,
        gflops: operations / median / 1e9,
        operators,
        slowest,
        peak_memory_bytes,
        arena_bytes,
        data_wait_fraction: 0.0,
    }
}

type Profiled = (Vec<onsa_compute::cpu::StepTime>, Duration, usize);

fn profile_of(executor: Option<&mut Executor>) -> Profiled {
    let Some(executor) = executor else { return Profiled::default() };
    let arena = executor.arena_bytes();
    executor.profile().map_or_else(Profiled::default, |p| (p.steps.clone(), p.prepare, arena))
}

fn shares(
    steps: &[onsa_compute::cpu::StepTime],
    prepare: Duration,
    rounds: usize,
    median: f64,
) -> (Vec<OperatorShare>, Vec<OperatorShare>) {
    const SLOWEST: usize = 20;
    let mut by_name: BTreeMap<String, (Duration, u64)> = BTreeMap::new();
    by_name.insert("weight_packing".into(), (prepare, 0));
    let mut by_shape: BTreeMap<String, (Duration, u64)> = BTreeMap::new();
    for step in steps {
        let sum = by_name.entry(step.name.to_owned()).or_default();
        *sum = (sum.0 + step.time, sum.1 + step.multiply_adds);
        if step.multiply_adds > 0 {
            let sum = by_shape.entry(format!("{} {}", step.name, step.detail)).or_default();
            *sum = (sum.0 + step.time, sum.1 + step.multiply_adds);
        }
    }
    let table = |sums: BTreeMap<String, (Duration, u64)>| {
        let mut rows: Vec<OperatorShare> = sums
            .into_iter()
            .map(|(name, (time, multiply_adds))| {
                let seconds = time.as_secs_f64() / rounds as f64;
                OperatorShare {
                    name,
                    ms: seconds * 1e3,
                    share: seconds / median,
                    gflops: if seconds > 0.0 { 2.0 * multiply_adds as f64 / seconds / 1e9 } else { 0.0 },
                }
            })
            .collect();
        rows.sort_by(|a, b| b.ms.total_cmp(&a.ms));
        rows
    };
    let mut slowest = table(by_shape);
    slowest.truncate(SLOWEST);
    (table(by_name), slowest)
}

/// The largest resident set of this process so far (Linux's VmHWM).
pub fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024)
}
