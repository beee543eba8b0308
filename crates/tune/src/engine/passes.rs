//! Forward passes of one plan, on either device.

use std::sync::Arc;

use onsa_compute::cuda::{self, CudaGraph, DeviceBuffer};
use onsa_compute::{Executor, Plan};

use super::Place;
use crate::models::ModelError;

/// The passes of one size, on either device.
pub(super) enum Passes {
    Cpu(Box<Executor>),
    Gpu(Box<GpuPasses>),
}

/// A GPU's passes: recorded at the second, once the kernels are loaded.
pub(super) struct GpuPasses {
    /// Before the executor whose buffers it names.
    graph: Option<CudaGraph>,
    pub(super) executor: cuda::Executor,
    /// Whether it has the current parameters.
    pub(super) prepared: bool,
    done: usize,
    /// What the last pass gave.
    pub(super) outputs: Vec<Vec<f32>>,
}

impl GpuPasses {
    /// Runs the network on its normalised input.
    pub(super) fn run(&mut self, params: &DeviceBuffer<f32>, images: &[f32]) -> Result<(), cuda::CudaError> {
        let stream = self.executor.device().stream();
        if !self.prepared {
            self.executor.prepare(&stream, params)?;
            self.prepared = true;
        }
        self.executor.write_input(0, images)?;
        let executor = &mut self.executor;
        if self.done == 1 {
            self.graph = Some(CudaGraph::capture(&stream, || executor.forward(&stream))?);
        }
        match &mut self.graph {
            Some(graph) => graph.replay()?,
            None => executor.forward(&stream)?,
        }
        self.done += 1;
        for (i, output) in self.outputs.iter_mut().enumerate() {
            self.executor.read_output(i, output)?;
        }
        Ok(())
    }
}

impl Passes {
    /// The passes of a plan at a place. The processor's still have to be prepared.
    pub(super) fn new(place: &Place, plan: Plan) -> Result<Passes, ModelError> {
        let plan = Arc::new(plan);
        Ok(match place {
            Place::Cpu(pool, _) => Passes::Cpu(Box::new(Executor::new(plan, Arc::clone(pool)))),
            Place::Gpu(device, precision, _) => {
                let outputs = plan.outputs.iter().map(|(_, view)| vec![0.0; view.len()]).collect();
                let executor = cuda::Executor::new(device, plan, *precision)?;
                Passes::Gpu(Box::new(GpuPasses { graph: None, executor, prepared: false, done: 0, outputs }))
            }
        })
    }
}
