//! The gradients of weights and biases, which nothing else of the backward pass waits for, on a stream of their own.

use crate::plan::{Plan, Step, View};

use super::super::{CudaError, Device, Event, Stream};

/// A second stream, and two events for each step that it takes.
pub(super) struct Side {
    stream: Stream,
    forks: Vec<Event>,
    done: Vec<Event>,
}

/// The side's work of one pass.
pub(super) struct Pending<'a> {
    side: &'a Side,
    begun: usize,
    /// Number and reads of the steps that the main stream has not waited for.
    reads: Vec<(usize, Vec<View>)>,
}

impl Side {
    pub fn new(device: &Device, plan: &Plan) -> Result<Side, CudaError> {
        let count = plan.steps.iter().filter(|step| Side::takes(step)).count();
        let events = || (0..count).map(|_| Event::new(device)).collect::<Result<Vec<_>, _>>();
        Ok(Side { stream: device.new_stream()?, forks: events()?, done: events()? })
    }

    /// Whether a step is the side's.
    pub fn takes(step: &Step) -> bool {
        matches!(step, Step::ConvGradWeight { .. } | Step::ConvGradBias { .. })
    }

    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    pub fn is(&self, stream: &Stream) -> bool {
        stream.raw() == self.stream.raw()
    }

    pub fn begin(&self) -> Pending<'_> {
        Pending { side: self, begun: 0, reads: Vec::new() }
    }
}

impl Pending<'_> {
    /// Lets the side go on to where the main stream is.
    pub fn fork(&self, main: &Stream) -> Result<(), CudaError> {
        let event = &self.side.forks[self.begun];
        event.record(main)?;
        event.wait(&self.side.stream)
    }

    /// Notes the end of a step that was put on the side's stream.
    pub fn done(&mut self, step: &Step) -> Result<(), CudaError> {
        self.side.done[self.begun].record(&self.side.stream)?;
        self.reads.push((self.begun, step.views()));
        self.begun += 1;
        Ok(())
    }

    /// Makes the main stream wait, before a step of its own, for what reads where that step writes.
    pub fn before(&mut self, main: &Stream, step: &Step, plan: &Plan) -> Result<(), CudaError> {
        if self.reads.is_empty() {
            return Ok(());
        }
        let written = step.written();
        let clash = |reads: &[View]| reads.iter().any(|r| written.iter().any(|w| overlap(plan, w, r)));
        if let Some(last) = self.reads.iter().rposition(|(_, reads)| clash(reads)) {
            // The side's steps end in their order: those before the last have ended too.
            self.side.done[self.reads[last].0].wait(main)?;
            self.reads.drain(..=last);
        }
        Ok(())
    }

    /// Makes the main stream wait for all of the side's work.
    pub fn join(self, main: &Stream) -> Result<(), CudaError> {
        match self.begun.checked_sub(1) {
            Some(last) => self.side.done[last].wait(main),
            None => Ok(()),
        }
    }
}

/// Whether two views share memory: channels of one buffer, or places that buffers share over time.
fn overlap(plan: &Plan, a: &View, b: &View) -> bool {
    if a.buffer == b.buffer {
        return a.channel < b.channel + b.channels() && b.channel < a.channel + a.channels();
    }
    let range = |v: &View| {
        let start = plan.buffer_offsets[v.buffer as usize];
        (start, start + v.pixels() * v.pixel_stride)
    };
    let ((a, a_end), (b, b_end)) = (range(a), range(b));
    a < b_end && b < a_end
}
