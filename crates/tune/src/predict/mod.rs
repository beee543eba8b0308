//! Prediction on image files.

pub mod source;
pub mod stream;
pub mod tiles;
pub mod view;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fast_image_resize::images::ImageRef;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use crate::boxes::Detection;
use crate::data::letterbox::Letterbox;
use crate::data::raster::Rgb8;
use crate::engine::Inference;
use crate::evaluate::classify::top_classes;
use crate::evaluate::{EvaluateError, Postprocess, detections};
use crate::models::ModelError;
use crate::train::loss::log_softmax;

pub use view::View;

/// The model's largest stride.
const STRIDE: usize = 32;

/// What one image gave.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// The file.
    pub path: PathBuf,
    /// The image, upright; of 16 bits or other channels a preview of it.
    pub image: Arc<Rgb8>,
    /// Detections in pixels of the image, best first.
    pub detections: Vec<Detection>,
}

/// A prediction that failed.
#[derive(Debug, thiserror::Error)]
pub enum PredictError {
    /// The image cannot be read.
    #[error("{}: {source}", path.display())]
    Image {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The network.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Its output.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
    /// A folder cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A list or pattern of images.
    #[error("{}: {reason}", path.display())]
    List {
        /// The list, or the pattern.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is nothing to predict on.
    #[error("{}: there is no image here (JPEG, PNG, WebP, BMP, TIFF, DICOM)", .0.display())]
    NoImages(PathBuf),
}

/// The image files that a source names: a file, or a folder's images in the order of their names.
///
/// # Errors
/// See [`PredictError`].
pub fn images(source: &Path) -> Result<Vec<PathBuf>, PredictError> {
    let failed = |source_error| PredictError::Folder { path: source.to_owned(), source: source_error };
    if source.is_file() {
        return Ok(vec![source.to_owned()]);
    }
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(source).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.is_file() && onsa_intake::picture::is_picture_name(&path) == Some(true) {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() { Err(PredictError::NoImages(source.to_owned())) } else { Ok(paths) }
}

/// How an image is fitted to the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// The smallest multiples of the stride around a long side of `imgsz` pixels: fewest pixels to compute.
    Tight,
    /// `imgsz` x `imgsz`: what models exported for one size see.
    Square,
}

/// How an image is made smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Bilinear between the nearest pixels, as in training and validation.
    Linear,
    /// Bilinear over all pixels that a new one covers.
    Antialiased,
}

/// The network's input for one image, letterboxed, RGB, 0 to 1: `(letterbox, [1, h, w, 3])`.
pub fn preprocess(image: &Rgb8, imgsz: usize, fit: Fit, reduction: Reduction) -> (Letterbox, Vec<f32>) {
    let size = (image.width, image.height);
    let letterbox = match fit {
        Fit::Tight => Letterbox::tight(size, imgsz, STRIDE),
        Fit::Square => Letterbox::fit(size, (imgsz, imgsz), true),
    };
    let inner = (letterbox.inner_width, letterbox.inner_height);
    let reduced = (reduction == Reduction::Antialiased).then(|| average(image, inner));
    let canvas = letterbox.apply(reduced.as_ref().unwrap_or(image));
    let input = canvas.data.iter().map(|&v| f32::from(v) / 255.0).collect();
    (letterbox, input)
}

/// The image at another size, each new pixel the weighted mean of all that it covers.
fn average(image: &Rgb8, (width, height): (usize, usize)) -> Rgb8 {
    let rgb = PixelType::U8x3;
    let source = ImageRef::new(image.width as u32, image.height as u32, &image.data, rgb)
        .expect("an Rgb8 holds width * height * 3 bytes");
    let mut small = fast_image_resize::images::Image::new(width as u32, height as u32, rgb);
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear));
    Resizer::new().resize(&source, &mut small, &options).expect("both images are RGB with pixels");
    Rgb8 { width, height, data: small.into_vec() }
}

/// What a classifier takes one image for.
#[derive(Clone, Debug, PartialEq)]
pub struct Guessed {
    /// The file.
    pub path: PathBuf,
    /// The likeliest classes (five, or all where there are fewer) and their probabilities, the likeliest first.
    pub top5: Vec<(u32, f64)>,
}

/// Runs a classifier on the middle square of one image file, brought to `imgsz` pixels a side.
///
/// # Errors
/// See [`PredictError`].
pub fn classify(network: &mut Inference, path: &Path, imgsz: u32) -> Result<Guessed, PredictError> {
    let input = View::read(path, network.channels())?.centre(imgsz);
    let side = imgsz as usize;
    let logits = network.logits([1, side, side], &input)?;
    if logits.iter().any(|v| !v.is_finite()) {
        return Err(EvaluateError::NonFiniteOutput { image: 0, anchor: 0 }.into());
    }
    let scores: Vec<f64> = log_softmax(logits).into_iter().map(f64::exp).collect();
    let top5 = top_classes(&scores, 5).into_iter().map(|class| (class as u32, scores[class])).collect();
    Ok(Guessed { path: path.to_owned(), top5 })
}

/// Runs the network on one image file.
///
/// # Errors
/// See [`PredictError`].
pub fn predict(
    network: &mut Inference,
    path: &Path,
    imgsz: usize,
    (fit, reduction): (Fit, Reduction),
    options: &Postprocess,
) -> Result<Prediction, PredictError> {
    let view = View::read(path, network.channels())?;
    let (letterbox, input) = view.preprocess(imgsz, fit, reduction);
    let pool = network.pool();
    let maps = network.run([1, letterbox.height, letterbox.width], &input)?;
    let head = maps.head()?;
    let mut found = pool.install(|| detections(&head, options))?.pop().unwrap_or_default();
    for detection in &mut found {
        detection.bbox = letterbox.box_to_source(&detection.bbox);
    }
    Ok(Prediction { path: path.to_owned(), image: view.shown(), detections: found })
}
