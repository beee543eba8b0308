//! Bilinear resizing with the sampling points and the fixed-point arithmetic of OpenCV's `INTER_LINEAR` for 8 bits.
//!
//! The centre of output pixel i lies at (i + 0.5) * in / out - 0.5; taps beyond the edge repeat the edge pixel.
//! Weights are multiples of 1/2048. No low-pass filter precedes a reduction: the pretrained networks were trained
//! on images that were resized so.

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use super::raster::Rgb8;

const WEIGHT_BITS: u32 = 11;
const ONE: f32 = (1 << WEIGHT_BITS) as f32;

/// The two taps of one output pixel along one axis.
struct Tap {
    first: usize,
    second: usize,
    weights: [i32; 2],
}

fn taps(input: usize, output: usize) -> Vec<Tap> {
    let scale = input as f64 / output as f64;
    (0..output)
        .map(|i| {
            let centre = ((i as f64 + 0.5) * scale - 0.5) as f32;
            let floor = centre.floor();
            let (first, fraction) = if floor < 0.0 {
                (0, 0.0)
            } else if floor as usize >= input - 1 {
                (input - 1, 0.0)
            } else {
                (floor as usize, centre - floor)
            };
            let weight = |f: f32| (f * ONE).round_ties_even() as i32;
            Tap {
                first,
                second: (first + 1).min(input - 1),
                weights: [weight(1.0 - fraction), weight(fraction)],
            }
        })
        .collect()
}

/// The image at `width` x `height` pixels (both at least 1). The same size gives a plain copy.
pub fn resize_bilinear(source: &Rgb8, width: usize, height: usize) -> Rgb8 {
    if (source.width, source.height) == (width, height) {
        return source.clone();
    }
    let columns = taps(source.width, width);
    let rows = taps(source.height, height);
    let mut out = Rgb8::filled(width, height, 0);
    // Two rows, resized along x only, in units of 1/2048 grey. Consecutive output rows share them.
    let mut held: [Option<usize>; 2] = [None, None];
    let mut lines = [vec![0i32; width * 3], vec![0i32; width * 3]];
    for (tap, out_row) in rows.iter().zip(out.data.chunks_exact_mut(width * 3)) {
        if held[0] != Some(tap.first) {
            if held[1] == Some(tap.first) {
                lines.swap(0, 1);
                held.swap(0, 1);
            } else {
                stretch(source.row(tap.first), &columns, &mut lines[0]);
                held[0] = Some(tap.first);
            }
        }
        if held[1] != Some(tap.second) {
            stretch(source.row(tap.second), &columns, &mut lines[1]);
            held[1] = Some(tap.second);
        }
        let [upper_weight, lower_weight] = tap.weights;
        for ((out, &upper), &lower) in out_row.iter_mut().zip(&lines[0]).zip(&lines[1]) {
            let sum = ((upper_weight * (upper >> 4)) >> 16) + ((lower_weight * (lower >> 4)) >> 16);
            *out = ((sum + 2) >> 2) as u8;
        }
    }
    out
}

fn stretch(row: &[u8], columns: &[Tap], line: &mut [i32]) {
    for (tap, out) in columns.iter().zip(line.chunks_exact_mut(3)) {
        let left = &row[tap.first * 3..tap.first * 3 + 3];
        let right = &row[tap.second * 3..tap.second * 3 + 3];
        for channel in 0..3 {
            out[channel] =
                i32::from(left[channel]) * tap.weights[0] + i32::from(right[channel]) * tap.weights[1];
        }
    }
}

/// A part `(left, top, width, height)` of the image, in pixels and within it, at `size` pixels: bilinear where it is
/// enlarged, and where it is made smaller each new pixel the weighted mean of all that it covers, as Pillow resizes.
pub fn resize_averaging(
    source: &Rgb8,
    (left, top, width, height): (f64, f64, f64, f64),
    size: (usize, usize),
) -> Rgb8 {
    let rgb = PixelType::U8x3;
    let from = ImageRef::new(source.width as u32, source.height as u32, &source.data, rgb)
        .expect("an Rgb8 holds width * height * 3 bytes");
    let mut out = Image::new(size.0 as u32, size.1 as u32, rgb);
    let options = ResizeOptions::new()
        .resize_alg(ResizeAlg::Convolution(FilterType::Bilinear))
        .crop(left, top, width, height);
    Resizer::new()
        .resize(&from, &mut out, &options)
        .expect("both are RGB, and the part lies within the image");
    Rgb8 { width: size.0, height: size.1, data: out.into_vec() }
}

