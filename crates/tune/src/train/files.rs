//! What a run writes into its folder.

use std::path::Path;

use onsa_intake::checkpoint::{Dtype, Meta, Tensor, write_safetensors_to};
use serde_json::json;

use super::error::TrainError;
use super::state::{EpochRow, StateError, le_bytes};
use crate::durable::{self, WriteError};
use crate::models::{Model, Task, open::Provenance};

/// results.csv, with the reference's column names.
pub fn results_csv(task: Task, rows: &[EpochRow]) -> String {
    let (header, losses, metrics) = match task {
        Task::Detect => (
            "epoch,time,train/box_loss,train/cls_loss,train/dfl_loss,metrics/precision(B),metrics/recall(B),\
             metrics/mAP50(B),metrics/mAP50-95(B),val/box_loss,val/cls_loss,val/dfl_loss,lr/pg0,lr/pg1,lr/pg2\n",
            3,
            4,
        ),
        Task::Classify => (
            "epoch,time,train/loss,metrics/accuracy_top1,metrics/accuracy_top5,val/loss,lr/pg0,lr/pg1,lr/pg2\n",
            1,
            2,
        ),
    };
    // A run that a starting model teaches has one training loss more.
    let taught = rows.iter().any(|row| row.train.len() > losses);
    let mut text = match header.split_once(",metrics/") {
        Some((before, after)) if taught => format!("{before},train/distill_loss,metrics/{after}"),
        _ => String::from(header),
    };
    for row in rows {
        let optional = |values: Option<&Vec<f64>>, n: usize| match values {
            Some(values) => values.iter().map(|x| format!("{x:.5}")).collect::<Vec<_>>().join(","),
            None => ",".repeat(n - 1),
        };
        let train = optional(Some(&row.train), losses + usize::from(taught));
        let figures = optional(row.metrics.as_ref(), metrics);
        let val = optional(row.val.as_ref(), losses);
        let lr = row.lr.map(|x| format!("{x:.6e}")).join(",");
        text.push_str(&format!("{},{:.3},{train},{figures},{val},{lr}\n", row.epoch, row.time));
    }
    text
}

/// What a model file holds: weights under the reference's names, with what is needed to run them.
pub struct ModelFile {
    tensors: Vec<Tensor>,
    meta: Meta,
}

impl ModelFile {
    /// Brings the weights to the order of a file.
    pub fn new(
        model: &Model,
        values: &[f32],
        names: &[String],
        licence: Option<&str>,
        imgsz: u32,
    ) -> ModelFile {
        let tensors = model.graph.params().iter().map(|info| Tensor {
            name: info.name.clone(),
            dtype: Dtype::Float32,
            shape: info.shape.clone(),
            data: le_bytes(&info.to_torch(&values[info.range()])).into_owned(),
        });
        let meta = Meta {
            yaml: Some(model.architecture.description()),
            names: Some(names.to_vec()),
            nc: Some(names.len() as u32),
            task: Some(model.task().name().into()),
            stride: (model.task() == Task::Detect).then(|| crate::models::STRIDES.map(|s| s as f32).to_vec()),
            licence: licence.map(str::to_owned),
            producer: Some(format!("onsa {}", env!("CARGO_PKG_VERSION"))),
            imgsz: Some([imgsz, imgsz]),
            ..Meta::default()
        };
        ModelFile { tensors: tensors.collect(), meta }
    }

    /// Writes it, durably.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn write(&self, path: &Path) -> Result<(), WriteError> {
        durable::write_streamed(path, |mut out| {
            write_safetensors_to(&mut out, &self.tensors, &self.meta).map_err(std::io::Error::other)
        })
    }
}

/// Writes a model file; see [`ModelFile`].
///
/// # Errors
/// The disk refuses.
pub fn write_weights(
    path: &Path,
    model: &Model,
    values: &[f32],
    names: &[String],
    licence: Option<&str>,
    imgsz: u32,
) -> Result<(), WriteError> {
    ModelFile::new(model, values, names, licence, imgsz).write(path)
}

/// Makes the folders of a run where they are missing, and removes what a killed process left half-written.
///
/// # Errors
/// The file system refuses.
pub fn prepare_folders(run_dir: &Path) -> Result<(), TrainError> {
    for path in [run_dir.to_owned(), run_dir.join("weights"), run_dir.join("checkpoint")] {
        let failed = |source| TrainError::Folder { path: path.clone(), source };
        std::fs::create_dir_all(&path).map_err(failed)?;
        durable::sweep(&path).map_err(failed)?;
    }
    Ok(())
}

