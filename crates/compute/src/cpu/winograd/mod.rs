//! Convolutions of 3x3 with step 1 by Winograd's algorithm F(4x4, 3x3) (Lavin and Gray, 2016).
//!
//! A tile of 4x4 results takes 36 products a pair of channels where the direct form takes 144. The tiles of a band of
//! rows are transformed to 36 matrices `[tile][channel]` that stay in the second-level cache, multiplied by the
//! kernels' 36 matrices, and transformed back panel by panel of output channels. Transformed sources and kernels are stored
//! as tensors are, their products always in float32.

mod cuts;
mod kernel;
mod points;
mod sums;
mod transforms;
mod weight_grad;
mod window;

use crate::graph::ConvGeometry;

use super::ahead::Upcoming;
use super::conv::{Epilogue, Weights};
use super::element::{Element, Storage};
use super::norm::{Moments, for_each_part};
use super::pack::Packing;
use super::scratch::{Shared, Tensor, floats, with_scratch};
use super::simd::Isa;
use super::tile::{Init, Product, Tap, Tile, Tiles};
use super::transpose::transpose;
use kernel::kernel_rows;
use points::{IN, OUT, POINTS};
use transforms::{Target, between, result_tile, source_strip};
use window::Window;

pub(crate) use weight_grad::WinogradWeightGrad;

/// A band's transformed source stays under this many elements.
const BAND_ELEMENTS: usize = 72 * 1024;
/// Tiles of a band, where the map has as many.
const BAND_TILES: usize = 28;

/// Elements from a matrix of `len` to that of the next point, of elements in groups of `group`: a line of the cache more than it is long,
/// so that the points' matrices do not fall into the same places of a cache and no vector lies across two lines.
fn apart(len: usize, group: usize) -> usize {
    (len.div_ceil(16 * group) + 1) * 16 * group
}

/// A band of rows of tiles of one image.
struct Band {
    image: usize,
    rows: (usize, usize),
}

/// A convolution ready to run.
pub(crate) struct Winograd {
    source: [usize; 4],
    destination: [usize; 4],
    /// Rows and columns of zeros above and to the left of the source.
    pad: (usize, usize),
    /// Columns of tiles.
    tile_cols: usize,
    bands: Vec<Band>,
    packing: Packing,
    /// Values of the stored element's groups.
    group: usize,
}

/// Whether the algorithm is expected to take less time than the direct form, forward and in both gradients.
pub(crate) fn pays(
    isa: Isa,
    storage: Storage,
    g: &ConvGeometry,
    input: [usize; 4],
    output: [usize; 4],
) -> bool {
    // AMX forms products faster than their operands could be transformed.
    if isa == Isa::Amx
        || g.kernel != (3, 3)
        || g.stride != (1, 1)
        || g.groups != 1
        || g.pad.iter().any(|&p| p > 2)
    {
        return false;
    }
    // Counts of vector operations: 16 lanes, 36 products a tile at nine tenths of the direct form's rate, and the
    // transforms' arithmetic, loads and stores.
    let [_, oh, ow, out] = output;
    let (c, vectors) = (input[3], out.div_ceil(16));
    let tiles = oh.div_ceil(OUT) * ow.div_ceil(OUT);
    let ours = tiles * (40 * c * vectors / storage.group() + 300 * c.div_ceil(16) + 250 * vectors);
    // bfloat16 multiplies two in the time of one.
    let direct = oh * ow * 9 * c * vectors / storage.group();
    c >= 8 && out >= 8 && 10 * ours < 9 * direct
}

impl Winograd {
    /// `source` and `destination` are shapes `[n, h, w, c]`; `group` is the stored element's; `pad`: zeros above and to
    /// the left of the source.
    pub fn new(group: usize, pad: (usize, usize), source: [usize; 4], destination: [usize; 4]) -> Winograd {
        let [n, oh, ow, out] = destination;
        let (tile_rows, tile_cols) = (oh.div_ceil(OUT), ow.div_ceil(OUT));
        let by_size = BAND_ELEMENTS / (POINTS * source[3] * tile_cols);
        let most = by_size.min(BAND_TILES.div_ceil(tile_cols)).clamp(1, tile_rows);
        let count = tile_rows.div_ceil(most);
        let bands = (0..n)
            .flat_map(|image| (0..count).map(move |b| (image, b)))
            .map(|(image, b)| Band { image, rows: (b * tile_rows / count, (b + 1) * tile_rows / count) })
            .collect();
        let packing = Packing { cols: out, rows: source[3].next_multiple_of(group) };
        Winograd { source, destination, pad, tile_cols, bands, packing, group }
    }

