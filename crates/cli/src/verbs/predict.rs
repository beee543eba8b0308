//! `onsa predict`: find objects in images, or tell what they show.
mod classify;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Instant;

use onsa_tune::boxes::Detection;
use onsa_tune::durable;
use onsa_tune::engine::Inference;
use onsa_tune::evaluate::Postprocess;
use onsa_tune::evaluate::draw::{detection_marks, draw_marks, encode_jpeg};
use onsa_tune::models::{Task, open};
use onsa_tune::predict::source::{Input, inputs};
use onsa_tune::predict::stream::{StreamOptions, stream};
use onsa_tune::predict::tiles::Tiling;
use onsa_tune::predict::{Fit, PredictError, Prediction, Reduction};
use onsa_tune::train::recipe::table::{self, ArgumentError, any};
use onsa_tune::train::recipe::{CLASSIFY_IMGSZ, run_dir};
use serde_json::{Value, json};

use super::{Verb, nothing_more};
use crate::arguments::Invocation;
use crate::failure::Failure;
use crate::progress::Counting;
use crate::{output, signals};

onsa_tune::arguments! {
    /// The arguments of `predict` that a person gave.
    PredictArgs,
    /// The arguments of `predict`.
    PredictArguments {
        "Predict" {
            /// The model: a checkpoint file or a registered name. Required.
            model: String = String::new(), any;
            /// An image, a folder of images, a pattern such as 'photos/*.jpg', a .txt list of paths, or - for the standard input
            /// (an image or a list). Required.
            source: PathBuf = PathBuf::new(), any;
            /// The side of the network's input, in pixels: of a detector the long one, of a classifier both, by default those
            /// that it was trained at.
            imgsz: u32 = 640, table::image_size;
            /// Pad to a square (true) or as little as the stride allows (false); by default square for ONNX files, as in the
            /// runtime that they are exported for.
            square: Option<bool> = None, any;
            /// Average all covered pixels when an image is made smaller (true), or sample it as training and validation do
            /// (false); by default averaged for ONNX files.
            antialias: Option<bool> = None, any;
            /// Most images in a batch; those of one shape that follow one another share one.
            batch: u32 = 1, table::at_least_one;
            /// Threads that decode images ahead of the network.
            workers: u32 = 2, table::at_least_one;
            /// Cut images that are larger than this many pixels a side into tiles of that side, and merge what is found.
            tile: Option<u32> = None, tile_size;
            /// Share of a tile that its neighbour sees too.
            overlap: f64 = 0.2, table::below_one;
            /// Least confidence.
            conf: f64 = 0.25, table::unit;
            /// Of two boxes that overlap by more than this, the less confident goes.
            iou: f64 = 0.7, table::unit;
            /// Most boxes an image.
            max_det: u32 = 300, table::at_least_one;
            /// Suppress overlapping boxes of different classes too.
            agnostic_nms: bool = false, any;
            /// Where to compute: auto (a GPU where one can be used), cpu, cuda or cuda:N.
            device: Option<String> = None, any;
            /// Compute in bfloat16 on a GPU; otherwise, and on the processor always, in float32.
            half: bool = false, any;
            /// Compute threads; by default all that the machine has.
            threads: Option<u32> = None, table::at_least_one_or_none;
            /// Write the images with their boxes drawn.
            save: bool = true, any;
            /// The folder in which results are collected.
            project: PathBuf = PathBuf::from("runs/detect"), any;
            /// The results' name: their folder inside the project, numbered if taken.
            name: String = "predict".to_owned(), any;
            /// Write into the folder even if it exists.
            exist_ok: bool = false, any;
        }
    }
}

/// The verb.
pub const VERB: Verb = Verb {
    name: "predict",
    about: "Find objects in images, or tell what they show",
    positional: None,
    tables: &[PredictArgs::TABLE],
    also_known: nothing_more,
    examples: &["onsa predict model=runs/detect/train/weights/best.safetensors source=photos/"],
    run,
};

fn tile_size(value: &Option<u32>) -> table::Check {
    if value.is_none_or(|v| (32..=8192).contains(&v)) { Ok(()) } else { Err("from 32 to 8192") }
}

/// Quality of the drawn JPEGs.
const QUALITY: u8 = 92;

