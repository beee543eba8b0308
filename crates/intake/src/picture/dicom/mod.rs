//! DICOM images (.dcm): uncompressed (implicit and explicit little endian), run lengths and baseline JPEG.
//!
//! Of the file only the description of the pixels is read (group 0028); nothing of the patient is kept or told. Grey values
//! go through the rescale slope and intercept, then through the file's first window (PS3.3, C.11.2) where it has one; without
//! a window the whole range of the stored bits becomes 0 to 65535. MONOCHROME1, in which small values are bright, is
//! inverted. Frames are pages, as those of TIFF files.

mod elements;
mod rle;
#[cfg(test)]
mod tests;
mod values;

use std::io::{BufRead, Cursor, Seek};
use std::path::Path;

use image::{DynamicImage, ImageFormat, ImageReader};

use self::elements::{ElementFault, Elements, PixelPlace};
use self::values::{Grey, Meaning};
use super::header::decoder_limits;
use super::{PictureError, Pixels};
use crate::limits::{PICTURE_CHANNELS, PICTURE_MEMORY_BYTES};

/// What the pixels are.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Description {
    pub width: u32,
    pub height: u32,
    /// 1 or 3.
    pub samples: u32,
    pub frames: u32,
    /// 8 or 16.
    allocated: u32,
    /// In planes, not side by side.
    planar: bool,
    meaning: Meaning,
}

impl Description {
    /// Bits of a sample as [`decode`] gives it.
    pub fn bits(&self) -> u8 {
        match &self.meaning {
            Meaning::Grey(grey) if !grey.is_plain() => 16,
            _ => 8,
        }
    }
}

/// Reads the description, and looks whether the pixels reach their end where that shows.
pub(super) fn inspect<R: BufRead + Seek>(
    r: &mut R,
    path: &Path,
    total: u64,
) -> Result<Description, PictureError> {
    let elements = elements::read(r, total).map_err(|e| fault(e, path))?;
    describe(&elements, path)
}

/// The samples of the first frame, or of all frames with their channels side by side; and their number.
pub(super) fn decode(
    bytes: &[u8],
    path: &Path,
    all: bool,
) -> Result<(Description, Pixels, u32), PictureError> {
    let elements = elements::read(&mut Cursor::new(bytes), bytes.len() as u64).map_err(|e| fault(e, path))?;
    let description = describe(&elements, path)?;
    let frames = if all { description.frames } else { 1 };
    let area = u64::from(description.width) * u64::from(description.height);
    let channels = description.samples.saturating_mul(frames);
    // Stored and made, two bytes each at most, and what they are woven into.
    let needed = area.saturating_mul(u64::from(channels)).saturating_mul(6);
    if needed > PICTURE_MEMORY_BYTES || channels > PICTURE_CHANNELS {
        let (width, height, limit) = (description.width, description.height, PICTURE_MEMORY_BYTES);
        return Err(PictureError::TooLarge { path: path.into(), width, height, needed, limit });
    }
    let place = elements.pixels.expect("described files have pixels");
    let pieces = match place {
        PixelPlace::Encapsulated { at } => pieces(bytes, at, &description, path)?,
        PixelPlace::Native { .. } => Vec::new(),
    };
    let size = (area * u64::from(description.samples * description.allocated / 8)) as usize;
    let one = |frame: usize| -> Result<Pixels, PictureError> {
        match place {
            PixelPlace::Native { at, bytes: length } => {
                if (frame + 1) * size > length as usize {
                    let detail = "its pixels are fewer than it says".into();
                    return Err(PictureError::Truncated { path: path.into(), detail });
                }
                let start = at as usize + frame * size;
                Ok(description.made(&bytes[start..start + size], description.planar))
            }
            PixelPlace::Encapsulated { .. } if elements.syntax.ends_with(".4.50") => {
                jpeg(&pieces[frame], &description, path)
            }
            PixelPlace::Encapsulated { .. } => {
                let segments = (description.samples * description.allocated / 8) as usize;
                let bytes = rle::unpack(&pieces[frame], segments, area as usize)
                    .ok_or_else(|| corrupt(path, "a frame's run lengths are wrong"))?;
                Ok(description.made(&description.bytes_in_order(&bytes, area as usize), true))
            }
        }
    };
    let made: Vec<Pixels> = (0..frames as usize).map(one).collect::<Result<_, _>>()?;
    Ok((description, super::pages::interleaved(made, area as usize), channels))
}

impl Description {
    /// Planes of bytes, most significant first -> planes of little-endian samples.
    fn bytes_in_order(&self, planes: &[u8], area: usize) -> Vec<u8> {
        if self.allocated == 8 {
            return planes.to_vec();
        }
        let pairs = planes.chunks_exact(2 * area);
        pairs.flat_map(|pair| (0..area).flat_map(|i| [pair[area + i], pair[i]])).collect()
    }

    /// The samples of one frame from its stored bytes.
    fn made(&self, stored: &[u8], planar: bool) -> Pixels {
        match &self.meaning {
            Meaning::Grey(grey) => {
                let words: Vec<u16> = match self.allocated {
                    8 => stored.iter().map(|&b| b.into()).collect(),
                    _ => stored.as_chunks::<2>().0.iter().map(|&pair| u16::from_le_bytes(pair)).collect(),
                };
                grey.apply(&words)
            }
            Meaning::Rgb => Pixels::U8(side_by_side(stored, planar)),
            Meaning::YbrFull => {
                let ybr = side_by_side(stored, planar);
                Pixels::U8(ybr.as_chunks::<3>().0.iter().flat_map(|&pixel| values::rgb_of(pixel)).collect())
            }
        }
    }
}

