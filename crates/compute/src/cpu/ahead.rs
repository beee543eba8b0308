//! Memory that the next work item reads, asked for while this one forms its products.
//!
//! A work item copies what it reads and then multiplies from its cache: first the memory is busy and then it idles. A product
//! asks for one cache line a step of its summed axis, so that the next item's copies find their lines in the
//! second-level cache.

use super::scratch::Tensor;

/// Bytes of a cache line.
const LINE: usize = 64;
/// Runs at most.
const RUNS: usize = 8;

/// Where one tile's product asks: a line a step.
#[derive(Clone, Copy)]
pub(crate) struct Ahead {
    pub from: *const u8,
    /// Bytes between lines.
    pub step: usize,
}

impl Ahead {
    /// Asks for what is there anyway, again and again.
    pub const NONE: Ahead = {
        static HERE: u8 = 0;
        Ahead { from: &raw const HERE, step: 0 }
    };
}

/// `count` lines, `step` bytes apart.
#[derive(Clone, Copy)]
struct Run {
    from: *const u8,
    step: usize,
    count: usize,
}

/// What has not been asked for yet.
pub(crate) struct Upcoming {
    runs: [Run; RUNS],
    len: usize,
    /// The run that is asked for now.
    now: usize,
}

impl Upcoming {
    pub fn nothing() -> Upcoming {
        Upcoming { runs: [Run { from: std::ptr::null(), step: 0, count: 0 }; RUNS], len: 0, now: 0 }
    }

    /// Also `count` pixels of a tensor from pixel `first` on.
    pub fn pixels<T: Copy>(&mut self, tensor: Tensor<T>, first: usize, count: usize) {
        let bytes = tensor.channels() * size_of::<T>();
        let stride = tensor.pixel_stride * size_of::<T>();
        let from = tensor.data.get().wrapping_add(first * tensor.pixel_stride).cast_const().cast::<u8>();
        if stride <= bytes + LINE {
            self.push(Run { from, step: LINE, count: (count * stride).div_ceil(LINE) });
        } else {
            for line in 0..bytes.div_ceil(LINE) {
                self.push(Run { from: from.wrapping_add(line * LINE), step: stride, count });
            }
        }
    }

    /// Also those of the rows `first..end` of an image that it has.
    pub fn rows<T: Copy>(&mut self, tensor: Tensor<T>, image: usize, first: isize, end: isize) {
        let [_, h, w, _] = tensor.shape;
        let inside = |row: isize| row.clamp(0, h as isize) as usize;
        let (first, end) = (inside(first), inside(end));
        self.pixels(tensor, (image * h + first) * w, end.saturating_sub(first) * w);
    }

    fn push(&mut self, run: Run) {
        // What has no room is not asked for.
        if self.len < RUNS {
            self.runs[self.len] = run;
            self.len += 1;
        }
    }

    /// The next lines, for a product of `steps` steps.
    pub fn take(&mut self, steps: usize) -> Ahead {
        while self.now < self.len && self.runs[self.now].count == 0 {
            self.now += 1;
        }
        let Some(run) = self.runs[..self.len].get_mut(self.now) else { return Ahead::NONE };
        let ahead = Ahead { from: run.from, step: run.step };
        let steps = steps.min(run.count);
        run.from = run.from.wrapping_add(steps * run.step);
        run.count -= steps;
        ahead
    }
}

#[cfg(test)]
mod tests {
    use super::super::scratch::Shared;
    use super::*;

    #[test]
    fn every_line_is_asked_for_once_and_then_none() {
        let mut memory = vec![0u16; 4096];
        let data = Shared(memory.as_mut_ptr());
        // 64 of 64 channels: rows one after the other; 40 of 128: two lines a pixel.
        for (pixel_stride, channels, lines) in [(64, 64, 20), (128, 40, 20)] {
            let tensor = Tensor { data, pixel_stride, shape: [1, 1, 30, channels] };
            let mut upcoming = Upcoming::nothing();
            upcoming.pixels(tensor, 3, 10);
            let mut asked = Vec::new();
            loop {
                let ahead = upcoming.take(1);
                if ahead.step == 0 {
                    break;
                }
                asked.push(ahead.from as usize - memory.as_ptr() as usize);
            }
            assert_eq!((asked.len(), asked[0]), (lines, 3 * pixel_stride * 2));
            assert!(asked.iter().all(|at| *at < 13 * pixel_stride * 2), "{asked:?}");
            let mut sorted = asked.clone();
            sorted.sort_unstable();
            sorted.dedup();
            assert_eq!(sorted.len(), asked.len());
        }
    }
}
