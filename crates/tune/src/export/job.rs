//! One export from the model to the proved file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use onsa_intake::checkpoint::{self, Checkpoint, Dtype, Meta, Tensor, write_safetensors};
use serde::Serialize;

use super::calibrate::{Samples, calibrate};
use super::metadata;
use super::network::Network;
use super::onnx::{self, Numbers, OnnxOptions, Suppression};
use super::pictures::drawn;
use super::proof::{
    ClassTolerance, LiteRtFile, OnnxFile, Original, Picture, ProofError, Proved, Reopened, Tolerance, prove,
    prove_classes,
};
use super::tflite;
use super::torch::{self, Entry, Values};
use crate::durable::{self, WriteError};
use crate::engine::Inference;
use crate::evaluate::Postprocess;
use crate::models::open::Opened;
use crate::models::{ModelError, Task};

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Format {
    Onnx,
    /// A PyTorch state dict.
    Torch,
    Safetensors,
    /// LiteRT (TensorFlow Lite).
    Tflite,
}

impl Format {
    /// Every format with its name and the usual ending of its files.
    pub const ALL: [(Format, &'static str, &'static str); 4] = [
        (Format::Onnx, "onnx", "onnx"),
        (Format::Torch, "torch", "pt"),
        (Format::Safetensors, "safetensors", "safetensors"),
        (Format::Tflite, "tflite", "tflite"),
    ];

    /// As the command line names it.
    pub fn name(self) -> &'static str {
        Format::ALL.iter().find(|(format, ..)| *format == self).map_or("", |(_, name, _)| name)
    }
}

/// How numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Precision {
    Float32,
    Float16,
    Int8,
}

impl Precision {
    /// `float32`, `float16` or `int8`.
    pub fn name(self) -> &'static str {
        match self {
            Precision::Float32 => "float32",
            Precision::Float16 => "float16",
            Precision::Int8 => "int8",
        }
    }

    /// What an export in these numbers may differ by. Boxes in pixels of a picture of about the network's size.
    pub fn tolerance(self) -> Tolerance {
        match self {
            Precision::Float32 => Tolerance {
                box_pixels: Some(0.25),
                score: Some(1e-3),
                mean_box_pixels: Some(0.05),
                mean_score: Some(2e-4),
                score_shift: None,
                agreement: 0.999,
                map: 0.001,
            },
            // The largest of hundreds of differences is that of one box that the model itself is unsure of: the means, the
            // share that both find and mAP judge what rounding does.
            Precision::Float16 => Tolerance {
                box_pixels: None,
                score: None,
                mean_box_pixels: Some(1.0),
                mean_score: Some(0.005),
                score_shift: None,
                agreement: 0.98,
                map: 0.005,
            },
            // Its cost is stated rather than judged box by box; but scores that fall as one lose objects at any threshold,
            // also where mAP, which knows their order alone, does not move.
            Precision::Int8 => Tolerance {
                box_pixels: None,
                score: None,
                mean_box_pixels: None,
                mean_score: None,
                score_shift: Some(0.1),
                agreement: 0.5,
                map: 0.05,
            },
        }
    }

    /// What an exported classifier in these numbers may differ by.
    pub fn class_tolerance(self) -> ClassTolerance {
        match self {
            Precision::Float32 => ClassTolerance {
                score: Some(1e-3),
                score_shift: None,
                agreement: 1.0,
                tie: 1e-3,
                top1: 0.001,
            },
            Precision::Float16 => ClassTolerance {
                score: Some(0.02),
                score_shift: None,
                agreement: 1.0,
                tie: 0.04,
                top1: 0.005,
            },
            // As for boxes, its cost is stated rather than judged score by score.
            Precision::Int8 => {
                ClassTolerance { score: None, score_shift: Some(0.15), agreement: 0.7, tie: 0.04, top1: 0.05 }
            }
        }
    }
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// Format.
    pub format: Format,
    /// Where the file goes.
    pub output: PathBuf,
    /// Numbers.
    pub precision: Precision,
    /// The caller chooses batch and size when it runs the file.
    pub dynamic: bool,
    /// Pictures go in as they are.
    pub letterbox: bool,
    /// Boxes come out.
    pub suppression: Option<Suppression>,
    /// What a detector's may differ by.
    pub tolerance: Tolerance,
    /// What a classifier's may differ by.
    pub class_tolerance: ClassTolerance,
}

