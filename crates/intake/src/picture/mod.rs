//! Pictures: file bytes -> pixels, upright.
//!
//! JPEG, PNG, WebP, BMP, TIFF and DICOM. The EXIF orientation is applied, 16-bit samples are kept, and a cut-off file
//! is an error even where its decoder would fill the missing part with grey.

mod decode;
mod dicom;
mod error;
mod format;
mod header;
mod jpeg;
mod pages;
#[cfg(test)]
mod tests;

pub use decode::{decode, decode_all, decode_as, gives, read, read_all, read_as};
pub use error::PictureError;
pub use format::{PictureFormat, is_picture_name};
pub use header::{Header, dimensions, header_of, probe};

/// The samples of a [`Picture`], row by row, channels interleaved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pixels {
    /// 8 bits a sample, 0 to 255.
    U8(Vec<u8>),
    /// 16 bits a sample, 0 to 65535.
    U16(Vec<u16>),
}

/// A decoded picture, upright (EXIF orientation applied).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// Pixels a row.
    pub width: u32,
    /// Rows.
    pub height: u32,
    /// 1 (grey), 3 (RGB) or 4 (RGB and alpha). Grey with alpha is widened to 4. Of [`read_all`]: as many as the file has.
    pub channels: u32,
    /// `height * width * channels` samples.
    pub pixels: Pixels,
    /// What the file was, by its content.
    pub format: PictureFormat,
}

impl Pixels {
    /// Samples in all.
    pub fn len(&self) -> usize {
        match self {
            Pixels::U8(samples) => samples.len(),
            Pixels::U16(samples) => samples.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Picture {
    /// The picture as RGB of 8 bits: `height * width * 3` bytes, row by row.
    ///
    /// Grey is repeated in the three channels. 16 bits become 8 over the full range, round(v / 257), so that 65535
    /// becomes 255. Alpha is dropped, not blended: a transparent pixel keeps its stored colour, as OpenCV's colour
    /// mode (which the reference reads with) leaves it.
    pub fn to_rgb8(&self) -> Vec<u8> {
        match &self.pixels {
            Pixels::U8(samples) => rgb(samples, self.channels, |v| v),
            Pixels::U16(samples) => rgb(samples, self.channels, narrow),
        }
    }

    /// As [`Picture::to_rgb8`], without a copy where the picture is 8-bit RGB already.
    pub fn into_rgb8(self) -> Vec<u8> {
        match self.pixels {
            Pixels::U8(samples) if self.channels == 3 => samples,
            _ => self.to_rgb8(),
        }
    }
}

impl Picture {
    /// The picture (of [`read_all`]) with `channels` channels of 16 bits: `height * width * channels` samples. 8 bits become
    /// 16 over the full range, v * 257, so that 255 becomes 65535. As many channels as the picture has are taken as they
    /// are. For others: grey is repeated in three; colour becomes one grey by ITU-R BT.601, as OpenCV's grey mode (which the
    /// reference reads with) makes it; alpha is dropped. `None` where the picture has other channels than that.
    pub fn to_channels(&self, channels: u32) -> Option<Vec<u16>> {
        match &self.pixels {
            Pixels::U8(samples) => rechannelled(samples, self.channels, channels, |v| u16::from(v) * 257),
            Pixels::U16(samples) => rechannelled(samples, self.channels, channels, |v| v),
        }
    }
}

fn rechannelled<T: Copy>(samples: &[T], from: u32, to: u32, wide: impl Fn(T) -> u16) -> Option<Vec<u16>> {
    let pixels = samples.chunks_exact(from.max(1) as usize);
    Some(match (from, to) {
        _ if from == to => samples.iter().map(|&v| wide(v)).collect(),
        (1 | 2, 3) => pixels.flat_map(|p| [wide(p[0]); 3]).collect(),
        (2, 1) => pixels.map(|p| wide(p[0])).collect(),
        (4, 3) => pixels.flat_map(|p| [wide(p[0]), wide(p[1]), wide(p[2])]).collect(),
        (3 | 4, 1) => pixels.map(|p| grey([wide(p[0]), wide(p[1]), wide(p[2])])).collect(),
        _ => return None,
    })
}

/// .299 R + .587 G + .114 B in units of 2^-16.
fn grey([r, g, b]: [u16; 3]) -> u16 {
    ((u64::from(r) * 19595 + u64::from(g) * 38470 + u64::from(b) * 7471 + (1 << 15)) >> 16) as u16
}

/// round(v / 257): 65535 = 255 * 257. The divisor is odd, so there are no ties.
fn narrow(v: u16) -> u8 {
    ((u32::from(v) + 128) / 257) as u8
}

fn rgb<T: Copy>(samples: &[T], channels: u32, to8: impl Fn(T) -> u8) -> Vec<u8> {
    match channels {
        2 => samples.chunks_exact(2).flat_map(|p| [to8(p[0]); 3]).collect(),
        1 => samples.iter().flat_map(|&v| [to8(v); 3]).collect(),
        4 => samples.chunks_exact(4).flat_map(|p| [to8(p[0]), to8(p[1]), to8(p[2])]).collect(),
        _ => samples.iter().map(|&v| to8(v)).collect(),
    }
}
