//! Bilinear warping of one or several images through one map, without drawing the canvas that holds them.
//!
//! Each output pixel centre is mapped back to the canvas and interpolated between the four canvas pixels around
//! it; what no image covers counts as grey 114. Positions are not rounded to 1/32 px as OpenCV 4 does for 8-bit
//! images, but taken as they are, as OpenCV 5 does; weights are multiples of 1/2048.

use crate::data::raster::{FILL, Rgb8};

use super::affine::Homography;
use super::mosaic::Placement;

#[cfg(target_arch = "x86_64")]
mod four;

/// One image on the canvas.
#[derive(Clone, Copy, Debug)]
pub struct Tile<'a> {
    /// The pixels.
    pub image: &'a Rgb8,
    /// The part of the canvas that shows the image.
    pub place: Placement,
}

impl Tile<'_> {
    /// The whole image with its top left corner at canvas pixel (`left`, `top`).
    pub fn at(image: &Rgb8, left: usize, top: usize) -> Tile<'_> {
        let place = Placement {
            x1: left,
            y1: top,
            x2: left + image.width,
            y2: top + image.height,
            left: left as isize,
            top: top as isize,
        };
        Tile { image, place }
    }

    /// The byte offset of a canvas pixel in the image; `None` where the tile does not show it.
    fn offset(&self, x: i64, y: i64) -> Option<usize> {
        let p = &self.place;
        let inside = x >= p.x1 as i64 && x < p.x2 as i64 && y >= p.y1 as i64 && y < p.y2 as i64;
        inside.then(|| {
            let (x, y) = ((x - p.left as i64) as usize, (y - p.top as i64) as usize);
            (y * self.image.width + x) * 3
        })
    }
}

/// Images on a canvas, not overlapping; the canvas itself is grey and unbounded.
#[derive(Clone, Debug)]
pub struct Scene<'a> {
    /// The images.
    pub tiles: Vec<Tile<'a>>,
}

/// Fraction bits of a coordinate along a row.
const BITS: u32 = 24;
/// Bits of an interpolation weight.
const WEIGHT_BITS: u32 = 11;
const ONE: u32 = 1 << WEIGHT_BITS;
const HALF: u32 = 1 << (2 * WEIGHT_BITS - 1);
/// Coordinates and steps beyond this many pixels are cut to it: with it, no row of up to 8192 pixels overflows.
const REACH: f64 = (1u32 << 25) as f64;

fn fixed(v: f64) -> i64 {
    (v.clamp(-REACH, REACH) * f64::from(1u32 << BITS)).round() as i64
}

fn weight(v: i64) -> u32 {
    (v >> (BITS - WEIGHT_BITS)) as u32 & (ONE - 1)
}

/// A coordinate that changes by `step` a pixel along an output row.
#[derive(Clone, Copy)]
struct Ramp {
    start: i64,
    step: i64,
}

impl Ramp {
    fn at(self, x: usize) -> i64 {
        self.start + self.step * x as i64
    }

    /// The pixels of 0..n whose whole-pixel coordinate lies in low..=high. One run, since the ramp is monotone.
    fn within(self, low: i64, high: i64, n: usize) -> (usize, usize) {
        if high < low {
            return (0, 0);
        }
        let (low, end) = (low << BITS, (high + 1) << BITS);
        let (first, last) = match self.step {
            0 if (low..end).contains(&self.start) => (0, n as i64),
            0 => (0, 0),
            step if step > 0 => {
                let first_from = |bound: i64| -((self.start - bound).div_euclid(step));
                (first_from(low), first_from(end))
            }
            step => {
                let first_below = |bound: i64| (self.start - bound).div_euclid(-step) + 1;
                (first_below(end), first_below(low))
            }
        };
        let first = first.clamp(0, n as i64) as usize;
        (first, (last.clamp(0, n as i64) as usize).max(first))
    }
}

