//! When a run is saved within an epoch.

use std::time::{Duration, Instant};

use super::recipe::values::SaveEvery;

/// Time that passes at least between two saves of `auto`.
const LEAST: Duration = Duration::from_secs(30);
/// A save of `auto` comes after so many times its own duration: it costs less than 1 % of the run.
const COST: u32 = 120;

/// Counts steps and time since the last save.
#[derive(Debug)]
pub struct Pace {
    every: SaveEvery,
    last: Instant,
    steps: u32,
    cost: Duration,
}

impl Pace {
    /// A pace that begins now.
    pub fn new(every: SaveEvery) -> Pace {
        Pace { every, last: Instant::now(), steps: 0, cost: Duration::ZERO }
    }

    /// Counts a step; true where the run is to be saved after it.
    pub fn is_due(&mut self) -> bool {
        self.steps += 1;
        self.is_due_after(self.last.elapsed())
    }

    fn is_due_after(&self, passed: Duration) -> bool {
        match self.every {
            SaveEvery::Auto => passed >= LEAST.max(self.cost * COST),
            SaveEvery::Epoch => false,
            SaveEvery::Steps(steps) => self.steps >= steps,
            SaveEvery::Seconds(seconds) => passed.as_secs_f64() >= seconds,
        }
    }

    /// The run was saved, which took `cost`.
    pub fn saved(&mut self, cost: Duration) {
        *self = Pace { cost, ..Pace::new(self.every) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_keeps_saves_under_one_percent_of_the_time() {
        let mut pace = Pace::new(SaveEvery::Auto);
        assert!(!pace.is_due_after(Duration::from_secs(29)) && pace.is_due_after(Duration::from_secs(30)));
        for cost in [Duration::from_millis(10), Duration::from_millis(800), Duration::from_secs(7)] {
            pace.saved(cost);
            let due = (1..).find(|&s| pace.is_due_after(Duration::from_secs(s))).unwrap();
            assert!(cost.as_secs_f64() / (due as f64) < 0.01, "{cost:?} every {due} s");
        }
    }

    #[test]
    fn steps_are_counted_from_the_last_save() {
        let mut pace = Pace::new(SaveEvery::Steps(3));
        let mut due = || (0..3).map(|_| pace.is_due()).collect::<Vec<_>>();
        assert_eq!(due(), [false, false, true]);
        pace.saved(Duration::ZERO);
        assert!(!pace.is_due());
        assert!(!Pace::new(SaveEvery::Epoch).is_due_after(Duration::from_secs(1 << 30)));
    }
}
