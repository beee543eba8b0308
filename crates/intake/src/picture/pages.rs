//! TIFF files of several pages and of any number of samples a pixel, which the general decoder does not read: the pages
//! become channels, as the reference's users keep multispectral pictures.

use std::io::{Cursor, Read, Seek};
use std::path::Path;

use image::metadata::Orientation;
use tiff::ColorType;
use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;

use super::{PictureError, Pixels};
use crate::limits::{PICTURE_CHANNELS, PICTURE_MEMORY_BYTES, PICTURE_PAGES};

/// What the directories of a TIFF file say.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sheets {
    /// Pixels a row, as stored.
    pub width: u32,
    /// Rows, as stored.
    pub height: u32,
    /// Samples a pixel of the first page.
    pub channels: u32,
    /// Bits a sample, of the first page.
    pub bits: u8,
    /// Pages of the picture itself: thumbnails and masks are none.
    pub pages: u32,
    pub orientation: Orientation,
    /// Whether the general decoder knows the first page's samples.
    pub usual: bool,
}

/// What a page is.
#[derive(Clone, Copy, PartialEq)]
struct Page {
    size: (u32, u32),
    color: ColorType,
    orientation: Orientation,
}

/// Reads the directories, no pixels.
pub(super) fn inspect<R: Read + Seek>(r: R, path: &Path) -> Result<Sheets, PictureError> {
    let mut decoder = open(r, path)?;
    let first = page(&mut decoder, path)?;
    let (mut directories, mut pages) = (1, 1);
    while next(&mut decoder, path)? {
        directories += 1;
        if directories > PICTURE_PAGES {
            let detail = format!("it has more than {PICTURE_PAGES} pages");
            return Err(PictureError::Unsupported { path: path.into(), detail });
        }
        if !is_aside(&mut decoder, path)? {
            pages += 1;
        }
    }
    let (channels, bits, usual) = match first.color {
        ColorType::Gray(bits) => (1, bits, true),
        ColorType::GrayA(bits) => (2, bits, true),
        ColorType::RGB(bits) | ColorType::Palette(bits) | ColorType::CMYK(bits) | ColorType::YCbCr(bits) => {
            (3, bits, true)
        }
        ColorType::RGBA(bits) => (4, bits, true),
        ColorType::Multiband { bit_depth, num_samples } => (u32::from(num_samples), bit_depth, false),
        _ => (3, 8, true),
    };
    let (width, height) = first.size;
    Ok(Sheets { width, height, channels, bits, pages, orientation: first.orientation, usual })
}

/// All samples of all pages, channels interleaved, and their number; as stored, before the orientation.
pub(super) fn decode(bytes: &[u8], path: &Path) -> Result<(Pixels, u32), PictureError> {
    let unsupported = |detail: String| PictureError::Unsupported { path: path.into(), detail };
    let mut decoder = open(Cursor::new(bytes), path)?;
    let first = page(&mut decoder, path)?;
    let channels = match first.color {
        ColorType::Gray(8 | 16) => 1,
        ColorType::GrayA(8 | 16) => 2,
        ColorType::RGB(8 | 16) => 3,
        ColorType::RGBA(8 | 16) => 4,
        ColorType::Multiband { bit_depth: 8 | 16, num_samples } => u32::from(num_samples),
        other => return Err(unsupported(format!("its pages have samples of the kind {other:?}"))),
    };
    let area = u64::from(first.size.0) * u64::from(first.size.1);
    let mut sheets: Vec<Pixels> = Vec::new();
    loop {
        let here = page(&mut decoder, path)?;
        if here != first {
            let (w, h) = here.size;
            return Err(unsupported(format!(
                "page {} has {w} x {h} pixels of {:?} and the first {} x {} of {:?}, but pages must be alike",
                sheets.len() + 1,
                here.color,
                first.size.0,
                first.size.1,
                first.color
            )));
        }
        // Twice: the pages, and what they are interleaved into.
        let needed = 2 * area * u64::from(channels) * 2 * (sheets.len() as u64 + 1);
        if needed > PICTURE_MEMORY_BYTES || channels * (sheets.len() as u32 + 1) > PICTURE_CHANNELS {
            let (width, height, limit) = (first.size.0, first.size.1, PICTURE_MEMORY_BYTES);
            return Err(PictureError::TooLarge { path: path.into(), width, height, needed, limit });
        }
        sheets.push(samples(&mut decoder, area as usize, channels as usize, path)?);
        loop {
            if !next(&mut decoder, path)? {
                let total = channels * sheets.len() as u32;
                return Ok((interleaved(sheets, area as usize), total));
            }
            if !is_aside(&mut decoder, path)? {
                break;
            }
        }
    }
}

