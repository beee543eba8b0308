//! `onsa predict`: find objects in images, or tell what they show.
mod classify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use onsa_tune::boxes::Detection;
use onsa_tune::data::raster::Rgb8;
use onsa_tune::durable;
use onsa_tune::engine::Inference;
use onsa_tune::evaluate::Postprocess;
use onsa_tune::evaluate::draw::{detection_marks, draw_marks, encode_jpeg};
use onsa_tune::models::{Task, open};
use onsa_tune::predict::source::{Input, inputs};
use onsa_tune::predict::stream::{StreamOptions, stream, stream_video};
use onsa_tune::predict::tiles::Tiling;
use onsa_tune::predict::video::{Recording, Video};
use onsa_tune::predict::{Fit, Frame, PredictError, Prediction, Reduction};
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
            /// An image, a video (where ffmpeg is installed), a folder of them, a pattern such as 'photos/*.jpg', a .txt list of
            /// paths, or - for the standard input (an image or a list). Required.
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
            /// Of a video, look at every so many-th frame.
            vid_stride: u32 = 1, table::at_least_one;
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
            /// Write the images with their boxes drawn; of a video an MP4 file.
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

pub use classify::top5;

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
        return classify::run(invocation, &o, inputs, &opened, imgsz);
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
    // Before anything is computed or written: a video that cannot be opened is known at once.
    let sources = sources(inputs, &o)?;
    let stop = signals::stop_flag()?;
    let folder = if o.save { Some(run_dir::claim(&o.project, &o.name, o.exist_ok)?) } else { None };
    let mut documents = Vec::new();
    let mut told = Told::new(stop, &sources);
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
    for source in &sources {
        match source {
            Frames::Of(video) => {
                let mut recording = None;
                let mut summary = Summary::default();
                let mut each = |prediction: Prediction| -> Result<bool, Failure> {
                    if let Some(folder) = &folder {
                        record(&mut recording, &prediction, &opened.names, (folder, video))?;
                    }
                    summary.add(&prediction.detections, &opened.names);
                    documents.push(document(&prediction, &opened.names));
                    told.one_more()
                };
                stream_video(&mut network, video, &stream_options, stop, &mut each)?;
                told.check()?;
                if let Some(recording) = recording {
                    recording.finish().map_err(PredictError::Video)?;
                }
                if !invocation.json {
                    told.line(&summary.text(video));
                }
            }
            Frames::Pictures(pictures) => {
                let mut each = |prediction: Prediction| -> Result<bool, Failure> {
                    if let Some(folder) = &folder {
                        draw(&prediction, &opened.names, folder)?;
                    }
                    if !invocation.json {
                        told.line(&summary(&prediction, &opened.names));
                    }
                    documents.push(document(&prediction, &opened.names));
                    told.one_more()
                };
                stream(&mut network, pictures, &stream_options, &mut each)?;
            }
        }
    }
    told.finish();
    if invocation.json {
        output::document(&documents);
    } else if let Some(folder) = folder {
        output::line(&format!("drawn  {}", folder.display()));
    }
    Ok(ExitCode::SUCCESS)
}

/// What is predicted in one go.
pub(super) enum Frames {
    /// Pictures that follow one another.
    Pictures(Vec<Input>),
    /// A video's frames.
    Of(Video),
}

/// The inputs, each video opened.
fn sources(inputs: Vec<Input>, o: &PredictArguments) -> Result<Vec<Frames>, Failure> {
    let mut out = Vec::new();
    for input in inputs {
        match (input, out.last_mut()) {
            (Input::Video(path), _) => {
                let video = Video::open(&path, u64::from(o.vid_stride)).map_err(PredictError::Video)?;
                out.push(Frames::Of(video));
            }
            (input, Some(Frames::Pictures(pictures))) => pictures.push(input),
            (input, _) => out.push(Frames::Pictures(vec![input])),
        }
    }
    Ok(out)
}

/// How far a prediction is, said on stderr.
pub(super) struct Told {
    counting: Counting,
    started: Instant,
    done: usize,
    /// As far as the videos say.
    all: usize,
    videos: bool,
    stop: &'static AtomicBool,
}

