//! Pictures: file bytes -> pixels, upright.
//!
//! JPEG, PNG, WebP, BMP and TIFF. The EXIF orientation is applied, 16-bit samples are kept, and a cut-off file
//! is an error even where its decoder would fill the missing part with grey.

mod decode;
mod error;
mod format;
mod header;
mod jpeg;
#[cfg(test)]
mod tests;

pub use decode::{decode, read};
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
    /// 1 (grey), 3 (RGB) or 4 (RGB and alpha). Grey with alpha is widened to 4.
    pub channels: u8,
    /// `height * width * channels` samples.
    pub pixels: Pixels,
    /// What the file was, by its content.
    pub format: PictureFormat,
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

/// round(v / 257): 65535 = 255 * 257. The divisor is odd, so there are no ties.
fn narrow(v: u16) -> u8 {
    ((u32::from(v) + 128) / 257) as u8
}

fn rgb<T: Copy>(samples: &[T], channels: u8, to8: impl Fn(T) -> u8) -> Vec<u8> {
    match channels {
        1 => samples.iter().flat_map(|&v| [to8(v); 3]).collect(),
        4 => samples.chunks_exact(4).flat_map(|p| [to8(p[0]), to8(p[1]), to8(p[2])]).collect(),
        _ => samples.iter().map(|&v| to8(v)).collect(),
    }
}