/// A run folder's provenance.json; null where there is none yet.
fn read_provenance(run_dir: &Path) -> Result<serde_json::Value, TrainError> {
    let path = run_dir.join("provenance.json");
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(serde_json::Value::Null),
        Err(source) => return Err(TrainError::State(StateError::Read { path, source })),
    };
    serde_json::from_slice(&text)
        .map_err(|e| TrainError::State(StateError::Damaged { path, reason: e.to_string() }))
}

/// The weights that the run in `run_dir` started from; none for a run from scratch.
///
/// # Errors
/// Its provenance.json cannot be read.
pub fn starting_weights(run_dir: &Path) -> Result<Option<Provenance>, TrainError> {
    let provenance = read_provenance(run_dir)?;
    let weights = &provenance["weights"];
    let text = |key: &str| weights[key].as_str().map(str::to_owned);
    Ok((|| {
        Some(Provenance {
            path: text("path")?.into(),
            sha256: text("sha256")?,
            format: text("format")?,
            is_onnx: text("format")? == "onnx",
            licence: text("licence")?,
        })
    })())
}

/// The hash of the data that the run in `run_dir` was begun with, where it is known.
///
/// # Errors
/// Its provenance.json cannot be read.
pub fn data_hash(run_dir: &Path) -> Result<Option<String>, TrainError> {
    Ok(read_provenance(run_dir)?["data"]["sha256"].as_str().map(str::to_owned))
}

/// Notes in provenance.json that a run was made longer, and in what it differs from one that was so long at once.
///
/// # Errors
/// The file cannot be read or written.
pub fn note_extension(run_dir: &Path, from: u32, to: u32, differences: &[String]) -> Result<(), TrainError> {
    let mut provenance = read_provenance(run_dir)?;
    if let Some(object) = provenance.as_object_mut() {
        let extensions = object.entry("extended").or_insert_with(|| json!([]));
        if let Some(list) = extensions.as_array_mut() {
            list.push(json!({"from_epochs": from, "to_epochs": to, "differences": differences}));
        }
        let text = serde_json::to_string_pretty(&provenance).expect("plain values are JSON");
        durable::write(&run_dir.join("provenance.json"), text.as_bytes())?;
    }
    Ok(())
}

/// provenance.json: what the result was made from.
pub fn provenance(
    weights: Option<&Provenance>,
    data: &Path,
    data_hash: &str,
    seed: u64,
    device: &str,
) -> serde_json::Value {
    json!({
        "onsa": env!("CARGO_PKG_VERSION"),
        "weights": weights.map(|w| json!({
            "path": w.path, "sha256": w.sha256, "format": w.format, "licence": w.licence,
        })),
        "data": {"path": data, "sha256": data_hash},
        "seed": seed,
        "device": device,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_without_validation_leaves_its_columns_empty() {
        let row = EpochRow {
            epoch: 2,
            time: 1.5,
            train: vec![1.0, 2.0, 3.0],
            lr: [0.01, 0.01, 0.1],
            ..EpochRow::default()
        };
        let seen = EpochRow {
            metrics: Some(vec![0.5, 0.25, 0.75, 1.0]),
            val: Some(vec![4.0, 5.0, 6.0]),
            ..row.clone()
        };
        let csv = results_csv(Task::Detect, &[row, seen]);
        let lines: Vec<&str> = csv.lines().collect();
        assert!(lines[0].starts_with("epoch,time,train/box_loss") && lines[0].ends_with("lr/pg2"));
        assert_eq!(lines[1], "2,1.500,1.00000,2.00000,3.00000,,,,,,,,1.000000e-2,1.000000e-2,1.000000e-1");
        assert!(lines[2].contains("3.00000,0.50000,0.25000,0.75000,1.00000,4.00000,5.00000,6.00000,1.0"));
        let commas = lines[0].matches(',').count();
        assert!(lines.iter().all(|line| line.matches(',').count() == commas));

        let row =
            EpochRow { epoch: 1, train: vec![2.5], metrics: Some(vec![0.5, 1.0]), ..EpochRow::default() };
        let csv = results_csv(Task::Classify, &[row]);
        let lines: Vec<&str> = csv.lines().collect();
        assert!(lines[1].starts_with("1,0.000,2.50000,0.50000,1.00000,,0"), "{csv}");
        assert_eq!(lines[0].matches(',').count(), lines[1].matches(',').count());
    }
}