    /// The forward pass of a geometry.
    pub fn forward(group: usize, g: &ConvGeometry, input: [usize; 4], output: [usize; 4]) -> Winograd {
        Winograd::new(group, (g.pad[0], g.pad[1]), input, output)
    }

    /// The gradient with respect to the input: the kernel turned by half a turn, the channels exchanged.
    pub fn data_grad(group: usize, g: &ConvGeometry, input: [usize; 4], output: [usize; 4]) -> Winograd {
        Winograd::new(group, (2 - g.pad[0], 2 - g.pad[1]), output, input)
    }

    /// Elements between the packed matrices of neighbouring points.
    fn packed_stride(&self, tiles: &Tiles) -> usize {
        apart(self.packing.len(tiles), self.group)
    }

    /// Elements of the packed weights.
    pub fn packed_len(&self, tiles: &Tiles) -> usize {
        POINTS * self.packed_stride(tiles)
    }

    /// Transforms and packs weights `[3][3][in][out]`; `turned` for the gradient with respect to the input. `scale`: a
    /// factor for each output channel, not with `turned`.
    ///
    /// # Safety
    /// `out` has [`Winograd::packed_len`] elements, zero before the first packing.
    pub unsafe fn pack<T: Element>(
        &self,
        isa: Isa,
        weights: &Weights,
        turned: bool,
        scale: Option<&[f32]>,
        out: *mut T,
    ) {
        let tiles = Tiles::of(isa);
        let (len, cols) = (weights.channels * weights.out, self.packing.cols);
        assert_eq!(weights.values.len(), 9 * len);
        let stride = self.packed_stride(tiles);
        let pack = |taps: [*const f32; 9]| {
            for (start, count, width, offset) in self.packing.panels(tiles) {
                for row in (0..self.source[3]).step_by(T::GROUP) {
                    // SAFETY: each tap is a matrix of `rows` x `cols`; the packed one has a row of the panel's width.
                    unsafe {
                        let taps = taps.map(|tap| tap.add(row * cols + start));
                        let next = (row + 1 < self.source[3]).then_some(cols);
                        let scale = scale.map(|s| s[start..].as_ptr());
                        kernel_rows(isa, taps, next, count, scale, out.add(offset + row * width), stride);
                    }
                }
            }
        };
        if !turned {
            return pack(std::array::from_fn(|tap| weights.values[tap * len..].as_ptr()));
        }
        with_scratch(9 * len, |scratch| {
            // SAFETY: the scratch holds nine matrices.
            pack(std::array::from_fn(|tap| unsafe {
                let to = scratch.add(tap * len);
                let from = weights.values[(8 - tap) * len..].as_ptr();
                transpose(isa, from, weights.out, weights.channels, weights.out, to, weights.channels);
                to.cast_const()
            }));
        });
    }

    /// Number of parts in which statistics are taken.
    pub fn parts(&self) -> usize {
        self.bands.len()
    }

    /// The rows of the destination that a band forms.
    fn pixel_rows(&self, band: &Band) -> (usize, usize) {
        (band.rows.0 * OUT, (band.rows.1 * OUT).min(self.destination[1]))
    }

    /// Pixels of each part.
    pub fn part_counts(&self) -> impl Iterator<Item = usize> {
        self.bands.iter().map(|band| {
            let (first, end) = self.pixel_rows(band);
            (end - first) * self.destination[2]
        })
    }

    /// Runs the convolution; as [`super::conv::DenseConv::run`].
    ///
    /// # Safety
    /// Tensors must be valid and of the shapes that the convolution was made for; the destination overlaps neither the
    /// source nor the residual; `packed` holds the packed weights.
    pub unsafe fn run<T: Product>(
        &self,
        isa: Isa,
        source: Tensor<T>,
        destination: Tensor<T>,
        packed: Shared<T>,
        epilogue: Epilogue<T>,
        moments: Option<&mut [Moments]>,
    ) {
        let run = |part: usize, moments: Option<&mut [Moments]>| {
            // SAFETY: bands are disjoint in the destination; the caller promises the rest.
            unsafe { self.band(isa, source, destination, packed, &epilogue, part, moments) }
        };
        for_each_part(self.parts(), destination.channels(), moments, run);
    }

