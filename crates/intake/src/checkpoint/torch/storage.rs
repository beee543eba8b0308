//! From views and storages to contiguous tensors, within the memory budget.

use std::collections::HashMap;

use super::super::error::CheckpointError;
use super::super::tensor::Tensor;
use super::tensors::View;
use crate::limits::CHECKPOINT_HEADROOM_BYTES;

/// Where the bytes of storages come from.
pub trait Storages {
    /// Bytes of a storage; `None` where the file has none of this key.
    fn bytes(&mut self, key: &str) -> Result<Option<u64>, CheckpointError>;
    /// The whole storage; it has been found to have `bytes` bytes.
    fn load(&mut self, key: &str, bytes: usize) -> Result<Vec<u8>, CheckpointError>;
}

/// Cuts every tensor out of its storage. A storage is loaded once, however many tensors share it, and dropped before the next.
pub fn fill(
    views: Vec<View>,
    storages: &mut impl Storages,
    big_endian: bool,
    file_bytes: u64,
) -> Result<Vec<Tensor>, CheckpointError> {
    let mut users: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut order: Vec<&str> = Vec::new();
    for (i, view) in views.iter().enumerate() {
        let list = users.entry(&view.storage).or_default();
        if list.is_empty() {
            order.push(&view.storage);
        }
        list.push(i);
    }

    // Everything is checked before anything is allocated.
    let mut needed: u64 = 0;
    let mut beside: u64 = 0;
    for &key in &order {
        let list = &users[key];
        for &i in list {
            let view = &views[i];
            let found = storages.bytes(key)?;
            let found = found.ok_or_else(|| CheckpointError::MissingStorage {
                tensor: view.name.clone(),
                key: key.to_owned(),
            })?;
            if found != view.storage_bytes {
                return Err(CheckpointError::StorageSize {
                    tensor: view.name.clone(),
                    key: key.to_owned(),
                    expected: view.storage_bytes,
                    found,
                });
            }
            needed = needed.saturating_add(view.bytes());
        }
        if !(list.len() == 1 && views[list[0]].whole()) {
            beside = beside.max(views[list[0]].storage_bytes);
        }
    }
    let limit = 2 * file_bytes + CHECKPOINT_HEADROOM_BYTES;
    if needed.saturating_add(beside) > limit {
        return Err(CheckpointError::Limit { what: "the size of the tensors, bytes,", limit });
    }

    let mut data: Vec<Vec<u8>> = vec![Vec::new(); views.len()];
    for &key in &order {
        let list = &users[key];
        let bytes = usize::try_from(views[list[0]].storage_bytes)
            .map_err(|_| CheckpointError::Limit { what: "the size of a storage, bytes,", limit })?;
        let storage = storages.load(key, bytes)?;
        if let [only] = list[..]
            && views[only].whole()
        {
            data[only] = storage;
            continue;
        }
        for &i in list {
            data[i] = cut(&views[i], &storage);
        }
    }
    Ok(views
        .into_iter()
        .zip(data)
        .map(|(view, mut data)| {
            if big_endian {
                data.chunks_exact_mut(view.dtype.size()).for_each(<[u8]>::reverse);
            }
            Tensor { name: view.name, dtype: view.dtype, shape: view.shape, data }
        })
        .collect())
}

/// Gathers a view's elements in row-major order. `view` was checked against the length of `storage`.
fn cut(view: &View, storage: &[u8]) -> Vec<u8> {
    let size = view.dtype.size();
    let count: usize = view.shape.iter().product();
    if count == 0 {
        return Vec::new();
    }
    if view.contiguous() {
        return storage[view.first * size..(view.first + count) * size].to_vec();
    }
    let mut out = Vec::with_capacity(count * size);
    let mut index = vec![0usize; view.shape.len()];
    let mut at = view.first;
    for _ in 0..count {
        out.extend_from_slice(&storage[at * size..(at + 1) * size]);
        for d in (0..index.len()).rev() {
            index[d] += 1;
            at += view.stride[d];
            if index[d] < view.shape[d] {
                break;
            }
            at -= view.shape[d] * view.stride[d];
            index[d] = 0;
        }
    }
    out
}
