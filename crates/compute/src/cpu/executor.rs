//! Interprets a plan's steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use rayon::ThreadPool;

use crate::graph::{ParamId, Params};
use crate::plan::{Plan, Step, View};

use super::conv::Epilogue;
use super::conv_runner::ConvRunner;
use super::element::{Bf16, Storage};
use super::norm::{Affine, Backward, Lent, Moments};
use super::pack::{to_elements, to_floats};
use super::pool::{self, Pool};
use super::profile::{Profile, StepTime};
use super::scratch::{Arena, REACH, Shared, Tensor};
use super::team;
use super::tile::Product;
use super::{attention, elementwise, norm, shape_ops};
use crate::cpu::Isa;

/// Runs a plan on the CPU.
///
/// Order of calls: [`prepare`](Executor::prepare) whenever parameters have changed, fill
/// [`input_mut`](Executor::input_mut), [`forward`](Executor::forward), read [`output`](Executor::output); in training
/// write the loss's gradients through [`outputs_and_grads`](Executor::outputs_and_grads), then
/// [`backward`](Executor::backward) and [`update_running`](Executor::update_running).
pub struct Executor {
    plan: Arc<Plan>,
    pool: Arc<ThreadPool>,
    isa: Isa,
    storage: Storage,
    /// Elements of `storage`, from the first on.
    arena: Arena,
    /// Where tensors are not float32: the inputs, outputs and outputs' gradients as the caller sees them.
    ends: Vec<Vec<f32>>,
    convs: Vec<ConvRunner>,
    norms: Vec<NormState>,
    /// Copies of the channel scales, by parameter.
    scales: Vec<(ParamId, Vec<f32>)>,
    /// Lent to weight gradients.
    buffer: Arena,
    moments: Vec<Moments>,
    counts: Vec<usize>,
    /// Lent to norms.
    lent: Lent,
    profile: Option<Profile>,
}

/// An executor's arena, on its way to another one.
pub struct Memory(Arena);

impl Default for Memory {
    /// None.
    fn default() -> Memory {
        Memory(Arena::with_slack(0, REACH))
    }
}

/// For passes that run to their end.
static NEVER: AtomicBool = AtomicBool::new(false);

/// A norm's parameters, and its statistics of the last forward pass.
#[derive(Clone, Default)]
struct NormState {
    gamma: Vec<f32>,
    beta: Vec<f32>,
    batch_mean: Vec<f32>,
    batch_var: Vec<f32>,
    affine: Affine,
    pixels: usize,
}

/// Takes values in; allocates nothing where their number stays.
fn refill(to: &mut Vec<f32>, from: &[f32]) {
    to.clear();
    to.extend_from_slice(from);
}

impl Executor {
    /// Makes the kernels and the arena of a plan, in float32; `pool` gives the threads.
    pub fn new(plan: Arc<Plan>, pool: Arc<ThreadPool>) -> Executor {
        Executor::with_storage(plan, pool, Storage::Float32)
    }

    /// As [`Executor::new`], with tensors in `storage`.
    pub fn with_storage(plan: Arc<Plan>, pool: Arc<ThreadPool>, storage: Storage) -> Executor {
        Executor::with_isa_and_storage(plan, pool, Isa::detect(), storage)
    }

    /// As [`Executor::with_storage`], with an instruction set of [`Isa::available`].
    ///
    /// # Panics
    /// If this processor does not have the instruction set.
    pub fn with_isa_and_storage(
        plan: Arc<Plan>,
        pool: Arc<ThreadPool>,
        isa: Isa,
        storage: Storage,
    ) -> Executor {
        let mut executor = Executor::make(plan, pool, isa, storage);
        executor.take_memory(Memory::default());
        executor
    }

    fn make(plan: Arc<Plan>, pool: Arc<ThreadPool>, isa: Isa, storage: Storage) -> Executor {
        assert!(Isa::available().contains(&isa), "this processor has no {}", isa.name());
        let isa = isa.for_storage(storage);
        let convs = plan.convs.iter().map(|info| ConvRunner::new(isa, storage, info)).collect();
        let norms = vec![NormState::default(); plan.norms.len()];
        let scales = plan
            .steps
            .iter()
            .filter_map(|step| match step {
                Step::ScaleChannels { scale, .. } => Some((*scale, Vec::new())),
                _ => None,
            })
            .collect();
        let ends = match storage {
            Storage::Float32 => Vec::new(),
            Storage::Bf16 => {
                let ends = plan.inputs.iter().chain(&plan.outputs).map(|(_, view)| view);
                ends.chain(&plan.output_grads).map(|view| vec![0.0; view.len()]).collect()
            }
        };
        Executor {
            arena: Arena::with_slack(0, REACH),
            plan,
            pool,
            isa,
            storage,
            ends,
            convs,
            norms,
            scales,
            buffer: Arena::new(0),
            moments: Vec::new(),
            counts: Vec::new(),
            lent: Lent::default(),
            profile: None,
        }
    }

