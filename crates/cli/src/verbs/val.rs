//! `onsa val`: a model's figures on a data set.
mod classify;
mod predictions;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use onsa_tune::data::cache::CachePolicy;
use onsa_tune::data::dataset::{PixelOptions, Split};
use onsa_tune::data::division::{Splitting, VAL_FRACTION};
use onsa_tune::data::groups::GroupBy;
use onsa_tune::data::index::{self, LoadOptions};
use onsa_tune::data::val_loader::ValConfig;
use onsa_tune::engine::Inference;
use onsa_tune::evaluate::classify::Interval;
use onsa_tune::evaluate::plots::{metric_plots, write_plot};
use onsa_tune::evaluate::validate::{ValidateOptions, truths, validate};
use onsa_tune::evaluate::{DetectMetrics, Postprocess, detect_intervals};
use onsa_tune::models::open::Opened;
use onsa_tune::models::transfer::places;
use onsa_tune::models::{Task, open};
use onsa_tune::train::recipe::CLASSIFY_IMGSZ;
use onsa_tune::train::recipe::run_dir;
use onsa_tune::train::recipe::table::{self, ArgumentError, any};
use onsa_tune::train::start::image_cache;

use super::{Verb, nothing_more};
use crate::arguments::Invocation;
use crate::failure::Failure;
use crate::progress::Counting;
use crate::{output, signals};

onsa_tune::arguments! {
    /// The arguments of `val` that a person gave.
    ValArgs,
    /// The arguments of `val`.
    ValArguments {
        "Validate" {
            /// The model: a checkpoint file or a registered name. Required.
            model: String = String::new(), any;
            /// The data set: a data.yaml, or a COCO or VOC folder; for a classifier what it was trained on. Required.
            data: PathBuf = PathBuf::new(), any;
            /// Which part of the data set: train, val or test.
            split: String = "val".to_owned(), any;
            /// What the images were grouped by for training, where onsa divided them: as in `train`.
            group: Option<GroupBy> = None, any;
            /// The share that validation got in training, where onsa divided the images: as in `train`.
            val_fraction: f64 = VAL_FRACTION, table::share;
            /// Whether training divided the images anew: as in `train`.
            resplit: bool = false, any;
            /// The side of the network's input, in pixels: of a detector the long one, of a classifier both, by default those
            /// that it was trained at.
            imgsz: u32 = 640, table::image_size;
            /// Images in a batch.
            batch: u32 = 16, table::at_least_one;
            /// Batches of similar aspect ratios instead of squares.
            rect: bool = true, any;
            /// Least confidence of the detections that are counted.
            conf: f64 = 0.001, table::unit;
            /// Of two boxes of a class that overlap by more than this, the less confident goes.
            iou: f64 = 0.7, table::unit;
            /// Most boxes an image.
            max_det: u32 = 300, table::at_least_one;
            /// Treat every object as of one class.
            single_cls: bool = false, any;
            /// Where to compute: auto (a GPU where one can be used), cpu, cuda or cuda:N.
            device: Option<String> = None, any;
            /// Compute in bfloat16 on a GPU; otherwise, and on the processor always, in float32.
            half: bool = false, any;
            /// Compute threads; by default all that the machine has.
            threads: Option<u32> = None, table::at_least_one_or_none;
            /// Threads that load.
            workers: u32 = 8, any;
            /// Say how sure the mean average precisions are: 95 % bootstrap intervals over the images.
            intervals: bool = false, any;
            /// Write what was found on each image, beside its labels, into this JSON file: boxes of at least 0.25 confidence,
            /// of a classifier the five likeliest classes.
            predictions: Option<PathBuf> = None, any;
            /// Draw the curves.
            plots: bool = true, any;
            /// The folder in which results are collected.
            project: PathBuf = PathBuf::from("runs/detect"), any;
            /// The results' name: their folder inside the project, numbered if taken.
            name: String = "val".to_owned(), any;
            /// Write into the folder even if it exists.
            exist_ok: bool = false, any;
        }
    }
}

impl ValArguments {
    /// The data as the model sees them: with as many channels as it takes.
    fn load_options(&self, opened: &Opened) -> LoadOptions {
        let (group, val_fraction, resplit) = (self.group.clone(), self.val_fraction, self.resplit);
        let channels = Some(opened.model.architecture.image_channels as u32);
        LoadOptions {
            single_cls: self.single_cls,
            splitting: Splitting { group, val_fraction, resplit },
            pixels: PixelOptions { channels, eight_bits: false },
            ..LoadOptions::default()
        }
    }
}

/// The verb.
pub const VERB: Verb = Verb {
    name: "val",
    about: "Measure a model on a data set",
    positional: None,
    tables: &[ValArgs::TABLE],
    also_known: nothing_more,
    examples: &["onsa val model=runs/detect/train/weights/best.safetensors data=crops/data.yaml"],
    run,
};

