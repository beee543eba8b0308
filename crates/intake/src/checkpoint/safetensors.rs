//! safetensors: a JSON header and the tensors' bytes; read with the format's own crate.
//!
//! The `__metadata__` map is text to text. Keys `onsa.<field>` carry the fields of [`Meta`] as JSON text (`onsa.names`,
//! `onsa.yaml`, `onsa.task`, `onsa.nc`, `onsa.stride`, `onsa.licence`, `onsa.imgsz`, `onsa.version`, `onsa.date`,
//! `onsa.epoch`, `onsa.train_args`, `onsa.producer`, `onsa.model_class`, `onsa.norm_folded`, `onsa.source`,
//! `onsa.skipped`, `onsa.convs`). Every other key is kept as it is in [`Meta::extra`].

use std::collections::BTreeMap;
use std::io::Write;

use ::safetensors::{Dtype as Stored, SafeTensorError, SafeTensors};
use serde_json::Value as Json;

use super::error::CheckpointError;
use super::meta::{Meta, norm_folded};
use super::tensor::{Dtype, Tensor, elements};
use super::{Format, Parts};
use crate::limits::{MAX_SAFETENSORS_HEADER, MAX_TENSOR_NAME, MAX_TENSORS};

const PREFIX: &str = "onsa.";

/// Reads a whole file.
pub(super) fn read(bytes: &[u8]) -> Result<Parts, CheckpointError> {
    let header = "the safetensors header";
    let size = bytes.first_chunk::<8>().map(|s| u64::from_le_bytes(*s));
    if size.is_none_or(|s| s > MAX_SAFETENSORS_HEADER) {
        return Err(CheckpointError::Limit {
            what: "the size of the safetensors header, bytes,",
            limit: MAX_SAFETENSORS_HEADER,
        });
    }
    let (header_bytes, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| match e {
        SafeTensorError::InvalidHeaderLength | SafeTensorError::MetadataIncompleteBuffer => {
            CheckpointError::Truncated {
                part: "its tensors (their lengths do not add up to the file's)".to_owned(),
            }
        }
        other => CheckpointError::corrupt(header, other.to_string()),
    })?;
    let mut meta = meta(metadata.metadata().as_ref())?;
    let names = metadata.offset_keys();
    if names.len() > MAX_TENSORS {
        return Err(CheckpointError::Limit { what: "the number of tensors", limit: MAX_TENSORS as u64 });
    }
    if names.is_empty() {
        return Err(CheckpointError::NoWeights(
            "its header lists no tensors; give a trained or initialised model".to_owned(),
        ));
    }
    let data = &bytes[8 + header_bytes..];
    let mut tensors = Vec::with_capacity(names.len());
    for name in names {
        if name.len() > MAX_TENSOR_NAME {
            return Err(CheckpointError::Limit {
                what: "the length of a tensor's name",
                limit: MAX_TENSOR_NAME as u64,
            });
        }
        let info = metadata.info(&name).ok_or_else(|| CheckpointError::DuplicateTensor(name.clone()))?;
        let dtype = known(info.dtype).ok_or_else(|| {
            CheckpointError::bad(&name, format!("its element type {} is not supported", info.dtype))
        })?;
        let data = data.get(info.data_offsets.0..info.data_offsets.1).unwrap_or_default();
        if elements(&info.shape).and_then(|n| n.checked_mul(dtype.size())) != Some(data.len()) {
            return Err(CheckpointError::bad(
                name,
                "its shape has too many dimensions or does not fit its bytes",
            ));
        }
        tensors.push(Tensor { name, dtype, shape: info.shape.clone(), data: data.to_vec() });
    }
    meta.norm_folded |= norm_folded(&tensors);
    Ok(Parts { format: Format::Safetensors, tensors, meta })
}

fn meta(map: Option<&std::collections::HashMap<String, String>>) -> Result<Meta, CheckpointError> {
    let mut fields = serde_json::Map::new();
    let mut extra = BTreeMap::new();
    let known = Meta::FIELDS;
    for (key, text) in map.into_iter().flatten() {
        match key.strip_prefix(PREFIX).filter(|field| known.contains(field)) {
            Some(field) => {
                let error = |reason: String| CheckpointError::Metadata { key: key.clone(), reason };
                let value: Json = serde_json::from_str(text).map_err(|e| error(e.to_string()))?;
                // One field alone, so that an error can name it.
                let alone = Json::Object([(field.to_owned(), value.clone())].into_iter().collect());
                serde_json::from_value::<Meta>(alone).map_err(|e| error(e.to_string()))?;
                fields.insert(field.to_owned(), value);
            }
            None => {
                extra.insert(key.clone(), text.clone());
            }
        }
    }
    let mut meta: Meta = serde_json::from_value(Json::Object(fields))
        .map_err(|e| CheckpointError::Metadata { key: "onsa.*".to_owned(), reason: e.to_string() })?;
    meta.extra = extra;
    Ok(meta)
}

