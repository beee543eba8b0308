//! Trades a little arithmetic for memory: what a cheap forward step wrote is dropped after its last forward reader and
//! formed again when the backward pass first reads it.
//!
//! A norm's result is one pass over the convolution's output, which the norm's own gradient keeps anyway. So of each
//! convolution, norm and activation only the convolution's output lives from the forward pass to the backward one, and
//! every bit of what is formed again is as before: the same step reads the same numbers. So are results that only a sum reads
//! (a residual), where the sum is formed again. (Chen et al., "Training Deep
//! Nets with Sublinear Memory Cost", 2016, with the norms' results as what is dropped.)

use std::collections::BTreeSet;

use super::{Step, View};

/// Of what could be dropped, the smallest results are kept, up to one part in this many of the whole: each would cost a launch,
/// and give little.
const KEPT: usize = 4;

/// Rewrites the backward steps, and adds to `lens` the buffers that take what is formed again. `kept`: buffers that the
/// caller reads or writes.
pub(super) fn rematerialise(
    steps: &mut Vec<Step>,
    backward_start: usize,
    lens: &mut Vec<usize>,
    kept: &BTreeSet<u32>,
) {
    let backward = steps.split_off(backward_start);
    let droppable = Droppable::find(steps, &backward, lens, kept);
    let mut again: Vec<Option<u32>> = vec![None; lens.len()];
    for mut step in backward {
        let wanted = step.views().into_iter().map(|view| view.buffer);
        let group = droppable.with_sources(steps, wanted.filter(|&b| droppable.is(b)), &again);
        for &buffer in &group {
            lens.push(lens[buffer as usize]);
            again[buffer as usize] = Some(lens.len() as u32 - 1);
        }
        // In their forward order, so that each finds what it reads.
        let writers: BTreeSet<usize> =
            group.iter().flat_map(|&b| &droppable.writers[b as usize]).copied().collect();
        let redirect = |view: &mut View| {
            if let Some(Some(buffer)) = again.get(view.buffer as usize) {
                view.buffer = *buffer;
            }
        };
        for writer in writers {
            let mut writer = steps[writer].clone();
            writer.for_each_view(redirect);
            steps.push(writer);
        }
        step.for_each_view(redirect);
        steps.push(step);
    }
}

/// Which buffers can be formed again.
struct Droppable {
    /// For each buffer that can: the forward steps that write it.
    writers: Vec<Vec<usize>>,
}

impl Droppable {
    fn find(forward: &[Step], backward: &[Step], lens: &[usize], kept: &BTreeSet<u32>) -> Droppable {
        let buffers = lens.len();
        let mut writers: Vec<Vec<usize>> = vec![Vec::new(); buffers];
        let mut dear = vec![false; buffers];
        for (i, step) in forward.iter().enumerate() {
            for view in step.written() {
                writers[view.buffer as usize].push(i);
                dear[view.buffer as usize] |= !cheap(step);
            }
        }
        let read: BTreeSet<u32> = backward.iter().flat_map(Step::views).map(|view| view.buffer).collect();
        for (buffer, writers) in (0..).zip(&mut writers) {
            if dear[buffer as usize] || kept.contains(&buffer) {
                writers.clear();
            }
        }
        let mut small: Vec<usize> = (0..lens.len()).filter(|&buffer| !writers[buffer].is_empty()).collect();
        small.sort_by_key(|&buffer| lens[buffer]);
        let mut room = small.iter().map(|&buffer| lens[buffer]).sum::<usize>() / KEPT;
        for buffer in small {
            let Some(left) = room.checked_sub(lens[buffer]) else { break };
            (room, writers[buffer]) = (left, Vec::new());
        }
        let mut droppable = Droppable { writers };
        // What a writer reads must outlive the forward pass anyway, or be formed again too: else dropping its result would
        // keep its sources instead. Where one is given up, those that read it are looked at again.
        loop {
            let costs_more = |buffer: &u32| {
                let sources = droppable.sources(forward, *buffer);
                sources.into_iter().any(|source| !read.contains(&source) && !droppable.is(source))
            };
            let given_up: Vec<u32> = (0..buffers as u32).filter(costs_more).collect();
            if given_up.is_empty() {
                return droppable;
            }
            given_up.into_iter().for_each(|buffer| droppable.writers[buffer as usize].clear());
        }
    }

    fn is(&self, buffer: u32) -> bool {
        self.writers.get(buffer as usize).is_some_and(|writers| !writers.is_empty())
    }

    /// The buffers that a buffer's writers read, and those that they write.
    fn sources(&self, forward: &[Step], buffer: u32) -> Vec<u32> {
        let views = self.writers[buffer as usize].iter().flat_map(|&i| forward[i].views());
        views.map(|view| view.buffer).collect()
    }

    /// Buffers that must be formed for `wanted`, what their writers read included, without those that were before.
    fn with_sources(
        &self,
        forward: &[Step],
        wanted: impl Iterator<Item = u32>,
        again: &[Option<u32>],
    ) -> BTreeSet<u32> {
        let mut open: Vec<u32> = wanted.collect();
        let mut group = BTreeSet::new();
        while let Some(buffer) = open.pop() {
            if again[buffer as usize].is_some() || !group.insert(buffer) {
                continue;
            }
            open.extend(self.sources(forward, buffer).into_iter().filter(|&source| self.is(source)));
        }
        group
    }
}

/// Whether a step is one light pass over its input.
fn cheap(step: &Step) -> bool {
    matches!(
        step,
        Step::Norm { .. }
            | Step::Activation { .. }
            | Step::Add { .. }
            | Step::ScaleChannels { .. }
            | Step::Upsample2 { .. }
            | Step::Copy { add: false, .. }
    )
}
