//! `onsa export`: a model in the format that it is deployed in, proved.
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use onsa_tune::data::classify;
use onsa_tune::data::dataset::PixelOptions;
use onsa_tune::data::index::{self, LoadOptions};
use onsa_tune::engine;
use onsa_tune::export::job::{self, ExportError, Format, Pictures, Precision, Report, Request};
use onsa_tune::export::onnx::Suppression;
use onsa_tune::export::pictures;
use onsa_tune::export::proof::Proved;
use onsa_tune::models::open::{self, Opened, Source};
use onsa_tune::models::{ModelSpec, Scale, Task, WeightSource, identify};
use onsa_tune::train::recipe::Recipe;
use onsa_tune::train::recipe::table::{self, ArgumentError, any};

use super::{Verb, nothing_more};
use crate::arguments::Invocation;
use crate::failure::Failure;
use crate::output;
use crate::progress::Counting;

onsa_tune::arguments! {
    /// The arguments of `export` that a person gave.
    ExportArgs,
    /// The arguments of `export`.
    ExportArguments {
        "Export" {
            /// The model: a checkpoint file or a registered name whose weights are at hand. Required.
            model: String = String::new(), any;
            /// What to write: onnx, torch (a state dict for PyTorch), safetensors or tflite (LiteRT).
            format: String = "onnx".to_owned(), any;
            /// The file to write; by default the model's name with the format's ending, in its folder.
            output: Option<PathBuf> = None, any;
            /// The network's input, a square of this side in pixels; by default the model's own.
            imgsz: Option<u32> = None, table::image_size_or_none;
            /// Leave batch, height and width to the caller.
            dynamic: bool = false, any;
            /// Numbers of 16 bits within the network; inputs and outputs stay float32.
            half: bool = false, any;
            /// Convolutions in 8-bit integers, their ranges taken from training images; the cost in accuracy is stated. Those that need
            /// more bits stay float.
            int8: bool = false, any;
            /// Take pictures of bytes, height x width x 3, of any size, and fit them in the graph: letterboxed for a detector,
            /// whose boxes come out in pixels of the picture; for a classifier the middle square.
            preprocess: bool = false, any;
            /// Choose the boxes in the graph: boxes, scores and classes come out instead of all anchors.
            nms: bool = false, any;
            /// With nms: least confidence.
            conf: f64 = 0.25, table::unit;
            /// With nms: of two boxes that overlap by more than this, the less confident goes.
            iou: f64 = 0.7, table::unit;
            /// With nms: most boxes an image.
            max_det: u32 = 300, table::at_least_one;
        }
        "Proof" {
            /// The data set whose validation images the export is proved on (and whose training images give int8's ranges);
            /// by default the one that the model was trained on, where its run folder says; else drawn pictures.
            data: Option<PathBuf> = None, any;
            /// Most images to prove on.
            images: u32 = 32, table::at_least_one;
            /// Largest difference of mAP50-95, or of a classifier's top-1 accuracy; by default .001 for float32, .005 for half,
            /// .05 for int8, whose scores may besides change by .1 (a classifier's by .15) in the mean.
            tolerance: Option<f64> = None, table::unit_or_none;
            /// Compute threads; by default all that the machine has.
            threads: Option<u32> = None, table::at_least_one_or_none;
        }
    }
}

/// The verb.
pub const VERB: Verb = Verb {
    name: "export",
    about: "Write a model in the format it is deployed in, and prove that it does the same",
    positional: None,
    tables: &[ExportArgs::TABLE],
    also_known: nothing_more,
    examples: &[
        "onsa export model=runs/detect/train/weights/best.safetensors format=onnx",
        "onsa export model=best.safetensors nms=true preprocess=true output=app/detector.onnx",
        "onsa export model=best.safetensors format=torch output=best.pt",
    ],
    run,
};

/// Images that int8's ranges are taken from, at most.
const CALIBRATION_IMAGES: usize = 32;

