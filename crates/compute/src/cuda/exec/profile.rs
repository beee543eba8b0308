//! Where a plan's time on the device goes.

use std::time::Duration;

use crate::cpu::{Profile, StepTime};
use crate::plan::{Plan, Step};

use super::super::{CudaError, Device, Event, Stream};

/// An event before each step, and one behind the last.
pub(super) struct Marks {
    events: Vec<Event>,
}

impl Marks {
    pub fn new(device: &Device, steps: usize) -> Result<Marks, CudaError> {
        let events = (0..steps + 2).map(|_| Event::new(device)).collect::<Result<_, _>>()?;
        Ok(Marks { events })
    }

    /// Marks the beginning of step `index`.
    pub fn mark(&self, index: usize, stream: &Stream) -> Result<(), CudaError> {
        self.events[index].record(stream)
    }

    /// Adds the times between the marks of `range` (and the one behind it) to the profile; waits for the last.
    pub fn add_to(&self, profile: &mut Profile, range: std::ops::Range<usize>) -> Result<(), CudaError> {
        self.events[range.end].synchronize()?;
        for i in range {
            let ms = self.events[i].milliseconds_to(&self.events[i + 1])?;
            profile.steps[i].time += Duration::from_secs_f64(f64::from(ms) / 1e3);
        }
        Ok(())
    }
}

/// What each step works on.
pub(super) fn describe(plan: &Plan) -> Profile {
    let steps = plan.steps.iter().map(|step| {
        let (multiply_adds, detail) = match step {
            Step::Conv { conv, .. } | Step::ConvGradData { conv, .. } | Step::ConvGradWeight { conv, .. } => {
                let info = &plan.convs[*conv];
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
    });
    Profile { steps: steps.collect(), ..Profile::default() }
}