impl Scene<'_> {
    /// Draws the scene through `map` (canvas pixels -> output pixels) into `out`, `height * width * 3` bytes RGB. A map
    /// that flattens the plane gives plain grey. `width` is at most 8192.
    pub fn warp(&self, map: &Homography, width: usize, out: &mut [u8]) {
        out.fill(FILL);
        let Some(back) = map.inverse() else { return };
        for (y, row) in out.chunks_exact_mut(width * 3).enumerate() {
            if back.is_affine() {
                self.affine_row(&back, y, row);
            } else {
                self.perspective_row(&back, y, row);
            }
        }
    }

    fn affine_row(&self, back: &Homography, y: usize, row: &mut [u8]) {
        let m = &back.0;
        let n = row.len() / 3;
        let xs = Ramp { start: fixed(m[1] * y as f64 + m[2]), step: fixed(m[0]) };
        let ys = Ramp { start: fixed(m[4] * y as f64 + m[5]), step: fixed(m[3]) };
        for tile in &self.tiles {
            let p = &tile.place;
            let (x1, x2, y1, y2) = (p.x1 as i64, p.x2 as i64, p.y1 as i64, p.y2 as i64);
            let run = |margin: i64| {
                let along_x = xs.within(x1 - margin, x2 - 2 + margin, n);
                let along_y = ys.within(y1 - margin, y2 - 2 + margin, n);
                (along_x.0.max(along_y.0), along_x.1.min(along_y.1))
            };
            // All four taps lie in the tile within `inner`, at least one within `outer`.
            let (outer, inner) = (run(1), run(0));
            if outer.0 >= outer.1 {
                continue;
            }
            let inner = if inner.0 < inner.1 { inner } else { (outer.1, outer.1) };
            for x in (outer.0..inner.0).chain(inner.1..outer.1) {
                let pixel = self.interpolate(xs.at(x), ys.at(x));
                row[x * 3..x * 3 + 3].copy_from_slice(&pixel);
            }
            inner_run(tile, xs, ys, inner.0, &mut row[inner.0 * 3..inner.1 * 3]);
        }
    }

    fn perspective_row(&self, back: &Homography, y: usize, row: &mut [u8]) {
        for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
            let (u, v) = back.point(x as f64, y as f64);
            // A point on the horizon has no place on the canvas: the quotient is not finite.
            if u.is_finite() && v.is_finite() {
                pixel.copy_from_slice(&self.interpolate(fixed(u), fixed(v)));
            }
        }
    }

    /// The interpolated pixel at a canvas position, each tap looked up on its own.
    fn interpolate(&self, x: i64, y: i64) -> [u8; 3] {
        let (column, line) = (x >> BITS, y >> BITS);
        let (wx, wy) = (weight(x), weight(y));
        let tap = |x: i64, y: i64| {
            let hit = self.tiles.iter().find_map(|tile| Some((tile, tile.offset(x, y)?)));
            hit.map_or([FILL; 3], |(tile, at)| std::array::from_fn(|c| tile.image.data[at + c]))
        };
        let taps =
            [tap(column, line), tap(column + 1, line), tap(column, line + 1), tap(column + 1, line + 1)];
        std::array::from_fn(|c| blend([taps[0][c], taps[1][c], taps[2][c], taps[3][c]], wx, wy))
    }
}

fn blend(taps: [u8; 4], wx: u32, wy: u32) -> u8 {
    let [a, b, c, d] = taps.map(u32::from);
    let upper = a * (ONE - wx) + b * wx;
    let lower = c * (ONE - wx) + d * wx;
    // At most 255 * 2^22 + 2^21, within 32 bits.
    ((upper * (ONE - wy) + lower * wy + HALF) >> (2 * WEIGHT_BITS)) as u8
}

/// A run of output pixels from `first` on whose four taps all lie in the tile.
fn inner_run(tile: &Tile<'_>, xs: Ramp, ys: Ramp, first: usize, out: &mut [u8]) {
    let (left, top) = (tile.place.left as i64, tile.place.top as i64);
    let run = Run {
        image: tile.image,
        xs: Ramp { start: xs.at(first) - (left << BITS), ..xs },
        ys: Ramp { start: ys.at(first) - (top << BITS), ..ys },
    };
    #[cfg(target_arch = "x86_64")]
    let done = four::draw(&run, out);
    #[cfg(not(target_arch = "x86_64"))]
    let done = 0;
    run.draw(done, out);
}

/// Positions in an image along an output row, each with its three neighbours in the image.
#[derive(Clone, Copy)]
struct Run<'a> {
    image: &'a Rgb8,
    xs: Ramp,
    ys: Ramp,
}

impl Run<'_> {
    /// Draws the pixels of `out` from number `done` on.
    fn draw(&self, done: usize, out: &mut [u8]) {
        let stride = self.image.width * 3;
        let (mut x, mut y) = (self.xs.at(done), self.ys.at(done));
        for pixel in out[done * 3..].chunks_exact_mut(3) {
            let (column, line) = ((x >> BITS) as usize, (y >> BITS) as usize);
            let (wx, wy) = (weight(x), weight(y));
            let at = line * stride + column * 3;
            let upper = &self.image.data[at..at + 6];
            let lower = &self.image.data[at + stride..at + stride + 6];
            for c in 0..3 {
                pixel[c] = blend([upper[c], upper[c + 3], lower[c], lower[c + 3]], wx, wy);
            }
            x += self.xs.step;
            y += self.ys.step;
        }
    }
}

#[cfg(test)]
mod tests;
