//! File bytes -> a [`Picture`].

use super::header::{Inspected, check_end, check_length, decoder_error, decoder_limits, inspect};
use super::{Picture, PictureError, Pixels};
use crate::limits::PICTURE_FILE_BYTES;
use image::{DynamicImage, ImageReader};
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

/// Reads and decodes a picture, upright.
///
/// # Errors
/// A missing, empty, cut-off, damaged or too large file, one that is no picture, or one of a format that is not
/// read.
pub fn read(path: &Path) -> Result<Picture, PictureError> {
    decode(&contents(path)?, path)
}

/// Decodes a picture file's bytes. `name` stands in errors only: the content decides the format.
///
/// # Errors
/// As [`read`].
pub fn decode(bytes: &[u8], name: &Path) -> Result<Picture, PictureError> {
    check_length(bytes.len() as u64, name)?;
    let Inspected { header, orientation } = inspect(&mut Cursor::new(bytes), name, bytes.len() as u64)?;
    check_end(bytes, header.format, name)?;
    let mut reader = ImageReader::with_format(Cursor::new(bytes), header.format.as_image());
    reader.limits(decoder_limits());
    let decoder = reader.into_decoder().map_err(|e| decoder_error(e, name))?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(|e| decoder_error(e, name))?;
    image.apply_orientation(orientation);
    let (width, height) = (image.width(), image.height());
    let (channels, pixels) = match image {
        DynamicImage::ImageLuma8(i) => (1, Pixels::U8(i.into_raw())),
        DynamicImage::ImageLumaA8(i) => (4, Pixels::U8(widen(i.into_raw()))),
        DynamicImage::ImageRgb8(i) => (3, Pixels::U8(i.into_raw())),
        DynamicImage::ImageRgba8(i) => (4, Pixels::U8(i.into_raw())),
        DynamicImage::ImageLuma16(i) => (1, Pixels::U16(i.into_raw())),
        DynamicImage::ImageLumaA16(i) => (4, Pixels::U16(widen(i.into_raw()))),
        DynamicImage::ImageRgb16(i) => (3, Pixels::U16(i.into_raw())),
        DynamicImage::ImageRgba16(i) => (4, Pixels::U16(i.into_raw())),
        other => {
            let detail = format!("its samples are {:?}, which have no fixed range", other.color());
            return Err(PictureError::Unsupported { path: name.into(), detail });
        }
    };
    Ok(Picture { width, height, channels, pixels, format: header.format })
}

/// Grey and alpha -> RGB and alpha.
fn widen<T: Copy>(samples: Vec<T>) -> Vec<T> {
    samples.chunks_exact(2).flat_map(|p| [p[0], p[0], p[0], p[1]]).collect()
}

/// The file's bytes; a file that grows past the cap while it is read is refused too.
pub(super) fn contents(path: &Path) -> Result<Vec<u8>, PictureError> {
    let read_error = |source| PictureError::Read { path: path.into(), source };
    let file = File::open(path).map_err(read_error)?;
    let length = file.metadata().map_err(read_error)?.len();
    check_length(length, path)?;
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(PICTURE_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(read_error)?;
    check_length(bytes.len() as u64, path)?;
    Ok(bytes)
}
