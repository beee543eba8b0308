//! Everything that a run is at one moment, and its checkpoint.
//!
//! A checkpoint is one safetensors file: every arena as float32, and under the metadata keys `onsa.state` (JSON) the
//! counters, and `onsa.sha256` the digest of the arenas. Resuming from it continues with the same bytes.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorInfo};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::data::loader::Position;
use crate::durable;

/// One row of results.csv.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EpochRow {
    /// Counted from 1.
    pub epoch: u32,
    /// Seconds since training began, pauses left out.
    pub time: f64,
    /// Mean training losses: box, class, dfl of a detector; a classifier's one.
    pub train: Vec<f64>,
    /// Precision, recall, mAP50, mAP50-95 of a detector; top-1 and top-5 accuracy of a classifier; none where the epoch
    /// was not validated.
    pub metrics: Option<Vec<f64>>,
    /// Mean validation losses.
    pub val: Option<Vec<f64>>,
    /// Learning rates of the groups at the epoch's end.
    pub lr: [f64; 3],
}

/// The counters of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Counters {
    /// Epoch and batch that come next, both from 0.
    pub epoch: u32,
    /// See `epoch`.
    pub batch: u32,
    /// Iteration (batch over all epochs) after which the optimiser last stepped.
    pub last_step: Option<u64>,
    /// Optimiser steps.
    pub optimiser_steps: u64,
    /// Updates of the moving average.
    pub ema_updates: u64,
    /// Sums of this epoch's losses (empty before the first batch), and over how many batches.
    pub loss_sums: Vec<f64>,
    /// See `loss_sums`.
    pub loss_count: u32,
    /// Best fitness so far and its epoch (from 1).
    pub best: Option<(f64, u32)>,
    /// Seconds of training so far.
    pub seconds: f64,
    /// Rows of results.csv.
    pub rows: Vec<EpochRow>,
    /// Hash of the training data: a run is not resumed on other data.
    pub data_hash: String,
    /// Batches without a usable gradient so far.
    pub skipped: u32,
    /// Batches whose gradients are gathered since the optimiser last stepped.
    #[serde(default)]
    pub gathered: u32,
    /// Those of the bad batches that came last, one after the other.
    #[serde(default)]
    pub bad: u32,
}

impl Counters {
    /// The next batch's place.
    pub fn position(&self) -> Position {
        Position { epoch: self.epoch, batch: self.batch }
    }
}

/// Named arenas of float32.
pub type Arenas = BTreeMap<String, Vec<f32>>;

/// A checkpoint that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file system refuses.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is damaged or of another program.
    #[error("{}: the checkpoint is damaged: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// It could not be written.
    #[error(transparent)]
    Write(#[from] durable::WriteError),
}

/// The values' bytes as files have them: in place where the machine has them in that order too.
pub(super) fn le_bytes(values: &[f32]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        Cow::Borrowed(pulp::bytemuck::cast_slice(values))
    } else {
        Cow::Owned(values.iter().flat_map(|x| x.to_le_bytes()).collect())
    }
}

/// The digest of counters and arenas in the order of their names.
struct Digesting(Sha256);

impl Digesting {
    fn new(counters: &str) -> Digesting {
        Digesting(Sha256::new_with_prefix(counters.as_bytes()))
    }

    fn begin(&mut self, name: &str, bytes: usize) {
        self.0.update(name.as_bytes());
        self.0.update((bytes as u64).to_le_bytes());
    }

    fn finish(self) -> String {
        self.0.finalize().iter().map(|b| format!("{b:02x}")).collect()
    }
}

/// A checkpoint with its digest, ready to be written.
pub struct Checkpoint<'a> {
    path: &'a Path,
    counters: String,
    arenas: BTreeMap<String, &'a [f32]>,
    digest: String,
}