fn run(invocation: &Invocation) -> Result<ExitCode, Failure> {
    let mut args = ExportArgs::default();
    invocation.each(|name, text| args.set(name, text))?;
    let o = args.fill();
    if o.model.is_empty() {
        return Err(ArgumentError::Missing { name: "model", example: "model=best.safetensors" }.into());
    }
    let format = format_of(&o.format)?;
    let precision = match (o.half, o.int8) {
        (true, true) => {
            return Err(Failure::usage("`half` and `int8` contradict one another").hint("give one of them"));
        }
        (true, false) => Precision::Float16,
        (false, true) => Precision::Int8,
        (false, false) => Precision::Float32,
    };
    let source = open::find(&o.model, &open::default_folders(), true)?;
    let side = o.imgsz.map_or_else(|| own_size(&source), |side| [side as usize; 2]);
    let opened = open::open(&source, None, side, true, 0)?;
    let file = opened.weights.as_ref().map(|w| w.path.clone()).unwrap_or_default();
    let output = o.output.clone().unwrap_or_else(|| default_output(&file, format, precision));
    let same = |a: &Path, b: &Path| a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b));
    if same(&output, &file) {
        return Err(Failure::failed(format!("the export would replace the model {}", file.display()))
            .hint("give another output="));
    }
    let pool = engine::threads(o.threads).map_err(|e| Failure::from_error(&e))?;
    let data = o.data.clone().or_else(|| trained_on(&file));
    let pictures = match &data {
        Some(data) => load(data, &opened, &o, precision)?,
        None => {
            output::note(
                "No validation images: the proof uses drawn pictures. Give data=DATA.yaml for your own.",
            );
            let channels = opened.model.architecture.image_channels;
            Pictures { proof: pictures::drawn((o.images as usize).min(4), channels), ..Pictures::default() }
        }
    };
    let (mut tolerance, mut class_tolerance) = (precision.tolerance(), precision.class_tolerance());
    if let Some(most) = o.tolerance {
        (tolerance.map, class_tolerance.top1) = (most, most);
        // What is allowed here is allowed of the scores too.
        for shift in [&mut tolerance.score_shift, &mut class_tolerance.score_shift] {
            *shift = shift.map(|least| least.max(most));
        }
    }
    let request = Request {
        format,
        output,
        precision,
        dynamic: o.dynamic,
        letterbox: o.preprocess,
        suppression: o.nms.then_some(Suppression {
            conf: o.conf as f32,
            iou: o.iou as f32,
            max_det: o.max_det as usize,
        }),
        tolerance,
        class_tolerance,
    };
    let mut counting: Option<(&'static str, Counting)> = None;
    let report = job::export(&opened, &request, &pictures, &pool, |what, done, all| {
        if counting.as_ref().is_none_or(|(current, _)| *current != what) {
            if let Some((_, finished)) = counting.take() {
                finished.finish();
            }
            counting = Some((what, Counting::new(what)));
        }
        if let Some((_, counting)) = &mut counting {
            counting.at(done, all);
        }
    });
    if let Some((_, finished)) = counting {
        finished.finish();
    }
    let report = report?;
    for warning in &report.warnings {
        output::note(&format!("warning: {warning}"));
    }
    if invocation.json {
        output::document(&report);
    } else {
        show(&report);
    }
    Ok(ExitCode::SUCCESS)
}

fn format_of(text: &str) -> Result<Format, Failure> {
    let wanted = match text.to_ascii_lowercase().as_str() {
        "pt" | "pth" | "pytorch" | "state_dict" => "torch".to_owned(),
        other => other.to_owned(),
    };
    Format::ALL.iter().find(|(_, name, _)| *name == wanted).map(|(format, ..)| *format).ok_or_else(|| {
        let names: Vec<&str> = Format::ALL.iter().map(|(_, name, _)| *name).collect();
        Failure::usage(format!("format={text} is not supported: format must be one of {}", names.join(", ")))
    })
}

fn own_size(source: &Source) -> [usize; 2] {
    match source {
        Source::File { checkpoint, .. } => checkpoint.meta.imgsz.map_or_else(
            || {
                // What the published model of its kind was made for.
                let found = identify::identify(checkpoint.meta.yaml.as_ref(), &checkpoint.tensors()).ok();
                let side = found.filter(|found| found.task == Task::Classify).map_or(640, |found| {
                    let scale = found.scale.unwrap_or(Scale::N);
                    ModelSpec::classifier(found.family, scale).preprocessing.image_size
                });
                [side; 2]
            },
            |[h, w]| [h as usize, w as usize],
        ),
        Source::Name(spec) => [spec.preprocessing.image_size; 2],
    }
}

fn default_output(model: &Path, format: Format, precision: Precision) -> PathBuf {
    let ending = Format::ALL.iter().find(|(f, ..)| *f == format).map_or("", |(_, _, ending)| ending);
    let numbers = match precision {
        Precision::Float32 => "",
        Precision::Float16 => "_half",
        Precision::Int8 => "_int8",
    };
    let stem = model.file_stem().unwrap_or_default().to_string_lossy();
    let path = model.with_file_name(format!("{stem}{numbers}.{ending}"));
    if path == model { model.with_file_name(format!("{stem}_export.{ending}")) } else { path }
}

