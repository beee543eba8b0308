//! Interprets a plan's steps as launches on a stream.

use std::ops::Range;
use std::sync::Arc;

use crate::cpu::Profile;
use crate::graph::{Activation, ParamId};
use crate::plan::{Plan, Step, View};

use super::super::kernels::Kernels;
use super::super::sources::{NORM, PREPARE};
use super::super::{CudaError, Device, DeviceBuffer, Precision, Stream, Tensor};
use super::dense::{self, Behind};
use super::elementwise::Pool;
use super::layout::{LONGEST, Layout, SLACK, longest_tensor};
use super::profile::{self, Marks};
use super::side::Side;
use super::structures::{NormFinish, Words};
use super::workspace::{Part, Workspace};

/// Runs a plan on a GPU. Every method but those that say so only enqueues work on the stream given, so that a
/// [`CudaGraph`](super::super::CudaGraph) can record it.
///
/// Order of calls: [`prepare`](Executor::prepare) whenever parameters have changed, write the inputs,
/// [`forward`](Executor::forward), read the outputs; in training write the outputs' gradients, then
/// [`backward`](Executor::backward) and [`update_running`](Executor::update_running).
pub struct Executor {
    pub(super) device: Device,
    pub(super) plan: Arc<Plan>,
    pub(super) precision: Precision,
    pub(super) kernels: Arc<Kernels>,
    pub(super) layout: Layout,
    pub(super) weights: DeviceBuffer<u8>,
    pub(super) workspace: Workspace,
    /// Counters of the main stream's work, and of the side's.
    counters: [DeviceBuffer<u32>; 2],
    /// For the gradients of weights and biases, beside the backward pass's other steps.
    side: Side,
    means: DeviceBuffer<f32>,
    vars: DeviceBuffer<f32>,
    affine: DeviceBuffer<f32>,
    coefficients: DeviceBuffer<f32>,
    biases: DeviceBuffer<f32>,
    depthwise_weights: DeviceBuffer<f32>,
    taps: DeviceBuffer<u32>,
    fixed: DeviceBuffer<u32>,
    running: DeviceBuffer<u32>,
    /// Address of the parameters of the last [`Executor::prepare`].
    params: u64,
    /// For values that come from the host and go there, made at the first such call.
    staging: Option<DeviceBuffer<f32>>,
    marks: Option<Marks>,
    profile: Option<Profile>,
}

fn table<T: Words>(device: &Device, rows: &[T]) -> Result<DeviceBuffer<u32>, CudaError> {
    let words: Vec<u32> = rows.iter().flat_map(Words::words).collect();
    DeviceBuffer::from_slice(device, &words)
}

/// A norm's name, and mean and biased variance of its input.
pub type NormStatistics = (String, Vec<f32>, Vec<f32>);

impl Executor {
    /// Compiles the kernels (or takes them from the cache) and makes the plan's memory.
    ///
    /// # Errors
    /// The memory does not suffice; NVRTC or the driver fails; the plan has a step without a kernel.
    pub fn new(device: &Device, plan: Arc<Plan>, precision: Precision) -> Result<Executor, CudaError> {
        Executor::within(device, plan, precision, None)
    }

