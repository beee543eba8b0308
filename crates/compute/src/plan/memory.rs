//! Liveness: every buffer's offset in one arena.

use super::{Step, View};

/// Arena offsets are multiples of this many elements: a cache line.
const ALIGN: usize = 16;

/// What the caller reads and writes outside the steps.
pub(super) struct Lives<'a> {
    pub inputs: &'a [(String, View)],
    pub outputs: &'a [(String, View)],
    pub output_grads: &'a [View],
    pub backward_start: usize,
    /// Steps for which what a weight's or bias's gradient reads stays alive beyond it.
    pub slack: usize,
}

/// Gives each buffer an offset such that buffers alive at the same step do not overlap: `(offsets, arena length)`.
///
/// Largest first, each at the lowest offset that is free over its whole life.
pub(super) fn assign(steps: &[Step], lens: &[usize], lives: &Lives) -> (Vec<usize>, usize) {
    let mut life: Vec<Option<(usize, usize)>> = vec![None; lens.len()];
    let mut touch = |view: &View, step: usize| {
        let entry = life[view.buffer as usize].get_or_insert((step, step));
        *entry = (entry.0.min(step), entry.1.max(step));
    };
    for (_, view) in lives.inputs {
        touch(view, 0);
    }
    for (i, step) in steps.iter().enumerate() {
        let beside = matches!(step, Step::ConvGradWeight { .. } | Step::ConvGradBias { .. });
        for view in step.views() {
            touch(&view, i);
            if beside {
                touch(&view, (i + lives.slack).min(steps.len() - 1));
            }
        }
    }
    for (_, view) in lives.outputs {
        touch(view, steps.len());
    }
    for view in lives.output_grads {
        // The caller writes all of them before the first backward step, and so while the last forward step's buffers
        // are still to be read.
        touch(view, lives.backward_start.saturating_sub(1));
        touch(view, lives.backward_start);
    }
    let mut order: Vec<usize> = (0..lens.len()).filter(|&b| life[b].is_some()).collect();
    order.sort_by_key(|&b| (std::cmp::Reverse(lens[b]), b));
    let mut offsets = vec![0; lens.len()];
    let mut placed: Vec<usize> = Vec::new();
    let mut total = 0;
    for b in order {
        let (start, end) = life[b].expect("filtered above");
        let len = lens[b].next_multiple_of(ALIGN);
        let mut taken: Vec<(usize, usize)> = placed
            .iter()
            .filter(|&&p| life[p].is_some_and(|(s, e)| s <= end && start <= e))
            .map(|&p| (offsets[p], offsets[p] + lens[p].next_multiple_of(ALIGN)))
            .collect();
        taken.sort_unstable();
        let mut offset = 0;
        for (from, to) in taken {
            if offset + len <= from {
                break;
            }
            offset = offset.max(to);
        }
        offsets[b] = offset;
        total = total.max(offset + len);
        placed.push(b);
    }
    (offsets, total)
}
