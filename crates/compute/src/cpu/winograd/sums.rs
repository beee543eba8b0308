//! The weight gradient's products: sums over tiles at each point.

use super::super::ahead::Upcoming;
use super::super::simd::Isa;
use super::super::tile::{Init, Product, Tap, Tile, Tiles};
use super::cuts::Channels;
use super::points::POINTS;

/// The buffers of a work item.
#[derive(Clone, Copy)]
pub(super) struct Buffers<T> {
    /// Transformed source `[36][group of tiles][channel]`, and elements between points.
    pub v: (*mut T, usize),
    /// Transformed gradient `[36][group of tiles][output channel]`.
    pub z: (*mut T, usize),
    /// Sums `[36][channel][output channel]`.
    pub u: (*mut f32, usize),
    /// See [`between`].
    pub between: *mut f32,
}

/// `u (+)= v^T z` at each point, over `count` tiles, for some of the `c` rows of v.
///
/// # Safety
/// The buffers hold these tiles and channels.
#[allow(clippy::too_many_arguments)]
pub(super) unsafe fn multiply<T: Product>(
    isa: Isa,
    count: usize,
    c: usize,
    (first, rows): Channels,
    cols: usize,
    init: Init,
    buffers: &Buffers<T>,
    upcoming: &mut Upcoming,
) {
    let tiles = Tiles::of(isa);
    for point in 0..POINTS {
        for col in (0..cols).step_by(tiles.panel()) {
            for (m, rows) in tiles.split_rows(rows).iter() {
                // SAFETY: the buffers hold these matrices; what is read past a row's end lies in the scratch.
                unsafe {
                    let taps = [Tap {
                        a: buffers.v.0.add(point * buffers.v.1 + (first + m) * T::GROUP).cast_const(),
                        b: buffers.z.0.add(point * buffers.z.1 + col * T::GROUP).cast_const(),
                    }];
                    let tile = Tile {
                        taps: &taps,
                        k: count,
                        a_i: T::GROUP,
                        a_k: c * T::GROUP,
                        b_k: cols * T::GROUP,
                        c: buffers.u.0.add(point * buffers.u.1 + m * cols + col),
                        c_i: cols,
                        cols: tiles.panel().min(cols - col),
                        init,
                        ahead: upcoming.take(count.div_ceil(T::GROUP)),
                    };
                    tiles.along_i(rows, &tile);
                }
            }
        }
    }
}
