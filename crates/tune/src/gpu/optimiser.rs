//! Gathering, clipping, optimiser and moving average on the device; `kernels/optimiser.cu` says how.

mod matrices;

use std::sync::Arc;

use onsa_compute::cuda::{CudaError, Plain};

use super::{Machine, Memory, OPTIMISER, Value};
use crate::train::optimiser::{Group, Kind, ParamSlot};
use crate::train::schedule::Rates;
use matrices::Orthogonal;

/// Values of the arena that one entry of the tables stands for: parameters begin at multiples of it.
const GRANULE: usize = 16;
/// Different pairs of group and learning-rate scale that there is room for: `layer_decay` gives each module its own.
const CLASSES: usize = 128;
/// The class of what is not trained.
const UNTRAINED: u8 = 255;
/// Most blocks of an elementwise pass.
const BLOCKS: usize = 1056;

/// What a step's update needs from the host.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RatesRow {
    momentum: f64,
    beta1: f64,
    max_norm: f64,
    lr: [f64; CLASSES],
    decay: [f64; CLASSES],
}

impl Default for RatesRow {
    fn default() -> RatesRow {
        RatesRow { momentum: 0.0, beta1: 0.0, max_norm: 0.0, lr: [0.0; CLASSES], decay: [0.0; CLASSES] }
    }
}

/// Steps taken.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CountersRow {
    /// Of the optimiser.
    pub steps: u64,
    /// Of the moving average.
    pub updates: u64,
}

/// What a step was.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OutcomeRow {
    /// Norm of the gradient before clipping.
    pub norm: f64,
    /// 0 where the norm was not finite; then nothing was changed.
    pub stepped: i32,
    unused: i32,
}

// SAFETY: 8-byte fields, then an even number of 4-byte ones: no padding.
unsafe impl Plain for RatesRow {}
// SAFETY: as above.
unsafe impl Plain for CountersRow {}
// SAFETY: as above.
unsafe impl Plain for OutcomeRow {}

/// Bytes of the kernels' `Derived`: 10 numbers and 6 for each class.
const DERIVED: usize = 4 * (10 + 6 * CLASSES);

/// What a step works on, by address; the arenas have `len` values each.
#[derive(Clone, Copy, Debug)]
pub struct StepArenas {
    /// Parameters and running statistics.
    pub params: u64,
    /// Gradients of the last batch.
    pub grads: u64,
    /// Gradients gathered since the last step.
    pub gathered: u64,
    /// The moving average.
    pub ema: u64,
    /// The step's [`RatesRow`].
    pub rates: u64,
    /// For one [`OutcomeRow`].
    pub outcome: u64,
}

/// An optimiser with its state in the device's memory.
pub struct DeviceOptimiser {
    machine: Arc<dyn Machine>,
    kind: Kind,
    beta1: f64,
    max_norm: f64,
    len: usize,
    /// Group and scale of each class.
    classes: Vec<(Group, f64)>,
    class_table: Memory,
    first: Memory,
    /// Adam's second moments, MuSGD's second momentum.
    second: Option<Memory>,
    orthogonal: Option<Orthogonal>,
    sums: Memory,
    counters: Memory,
    derived: Memory,
}

impl DeviceOptimiser {
    /// An optimiser for an arena of `len` values (a multiple of 16), of which it updates `slots` (each beginning at a
    /// multiple of 16). `momentum` is Adam's first decay rate; `max_norm` the norm that gradients are clipped to.
    ///
    /// # Errors
    /// The memory does not suffice; more kinds of slots than there is room for.
    pub fn new(
        machine: &Arc<dyn Machine>,
        kind: Kind,
        momentum: f64,
        max_norm: f64,
        len: usize,
        slots: &[ParamSlot],
    ) -> Result<DeviceOptimiser, CudaError> {
        let mut classes: Vec<(Group, f64)> = Vec::new();
        let mut table = vec![UNTRAINED; len.div_ceil(GRANULE)];
        for slot in slots {
            let class = (slot.group, slot.lr_scale);
            let known = classes.iter().position(|known| *known == class);
            let index = known.unwrap_or_else(|| {
                classes.push(class);
                classes.len() - 1
            });
            if !slot.offset.is_multiple_of(GRANULE) || index >= CLASSES {
                return Err(CudaError::Unsupported(format!(
                    "a parameter at {} of the arena, of kind {index}",
                    slot.offset
                )));
            }
            table[slot.offset / GRANULE..(slot.offset + slot.len).div_ceil(GRANULE)].fill(index as u8);
        }
        let second = matches!(kind, Kind::Adam | Kind::AdamW | Kind::MuSgd);
        Ok(DeviceOptimiser {
            machine: Arc::clone(machine),
            kind,
            beta1: momentum,
            max_norm,
            len,
            classes,
            class_table: Memory::of(machine, &table)?,
            first: Memory::zeros::<f32>(machine, len)?,
            second: second.then(|| Memory::zeros::<f32>(machine, len)).transpose()?,
            orthogonal: (kind == Kind::MuSgd).then(|| Orthogonal::new(machine, len, slots)).transpose()?,
            sums: Memory::zeros::<f64>(machine, BLOCKS)?,
            counters: Memory::zeros::<CountersRow>(machine, 1)?,
            derived: Memory::zeros::<u8>(machine, DERIVED)?,
        })
    }

