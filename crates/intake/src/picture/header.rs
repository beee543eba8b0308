//! A picture's size and orientation from its header alone, and the cheap signs of a cut-off file.

use super::jpeg::{self, JpegFault};
use super::{PictureError, PictureFormat, dicom, pages};
use crate::limits::{PICTURE_FILE_BYTES, PICTURE_MEMORY_BYTES};
use image::metadata::Orientation;
use image::{ColorType, ImageDecoder, ImageError, ImageReader, Limits};
use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// What a picture's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Pixels a row, after EXIF orientation.
    pub width: u32,
    /// Rows, after EXIF orientation.
    pub height: u32,
    /// What the content is, whatever the name says.
    pub format: PictureFormat,
    /// The file's length in bytes.
    pub bytes: u64,
    /// Samples a pixel: 1 (grey), 2 (grey and alpha), 3, 4 (colour and alpha) or more; of the first page.
    pub channels: u32,
    /// Bits a sample: 8 or 16.
    pub bits: u8,
    /// Pages of a TIFF file, or frames of a DICOM file; else 1.
    pub pages: u32,
    /// Whether [`super::decode`] knows the samples; else [`super::decode_all`] alone.
    pub(super) usual: bool,
}

impl Header {
    /// Channels that [`super::read_all`] gives.
    pub fn all_channels(&self) -> u32 {
        self.channels.saturating_mul(self.pages)
    }
}

/// The size of the upright picture, width and height in pixels, from the header alone.
///
/// # Errors
/// As [`probe`], but for the end of the file, which is not looked at.
pub fn dimensions(path: &Path) -> Result<(u32, u32), PictureError> {
    let (mut file, bytes) = open(path)?;
    let header = inspect(&mut file, path, bytes)?.header;
    Ok((header.width, header.height))
}

/// What the header of a picture in memory says. `name` stands in errors only.
///
/// # Errors
/// As [`dimensions`].
pub fn header_of(bytes: &[u8], name: &Path) -> Result<Header, PictureError> {
    check_length(bytes.len() as u64, name)?;
    Ok(inspect(&mut io::Cursor::new(bytes), name, bytes.len() as u64)?.header)
}

/// Reads the header and looks whether the file reaches its end, without decoding it.
///
/// # Errors
/// A missing, empty, cut-off or too large file, one that is no picture, or one of a format that is not read.
/// Damage amid the pixels shows only in [`super::read`].
pub fn probe(path: &Path) -> Result<Header, PictureError> {
    let (mut file, bytes) = open(path)?;
    let header = inspect(&mut file, path, bytes)?.header;
    // Only an unusual tail calls for reading the whole file: bytes may stand behind the picture's end.
    let usual: &[u8] = match header.format {
        PictureFormat::Jpeg => &[0xFF, 0xD9],
        PictureFormat::Png => b"IEND\xAE\x42\x60\x82",
        PictureFormat::WebP | PictureFormat::Bmp | PictureFormat::Tiff | PictureFormat::Dicom => b"",
    };
    let read_error = |source| PictureError::Read { path: path.into(), source };
    let mut tail = vec![0; usual.len()];
    file.seek(SeekFrom::End(-(usual.len() as i64))).map_err(read_error)?;
    file.read_exact(&mut tail).map_err(read_error)?;
    if tail != usual || header.format == PictureFormat::WebP {
        check_end(&super::decode::contents(path)?, header.format, path)?;
    }
    Ok(header)
}

fn open(path: &Path) -> Result<(BufReader<File>, u64), PictureError> {
    let read_error = |source| PictureError::Read { path: path.into(), source };
    let file = File::open(path).map_err(read_error)?;
    let meta = file.metadata().map_err(read_error)?;
    if !meta.is_file() {
        let source = io::Error::new(io::ErrorKind::InvalidInput, "it is not a file");
        return Err(PictureError::Read { path: path.into(), source });
    }
    check_length(meta.len(), path)?;
    Ok((BufReader::new(file), meta.len()))
}