    /// As [`Executor::new`], within what another executor's workspace has that is large enough. Executors that share one must
    /// run one after the other on one stream, and what one computed must be read before the next runs.
    ///
    /// # Errors
    /// As for [`Executor::new`].
    pub fn within(
        device: &Device,
        plan: Arc<Plan>,
        precision: Precision,
        shared: Option<&Workspace>,
    ) -> Result<Executor, CudaError> {
        plan.convs.iter().try_for_each(dense::check)?;
        let elements = longest_tensor(&plan);
        if elements > LONGEST {
            return Err(CudaError::TooLong { elements });
        }
        let plan = Arc::new(plan.with_slack(SLACK));
        let layout = Layout::new(&plan, precision);
        let kernels = Kernels::new(device, precision)?;
        let e = precision.bytes();
        let floats = |len| DeviceBuffer::<f32>::zeros(device, len);
        let bytes = |len| DeviceBuffer::<u8>::zeros(device, len);
        Ok(Executor {
            workspace: Workspace::new(device, layout.workspace(precision), shared)?,
            weights: bytes(layout.weights * e)?,
            counters: [
                DeviceBuffer::zeros(device, layout.counters)?,
                DeviceBuffer::zeros(device, layout.counters)?,
            ],
            side: Side::new(device, &plan)?,
            means: floats(layout.statistics)?,
            vars: floats(layout.statistics)?,
            affine: floats(2 * layout.statistics)?,
            coefficients: floats(2 * layout.statistics)?,
            biases: floats(layout.biases)?,
            depthwise_weights: floats(layout.depthwise_weights)?,
            taps: table(device, &layout.taps)?,
            fixed: table(device, &layout.fixed)?,
            running: table(device, &layout.running)?,
            device: device.clone(),
            plan,
            precision,
            kernels,
            layout,
            params: 0,
            staging: None,
            marks: None,
            profile: None,
        })
    }

    /// The plan that is run.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The device that it runs on.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What others may run within.
    pub fn workspace(&self) -> &Workspace {
        &self.workspace
    }

    /// Bytes of the device's memory that this holds, its workspace included.
    pub fn bytes(&self) -> usize {
        self.layout.needed(self.precision).total()
    }

    /// Where work on a stream puts partial sums, and its counters.
    pub(super) fn scratch(&self, stream: &Stream) -> (u64, u64) {
        let (part, which) = if self.side.is(stream) { (Part::SidePartials, 1) } else { (Part::Partials, 0) };
        (self.workspace.address(part), self.counters[which].address())
    }

    /// Where partial weight gradients go: one weight's at a time, whichever stream it is on.
    pub(super) fn splits(&self) -> u64 {
        self.workspace.address(Part::SidePartials)
    }

    pub(super) fn tensor(&self, view: &View) -> Tensor {
        let at = self.plan.offset(view) * self.precision.bytes();
        debug_assert!(at < self.layout.arena_bytes.max(1));
        Tensor {
            address: self.workspace.address(Part::Arena) + at as u64,
            precision: self.precision,
            pixel_stride: view.pixel_stride,
            shape: view.shape,
        }
    }

    /// Where an input is to be written before [`Executor::forward`].
    pub fn input(&self, index: usize) -> Tensor {
        self.tensor(&self.plan.inputs[index].1)
    }

    /// Where an output is after [`Executor::forward`].
    pub fn output(&self, index: usize) -> Tensor {
        self.tensor(&self.plan.outputs[index].1)
    }

    /// Where an output's gradient is to be written before [`Executor::backward`].
    pub fn output_grad(&self, index: usize) -> Tensor {
        self.tensor(&self.plan.output_grads[index])
    }

    fn staging(&mut self) -> Result<&mut DeviceBuffer<f32>, CudaError> {
        if self.staging.is_none() {
            let views = self.plan.inputs.iter().chain(&self.plan.outputs).map(|(_, view)| view.len());
            let len = views.max().unwrap_or(0);
            self.staging = Some(DeviceBuffer::zeros(&self.device, len)?);
        }
        Ok(self.staging.as_mut().expect("made above"))
    }

    /// Copies an input's elements `[n, h, w, c]` in, on the device's own stream, and waits.
    ///
    /// # Errors
    /// The driver fails.
    pub fn write_input(&mut self, index: usize, values: &[f32]) -> Result<(), CudaError> {
        let to = self.input(index);
        self.write(to, values)
    }

    /// Copies an output's gradient in, on the device's own stream, and waits.
    ///
    /// # Errors
    /// The driver fails.
    pub fn write_output_grad(&mut self, index: usize, values: &[f32]) -> Result<(), CudaError> {
        let to = self.output_grad(index);
        self.write(to, values)
    }

