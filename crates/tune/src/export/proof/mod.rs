//! Proof: the written file, run by another program's code, against the model itself on pictures.

mod classes;
mod compare;
mod dense;
mod litert;
mod litert_file;
mod onnx;
mod reopened;

use std::path::PathBuf;

use serde::Serialize;

use crate::boxes::Detection;
use crate::engine::Inference;
use crate::evaluate::{EvaluateError, Postprocess, Truth, detections};
use crate::models::ModelError;
use crate::predict::View;
use crate::train::loss::log_softmax;
pub use classes::{ClassProof, ClassTolerance, prove_classes};
use compare::Comparison;
pub use litert::Interpreter;
pub use litert_file::LiteRtFile;
pub use onnx::OnnxFile;
pub use reopened::Reopened;

/// A picture to prove on.
#[derive(Clone, Debug)]
pub struct Picture {
    /// Where it lies, or what it is called.
    pub name: PathBuf,
    /// Its pixels.
    pub image: View,
    /// Its labels, where it has any.
    pub truths: Option<Vec<Truth>>,
}

/// What an exported file's user would get: detections in pixels of the picture.
pub trait Exported {
    /// The program that runs the file.
    fn runtime(&self) -> &'static str;
    /// Class names, as the file has them.
    fn names(&self) -> &[String];
    /// The detections of one picture, best first.
    ///
    /// # Errors
    /// The file does not run, or gives something else than it should.
    fn detect(&mut self, image: &View) -> Result<Vec<Detection>, ProofError>;
}

/// What an exported classifier's user would get.
pub trait Classifying {
    /// The program that runs the file.
    fn runtime(&self) -> &'static str;
    /// Class names, as the file has them.
    fn names(&self) -> &[String];
    /// The probabilities of one picture's classes, in the order of the names.
    ///
    /// # Errors
    /// The file does not run, or gives something else than it should.
    fn scores(&mut self, image: &View) -> Result<Vec<f32>, ProofError>;
}

/// A proof that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The other runtime refuses the file.
    #[error("the exported file does not run: {0}")]
    Runtime(String),
    /// The file's outputs are not those of a file of this program.
    #[error("the exported file gives something else than it should: {0}")]
    Output(String),
    /// The model itself.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Its output.
    #[error(transparent)]
    Evaluate(#[from] EvaluateError),
}

/// How much an export may differ. Boxes in pixels, scores and rates as fractions of 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Tolerance {
    /// Largest difference of an edge of a matched box; none: not judged.
    pub box_pixels: Option<f64>,
    /// Largest difference of a matched box's score; none: not judged.
    pub score: Option<f64>,
    /// Mean over the matched boxes of the largest difference of an edge; none: not judged.
    pub mean_box_pixels: Option<f64>,
    /// Mean difference of their scores; none: not judged.
    pub mean_score: Option<f64>,
    /// Largest mean change of the confident boxes' scores, up or down; none: not judged.
    pub score_shift: Option<f64>,
    /// Least share of boxes that both find.
    pub agreement: f64,
    /// Largest difference of mAP50-95.
    pub map: f64,
}

/// What a proof found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Proof {
    /// What ran the exported file.
    pub runtime: &'static str,
    /// Pictures compared.
    pub images: usize,
    /// Boxes that the model or the export finds on them, each pair counted once.
    pub boxes: usize,
    /// Share of them that both find.
    pub agreement: f64,
    /// Largest difference of an edge of a matched box, pixels of the picture.
    pub max_box_difference: f64,
    /// Largest difference of a matched box's score.
    pub max_score_difference: f64,
    /// Mean over the matched boxes of the largest difference of an edge, pixels.
    pub mean_box_difference: f64,
    /// Mean difference of their scores.
    pub mean_score_difference: f64,
    /// Boxes that the model itself gives a score of at least .25.
    pub confident: usize,
    /// Mean change of their scores in the export, with its sign; a box that the export misses has 0 there.
    pub score_shift: f64,
    /// The model's mAP50-95 under the export's own rules for boxes.
    pub map50_95_model: f64,
    /// The export's.
    pub map50_95_export: f64,
    /// Difference of the two.
    pub map_difference: f64,
    /// Whether the pictures' labels were the truth; else the model's own boxes were.
    pub labelled: bool,
    /// The picture that differs most.
    pub worst_image: Option<PathBuf>,
    /// What was allowed.
    pub tolerance: Tolerance,
    /// Whether everything is within it.
    pub ok: bool,
}

