//! A picture as a network sees it: RGB of 8 bits, or all its bits in the network's own number of channels.

use std::path::Path;
use std::sync::Arc;

use onsa_intake::picture::{self, Picture, Pixels};

use super::source::Input;
use super::{Fit, PredictError, Reduction, STRIDE, middle_square, preprocess};
use crate::data::cache::Sizing;
use crate::data::deep::{self, Deep};
use crate::data::letterbox::Letterbox;
use crate::data::raster::Rgb8;
use crate::train::start::deep_of;

/// A decoded picture.
#[derive(Clone, Debug, PartialEq)]
pub enum View {
    /// 8 bits, three channels.
    Rgb(Arc<Rgb8>),
    /// 16 bits, or other channels.
    Deep(Arc<Deep>),
}

impl View {
    /// Reads a picture for a network of `channels` channels.
    ///
    /// # Errors
    /// The file cannot be read, or has other channels.
    pub fn open(input: &Input, channels: usize) -> Result<View, PredictError> {
        let failed = |source| PredictError::Image { path: input.name(), source };
        let wanted = channels as u32;
        let picture = match input {
            Input::File(path) => picture::read_as(path, wanted),
            Input::Bytes(bytes) => picture::decode_as(bytes, wanted, &input.name()),
            Input::Video(_) => return Err(failed("it is a video, not a picture".into())),
        };
        View::of(picture.map_err(|e| failed(e.into()))?, channels).map_err(failed)
    }

    /// As [`View::open`], of a file.
    ///
    /// # Errors
    /// As [`View::open`].
    pub fn read(path: &Path, channels: usize) -> Result<View, PredictError> {
        let failed = |source| PredictError::Image { path: path.to_owned(), source };
        let picture = picture::read_as(path, channels as u32).map_err(|e| failed(e.into()))?;
        View::of(picture, channels).map_err(failed)
    }

    /// Of a picture that was read for a network of `channels` channels.
    ///
    /// # Errors
    /// It has no pixels, or other channels.
    pub fn of(picture: Picture, channels: usize) -> Result<View, Box<dyn std::error::Error + Send + Sync>> {
        if channels == 3 && matches!(picture.pixels, Pixels::U8(_)) {
            let (width, height) = (picture.width as usize, picture.height as usize);
            let image = Rgb8::new(width, height, picture.into_rgb8()).ok_or("it has no pixels")?;
            return Ok(View::Rgb(Arc::new(image)));
        }
        deep_of(&picture, channels).map(|image| View::Deep(Arc::new(image)))
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (usize, usize) {
        match self {
            View::Rgb(image) => (image.width, image.height),
            View::Deep(image) => (image.width, image.height),
        }
    }

    /// A picture of it to look at and draw on.
    pub fn shown(&self) -> Arc<Rgb8> {
        match self {
            View::Rgb(image) => Arc::clone(image),
            View::Deep(image) => Arc::new(image.preview()),
        }
    }

    /// The part of `side` pixels a side from (`x`, `y`) on, cut off at the picture's edges.
    pub fn crop(&self, x: usize, y: usize, side: usize) -> View {
        match self {
            View::Rgb(image) => View::Rgb(Arc::new(super::tiles::crop(image, x, y, side))),
            View::Deep(image) => View::Deep(Arc::new(image.crop(x, y, side, side))),
        }
    }

    /// A detector's input of one size as an exported file's user makes it, bilinear between the nearest pixels, 0 to 1:
    /// `(letterbox, [1, height, width, channels])`.
    pub fn fitted(&self, [height, width]: [usize; 2]) -> (Letterbox, Vec<f32>) {
        let letterbox = Letterbox::fit(self.size(), (width, height), true);
        let values = match self {
            View::Rgb(image) => letterbox.apply(image).data.iter().map(|&v| f32::from(v) / 255.0).collect(),
            View::Deep(image) => {
                let mut canvas = vec![0; width * height * image.channels];
                letterbox.draw_deep(image, &mut canvas);
                fractions(&canvas)
            }
        };
        (letterbox, values)
    }

    /// The network's input, letterboxed, 0 to 1: `(letterbox, [1, h, w, channels])`.
    pub fn preprocess(&self, imgsz: usize, fit: Fit, reduction: Reduction) -> (Letterbox, Vec<f32>) {
        let image = match self {
            View::Rgb(image) => return preprocess(image, imgsz, fit, reduction),
            View::Deep(image) => image,
        };
        let letterbox = match fit {
            Fit::Tight => Letterbox::tight(self.size(), imgsz, STRIDE),
            Fit::Square => Letterbox::fit(self.size(), (imgsz, imgsz), true),
        };
        let inner = (letterbox.inner_width, letterbox.inner_height);
        let whole = (0.0, 0.0, image.width as f64, image.height as f64);
        let reduced =
            (reduction == Reduction::Antialiased).then(|| deep::resize_averaging(image, whole, inner));
        let mut canvas = vec![0; letterbox.width * letterbox.height * image.channels];
        letterbox.draw_deep(reduced.as_ref().unwrap_or(image), &mut canvas);
        (letterbox, fractions(&canvas))
    }

    /// A classifier's input: the middle square, its side brought to `imgsz` pixels; `[1, imgsz, imgsz, channels]`, 0 to 1.
    pub fn centre(&self, imgsz: u32) -> Vec<f32> {
        let (width, height) = self.size();
        let (w, h) = Sizing::Short.size(width as u32, height as u32, imgsz);
        let (small, whole) = ((w as usize, h as usize), (0.0, 0.0, width as f64, height as f64));
        let side = imgsz as usize;
        match self {
            View::Rgb(image) => middle_square(image, side),
            View::Deep(image) => {
                let mut square = vec![0; side * side * image.channels];
                deep::centre_square(&deep::resize_averaging(image, whole, small), side, &mut square);
                fractions(&square)
            }
        }
    }
}

impl From<Rgb8> for View {
    fn from(image: Rgb8) -> View {
        View::Rgb(Arc::new(image))
    }
}

fn fractions(samples: &[u16]) -> Vec<f32> {
    samples.iter().map(|&v| f32::from(v) / 65535.0).collect()
}
