use image::ImageFormat;
use std::path::Path;

/// The picture formats that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PictureFormat {
    /// JPEG (also the first picture of an MPO).
    Jpeg,
    /// Portable Network Graphics.
    Png,
    /// WebP, lossy and lossless.
    WebP,
    /// Windows bitmap.
    Bmp,
    /// TIFF and BigTIFF.
    Tiff,
    /// DICOM, as medical devices write it.
    Dicom,
}

impl PictureFormat {
    /// The format that a file's first bytes show, or a name for what else they are.
    pub(super) fn of_content(start: &[u8]) -> Result<PictureFormat, Option<&'static str>> {
        if start.starts_with(&[0xFF, 0xD8, 0xFF]) {
            Ok(PictureFormat::Jpeg)
        } else if start.starts_with(b"\x89PNG\r\n\x1a\n") {
            Ok(PictureFormat::Png)
        } else if start.starts_with(b"RIFF") && start.get(8..12) == Some(b"WEBP".as_slice()) {
            Ok(PictureFormat::WebP)
        } else if start.starts_with(b"BM") {
            Ok(PictureFormat::Bmp)
        } else if [b"II\x2a\0", b"MM\0\x2a", b"II\x2b\0", b"MM\0\x2b"].iter().any(|m| start.starts_with(*m)) {
            Ok(PictureFormat::Tiff)
        } else if start.get(128..132) == Some(b"DICM".as_slice()) {
            Ok(PictureFormat::Dicom)
        } else {
            Err(other(start))
        }
    }

    /// The format that the name's extension promises.
    pub fn of_name(path: &Path) -> Option<PictureFormat> {
        match extension(path)?.as_str() {
            "jpg" | "jpeg" | "jpe" | "jfif" | "mpo" => Some(PictureFormat::Jpeg),
            "png" => Some(PictureFormat::Png),
            "webp" => Some(PictureFormat::WebP),
            "bmp" | "dib" => Some(PictureFormat::Bmp),
            "tif" | "tiff" => Some(PictureFormat::Tiff),
            "dcm" | "dicom" => Some(PictureFormat::Dicom),
            _ => None,
        }
    }

    /// The format's name, as in an error.
    pub fn name(self) -> &'static str {
        match self {
            PictureFormat::Jpeg => "JPEG",
            PictureFormat::Png => "PNG",
            PictureFormat::WebP => "WebP",
            PictureFormat::Bmp => "BMP",
            PictureFormat::Tiff => "TIFF",
            PictureFormat::Dicom => "DICOM",
        }
    }

    /// The extension that its files usually have.
    pub fn extension(self) -> &'static str {
        match self {
            PictureFormat::Jpeg => "jpg",
            PictureFormat::Png => "png",
            PictureFormat::WebP => "webp",
            PictureFormat::Bmp => "bmp",
            PictureFormat::Tiff => "tiff",
            PictureFormat::Dicom => "dcm",
        }
    }

    /// As the general decoder calls it; none for what it does not read.
    pub(super) fn as_image(self) -> Option<ImageFormat> {
        Some(match self {
            PictureFormat::Jpeg => ImageFormat::Jpeg,
            PictureFormat::Png => ImageFormat::Png,
            PictureFormat::WebP => ImageFormat::WebP,
            PictureFormat::Bmp => ImageFormat::Bmp,
            PictureFormat::Tiff => ImageFormat::Tiff,
            PictureFormat::Dicom => return None,
        })
    }
}

/// Whether a file's extension is a picture's: `Some(true)` for one that is read, `Some(false)` for one that is
/// not (HEIC, AVIF, GIF …), `None` for another kind of file.
pub fn is_picture_name(path: &Path) -> Option<bool> {
    if PictureFormat::of_name(path).is_some() {
        return Some(true);
    }
    let unread =
        ["avif", "dng", "exr", "gif", "heic", "heif", "jp2", "jpeg2000", "jxl", "pgm", "pnm", "ppm", "raw"];
    unread.contains(&extension(path)?.as_str()).then_some(false)
}

fn extension(path: &Path) -> Option<String> {
    Some(path.extension()?.to_str()?.to_ascii_lowercase())
}

/// Pictures that are recognised only to say what they are.
fn other(start: &[u8]) -> Option<&'static str> {
    if start.starts_with(b"GIF8") {
        return Some("it is a GIF");
    }
    if start.starts_with(b"\0\0\0\x0cjP  ") || start.starts_with(&[0xFF, 0x4F, 0xFF, 0x51]) {
        return Some("it is a JPEG 2000");
    }
    if start.starts_with(&[0xFF, 0x0A]) || start.starts_with(b"\0\0\0\x0cJXL ") {
        return Some("it is a JPEG XL");
    }
    if start.get(4..8) == Some(b"ftyp".as_slice()) {
        return Some("it is a HEIC, AVIF or video file");
    }
    None
}
