//! Warping images of 16 bits through one map, as [`crate::data::augment::warp`] does with 8 bits, in floating point.

use super::{DEEP_FILL, Deep};
use crate::data::augment::affine::Homography;
use crate::data::augment::mosaic::Placement;

/// One image on the canvas.
pub(super) struct Tile<'a> {
    pub image: &'a Deep,
    pub place: Placement,
}

impl Tile<'_> {
    /// Where the canvas pixel's samples begin; `None` where the tile does not show it.
    fn offset(&self, x: i64, y: i64) -> Option<usize> {
        let p = &self.place;
        let inside = x >= p.x1 as i64 && x < p.x2 as i64 && y >= p.y1 as i64 && y < p.y2 as i64;
        inside.then(|| {
            let (x, y) = ((x - p.left as i64) as usize, (y - p.top as i64) as usize);
            (y * self.image.width + x) * self.image.channels
        })
    }
}

/// Draws the tiles through `map` (canvas pixels -> output pixels) into `out`, rows of `width` pixels of `channels` samples.
/// What no tile covers is grey.
pub(super) fn warp(tiles: &[Tile<'_>], map: &Homography, (width, channels): (usize, usize), out: &mut [u16]) {
    out.fill(DEEP_FILL);
    let Some(back) = map.inverse() else { return };
    for (y, row) in out.chunks_exact_mut(width * channels).enumerate() {
        for (x, pixel) in row.chunks_exact_mut(channels).enumerate() {
            let (u, v) = back.point(x as f64, y as f64);
            // A point on the horizon has no place on the canvas; far away there is no tile.
            if u.abs() < 1e9 && v.abs() < 1e9 {
                interpolate(tiles, (u, v), pixel);
            }
        }
    }
}

fn interpolate(tiles: &[Tile<'_>], (u, v): (f64, f64), pixel: &mut [u16]) {
    let (column, line) = (u.floor(), v.floor());
    let (fx, fy) = ((u - column) as f32, (v - line) as f32);
    let (column, line) = (column as i64, line as i64);
    let places = [(column, line), (column + 1, line), (column, line + 1), (column + 1, line + 1)];
    let shares = [(1.0 - fx) * (1.0 - fy), fx * (1.0 - fy), (1.0 - fx) * fy, fx * fy];
    let mut taps: [Option<&[u16]>; 4] = [None; 4];
    let mut covered = false;
    for (tap, &(x, y)) in taps.iter_mut().zip(&places) {
        *tap = tiles.iter().find_map(|tile| Some(&tile.image.data[tile.offset(x, y)?..]));
        covered |= tap.is_some();
    }
    if !covered {
        return;
    }
    for (c, out) in pixel.iter_mut().enumerate() {
        let value = |tap: &Option<&[u16]>| f32::from(tap.map_or(DEEP_FILL, |samples| samples[c]));
        let sum: f32 = taps.iter().zip(shares).map(|(tap, share)| value(tap) * share).sum();
        *out = sum.round() as u16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::augment::affine::AffineParams;
    use crate::data::augment::warp as bytes;
    use crate::data::raster::Rgb8;
    use crate::data::rng::{Draw, Purpose};

    #[test]
    fn pixels_land_where_those_of_8_bits_land() {
        let mut draw = Draw::new(5, 0, 0, Purpose::Init);
        let (width, height) = (40, 30);
        let data: Vec<u8> = (0..width * height * 3).map(|_| draw.bits() as u8).collect();
        let rgb = Rgb8 { width, height, data };
        let deep =
            Deep { width, height, channels: 3, data: rgb.data.iter().map(|&v| u16::from(v) * 257).collect() };
        for (angle, perspective) in [(0.0, 0.0), (25.0, 0.0), (-70.0, 0.001)] {
            let params = AffineParams {
                angle,
                scale: 0.8,
                shear_x: 5.0,
                shear_y: -3.0,
                perspective_x: perspective,
                perspective_y: 0.0,
                translate_x: 0.55,
                translate_y: 0.45,
            };
            let map = params.matrix((width, height), (32, 24));
            let tile = bytes::Tile::at(&rgb, 0, 0);
            let place = tile.place;
            let mut expected = vec![0; 32 * 24 * 3];
            bytes::Scene { tiles: vec![tile] }.warp(&map, 32, &mut expected);
            let mut out = vec![0; 32 * 24 * 3];
            warp(&[Tile { image: &deep, place }], &map, (32, 3), &mut out);
            let worst = expected.iter().zip(&out).map(|(&a, &b)| (f32::from(a) - f32::from(b) / 257.0).abs());
            assert!(worst.fold(0.0, f32::max) <= 1.0, "{angle}");
        }
    }
}