    /// As [`Executor::with_storage`], but without an arena: nothing can be run before [`Executor::take_memory`].
    pub fn without_memory(plan: Arc<Plan>, pool: Arc<ThreadPool>, storage: Storage) -> Executor {
        Executor::make(plan, pool, Isa::detect(), storage)
    }

    /// Gives the arena away, for plans that are run in turn; what outputs held is lost.
    pub fn give_memory(&mut self) -> Memory {
        Memory(std::mem::replace(&mut self.arena, Arena::with_slack(0, REACH)))
    }

    /// Takes over another executor's arena, made larger where this plan needs more.
    pub fn take_memory(&mut self, Memory(mut arena): Memory) {
        arena.reserve(self.arena_floats());
        self.arena = arena;
    }

    /// The arena's size in float32 elements.
    fn arena_floats(&self) -> usize {
        (self.plan.arena_len * self.storage.bytes()).div_ceil(size_of::<f32>())
    }

    /// Bytes of the arena.
    pub fn arena_bytes(&self) -> usize {
        self.arena_floats() * size_of::<f32>()
    }

    /// The plan that is run.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Starts accumulating each step's time, from zero.
    pub fn start_profile(&mut self) {
        let steps = self.plan.steps.iter().map(|step| self.describe(step)).collect();
        self.profile = Some(Profile { steps, ..Profile::default() });
    }

    /// The times since [`Executor::start_profile`].
    pub fn profile(&self) -> Option<&Profile> {
        self.profile.as_ref()
    }

    fn describe(&self, step: &Step) -> StepTime {
        let (multiply_adds, detail) = match step {
            Step::Conv { conv, .. } | Step::ConvGradData { conv, .. } | Step::ConvGradWeight { conv, .. } => {
                let info = &self.plan.convs[*conv];
                let g = info.geometry;
                let weights = g.kernel.0 * g.kernel.1 * info.input[3] / g.groups * info.output[3];
                let pixels = info.output[0] * info.output[1] * info.output[2];
                let detail = format!(
                    "{},{},{},{},{},{}",
                    info.input[3], info.output[3], info.input[2], g.kernel.1, g.stride.1, g.groups
                );
                ((weights * pixels) as u64, detail)
            }
            _ => (0, step.views().last().map_or(String::new(), |v| format!("{:?}", v.shape))),
        };
        StepTime { name: step.name(), multiply_adds, detail, ..StepTime::default() }
    }

    /// Takes the parameters in: packs weights, folds fixed norms.
    pub fn prepare(&mut self, params: &Params) {
        let start = Instant::now();
        for (state, info) in self.norms.iter_mut().zip(&self.plan.norms) {
            refill(&mut state.gamma, params.get(info.scale.index()));
            refill(&mut state.beta, params.get(info.shift.index()));
            if !info.batch_stats {
                let (mean, var) = (params.get(info.mean.index()), params.get(info.var.index()));
                state.affine = Affine::new(&state.gamma, &state.beta, mean, var, info.eps);
            }
        }
        for (id, values) in &mut self.scales {
            refill(values, params.get(id.index()));
        }
        let (isa, norms, infos) = (self.isa, &self.norms, &self.plan.convs);
        let convs = &mut self.convs;
        team::run(&self.pool, || {
            team::for_each_chunk(convs, 1, |i, conv| {
                conv[0].prepare(isa, params, infos[i].folded.map(|norm| &norms[norm].affine));
            });
        });
        if let Some(profile) = &mut self.profile {
            profile.prepare += start.elapsed();
        }
    }

    /// An input's elements, `[n, h, w, c]`.
    pub fn input_mut(&mut self, index: usize) -> &mut [f32] {
        if self.storage != Storage::Float32 {
            return &mut self.ends[index];
        }
        let view = self.plan.inputs[index].1;
        let start = self.plan.offset(&view);
        &mut self.arena.as_mut_slice()[start..start + view.len()]
    }