fn run(invocation: &Invocation) -> Result<ExitCode, Failure> {
    let mut args = PredictArgs::default();
    invocation.each(|name, text| args.set(name, text))?;
    let o = args.fill();
    if o.model.is_empty() {
        return Err(ArgumentError::Missing { name: "model", example: "model=yolo11n.pt" }.into());
    }
    if o.source.as_os_str().is_empty() {
        return Err(ArgumentError::Missing { name: "source", example: "source=photos/" }.into());
    }
    let inputs = inputs(&o.source, &mut std::io::stdin().lock()).map_err(|e| Failure::from_error(&e))?;
    let source = open::find(&o.model, &open::default_folders(), true)?;
    if source.task() == Some(Task::Classify) {
        let imgsz = args.imgsz.or(source.imgsz()).unwrap_or(CLASSIFY_IMGSZ);
        let opened = open::open(&source, None, [imgsz as usize; 2], true, 0)?;
        let path = |input: Input| match input {
            Input::File(path) => Ok(path),
            Input::Bytes(_) => Err(Failure::failed("a classifier reads pictures from files, so far")
                .hint("save the picture and give its path")),
        };
        let paths = inputs.into_iter().map(path).collect::<Result<Vec<_>, Failure>>()?;
        return classify::run(invocation, &o, &paths, &opened, imgsz);
    }
    let side = o.imgsz as usize;
    let opened = open::open(&source, None, [side, side], true, 0)?;
    let place = super::place_for(&opened.model, (o.device.as_deref(), o.half, o.threads))?;
    let mut network = Inference::new(&opened.model, opened.params.clone(), place);
    let is_onnx = opened.weights.as_ref().is_some_and(|w| w.is_onnx);
    let fit = if o.square.unwrap_or(is_onnx) { Fit::Square } else { Fit::Tight };
    let reduction = if o.antialias.unwrap_or(is_onnx) { Reduction::Antialiased } else { Reduction::Linear };
    let options = Postprocess {
        conf: o.conf as f32,
        iou: o.iou as f32,
        max_det: o.max_det as usize,
        agnostic: o.agnostic_nms,
        ..Postprocess::prediction()
    };
    let stop = signals::stop_flag()?;
    let folder = if o.save { Some(run_dir::claim(&o.project, &o.name, o.exist_ok)?) } else { None };
    let mut documents = Vec::new();
    let mut counting = Counting::new("predicting");
    let started = Instant::now();
    let all = inputs.len();
    let mut done = 0;
    let mut each = |prediction: Prediction| -> Result<bool, Failure> {
        if let Some(folder) = &folder {
            draw(&prediction, &opened.names, folder)?;
        }
        if !invocation.json {
            counting.line(&summary(&prediction, &opened.names));
        }
        documents.push(document(&prediction, &opened.names));
        done += 1;
        counting.at(done, all);
        if stop.load(Ordering::Relaxed) {
            return Err(Failure::failed(format!("stopped after {done} of {all} images")));
        }
        Ok(true)
    };
    let stream_options = StreamOptions {
        imgsz: side,
        fit: (fit, reduction),
        rules: options,
        batch: o.batch as usize,
        workers: o.workers as usize,
        tiling: o.tile.map(|tile| Tiling {
            tile: tile as usize,
            overlap: o.overlap,
            batch: o.batch as usize,
        }),
    };
    stream(&mut network, &inputs, &stream_options, &mut each)?;
    let rate = all as f64 / started.elapsed().as_secs_f64();
    counting.finish();
    output::note(&format!("{all} images, {rate:.1} images/s with decoding"));
    if invocation.json {
        output::document(&documents);
    } else if let Some(folder) = folder {
        output::line(&format!("drawn  {}", folder.display()));
    }
    Ok(ExitCode::SUCCESS)
}

fn draw(prediction: &Prediction, names: &[String], folder: &std::path::Path) -> Result<(), Failure> {
    let image = &prediction.image;
    let mut picture = image::RgbImage::from_raw(image.width as u32, image.height as u32, image.data.clone())
        .expect("the decoder gives width * height * 3 bytes");
    draw_marks(&mut picture, &detection_marks(&prediction.detections, names));
    let jpeg = encode_jpeg(&picture, QUALITY).map_err(|e| Failure::from_error(&e))?;
    let stem = prediction.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    durable::write(&folder.join(format!("{stem}.jpg")), &jpeg)?;
    Ok(())
}

fn name_of(names: &[String], class: u32) -> String {
    names.get(class as usize).cloned().unwrap_or_else(|| class.to_string())
}

/// Detections as the document has them.
pub fn boxes(detections: &[Detection], names: &[String]) -> Vec<Value> {
    detections
        .iter()
        .map(|d| {
            let b = d.bbox;
            json!({"class": d.class, "name": name_of(names, d.class), "score": d.score, "xyxy": [b.x1, b.y1, b.x2, b.y2]})
        })
        .collect()
}

fn document(prediction: &Prediction, names: &[String]) -> Value {
    json!({
        "image": prediction.path,
        "width": prediction.image.width,
        "height": prediction.image.height,
        "boxes": boxes(&prediction.detections, names),
    })
}

/// `bus.jpg  1 bus, 4 person`.
fn summary(prediction: &Prediction, names: &[String]) -> String {
    let mut counts = std::collections::BTreeMap::new();
    for d in &prediction.detections {
        *counts.entry(name_of(names, d.class)).or_insert(0) += 1;
    }
    let text: Vec<String> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
    let found = if text.is_empty() { "nothing".to_owned() } else { text.join(", ") };
    format!("{}  {found}", prediction.path.display())
}

impl From<PredictError> for Failure {
    fn from(error: PredictError) -> Failure {
        Failure::from_error(&error)
    }
}