    fn write(&mut self, to: Tensor, values: &[f32]) -> Result<(), CudaError> {
        assert_eq!(values.len(), to.pixels() * to.channels(), "as many values as the tensor has");
        let stream = self.device.stream();
        let staging = self.staging()?;
        staging.upload_from(0, values)?;
        let from = staging.address();
        self.bring(&stream, from, to)?;
        stream.synchronize()
    }

    /// Copies an output's elements out, on the device's own stream, and waits.
    ///
    /// # Errors
    /// The driver fails.
    pub fn read_output(&mut self, index: usize, values: &mut [f32]) -> Result<(), CudaError> {
        let from = self.output(index);
        assert_eq!(values.len(), from.pixels() * from.channels(), "as many values as the tensor has");
        let stream = self.device.stream();
        let to = self.staging()?.address();
        self.fetch(&stream, from, to)?;
        self.staging()?.download_into(0, values)
    }

    /// The statistics that each norm's input had in the last forward pass (training or calibration):
    /// `(norm's name, mean, biased variance)`. Waits for the device.
    ///
    /// # Errors
    /// The driver fails.
    pub fn norm_statistics(&self) -> Result<Vec<NormStatistics>, CudaError> {
        let (means, vars) = (self.means.download()?, self.vars.download()?);
        Ok(self
            .plan
            .norms
            .iter()
            .map(|norm| {
                let at = norm.saved..norm.saved + norm.channels;
                (norm.name.clone(), means[at.clone()].to_vec(), vars[at].to_vec())
            })
            .collect())
    }

    /// Takes the parameters in: packs weights, folds fixed norms. `params` is in the layout of [`Params::values`](crate::Params); the
    /// passes read it too, so it must stay where it is and keep its values until they are done.
    ///
    /// # Errors
    /// The driver fails.
    pub fn prepare(&mut self, stream: &Stream, params: &DeviceBuffer<f32>) -> Result<(), CudaError> {
        self.params = params.address();
        let affine = self.affine.address();
        if !self.layout.fixed.is_empty() {
            let kernel = self.kernels.get(&PREPARE, "fix_norms")?;
            let (table, means, vars) = (self.fixed.address(), self.means.address(), self.vars.address());
            let biases = self.biases.address();
            let arguments = [
                (&table).into(),
                (&self.params).into(),
                (&affine).into(),
                (&means).into(),
                (&vars).into(),
                (&biases).into(),
            ];
            let grid = [self.layout.fixed.len() as u32, 1, 1];
            // SAFETY: the kernel's arguments; the tables have room for every norm.
            unsafe { kernel.launch(stream, grid, [128, 1, 1], 0, &arguments)? };
        }
        if !self.layout.taps.is_empty() {
            let name = format!("pack_weights_{}", self.precision.name());
            let kernel = self.kernels.get(&PREPARE, &name)?;
            let (table, count) = (self.taps.address(), self.layout.taps.len() as i32);
            let weights = self.weights.address();
            let arguments = [
                (&table).into(),
                (&count).into(),
                (&self.params).into(),
                (&affine).into(),
                (&weights).into(),
            ];
            // SAFETY: as above; the packed weights have room.
            unsafe {
                kernel.launch(stream, [self.layout.tap_tiles as u32, 1, 1], [256, 1, 1], 0, &arguments)?;
            }
        }
        for (info, folded) in self.plan.convs.iter().zip(&self.layout.folded_depthwise) {
            let (Some(at), Some(norm)) = (folded, info.folded) else { continue };
            let kernel = self.kernels.get(&PREPARE, "scale_depthwise")?;
            let from = self.param(info.weight);
            let scale = self.affine.address_of(2 * self.plan.norms[norm].saved);
            let to = self.depthwise_weights.address_of(*at);
            let channels = info.output[3] as i32;
            let len = self.plan.params[info.weight.index()].len as i32;
            let arguments =
                [(&from).into(), (&scale).into(), (&to).into(), (&channels).into(), (&len).into()];
            // SAFETY: as above.
            unsafe {
                kernel.launch(stream, [(len as u32).div_ceil(128), 1, 1], [128, 1, 1], 0, &arguments)?;
            }
        }
        Ok(())
    }

