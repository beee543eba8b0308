//! Prediction on image files.

pub mod ahead;
pub mod guess;
pub mod source;
pub mod stream;
pub mod tiles;
pub mod video;
pub mod view;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use fast_image_resize::images::ImageRef;
use fast_image_resize::{FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

use crate::boxes::Detection;
use crate::data::cache::Sizing;
use crate::data::classify::centre_square;
use crate::data::letterbox::Letterbox;
use crate::data::raster::Rgb8;
use crate::data::resize::resize_averaging;
use crate::engine::Inference;
use crate::evaluate::{EvaluateError, Postprocess, detections};
use crate::models::ModelError;
pub use video::Frame;
use video::VideoError;
pub use view::View;

/// The model's largest stride.
const STRIDE: usize = 32;

/// What one image gave.
#[derive(Clone, Debug)]
pub struct Prediction {
    /// The file.
    pub path: PathBuf,
    /// Of a video: which frame.
    pub frame: Option<Frame>,
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
    /// A video.
    #[error(transparent)]
    Video(#[from] VideoError),
    /// There is nothing to predict on.
    #[error("{}: there is no image here (JPEG, PNG, WebP, BMP, TIFF, DICOM), and no video", .0.display())]
    NoImages(PathBuf),
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

/// A classifier's input for one image: its short side brought to `side` pixels, its middle square, RGB, 0 to 1:
/// `[1, side, side, 3]`.
pub fn middle_square(image: &Rgb8, side: usize) -> Vec<f32> {
    let (width, height) = Sizing::Short.size(image.width as u32, image.height as u32, side as u32);
    let whole = (0.0, 0.0, image.width as f64, image.height as f64);
    let small = resize_averaging(image, whole, (width as usize, height as usize));
    let mut square = vec![0; side * side * 3];
    centre_square(&small, side, &mut square);
    square.iter().map(|&v| f32::from(v) / 255.0).collect()
}

/// What a classifier takes one image for.
#[derive(Clone, Debug, PartialEq)]
pub struct Guessed {
    /// The file.
    pub path: PathBuf,
    /// Of a video: which frame.
    pub frame: Option<Frame>,
    /// The likeliest classes (five, or all where there are fewer) and their probabilities, the likeliest first.
    pub top5: Vec<(u32, f64)>,
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
    Ok(Prediction { path: path.to_owned(), frame: None, image: view.shown(), detections: found })
}
