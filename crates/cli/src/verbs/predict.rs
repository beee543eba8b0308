//! `onsa predict`: find objects in images.
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use onsa_tune::boxes::Detection;
use onsa_tune::durable;
use onsa_tune::engine::Inference;
use onsa_tune::evaluate::Postprocess;
use onsa_tune::evaluate::draw::{detection_marks, draw_marks, encode_jpeg};
use onsa_tune::models::open;
use onsa_tune::predict::{Fit, Prediction, Reduction, images, predict};
use onsa_tune::train::recipe::run_dir;
use onsa_tune::train::recipe::table::{self, ArgumentError, any};
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
            /// An image, or a folder of images. Required.
            source: PathBuf = PathBuf::new(), any;
            /// The long side of the network's input, in pixels.
            imgsz: u32 = 640, table::image_size;
            /// Pad to a square (true) or as little as the stride allows (false); by default square for ONNX files, as in the
            /// runtime that they are exported for.
            square: Option<bool> = None, any;
            /// Average all covered pixels when an image is made smaller (true), or sample it as training and validation do
            /// (false); by default averaged for ONNX files.
            antialias: Option<bool> = None, any;
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
    about: "Find objects in images",
    positional: None,
    tables: &[PredictArgs::TABLE],
    also_known: nothing_more,
    examples: &["onsa predict model=runs/detect/train/weights/best.safetensors source=photos/"],
    run,
};

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
    let paths = images(&o.source).map_err(|e| Failure::from_error(&e))?;
    let source = open::find(&o.model, &open::default_folders(), true)?;
    let side = o.imgsz as usize;
    let opened = open::open(&source, None, [side, side], true, 0)?;
    let place = super::place(o.device.as_deref(), o.half, o.threads)?;
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
    for (i, path) in paths.iter().enumerate() {
        let prediction = predict(&mut network, path, side, (fit, reduction), &options)
            .map_err(|e| Failure::from_error(&e))?;
        if let Some(folder) = &folder {
            draw(&prediction, &opened.names, folder)?;
        }
        if !invocation.json {
            counting.line(&summary(&prediction, &opened.names));
        }
        documents.push(document(&prediction, &opened.names));
        counting.at(i + 1, paths.len());
        if stop.load(Ordering::Relaxed) {
            return Err(Failure::failed(format!("stopped after {} of {} images", i + 1, paths.len())));
        }
    }
    counting.finish();
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