    #[allow(clippy::too_many_arguments)]
    unsafe fn band<T: Product>(
        &self,
        isa: Isa,
        source: Tensor<T>,
        destination: Tensor<T>,
        packed: Shared<T>,
        epilogue: &Epilogue<T>,
        part: usize,
        moments: Option<&mut [Moments]>,
    ) {
        let band = &self.bands[part];
        let mut upcoming = self.upcoming(source, destination, part);
        let tiles = Tiles::of(isa);
        let depth = self.source[3];
        let [_, oh, ow, _] = self.destination;
        let count = (band.rows.1 - band.rows.0) * self.tile_cols;
        let panel = tiles.panel();
        let (in_stride, out_stride) = (apart(count * depth, T::GROUP), apart(count * panel, 1));
        let stride = self.packed_stride(tiles);
        let source_len = floats::<T>(POINTS * in_stride);
        let between_len = between(band.rows.1 - band.rows.0);
        with_scratch(source_len + POINTS * out_stride + between_len, |scratch| {
            // SAFETY: the scratch has room for the band's matrices and a strip of rows; tiles lie in their tensors.
            unsafe {
                let products = scratch.add(source_len);
                let between = products.add(POINTS * out_stride);
                let scratch = scratch.cast::<T>();
                self.source_tiles(isa, source, band, between, scratch, in_stride);
                for (col, cols, width, offset) in self.packing.panels(tiles) {
                    for point in 0..POINTS {
                        for (first, rows) in tiles.split_rows(count).iter() {
                            let a = scratch.add(point * in_stride + first * depth).cast_const();
                            let taps = [Tap { a, b: packed.get().add(point * stride + offset) }];
                            let tile = Tile {
                                taps: &taps,
                                k: depth,
                                a_i: depth,
                                a_k: T::GROUP,
                                b_k: width * T::GROUP,
                                c: products.add(point * out_stride + first * panel),
                                c_i: panel,
                                cols: width,
                                init: Init::Zero,
                                ahead: upcoming.take(depth.div_ceil(T::GROUP)),
                            };
                            tiles.along_k_sums(rows, &tile);
                        }
                    }
                    for t in 0..count {
                        let (y, x) = ((band.rows.0 + t / self.tile_cols) * OUT, t % self.tile_cols * OUT);
                        let step = destination.pixel_stride;
                        let target = Target {
                            to: destination.pixel((band.image * oh + y) * ow + x).add(col),
                            steps: (ow * step, step),
                            size: (OUT.min(oh - y), OUT.min(ow - x)),
                            bias: epilogue.bias.map(|b: Shared| b.get().add(col).cast_const()),
                            add: epilogue.add,
                        };
                        result_tile(isa, products.add(t * panel), out_stride, cols, target);
                    }
                }
            }
        });
        let (first, end) = self.pixel_rows(band);
        // SAFETY: these rows are the band's own.
        unsafe {
            epilogue.finish(isa, destination, (band.image * oh + first) * ow, end - first, ow, moments);
        }
    }

    /// What a band writes when its first products are formed, and what the next one reads, which the same thread takes.
    fn upcoming<T: Copy>(&self, source: Tensor<T>, destination: Tensor<T>, part: usize) -> Upcoming {
        let mut upcoming = Upcoming::nothing();
        let (first, end) = self.pixel_rows(&self.bands[part]);
        upcoming.rows(destination, self.bands[part].image, first as isize, end as isize);
        if let Some(next) = self.bands.get(part + 1) {
            let row = |row: usize| row as isize - self.pad.0 as isize;
            upcoming.rows(source, next.image, row(next.rows.0 * OUT), row(next.rows.1 * OUT + IN - OUT));
        }
        upcoming
    }

    /// Transforms a band's tiles of the source.
    unsafe fn source_tiles<T: Product>(
        &self,
        isa: Isa,
        source: Tensor<T>,
        band: &Band,
        between: *mut f32,
        to: *mut T,
        to_stride: usize,
    ) {
        let [_, h, w, depth] = self.source;
        let step = source.pixel_stride;
        let tiles = band.rows.1 - band.rows.0;
        let y = (band.rows.0 * OUT) as isize - self.pad.0 as isize;
        for col in 0..self.tile_cols {
            let x = (col * OUT) as isize - self.pad.1 as isize;
            // SAFETY: the window reads what its image has; the matrices hold the band's tiles.
            unsafe {
                let image = source.pixel(band.image * h * w);
                let from = Window::new(image, (h, w), step, (y, x), (tiles * OUT + IN - OUT, IN));
                let to = to.add(col * depth);
                source_strip(isa, from, tiles, depth, between, to, to_stride, self.tile_cols * depth);
            }
        }
    }
}
