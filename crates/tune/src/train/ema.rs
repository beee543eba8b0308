//! Exponential moving average of the weights, which validation and the saved model use.

use rayon::prelude::*;

use super::optimiser::CHUNK;

/// Decay after many updates.
const DECAY: f64 = 0.9999;
/// Updates over which the decay rises from 0.
const RISE: f64 = 2000.0;

/// The average over the whole arena: parameters and running statistics.
#[derive(Clone, Debug, PartialEq)]
pub struct Ema {
    values: Vec<f32>,
    updates: u64,
}

impl Ema {
    /// An average that begins at `params`.
    pub fn new(params: &[f32]) -> Self {
        Self::restore(params.to_vec(), 0)
    }

    /// The average of a checkpoint.
    pub fn restore(values: Vec<f32>, updates: u64) -> Self {
        Self { values, updates }
    }

    /// The averaged arena.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Updates so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// The decay of update number `n` (from 1): .9999 (1 - e^(-n / 2000)).
    pub fn decay(n: u64) -> f64 {
        DECAY * (1.0 - (-(n as f64) / RISE).exp())
    }

    /// Takes in the arena after an optimiser step: v = d v + (1 - d) p. The average of equal values is that value, to the
    /// last bit: what is frozen stays as it was.
    ///
    /// # Panics
    /// If `params` has another length than the average.
    pub fn update(&mut self, params: &[f32]) {
        assert_eq!(params.len(), self.values.len(), "the arena that the average began with");
        self.updates += 1;
        let decay = Self::decay(self.updates);
        let (keep, take) = (decay as f32, (1.0 - decay) as f32);
        self.values.par_chunks_mut(CHUNK).zip(params.par_chunks(CHUNK)).for_each(|(values, params)| {
            for (v, &p) in values.iter_mut().zip(params) {
                let blended = *v * keep + take * p;
                *v = if *v == p { *v } else { blended };
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decay_rises_as_the_reference_shows() {
        for (n, want) in [(1, 0.00049983), (2, 0.0009994), (3, 0.00149873)] {
            assert!((Ema::decay(n) - want).abs() < 1e-8, "{n}: {}", Ema::decay(n));
        }
        assert!((Ema::decay(1_000_000) - 0.9999).abs() < 1e-12);
    }

    #[test]
    fn equal_values_stay_as_they_are() {
        let values: Vec<f32> = (0..5000).map(|i| (i as f32 * 0.37).sin() * 1e-3).collect();
        let mut ema = Ema::new(&values);
        (0..50).for_each(|_| ema.update(&values));
        assert!(ema.values().iter().zip(&values).all(|(a, b)| a.to_bits() == b.to_bits()));
    }

    #[test]
    fn update_blends_and_counts() {
        let mut ema = Ema::new(&vec![1.0; CHUNK + 3]);
        ema.update(&vec![3.0; CHUNK + 3]);
        let d = Ema::decay(1);
        let want = (d + (1.0 - d) * 3.0) as f32;
        assert!(ema.values().iter().all(|v| (v - want).abs() < 1e-6));
        assert_eq!(ema.updates(), 1);
        assert_eq!(Ema::restore(ema.values().to_vec(), 1), ema);
    }
}
