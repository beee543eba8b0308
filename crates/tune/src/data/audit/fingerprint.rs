//! What tells whether two pictures are the same, or nearly.

use sha2::{Digest, Sha256};

/// Thumbnail cells a side.
const CELLS: usize = 16;
/// Mean RGB of the cells.
pub(super) const THUMBNAIL_BYTES: usize = CELLS * CELLS * 3;
pub(super) type Thumbnail = [u8; THUMBNAIL_BYTES];

/// A picture's marks, small enough that those of a million pictures fit into memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Marks {
    /// The first 16 bytes of the SHA-256 of size and 8-bit RGB pixels.
    pub exact: [u64; 2],
    /// Difference hash: a bit for each neighbouring pair in a 9 x 8 grey thumbnail, set where the right one is
    /// brighter (N. Krawetz, "Kind of Like That", 2013).
    pub difference: u64,
    /// Standard deviation of the thumbnail's grey values, 0 to 127.5.
    contrast: f32,
}

/// Pictures flatter than this look alike whatever they show.
const LEAST_CONTRAST: f32 = 4.0;
/// The largest mean difference of thumbnails of near pictures, in grey levels: recompression and scaling stay
/// below 3.
const MOST_DIFFERENCE: f32 = 6.0;
/// The least correlation of thumbnails of near pictures.
const LEAST_CORRELATION: f32 = 0.98;
/// The largest Hamming distance of difference hashes of near pictures.
pub(super) const MOST_BITS: u32 = 4;

impl Marks {
    /// The marks of a picture of `w` x `h` pixels, `w * h * 3` bytes RGB, and its thumbnail. Where it has more than those,
    /// `samples` are what must be equal.
    pub fn of(w: usize, h: usize, rgb: &[u8], samples: Option<&[u16]>) -> (Marks, Thumbnail) {
        let mut exact = Sha256::new();
        exact.update((w as u64).to_le_bytes());
        exact.update((h as u64).to_le_bytes());
        match samples {
            None => exact.update(rgb),
            Some(samples) => samples.iter().for_each(|v| exact.update(v.to_le_bytes())),
        }
        let digest: [u8; 32] = exact.finalize().into();
        let word = |i: usize| u64::from_le_bytes(std::array::from_fn(|k| digest[8 * i + k]));
        let grey: Vec<f32> = cells(rgb, w, h, 9, 8).iter().map(luma).collect();
        let pairs = grey.chunks_exact(9).flat_map(|row| row.windows(2));
        let difference = pairs.fold(0u64, |hash, pair| (hash << 1) | u64::from(pair[1] > pair[0]));
        let mut thumbnail = [0; THUMBNAIL_BYTES];
        let means = cells(rgb, w, h, CELLS, CELLS);
        for (out, mean) in thumbnail.as_chunks_mut::<3>().0.iter_mut().zip(&means) {
            *out = mean.map(|v| v.round() as u8);
        }
        let grey: Vec<f32> = means.iter().map(luma).collect();
        let contrast = covariance(&grey, &grey).sqrt();
        (Marks { exact: [word(0), word(1)], difference, contrast }, thumbnail)
    }

    /// Whether the marks allow that two pictures are near each other; their thumbnails decide.
    pub fn may_be_near(&self, other: &Marks) -> bool {
        (self.difference ^ other.difference).count_ones() <= MOST_BITS && !self.is_flat() && !other.is_flat()
    }

    /// Whether the other picture shows the same, but for scale, compression and slight retouching.
    pub fn is_near(&self, own: &Thumbnail, other: &Marks, others: &Thumbnail) -> bool {
        if !self.may_be_near(other) {
            return false;
        }
        let sum: u32 = own.iter().zip(others).map(|(a, b)| u32::from(a.abs_diff(*b))).sum();
        if sum as f32 > MOST_DIFFERENCE * THUMBNAIL_BYTES as f32 {
            return false;
        }
        let grey = |thumbnail: &Thumbnail| -> Vec<f32> {
            thumbnail.as_chunks::<3>().0.iter().map(|p| luma(&p.map(f32::from))).collect()
        };
        let correlation = covariance(&grey(own), &grey(others)) / (self.contrast * other.contrast);
        correlation >= LEAST_CORRELATION
    }

    /// Whether there is too little in the picture for likeness to mean anything.
    pub fn is_flat(&self) -> bool {
        self.contrast < LEAST_CONTRAST
    }
}

/// Grey value of an RGB mean (ITU-R BT.601).
fn luma(rgb: &[f32; 3]) -> f32 {
    0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]
}

fn covariance(a: &[f32], b: &[f32]) -> f32 {
    let n = a.len() as f32;
    let (ma, mb) = (a.iter().sum::<f32>() / n, b.iter().sum::<f32>() / n);
    a.iter().zip(b).map(|(x, y)| (x - ma) * (y - mb)).sum::<f32>() / n
}

/// Mean RGB, 0 to 255, of `columns` x `rows` cells, row by row. A picture smaller than the grid repeats pixels.
fn cells(rgb: &[u8], w: usize, h: usize, columns: usize, rows: usize) -> Vec<[f32; 3]> {
    let bounds = |i: usize, n: usize, size: usize| {
        let start = i * size / n;
        start..((i + 1) * size / n).max(start + 1)
    };
    let mut out = Vec::with_capacity(columns * rows);
    for row in 0..rows {
        let ys = bounds(row, rows, h);
        for column in 0..columns {
            let xs = bounds(column, columns, w);
            let mut sums = [0u64; 3];
            for y in ys.clone() {
                let line = &rgb[(y * w + xs.start) * 3..(y * w + xs.end) * 3];
                // A row of a cell has at most 2^32 / 255 pixels: sums of one row fit in 32 bits.
                let mut part = [0u32; 3];
                for pixel in line.as_chunks::<3>().0 {
                    for c in 0..3 {
                        part[c] += u32::from(pixel[c]);
                    }
                }
                for c in 0..3 {
                    sums[c] += u64::from(part[c]);
                }
            }
            let n = (xs.len() * ys.len()) as f32;
            out.push(sums.map(|s| s as f32 / n));
        }
    }
    out
}
