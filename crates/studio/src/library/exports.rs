//! Models in the formats that they are deployed in, each made once, with the proof that it does what the model does.
use std::path::PathBuf;

use rusqlite::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{datasets, models, program, versions};
use crate::store::blocking;
use crate::{App, Problem};

/// A format that a model is exported in.
struct Format {
    /// As the API has it.
    name: &'static str,
    /// Of the file.
    ending: &'static str,
    /// What `onsa export` is told.
    arguments: &'static [&'static str],
    /// What it is told besides of a model that finds objects.
    of_boxes: &'static [&'static str],
}

const FORMATS: [Format; 6] = [
    Format::of("onnx", "onnx", &["format=onnx"]),
    // Takes a picture of any size and gives the chosen boxes (or the classes): nothing is left for the caller to write.
    Format {
        of_boxes: &["nms=true"],
        ..Format::of("onnx-whole", "onnx", &["format=onnx", "preprocess=true"])
    },
    Format::of("torch", "pt", &["format=torch"]),
    Format::of("safetensors", "safetensors", &["format=safetensors"]),
    Format::of("tflite", "tflite", &["format=tflite"]),
    Format::of("tflite-int8", "tflite", &["format=tflite", "int8=true"]),
];

impl Format {
    const fn of(name: &'static str, ending: &'static str, arguments: &'static [&'static str]) -> Format {
        Format { name, ending, arguments, of_boxes: &[] }
    }
}

fn format(name: &str) -> Result<&'static Format, Problem> {
    let names = || FORMATS.map(|format| format.name).join(", ");
    let found = FORMATS.iter().find(|format| format.name == name);
    found.ok_or_else(|| Problem::invalid(format!("the format is one of {}", names())))
}

/// An exported model.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Exported {
    /// `onnx`, `onnx-whole`, `torch`, `safetensors`, `tflite` or `tflite-int8`.
    pub format: String,
    /// Bytes of the file.
    pub bytes: u64,
    /// Of the file, hexadecimal.
    pub sha256: String,
    /// How it compares with the model (`proof` of `onsa export --json`); null where the format is not proved here.
    pub proof: Value,
    /// SHA-256 of the model that it was made of: another one, once a run was extended, makes it stale.
    pub model_sha256: String,
}

fn paths(app: &App, model: i64, format: &Format) -> (PathBuf, PathBuf) {
    let cache = app.config.dir.join("cache");
    let stem = format!("model-{model}-{}", format.name);
    (cache.join(format!("{stem}.{}", format.ending)), cache.join(format!("{stem}.json")))
}

/// The export of that format, if it was made of the model as it is now.
fn kept(app: &App, model: &models::Model, format: &Format) -> Result<Option<Exported>, Problem> {
    let (file, document) = paths(app, model.id, format);
    let bytes = match std::fs::read(&document) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Problem::path("cannot read", &document, &e)),
    };
    let exported: Exported = serde_json::from_slice(&bytes)
        .map_err(|e| Problem::path("the export's document is damaged: remove", &document, &e))?;
    Ok(Some(exported).filter(|exported| exported.model_sha256 == model.sha256 && file.is_file()))
}

/// The exports of a model that there are.
///
/// # Errors
/// There is no such model, or what was kept of an export cannot be read.
pub async fn list(app: &App, id: i64) -> Result<Vec<Exported>, Problem> {
    let model = app.store.read(move |c| models::get(c, id)).await?;
    let app = app.clone();
    blocking(move || {
        let mut made = Vec::new();
        for format in &FORMATS {
            made.extend(kept(&app, &model, format)?);
        }
        Ok(made)
    })
    .await
}

/// The file of an export that was made, and the model's name.
///
/// # Errors
/// There is no such format, or the export was not made of the model as it is now.
pub async fn file(app: &App, id: i64, name: &str) -> Result<(PathBuf, String), Problem> {
    let format = format(name)?;
    let model = app.store.read(move |c| models::get(c, id)).await?;
    let (app, name) = (app.clone(), model.name.clone());
    blocking(move || {
        let missing = || Problem::missing("this export was not made yet").hint("make it on the model's page");
        kept(&app, &model, format)?.ok_or_else(missing)?;
        Ok((paths(&app, id, format).0, name))
    })
    .await
}

/// Exports a model, in a process of its own, with the proof that the export does the same. The proof, and the ranges of
/// 8-bit numbers, are taken from pictures: those that a run has trained on, else those of the newest version of `dataset`.
///
/// # Errors
/// The model cannot be exported in that format, or there is no such data set.
pub async fn export(app: &App, id: i64, name: &str, dataset: Option<i64>) -> Result<Exported, Problem> {
    let format = format(name)?;
    let (model, pictures) = app
        .store
        .read(move |c| {
            let pictures = dataset.map(|dataset| pictures(c, dataset)).transpose()?;
            Ok((models::get(c, id)?, pictures))
        })
        .await?;
    let (file, document) = paths(app, id, format);
    // What stands there of another state of the model must not pass for the new export's document.
    let _ = std::fs::remove_file(&document);
    let mut arguments = vec!["export".to_owned(), format!("model={}", model.path.display())];
    let more = if model.about.task.as_deref() == Some("classify") { &[] } else { format.of_boxes };
    arguments.extend(format.arguments.iter().chain(more).map(|argument| (*argument).to_owned()));
    arguments.extend(pictures.map(|pictures| format!("data={}", pictures.display())));
    arguments.push(format!("output={}", file.display()));
    let mut report = program::onsa(app, &arguments).await.map_err(advised)?;
    let exported = Exported {
        format: format.name.to_owned(),
        bytes: serde_json::from_value(report["bytes"].take())?,
        sha256: serde_json::from_value(report["sha256"].take())?,
        proof: report["proof"].take(),
        model_sha256: model.sha256,
    };
    let text = serde_json::to_vec(&exported)?;
    blocking(move || Ok(onsa_tune::durable::write(&document, &text)?)).await?;
    Ok(exported)
}

/// The newest version of a data set, as `data=` takes it.
fn pictures(c: &Connection, dataset: i64) -> Result<PathBuf, Problem> {
    let classifies = datasets::ready(c, dataset)?.classifies();
    let missing = || Problem::missing("the data set has no version yet").hint("make one on its page");
    let newest = versions::list(c, dataset)?.into_iter().next().ok_or_else(missing)?;
    Ok(if classifies { newest.root } else { newest.root.join("data.yaml") })
}

/// What `onsa export` advises are arguments; here a person has buttons.
fn advised(problem: Problem) -> Problem {
    if problem.message.contains("int8 needs pictures") {
        Problem::invalid("8-bit numbers need pictures to take their ranges from")
            .hint("choose a data set of pictures like those that the model will see")
    } else if problem.message.contains("does not do what the model does") {
        problem.hint("take another form of the model: this one rounds its numbers too much")
    } else {
        problem
    }
}