    /// An output's elements, `[n, h, w, c]`.
    pub fn output(&self, index: usize) -> &[f32] {
        if self.storage != Storage::Float32 {
            return &self.ends[self.plan.inputs.len() + index];
        }
        let view = self.plan.outputs[index].1;
        assert!(view.is_dense(), "outputs have buffers of their own");
        let start = self.plan.offset(&view);
        &self.arena.as_slice()[start..start + view.len()]
    }

    /// Every output's elements, and those of its gradient to be written.
    pub fn outputs_and_grads(&mut self) -> (Vec<&[f32]>, Vec<&mut [f32]>) {
        if self.storage != Storage::Float32 {
            let (outputs, grads) = self.ends[self.plan.inputs.len()..].split_at_mut(self.plan.outputs.len());
            return (
                outputs.iter().map(|o| &o[..]).collect(),
                grads.iter_mut().map(|g| &mut g[..]).collect(),
            );
        }
        let place = |view: &View| (self.plan.offset(view), view.len());
        let outputs: Vec<_> = self.plan.outputs.iter().map(|(_, v)| place(v)).collect();
        let grads: Vec<_> = self.plan.output_grads.iter().map(place).collect();
        let mut all: Vec<(usize, usize)> = outputs.iter().chain(&grads).copied().collect();
        all.sort_unstable();
        assert!(
            all.windows(2).all(|w| w[0].0 + w[0].1 <= w[1].0),
            "outputs and their gradients are disjoint"
        );
        let base = self.arena.as_mut_ptr();
        // SAFETY: the ranges lie in the arena and, as asserted, do not overlap; the borrow of self covers them.
        unsafe {
            (
                outputs.iter().map(|&(o, n)| std::slice::from_raw_parts(base.add(o), n)).collect(),
                grads.iter().map(|&(o, n)| std::slice::from_raw_parts_mut(base.add(o), n)).collect(),
            )
        }
    }

    /// Computes the outputs.
    pub fn forward(&mut self) {
        self.forward_until(&NEVER);
    }

    /// As [`Executor::forward`], but ends within a step of the plan where `stop` turns true; then false, and the outputs are
    /// undefined.
    pub fn forward_until(&mut self, stop: &AtomicBool) -> bool {
        let inputs = self.plan.inputs.len();
        self.take_ends(0..inputs);
        let done = self.run(0..self.plan.backward_start, &mut [], stop);
        self.give_ends(inputs..inputs + self.plan.outputs.len());
        done
    }

    /// Computes the trained parameters' gradients, in the layout of [`Params::values`]; the others' are not written.
    pub fn backward(&mut self, grads: &mut [f32]) {
        self.backward_until(grads, &NEVER);
    }

    /// As [`Executor::backward`], but ends within a step of the plan where `stop` turns true; then false, and the gradients
    /// are undefined.
    pub fn backward_until(&mut self, grads: &mut [f32], stop: &AtomicBool) -> bool {
        self.take_ends(self.plan.inputs.len() + self.plan.outputs.len()..self.ends.len());
        self.run(self.plan.backward_start..self.plan.steps.len(), grads, stop)
    }

    /// The view of an end: inputs, outputs, outputs' gradients, in this order.
    fn end_view(&self, index: usize) -> View {
        let (inputs, outputs) = (self.plan.inputs.len(), self.plan.outputs.len());
        match index {
            i if i < inputs => self.plan.inputs[i].1,
            i if i < inputs + outputs => self.plan.outputs[i - inputs].1,
            i => self.plan.output_grads[i - inputs - outputs],
        }
    }

    /// Calls `f` with an end's part in the arena and as the caller sees it, by pieces; where tensors are float32 they
    /// are the same.
    fn each_end(
        &mut self,
        which: std::ops::Range<usize>,
        f: impl Fn(Isa, *mut Bf16, *mut f32, usize) + Send + Sync,
    ) {
        const PIECE: usize = 64 * 1024;
        if self.storage == Storage::Float32 {
            return;
        }
        let (isa, pool) = (self.isa, Arc::clone(&self.pool));
        team::run(&pool, || {
            for index in which {
                let view = self.end_view(index);
                assert!(view.is_dense(), "inputs and outputs have buffers of their own");
                let (tensor, len) = (self.tensor::<Bf16>(&view), view.len());
                let floats = Shared(self.ends[index].as_mut_ptr());
                team::for_each(len.div_ceil(PIECE), |piece| {
                    let start = piece * PIECE;
                    // SAFETY: both hold `len` elements.
                    let (stored, floats) = unsafe { (tensor.data.get().add(start), floats.get().add(start)) };
                    f(isa, stored, floats, PIECE.min(len - start));
                });
            }
        });
    }