impl<'a> Checkpoint<'a> {
    /// Works out the digest, which takes about as long as writing: it can be done beside the writing of other files.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn new(
        path: &'a Path,
        counters: &Counters,
        arenas: impl IntoIterator<Item = (String, &'a [f32])>,
    ) -> Result<Checkpoint<'a>, StateError> {
        let counters = serde_json::to_string(counters)
            .map_err(|e| StateError::Damaged { path: path.to_owned(), reason: e.to_string() })?;
        let arenas: BTreeMap<String, &[f32]> = arenas.into_iter().collect();
        let mut digest = Digesting::new(&counters);
        for (name, values) in &arenas {
            digest.begin(name, values.len() * 4);
            digest.0.update(le_bytes(values));
        }
        Ok(Checkpoint { path, counters, arenas, digest: digest.finish() })
    }

    /// Writes it, durably: the old one stays whole until the new one is.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn write(self) -> Result<(), StateError> {
        let header =
            self.header().map_err(|reason| StateError::Damaged { path: self.path.to_owned(), reason })?;
        Ok(durable::write_streamed(self.path, |file| {
            file.write_all(&header)?;
            self.arenas.values().try_for_each(|values| file.write_all(&le_bytes(values)))
        })?)
    }

    /// All of the file before the arenas; they follow one another in the order of their names.
    fn header(&self) -> Result<Vec<u8>, String> {
        let metadata = [("onsa.sha256", &self.digest), ("onsa.state", &self.counters)]
            .map(|(k, v)| (k.to_owned(), v.clone()));
        let mut end = 0;
        let tensors = self.arenas.iter().map(|(name, values)| {
            let start = end;
            end += values.len() * 4;
            (
                name.clone(),
                TensorInfo { dtype: Dtype::F32, shape: vec![values.len()], data_offsets: (start, end) },
            )
        });
        let described = Metadata::new(Some(metadata.into()), tensors.collect()).map_err(|e| e.to_string())?;
        let mut json = serde_json::to_vec(&described).map_err(|e| e.to_string())?;
        json.resize(json.len().next_multiple_of(8), b' ');
        Ok([&(json.len() as u64).to_le_bytes(), &json[..]].concat())
    }
}

/// Writes a checkpoint; see [`Checkpoint`].
///
/// # Errors
/// See [`StateError`].
pub fn save<'a>(
    path: &'a Path,
    counters: &Counters,
    arenas: impl IntoIterator<Item = (String, &'a [f32])>,
) -> Result<(), StateError> {
    Checkpoint::new(path, counters, arenas)?.write()
}

/// Reads a checkpoint back and holds it against its digest.
///
/// # Errors
/// See [`StateError`].
pub fn restore(path: &Path) -> Result<(Counters, Arenas), StateError> {
    let file = std::fs::read(path).map_err(|source| StateError::Read { path: path.to_owned(), source })?;
    let damaged = |reason: String| StateError::Damaged { path: path.to_owned(), reason };
    let (_, header) = SafeTensors::read_metadata(&file).map_err(|e| damaged(e.to_string()))?;
    let metadata = header.metadata().as_ref().ok_or_else(|| damaged("it has no metadata".into()))?;
    let field = |name: &str| metadata.get(name).ok_or_else(|| damaged(format!("it has no {name}")));
    let (counters, expected) = (field("onsa.state")?, field("onsa.sha256")?);
    let tensors = SafeTensors::deserialize(&file).map_err(|e| damaged(e.to_string()))?;
    let views: BTreeMap<String, _> = tensors.tensors().into_iter().collect();
    let mut digest = Digesting::new(counters);
    for (name, view) in &views {
        digest.begin(name, view.data().len());
        digest.0.update(view.data());
    }
    if digest.finish() != *expected {
        return Err(damaged("its digest does not fit its contents".into()));
    }
    let parsed = serde_json::from_str(counters).map_err(|e| damaged(e.to_string()))?;
    let arenas = views
        .into_iter()
        .map(|(name, view)| {
            let values =
                view.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
            (name, values)
        })
        .collect();
    Ok((parsed, arenas))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> (Counters, Arenas) {
        let row = EpochRow {
            epoch: 1,
            time: 2.5,
            train: vec![1.0, 2.0, 3.0],
            lr: [0.1, 1.0 / 3.0, 1e-7],
            ..EpochRow::default()
        };
        let counters =
            Counters { epoch: 3, batch: 7, last_step: Some(41), rows: vec![row], ..Counters::default() };
        let arenas = [("params".to_owned(), vec![1.0, -0.0, f32::MIN_POSITIVE]), ("ema".to_owned(), vec![])];
        (counters, arenas.into())
    }

    fn save_all(path: &Path, counters: &Counters, arenas: &Arenas) {
        save(path, counters, arenas.iter().map(|(name, values)| (name.clone(), values.as_slice()))).unwrap();
    }

    #[test]
    fn what_is_saved_comes_back_bit_for_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.safetensors");
        let (counters, arenas) = example();
        save_all(&path, &counters, &arenas);
        let (c, a) = restore(&path).unwrap();
        assert_eq!(c, counters);
        let bits = |a: &Arenas| a.values().flatten().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&a), bits(&arenas));
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.safetensors");
        let (counters, arenas) = example();
        save_all(&path, &counters, &arenas);
        let sound = std::fs::read(&path).unwrap();
        for i in 0..sound.len() {
            let mut bad = sound.clone();
            bad[i] ^= 1;
            std::fs::write(&path, bad).unwrap();
            // A flip within a string's escape or a space may leave the same meaning; then the contents are the same.
            if let Ok((c, a)) = restore(&path) {
                assert_eq!((c, a), (counters.clone(), arenas.clone()), "byte {i}");
            }
        }
        std::fs::write(&path, &sound[..sound.len() - 1]).unwrap();
        assert!(matches!(restore(&path), Err(StateError::Damaged { .. })));
    }
}