/// The current page's samples, channels interleaved.
fn samples<R: Read + Seek>(
    decoder: &mut Decoder<R>,
    area: usize,
    channels: usize,
    path: &Path,
) -> Result<Pixels, PictureError> {
    let planar =
        decoder.find_tag_unsigned::<u16>(Tag::PlanarConfiguration).map_err(|e| fault(e, path))? == Some(2);
    let mut buffer = DecodingResult::U8(Vec::new());
    decoder.read_image_to_buffer(&mut buffer).map_err(|e| fault(e, path))?;
    let pixels = match buffer {
        DecodingResult::U8(samples) => Pixels::U8(samples),
        DecodingResult::U16(samples) => Pixels::U16(samples),
        _ => {
            let detail = "its samples are signed or fractions, which have no fixed range".into();
            return Err(PictureError::Unsupported { path: path.into(), detail });
        }
    };
    if pixels.len() != area * channels {
        let detail = format!("a page holds {} samples, not {}", pixels.len(), area * channels);
        return Err(PictureError::Corrupt { path: path.into(), detail });
    }
    let planes = |count: usize, pixels| match pixels {
        Pixels::U8(all) => {
            interleaved(all.chunks_exact(area).map(|p| Pixels::U8(p.to_vec())).collect(), count)
        }
        Pixels::U16(all) => {
            interleaved(all.chunks_exact(area).map(|p| Pixels::U16(p.to_vec())).collect(), count)
        }
    };
    Ok(if planar && channels > 1 { planes(area, pixels) } else { pixels })
}

/// Pages of `area` pixels and equally many channels of one kind -> their channels side by side.
pub(super) fn interleaved(pages: Vec<Pixels>, area: usize) -> Pixels {
    fn woven<T: Copy + Default>(pages: &[&Vec<T>], area: usize) -> Vec<T> {
        let each = pages.first().map_or(0, |page| page.len() / area.max(1));
        let mut out = vec![T::default(); pages.len() * each * area];
        for (p, page) in pages.iter().enumerate() {
            for (to, from) in out.chunks_exact_mut(pages.len() * each).zip(page.chunks_exact(each)) {
                to[p * each..(p + 1) * each].copy_from_slice(from);
            }
        }
        out
    }
    if let [_] = pages[..] {
        return pages.into_iter().next().expect("there is one");
    }
    let bytes: Vec<&Vec<u8>> =
        pages.iter().filter_map(|p| if let Pixels::U8(v) = p { Some(v) } else { None }).collect();
    let words: Vec<&Vec<u16>> =
        pages.iter().filter_map(|p| if let Pixels::U16(v) = p { Some(v) } else { None }).collect();
    if words.is_empty() { Pixels::U8(woven(&bytes, area)) } else { Pixels::U16(woven(&words, area)) }
}

fn open<R: Read + Seek>(r: R, path: &Path) -> Result<Decoder<R>, PictureError> {
    let mut limits = Limits::default();
    limits.decoding_buffer_size = PICTURE_MEMORY_BYTES as usize;
    limits.intermediate_buffer_size = PICTURE_MEMORY_BYTES as usize;
    limits.ifd_value_size = PICTURE_MEMORY_BYTES as usize / 8;
    Ok(Decoder::new(r).map_err(|e| fault(e, path))?.with_limits(limits))
}