/// What an export has to be calibrated and proved with.
#[derive(Clone, Debug, Default)]
pub struct Pictures {
    /// For the proof.
    pub proof: Vec<Picture>,
    /// For int8's ranges.
    pub calibration: Vec<Picture>,
    /// Where those are from, in words.
    pub calibrated_on: String,
}

/// Drawn pictures whose extremes count beside those of the calibration's own.
const DRAWN: usize = 4;

/// What was done, as `export.json` has it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The file.
    pub path: PathBuf,
    /// Its format.
    pub format: &'static str,
    /// Its numbers.
    pub precision: &'static str,
    /// Batch, height and width that it was made for.
    pub size: [usize; 3],
    /// Its length.
    pub bytes: usize,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
    /// What int8's ranges are from, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calibrated_on: Option<String>,
    /// What the tolerance allows and its user should know all the same.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// How it compares with the model.
    pub proof: Proved,
}

/// An export that failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The disk.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Encoding.
    #[error("the file cannot be put together: {0}")]
    Encode(String),
    /// The written file cannot be read back.
    #[error("the written file {} cannot be read back: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The proof could not be made.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The proof failed.
    #[error("{}", unproved(proof, kept))]
    Unproved {
        /// What it found.
        proof: Box<Proved>,
        /// Where the file was left, for looking into.
        kept: PathBuf,
    },
    /// A combination that makes no file.
    #[error("{0}")]
    Options(String),
}

fn unproved(proof: &Proved, kept: &Path) -> String {
    let (found, worst) = match proof {
        Proved::Boxes(proof) => {
            let found = format!(
                "{:.1}% of {} boxes agree, edges differ by up to {:.3} px, scores by up to {:.4} (those of confident boxes by \
                 {:+.4} in the mean), mAP50-95 by {:.4}",
                100.0 * proof.agreement,
                proof.boxes,
                proof.max_box_difference,
                proof.max_score_difference,
                proof.score_shift,
                proof.map_difference
            );
            (found, &proof.worst_image)
        }
        Proved::Classes(proof) => {
            let found = format!(
                "{:.1}% of {} pictures get the same class, scores differ by up to {:.4}, top-1 accuracy by {:.4}",
                100.0 * proof.top1_agreement,
                proof.images,
                proof.max_score_difference,
                proof.top1_difference
            );
            (found, &proof.worst_image)
        }
    };
    let worst = match worst {
        Some(image) => format!("; the worst picture is {}", image.display()),
        None => "; there was no picture to compare on".into(),
    };
    format!(
        "the exported file does not do what the model does: {found}{worst} (the file was left as {})",
        kept.display()
    )
}

