//! PyTorch state dicts: what `torch.load(weights_only=True)` reads and the reference's model of the same description takes
//! with nothing missing.

mod pickle;

use std::io::{self, Cursor, Write};

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use crate::models::Model;

/// A tensor of a state dict.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Dotted name.
    pub name: String,
    /// Shape; empty for a number.
    pub shape: Vec<usize>,
    /// Its elements.
    pub values: Values,
}

/// Elements.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// float32.
    Float(Vec<f32>),
    /// int64.
    Long(Vec<i64>),
}

impl Values {
    fn len(&self) -> usize {
        match self {
            Values::Float(values) => values.len(),
            Values::Long(values) => values.len(),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        match self {
            Values::Float(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Values::Long(values) => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        }
    }
}

/// Everything that the reference's module of this model has: parameters, running statistics, each norm's counter of batches
/// and the head's fixed bins.
pub fn state_dict(model: &Model, params: &onsa_compute::Params) -> Vec<Entry> {
    let mut out = Vec::new();
    for (i, info) in model.graph.params().iter().enumerate() {
        let values = Values::Float(params.get_torch(i));
        out.push(Entry { name: info.name.clone(), shape: info.shape.clone(), values });
        if let Some(norm) = info.name.strip_suffix(".running_var") {
            // Nothing reads it where the momentum is given, as it is here.
            let name = format!("{norm}.num_batches_tracked");
            out.push(Entry { name, shape: vec![], values: Values::Long(vec![0]) });
        }
    }
    let bins = model.box_bins;
    if !model.levels.is_empty() && bins > 1 {
        out.push(Entry {
            name: format!("{}.dfl.conv.weight", model.head_name()),
            shape: vec![1, bins, 1, 1],
            values: Values::Float((0..bins).map(|bin| bin as f32).collect()),
        });
    }
    out
}

/// The bytes of a `.pt` container: a zip of stored entries, `data.pkl` and one entry a tensor. Equal tensors give equal bytes.
///
/// # Errors
/// A tensor beyond 4 GiB.
pub fn encode(entries: &[Entry]) -> io::Result<Vec<u8>> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    // Torch maps storages into memory where they start at a multiple of 64 bytes.
    let stored =
        SimpleFileOptions::default().compression_method(CompressionMethod::Stored).with_alignment(64);
    let mut put = |name: &str, bytes: &[u8]| -> io::Result<()> {
        zip.start_file(format!("archive/{name}"), stored)?;
        zip.write_all(bytes)
    };
    put("data.pkl", &pickle::state_dict(entries))?;
    put("byteorder", b"little")?;
    for (i, entry) in entries.iter().enumerate() {
        put(&format!("data/{i}"), &entry.values.bytes())?;
    }
    put("version", b"3\n")?;
    Ok(zip.finish()?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_reader_reads_it_back() {
        let entries = [
            Entry { name: "a.weight".into(), shape: vec![2, 3], values: Values::Float(vec![1.5; 6]) },
            Entry { name: "a.num_batches_tracked".into(), shape: vec![], values: Values::Long(vec![7]) },
            Entry { name: "b.bias".into(), shape: vec![1], values: Values::Float(vec![-0.25]) },
        ];
        let bytes = encode(&entries).unwrap();
        assert_eq!(bytes, encode(&entries).unwrap());
        let read = onsa_intake::checkpoint::read_bytes(&bytes).unwrap();
        let found: Vec<_> =
            read.tensors.iter().map(|t| (t.name.as_str(), t.shape.clone(), t.to_f32())).collect();
        assert_eq!(found[0], ("a.weight", vec![2, 3], vec![1.5; 6]));
        assert_eq!(found.last().unwrap(), &("b.bias", vec![1], vec![-0.25]));
    }
}