fn page<R: Read + Seek>(decoder: &mut Decoder<R>, path: &Path) -> Result<Page, PictureError> {
    let failed = |e| fault(e, path);
    let size = decoder.dimensions().map_err(failed)?;
    let color = decoder.colortype().map_err(failed)?;
    let orientation = decoder.find_tag_unsigned::<u16>(Tag::Orientation).map_err(failed)?;
    let orientation = orientation.and_then(|v| Orientation::from_exif(v.min(255) as u8));
    Ok(Page { size, color, orientation: orientation.unwrap_or(Orientation::NoTransforms) })
}

/// Goes to the next directory, where there is one.
fn next<R: Read + Seek>(decoder: &mut Decoder<R>, path: &Path) -> Result<bool, PictureError> {
    if !decoder.more_images() {
        return Ok(false);
    }
    decoder.next_image().map_err(|e| fault(e, path))?;
    Ok(true)
}

/// Whether the current directory is a thumbnail or a mask of another: bits 0 and 2 of NewSubfileType.
fn is_aside<R: Read + Seek>(decoder: &mut Decoder<R>, path: &Path) -> Result<bool, PictureError> {
    let kind = decoder.find_tag_unsigned::<u32>(Tag::NewSubfileType).map_err(|e| fault(e, path))?;
    Ok(kind.is_some_and(|kind| kind & 0b101 != 0))
}

fn fault(error: tiff::TiffError, path: &Path) -> PictureError {
    super::header::decoder_error(tiff_error(error), path)
}

/// The general decoder sorts the same errors: it wraps them so.
fn tiff_error(error: tiff::TiffError) -> image::ImageError {
    use image::error::{
        DecodingError, ImageFormatHint, LimitError, LimitErrorKind, UnsupportedError, UnsupportedErrorKind,
    };
    let hint = || ImageFormatHint::Exact(image::ImageFormat::Tiff);
    match error {
        tiff::TiffError::IoError(e) => image::ImageError::IoError(e),
        tiff::TiffError::UnsupportedError(e) => {
            image::ImageError::Unsupported(UnsupportedError::from_format_and_kind(
                hint(),
                UnsupportedErrorKind::GenericFeature(e.to_string()),
            ))
        }
        tiff::TiffError::LimitsExceeded => {
            image::ImageError::Limits(LimitError::from_kind(LimitErrorKind::InsufficientMemory))
        }
        e => image::ImageError::Decoding(DecodingError::new(hint(), e)),
    }
}

/// The pixels turned upright: the new width and height, and the samples.
pub(super) fn upright<T: Copy>(
    samples: Vec<T>,
    (width, height): (u32, u32),
    channels: usize,
    orientation: Orientation,
) -> (u32, u32, Vec<T>) {
    use Orientation::*;
    let (w, h) = (width as usize, height as usize);
    let turned = matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH);
    if orientation == NoTransforms {
        return (width, height, samples);
    }
    let (new_w, new_h) = if turned { (h, w) } else { (w, h) };
    let mut out = Vec::with_capacity(samples.len());
    for y in 0..new_h {
        for x in 0..new_w {
            let (from_x, from_y) = match orientation {
                NoTransforms => (x, y),
                FlipHorizontal => (w - 1 - x, y),
                Rotate180 => (w - 1 - x, h - 1 - y),
                FlipVertical => (x, h - 1 - y),
                Rotate90FlipH => (y, x),
                Rotate90 => (y, h - 1 - x),
                Rotate270FlipH => (w - 1 - y, h - 1 - x),
                Rotate270 => (w - 1 - y, x),
            };
            let at = (from_y * w + from_x) * channels;
            out.extend_from_slice(&samples[at..at + channels]);
        }
    }
    (new_w as u32, new_h as u32, out)
}