/// The data set of the run that a weights file belongs to.
fn trained_on(weights: &Path) -> Option<PathBuf> {
    let run = weights.parent()?.parent()?;
    let recipe = Recipe::from_file(&run.join("args.yaml")).ok()?;
    recipe.data.exists().then_some(recipe.data)
}

fn load(
    data: &Path,
    opened: &Opened,
    o: &ExportArguments,
    precision: Precision,
) -> Result<Pictures, Failure> {
    let (names, task) = (&opened.names, opened.model.task());
    let channels = Some(opened.model.architecture.image_channels as u32);
    // A graph that fits pictures itself takes bytes.
    let pixels = PixelOptions { channels, eight_bits: o.preprocess };
    let options = LoadOptions { pixels, ..LoadOptions::default() };
    let dataset = match task {
        Task::Detect => index::load(data, &options).map(|loaded| loaded.dataset),
        Task::Classify => classify::load(data, &options).map(|loaded| loaded.dataset),
    }
    .map_err(|e| Failure::from_error(&e))?;
    let labelled = dataset.classes.len() == names.len()
        && dataset.classes.iter().zip(names).all(|(a, b)| a.trim().eq_ignore_ascii_case(b.trim()));
    if !labelled {
        let own = if task == Task::Detect { "boxes" } else { "guesses" };
        output::note(&format!(
            "The data set's classes are not the model's: the model's own {own} stand for the labels."
        ));
    }
    let unreadable = |(path, why): (PathBuf, String)| {
        Failure::failed(format!("{}: {why}", path.display())).hint("`onsa check` finds all such files")
    };
    let pixels = dataset.pixels;
    let proof =
        pictures::of_items((&dataset.val, pixels), o.images as usize, labelled).map_err(unreadable)?;
    let mut calibration = Vec::new();
    if precision == Precision::Int8 {
        calibration =
            pictures::of_items((&dataset.train, pixels), CALIBRATION_IMAGES, false).map_err(unreadable)?;
        if !labelled {
            output::note(
                "int8's ranges come from these images too: on images of another kind the scores may change more \
                 than the proof shows.",
            );
        }
    }
    Ok(Pictures { proof, calibration, calibrated_on: format!("training images of {}", data.display()) })
}

fn show(report: &Report) {
    output::line(&format!(
        "{}  {}, {}, {}",
        report.path.display(),
        report.format,
        report.precision,
        output::bytes(report.bytes as u64)
    ));
    if let Some(calibrated_on) = &report.calibrated_on {
        output::line(&format!("ranges from {calibrated_on}"));
    }
    match &report.proof {
        Proved::Boxes(proof) => {
            output::line(&format!(
                "proved by {} on {} images: {:.1}% of {} boxes agree, edges within {:.3} px, scores within {:.5}",
                proof.runtime,
                proof.images,
                100.0 * proof.agreement,
                proof.boxes,
                proof.max_box_difference,
                proof.max_score_difference
            ));
            let cost = proof.map50_95_export - proof.map50_95_model;
            output::line(&format!(
                "mAP50-95 {:.4} (the model: {:.4}, {cost:+.4}); scores of {} confident boxes {:+.4} in the mean",
                proof.map50_95_export, proof.map50_95_model, proof.confident, proof.score_shift
            ));
        }
        Proved::Classes(proof) => {
            output::line(&format!(
                "proved by {} on {} images: {:.1}% get the same class, scores within {:.5}",
                proof.runtime,
                proof.images,
                100.0 * proof.top1_agreement,
                proof.max_score_difference
            ));
            let cost = proof.top1_export - proof.top1_model;
            output::line(&format!(
                "top-1 accuracy {:.4} (the model: {:.4}, {cost:+.4}); scores of the model's classes {:+.4} in the mean",
                proof.top1_export, proof.top1_model, proof.score_shift
            ));
        }
    }
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Failure {
        let hint = match &error {
            ExportError::Write(write) => Some(write.hint()),
            ExportError::Options(_) => return Failure::usage(error.to_string()),
            ExportError::Unproved { .. } => Some(
                "export.json has the figures; try without half or int8, or allow more with tolerance="
                    .to_owned(),
            ),
            _ => None,
        };
        Failure { hint, ..Failure::from_error(&error) }
    }
}
