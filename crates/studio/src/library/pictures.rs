//! Pictures for the browser: small ones made once and kept, large ones as they are.
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};
use onsa_intake::picture;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::store::blocking;
use crate::{App, Problem};

/// The long side of a small picture in pixels.
const SIDE: u32 = 320;
const QUALITY: u8 = 82;
/// Small pictures that are made at once: a page scrolled fast must not take the cores from a training.
const AT_ONCE: usize = 2;

fn turns() -> &'static Semaphore {
    static TURNS: OnceLock<Semaphore> = OnceLock::new();
    TURNS.get_or_init(|| Semaphore::new(AT_ONCE))
}

/// A small JPEG of the picture file.
///
/// # Errors
/// The file cannot be read.
pub async fn thumbnail(app: &App, path: PathBuf) -> Result<Vec<u8>, Problem> {
    let kept = kept_at(app, &path)?;
    let looked = kept.clone();
    if let Ok(bytes) = tokio::fs::read(&looked).await {
        return Ok(bytes);
    }
    let _turn = turns().acquire().await.map_err(|e| Problem::internal("the studio ends", &e))?;
    blocking(move || {
        let bytes = shrink(&path)?;
        let folder = kept.parent().unwrap_or(Path::new("."));
        // Keeping it saves time only.
        let _ = std::fs::create_dir_all(folder).and_then(|()| {
            let scratch = kept.with_extension(format!("{}.new", std::process::id()));
            std::fs::write(&scratch, &bytes)?;
            std::fs::rename(&scratch, &kept)
        });
        Ok(bytes)
    })
    .await
}

/// Where the small picture of a file is kept; another place once the file has changed.
fn kept_at(app: &App, path: &Path) -> Result<PathBuf, Problem> {
    let data = std::fs::metadata(path).map_err(|e| Problem::missing(format!("the picture is gone: {e}")))?;
    let changed = data.modified().ok().and_then(|t| t.duration_since(std::time::UNIX_EPOCH).ok());
    let key = format!("{}\0{}\0{:?}", path.display(), data.len(), changed);
    let digest = Sha256::digest(key);
    let name: String = digest[..16].iter().map(|b| format!("{b:02x}")).collect();
    Ok(app.config.dir.join("cache/small").join(&name[..2]).join(format!("{name}.jpg")))
}

fn shrink(path: &Path) -> Result<Vec<u8>, Problem> {
    let picture =
        picture::read(path).map_err(|e| Problem::invalid(format!("the picture cannot be shown: {e}")))?;
    let (width, height) = (picture.width, picture.height);
    let data = picture.into_rgb8();
    let scale = (f64::from(SIDE) / f64::from(width.max(height))).min(1.0);
    let side = |length: u32| ((f64::from(length) * scale).round() as u32).max(1);
    let (w, h) = (side(width), side(height));
    let rgb = PixelType::U8x3;
    let source = ImageRef::new(width, height, &data, rgb)
        .map_err(|e| Problem::internal("the picture cannot be made smaller", &e))?;
    let mut small = Image::new(w, h, rgb);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    Resizer::new()
        .resize(&source, &mut small, &options)
        .map_err(|e| Problem::internal("the picture cannot be made smaller", &e))?;
    encode(w, h, small.buffer())
}

fn encode(width: u32, height: u32, rgb: &[u8]) -> Result<Vec<u8>, Problem> {
    let mut bytes = Vec::new();
    let mut encoder = image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, QUALITY);
    encoder
        .encode(rgb, width, height, image::ExtendedColorType::Rgb8)
        .map_err(|e| Problem::internal("the picture cannot be written", &e))?;
    Ok(bytes)
}

/// A picture as a browser can show it: its bytes and their type. Formats that browsers do not know become JPEG.
///
/// # Errors
/// The file cannot be read.
pub async fn whole(path: PathBuf) -> Result<(&'static str, Vec<u8>), Problem> {
    blocking(move || {
        let bytes =
            std::fs::read(&path).map_err(|e| Problem::missing(format!("the picture is gone: {e}")))?;
        // By content: what only claims to be a picture is never sent as it is.
        let known = [(&b"\xff\xd8\xff"[..], "image/jpeg"), (b"\x89PNG\r\n\x1a\n", "image/png")];
        if let Some((_, kind)) = known.iter().find(|(magic, _)| bytes.starts_with(magic)) {
            return Ok((*kind, bytes));
        }
        if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
            return Ok(("image/webp", bytes));
        }
        let picture = picture::decode(&bytes, &path)
            .map_err(|e| Problem::invalid(format!("the picture cannot be shown: {e}")))?;
        let (width, height) = (picture.width, picture.height);
        Ok(("image/jpeg", encode(width, height, &picture.into_rgb8())?))
    })
    .await
}
