//! Optimisers over one contiguous arena of parameters.
//!
//! Each keeps its state in arenas of the same layout, so a step is a few passes over memory. The arithmetic is that of
//! PyTorch's optimisers of the same name. Passes run over chunks of fixed size and matrices are worked on whole, so
//! the result has the same bits for any number of threads.

mod adam;
pub mod auto;
mod gemm;
mod musgd;
mod newton_schulz;
mod sgd;
mod slots;

pub(crate) use slots::{CHUNK, overlaps};
pub use slots::{Group, Matrix, ParamSlot, SlotError, check_slots};

use super::schedule::Rates;

/// Which rule updates the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Stochastic gradient descent with Nesterov momentum.
    Sgd,
    /// Adam (Kingma & Ba, 2015) with L2 decay.
    Adam,
    /// Adam with decoupled weight decay (Loshchilov & Hutter, 2019).
    AdamW,
    /// SGD with Nesterov momentum, to which matrices add an orthogonalised momentum (Muon; Jordan et al., 2024).
    MuSgd,
}

impl Kind {
    /// All kinds, in the order in which to name them to a person.
    pub const ALL: [Kind; 4] = [Kind::Sgd, Kind::Adam, Kind::AdamW, Kind::MuSgd];

    /// The name that the `optimizer` argument knows it by.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Sgd => "SGD",
            Kind::Adam => "Adam",
            Kind::AdamW => "AdamW",
            Kind::MuSgd => "MuSGD",
        }
    }

    /// The kind of this name, in any letter case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.name().eq_ignore_ascii_case(name))
    }

    /// Whether the schedule's momentum holds at each step; Adam's first decay rate stays as built.
    pub fn follows_momentum(self) -> bool {
        matches!(self, Kind::Sgd | Kind::MuSgd)
    }

    /// Names of the state arenas, as checkpoints store them.
    pub(crate) fn states(self) -> &'static [&'static str] {
        match self {
            Kind::Sgd => &["momentum"],
            Kind::Adam | Kind::AdamW => &["exp_avg", "exp_avg_sq"],
            Kind::MuSgd => &["momentum", "muon_momentum"],
        }
    }
}

/// Why a stored state does not fit the optimiser.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// An array of the state is not there.
    #[error(
        "the checkpoint's optimiser state has no '{name}', which {kind} needs; resume with the optimizer it was made with"
    )]
    Missing {
        /// Name of the array.
        name: &'static str,
        /// Name of the optimiser.
        kind: &'static str,
    },
    /// An array has another length than the parameters.
    #[error(
        "the checkpoint's optimiser state '{name}' has {found} values, the model {expected}; it belongs to another model"
    )]
    Length {
        /// Name of the array.
        name: &'static str,
        /// Length found.
        found: usize,
        /// Length needed.
        expected: usize,
    },
}

/// An optimiser and its state.
#[derive(Debug)]
pub struct Optimiser {
    kind: Kind,
    beta1: f64,
    slots: Vec<ParamSlot>,
    steps: u64,
    /// As many arenas as `kind.states()` names.
    state: Vec<Vec<f32>>,
    /// MuSGD's updates of one step; empty otherwise.
    scratch: Vec<f32>,
}

impl Optimiser {
    /// An optimiser for an arena of `len` values, of which it updates `slots` (in rising order of offset, without
    /// overlap; frozen parameters are left out). `momentum` is Adam's first decay rate; the others take theirs from
    /// the schedule.
    ///
    /// # Errors
    /// If the slots overlap, are out of order or reach beyond the arena.
    pub fn new(kind: Kind, momentum: f64, len: usize, slots: &[ParamSlot]) -> Result<Self, SlotError> {
        check_slots(slots, len)?;
        let state = kind.states().iter().map(|_| vec![0.0; len]).collect();
        let scratch = if kind == Kind::MuSgd { vec![0.0; len] } else { Vec::new() };
        Ok(Self { kind, beta1: momentum, slots: slots.to_vec(), steps: 0, state, scratch })
    }

    /// A fresh optimiser of the same rule and arena for other slots.
    ///
    /// # Errors
    /// As [`Optimiser::new`].
    pub fn anew(&self, slots: &[ParamSlot]) -> Result<Self, SlotError> {
        Self::new(self.kind, self.beta1, self.state[0].len(), slots)
    }

    /// The rule.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The parameters that it updates.
    pub fn slots(&self) -> &[ParamSlot] {
        &self.slots
    }

    /// Adam's first decay rate.
    pub fn beta1(&self) -> f64 {
        self.beta1
    }

    /// Steps taken.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// One update of `params` by the gradient `grads`, both of the arena's layout.
    ///
    /// # Panics
    /// If an arena's length is not the one given at the start.
    pub fn step(&mut self, params: &mut [f32], grads: &[f32], rates: &Rates) {
        let len = self.state[0].len();
        assert_eq!((params.len(), grads.len()), (len, len), "arenas of one layout");
        self.steps += 1;
        match (self.kind, self.state.as_mut_slice()) {
            (Kind::Sgd, [momentum]) => sgd::step(params, grads, momentum, &self.slots, rates),
            (Kind::Adam | Kind::AdamW, [mean, square]) => {
                let moments = adam::Moments {
                    beta1: self.beta1,
                    steps: self.steps,
                    decoupled: self.kind == Kind::AdamW,
                };
                adam::step(params, grads, mean, square, &self.slots, rates, moments);
            }
            (Kind::MuSgd, [momentum, muon]) => {
                musgd::step(params, grads, momentum, muon, &mut self.scratch, &self.slots, rates);
            }
            _ => unreachable!("a kind has as many arenas as it names"),
        }
    }

    /// The state that a checkpoint has to hold beside [`Optimiser::steps`]: named arenas of the parameters' layout.
    pub fn state(&self) -> Vec<(String, Vec<f32>)> {
        self.kind.states().iter().zip(&self.state).map(|(name, v)| ((*name).to_owned(), v.clone())).collect()
    }

    /// The same, lent.
    pub fn arenas(&self) -> impl Iterator<Item = (&'static str, &[f32])> {
        self.kind.states().iter().zip(&self.state).map(|(name, v)| (*name, v.as_slice()))
    }

    /// Takes back what [`Optimiser::state`] and [`Optimiser::steps`] gave. Unchanged where it fails.
    ///
    /// # Errors
    /// If an arena is missing or has another length.
    pub fn restore(&mut self, steps: u64, state: &[(String, Vec<f32>)]) -> Result<(), StateError> {
        let expected = self.state[0].len();
        let mut found = Vec::new();
        for &name in self.kind.states() {
            let values = state.iter().find(|(n, _)| n == name).map(|(_, v)| v);
            let values = values.ok_or(StateError::Missing { name, kind: self.kind.name() })?;
            if values.len() != expected {
                return Err(StateError::Length { name, found: values.len(), expected });
            }
            found.push(values.clone());
        }
        self.state = found;
        self.steps = steps;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
