//! Passes on a GPU, timed by the GPU's own clock.

use std::sync::Arc;
use std::time::Duration;

use onsa_compute::cuda::{CudaError, CudaGraph, Device, DeviceBuffer, Event, Executor, Precision};
use onsa_compute::{Mode, Plan, Trainable};

use super::{BenchError, BenchMode, BenchResult, WARM_UP, drawn_batch, result};
use crate::models::{Model, init_fresh};

/// Size of the gradients that the outputs are given.
const GRADIENT: f32 = 1e-3;

/// Times `rounds` replays of the recorded passes, then their steps one by one.
pub(super) fn bench(
    model: &Model,
    size: [usize; 3],
    mode: BenchMode,
    rounds: usize,
    (device, precision): (&Device, Precision),
    mut progress: impl FnMut(usize, usize),
) -> Result<BenchResult, BenchError> {
    let stream = device.stream();
    let (mode_of_plan, trainable) = match mode {
        BenchMode::Train => (Mode::Training, Trainable::all(&model.graph)),
        BenchMode::Predict => (Mode::Inference, Trainable::nothing(&model.graph)),
    };
    let plan = Arc::new(Plan::new(&model.graph, mode_of_plan, &trainable));
    let mut run = Executor::new(device, Arc::clone(&plan), precision)?;
    let params = DeviceBuffer::from_slice(device, &init_fresh(model, 0).values)?;
    let grads = DeviceBuffer::<f32>::zeros(device, params.len())?;
    run.write_input(
        0,
        &drawn_batch(size, model.architecture.classes, model.architecture.image_channels).images,
    )?;
    for (i, view) in plan.output_grads.iter().enumerate() {
        let alternating: Vec<f32> =
            (0..view.len()).map(|i| if i % 3 == 0 { GRADIENT } else { -GRADIENT }).collect();
        run.write_output_grad(i, &alternating)?;
    }
    let passes = |run: &mut Executor| -> Result<(), CudaError> {
        if mode == BenchMode::Train {
            run.prepare(&stream, &params)?;
            run.forward(&stream)?;
            run.backward(&stream, &grads)
        } else {
            run.forward(&stream)
        }
    };
    // The first run loads the kernels, and packs the weights where the passes do not.
    run.prepare(&stream, &params)?;
    passes(&mut run)?;
    stream.synchronize()?;
    let mut graph = CudaGraph::capture(&stream, || passes(&mut run))?;
    let (begin, end) = (Event::new(device)?, Event::new(device)?);
    let mut times = Vec::new();
    for i in 0..rounds + WARM_UP {
        begin.record(&stream)?;
        graph.replay()?;
        end.record(&stream)?;
        stream.synchronize()?;
        if i >= WARM_UP {
            times.push(Duration::from_secs_f64(f64::from(begin.milliseconds_to(&end)?) / 1e3));
        }
        progress(i + 1, rounds + WARM_UP);
    }
    run.start_profile()?;
    for _ in 0..rounds {
        passes(&mut run)?;
    }
    let profile = run.take_profile().unwrap_or_default();
    let (free, total) = device.memory()?;
    let memory = (Some((total - free) as u64), run.bytes());
    Ok(result(model, size, mode, times, (&profile.steps, Duration::ZERO), memory))
}