    fn take_ends(&mut self, which: std::ops::Range<usize>) {
        self.each_end(which, |isa, stored, floats, len| {
            // SAFETY: pieces are disjoint; the instruction set is this executor's.
            unsafe { to_elements(isa, floats.cast_const(), len, stored) }
        });
    }

    fn give_ends(&mut self, which: std::ops::Range<usize>) {
        self.each_end(which, |isa, stored, floats, len| {
            // SAFETY: as above.
            unsafe { to_floats(isa, stored.cast_const(), len, floats) }
        });
    }

    /// Moves the running statistics of norms that took batch statistics in the last forward pass. The variance is the
    /// unbiased one, as in PyTorch.
    pub fn update_running(&self, params: &mut Params) {
        for (state, info) in self.norms.iter().zip(&self.plan.norms).filter(|(_, info)| info.batch_stats) {
            let unbiased = state.pixels as f32 / (state.pixels.max(2) - 1) as f32;
            let mut blend = |id: ParamId, batch: &[f32], factor: f32| {
                let range = params.infos[id.index()].range();
                for (running, &value) in params.values[range].iter_mut().zip(batch) {
                    *running += info.momentum * (value * factor - *running);
                }
            };
            blend(info.mean, &state.batch_mean, 1.0);
            blend(info.var, &state.batch_var, unbiased);
        }
    }

    /// The statistics that each norm's input had in the last forward pass (training or calibration):
    /// `(norm's name, mean, biased variance)`.
    pub fn norm_statistics(&self) -> impl Iterator<Item = (&str, &[f32], &[f32])> {
        self.norms
            .iter()
            .zip(&self.plan.norms)
            .map(|(state, info)| (info.name.as_str(), &state.batch_mean[..], &state.batch_var[..]))
    }

    fn tensor<T>(&mut self, view: &View) -> Tensor<T> {
        let offset = self.plan.offset(view);
        debug_assert!(self.arena.len() >= self.arena_floats() && size_of::<T>() == self.storage.bytes());
        debug_assert!(
            offset + (view.pixels() - 1) * view.pixel_stride + view.channels() <= self.plan.arena_len
        );
        // SAFETY: the plan's offsets lie in the arena.
        let data = Shared(unsafe { self.arena.as_mut_ptr().cast::<T>().add(offset) });
        Tensor { data, pixel_stride: view.pixel_stride, shape: view.shape }
    }

    fn run(&mut self, steps: std::ops::Range<usize>, grads: &mut [f32], stop: &AtomicBool) -> bool {
        assert!(self.arena.len() >= self.arena_floats(), "an executor runs with its memory");
        let (plan, pool) = (Arc::clone(&self.plan), Arc::clone(&self.pool));
        team::run(&pool, || {
            for i in steps {
                if stop.load(Ordering::Relaxed) {
                    return false;
                }
                let start = self.profile.is_some().then(Instant::now);
                // SAFETY: the plan gives views inside the arena, disjoint between what a step reads and writes (but
                // where a kernel allows in place), and shapes that fit.
                unsafe {
                    match self.storage {
                        Storage::Float32 => self.step::<f32>(&plan.steps[i], grads),
                        Storage::Bf16 => self.step::<Bf16>(&plan.steps[i], grads),
                    }
                }
                if let (Some(profile), Some(start)) = (&mut self.profile, start) {
                    profile.steps[i].time += start.elapsed();
                }
            }
            true
        })
    }