    /// Computes the outputs.
    ///
    /// # Errors
    /// The driver fails.
    pub fn forward(&mut self, stream: &Stream) -> Result<(), CudaError> {
        self.run(stream, 0..self.plan.backward_start, 0)
    }

    /// Computes the trained parameters' gradients, in the layout of [`Params::values`](crate::Params); the others' are not written.
    ///
    /// # Errors
    /// The driver fails.
    pub fn backward(&mut self, stream: &Stream, grads: &DeviceBuffer<f32>) -> Result<(), CudaError> {
        self.run(stream, self.plan.backward_start..self.plan.steps.len(), grads.address())
    }

    /// Moves the running statistics of norms that took batch statistics in the last forward pass. The variance is the
    /// unbiased one, as in PyTorch. Where the number at `skip` (address of a `u32`, 0 for none) is not 0, nothing moves.
    ///
    /// # Errors
    /// The driver fails.
    pub fn update_running(
        &mut self,
        stream: &Stream,
        params: &DeviceBuffer<f32>,
        skip: u64,
    ) -> Result<(), CudaError> {
        if self.layout.running.is_empty() {
            return Ok(());
        }
        let kernel = self.kernels.get(&NORM, "update_running")?;
        let (table, values) = (self.running.address(), params.address());
        let (means, vars) = (self.means.address(), self.vars.address());
        let arguments = [(&table).into(), (&values).into(), (&means).into(), (&vars).into(), (&skip).into()];
        let grid = [self.layout.running.len() as u32, 1, 1];
        // SAFETY: the kernel's arguments; the tables have room for every norm.
        unsafe { kernel.launch(stream, grid, [128, 1, 1], 0, &arguments) }
    }

    /// Starts accumulating each step's time, from zero. While this is on, passes wait for the device, and cannot be
    /// recorded.
    ///
    /// # Errors
    /// The driver fails.
    pub fn start_profile(&mut self) -> Result<(), CudaError> {
        self.marks = Some(Marks::new(&self.device, self.plan.steps.len())?);
        self.profile = Some(profile::describe(&self.plan));
        Ok(())
    }

    /// The times since [`Executor::start_profile`]; ends it.
    pub fn take_profile(&mut self) -> Option<Profile> {
        self.marks = None;
        self.profile.take()
    }

    fn run(&mut self, stream: &Stream, steps: Range<usize>, grads: u64) -> Result<(), CudaError> {
        let plan = Arc::clone(&self.plan);
        // A profile wants one step at a time.
        let beside = self.marks.is_none();
        let mut pending = self.side.begin();
        for i in steps.clone() {
            let step = &plan.steps[i];
            if let Some(marks) = &self.marks {
                marks.mark(i, stream)?;
            }
            if beside && Side::takes(step) {
                pending.fork(stream)?;
                self.step(self.side.stream(), step, grads)?;
                pending.done(step)?;
            } else {
                pending.before(stream, step, &plan)?;
                self.step(stream, step, grads)?;
            }
        }
        pending.join(stream)?;
        if let (Some(marks), Some(profile)) = (&self.marks, &mut self.profile) {
            marks.mark(steps.end, stream)?;
            marks.add_to(profile, steps)?;
        }
        Ok(())
    }

    fn param(&self, id: ParamId) -> u64 {
        self.params + (self.plan.params[id.index()].offset * size_of::<f32>()) as u64
    }

    /// Where a parameter's gradient lies, if it is wanted.
    fn grad(&self, grads: u64, id: ParamId) -> u64 {
        grads + (self.plan.params[id.index()].offset * size_of::<f32>()) as u64
    }