fn run(invocation: &Invocation) -> Result<ExitCode, Failure> {
    let mut args = ValArgs::default();
    invocation.each(|name, text| args.set(name, text))?;
    let o = args.fill();
    if o.model.is_empty() {
        return Err(ArgumentError::Missing { name: "model", example: "model=yolo11n.pt" }.into());
    }
    if o.data.as_os_str().is_empty() {
        return Err(ArgumentError::Missing { name: "data", example: "data=my-data/data.yaml" }.into());
    }
    let Some(split) = Split::ALL.into_iter().find(|split| split.name() == o.split) else {
        return Err(Failure::usage(format!("split={} is not one of train, val, test", o.split)));
    };
    let source = open::find(&o.model, &open::default_folders(), true)?;
    if source.task() == Some(Task::Classify) {
        let imgsz = args.imgsz.or(source.imgsz()).unwrap_or(CLASSIFY_IMGSZ);
        let opened = open::open(&source, None, [imgsz as usize; 2], true, 0)?;
        let o = ValArguments { project: args.project.unwrap_or_else(|| PathBuf::from("runs/classify")), ..o };
        return classify::run(invocation, &o, split, &opened, imgsz);
    }
    let stop = signals::stop_flag()?;
    let side = o.imgsz as usize;
    let opened = open::open(&source, None, [side, side], true, 0)?;
    let loaded = index::load(&o.data, &o.load_options(&opened)).map_err(|e| Failure::from_error(&e))?;
    for fault in loaded.faults.iter().filter(|f| f.is_error()) {
        output::warning(&format!("{fault} (not counted)"));
    }
    let mut items = loaded.dataset.split(split).to_vec();
    let classes = &loaded.dataset.classes;
    // Labels name classes by number, and the model may have others beside them.
    let numbers: Vec<u32> = places(&opened.names, classes).into_iter().flatten().collect();
    if !o.single_cls && numbers.len() == classes.len() {
        for label in items.iter_mut().flat_map(|item| &mut item.labels) {
            if let Some(&number) = numbers.get(label.class as usize) {
                label.class = number;
            }
        }
    } else if !o.single_cls {
        return Err(Failure::failed(format!(
            "the model's classes ({}) are not the data set's ({})",
            abridged(&opened.names),
            abridged(classes)
        ))
        .hint(
            "validate with the data set that the model was trained for, or fine-tune it on this one first",
        ));
    }
    let place = super::place_for(&opened.model, (o.device.as_deref(), o.half, o.threads))?;
    let mut network = Inference::new(&opened.model, opened.params.clone(), place);
    let cache = Arc::new(image_cache(items, o.imgsz, CachePolicy::None, loaded.dataset.pixels));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let loader = ValConfig {
        imgsz: o.imgsz,
        batch: o.batch as usize,
        rect: o.rect,
        single_cls: o.single_cls,
        workers: (o.workers as usize).min(cores),
        ..ValConfig::default()
    };
    let postprocess = Postprocess {
        conf: o.conf as f32,
        iou: o.iou as f32,
        max_det: o.max_det as usize,
        ..Postprocess::validation()
    };
    let mut counting = Counting::new("validating");
    let result = validate(
        &mut network,
        &cache,
        &opened.names,
        &ValidateOptions { loader, postprocess, keep: o.intervals || o.predictions.is_some() },
        None,
        |done, all| {
            counting.at(done, all);
            !stop.load(Ordering::Relaxed)
        },
    );
    counting.finish();
    let validation = result.map_err(|e| Failure::from_error(&e))?;
    if stop.load(Ordering::Relaxed) {
        return Err(Failure::failed("stopped before all images were seen"));
    }
    if let Some(file) = &o.predictions {
        predictions::write(file, &validation.images, cache.items(), &opened.names, o.single_cls)?;
    }
    let mut metrics = validation.metrics;
    if o.intervals {
        let images: Vec<_> = validation
            .images
            .into_iter()
            .map(|image| (image.detections, truths(&cache.items()[image.item], o.single_cls)))
            .collect();
        metrics.intervals = Some(detect_intervals(&images, opened.names.len()));
    }
    let folder = if o.plots {
        let folder = run_dir::claim(&o.project, &o.name, o.exist_ok)?;
        for (name, drawing) in metric_plots(&metrics, &opened.names) {
            write_plot(&folder, name, &drawing).map_err(|e| Failure::from_error(&e))?;
        }
        Some(folder)
    } else {
        None
    };
    if invocation.json {
        output::document(&metrics.without_curves());
    } else {
        table_of(&metrics, folder.as_deref());
    }
    Ok(ExitCode::SUCCESS)
}

fn abridged(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown}, … {} in all", names.len()) } else { shown }
}

fn table_of(metrics: &DetectMetrics, folder: Option<&Path>) {
    output::line(&format!(
        "{:<20} {:>7} {:>7} {:>9} {:>7} {:>7} {:>9}",
        "class", "images", "boxes", "precision", "recall", "mAP50", "mAP50-95"
    ));
    let row = |name: &str, images: u64, boxes: u64, figures: [f64; 4]| {
        let [p, r, ap50, ap] = figures;
        output::line(&format!("{name:<20} {images:>7} {boxes:>7} {p:>9.3} {r:>7.3} {ap50:>7.3} {ap:>9.3}"));
    };
    let interval = |name: &str, interval: Option<Interval>| {
        if let Some(Interval { low, high }) = interval {
            output::line(&format!("{name:<20} 95 % interval {low:.3} to {high:.3}"));
        }
    };
    row(
        "all",
        metrics.images,
        metrics.boxes,
        [metrics.precision, metrics.recall, metrics.map50, metrics.map50_95],
    );
    if metrics.per_class.len() > 1 {
        for c in &metrics.per_class {
            row(&c.name, c.images, c.boxes, [c.precision, c.recall, c.ap50, c.ap]);
        }
    }
    if let Some(intervals) = &metrics.intervals {
        interval("mAP50", intervals.map50);
        interval("mAP50-95", intervals.map50_95);
    }
    if let Some(folder) = folder {
        output::line(&format!("plots  {}", folder.display()));
    }
}

impl From<open::OpenError> for Failure {
    fn from(error: open::OpenError) -> Failure {
        Failure { hint: error.hint(), ..Failure::from_error(&error) }
    }
}