/// Writes, proves, and puts the proved file in its place with `export.json` beside it. `opened.model` has the export's batch
/// and size.
///
/// # Errors
/// See [`ExportError`]. On any, nothing stands at the output's path that was not there before.
pub fn export(
    opened: &Opened,
    request: &Request,
    pictures: &Pictures,
    pool: &Arc<rayon::ThreadPool>,
    mut progress: impl FnMut(&'static str, usize, usize),
) -> Result<Report, ExportError> {
    check(opened, request, pictures)?;
    let bytes = encode(opened, request, pictures, pool, &mut progress)?;
    let kept = unproved_path(&request.output);
    durable::write(&kept, &bytes)?;
    let read = std::fs::read(&kept).map_err(|source| ExportError::Read { path: kept.clone(), source })?;
    let proof = proof_of(read, opened, request, pictures, pool, &mut progress)?;
    let calibrated_on = (request.precision == Precision::Int8).then(|| {
        let count = pictures.calibration.len();
        format!("{count} {} and {DRAWN} drawn pictures", pictures.calibrated_on)
    });
    let made = report(opened, request, (&bytes, calibrated_on), proof);
    if !made.proof.ok() {
        describe(request, &made)?;
        return Err(ExportError::Unproved { proof: Box::new(made.proof), kept });
    }
    put(request, &bytes, &kept, &made)?;
    Ok(made)
}

/// Runs the written bytes as their user does, beside the model.
fn proof_of(
    bytes: Vec<u8>,
    opened: &Opened,
    request: &Request,
    pictures: &Pictures,
    pool: &Arc<rayon::ThreadPool>,
    progress: &mut impl FnMut(&'static str, usize, usize),
) -> Result<Proved, ExportError> {
    let [_, height, width, _] = opened.model.input;
    let rules = match &request.suppression {
        Some(s) => Postprocess { conf: s.conf, iou: s.iou, max_det: s.max_det, ..Postprocess::prediction() },
        None => Postprocess::validation(),
    };
    let mut file = match request.format {
        Format::Onnx => Written::Onnx(OnnxFile::load(bytes, &rules)?),
        Format::Tflite => Written::LiteRt(LiteRtFile::load(&bytes, &rules, pool)?),
        Format::Torch | Format::Safetensors => {
            let checkpoint: Checkpoint =
                checkpoint::read_bytes(&bytes).map_err(|e| ProofError::Runtime(e.to_string()))?;
            Written::Weights(Box::new(Reopened::new(&checkpoint, opened, &rules, pool)?))
        }
    };
    let mut network = Inference::new(&opened.model, opened.params.clone(), Arc::clone(pool));
    let proving = |done, all| progress("proving", done, all);
    Ok(match opened.model.task() {
        Task::Detect => Proved::Boxes(prove(
            Original { network: &mut network, names: &opened.names, canvas: [height, width] },
            match &mut file {
                Written::Onnx(file) => file,
                Written::LiteRt(file) => file,
                Written::Weights(file) => file.as_mut(),
            },
            &pictures.proof,
            &rules,
            request.tolerance,
            proving,
        )?),
        Task::Classify => Proved::Classes(prove_classes(
            (&mut network, &opened.names, height),
            match &mut file {
                Written::Onnx(file) => file,
                Written::LiteRt(file) => file,
                Written::Weights(file) => file.as_mut(),
            },
            &pictures.proof,
            request.class_tolerance,
            proving,
        )?),
    })
}

/// The written file in what runs it.
enum Written {
    Onnx(OnnxFile),
    LiteRt(LiteRtFile),
    Weights(Box<Reopened>),
}

fn report(
    opened: &Opened,
    request: &Request,
    (bytes, calibrated_on): (&[u8], Option<String>),
    proof: Proved,
) -> Report {
    let [batch, height, width, _] = opened.model.input;
    Report {
        path: request.output.clone(),
        format: request.format.name(),
        precision: request.precision.name(),
        size: [batch, height, width],
        bytes: bytes.len(),
        sha256: sha256(bytes),
        calibrated_on,
        warnings: if request.precision == Precision::Int8 { proof.warnings() } else { Vec::new() },
        proof,
    }
}

/// export.json, beside the file.
fn describe(request: &Request, report: &Report) -> Result<(), ExportError> {
    let document = serde_json::to_vec_pretty(report).map_err(|e| ExportError::Encode(e.to_string()))?;
    Ok(durable::write(&request.output.with_file_name("export.json"), &document)?)
}

/// The file in its place, described.
fn put(request: &Request, bytes: &[u8], kept: &Path, report: &Report) -> Result<(), ExportError> {
    describe(request, report)?;
    durable::write(&request.output, bytes)?;
    // The file is in place: its copy is only in the way.
    let _ = std::fs::remove_file(kept);
    Ok(())
}

fn check(opened: &Opened, request: &Request, pictures: &Pictures) -> Result<(), ExportError> {
    let refuse = |text: &str| Err(ExportError::Options(text.to_owned()));
    let graph_options = request.dynamic || request.letterbox || request.suppression.is_some();
    if request.format != Format::Onnx {
        if graph_options {
            return refuse("dynamic, preprocess and nms are parts of an ONNX graph: give format=onnx");
        }
        if request.format != Format::Tflite && request.precision != Precision::Float32 {
            return refuse("a file of weights is written in float32: give format=onnx for half and int8");
        }
    }
    if request.format == Format::Torch && !opened.model.architecture.branches.is_empty() {
        return refuse(
            "this model tells added classes in a branch of its own, and a .pt is read by programs that know one head alone: give \
             format=onnx or format=tflite for other programs, format=safetensors for this one, or train with add_classes=distil",
        );
    }
    let classifies = opened.model.task() == Task::Classify;
    if classifies && request.suppression.is_some() {
        return refuse("nms chooses boxes, and this model gives none: leave it out");
    }
    if classifies && opened.model.input[1] != opened.model.input[2] {
        return refuse(
            "a classifier sees the middle square of a picture: its height and width must be the same",
        );
    }
    if request.dynamic && request.letterbox {
        return refuse("preprocess fits pictures into one size: leave dynamic out");
    }
    let [batch, .., channels] = opened.model.input;
    if request.letterbox && channels != 3 {
        return Err(ExportError::Options(format!(
            "preprocess takes RGB pictures of 8 bits, and this model takes {channels} channel(s): leave preprocess out, and give the \
             file pictures that are fitted, 0 to 1"
        )));
    }
    if request.letterbox && batch != 1 {
        return refuse("preprocess takes one RGB picture at a time: leave batch at 1");
    }
    if batch != 1 && !request.dynamic && request.format == Format::Onnx {
        return refuse("a fixed batch cannot be proved picture by picture: give dynamic=true for batches");
    }
    if request.precision == Precision::Int8 && pictures.calibration.is_empty() {
        return refuse("int8 needs pictures for its ranges: give data=");
    }
    Ok(())
}

fn encode(
    opened: &Opened,
    request: &Request,
    pictures: &Pictures,
    pool: &Arc<rayon::ThreadPool>,
    progress: &mut impl FnMut(&'static str, usize, usize),
) -> Result<Vec<u8>, ExportError> {
    let model = &opened.model;
    let [batch, height, width, channels] = model.input;
    match request.format {
        Format::Onnx | Format::Tflite => {
            let network = Network::new(&model.graph, &opened.params);
            let numbers = match request.precision {
                Precision::Float32 => Numbers::Float32,
                Precision::Float16 => Numbers::Float16,
                Precision::Int8 => {
                    let input = |p: &Picture| match model.task() {
                        Task::Classify => p.image.centre(height as u32),
                        Task::Detect => p.image.fitted([height, width]).1,
                    };
                    let images: Vec<Vec<f32>> = pictures.calibration.iter().map(input).collect();
                    let others: Vec<Vec<f32>> = drawn(DRAWN, channels).iter().map(input).collect();
                    let samples = Samples { images: &images, others: &others };
                    let counted = |done, all| progress("calibrating", done, all);
                    Numbers::Int8(calibrate(model, &opened.params, &network, samples, pool, counted))
                }
            };
            let entries = metadata::entries(opened, [height, width], batch);
            if request.format == Format::Tflite {
                return Ok(tflite::encode(model, &network, &entries, &numbers));
            }
            let options = OnnxOptions {
                numbers,
                dynamic: request.dynamic,
                letterbox: request.letterbox,
                suppression: request.suppression,
            };
            Ok(onnx::encode(model, &network, &entries, &options))
        }
        Format::Torch => torch::encode(&torch::state_dict(model, &opened.params))
            .map_err(|e| ExportError::Encode(e.to_string())),
        Format::Safetensors => safetensors(opened, &torch::state_dict(model, &opened.params)),
    }
}

fn safetensors(opened: &Opened, entries: &[Entry]) -> Result<Vec<u8>, ExportError> {
    let tensors: Vec<Tensor> = entries
        .iter()
        .map(|entry| match &entry.values {
            Values::Float(values) => Tensor::from_f32(&entry.name, &entry.shape, values),
            Values::Long(values) => Tensor {
                name: entry.name.clone(),
                dtype: Dtype::Int64,
                shape: entry.shape.clone(),
                data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            },
        })
        .collect();
    let [_, height, width, _] = opened.model.input;
    let meta = Meta {
        yaml: Some(opened.model.architecture.description()),
        names: Some(opened.names.clone()),
        nc: Some(opened.names.len() as u32),
        task: Some(opened.model.task().name().into()),
        stride: (!opened.model.levels.is_empty())
            .then(|| crate::models::STRIDES.map(|stride| stride as f32).to_vec()),
        licence: opened.weights.as_ref().map(|w| w.licence.clone()),
        producer: Some(format!("onsa {}", env!("CARGO_PKG_VERSION"))),
        imgsz: Some([height as u32, width as u32]),
        ..Meta::default()
    };
    write_safetensors(&tensors, &meta).map_err(|e| ExportError::Encode(e.to_string()))
}

fn unproved_path(output: &Path) -> PathBuf {
    let mut name = output.file_name().unwrap_or_default().to_owned();
    name.push(".unproved");
    output.with_file_name(name)
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}