pub(super) fn check_length(bytes: u64, path: &Path) -> Result<(), PictureError> {
    if bytes == 0 {
        return Err(PictureError::Empty { path: path.into() });
    }
    if bytes > PICTURE_FILE_BYTES {
        return Err(PictureError::FileTooLarge { path: path.into(), bytes, limit: PICTURE_FILE_BYTES });
    }
    Ok(())
}

/// A header, and the orientation that its stored pixels still need.
pub(super) struct Inspected {
    pub header: Header,
    pub orientation: Orientation,
}

/// Reads the header from the start of `r`, and refuses a picture that would take too much memory.
pub(super) fn inspect<R: BufRead + Seek>(
    r: &mut R,
    path: &Path,
    bytes: u64,
) -> Result<Inspected, PictureError> {
    let read_error = |source| PictureError::Read { path: path.into(), source };
    let mut start = Vec::new();
    r.by_ref().take(132).read_to_end(&mut start).map_err(read_error)?;
    r.rewind().map_err(read_error)?;
    let format = PictureFormat::of_content(&start).map_err(|other| match other {
        Some(what) => PictureError::Unsupported { path: path.into(), detail: what.into() },
        None => {
            let start: Vec<String> = start.iter().take(8).map(|b| format!("{b:02x}")).collect();
            PictureError::NotAPicture { path: path.into(), start: start.join(" ") }
        }
    })?;
    let sheets = match format {
        PictureFormat::Tiff => {
            let sheets = pages::inspect(&mut *r, path)?;
            r.rewind().map_err(read_error)?;
            Some(sheets)
        }
        _ => None,
    };
    let mut kind = (1, 8);
    let mut frames = 1;
    let (width, height, orientation, out_bytes, work_bytes) = if format == PictureFormat::Jpeg {
        let h = jpeg::header(r).map_err(|fault| jpeg_error(fault, path))?;
        let out = if h.components == 1 { 1 } else { 3 };
        kind.0 = out as u32;
        // A progressive file's coefficients are all kept, two bytes each, until its last scan.
        let work = if h.progressive { 2 * u64::from(h.components) } else { 0 };
        (h.width, h.height, h.orientation, out, work)
    } else if format == PictureFormat::Dicom {
        let d = dicom::inspect(r, path, bytes)?;
        kind = (d.samples, d.bits());
        frames = d.frames;
        (d.width, d.height, Orientation::NoTransforms, 2 * u64::from(d.samples), 2 * u64::from(d.samples))
    } else if let Some(odd) = sheets.filter(|sheets| !sheets.usual) {
        kind = (odd.channels, odd.bits);
        let bytes = u64::from(odd.channels) * u64::from(odd.bits).div_ceil(8);
        (odd.width, odd.height, odd.orientation, bytes, bytes)
    } else {
        let known = format.as_image().expect("the one other format is treated above");
        let mut reader = ImageReader::with_format(r, known);
        reader.limits(decoder_limits());
        let mut decoder = reader.into_decoder().map_err(|e| decoder_error(e, path))?;
        let (width, height) = decoder.dimensions();
        let orientation = decoder.orientation().map_err(|e| decoder_error(e, path))?;
        let color: ColorType = decoder.color_type();
        let count = u32::from(color.channel_count());
        kind = (count, (u32::from(color.bytes_per_pixel()) / count.max(1) * 8) as u8);
        // A WebP is decoded into four bytes a pixel first.
        let work = if format == PictureFormat::WebP { 4 } else { 0 };
        (width, height, orientation, u64::from(color.bytes_per_pixel()), work)
    };
    let turned = swaps_sides(orientation);
    let pixel_bytes = out_bytes * if turned { 2 } else { 1 } + work_bytes;
    let needed = (u64::from(width) * u64::from(height)).saturating_mul(pixel_bytes);
    let (width, height) = if turned { (height, width) } else { (width, height) };
    if needed > PICTURE_MEMORY_BYTES {
        return Err(PictureError::TooLarge {
            path: path.into(),
            width,
            height,
            needed,
            limit: PICTURE_MEMORY_BYTES,
        });
    }
    if width == 0 || height == 0 {
        let detail = format!("its header gives a size of {width} x {height}");
        return Err(PictureError::Corrupt { path: path.into(), detail });
    }
    let ((channels, bits), pages) = (kind, sheets.map_or(frames, |sheets| sheets.pages));
    let usual = sheets.is_none_or(|sheets| sheets.usual);
    Ok(Inspected {
        header: Header { width, height, format, bytes, channels, bits, pages, usual },
        orientation,
    })
}

