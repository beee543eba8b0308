//! How the weight gradient's work is cut.

/// How work is cut, by the stored element.
#[derive(Clone, Copy)]
pub(super) struct Cuts {
    /// A run's transformed tiles stay under this many elements.
    pub run: usize,
    /// Source channels of a slice at most.
    pub rows: usize,
    /// Output channels of a slice at most.
    pub cols: usize,
    /// Tiles of a chunk at least, where the map has as many: the way back to the kernel costs as much as a few tiles.
    pub chunk: usize,
    /// Work items aimed at.
    pub items: usize,
    /// The chunks' kernels together stay under this many elements.
    pub partial: usize,
    /// Source channels at most whose sums over one run are brought back to the kernel, where the runs are added; `None`: the
    /// sums of all are kept over all runs.
    pub block: Option<usize>,
}

pub(super) const CUTS: Cuts =
    Cuts { run: 96 * 1024, rows: 64, cols: 32, chunk: 48, items: 24, partial: 1 << 20, block: None };

/// Pairs take half the memory and products half the time, so that runs are longer, parts are fewer and less is kept of the sums,
/// which stay as large as they were.
pub(super) const CUTS_OF_PAIRS: Cuts =
    Cuts { run: 480 * 1024, rows: 64, cols: 128, chunk: 24, items: 8, partial: 1 << 20, block: Some(28) };

/// A part of the channels: first, and how many.
pub(super) type Channels = (usize, usize);

/// The part of that number of `n` things cut into `parts` nearly equal ones: the first, and how many.
pub(super) fn part(n: usize, parts: usize, number: usize) -> (usize, usize) {
    let (first, end) = (number * n / parts, (number + 1) * n / parts);
    (first, end - first)
}
