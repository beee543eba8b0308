use super::*;
use crate::data::augment::affine::AffineParams;
use crate::data::augment::mosaic::MosaicLayout;
use crate::data::rng::{Draw, Purpose};
use proptest::prelude::*;

pub(super) fn noise(width: usize, height: usize, seed: u32) -> Rgb8 {
    let mut draw = Draw::new(0, 0, seed, Purpose::Init);
    let data = (0..width * height * 3).map(|_| draw.bits() as u8).collect();
    Rgb8 { width, height, data }
}

/// The same by the plain definition, in double precision, on a drawn canvas.
fn two_steps(canvas: &Rgb8, map: &Homography, width: usize, height: usize) -> Vec<u8> {
    let back = map.inverse().unwrap();
    let mut out = Vec::new();
    for y in 0..height {
        for x in 0..width {
            let (u, v) = back.point(x as f64, y as f64);
            let (column, line) = (u.floor(), v.floor());
            let (fx, fy) = (u - column, v - line);
            let tap = |dx: f64, dy: f64, c: usize| {
                let (x, y) = (column + dx, line + dy);
                let inside = x >= 0.0 && y >= 0.0 && x < canvas.width as f64 && y < canvas.height as f64;
                if inside { canvas.row(y as usize)[x as usize * 3 + c] as f64 } else { f64::from(FILL) }
            };
            for c in 0..3 {
                let upper = tap(0.0, 0.0, c) * (1.0 - fx) + tap(1.0, 0.0, c) * fx;
                let lower = tap(0.0, 1.0, c) * (1.0 - fx) + tap(1.0, 1.0, c) * fx;
                out.push((upper * (1.0 - fy) + lower * fy).round() as u8);
            }
        }
    }
    out
}

fn largest_difference(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap_or(0)
}

#[test]
fn identity_keeps_every_pixel() {
    let image = noise(31, 17, 1);
    let mut out = vec![0; image.data.len()];
    Scene { tiles: vec![Tile::at(&image, 0, 0)] }.warp(&Homography::IDENTITY, 31, &mut out);
    assert_eq!(out, image.data);
}

#[test]
fn a_flat_map_gives_grey() {
    let image = noise(8, 8, 1);
    let mut out = vec![0; 8 * 8 * 3];
    let flat = AffineParams { scale: 0.0, ..AffineParams::CENTRED }.matrix((8, 8), (8, 8));
    Scene { tiles: vec![Tile::at(&image, 0, 0)] }.warp(&flat, 8, &mut out);
    assert!(out.iter().all(|&v| v == FILL));
}

proptest! {
    #[test]
    fn runs_equal_pixels_on_their_own(
        seed: u32, angle in -180.0f64..180.0, scale in 0.2f64..4.0, upright: bool, left in 0usize..9, top in 0usize..9,
    ) {
        let images = [noise(40, 33, seed), noise(23, 40, seed ^ 1)];
        let scene = Scene { tiles: vec![Tile::at(&images[0], left, top), Tile::at(&images[1], left + 40, top)] };
        let angle = if upright { (angle / 180.0).round() * 180.0 } else { angle };
        let map = AffineParams { angle, scale, ..AffineParams::CENTRED }.matrix((70, 48), (64, 48));
        let mut out = vec![0; 64 * 48 * 3];
        scene.warp(&map, 64, &mut out);
        let m = map.inverse().unwrap().0;
        for (i, pixel) in out.chunks_exact(3).enumerate() {
            let (x, y) = (i % 64, (i / 64) as f64);
            let u = Ramp { start: fixed(m[1] * y + m[2]), step: fixed(m[0]) }.at(x);
            let v = Ramp { start: fixed(m[4] * y + m[5]), step: fixed(m[3]) }.at(x);
            prop_assert_eq!(pixel, scene.interpolate(u, v), "pixel {}", i);
        }
    }

    #[test]
    fn mosaic_in_one_pass_equals_canvas_then_warp(
        seed: u64, angle in -180.0f64..180.0, scale in 0.1f64..3.0, shear in -30.0f64..30.0, axis_aligned: bool,
        perspective in prop_oneof![Just(0.0), -0.002f64..0.002],
    ) {
        let size = 48;
        let images: Vec<Rgb8> = [(48, 30), (20, 48), (48, 48), (1, 7)]
            .iter().enumerate().map(|(i, &(w, h))| noise(w, h, i as u32)).collect();
        let mut draw = Draw::new(seed, 0, 0, Purpose::Mosaic);
        let layout = MosaicLayout::draw(size, 4, &mut draw);
        let tiles: Vec<Tile> = images.iter().enumerate()
            .map(|(i, image)| Tile { image, place: layout.place(i, size, image.width, image.height) }).collect();
        let mut canvas = Rgb8::filled(2 * size, 2 * size, FILL);
        for y in 0..2 * size {
            for x in 0..2 * size {
                if let Some((tile, at)) = tiles.iter().find_map(|t| Some((t, t.offset(x as i64, y as i64)?))) {
                    let to = (y * 2 * size + x) * 3;
                    canvas.data[to..to + 3].copy_from_slice(&tile.image.data[at..at + 3]);
                }
            }
        }
        let (angle, shear) = if axis_aligned { (0.0, 0.0) } else { (angle, shear) };
        let params = AffineParams {
            angle, scale, shear_x: shear, shear_y: -shear / 2.0, perspective_x: perspective, perspective_y: 0.0,
            translate_x: draw.uniform(0.3, 0.7), translate_y: draw.uniform(0.3, 0.7),
        };
        let (width, height) = (50, 40);
        let map = params.matrix((2 * size, 2 * size), (width, height));
        let mut out = vec![0; width * height * 3];
        Scene { tiles }.warp(&map, width, &mut out);
        prop_assert!(largest_difference(&out, &two_steps(&canvas, &map, width, height)) <= 1);
    }
}