    /// Where a norm's numbers lie.
    fn norm(&self, index: usize) -> NormFinish {
        let info = &self.plan.norms[index];
        NormFinish {
            mean: self.means.address_of(info.saved),
            var: self.vars.address_of(info.saved),
            gamma: self.param(info.scale),
            beta: self.param(info.shift),
            affine: self.affine.address_of(2 * info.saved),
            coefficients: self.coefficients.address_of(2 * info.saved),
            eps: info.eps,
            batch_stats: i32::from(info.batch_stats),
            ..NormFinish::default()
        }
    }

    /// As [`Executor::norm`], for kernels that take the statistics: a norm with fixed ones keeps its scale and shift.
    fn norm_taking(&self, index: usize) -> NormFinish {
        let norm = self.norm(index);
        NormFinish { affine: if norm.batch_stats != 0 { norm.affine } else { 0 }, ..norm }
    }

    fn step(&self, stream: &Stream, step: &Step, grads: u64) -> Result<(), CudaError> {
        let t = |view: &View| self.tensor(view);
        match step {
            Step::Conv { conv, x, y, activation, residual, stats } => {
                let info = &self.plan.convs[*conv];
                let bias = match self.layout.folded_bias[*conv] {
                    Some(at) => self.biases.address_of(at),
                    None => info.bias.map_or(0, |bias| self.param(bias)),
                };
                let finish = stats.map(|norm| self.norm_taking(norm));
                let behind = Behind {
                    bias,
                    activation: *activation,
                    residual: residual.as_ref().map(t),
                    stats: finish.as_ref(),
                    add: false,
                };
                match &self.layout.dense[*conv] {
                    Some(dense) => {
                        let x = self.padded(stream, dense, t(x), true)?;
                        self.dense(stream, &dense.forward, 1, x, t(y), &behind)
                    }
                    None => self.depthwise(stream, info, self.depthwise_weights(*conv), t(x), t(y), &behind),
                }
            }
            Step::NormStats { norm, z } => self.norm_stats(stream, t(z), &self.norm_taking(*norm)),
            Step::Norm { norm, z, y, activation, residual } => {
                let affine = self.norm(*norm).affine;
                self.norm_apply(stream, t(z), t(y), residual.as_ref().map(t), affine, *activation)
            }
            Step::Activation { activation, x, y } => {
                self.activation(stream, t(x), None, t(y), *activation, false)
            }
            Step::Add { a, b, y } => self.sum(stream, t(a), Some(t(b)), t(y), false),
            Step::ScaleChannels { scale, x, y } => {
                self.scale_channels(stream, t(x), self.param(*scale), t(y), false)
            }
            Step::GatherHeads { heads, start, x, y, .. } => {
                self.gather_heads(stream, t(x), t(y), *heads, *start, false)
            }
            Step::MaxPool { kernel, stride, pad, x, y } => {
                let pool = Pool { kernel: *kernel, stride: *stride, pad: *pad };
                self.max_pool(stream, pool, t(x), t(y))
            }
            Step::Upsample2 { x, y } => self.upsample(stream, t(x), t(y)),
            Step::Attention { attention, x, y } => self.attention(stream, *attention, t(x), t(y)),
            Step::GlobalAvgPool { x, y } => self.global_mean(stream, t(x), t(y)),
            Step::Copy { x, y, add } => self.sum(stream, t(x), None, t(y), *add),
            Step::Zero { y } => self.zero(stream, t(y)),
            Step::Gate { x, factors, y } => self.gate(stream, t(x), t(factors), t(y), false),
            _ => self.gradient_step(stream, step, grads),
        }
    }

    fn depthwise_weights(&self, conv: usize) -> u64 {
        match self.layout.folded_depthwise[conv] {
            Some(at) => self.depthwise_weights.address_of(at),
            None => self.param(self.plan.convs[conv].weight),
        }
    }