impl Told {
    pub(super) fn new(stop: &'static AtomicBool, sources: &[Frames]) -> Told {
        let count = |frames: &Frames| match frames {
            Frames::Pictures(pictures) => pictures.len(),
            Frames::Of(video) => video.looked_at().unwrap_or(0) as usize,
        };
        Told {
            counting: Counting::new("predicting"),
            started: Instant::now(),
            done: 0,
            all: sources.iter().map(count).sum(),
            videos: sources.iter().any(|s| matches!(s, Frames::Of(_))),
            stop,
        }
    }

    pub(super) fn line(&self, text: &str) {
        self.counting.line(text);
    }

    /// Counts one; fails where a person wants it to end.
    pub(super) fn one_more(&mut self) -> Result<bool, Failure> {
        self.done += 1;
        self.counting.at(self.done, self.all.max(self.done));
        self.check()?;
        Ok(true)
    }

    /// Fails where a person wants it to end.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if !self.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        let of = if self.videos { String::new() } else { format!(" of {}", self.all) };
        Err(Failure::failed(format!("stopped after {}{of} images", self.done)))
    }

    pub(super) fn finish(&self) {
        self.counting.finish();
        let rate = self.done as f64 / self.started.elapsed().as_secs_f64();
        output::note(&format!("{} images, {rate:.1} images/s with decoding", self.done));
    }
}

/// What was found in a video.
#[derive(Default)]
struct Summary {
    frames: usize,
    /// In how many frames each class was seen.
    seen: std::collections::BTreeMap<String, usize>,
}

impl Summary {
    fn add(&mut self, detections: &[Detection], names: &[String]) {
        self.frames += 1;
        let classes: std::collections::BTreeSet<u32> = detections.iter().map(|d| d.class).collect();
        for class in classes {
            *self.seen.entry(name_of(names, class)).or_default() += 1;
        }
    }

    /// `clip.mp4  250 frames: person in 240, bus in 12`.
    fn text(&self, video: &Video) -> String {
        let seen: Vec<String> = self.seen.iter().map(|(name, count)| format!("{name} in {count}")).collect();
        let found = if seen.is_empty() { "nothing".to_owned() } else { seen.join(", ") };
        format!("{}  {} frames: {found}", video.path.display(), self.frames)
    }
}

/// Draws a frame and adds it to the file that is being written, which the first one starts.
fn record(
    recording: &mut Option<Recording>,
    prediction: &Prediction,
    names: &[String],
    (folder, video): (&Path, &Video),
) -> Result<(), Failure> {
    let drawn = drawn(prediction, names);
    let recording = match recording {
        Some(recording) => recording,
        None => {
            let stem = prediction.path.file_stem().unwrap_or_default().to_string_lossy();
            let path = folder.join(format!("{stem}.mp4"));
            let rate = video.rate / video.stride as f64;
            let size = (prediction.image.width, prediction.image.height);
            recording.insert(Recording::start(&path, size, rate).map_err(PredictError::Video)?)
        }
    };
    let image =
        Rgb8 { width: prediction.image.width, height: prediction.image.height, data: drawn.into_raw() };
    recording.add(&image).map_err(PredictError::Video)?;
    Ok(())
}

/// The picture with its boxes.
fn drawn(prediction: &Prediction, names: &[String]) -> image::RgbImage {
    let image = &prediction.image;
    let mut picture = image::RgbImage::from_raw(image.width as u32, image.height as u32, image.data.clone())
        .expect("the decoder gives width * height * 3 bytes");
    draw_marks(&mut picture, &detection_marks(&prediction.detections, names));
    picture
}

fn draw(prediction: &Prediction, names: &[String], folder: &Path) -> Result<(), Failure> {
    let picture = drawn(prediction, names);
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
    let mut document = json!({
        "image": prediction.path,
        "width": prediction.image.width,
        "height": prediction.image.height,
        "boxes": boxes(&prediction.detections, names),
    });
    place(&mut document, prediction.frame);
    document
}

/// Of a video: which frame, and when.
fn place(document: &mut Value, frame: Option<Frame>) {
    if let (Some(frame), Some(fields)) = (frame, document.as_object_mut()) {
        fields.insert("frame".to_owned(), frame.index.into());
        fields.insert("seconds".to_owned(), frame.seconds.into());
    }
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
        let hint = match &error {
            PredictError::Video(video) => video.hint().map(str::to_owned),
            _ => None,
        };
        Failure { hint, ..Failure::from_error(&error) }
    }
}
