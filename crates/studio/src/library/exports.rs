//! Models in the formats that they are deployed in, each made once, with the proof that it does what the model does.
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{models, program};
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
}

const FORMATS: [Format; 5] = [
    Format { name: "onnx", ending: "onnx", arguments: &["format=onnx"] },
    // Takes a picture of any size and gives the chosen boxes: nothing is left for the caller to write.
    Format { name: "onnx-whole", ending: "onnx", arguments: &["format=onnx", "preprocess=true", "nms=true"] },
    Format { name: "torch", ending: "pt", arguments: &["format=torch"] },
    Format { name: "safetensors", ending: "safetensors", arguments: &["format=safetensors"] },
    Format { name: "tflite", ending: "tflite", arguments: &["format=tflite"] },
];

fn format(name: &str) -> Result<&'static Format, Problem> {
    let names = || FORMATS.map(|format| format.name).join(", ");
    let found = FORMATS.iter().find(|format| format.name == name);
    found.ok_or_else(|| Problem::invalid(format!("the format is one of {}", names())))
}

/// An exported model.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Exported {
    /// `onnx`, `onnx-whole`, `torch`, `safetensors` or `tflite`.
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

/// Exports a model, in a process of its own, with the proof that the export does the same.
///
/// # Errors
/// The model cannot be exported in that format.
pub async fn export(app: &App, id: i64, name: &str) -> Result<Exported, Problem> {
    let format = format(name)?;
    let model = app.store.read(move |c| models::get(c, id)).await?;
    let (file, document) = paths(app, id, format);
    // What stands there of another state of the model must not pass for the new export's document.
    let _ = std::fs::remove_file(&document);
    let mut arguments = vec!["export".to_owned(), format!("model={}", model.path.display())];
    arguments.extend(format.arguments.iter().map(|argument| (*argument).to_owned()));
    arguments.push(format!("output={}", file.display()));
    let mut report = program::onsa(app, &arguments).await?;
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
