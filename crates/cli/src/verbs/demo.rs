//! `onsa demo`: the main job on real weights and real images, or on drawn ones.
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use onsa_tune::evaluate::Metrics;
use onsa_tune::train::RunOptions;
use onsa_tune::train::recipe::TrainArgs;
use onsa_tune::train::recipe::table::{self, any};
use serde::Serialize;

use super::{Verb, nothing_more};
use crate::arguments::Invocation;
use crate::demo::assets::{self, ASSETS, Asset, AssetError};
use crate::demo::clients::ClientError;
use crate::demo::draws::{self, Drawing};
use crate::demo::tiles::{self, Laid, TileError};
use crate::failure::Failure;
use crate::output;

onsa_tune::arguments! {
    /// The arguments of `demo` that a person gave.
    DemoArgs,
    /// The arguments of `demo`.
    DemoOptions {
        "Demo" {
            /// Draw the images instead of bringing real ones; needs no network and no package client.
            offline: bool = false, any;
            /// Bring the real weights and images and cut the tiles, then stop.
            fetch_only: bool = false, any;
            /// Epochs.
            epochs: u32 = 30, table::at_least_one;
            /// Seed of the drawn images and of the training.
            seed: u64 = 0, any;
            /// Compute threads; by default all that the machine has.
            threads: Option<u32> = None, table::at_least_one_or_none;
            /// The folder in which the run is written.
            project: PathBuf = PathBuf::from("runs/demo"), any;
        }
    }
}

/// The verb.
pub const VERB: Verb = Verb {
    name: "demo",
    about: "Fine-tune real weights on real images, from nothing to a report, in minutes",
    positional: None,
    tables: &[DemoArgs::TABLE],
    also_known: nothing_more,
    examples: &["onsa demo", "onsa demo --offline", "onsa demo --fetch-only"],
    run,
};

#[derive(Debug, Serialize)]
struct Document {
    assets: Option<String>,
    model: Option<String>,
    data: String,
    train_images: usize,
    train_boxes: usize,
    val_images: usize,
    val_boxes: usize,
}

fn run(invocation: &Invocation) -> Result<ExitCode, Failure> {
    let mut args = DemoArgs::default();
    invocation.each(|name, text| args.set(name, text))?;
    let options = args.fill();
    if options.offline && options.fetch_only {
        return Err(Failure::usage("`offline` and `fetch_only` contradict one another")
            .hint("--fetch-only brings files, --offline needs none"));
    }
    let (assets, laid) = if options.offline {
        (None, drawn(options.seed)?)
    } else if options.fetch_only {
        real(&ASSETS.iter().collect::<Vec<_>>())?
    } else {
        real(&assets::for_the_demo())?
    };
    let document = Document {
        model: assets.as_ref().map(|folder| folder.join(assets::YOLO12N).display().to_string()),
        assets: assets.map(|folder| folder.display().to_string()),
        data: laid.data.display().to_string(),
        train_images: laid.train.tiles,
        train_boxes: laid.train.boxes,
        val_images: laid.val.tiles,
        val_boxes: laid.val.boxes,
    };
    if options.fetch_only {
        if invocation.json {
            output::document(&document);
        } else {
            describe(&document, output::Sink::Out);
        }
        return Ok(ExitCode::SUCCESS);
    }
    describe(&document, output::Sink::Error);
    fine_tune(invocation, &options, &document)
}

fn describe(document: &Document, sink: output::Sink) {
    if let Some(model) = &document.model {
        output::to(sink, &format!("weights      {model}"));
    }
    output::to(sink, &format!("data set     {}", document.data));
    let (images, boxes) = (document.train_images, document.train_boxes);
    output::to(sink, &format!("training     {images} images, {boxes} boxes"));
    output::to(sink, &format!("validation   {} images, {} boxes", document.val_images, document.val_boxes));
}