/// A proof of either task. In JSON the figures stand side by side.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Proved {
    /// Of a detector.
    Boxes(Proof),
    /// Of a classifier.
    Classes(ClassProof),
}

/// A mean change of confident scores that int8's users should know of: thresholds may have to move with it.
const MUCH: f64 = 0.03;

impl Proved {
    /// What the figures say beside whether they are within the tolerance, in sentences.
    pub fn warnings(&self) -> Vec<String> {
        let (moved, what, quiet) = match self {
            Proved::Boxes(p) => (p.score_shift, format!("{} confident boxes", p.confident), "mAP"),
            Proved::Classes(p) => (p.score_shift, format!("{} pictures' classes", p.images), "accuracy"),
        };
        if moved.abs() < MUCH {
            return Vec::new();
        }
        vec![format!(
            "The scores of {what} change by {moved:+.3} in the mean, whatever {quiet} says: thresholds (conf=) must move with them. \
             Calibrate with pictures like those that the file will see: data="
        )]
    }

    /// Whether everything is within the tolerance.
    pub fn ok(&self) -> bool {
        match self {
            Proved::Boxes(proof) => proof.ok,
            Proved::Classes(proof) => proof.ok,
        }
    }
}

/// The model that an export is held against.
pub struct Original<'a> {
    /// The model on the engine.
    pub network: &'a mut Inference,
    /// Its class names.
    pub names: &'a [String],
    /// Height and width of its input.
    pub canvas: [usize; 2],
}

/// Runs the model and the exported file on every picture. `rules` are those that the file's boxes are chosen by.
///
/// # Errors
/// See [`ProofError`].
pub fn prove(
    original: Original<'_>,
    exported: &mut dyn Exported,
    pictures: &[Picture],
    rules: &Postprocess,
    tolerance: Tolerance,
    mut progress: impl FnMut(usize, usize),
) -> Result<Proof, ProofError> {
    let Original { network, names, canvas } = original;
    // The file's classes by name: an export whose classes come in another order says other names for the same boxes.
    let class_of = |class: u32, own: &[String]| {
        let name = own.get(class as usize);
        name.and_then(|name| names.iter().position(|n| n == name)).map_or(u32::MAX, |i| i as u32)
    };
    let mut comparison = Comparison::new(names, rules.conf);
    for (i, picture) in pictures.iter().enumerate() {
        let ours = detect(network, &picture.image, canvas, rules)?;
        let mut theirs = exported.detect(&picture.image)?;
        for detection in &mut theirs {
            detection.class = class_of(detection.class, exported.names());
        }
        comparison.add(picture, &ours, &theirs)?;
        progress(i + 1, pictures.len());
    }
    Ok(comparison.finish(exported.runtime(), tolerance))
}

/// What the model itself finds, the picture fitted as the exported file's user fits it.
fn detect(
    network: &mut Inference,
    image: &View,
    [height, width]: [usize; 2],
    rules: &Postprocess,
) -> Result<Vec<Detection>, ProofError> {
    let (letterbox, input) = image.fitted([height, width]);
    let pool = network.pool();
    let maps = network.run([1, height, width], &input)?;
    let head = maps.head()?;
    let mut found = pool.install(|| detections(&head, rules))?.pop().unwrap_or_default();
    for detection in &mut found {
        detection.bbox = letterbox.box_to_source(&detection.bbox);
    }
    Ok(found)
}

/// What the model itself makes of the middle square of one picture: a probability a class.
fn model_scores(network: &mut Inference, image: &View, side: usize) -> Result<Vec<f32>, ProofError> {
    let logits = network.logits([1, side, side], &image.centre(side as u32))?;
    if logits.iter().any(|v| !v.is_finite()) {
        return Err(EvaluateError::NonFiniteOutput { image: 0, anchor: 0 }.into());
    }
    Ok(log_softmax(logits).into_iter().map(|v| v.exp() as f32).collect())
}
