//! The training step on the GPU: samples drawn, forward, loss, backward, clipping, optimiser and moving average, recorded
//! once and replayed with one call. The host hands over tables and reads losses a few steps later.

mod block;
mod task;
mod views;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use onsa_compute::cuda::{
    CudaError, CudaGraph, Device, DeviceBuffer, Event, Executor, PinnedBuffer, Precision, Workspace,
};
use onsa_compute::{Mode, Plan, Trainable};

use super::augment::DeviceAugment;
use super::loader::{Pixels, TableBatch};
use super::loss::{ItemsRow, LossPlaces, TargetTable};
use super::optimiser::{CountersRow, DeviceOptimiser, OutcomeRow, StepArenas};
use super::{Gpu, Machine, Memory};
use crate::data::loader::Position;
use crate::engine::{FeaturesError, cut};
use crate::models::{Model, ModelError, Task};
use crate::train::loss::{LossConfig, LossError, LossItems};
use crate::train::optimiser::{Kind, ParamSlot};
use crate::train::schedule::Rates;
use block::Layout;
use task::{Drawer, TaskLoss};

pub use task::Material;

/// Steps that the host may be ahead of the GPU.
const AHEAD: usize = 3;
/// Targets an image that there is room for at first; where a batch has more, the room is made anew.
const TARGETS: usize = 128;

/// What is trained, in the GPU's memory; all of one layout.
struct Arenas {
    /// Parameters and running statistics.
    params: DeviceBuffer<f32>,
    /// Gradients of the last batch.
    grads: DeviceBuffer<f32>,
    gathered: Memory,
    ema: Memory,
}

/// All that a checkpoint needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Parameters and running statistics.
    pub params: Vec<f32>,
    /// Gradients gathered since the last step.
    pub gathered: Vec<f32>,
    /// The moving average.
    pub ema: Vec<f32>,
    /// The optimiser's arenas, by name.
    pub optimiser: Vec<(String, Vec<f32>)>,
    /// Steps taken.
    pub counters: CountersRow,
}

/// What a batch gave, known some steps after it was handed over.
#[derive(Clone, Debug)]
pub struct Finished {
    /// Where in the run.
    pub at: Position,
    /// The batch's items.
    pub items: Vec<usize>,
    /// Its loss.
    pub loss: Result<LossItems, LossError>,
    /// Where the optimiser was to step: whether the gradient was finite.
    pub stepped: Option<bool>,
}