/// The main job with the default recipe, but few epochs. Drawn images are small, and no weights fit them: a small network
/// from scratch.
fn fine_tune(
    invocation: &Invocation,
    options: &DemoOptions,
    document: &Document,
) -> Result<ExitCode, Failure> {
    let mut args = TrainArgs::default();
    let mut set = |name: &str, text: String| args.set(name, &text);
    match &document.model {
        Some(model) => {
            set("model", model.clone())?;
            set("imgsz", "416".into())?;
            set("batch", "8".into())?;
        }
        None => {
            set("model", "yolov8n".into())?;
            set("pretrained", "false".into())?;
            set("imgsz", "160".into())?;
            set("batch", "16".into())?;
            set("lr0", "0.002".into())?;
            // From scratch, a few hundred steps: each counts.
            set("nbs", "16".into())?;
        }
    }
    set("data", document.data.clone())?;
    set("epochs", options.epochs.to_string())?;
    set("close_mosaic", (options.epochs / 4).to_string())?;
    set("seed", options.seed.to_string())?;
    set("project", options.project.display().to_string())?;
    if let Some(threads) = options.threads {
        set("threads", threads.to_string())?;
    }
    let recipe = args.resolve()?;
    let outcome = super::train::run_recipe(&recipe, RunOptions { validate_start: true })?;
    let detector = |metrics: &Option<Metrics>| metrics.as_ref().and_then(Metrics::detect).cloned();
    if let (false, Some(before), Some(after)) =
        (invocation.json, detector(&outcome.before), detector(&outcome.metrics))
    {
        output::line(&format!("mAP50      before {:.3}   after {:.3}", before.map50, after.map50));
        output::line(&format!("mAP50-95   before {:.3}   after {:.3}", before.map50_95, after.map50_95));
    }
    super::train::report(invocation, &outcome);
    Ok(ExitCode::SUCCESS)
}

/// The images that the demo draws: small enough for minutes on two cores.
const DRAWING: Drawing = Drawing { train: 96, val: 24, side: 160, seed: 0 };

fn drawn(seed: u64) -> Result<Laid, Failure> {
    let folder = PathBuf::from("runs").join("demo").join("shapes");
    draws::lay(Drawing { seed, ..DRAWING }, &folder).map_err(Failure::from)
}

fn real(wanted: &[&'static Asset]) -> Result<(Option<PathBuf>, Laid), Failure> {
    let folder = assets::folder()?;
    let brought = assets::fetch(&folder, wanted)?;
    output::note(&match brought {
        0 => format!("All {} files are in {}.", wanted.len(), folder.display()),
        _ => format!("Brought {brought} of {} files into {}.", wanted.len(), folder.display()),
    });
    let laid = tiles::lay(&folder, &folder.join("trees"))?;
    Ok((Some(folder), laid))
}

impl From<AssetError> for Failure {
    fn from(error: AssetError) -> Failure {
        const OFFLINE: &str = "`onsa demo --offline` draws its own images and needs nothing";
        let mut failure = Failure::from_error(&error);
        let hint = match &error {
            AssetError::Missing { missing } => {
                failure.causes = missing.iter().map(|m| format!("{}: {}", m.what, m.error)).collect();
                let absent: BTreeSet<&str> = missing
                    .iter()
                    .filter_map(|m| match m.error {
                        ClientError::NotInstalled { program } => Some(program),
                        _ => None,
                    })
                    .collect();
                let remedy = if absent.is_empty() {
                    "check the network".to_owned()
                } else {
                    format!("install {}", absent.into_iter().collect::<Vec<_>>().join(" and "))
                };
                format!("{remedy} and run the command again (what was brought is kept); {OFFLINE}")
            }
            AssetError::NoFolder => "set ONSA_ASSETS to a folder".to_owned(),
            AssetError::Write(error) => error.hint(),
            AssetError::Archive { .. } | AssetError::Io { .. } => {
                format!("set ONSA_ASSETS to another folder; {OFFLINE}")
            }
        };
        failure.hint(hint)
    }
}

impl From<TileError> for Failure {
    fn from(error: TileError) -> Failure {
        Failure::from_error(&error)
    }
}