fn side_by_side(stored: &[u8], planar: bool) -> Vec<u8> {
    if !planar {
        return stored.to_vec();
    }
    let area = stored.len() / 3;
    (0..area).flat_map(|i| [stored[i], stored[area + i], stored[2 * area + i]]).collect()
}

/// The bytes of each frame of encapsulated pixels.
fn pieces(
    bytes: &[u8],
    at: u64,
    description: &Description,
    path: &Path,
) -> Result<Vec<Vec<u8>>, PictureError> {
    let fragments = elements::fragments(bytes, at).map_err(|e| fault(e, path))?;
    let Some((_, fragments)) = fragments.split_first() else {
        return Err(corrupt(path, "its pixels have no table of offsets"));
    };
    match description.frames as usize {
        1 => Ok(vec![fragments.concat()]),
        frames if frames == fragments.len() => Ok(fragments.iter().map(|f| f.to_vec()).collect()),
        frames => {
            let detail = format!("its {frames} frames lie in {} pieces", fragments.len());
            Err(PictureError::Unsupported { path: path.into(), detail })
        }
    }
}

fn jpeg(file: &[u8], description: &Description, path: &Path) -> Result<Pixels, PictureError> {
    let mut reader = ImageReader::with_format(Cursor::new(file), ImageFormat::Jpeg);
    reader.limits(decoder_limits());
    let image = reader.decode().map_err(|e| super::header::decoder_error(e, path))?;
    if (image.width(), image.height()) != (description.width, description.height) {
        return Err(corrupt(path, "a frame has another size than the file says"));
    }
    Ok(match (&description.meaning, image) {
        (Meaning::Grey(grey), DynamicImage::ImageLuma8(image)) => {
            grey.apply(&image.into_raw().into_iter().map(u16::from).collect::<Vec<u16>>())
        }
        (Meaning::YbrFull | Meaning::Rgb, DynamicImage::ImageRgb8(image)) => Pixels::U8(image.into_raw()),
        _ => return Err(corrupt(path, "a frame has other channels than the file says")),
    })
}

fn describe(elements: &Elements, path: &Path) -> Result<Description, PictureError> {
    let unsupported = |detail: String| PictureError::Unsupported { path: path.into(), detail };
    let number = |element: u16| values::number(elements, element);
    if elements.pixels.is_none() {
        return Err(unsupported("it is a DICOM file without an image".into()));
    }
    let missing = || corrupt(path, "it does not say how large its image is");
    let (height, width) = (number(0x0010).ok_or_else(missing)?, number(0x0011).ok_or_else(missing)?);
    let allocated = number(0x0100).ok_or_else(missing)?;
    if width == 0 || height == 0 {
        return Err(missing());
    }
    if ![8, 16].contains(&allocated) {
        return Err(unsupported(format!("its samples take {allocated} bits, not 8 or 16")));
    }
    let samples = number(0x0002).unwrap_or(1);
    let frames = match values::text(elements, 0x0008) {
        None => 1,
        Some(text) => text
            .trim()
            .parse()
            .ok()
            .filter(|&n: &u32| n > 0)
            .ok_or_else(|| corrupt(path, "its number of frames is no number"))?,
    };
    let photometric = values::text(elements, 0x0004).unwrap_or_default();
    let is_jpeg = elements.syntax.ends_with(".4.50");
    let meaning = match (photometric.trim(), samples, allocated) {
        ("MONOCHROME1" | "MONOCHROME2", 1, _) => {
            if elements.sequences.contains(&(0x0028, 0x3000)) {
                return Err(unsupported("its values go through a table (modality LUT)".into()));
            }
            Meaning::Grey(
                Grey::of(elements, allocated, photometric.trim() == "MONOCHROME1")
                    .map_err(|e| corrupt(path, e))?,
            )
        }
        // A JPEG's colours are converted by its own decoder, which takes them for YCbCr.
        ("RGB", 3, 8) if !is_jpeg => Meaning::Rgb,
        ("YBR_FULL", 3, 8) => Meaning::YbrFull,
        ("YBR_FULL_422", 3, 8) if is_jpeg => Meaning::YbrFull,
        (other, ..) => {
            // One of the standard's words, or nothing that is repeated.
            let plain = other.len() <= 16
                && other
                    .bytes()
                    .all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_' || b == b' ');
            let what = if plain { other } else { "unknown" };
            return Err(unsupported(format!(
                "its colours are {what} in {samples} sample(s) of {allocated} bits"
            )));
        }
    };
    let planar = samples == 3 && number(0x0006) == Some(1);
    let description = Description { width, height, samples, frames, allocated, planar, meaning };
    if let Some(PixelPlace::Native { bytes, .. }) = elements.pixels {
        let area = u64::from(width) * u64::from(height);
        let frame = area * u64::from(samples * allocated / 8);
        if frame.saturating_mul(frames.into()) > u64::from(bytes) {
            let detail = "its pixels are fewer than it says".into();
            return Err(PictureError::Truncated { path: path.into(), detail });
        }
    }
    Ok(description)
}

fn corrupt(path: &Path, detail: &str) -> PictureError {
    PictureError::Corrupt { path: path.into(), detail: detail.into() }
}

fn fault(fault: ElementFault, path: &Path) -> PictureError {
    let path = path.into();
    match fault {
        ElementFault::Io(source) => PictureError::Read { path, source },
        ElementFault::Truncated => {
            PictureError::Truncated { path, detail: "the file ends amid its elements".into() }
        }
        ElementFault::Corrupt(detail) => PictureError::Corrupt { path, detail: detail.into() },
        ElementFault::Unsupported(detail) => PictureError::Unsupported { path, detail },
    }
}
