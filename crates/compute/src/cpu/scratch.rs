//! Memory of the CPU engine: aligned arenas, a scratch buffer a thread, pointers that threads may share.

use std::cell::RefCell;

use memmap2::MmapMut;

use super::element::Element;
use super::pack::to_floats;
use super::simd::Isa;

/// Elements behind an arena's end that kernels may read, never use: whole vectors at a row's end.
pub(crate) const SLACK: usize = 64;

/// The same behind tensors and scratch buffers, whose rows AMX reads by whole tiles.
pub(crate) const REACH: usize = 128 * 1024;

/// From this many bytes on, memory is asked for in huge pages: walking a training plan's arena by pages of 4 KiB
/// costs as much time as moving its bytes.
const HUGE: usize = 4 << 20;

/// Zeroed float32 memory, aligned to cache lines.
pub(crate) struct Arena {
    memory: Zeroed,
    len: usize,
    slack: usize,
}

enum Zeroed {
    Lines(Vec<Line>),
    Mapped(MmapMut),
}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[allow(dead_code)] [f32; 16]);

impl Arena {
    pub fn new(len: usize) -> Arena {
        Arena::with_slack(len, SLACK)
    }

    /// With so many elements behind its end.
    pub fn with_slack(len: usize, slack: usize) -> Arena {
        let lines = (len + slack).div_ceil(16);
        let bytes = lines * size_of::<Line>();
        let mapped = if bytes >= HUGE { MmapMut::map_anon(bytes).ok() } else { None };
        let memory = match mapped {
            Some(map) => {
                // Advice: where the system does not take it, the pages are small.
                #[cfg(target_os = "linux")]
                let _ = map.advise(memmap2::Advice::HugePage);
                Zeroed::Mapped(map)
            }
            None => Zeroed::Lines(vec![Line([0.0; 16]); lines]),
        };
        Arena { memory, len, slack }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn as_slice(&self) -> &[f32] {
        let first: *const f32 = match &self.memory {
            Zeroed::Lines(lines) => lines.as_ptr().cast(),
            Zeroed::Mapped(map) => map.as_ptr().cast(),
        };
        // SAFETY: lines are 16 f32 each without padding, mappings begin at a page; both hold at least `len`.
        unsafe { std::slice::from_raw_parts(first, self.len) }
    }

    pub fn as_mut_slice(&mut self) -> &mut [f32] {
        // SAFETY: as above; the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(self.as_mut_ptr(), self.len) }
    }

    pub fn as_mut_ptr(&mut self) -> *mut f32 {
        match &mut self.memory {
            Zeroed::Lines(lines) => lines.as_mut_ptr().cast(),
            Zeroed::Mapped(map) => map.as_mut_ptr().cast(),
        }
    }

    /// Grows to at least `len` elements; contents are lost.
    pub fn reserve(&mut self, len: usize) {
        if len > self.len {
            *self = Arena::with_slack(len, self.slack);
        }
    }
}

thread_local! {
    static SCRATCH: RefCell<Arena> = RefCell::new(Arena::with_slack(0, REACH));
}

/// Lends this thread's scratch buffer, of at least `len` elements with arbitrary contents. Not reentrant.
pub(crate) fn with_scratch<R>(len: usize, f: impl FnOnce(*mut f32) -> R) -> R {
    SCRATCH.with_borrow_mut(|arena| {
        arena.reserve(len);
        f(arena.as_mut_ptr())
    })
}

/// The float32 elements that `len` elements of T take, in whole cache lines.
pub(crate) const fn floats<T>(len: usize) -> usize {
    (len * size_of::<T>()).div_ceil(64) * 16
}

/// A pointer that the pool's threads share; each work item keeps to its own part of what it writes.
pub(crate) struct Shared<T = f32>(pub *mut T);

// An address is copied whatever it points to, which a derivation would ask of T.
impl<T> Clone for Shared<T> {
    fn clone(&self) -> Shared<T> {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: a plain address; the kernels' work items write disjoint parts and read what no item writes.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub fn get(self) -> *mut T {
        self.0
    }
}

/// A tensor in memory: where a plan's view lies.
#[derive(Clone, Copy)]
pub(crate) struct Tensor<T = f32> {
    pub data: Shared<T>,
    pub pixel_stride: usize,
    pub shape: [usize; 4],
}

impl<T: Copy> Tensor<T> {
    pub fn pixels(&self) -> usize {
        self.shape[0] * self.shape[1] * self.shape[2]
    }

    pub fn channels(&self) -> usize {
        self.shape[3]
    }

    /// Address of a pixel's first channel.
    ///
    /// # Safety
    /// The pixel must exist.
    pub unsafe fn pixel(&self, pixel: usize) -> *mut T {
        // SAFETY: the caller's promise.
        unsafe { self.data.get().add(pixel * self.pixel_stride) }
    }
}

/// Copies a window of one image into dense `[rows, cols, c]`, zeros outside the image.
///
/// # Safety
/// `image` must be valid for `h * w` pixels of `pixel_stride`, `out` for rows * cols * c.
pub(crate) unsafe fn copy_padded<T: Copy>(
    image: *const T,
    size: [usize; 3],
    pixel_stride: usize,
    rows: (isize, usize),
    cols: (isize, usize),
    out: *mut T,
) {
    // SAFETY: the caller's promise; runs are as long as the window says.
    unsafe {
        fill_padded(image, size, pixel_stride, rows, cols, out, |from, len, to| {
            std::ptr::copy_nonoverlapping(from, to, len);
        });
    }
}

/// As [`copy_padded`], to float32.
///
/// # Safety
/// As [`copy_padded`]; the instruction set must be the element's.
pub(crate) unsafe fn copy_padded_floats<T: Element>(
    isa: Isa,
    image: *const T,
    size: [usize; 3],
    pixel_stride: usize,
    rows: (isize, usize),
    cols: (isize, usize),
    out: *mut f32,
) {
    // SAFETY: the caller's promise; a float32 element is copied as it is.
    unsafe {
        fill_padded(image, size, pixel_stride, rows, cols, out, |from, len, to| {
            if T::GROUP == 1 {
                std::ptr::copy_nonoverlapping(from.cast(), to, len);
            } else {
                to_floats(isa, from, len, to);
            }
        });
    }
}

#[inline(always)]
unsafe fn fill_padded<T, U>(
    image: *const T,
    [h, w, c]: [usize; 3],
    pixel_stride: usize,
    (row0, rows): (isize, usize),
    (col0, cols): (isize, usize),
    out: *mut U,
    copy: impl Fn(*const T, usize, *mut U),
) {
    // SAFETY: every copied pixel is inside the image, every written one inside `out`.
    unsafe {
        for r in 0..rows {
            let row = row0 + r as isize;
            let to = out.add(r * cols * c);
            if row < 0 || row >= h as isize {
                to.write_bytes(0, cols * c);
                continue;
            }
            let left = (-col0).clamp(0, cols as isize) as usize;
            let right = (w as isize - col0).clamp(left as isize, cols as isize) as usize;
            to.write_bytes(0, left * c);
            to.add(right * c).write_bytes(0, (cols - right) * c);
            if right == left {
                continue;
            }
            let from = image.add((row as usize * w + (col0 + left as isize) as usize) * pixel_stride);
            if pixel_stride == c {
                copy(from, (right - left) * c, to.add(left * c));
            } else {
                for j in 0..right - left {
                    copy(from.add(j * pixel_stride), c, to.add((left + j) * c));
                }
            }
        }
    }
}