/// Most taps of an output row or column that [`averaging_taps`] gives: enough for a reduction to a third.
pub(crate) const MAX_TAPS: usize = 8;

/// What one output row or column of [`resize_averaging`] is made of: input rows or columns from `first` on, with weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct AveragingTap {
    pub(crate) first: u32,
    pub(crate) count: u32,
    pub(crate) weights: [i16; MAX_TAPS],
}

/// One axis of [`resize_averaging`] in its own numbers: the fraction bits of the weights, and for each of `output` pixels what
/// it is made of, where the part of `length` pixels from `start` on of an image of `input` pixels is seen. Rows come
/// before columns, and their sums are rounded to bytes in between. None where a pixel is made of more than [`MAX_TAPS`].
///
/// The filter is a triangle whose half width is one output pixel, at least one input pixel; the weights of a pixel add up to
/// one, and are rounded to as many fraction bits as 16-bit numbers hold (Pillow's scheme).
pub(crate) fn averaging_taps(
    input: usize,
    (start, length): (usize, usize),
    output: usize,
) -> Option<(u32, Vec<AveragingTap>)> {
    if length == output {
        // Plain copies.
        let mut weights = [0; MAX_TAPS];
        weights[0] = 1 << COPY_BITS;
        let copy = |i| AveragingTap { first: (start + i) as u32, count: 1, weights };
        return Some((COPY_BITS, (0..output).map(copy).collect()));
    }
    // In this order, so that each number is rounded as there.
    let scale = ((start + length) as f64 - start as f64) / output as f64;
    let stretch = scale.max(1.0);
    let narrow = 1.0 / stretch;
    let mut exact: Vec<(usize, Vec<f64>)> = Vec::with_capacity(output);
    for i in 0..output {
        let centre = start as f64 + (i as f64 + 0.5) * scale;
        let begin = (centre - stretch).floor().max(0.0) as usize;
        let end = (centre + stretch).ceil().min(input as f64) as usize;
        let middle = centre - 0.5;
        let triangle = |x: usize| (1.0 - ((x as f64 - middle) * narrow).abs()).max(0.0);
        let mut weights: Vec<f64> = (begin..end).map(triangle).collect();
        let total: f64 = weights.iter().sum();
        if total != 0.0 {
            weights.iter_mut().for_each(|w| *w /= total);
        }
        let leading = weights.iter().take_while(|w| **w == 0.0).count();
        let trailing = weights.iter().rev().take_while(|w| **w == 0.0).count();
        weights.truncate(weights.len().saturating_sub(trailing));
        weights.drain(..leading.min(weights.len()));
        if weights.len() > MAX_TAPS {
            return None;
        }
        exact.push((begin + leading, weights));
    }
    let largest = exact.iter().flat_map(|(_, weights)| weights).fold(0.0f64, |m, &w| m.max(w));
    // The most bits with which the largest still is a 16-bit number.
    let fits = |bits: u32| (largest * f64::from(1u32 << bits)).round() < f64::from(1u32 << 15);
    let bits = (1..=MOST_BITS).rev().find(|&bits| fits(bits))?;
    let one = f64::from(1u32 << bits);
    let round = |(first, exact): (usize, Vec<f64>)| {
        let mut weights = [0; MAX_TAPS];
        weights.iter_mut().zip(&exact).for_each(|(to, w)| *to = (w * one).round() as i16);
        AveragingTap { first: first as u32, count: exact.len() as u32, weights }
    };
    Some((bits, exact.into_iter().map(round).collect()))
}

/// Fraction bits of a plain copy's weight.
const COPY_BITS: u32 = 14;
/// Fraction bits of a weight at most: 8 bits of the value and 2 to spare stay free of 32.
const MOST_BITS: u32 = 21;