/// A batch that cannot be handed over.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The GPU.
    #[error(transparent)]
    Cuda(#[from] CudaError),
    /// The targets are malformed.
    #[error(transparent)]
    Loss(#[from] LossError),
    /// The batch's size fits no plan.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The trained part cannot be run alone.
    #[error(transparent)]
    Features(#[from] FeaturesError),
}

/// Trains one model on one GPU.
pub struct GpuTrainer {
    gpu: Arc<Gpu>,
    machine: Arc<dyn Machine>,
    loss: LossConfig,
    arenas: Arenas,
    optimiser: DeviceOptimiser,
    augment: DeviceAugment,
    material: Material,
    model: Model,
    trainable: Trainable,
    precision: Precision,
    runs: HashMap<[usize; 3], SizedRun>,
    /// The largest that a size needed: an epoch's last, smaller batch runs within it too.
    workspace: Option<Workspace>,
    outcome: DeviceBuffer<u8>,
    slots: Vec<Option<HostSlot>>,
    flights: VecDeque<Flight>,
    finished: Vec<Finished>,
}

/// The step of one size of batch.
struct SizedRun {
    executor: Executor,
    drawer: Drawer,
    /// Tables of the current batch.
    tables: DeviceBuffer<u8>,
    layout: Layout,
    loss: TaskLoss,
    places: LossPlaces,
    /// Ready pixels, where batches bring them.
    bytes: Option<DeviceBuffer<u8>>,
    /// Without and with a step of the optimiser; then the same for batches of ready pixels.
    recordings: [Recording; 4],
}

#[derive(Default)]
enum Recording {
    /// Never run: the first time is not recorded, since it loads the kernels.
    #[default]
    New,
    RunOnce,
    Recorded(CudaGraph),
}

/// Host memory of one step in flight.
struct HostSlot {
    tables: PinnedBuffer<u8>,
    bytes: Option<PinnedBuffer<u8>>,
    outcome: PinnedBuffer<u8>,
    done: Event,
}

/// A step that the GPU may not have done yet.
struct Flight {
    slot: usize,
    host: HostSlot,
    stepping: bool,
    at: Position,
    items: Vec<usize>,
    /// Kept until the GPU has read the pixels.
    _batch: TableBatch,
}

const ITEMS: usize = size_of::<ItemsRow>();
const OUTCOME: usize = ITEMS + size_of::<OutcomeRow>();

/// What the optimiser is to be.
#[derive(Clone, Copy, Debug)]
pub struct OptimiserChoice<'a> {
    /// Its rule.
    pub kind: Kind,
    /// Adam's first decay rate.
    pub momentum: f64,
    /// Norm that gradients are clipped to.
    pub max_norm: f64,
    /// What it updates.
    pub slots: &'a [ParamSlot],
}

impl GpuTrainer {
    /// A trainer of `model` that starts from `params` and computes in `precision`.
    ///
    /// # Errors
    /// The memory does not suffice.
    pub fn new(
        gpu: &Arc<Gpu>,
        (model, trainable): (&Model, Trainable),
        params: &[f32],
        (loss, material): (LossConfig, Material),
        choice: OptimiserChoice<'_>,
        precision: Precision,
    ) -> Result<GpuTrainer, CudaError> {
        let machine: Arc<dyn Machine> = Arc::clone(gpu) as Arc<dyn Machine>;
        let (device, len) = (gpu.device(), params.len());
        let arenas = Arenas {
            params: DeviceBuffer::from_slice(device, params)?,
            grads: DeviceBuffer::zeros(device, len)?,
            gathered: Memory::zeros::<f32>(&machine, len)?,
            ema: Memory::of(&machine, params)?,
        };
        let OptimiserChoice { kind, momentum, max_norm, slots } = choice;
        Ok(GpuTrainer {
            optimiser: DeviceOptimiser::new(&machine, kind, momentum, max_norm, len, slots)?,
            augment: DeviceAugment::new(&machine, model.architecture.normalise())?,
            material,
            outcome: DeviceBuffer::zeros(device, OUTCOME)?,
            slots: (0..AHEAD).map(|_| None).collect(),
            gpu: Arc::clone(gpu),
            machine,
            loss,
            arenas,
            model: model.clone(),
            trainable,
            precision,
            runs: HashMap::new(),
            workspace: None,
            flights: VecDeque::new(),
            finished: Vec::new(),
        })
    }

    /// Hands a batch over: its gradient is gathered, and where `stepping` the optimiser steps with these rates. Waits
    /// where the GPU is too far behind.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub fn submit(&mut self, batch: TableBatch, rates: &Rates, stepping: bool) -> Result<(), SubmitError> {
        let [n, height, width] = batch.size;
        let kept;
        let targets = match &self.material {
            Material::Features(features) => {
                kept = features.targets(&batch.items);
                &kept
            }
            _ => &batch.targets,
        };
        let table = TargetTable::new(targets, n, (height, width), self.loss.nc)?;
        if self.model.task() == Task::Classify
            && let Some(image) = table.starts.windows(2).position(|image| image[0] == image[1])
        {
            return Err(LossError::Unlabelled { image }.into());
        }
        if self.flights.len() == AHEAD {
            self.land()?;
        }
        if self.runs.get(&batch.size).is_none_or(|run| run.layout.capacity() < table.rows.len()) {
            // What is recorded names the old buffers: nothing of it may be in flight.
            self.drain()?;
            match self.prepare(batch.size, table.rows.len()) {
                // What other sizes hold may be what is missing.
                Err(SubmitError::Cuda(CudaError::OutOfMemory { .. })) if !self.runs.is_empty() => {
                    self.runs.clear();
                    self.workspace = None;
                    self.prepare(batch.size, table.rows.len())?;
                }
                prepared => prepared?,
            }
        }
        let run = self.runs.get_mut(&batch.size).expect("prepared above");
        let device = self.gpu.device();
        let slot = (0..AHEAD)
            .find(|slot| self.flights.iter().all(|flight| flight.slot != *slot))
            .expect("fewer flights than slots");
        let mut host = match self.slots[slot].take() {
            Some(host) if host.tables.len() >= run.layout.bytes() => host,
            _ => HostSlot {
                tables: PinnedBuffer::zeros(device, run.layout.bytes())?,
                bytes: None,
                outcome: PinnedBuffer::zeros(device, OUTCOME)?,
                done: Event::new(device)?,
            },
        };
        let stream = device.stream();
        if let Pixels::Bytes(bytes) = &batch.pixels {
            let staging = fitting(&mut host.bytes, bytes.len(), |len| PinnedBuffer::zeros(device, len))?;
            staging.as_mut_slice()[..bytes.len()].copy_from_slice(bytes);
            let room = n * height * width * 3;
            let on_device = fitting(&mut run.bytes, room, |len| DeviceBuffer::zeros(device, len))?;
            on_device.upload_async(0, staging, bytes.len(), &stream)?;
        }
        let items: Vec<i32> = batch.items.iter().map(|&item| item as i32).collect();
        let drawing = task::tables(&batch.pixels, &items);
        let rates = self.optimiser.row(rates);
        let used = run.layout.fill(host.tables.as_mut_slice(), drawing, &rates, &table);
        batch.pixels.images().map_or(Ok(()), |images| images.upload(&stream))?;
        self.augment.enqueue_tables(host.tables.address(), run.tables.address(), used)?;
        let arenas = StepArenas {
            params: self.arenas.params.address(),
            grads: self.arenas.grads.address(),
            gathered: self.arenas.gathered.address(),
            ema: self.arenas.ema.address(),
            rates: run.tables.address() + run.layout.rates() as u64,
            outcome: self.outcome.address() + ITEMS as u64,
        };
        let SizedRun { executor, drawer, tables, layout, loss, places, bytes, recordings } = run;
        let (augment, optimiser, size) = (&self.augment, &self.optimiser, batch.size);
        let Arenas { params, grads, .. } = &self.arenas;
        let ready =
            matches!(batch.pixels, Pixels::Bytes(_)).then(|| bytes.as_ref().map_or(0, DeviceBuffer::address));
        let mut enqueue = || -> Result<(), CudaError> {
            drawer.enqueue(augment, (tables.address(), layout), ready, size)?;
            executor.prepare(&stream, params)?;
            executor.forward(&stream)?;
            loss.enqueue()?;
            executor.backward(&stream, grads)?;
            executor.update_running(&stream, params, places.bad())?;
            optimiser.enqueue_gather(&arenas, places.bad())?;
            if stepping { optimiser.enqueue_step(&arenas) } else { Ok(()) }
        };
        let recording = &mut recordings[usize::from(stepping) + 2 * usize::from(ready.is_some())];
        match recording {
            Recording::New => {
                enqueue()?;
                *recording = Recording::RunOnce;
            }
            Recording::RunOnce => {
                let mut graph = CudaGraph::capture(&stream, enqueue)?;
                graph.replay()?;
                *recording = Recording::Recorded(graph);
            }
            Recording::Recorded(graph) => graph.replay()?,
        }
        batch.pixels.images().map_or(Ok(()), |images| images.release(&stream))?;
        self.outcome.download_async(0, &mut host.outcome, OUTCOME, &stream)?;
        host.done.record(&stream)?;
        let (at, items) = (batch.at, batch.items.clone());
        self.flights.push_back(Flight { slot, host, stepping, at, items, _batch: batch });
        Ok(())
    }

    /// Makes what a size of batch needs, with room for at least `targets`.
    fn prepare(&mut self, size: [usize; 3], targets: usize) -> Result<(), SubmitError> {
        let executor = match self.runs.remove(&size) {
            Some(run) => run.executor,
            None => {
                let model = self.model.resized(size)?;
                let graph = match &self.material {
                    Material::Features(_) => cut(&model.graph, &self.trainable)?.head,
                    _ => model.graph,
                };
                let plan = Plan::new(&graph, Mode::Training, &self.trainable);
                let shared = self.workspace.as_ref();
                let executor = Executor::within(self.gpu.device(), Arc::new(plan), self.precision, shared)?;
                self.workspace = Some(executor.workspace().clone());
                executor
            }
        };
        let drawer = Drawer::new(&self.machine, &self.material, &executor, size)?;
        let capacity = targets.next_power_of_two().max(TARGETS * size[0]);
        let layout = Layout::new(size[0], self.material.tables(size[2]), capacity);
        let tables = DeviceBuffer::zeros(self.gpu.device(), layout.bytes())?;
        let places = LossPlaces {
            targets: tables.address() + layout.targets() as u64,
            starts: tables.address() + layout.starts() as u64,
            items: self.outcome.address(),
        };
        let room = (places, layout.capacity());
        let loss = TaskLoss::new(&self.machine, self.model.task(), &self.loss, &executor, size[0], room)?;
        let recordings = [const { Recording::New }; 4];
        let run = SizedRun { executor, drawer, tables, layout, loss, places, bytes: None, recordings };
        self.runs.insert(size, run);
        Ok(())
    }

    /// Waits for the oldest step in flight.
    fn land(&mut self) -> Result<(), CudaError> {
        let Some(flight) = self.flights.pop_front() else { return Ok(()) };
        flight.host.done.synchronize()?;
        let bytes = flight.host.outcome.as_slice();
        let items = block::read::<ItemsRow>(&bytes[..ITEMS]);
        let outcome = block::read::<OutcomeRow>(&bytes[ITEMS..]);
        self.finished.push(Finished {
            at: flight.at,
            items: flight.items,
            loss: items.items(),
            stepped: flight.stepping.then_some(outcome.stepped != 0),
        });
        self.slots[flight.slot] = Some(flight.host);
        Ok(())
    }

    /// Waits for all steps in flight.
    ///
    /// # Errors
    /// A kernel failed.
    pub fn drain(&mut self) -> Result<(), CudaError> {
        while !self.flights.is_empty() {
            self.land()?;
        }
        Ok(())
    }

    /// Waits for all steps, and gives the memory of the networks back.
    ///
    /// # Errors
    /// A kernel failed.
    pub fn release(&mut self) -> Result<(), CudaError> {
        self.drain()?;
        self.runs.clear();
        Ok(())
    }

    /// What has become known since the last call, in the order of the batches.
    pub fn finished(&mut self) -> Vec<Finished> {
        std::mem::take(&mut self.finished)
    }

    /// Waits for all steps, then copies everything out.
    ///
    /// # Errors
    /// The device fails.
    pub fn snapshot(&mut self) -> Result<Snapshot, CudaError> {
        self.drain()?;
        let Arenas { params, gathered, ema, .. } = &self.arenas;
        Ok(Snapshot {
            params: params.download()?,
            gathered: gathered.read(params.len())?,
            ema: ema.read(params.len())?,
            optimiser: self.optimiser.state()?,
            counters: self.optimiser.counters()?,
        })
    }

    /// The moving average, after all steps.
    ///
    /// # Errors
    /// The device fails.
    pub fn average(&mut self) -> Result<Vec<f32>, CudaError> {
        self.drain()?;
        self.arenas.ema.read(self.arenas.params.len())
    }

    /// Continues from a snapshot of the same model and optimiser.
    ///
    /// # Errors
    /// The device fails.
    pub fn restore(&mut self, snapshot: &Snapshot) -> Result<(), CudaError> {
        self.drain()?;
        self.arenas.params.upload(&snapshot.params)?;
        self.arenas.gathered.write(&snapshot.gathered)?;
        self.arenas.ema.write(&snapshot.ema)?;
        self.optimiser.restore(snapshot.counters, &snapshot.optimiser)
    }

    /// The GPU.
    pub fn device(&self) -> &Device {
        self.gpu.device()
    }

    /// Memory that validation may use between steps, on the same stream.
    pub fn workspace(&self) -> Option<&Workspace> {
        self.workspace.as_ref()
    }

    /// Bytes of the network's buffers for the largest batch so far.
    pub fn arena_bytes(&self) -> usize {
        self.runs.values().map(|run| run.executor.bytes()).max().unwrap_or(0)
    }
}

/// What `place` holds, made anew where it is shorter than `len`.
fn fitting<B: Length>(
    place: &mut Option<B>,
    len: usize,
    make: impl FnOnce(usize) -> Result<B, CudaError>,
) -> Result<&mut B, CudaError> {
    if place.as_ref().is_none_or(|buffer| buffer.length() < len) {
        *place = None;
        *place = Some(make(len)?);
    }
    Ok(place.as_mut().expect("made above"))
}

trait Length {
    fn length(&self) -> usize;
}

impl Length for PinnedBuffer<u8> {
    fn length(&self) -> usize {
        self.len()
    }
}

impl Length for DeviceBuffer<u8> {
    fn length(&self) -> usize {
        self.len()
    }
}

impl Drop for GpuTrainer {
    fn drop(&mut self) {
        // Buffers in flight must not be freed; a failure has been reported by whoever came upon it first.
        let _ = self.gpu.device().stream().synchronize();
    }
}
