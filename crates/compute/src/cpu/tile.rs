//! The micro-kernel: a tile of a matrix product held in registers.
//!
//! `C[i][j] (+)= sum over taps, k of A_tap[i * a_i + k * a_k] * B_tap[k * b_k + j]`
//!
//! One kernel serves forward and data-gradient convolutions (i: pixels, k: channels and kernel columns, a tap a kernel
//! row), weight gradients (i: input channels, k: pixels, a tap an image row) and attention. i runs to [`max_rows`], j
//! over [`PANEL_VECTORS`] vectors; operands are read in place, A by broadcast, so nothing is packed but weights.

#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use super::simd::{Isa, Portable, Simd, prefetch};

/// Vectors across a tile.
pub(crate) const PANEL_VECTORS: usize = 2;

/// Most taps of one tile.
pub(crate) const MAX_TAPS: usize = 64;

/// Where one tap's operands start.
#[derive(Clone, Copy)]
pub(crate) struct Tap {
    pub a: *const f32,
    pub b: *const f32,
}

/// What a tile's accumulators start from.
#[derive(Clone, Copy)]
pub(crate) enum Init {
    Zero,
    /// What C holds.
    C,
    /// A row, the same for each i.
    Row(*const f32),
}

/// One tile's operands. `cols` is at most the panel's lanes; B is read, never used, up to the panel's end.
pub(crate) struct Tile<'a> {
    pub taps: &'a [Tap],
    pub k: usize,
    pub a_i: usize,
    pub a_k: usize,
    pub b_k: usize,
    pub c: *mut f32,
    pub c_i: usize,
    pub cols: usize,
    pub init: Init,
}

type TileFn = unsafe fn(&Tile);

/// Rows of a tile at most: what the instruction set's registers hold.
const MAX_ROWS: usize = 14;

/// The micro-kernels of one instruction set.
pub(crate) struct Tiles {
    /// Lanes of a vector.
    pub lanes: usize,
    /// Rows of a tile at most.
    pub max_rows: usize,
    /// By vectors - 1, then rows - 1: A contiguous in k (a_k = 1).
    along_k: [[TileFn; MAX_ROWS]; PANEL_VECTORS],
    /// The same: A contiguous in i (a_i = 1).
    along_i: [[TileFn; MAX_ROWS]; PANEL_VECTORS],
}

impl Tiles {
    /// The kernels for an instruction set that this processor has.
    pub fn of(isa: Isa) -> &'static Tiles {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => &AVX512,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &AVX2,
            _ => &PORTABLE,
        }
    }

    /// Lanes of a whole panel.
    pub fn panel(&self) -> usize {
        PANEL_VECTORS * self.lanes
    }

    /// Runs one tile of `rows` rows; `tile.a_k` must be 1.
    ///
    /// # Safety
    /// The tile's pointers must be valid: A for rows x k, B for k rows of as many whole vectors as `cols` needs, C for
    /// rows x `cols`.
    #[inline]
    pub unsafe fn along_k(&self, rows: usize, tile: &Tile) {
        let vectors = tile.cols.div_ceil(self.lanes);
        // SAFETY: the caller's promise.
        unsafe { self.along_k[vectors - 1][rows - 1](tile) }
    }

    /// Runs one tile of `rows` rows; `tile.a_i` must be 1.
    ///
    /// # Safety
    /// As [`Tiles::along_k`].
    #[inline]
    pub unsafe fn along_i(&self, rows: usize, tile: &Tile) {
        let vectors = tile.cols.div_ceil(self.lanes);
        // SAFETY: the caller's promise.
        unsafe { self.along_i[vectors - 1][rows - 1](tile) }
    }

    /// Cuts `n` rows into tiles of nearly equal size: `(tiles, rows of the larger ones, how many are larger)`.
    pub fn split_rows(&self, n: usize) -> RowSplit {
        let tiles = n.div_ceil(self.max_rows);
        RowSplit { small: n / tiles.max(1), larger: n % tiles.max(1), tiles }
    }
}

/// See [`Tiles::split_rows`].
#[derive(Clone, Copy)]
pub(crate) struct RowSplit {
    small: usize,
    larger: usize,
    tiles: usize,
}

impl RowSplit {
    /// `(first row, rows)` of each tile.
    pub fn iter(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.tiles)
            .map(move |t| (t * self.small + t.min(self.larger), self.small + usize::from(t < self.larger)))
    }

    pub fn len(self) -> usize {
        self.tiles
    }
}