    unsafe fn step<T: Product>(&mut self, step: &Step, grads: &mut [f32]) {
        let isa = self.isa;
        // SAFETY: as stated at the call.
        unsafe {
            match *step {
                Step::Conv { conv, x, y, activation, residual, stats } => {
                    let (x, y) = (self.tensor::<T>(&x), self.tensor::<T>(&y));
                    let residual = residual.map(|r| self.tensor::<T>(&r));
                    let epilogue = Epilogue { activation, residual, ..Epilogue::NONE };
                    let runner = &self.convs[conv];
                    match stats {
                        None => runner.forward(isa, x, y, epilogue, None),
                        Some(norm) => {
                            runner.part_counts(&mut self.counts);
                            self.moments.clear();
                            self.moments.resize(self.counts.len() * y.channels(), Moments::default());
                            runner.forward(isa, x, y, epilogue, Some(&mut self.moments));
                            self.finish_stats(norm, y.pixels());
                        }
                    }
                }
                Step::NormStats { norm, z } => {
                    let z = self.tensor::<T>(&z);
                    norm::part_moments(isa, z, &mut self.moments, &mut self.counts);
                    self.finish_stats(norm, z.pixels());
                }
                Step::Norm { norm, z, y, activation, residual } => {
                    let (z, y) = (self.tensor::<T>(&z), self.tensor::<T>(&y));
                    let residual = residual.map(|r| self.tensor::<T>(&r));
                    norm::forward(isa, z, y, &self.norms[norm].affine, activation, residual);
                }
                Step::Activation { activation, x, y } => {
                    let (x, y) = (self.tensor::<T>(&x), self.tensor::<T>(&y));
                    elementwise::activation(isa, x, None, y, activation, false);
                }
                Step::Add { a, b, y } => {
                    let (a, b, y) = (self.tensor::<T>(&a), self.tensor::<T>(&b), self.tensor::<T>(&y));
                    elementwise::sum(isa, a, Some(b), y, false);
                }
                Step::ScaleChannels { scale, x, y } => {
                    let (x, y) = (self.tensor::<T>(&x), self.tensor::<T>(&y));
                    shape_ops::scale_channels(x, self.scale(scale), y, false);
                }
                Step::Gate { x, factors, y } => {
                    shape_ops::gate(
                        self.tensor::<T>(&x),
                        self.tensor::<T>(&factors),
                        self.tensor::<T>(&y),
                        false,
                    );
                }
                Step::GatherHeads { heads, start, len, x, y } => {
                    shape_ops::gather_heads(
                        heads,
                        start,
                        len,
                        self.tensor::<T>(&x),
                        self.tensor::<T>(&y),
                        false,
                    );
                }
                Step::MaxPool { kernel, stride, pad, x, y } => {
                    let (x, y) = (self.tensor::<T>(&x), self.tensor::<T>(&y));
                    pool::max_pool(isa, Pool { kernel, stride, pad }, x, y);
                }
                Step::Upsample2 { x, y } => shape_ops::upsample2(self.tensor::<T>(&x), self.tensor::<T>(&y)),
                Step::Attention { attention, x, y } => {
                    attention::forward(isa, attention, self.tensor::<T>(&x), self.tensor::<T>(&y));
                }
                Step::GlobalAvgPool { x, y } => {
                    shape_ops::global_avg_pool(self.tensor::<T>(&x), self.tensor::<T>(&y))
                }
                Step::Copy { x, y, add } => {
                    elementwise::sum(isa, self.tensor::<T>(&x), None, self.tensor::<T>(&y), add)
                }
                Step::Zero { y } => elementwise::zero(self.tensor::<T>(&y)),
                _ => self.gradient_step::<T>(step, grads),
            }
        }
    }