    /// The rates of a step as the kernels read them.
    pub fn row(&self, rates: &Rates) -> RatesRow {
        let mut row = RatesRow {
            momentum: rates.momentum,
            beta1: self.beta1,
            max_norm: self.max_norm,
            ..RatesRow::default()
        };
        for (i, &(group, scale)) in self.classes.iter().enumerate() {
            row.lr[i] = rates.lr(group, scale);
            row.decay[i] = rates.weight_decay(group);
        }
        row
    }

    /// Adds the batch's gradient to what is gathered, unless the number at address `bad` is not 0.
    ///
    /// # Errors
    /// The device refuses.
    pub fn enqueue_gather(&self, arenas: &StepArenas, bad: u64) -> Result<(), CudaError> {
        let arguments = [arenas.grads, arenas.gathered, bad, self.quads()].map(Value::Long);
        self.launch("gather_gradients", [self.blocks(), 1], 256, &arguments)
    }

    /// Clips what is gathered, steps, moves the average on, and empties what is gathered.
    ///
    /// # Errors
    /// The device refuses.
    pub fn enqueue_step(&self, arenas: &StepArenas) -> Result<(), CudaError> {
        let long = |memory: &Memory| Value::Long(memory.address());
        let quads = Value::Long(self.quads());
        let (classes, sums, derived) = (long(&self.class_table), long(&self.sums), long(&self.derived));
        let (params, gathered, ema) =
            (Value::Long(arenas.params), Value::Long(arenas.gathered), Value::Long(arenas.ema));
        let (first, second) = (long(&self.first), self.second.as_ref().map_or(Value::Long(0), long));
        let kind = Value::Int(match self.kind {
            Kind::Sgd => 0,
            Kind::Adam => 1,
            Kind::AdamW => 2,
            Kind::MuSgd => 3,
        });
        let wide = [self.blocks(), 1];
        self.launch("square_sums", wide, 256, &[gathered, classes, sums, quads])?;
        let decide = [
            sums,
            Value::Int(self.blocks() as i32),
            Value::Long(arenas.rates),
            kind,
            long(&self.counters),
            derived,
            Value::Long(arenas.outcome),
        ];
        self.launch("decide_step", [1, 1], 256, &decide)?;
        let (mut updates, mut scales) = (Value::Long(0), Value::Long(0));
        if let Some(orthogonal) = &self.orthogonal {
            (updates, scales) = (long(&orthogonal.updates), long(&orthogonal.scales));
            let ahead = [gathered, classes, scales, derived, second, updates, quads];
            self.launch("look_ahead", wide, 256, &ahead)?;
            orthogonal.enqueue(derived, |kernel, grid, threads, arguments| {
                self.launch(kernel, grid, threads, arguments)
            })?;
        }
        let update = [params, gathered, first, second, updates, scales, ema, classes, derived, kind, quads];
        self.launch("update_parameters", wide, 256, &update)
    }

    /// Blocks of an elementwise pass; the order of the norm's sum depends on it, so it depends on the length alone.
    fn blocks(&self) -> u32 {
        (self.quads() as usize).div_ceil(256).clamp(1, BLOCKS) as u32
    }

    fn quads(&self) -> u64 {
        self.len.div_ceil(4) as u64
    }

    fn launch(
        &self,
        kernel: &'static str,
        grid: [u32; 2],
        threads: u32,
        arguments: &[Value],
    ) -> Result<(), CudaError> {
        // SAFETY: the callers' lists are those of the kernels' declarations; buffers are this structure's or arenas of
        // `len` values, as [`StepArenas`] asks.
        unsafe { self.machine.launch(OPTIMISER, kernel, grid, threads, arguments) }
    }

    /// Steps taken so far.
    ///
    /// # Errors
    /// The device fails.
    pub fn counters(&self) -> Result<CountersRow, CudaError> {
        Ok(self.counters.read(1)?[0])
    }

    /// The state under the names that a checkpoint has, as `Optimiser::state` gives it.
    ///
    /// # Errors
    /// The device fails.
    pub fn state(&self) -> Result<Vec<(String, Vec<f32>)>, CudaError> {
        let names = self.kind.states();
        let arenas = std::iter::once(&self.first).chain(&self.second);
        names
            .iter()
            .zip(arenas)
            .map(|(name, arena)| Ok(((*name).to_owned(), arena.read(self.len)?)))
            .collect()
    }

    /// Takes a state back, of which `Optimiser::restore` has checked that it fits.
    ///
    /// # Errors
    /// The device fails.
    pub fn restore(&self, counters: CountersRow, state: &[(String, Vec<f32>)]) -> Result<(), CudaError> {
        self.counters.write(&[counters])?;
        let arenas = std::iter::once(&self.first).chain(&self.second);
        for (name, arena) in self.kind.states().iter().zip(arenas) {
            if let Some((_, values)) = state.iter().find(|(known, _)| known == name) {
                arena.write(values)?;
            }
        }
        Ok(())
    }
}
