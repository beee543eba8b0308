//! The micro-kernel: a tile of a matrix product held in registers.
//!
//! `C[i][j] (+)= sum over taps, k of A_tap[i * a_i + k * a_k] * B_tap[k * b_k + j]`
//!
//! One kernel serves forward and data-gradient convolutions (i: pixels, k: channels and kernel columns, a tap a kernel
//! row), weight gradients (i: input channels, k: pixels, a tap an image row) and attention. i runs to [`max_rows`], j
//! over [`PANEL_VECTORS`] vectors; operands are read in place, A by broadcast, so nothing is packed but weights.
//!
//! Where operands are bfloat16, k runs by pairs ([`Element::GROUP`]): B's rows hold pairs, and A's element is the pair of
//! two neighbours in k, which is in place where A is contiguous in k and packed where it is contiguous in i.

use super::ahead::Ahead;
use super::element::{Bf16, Element};
#[cfg(target_arch = "x86_64")]
use super::simd::{Avx2, Avx512};
use super::simd::{Isa, Portable, Simd, prefetch, prefetch_later};

/// Vectors across a tile.
pub(crate) const PANEL_VECTORS: usize = 2;

/// Most taps of one tile.
pub(crate) const MAX_TAPS: usize = 64;

/// Where one tap's operands start.
#[derive(Clone, Copy)]
pub(crate) struct Tap<T = f32> {
    pub a: *const T,
    pub b: *const T,
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

/// One tile's operands, in elements of T, and its result, in elements of C. `cols` is at most the panel's lanes; B is read,
/// never used, up to the panel's end.
pub(crate) struct Tile<'a, T = f32, C = T> {
    pub taps: &'a [Tap<T>],
    /// Summed elements. A last group that they do not fill is zero in B beyond them, and, where A is contiguous in i, in
    /// A; contiguous in k, A is not read beyond them.
    pub k: usize,
    pub a_i: usize,
    /// Elements between groups of k.
    pub a_k: usize,
    /// Likewise.
    pub b_k: usize,
    pub c: *mut C,
    pub c_i: usize,
    pub cols: usize,
    pub init: Init,
    /// What is asked for meanwhile, a line a group of k.
    pub ahead: Ahead,
}

pub(crate) type TileFn<T, C> = unsafe fn(&Tile<T, C>);

/// By vectors - 1, then rows - 1.
type TileFns<T, C> = [[TileFn<T, C>; MAX_ROWS]; PANEL_VECTORS];

/// Rows of a tile at most: what the instruction set's registers hold.
const MAX_ROWS: usize = 14;

/// The micro-kernels of one instruction set.
pub(crate) struct Tiles {
    /// Lanes of a vector.
    pub lanes: usize,
    /// Rows of a tile at most.
    pub max_rows: usize,
    /// A contiguous in k (a_k is a group).
    along_k: TileFns<f32, f32>,
    along_k_bf16: TileFns<Bf16, Bf16>,
    along_k_bf16_sums: TileFns<Bf16, f32>,
    /// A contiguous in i (a_i is a group).
    along_i: TileFns<f32, f32>,
    along_i_bf16: TileFns<Bf16, f32>,
}

/// The kernels of an element's products: results are stored as the operands are, or as sums in float32.
pub(crate) trait Product: Element {
    fn along_k(tiles: &Tiles) -> &TileFns<Self, Self>;
    fn along_k_sums(tiles: &Tiles) -> &TileFns<Self, f32>;
    fn along_i(tiles: &Tiles) -> &TileFns<Self, f32>;
}

impl Product for f32 {
    fn along_k(tiles: &Tiles) -> &TileFns<f32, f32> {
        &tiles.along_k
    }
    fn along_k_sums(tiles: &Tiles) -> &TileFns<f32, f32> {
        &tiles.along_k
    }
    fn along_i(tiles: &Tiles) -> &TileFns<f32, f32> {
        &tiles.along_i
    }
}

impl Product for Bf16 {
    fn along_k(tiles: &Tiles) -> &TileFns<Bf16, Bf16> {
        &tiles.along_k_bf16
    }
    fn along_k_sums(tiles: &Tiles) -> &TileFns<Bf16, f32> {
        &tiles.along_k_bf16_sums
    }
    fn along_i(tiles: &Tiles) -> &TileFns<Bf16, f32> {
        &tiles.along_i_bf16
    }
}