pub(super) fn swaps_sides(orientation: Orientation) -> bool {
    use Orientation::*;
    matches!(orientation, Rotate90 | Rotate270 | Rotate90FlipH | Rotate270FlipH)
}

pub(super) fn decoder_limits() -> Limits {
    let mut limits = Limits::default();
    limits.max_alloc = Some(PICTURE_MEMORY_BYTES);
    limits
}

/// Refuses a file whose structure does not reach its end.
pub(super) fn check_end(file: &[u8], format: PictureFormat, path: &Path) -> Result<(), PictureError> {
    let missing = match format {
        PictureFormat::Jpeg if !jpeg::is_complete(file) => "its end-of-image marker is missing",
        PictureFormat::Png if !png_is_complete(file) => "its last chunk, IEND, is missing",
        PictureFormat::WebP if !webp_is_complete(file) => "it is shorter than its header says",
        _ => return Ok(()),
    };
    Err(PictureError::Truncated { path: path.into(), detail: missing.into() })
}

/// A PNG is 8 bytes of signature, then chunks: length, name, content, 4 bytes of checksum.
fn png_is_complete(file: &[u8]) -> bool {
    let mut rest = file.get(8..).unwrap_or_default();
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let end = u32::from_be_bytes(*length) as usize + 8;
        if after.len() < end {
            return false;
        }
        if after.starts_with(b"IEND") {
            return true;
        }
        rest = &after[end..];
    }
    false
}

fn webp_is_complete(file: &[u8]) -> bool {
    let size = file.get(4..8).and_then(|b| b.first_chunk::<4>());
    size.is_some_and(|s| file.len() as u64 >= u64::from(u32::from_le_bytes(*s)) + 8)
}

fn jpeg_error(fault: JpegFault, path: &Path) -> PictureError {
    match fault {
        JpegFault::Io(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            PictureError::Truncated { path: path.into(), detail: "it ends within its header".into() }
        }
        JpegFault::Io(source) => PictureError::Read { path: path.into(), source },
        JpegFault::Corrupt(detail) => PictureError::Corrupt { path: path.into(), detail: detail.into() },
    }
}

/// Sorts a decoder's error by what the person can do about it.
pub(super) fn decoder_error(error: ImageError, path: &Path) -> PictureError {
    let path = path.into();
    if ends_early(&error) {
        return PictureError::Truncated { path, detail: "the file ends amid the picture".into() };
    }
    match error {
        ImageError::IoError(source) => PictureError::Read { path, source },
        ImageError::Unsupported(e) => PictureError::Unsupported { path, detail: e.to_string() },
        e => PictureError::Corrupt { path, detail: e.to_string() },
    }
}

fn ends_early(error: &ImageError) -> bool {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(e) = cause {
        // io::Error shows the cause of what it wraps, not itself, as its source.
        if e.downcast_ref::<io::Error>().is_some_and(|io| io.kind() == io::ErrorKind::UnexpectedEof) {
            return true;
        }
        if let Some(ImageError::IoError(io)) = e.downcast_ref::<ImageError>()
            && io.kind() == io::ErrorKind::UnexpectedEof
        {
            return true;
        }
        cause = e.source();
    }
    false
}