    unsafe fn gradient_step<T: Product>(&mut self, step: &Step, grads: &mut [f32]) {
        let isa = self.isa;
        // SAFETY: as stated at the call.
        unsafe {
            match *step {
                Step::ConvGradData { conv, dy, dx, add } => {
                    let (dy, dx) = (self.tensor::<T>(&dy), self.tensor::<T>(&dx));
                    self.convs[conv].data_grad(isa, dy, dx, add);
                }
                Step::ConvGradWeight { conv, x, dy } => {
                    let (x, dy) = (self.tensor::<T>(&x), self.tensor::<T>(&dy));
                    let out = &mut grads[self.convs[conv].weight_range(&self.plan.params)];
                    self.convs[conv].weight_grad(isa, x, dy, &mut self.buffer, out);
                }
                Step::ConvGradBias { bias, dy } => {
                    let dy = self.tensor::<T>(&dy);
                    shape_ops::channel_sums(
                        isa,
                        dy,
                        None,
                        &mut grads[self.plan.params[bias.index()].range()],
                    );
                }
                Step::NormGrad { norm, z, dy, dz, add, activation } => {
                    let (z, dy, dz) = (self.tensor::<T>(&z), self.tensor::<T>(&dy), self.tensor::<T>(&dz));
                    let info = &self.plan.norms[norm];
                    let affine = &self.norms[norm].affine;
                    let batch_stats = info.batch_stats;
                    let backward = Backward { isa, z, dy, dz, affine, activation, batch_stats, add };
                    backward.run(&mut self.lent);
                    if info.trained {
                        let [scale, shift] =
                            [info.scale, info.shift].map(|p| self.plan.params[p.index()].offset);
                        for (c, (d_scale, d_shift)) in self.lent.parameters().enumerate() {
                            grads[scale + c] = d_scale;
                            grads[shift + c] = d_shift;
                        }
                    }
                }
                Step::ActivationGrad { activation, x, dy, dx, add } => {
                    let (x, dy, dx) = (self.tensor::<T>(&x), self.tensor::<T>(&dy), self.tensor::<T>(&dx));
                    elementwise::activation(isa, x, Some(dy), dx, activation, add);
                }
                Step::ScaleChannelsGrad { scale, trained, x, dy, dx } => {
                    let (x, dy) = (self.tensor::<T>(&x), self.tensor::<T>(&dy));
                    if trained {
                        let out = &mut grads[self.plan.params[scale.index()].range()];
                        shape_ops::channel_sums(isa, dy, Some(x), out);
                    }
                    if let Some((dx, add)) = dx {
                        let dx = self.tensor::<T>(&dx);
                        shape_ops::scale_channels(dy, self.scale(scale), dx, add);
                    }
                }
                Step::GateGrad { x, factors, dy, dx, d_factors } => {
                    let (x, factors, dy) =
                        (self.tensor::<T>(&x), self.tensor::<T>(&factors), self.tensor::<T>(&dy));
                    if let Some((d_factors, add)) = d_factors {
                        shape_ops::gate_factors_grad(x, dy, self.tensor::<T>(&d_factors), add);
                    }
                    if let Some((dx, add)) = dx {
                        shape_ops::gate(dy, factors, self.tensor::<T>(&dx), add);
                    }
                }
                Step::GatherHeadsGrad { heads, start, len, dy, dx } => {
                    shape_ops::gather_heads(
                        heads,
                        start,
                        len,
                        self.tensor::<T>(&dx),
                        self.tensor::<T>(&dy),
                        true,
                    );
                }
                Step::MaxPoolGrad { kernel, stride, pad, x, dy, dx, add } => {
                    let (x, dy, dx) = (self.tensor::<T>(&x), self.tensor::<T>(&dy), self.tensor::<T>(&dx));
                    pool::max_pool_grad(isa, Pool { kernel, stride, pad }, x, dy, dx, add);
                }
                Step::Upsample2Grad { dy, dx, add } => {
                    shape_ops::upsample2_grad(isa, self.tensor::<T>(&dy), self.tensor::<T>(&dx), add);
                }
                Step::AttentionGrad { attention, x, dy, dx, add } => {
                    let (x, dy, dx) = (self.tensor::<T>(&x), self.tensor::<T>(&dy), self.tensor::<T>(&dx));
                    attention::backward(isa, attention, x, dy, dx, add);
                }
                Step::GlobalAvgPoolGrad { dy, dx, add } => {
                    shape_ops::global_avg_pool_grad(self.tensor::<T>(&dy), self.tensor::<T>(&dx), add);
                }
                _ => unreachable!("a forward step"),
            }
        }
    }

    fn scale(&self, id: ParamId) -> &[f32] {
        let found = self.scales.iter().find(|(scale, _)| *scale == id);
        &found.expect("every channel scale of the plan is in the table").1
    }

    /// Combines the parts' moments; a norm on batch statistics takes them for its affine form.
    fn finish_stats(&mut self, norm: usize, pixels: usize) {
        let info = &self.plan.norms[norm];
        let state = &mut self.norms[norm];
        state.batch_mean.resize(info.channels, 0.0);
        state.batch_var.resize(info.channels, 0.0);
        state.pixels = pixels;
        let (mean, var) = (&mut state.batch_mean, &mut state.batch_var);
        norm::combine(self.isa, &self.moments, &self.counts, mean, var);
        if info.batch_stats {
            let (mean, var) = (&state.batch_mean, &state.batch_var);
            state.affine.set(&state.gamma, &state.beta, mean, var, info.eps);
        }
    }
}
