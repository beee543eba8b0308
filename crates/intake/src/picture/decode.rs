//! File bytes -> a [`Picture`].

use super::header::{
    Header, Inspected, check_end, check_length, decoder_error, decoder_limits, inspect, swaps_sides,
};
use super::{Picture, PictureError, PictureFormat, Pixels, dicom, pages};
use crate::limits::PICTURE_FILE_BYTES;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder, ImageReader};
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
    let Inspected { header, orientation } = checked(bytes, name)?;
    let picture = usual(bytes, name, &header, orientation)?;
    Ok(match picture.channels {
        2 => {
            let pixels = match picture.pixels {
                Pixels::U8(samples) => Pixels::U8(widen(samples)),
                Pixels::U16(samples) => Pixels::U16(widen(samples)),
            };
            Picture { channels: 4, pixels, ..picture }
        }
        _ => picture,
    })
}

/// Reads a picture with all its channels, upright: those of all pages of a TIFF file, one page's after the other's. The
/// pages must be alike; thumbnails and masks among them are passed over.
///
/// # Errors
/// As [`read`], and for pages that differ.
pub fn read_all(path: &Path) -> Result<Picture, PictureError> {
    decode_all(&contents(path)?, path)
}

/// As [`read_all`], of a file's bytes.
///
/// # Errors
/// As [`read_all`].
pub fn decode_all(bytes: &[u8], name: &Path) -> Result<Picture, PictureError> {
    let Inspected { header, orientation } = checked(bytes, name)?;
    if header.format == PictureFormat::Dicom {
        return medical(bytes, name, true);
    }
    if header.format != PictureFormat::Tiff || (header.pages == 1 && header.channels <= 4 && header.usual) {
        return usual(bytes, name, &header, orientation);
    }
    let (pixels, channels) = pages::decode(bytes, name)?;
    // The stored size: the header's is upright.
    let stored =
        if swaps_sides(orientation) { (header.height, header.width) } else { (header.width, header.height) };
    let count = channels as usize;
    let (width, height, pixels) = match pixels {
        Pixels::U8(samples) => {
            let (w, h, samples) = pages::upright(samples, stored, count, orientation);
            (w, h, Pixels::U8(samples))
        }
        Pixels::U16(samples) => {
            let (w, h, samples) = pages::upright(samples, stored, count, orientation);
            (w, h, Pixels::U16(samples))
        }
    };
    Ok(Picture { width, height, channels, pixels, format: header.format })
}

/// Reads a picture for a network of `channels` channels: with all channels of all pages where that is their number, else
/// the first page, where [`gives`] says that its channels can be made from it.
///
/// # Errors
/// As [`read_all`], and for a picture of other channels.
pub fn read_as(path: &Path, channels: u32) -> Result<Picture, PictureError> {
    decode_as(&contents(path)?, channels, path)
}

/// As [`read_as`], of a file's bytes.
///
/// # Errors
/// As [`read_as`].
pub fn decode_as(bytes: &[u8], channels: u32, name: &Path) -> Result<Picture, PictureError> {
    let Inspected { header, orientation } = checked(bytes, name)?;
    let all = header.all_channels();
    let picture = if all == channels && (header.pages > 1 || !header.usual) {
        decode_all(bytes, name)?
    } else if header.usual {
        usual(bytes, name, &header, orientation)?
    } else {
        return Err(PictureError::Channels { path: name.into(), found: all, wanted: channels });
    };
    match gives(picture.channels, channels) {
        true => Ok(picture),
        false => Err(PictureError::Channels { path: name.into(), found: all, wanted: channels }),
    }
}

/// Whether [`Picture::to_channels`] makes `to` channels of `from`.
pub fn gives(from: u32, to: u32) -> bool {
    from == to || matches!((from, to), (1 | 2, 3) | (2, 1) | (4, 3) | (3 | 4, 1))
}

fn checked(bytes: &[u8], name: &Path) -> Result<Inspected, PictureError> {
    check_length(bytes.len() as u64, name)?;
    let inspected = inspect(&mut Cursor::new(bytes), name, bytes.len() as u64)?;
    check_end(bytes, inspected.header.format, name)?;
    Ok(inspected)
}

/// A DICOM file: its first frame, or all frames as channels.
fn medical(bytes: &[u8], name: &Path, all: bool) -> Result<Picture, PictureError> {
    let (description, pixels, channels) = dicom::decode(bytes, name, all)?;
    let (width, height) = (description.width, description.height);
    Ok(Picture { width, height, channels, pixels, format: PictureFormat::Dicom })
}

/// By the general decoder, which knows pictures of one page and up to four channels.
fn usual(
    bytes: &[u8],
    name: &Path,
    header: &Header,
    orientation: Orientation,
) -> Result<Picture, PictureError> {
    let format = header.format;
    let Some(known) = format.as_image() else { return medical(bytes, name, false) };
    let mut reader = ImageReader::with_format(Cursor::new(bytes), known);
    reader.limits(decoder_limits());
    let decoder = reader.into_decoder().map_err(|e| decoder_error(e, name))?;
    // The header was held against the memory's cap: the decoder must have read the same size before it takes any.
    let (width, height) = decoder.dimensions();
    let upright = if swaps_sides(orientation) { (height, width) } else { (width, height) };
    if upright != (header.width, header.height) {
        let detail = format!(
            "it gives two sizes, {} x {} and {} x {}",
            header.width, header.height, upright.0, upright.1
        );
        return Err(PictureError::Corrupt { path: name.into(), detail });
    }
    let mut image = DynamicImage::from_decoder(decoder).map_err(|e| decoder_error(e, name))?;
    image.apply_orientation(orientation);
    let (width, height) = (image.width(), image.height());
    let (channels, pixels) = match image {
        DynamicImage::ImageLuma8(i) => (1, Pixels::U8(i.into_raw())),
        DynamicImage::ImageLumaA8(i) => (2, Pixels::U8(i.into_raw())),
        DynamicImage::ImageRgb8(i) => (3, Pixels::U8(i.into_raw())),
        DynamicImage::ImageRgba8(i) => (4, Pixels::U8(i.into_raw())),
        DynamicImage::ImageLuma16(i) => (1, Pixels::U16(i.into_raw())),
        DynamicImage::ImageLumaA16(i) => (2, Pixels::U16(i.into_raw())),
        DynamicImage::ImageRgb16(i) => (3, Pixels::U16(i.into_raw())),
        DynamicImage::ImageRgba16(i) => (4, Pixels::U16(i.into_raw())),
        other => {
            let detail = format!("its samples are {:?}, which have no fixed range", other.color());
            return Err(PictureError::Unsupported { path: name.into(), detail });
        }
    };
    Ok(Picture { width, height, channels, pixels, format })
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