/// The bytes of a safetensors file. The same tensors and metadata always give the same bytes.
///
/// # Errors
/// As [`write_safetensors_to`].
pub fn write_safetensors(tensors: &[Tensor], meta: &Meta) -> Result<Vec<u8>, CheckpointError> {
    let mut out = Vec::with_capacity(tensors.iter().map(|t| t.data.len()).sum::<usize>() + 4096);
    write_safetensors_to(&mut out, tensors, meta)?;
    Ok(out)
}

/// Streams a safetensors file to `out`. Tensors lie in the order of falling element size, then of their names, so that each is
/// aligned; the metadata map is sorted by key.
///
/// # Errors
/// When a tensor's shape does not fit its bytes, a name stands twice or is reserved, or `out` fails.
pub fn write_safetensors_to(
    out: &mut impl Write,
    tensors: &[Tensor],
    meta: &Meta,
) -> Result<(), CheckpointError> {
    let mut order: Vec<&Tensor> = tensors.iter().collect();
    order.sort_by(|a, b| b.dtype.size().cmp(&a.dtype.size()).then_with(|| a.name.cmp(&b.name)));
    let mut names = std::collections::HashSet::new();

    // The crate's own writer keeps the metadata in a hash map, whose order changes from run to run; so the header is put
    // together here, entry by entry.
    let json = |v: &Json| v.to_string();
    let mut header = String::from("{\"__metadata__\":");
    header.push_str(&json(&metadata(meta)?));
    let mut offset = 0usize;
    for t in &order {
        if elements(&t.shape).and_then(|n| n.checked_mul(t.dtype.size())) != Some(t.data.len()) {
            return Err(CheckpointError::bad(
                &t.name,
                format!("its shape {:?} does not fit its {} bytes", t.shape, t.data.len()),
            ));
        }
        if !names.insert(t.name.as_str()) || t.name == "__metadata__" {
            return Err(CheckpointError::DuplicateTensor(t.name.clone()));
        }
        let end = offset + t.data.len();
        let entry =
            serde_json::json!({ "dtype": stored(t.dtype), "shape": t.shape, "data_offsets": [offset, end] });
        header.push(',');
        header.push_str(&json(&Json::from(t.name.as_str())));
        header.push(':');
        header.push_str(&json(&entry));
        offset = end;
    }
    header.push('}');
    // Spaces align the data to 8 bytes.
    header.extend(std::iter::repeat_n(' ', header.len().next_multiple_of(8) - header.len()));
    if header.len() as u64 > MAX_SAFETENSORS_HEADER {
        return Err(CheckpointError::Limit {
            what: "the size of the safetensors header, bytes,",
            limit: MAX_SAFETENSORS_HEADER,
        });
    }
    out.write_all(&(header.len() as u64).to_le_bytes())?;
    out.write_all(header.as_bytes())?;
    for t in order {
        out.write_all(&t.data)?;
    }
    Ok(())
}

fn metadata(meta: &Meta) -> Result<Json, CheckpointError> {
    let error = |reason: String| CheckpointError::Metadata { key: "onsa.*".to_owned(), reason };
    let Json::Object(fields) = serde_json::to_value(meta).map_err(|e| error(e.to_string()))? else {
        return Err(error("it is no dictionary".to_owned()));
    };
    let mut map: BTreeMap<String, String> = meta.extra.clone();
    for (field, value) in fields {
        map.insert(format!("{PREFIX}{field}"), value.to_string());
    }
    Ok(Json::Object(map.into_iter().map(|(k, v)| (k, Json::String(v))).collect()))
}

fn known(stored: Stored) -> Option<Dtype> {
    Some(match stored {
        Stored::F64 => Dtype::Float64,
        Stored::F32 => Dtype::Float32,
        Stored::F16 => Dtype::Float16,
        Stored::BF16 => Dtype::Bfloat16,
        Stored::I64 => Dtype::Int64,
        Stored::I32 => Dtype::Int32,
        Stored::I16 => Dtype::Int16,
        Stored::I8 => Dtype::Int8,
        Stored::U64 => Dtype::Uint64,
        Stored::U32 => Dtype::Uint32,
        Stored::U16 => Dtype::Uint16,
        Stored::U8 => Dtype::Uint8,
        Stored::BOOL => Dtype::Bool,
        _ => return None,
    })
}

fn stored(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::Float64 => "F64",
        Dtype::Float32 => "F32",
        Dtype::Float16 => "F16",
        Dtype::Bfloat16 => "BF16",
        Dtype::Int64 => "I64",
        Dtype::Int32 => "I32",
        Dtype::Int16 => "I16",
        Dtype::Int8 => "I8",
        Dtype::Uint64 => "U64",
        Dtype::Uint32 => "U32",
        Dtype::Uint16 => "U16",
        Dtype::Uint8 => "U8",
        Dtype::Bool => "BOOL",
    }
}
