//! Memory that a plan needs only while it runs: executors that run one after the other on one stream may share it.

use std::sync::Arc;

use super::super::{CudaError, Device, DeviceBuffer};

/// What lies in a plan's arena and its partial sums. Nothing in it is kept from one run to the next.
#[derive(Clone)]
pub struct Workspace {
    pub(super) arena: Arc<DeviceBuffer<u8>>,
    /// Partial sums of the main stream's work, and of the side's.
    pub(super) partials: [Arc<DeviceBuffer<f32>>; 2],
}

impl Workspace {
    /// Room for `arena` bytes and `partials` floats a stream: of `shared` what is large enough, the rest made anew.
    pub(super) fn new(
        device: &Device,
        arena: usize,
        partials: usize,
        shared: Option<&Workspace>,
    ) -> Result<Workspace, CudaError> {
        let floats = |which: usize| match shared.map(|shared| &shared.partials[which]) {
            Some(shared) if shared.len() >= partials => Ok(Arc::clone(shared)),
            _ => DeviceBuffer::zeros(device, partials).map(Arc::new),
        };
        let partials = [floats(0)?, floats(1)?];
        let arena = match shared.map(|shared| &shared.arena) {
            Some(shared) if shared.len() >= arena => Arc::clone(shared),
            _ => Arc::new(DeviceBuffer::zeros(device, arena)?),
        };
        Ok(Workspace { arena, partials })
    }

    /// Whether both have the same arena.
    pub fn shares_arena(&self, other: &Workspace) -> bool {
        Arc::ptr_eq(&self.arena, &other.arena)
    }
}
