//! `onsa inspect`: what a model file holds. Nothing in it is executed.
use std::process::ExitCode;

use onsa_intake::checkpoint::{self, Checkpoint, CheckpointError};
use onsa_tune::models::WeightSource;
use onsa_tune::models::identify::identify;
use serde::Serialize;

use super::{Positional, Verb, nothing_more};
use crate::arguments::Invocation;
use crate::failure::Failure;
use crate::output;

/// The verb.
pub const VERB: Verb = Verb {
    name: "inspect",
    about: "Show what a model file holds, executing nothing",
    positional: Some(Positional { name: "FILE", help: "A model file: .pt, .pth, .safetensors or .onnx." }),
    tables: &[],
    also_known: nothing_more,
    examples: &["onsa inspect yolo11n.pt", "onsa inspect runs/detect/train/weights/best.safetensors --json"],
    run,
};

/// The document of `--json`.
#[derive(Debug, Serialize)]
struct Document<'a> {
    format: &'static str,
    /// `null` where the tensors belong to no model of the zoo.
    family: Option<String>,
    /// The family with its scale, such as `yolo11n`.
    model: Option<String>,
    task: Option<&'a str>,
    classes: Option<&'a [String]>,
    /// Classes that were added, with layers of their own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    branches: Vec<BranchEntry<'a>>,
    /// Elements of all tensors that training can change: BatchNorm's statistics and counters left out.
    parameters: usize,
    tensors: Vec<TensorEntry<'a>>,
    licence: Option<&'a str>,
    sha256: &'a str,
    /// Where in the file the tensors were taken from, such as `ema`.
    source: Option<&'a str>,
    /// True where the BatchNorms are folded into the convolutions.
    norm_folded: bool,
    version: Option<&'a str>,
    date: Option<&'a str>,
    epoch: Option<i64>,
    /// Input height and width in pixels.
    imgsz: Option<[u32; 2]>,
}

#[derive(Debug, Serialize)]
struct BranchEntry<'a> {
    /// Layers that it shares with the model.
    shared_layers: usize,
    classes: &'a [String],
}

#[derive(Debug, Serialize)]
struct TensorEntry<'a> {
    name: &'a str,
    dtype: &'static str,
    shape: &'a [usize],
}

fn run(invocation: &Invocation) -> Result<ExitCode, Failure> {
    let Some(path) = &invocation.positional else {
        return Err(Failure::usage("no file is given").hint("onsa inspect yolo11n.pt"));
    };
    let checkpoint = checkpoint::read(path)?;
    let document = examine(&checkpoint);
    if invocation.json {
        output::document(&document);
    } else {
        output::line(&describe(&document));
    }
    Ok(ExitCode::SUCCESS)
}

fn examine(checkpoint: &Checkpoint) -> Document<'_> {
    let meta = &checkpoint.meta;
    // A file of no known family is still a file to look into: no error here.
    let architecture = identify(meta.yaml.as_ref(), &checkpoint.tensors()).ok();
    let is_parameter = |tensor: &&checkpoint::Tensor| {
        !["running_mean", "running_var", "num_batches_tracked"]
            .iter()
            .any(|statistic| tensor.name.ends_with(statistic))
    };
    let branches = architecture.iter().flat_map(|architecture| {
        architecture.branches.iter().enumerate().map(|(i, branch)| {
            let own = architecture.part_classes(i + 1);
            let classes = meta.names.as_ref().and_then(|names| names.get(own)).unwrap_or_default();
            BranchEntry { shared_layers: branch.from, classes }
        })
    });
    Document {
        branches: branches.collect(),
        format: checkpoint.format.name(),
        family: architecture.as_ref().map(|architecture| architecture.family.name().to_owned()),
        model: architecture.as_ref().map(|architecture| architecture.name()),
        task: meta.task.as_deref().or(architecture.as_ref().map(|architecture| architecture.task.name())),
        classes: meta.names.as_deref(),
        parameters: checkpoint.tensors.iter().filter(is_parameter).map(checkpoint::Tensor::elements).sum(),
        tensors: checkpoint
            .tensors
            .iter()
            .map(|tensor| TensorEntry {
                name: &tensor.name,
                dtype: tensor.dtype.name(),
                shape: &tensor.shape,
            })
            .collect(),
        licence: meta.licence.as_deref(),
        sha256: &checkpoint.sha256,
        source: meta.source.as_deref(),
        norm_folded: meta.norm_folded,
        version: meta.version.as_deref(),
        date: meta.date.as_deref(),
        epoch: meta.epoch,
        imgsz: meta.imgsz,
    }
}

fn describe(document: &Document<'_>) -> String {
    let or_unknown = |text: Option<&str>| text.unwrap_or("the file does not say").to_owned();
    let classes = document
        .classes
        .map_or_else(|| or_unknown(None), |names| format!("{}: {}", names.len(), names.join(", ")));
    let mut lines = vec![
        ("format", document.format.to_owned()),
        ("model", document.model.clone().unwrap_or_else(|| "none that onsa knows".into())),
        ("task", or_unknown(document.task)),
        ("classes", classes),
    ];
    lines.extend(document.branches.iter().map(|branch| {
        let (shared, classes) = (branch.shared_layers, branch.classes.join(", "));
        ("branch", format!("shares the first {shared} layers; {}: {classes}", branch.classes.len()))
    }));
    lines.extend([
        ("parameters", document.parameters.to_string()),
        ("licence", or_unknown(document.licence)),
        ("sha256", document.sha256.to_owned()),
    ]);
    let optional = [
        ("taken from", document.source.map(str::to_owned)),
        ("norms", document.norm_folded.then(|| "folded into the convolutions".to_owned())),
        ("version", document.version.map(str::to_owned)),
        ("date", document.date.map(str::to_owned)),
        ("epoch", document.epoch.map(|epoch| epoch.to_string())),
        ("input", document.imgsz.map(|[height, width]| format!("{height} x {width} pixels"))),
    ];
    lines.extend(optional.into_iter().filter_map(|(name, value)| Some((name, value?))));
    let mut text: String = lines.iter().map(|(name, value)| format!("{name:<12}{value}\n")).collect();
    text.push_str(&format!("\n{} tensors\n", document.tensors.len()));
    for tensor in &document.tensors {
        let shape: Vec<String> = tensor.shape.iter().map(usize::to_string).collect();
        text.push_str(&format!("  {:<9} {:<18} {}\n", tensor.dtype, shape.join(" x "), tensor.name));
    }
    text.trim_end().to_owned()
}

impl From<CheckpointError> for Failure {
    /// The messages of checkpoints say what to do themselves.
    fn from(error: CheckpointError) -> Failure {
        Failure::from_error(&error)
    }
}
