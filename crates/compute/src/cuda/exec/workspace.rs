//! Memory that a plan needs only while it runs: executors that run one after the other on one stream may share it.

use std::sync::Arc;

use super::super::{CudaError, Device, DeviceBuffer};

/// What the memory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The plan's values and their gradients.
    Arena,
    /// Inputs of few channels, padded to what the tensor cores' kernels load at once.
    Copies,
    /// Partial sums of the main stream's work.
    Partials,
    /// Partial sums of the side stream's work, and partial weight gradients.
    SidePartials,
    /// Places of maxima.
    Places,
    /// Attention's scores, float32.
    Scores,
    /// Their probabilities.
    Probabilities,
    /// The scores' gradients.
    Slopes,
}

/// Number of [`Part`]s.
const PARTS: usize = 8;

/// Bytes of each part of a workspace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkspaceBytes([usize; PARTS]);

impl WorkspaceBytes {
    pub(super) fn with(mut self, part: Part, bytes: usize) -> WorkspaceBytes {
        self.0[part as usize] = bytes;
        self
    }

    /// What serves both of two users that take turns.
    pub fn shared_with(self, other: WorkspaceBytes) -> WorkspaceBytes {
        WorkspaceBytes(std::array::from_fn(|i| self.0[i].max(other.0[i])))
    }

    /// Of all parts.
    pub fn total(self) -> usize {
        self.0.iter().sum()
    }
}

/// The parts that a plan's executor computes in. Nothing in them is kept from one run to the next.
#[derive(Clone)]
pub struct Workspace([Arc<DeviceBuffer<u8>>; PARTS]);

impl Workspace {
    /// Room for `bytes`: of `shared` what is large enough, the rest made anew.
    pub(super) fn new(
        device: &Device,
        bytes: WorkspaceBytes,
        shared: Option<&Workspace>,
    ) -> Result<Workspace, CudaError> {
        let part = |i: usize| match shared.map(|shared| &shared.0[i]) {
            Some(shared) if shared.len() >= bytes.0[i] => Ok(Arc::clone(shared)),
            _ => DeviceBuffer::zeros(device, bytes.0[i]).map(Arc::new),
        };
        let parts = (0..PARTS).map(part).collect::<Result<Vec<_>, _>>()?;
        Ok(Workspace(parts.try_into().unwrap_or_else(|_| unreachable!("one buffer a part"))))
    }

    /// A part's address on the device.
    pub(super) fn address(&self, part: Part) -> u64 {
        self.0[part as usize].address()
    }

    /// A part's address from a byte on.
    pub(super) fn address_of(&self, part: Part, byte: usize) -> u64 {
        self.0[part as usize].address_of(byte)
    }

    /// Whether both have the same arena.
    pub fn shares_arena(&self, other: &Workspace) -> bool {
        let arena = Part::Arena as usize;
        Arc::ptr_eq(&self.0[arena], &other.0[arena])
    }
}