impl Tiles {
    /// The kernels for an instruction set that this processor has.
    pub fn of(isa: Isa) -> &'static Tiles {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => &AVX512,
            #[cfg(target_arch = "x86_64")]
            Isa::Amx => &AMX,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &AVX2,
            _ => &PORTABLE,
        }
    }

    /// Lanes of a whole panel.
    pub fn panel(&self) -> usize {
        PANEL_VECTORS * self.lanes
    }

    /// Runs one tile of `rows` rows; `tile.a_k` must be a group.
    ///
    /// # Safety
    /// The tile's pointers must be valid: A for rows x k, B for k rows of as many whole vectors as `cols` needs, C for
    /// rows x `cols`.
    #[inline]
    pub unsafe fn along_k<T: Product>(&self, rows: usize, tile: &Tile<T>) {
        let vectors = tile.cols.div_ceil(self.lanes);
        // SAFETY: the caller's promise.
        unsafe { T::along_k(self)[vectors - 1][rows - 1](tile) }
    }

    /// As [`Tiles::along_k`], with a float32 result.
    ///
    /// # Safety
    /// As [`Tiles::along_k`].
    #[inline]
    pub unsafe fn along_k_sums<T: Product>(&self, rows: usize, tile: &Tile<T, f32>) {
        let vectors = tile.cols.div_ceil(self.lanes);
        // SAFETY: the caller's promise.
        unsafe { T::along_k_sums(self)[vectors - 1][rows - 1](tile) }
    }

    /// Runs one tile of `rows` rows; `tile.a_i` must be a group.
    ///
    /// # Safety
    /// As [`Tiles::along_k`].
    #[inline]
    pub unsafe fn along_i<T: Product>(&self, rows: usize, tile: &Tile<T, f32>) {
        let vectors = tile.cols.div_ceil(self.lanes);
        // SAFETY: the caller's promise.
        unsafe { T::along_i(self)[vectors - 1][rows - 1](tile) }
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
}

#[inline(always)]
unsafe fn tile<
    S: Simd,
    T: Element,
    C: Element,
    const ROWS: usize,
    const VECTORS: usize,
    const ALONG_I: bool,
