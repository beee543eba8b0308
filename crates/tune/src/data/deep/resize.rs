//! Resizing of images of 16 bits: the sampling points of [`crate::data::resize`], in float32.

use super::Deep;

/// The input samples of one output sample along one axis, and their shares.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

/// The two nearest; the centre of output pixel i lies at (i + 0.5) * in / out - 0.5, and taps beyond the edge repeat it.
fn nearest_two(input: usize, output: usize) -> Vec<Taps> {
    let scale = input as f64 / output as f64;
    let tap = |i: usize| {
        let centre = (i as f64 + 0.5) * scale - 0.5;
        let first = centre.floor().clamp(0.0, (input - 1) as f64);
        let share = if first as usize + 1 < input { (centre - first).clamp(0.0, 1.0) as f32 } else { 0.0 };
        let weights = if share > 0.0 { vec![1.0 - share, share] } else { vec![1.0] };
        Taps { first: first as usize, weights }
    };
    (0..output).map(tap).collect()
}

/// All that the output pixel covers of `length` pixels from `start` on, with a triangle's weights; two where it covers less
/// than one.
fn covered(input: usize, (start, length): (f64, f64), output: usize) -> Vec<Taps> {
    let scale = length / output as f64;
    let reach = scale.max(1.0);
    let tap = |i: usize| {
        let centre = start + (i as f64 + 0.5) * scale;
        let first = ((centre - reach + 0.5).floor().max(0.0) as usize).min(input - 1);
        let end = ((centre + reach + 0.5).floor() as usize).clamp(first + 1, input);
        let weight = |k: usize| (1.0 - ((k as f64 + 0.5 - centre) / reach).abs()).max(0.0);
        let sum: f64 = (first..end).map(weight).sum();
        let weights = match sum > 0.0 {
            true => (first..end).map(|k| (weight(k) / sum) as f32).collect(),
            false => vec![1.0],
        };
        Taps { first, weights }
    };
    (0..output).map(tap).collect()
}

/// Along the rows, then along the columns; rounded once.
fn resampled(source: &Deep, columns: &[Taps], rows: &[Taps]) -> Deep {
    let (channels, width, height) = (source.channels, columns.len(), rows.len());
    let stride = width * channels;
    let from = rows.iter().map(|tap| tap.first).min().unwrap_or(0);
    let to = rows.iter().map(|tap| tap.first + tap.weights.len()).max().unwrap_or(0);
    let mut lines = vec![0.0f32; (to - from) * stride];
    for (y, line) in (from..to).zip(lines.chunks_exact_mut(stride)) {
        let row = source.row(y);
        for (tap, out) in columns.iter().zip(line.chunks_exact_mut(channels)) {
            for (k, &weight) in tap.weights.iter().enumerate() {
                let at = (tap.first + k) * channels;
                out.iter_mut()
                    .zip(&row[at..at + channels])
                    .for_each(|(out, &v)| *out += weight * f32::from(v));
            }
        }
    }
    let mut data = Vec::with_capacity(height * stride);
    let mut sums = vec![0.0f32; stride];
    for tap in rows {
        sums.fill(0.0);
        for (k, &weight) in tap.weights.iter().enumerate() {
            let at = (tap.first + k - from) * stride;
            sums.iter_mut().zip(&lines[at..at + stride]).for_each(|(sum, &v)| *sum += weight * v);
        }
        data.extend(sums.iter().map(|&v| v.round_ties_even() as u16));
    }
    Deep { width, height, channels, data }
}

/// The image at `width` x `height` pixels (both at least 1), bilinear between the nearest pixels.
pub fn resize_bilinear(source: &Deep, width: usize, height: usize) -> Deep {
    if (source.width, source.height) == (width, height) {
        return source.clone();
    }
    resampled(source, &nearest_two(source.width, width), &nearest_two(source.height, height))
}

/// A part `(left, top, width, height)` of the image at `size` pixels, each the weighted mean of all that it covers.
pub fn resize_averaging(
    source: &Deep,
    (left, top, width, height): (f64, f64, f64, f64),
    size: (usize, usize),
) -> Deep {
    let columns = covered(source.width, (left, width), size.0);
    let rows = covered(source.height, (top, height), size.1);
    resampled(source, &columns, &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::raster::Rgb8;
    use crate::data::resize;
    use crate::data::rng::{Draw, Purpose};

    /// The same image in 8 bits and over 16.
    fn both(width: usize, height: usize) -> (Rgb8, Deep) {
        let mut draw = Draw::new(3, 0, 0, Purpose::Init);
        let data: Vec<u8> = (0..width * height * 3).map(|_| draw.bits() as u8).collect();
        let deep =
            Deep { width, height, channels: 3, data: data.iter().map(|&v| u16::from(v) * 257).collect() };
        (Rgb8 { width, height, data }, deep)
    }

    fn alike(rgb: &Rgb8, deep: &Deep, most: f32) {
        assert_eq!((rgb.width, rgb.height), (deep.width, deep.height));
        for (&a, &b) in rgb.data.iter().zip(&deep.data) {
            assert!((f32::from(a) - f32::from(b) / 257.0).abs() <= most, "{a} {b}");
        }
    }

    #[test]
    fn sampling_points_are_those_of_8_bits() {
        let (rgb, deep) = both(37, 23);
        for (w, h) in [(37, 23), (64, 50), (20, 11), (37, 12), (1, 1)] {
            // Half a step for the other's rounding, and its weights of 1/2048.
            alike(&resize::resize_bilinear(&rgb, w, h), &resize_bilinear(&deep, w, h), 0.9);
        }
        for area in [(0.0, 0.0, 37.0, 23.0), (4.0, 3.0, 20.0, 15.0)] {
            for size in [(12, 9), (37, 23), (60, 30)] {
                let other = resize::resize_averaging(&rgb, area, size);
                alike(&other, &resize_averaging(&deep, area, size), 1.1);
            }
        }
    }

    #[test]
    fn sixteen_bits_are_not_cut_to_eight() {
        let ramp = Deep::new(2, 1, 1, vec![1000, 1004]).unwrap();
        assert_eq!(resize_bilinear(&ramp, 4, 1).data, [1000, 1001, 1003, 1004]);
        let five = Deep::filled(4, 4, 5, 54_321);
        assert!(resize_averaging(&five, (0.0, 0.0, 4.0, 4.0), (3, 2)).data.iter().all(|&v| v == 54_321));
    }
}