#[inline(always)]
unsafe fn tile<S: Simd, const ROWS: usize, const VECTORS: usize, const ALONG_I: bool>(t: &Tile) {
    // SAFETY: the caller's promise for every pointer below.
    unsafe {
        let full = t.cols == VECTORS * S::LANES;
        let last = t.cols - (VECTORS - 1) * S::LANES;
        let lanes = |v: usize| if v + 1 == VECTORS { last } else { S::LANES };
        let mut acc = [[S::zero(); VECTORS]; ROWS];
        if !matches!(t.init, Init::C) {
            // The result's lines arrive while the products are formed; its stores would wait for them.
            for i in 0..ROWS {
                for v in 0..VECTORS {
                    prefetch(t.c.wrapping_add(i * t.c_i + v * S::LANES));
                }
            }
        }
        match t.init {
            Init::Zero => {}
            Init::C => {
                for (i, row) in acc.iter_mut().enumerate() {
                    for (v, x) in row.iter_mut().enumerate() {
                        *x = S::load_n(t.c.add(i * t.c_i + v * S::LANES), lanes(v));
                    }
                }
            }
            Init::Row(bias) => {
                for row in acc.iter_mut() {
                    for (v, x) in row.iter_mut().enumerate() {
                        *x = S::load_n(bias.add(v * S::LANES), lanes(v));
                    }
                }
            }
        }
        for tap in t.taps {
            let (mut a, mut b) = (tap.a, tap.b);
            for _ in 0..t.k {
                let mut bv = [S::zero(); VECTORS];
                for (v, x) in bv.iter_mut().enumerate() {
                    *x = S::load(b.add(v * S::LANES));
                }
                for (i, row) in acc.iter_mut().enumerate() {
                    let x = S::splat(*a.add(if ALONG_I { i } else { i * t.a_i }));
                    for (v, c) in row.iter_mut().enumerate() {
                        *c = S::fma(x, bv[v], *c);
                    }
                }
                a = a.add(if ALONG_I { t.a_k } else { 1 });
                b = b.add(t.b_k);
            }
        }
        for (i, row) in acc.iter().enumerate() {
            for (v, x) in row.iter().enumerate() {
                let p = t.c.add(i * t.c_i + v * S::LANES);
                if full { S::store(p, *x) } else { S::store_n(p, *x, lanes(v)) }
            }
        }
    }
}

/// A table of one instruction set's kernels for each number of rows.
macro_rules! tiles {
    ($name:ident, $simd:ident, $max_rows:expr, [$($feature:literal)?], $($rows:literal)*) => {
        static $name: Tiles = {
            $(#[target_feature(enable = $feature)])?
            unsafe fn along_k<const ROWS: usize, const VECTORS: usize>(t: &Tile) {
                // SAFETY: the caller's promise.
                unsafe { tile::<$simd, ROWS, VECTORS, false>(t) }
            }
            $(#[target_feature(enable = $feature)])?
            unsafe fn along_i<const ROWS: usize, const VECTORS: usize>(t: &Tile) {
                // SAFETY: the caller's promise.
                unsafe { tile::<$simd, ROWS, VECTORS, true>(t) }
            }
            Tiles {
                lanes: $simd::LANES,
                max_rows: $max_rows,
                along_k: [[$(along_k::<$rows, 1>),*], [$(along_k::<$rows, 2>),*]],
                along_i: [[$(along_i::<$rows, 1>),*], [$(along_i::<$rows, 2>),*]],
            }
        };
    };
}

// 14 x 2 accumulators and 2 vectors of B of AVX-512's 32 registers; 6 x 2 and 2 of AVX2's 16. Rows beyond the
// maximum are never asked for: they repeat the last.
#[cfg(target_arch = "x86_64")]
tiles!(AVX512, Avx512, 14, ["avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"], 1 2 3 4 5 6 7 8 9 10 11 12 13 14);
#[cfg(target_arch = "x86_64")]
tiles!(AVX2, Avx2, 6, ["avx2,fma"], 1 2 3 4 5 6 6 6 6 6 6 6 6 6);
tiles!(PORTABLE, Portable, 4, [], 1 2 3 4 4 4 4 4 4 4 4 4 4 4);
