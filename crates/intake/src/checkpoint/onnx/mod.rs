//! ONNX: the initialisers, and the metadata that exporters write. Weights in other files are refused.
//!
//! Field numbers: `onnx.proto` of the ONNX specification, IR version 3 and later.

mod graph;
mod literal;
mod tensor;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};

use serde_json::Value as Json;

use super::error::CheckpointError;
use super::meta::{Meta, norm_folded};
use super::torch::{class_names, image_size};
use super::{Format, Parts};
use crate::limits::{CHECKPOINT_HEADROOM_BYTES, MAX_ONNX_METADATA, MAX_ONNX_METADATA_ENTRIES, MAX_TENSORS};
use graph::{Kind, Nodes};
use wire::fields;

/// Whether the first bytes could begin a ModelProto: a field of one of its numbers, with that field's wire type.
pub(super) fn plausible(head: &[u8]) -> bool {
    // 1 ir_version and 5 model_version are integers; producer, domain, documentation, graph, opset and metadata are not.
    matches!(head.first(), Some(0x08 | 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42 | 0x72))
}

/// Reads a whole file.
pub(super) fn read(bytes: &[u8]) -> Result<Parts, CheckpointError> {
    let mut meta = Meta { source: Some("initializers".to_owned()), ..Meta::default() };
    let (mut graph, mut entries) = (None, 0);
    let mut producer = ["", ""];
    for field in fields(bytes) {
        match field? {
            (2, v) => producer[0] = v.text()?,
            (3, v) => producer[1] = v.text()?,
            (7, _) if graph.is_some() => {
                return Err(CheckpointError::corrupt("the ONNX model", "it has two graphs"));
            }
            (7, v) => graph = Some(v.bytes()?),
            (14, v) => {
                entries += 1;
                if entries > MAX_ONNX_METADATA_ENTRIES {
                    return Err(CheckpointError::Limit {
                        what: "the entries of ONNX metadata",
                        limit: MAX_ONNX_METADATA_ENTRIES as u64,
                    });
                }
                let (key, value) = metadata_entry(v.bytes()?)?;
                meta.extra.insert(key.to_owned(), value.to_owned());
            }
            _ => {}
        }
    }
    let Some(graph) = graph else {
        return Err(CheckpointError::UnknownFormat {
            hint: "it could be ONNX, but holds no graph; export the model again".to_owned(),
        });
    };
    let producer = producer.join(" ").trim().chars().take(200).collect::<String>();
    meta.producer = Some(producer).filter(|p| !p.is_empty());
    describe(&mut meta)?;
    let tensors = initialisers(graph, bytes.len() as u64, &mut meta)?;
    Ok(Parts { format: Format::Onnx, tensors, meta })
}

/// StringStringEntryProto.
fn metadata_entry(entry: &[u8]) -> Result<(&str, &str), CheckpointError> {
    if entry.len() > MAX_ONNX_METADATA {
        return Err(CheckpointError::Limit {
            what: "the size of an ONNX metadata entry, bytes,",
            limit: MAX_ONNX_METADATA as u64,
        });
    }
    let (mut key, mut value) = ("", "");
    for field in fields(entry) {
        match field? {
            (1, v) => key = v.text()?,
            (2, v) => value = v.text()?,
            _ => {}
        }
    }
    Ok((key, value))
}

/// What the metadata entries of an exported file say, in whatever format they are kept: class names and sizes as Python
/// literals, as Ultralytics writes them.
///
/// # Errors
/// An entry that is not what its key promises.
pub fn export_meta(entries: BTreeMap<String, String>) -> Result<Meta, CheckpointError> {
    let mut meta = Meta { extra: entries, ..Meta::default() };
    describe(&mut meta)?;
    Ok(meta)
}