/// The size at which images are loaded for a network of `imgsz` pixels: the long side becomes `imgsz`, the short side
/// is rounded up. Small images are enlarged.
pub fn load_size(width: u32, height: u32, imgsz: u32) -> (u32, u32) {
    // In double precision and in this order, so that the rounding up falls as in the reference.
    let ratio = f64::from(imgsz) / f64::from(width.max(height).max(1));
    let side = |side: u32| ((f64::from(side) * ratio).ceil() as u32).clamp(1, imgsz.max(1));
    (side(width), side(height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constant_images_stay_constant() {
        for grey in [0, 1, 114, 254, 255] {
            let out = resize_bilinear(&Rgb8::filled(7, 5, grey), 13, 3);
            assert_eq!((out.width, out.height), (13, 3));
            assert!(out.data.iter().all(|&v| v == grey), "{grey}: {:?}", out.data);
        }
    }

    #[test]
    fn doubling_a_ramp_puts_quarters_between() {
        let ramp = Rgb8::new(2, 1, vec![0, 0, 0, 100, 100, 100]).unwrap();
        let out = resize_bilinear(&ramp, 4, 1);
        let reds: Vec<u8> = out.data.iter().copied().step_by(3).collect();
        assert_eq!(reds, [0, 25, 75, 100]);
    }

    #[test]
    fn halving_averages_four_pixels() {
        let source = Rgb8::new(2, 2, vec![10, 0, 0, 20, 0, 0, 30, 0, 0, 40, 0, 0]).unwrap();
        assert_eq!(resize_bilinear(&source, 1, 1).data, [25, 0, 0]);
    }

    #[test]
    fn the_taps_are_those_of_averaging() {
        let noise = |n: usize| (0..n).map(|i| (i.wrapping_mul(2_654_435_761) >> 7) as u8).collect();
        for (width, height, (left, top, w, h), side) in [
            (61, 47, (0, 0, 61, 47), 24),
            (61, 47, (5, 3, 40, 44), 32),
            (61, 47, (5, 3, 24, 44), 24),
            (61, 47, (5, 3, 44, 24), 24),
            (30, 33, (7, 9, 11, 13), 32),
            (20, 20, (0, 0, 20, 20), 20),
            (96, 64, (1, 2, 95, 62), 32),
            (336, 448, (13, 57, 301, 290), 224),
            (9, 9, (8, 8, 1, 1), 16),
        ] {
            let image = Rgb8::new(width, height, noise(width * height * 3)).unwrap();
            let area = (left as f64, top as f64, w as f64, h as f64);
            let expected = resize_averaging(&image, area, (side, side));
            let (x_bits, columns) = averaging_taps(width, (left, w), side).unwrap();
            let (y_bits, rows) = averaging_taps(height, (top, h), side).unwrap();
            let sum = |tap: &AveragingTap, bits: u32, value: &dyn Fn(usize) -> u8| {
                let products = (0..tap.count as usize)
                    .map(|i| i32::from(tap.weights[i]) * i32::from(value(tap.first as usize + i)));
                ((products.sum::<i32>() + (1 << (bits - 1))) >> bits).min(255) as u8
            };
            for (y, row) in rows.iter().enumerate() {
                for (x, column) in columns.iter().enumerate() {
                    for c in 0..3 {
                        let line = |x: usize| sum(row, y_bits, &|y| image.row(y)[x * 3 + c]);
                        let got = sum(column, x_bits, &line);
                        assert_eq!(got, expected.row(y)[x * 3 + c], "{area:?} at {side}: {x} {y} {c}");
                    }
                }
            }
        }
        assert!(averaging_taps(400, (0, 400), 40).is_none(), "too many taps");
    }

    #[test]
    fn long_side_becomes_the_network_size() {
        assert_eq!(load_size(810, 1080, 640), (480, 640));
        assert_eq!(load_size(1280, 719, 640), (640, 360));
        assert_eq!(load_size(400, 400, 416), (416, 416));
        assert_eq!(load_size(60_000, 1, 640), (640, 1));
    }
}