    fn gradient_step(&self, stream: &Stream, step: &Step, grads: u64) -> Result<(), CudaError> {
        let t = |view: &View| self.tensor(view);
        match step {
            Step::ConvGradData { conv, dy, dx, add } => {
                let info = &self.plan.convs[*conv];
                let behind = Behind {
                    bias: 0,
                    activation: Activation::Identity,
                    residual: None,
                    stats: None,
                    add: *add,
                };
                match &self.layout.dense[*conv] {
                    Some(dense) => {
                        let problem = dense.data_grad.as_ref().expect("made where the plan has the step");
                        let count = super::layout::classes(&info.geometry);
                        self.dense(stream, problem, count, t(dy), t(dx), &behind)
                    }
                    None => {
                        let weights = self.depthwise_weights(*conv);
                        self.depthwise_data_grad(stream, info, weights, t(dy), t(dx), *add)
                    }
                }
            }
            Step::ConvGradWeight { conv, x, dy } => {
                let info = &self.plan.convs[*conv];
                let out = self.grad(grads, info.weight);
                match &self.layout.dense[*conv] {
                    None => self.depthwise_weight_grad(stream, info, t(x), t(dy), out),
                    // Padding serves where both sides' pixels can be copied at once.
                    Some(dense) if t(dy).allows(8) => {
                        let x = self.padded(stream, dense, t(x), false)?;
                        self.dense_weight_grad(stream, info, x, t(dy), out)
                    }
                    Some(_) => self.dense_weight_grad(stream, info, t(x), t(dy), out),
                }
            }
            Step::ConvGradBias { bias, dy } => self.sums(stream, t(dy), None, self.grad(grads, *bias)),
            Step::NormGrad { norm, z, dy, dz, add, activation } => {
                let info = &self.plan.norms[*norm];
                let mut finish = self.norm(*norm);
                if info.trained {
                    finish.d_gamma = self.grad(grads, info.scale);
                    finish.d_beta = self.grad(grads, info.shift);
                }
                self.norm_grad(stream, t(z), t(dy), t(dz), *add, *activation, &finish)
            }
            Step::ActivationGrad { activation, x, dy, dx, add } => {
                self.activation(stream, t(x), Some(t(dy)), t(dx), *activation, *add)
            }
            Step::ScaleChannelsGrad { scale, trained, x, dy, dx } => {
                if *trained {
                    self.sums(stream, t(dy), Some(t(x)), self.grad(grads, *scale))?;
                }
                match dx {
                    Some((dx, add)) => self.scale_channels(stream, t(dy), self.param(*scale), t(dx), *add),
                    None => Ok(()),
                }
            }
            Step::GatherHeadsGrad { heads, start, dy, dx, .. } => {
                self.gather_heads(stream, t(dx), t(dy), *heads, *start, true)
            }
            Step::MaxPoolGrad { kernel, stride, pad, x, dy, dx, add } => {
                let pool = Pool { kernel: *kernel, stride: *stride, pad: *pad };
                self.max_pool_grad(stream, pool, t(x), t(dy), t(dx), *add)
            }
            Step::Upsample2Grad { dy, dx, add } => self.upsample_grad(stream, t(dy), t(dx), *add),
            Step::AttentionGrad { attention, x, dy, dx, add } => {
                self.attention_grad(stream, *attention, t(x), t(dy), t(dx), *add)
            }
            Step::GlobalAvgPoolGrad { dy, dx, add } => self.global_mean_grad(stream, t(dy), t(dx), *add),
            Step::GateGrad { x, factors, dy, dx, d_factors } => {
                if let Some((d_factors, add)) = d_factors {
                    self.gate_factors_grad(stream, t(x), t(dy), t(d_factors), *add)?;
                }
                match dx {
                    Some((dx, add)) => self.gate(stream, t(dy), t(factors), t(dx), *add),
                    None => Ok(()),
                }
            }
            _ => unreachable!("a forward step"),
        }
    }
}