>(
    t: &Tile<T, C>,
) {
    // SAFETY: the caller's promise for every pointer below.
    unsafe {
        let last = t.cols - (VECTORS - 1) * S::LANES;
        let lanes = |v: usize| if v + 1 == VECTORS { last } else { S::LANES };
        let mut acc = [[S::zero(); VECTORS]; ROWS];
        if !matches!(t.init, Init::C) {
            // The result's lines arrive while the products are formed; its stores would wait for them.
            for i in 0..ROWS {
                for v in (0..VECTORS).step_by(C::GROUP) {
                    prefetch(t.c.wrapping_add(i * t.c_i + v * S::LANES));
                }
            }
        }
        match t.init {
            Init::Zero => {}
            Init::C => {
                for (i, row) in acc.iter_mut().enumerate() {
                    for (v, x) in row.iter_mut().enumerate() {
                        *x = C::load_n::<S>(t.c.add(i * t.c_i + v * S::LANES), lanes(v));
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
        let group = T::GROUP;
        let mut ahead = t.ahead.from;
        let step = |i: usize| if ALONG_I { i * group } else { i * t.a_i };
        for tap in t.taps {
            let (mut a, mut b) = (tap.a, tap.b);
            // Contiguous in i, A is packed: its last group is filled up with zeros.
            let groups = if ALONG_I { t.k.div_ceil(group) } else { t.k / group };
            for _ in 0..groups {
                prefetch_later(ahead);
                ahead = ahead.wrapping_add(t.ahead.step);
                let mut bv = [S::zero(); VECTORS];
                for (v, x) in bv.iter_mut().enumerate() {
                    *x = T::load_groups::<S>(b.add(v * S::LANES * group));
                }
                for (i, row) in acc.iter_mut().enumerate() {
                    let x = T::splat_group::<S>(a.add(step(i)));
                    for (v, c) in row.iter_mut().enumerate() {
                        *c = T::dot::<S>(x, bv[v], *c);
                    }
                }
                a = a.add(if ALONG_I { t.a_k } else { group });
                b = b.add(t.b_k);
            }
            if groups * group < t.k {
                for (i, row) in acc.iter_mut().enumerate() {
                    let x = T::splat_single::<S>(a.add(step(i)));
                    for (v, c) in row.iter_mut().enumerate() {
                        *c = T::dot::<S>(x, T::load_groups::<S>(b.add(v * S::LANES * group)), *c);
                    }
                }
            }
        }
        for (i, row) in acc.iter().enumerate() {
            for (v, x) in row.iter().enumerate() {
                C::store_n::<S>(t.c.add(i * t.c_i + v * S::LANES), *x, lanes(v));
            }
        }
    }
}

/// A table of one instruction set's kernels of one element for each number of rows.
macro_rules! tile_fns {
    ($simd:ident, $t:ty, $c:ty, $along_i:literal, [$($feature:literal)?], $($rows:literal)*) => {{
        $(#[target_feature(enable = $feature)])?
        unsafe fn run<const ROWS: usize, const VECTORS: usize>(t: &Tile<$t, $c>) {
            // SAFETY: the caller's promise.
            unsafe { tile::<$simd, $t, $c, ROWS, VECTORS, $along_i>(t) }
        }
        [[$(run::<$rows, 1>),*], [$(run::<$rows, 2>),*]]
    }};
}

/// All tables of one instruction set: what its float32 kernels and its bfloat16 kernels need.
macro_rules! tiles {
    ($name:ident, $simd:ident, $max_rows:expr, $features:tt, $bf16:tt, $($rows:literal)*) => {
        static $name: Tiles = Tiles {
            lanes: $simd::LANES,
            max_rows: $max_rows,
            along_k: tile_fns!($simd, f32, f32, false, $features, $($rows)*),
            along_k_bf16: tile_fns!($simd, Bf16, Bf16, false, $bf16, $($rows)*),
            along_k_bf16_sums: tile_fns!($simd, Bf16, f32, false, $bf16, $($rows)*),
            along_i: tile_fns!($simd, f32, f32, true, $features, $($rows)*),
            along_i_bf16: tile_fns!($simd, Bf16, f32, true, $bf16, $($rows)*),
        };
    };
}

// 14 x 2 accumulators and 2 vectors of B of AVX-512's 32 registers; 6 x 2 and 2 of AVX2's 16. Rows beyond the
// maximum are never asked for: they repeat the last.
#[cfg(target_arch = "x86_64")]
tiles!(
    AVX512,
    Avx512,
    14,
    ["avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"],
    ["avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma"],
    1 2 3 4 5 6 7 8 9 10 11 12 13 14
);
/// A table of AMX's kernels; see [`super::amx::tile`].
#[cfg(target_arch = "x86_64")]
macro_rules! amx_fns {
    ($c:ty, $alone:ident, $($rows:literal)*) => {{
        #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma")]
        unsafe fn run<const ROWS: usize, const VECTORS: usize>(t: &Tile<Bf16, $c>) {
            let rest = AVX512.along_k_bf16_sums[VECTORS - 1][ROWS - 1];
            // SAFETY: the caller's promise.
            unsafe { super::amx::tile::<$c, VECTORS>(t, ROWS, rest, AVX512.$alone[VECTORS - 1][ROWS - 1]) }
        }
        [[$(run::<$rows, 1>),*], [$(run::<$rows, 2>),*]]
    }};
}

/// AVX-512's kernels, but products of bfloat16 along channels by AMX.
#[cfg(target_arch = "x86_64")]
static AMX: Tiles = Tiles {
    along_k_bf16: amx_fns!(Bf16, along_k_bf16, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
    along_k_bf16_sums: amx_fns!(f32, along_k_bf16_sums, 1 2 3 4 5 6 7 8 9 10 11 12 13 14),
    ..AVX512
};
#[cfg(target_arch = "x86_64")]
tiles!(AVX2, Avx2, 6, ["avx2,fma"], ["avx2,fma"], 1 2 3 4 5 6 6 6 6 6 6 6 6 6);
tiles!(PORTABLE, Portable, 4, [], [], 1 2 3 4 4 4 4 4 4 4 4 4 4 4);
