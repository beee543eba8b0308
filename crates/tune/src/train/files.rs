//! What a run writes into its folder.

use std::path::Path;

use onsa_intake::checkpoint::{Meta, Tensor, write_safetensors_to};
use serde_json::json;

use super::state::EpochRow;
use crate::durable::{self, WriteError};
use crate::models::{Model, open::Provenance};

/// results.csv, with the reference's column names.
pub fn results_csv(rows: &[EpochRow]) -> String {
    let mut text = String::from(
        "epoch,time,train/box_loss,train/cls_loss,train/dfl_loss,metrics/precision(B),metrics/recall(B),\
         metrics/mAP50(B),metrics/mAP50-95(B),val/box_loss,val/cls_loss,val/dfl_loss,lr/pg0,lr/pg1,lr/pg2\n",
    );
    for row in rows {
        let optional = |values: Option<Vec<f64>>, n: usize| match values {
            Some(values) => values.iter().map(|x| format!("{x:.5}")).collect::<Vec<_>>().join(","),
            None => ",".repeat(n - 1),
        };
        let losses = row.train.map(|x| format!("{x:.5}")).join(",");
        let metrics = optional(row.metrics.map(|m| m.to_vec()), 4);
        let val = optional(row.val.map(|v| v.to_vec()), 3);
        let lr = row.lr.map(|x| format!("{x:.6e}")).join(",");
        text.push_str(&format!("{},{:.3},{losses},{metrics},{val},{lr}\n", row.epoch, row.time));
    }
    text
}

/// A model file: weights under the reference's names, with what is needed to run them.
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
    let tensors: Vec<Tensor> = model
        .graph
        .params()
        .iter()
        .map(|info| Tensor::from_f32(&info.name, &info.shape, &info.to_torch(&values[info.range()])))
        .collect();
    let meta = Meta {
        yaml: Some(model.architecture.description()),
        names: Some(names.to_vec()),
        nc: Some(names.len() as u32),
        task: Some("detect".into()),
        stride: Some(crate::models::STRIDES.map(|s| s as f32).to_vec()),
        licence: licence.map(str::to_owned),
        producer: Some(format!("onsa {}", env!("CARGO_PKG_VERSION"))),
        imgsz: Some([imgsz, imgsz]),
        ..Meta::default()
    };
    durable::write_with(&durable::Disk, path, |mut out| {
        write_safetensors_to(&mut out, &tensors, &meta).map_err(std::io::Error::other)
    })
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
            train: [1.0, 2.0, 3.0],
            lr: [0.01, 0.01, 0.1],
            ..EpochRow::default()
        };
        let seen =
            EpochRow { metrics: Some([0.5, 0.25, 0.75, 1.0]), val: Some([4.0, 5.0, 6.0]), ..row.clone() };
        let csv = results_csv(&[row, seen]);
        let lines: Vec<&str> = csv.lines().collect();
        assert!(lines[0].starts_with("epoch,time,train/box_loss") && lines[0].ends_with("lr/pg2"));
        assert_eq!(lines[1], "2,1.500,1.00000,2.00000,3.00000,,,,,,,,1.000000e-2,1.000000e-2,1.000000e-1");
        assert!(lines[2].contains("3.00000,0.50000,0.25000,0.75000,1.00000,4.00000,5.00000,6.00000,1.0"));
        let commas = lines[0].matches(',').count();
        assert!(lines.iter().all(|line| line.matches(',').count() == commas));
    }
}