/// Takes the entries that Ultralytics writes (as Python literals) out of the metadata and into their fields.
fn describe(meta: &mut Meta) -> Result<(), CheckpointError> {
    fn literal<T>(
        extra: &mut BTreeMap<String, String>,
        key: &str,
        wanted: &str,
        read: impl FnOnce(&Json) -> Option<T>,
    ) -> Result<Option<T>, CheckpointError> {
        let Some(text) = extra.remove(key) else { return Ok(None) };
        let value = literal::parse(&text).as_ref().and_then(read);
        value.map(Some).ok_or_else(|| CheckpointError::Metadata {
            key: key.to_owned(),
            reason: format!("it is not {wanted}"),
        })
    }
    let extra = &mut meta.extra;
    meta.names = literal(extra, "names", "a list or dictionary of class names without gaps", class_names)?;
    meta.imgsz = literal(extra, "imgsz", "a height and width", image_size)?;
    meta.stride = literal(extra, "stride", "a number or list of numbers", |v| {
        #[allow(clippy::cast_possible_truncation, reason = "strides are small powers of two")]
        match v {
            Json::Array(list) => list.iter().map(|s| s.as_f64().map(|s| s as f32)).collect(),
            one => Some(vec![one.as_f64()? as f32]),
        }
    })?;
    meta.nc = meta.names.as_ref().and_then(|n| u32::try_from(n.len()).ok());
    meta.task = extra.remove("task");
    meta.licence = extra.remove("license");
    meta.version = extra.remove("version");
    meta.date = extra.remove("date");
    Ok(())
}

fn initialisers(
    graph: &[u8],
    file_bytes: u64,
    meta: &mut Meta,
) -> Result<Vec<super::Tensor>, CheckpointError> {
    let mut nodes = Nodes::default();
    let mut messages: Vec<(&str, &[u8])> = Vec::new();
    for field in fields(graph) {
        match field? {
            (1, v) => nodes.add(v.bytes()?)?,
            (5, v) => {
                let message = v.bytes()?;
                messages.push((tensor::name(message)?, message));
                if messages.len() > MAX_TENSORS {
                    return Err(CheckpointError::Limit {
                        what: "the number of tensors",
                        limit: MAX_TENSORS as u64,
                    });
                }
            }
            (15, _) => {
                return Err(CheckpointError::Unsupported {
                    what: "a sparse initialiser".to_owned(),
                    remedy: "export the model with dense weights",
                });
            }
            _ => {}
        }
    }
    // Weights may also be the output of Constant nodes; other constants are shapes and axes, and no weights.
    let mut known: HashSet<&str> = messages.iter().map(|&(name, _)| name).collect();
    if known.len() != messages.len() {
        let mut seen = HashSet::new();
        let twice = messages.iter().find(|(name, _)| !seen.insert(*name)).map_or("", |&(name, _)| name);
        return Err(CheckpointError::DuplicateTensor(twice.to_owned()));
    }
    for &input in nodes.weighted.iter().flat_map(|n| &n.inputs[1..]) {
        if let Some(&message) = nodes.constants.get(input)
            && known.insert(input)
        {
            messages.push((input, message));
        }
    }

    let renamed = nodes.renamed(&known);
    let limit = file_bytes + CHECKPOINT_HEADROOM_BYTES;
    let mut needed = 0u64;
    let mut heads = Vec::with_capacity(messages.len());
    for (name, message) in messages {
        match tensor::head(message, name)? {
            Some(head) => {
                needed = needed.saturating_add(head.bytes() as u64);
                heads.push((name, head));
            }
            None => meta.skipped.push(name.to_owned()),
        }
    }
    if needed > limit {
        return Err(CheckpointError::Limit { what: "the size of the tensors, bytes,", limit });
    }
    if heads.is_empty() {
        return Err(CheckpointError::NoWeights(
            "its graph has no initialisers; export it with its weights".to_owned(),
        ));
    }

    let last_name = |name: &str| renamed.get(name).cloned().unwrap_or_else(|| name.to_owned());
    let shapes: std::collections::HashMap<&str, Vec<usize>> =
        heads.iter().map(|(n, h)| (*n, h.shape.clone())).collect();
    let (mut norms, mut biased) = (false, false);
    for node in &nodes.weighted {
        norms |= node.kind == Kind::BatchNorm;
        let [_, weight, bias, ..] = node.inputs;
        if node.kind != Kind::Conv || meta.convs.len() >= MAX_TENSORS {
            continue;
        }
        // A convolution whose weight is computed, not stored, has nothing to name.
        let Some(kernel) = shapes.get(weight).and_then(|s| s.get(2..)) else { continue };
        let bias = shapes.contains_key(bias).then(|| last_name(bias));
        biased |= bias.is_some();
        meta.convs.push(node.conv(last_name(weight), bias, kernel.to_vec())?);
    }
    let tensors =
        heads.into_iter().map(|(name, head)| head.load(last_name(name))).collect::<Result<Vec<_>, _>>()?;
    meta.norm_folded =
        !norms && (biased || norm_folded(&tensors)) && !tensors.iter().any(|t| t.name.contains(".bn."));
    Ok(tensors)
}
