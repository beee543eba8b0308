//! Where in a PyTorch file the weights are: a module or a state dict, alone or within a training checkpoint.

use super::super::error::CheckpointError;
use super::super::pickle::{Graph, Value};
use super::module;
use super::tensors::{Entry, View, entry};
use crate::limits::{MAX_TENSOR_NAME, MAX_TENSORS};

/// What holds the weights.
pub struct Model {
    /// Path of keys from the root, dotted; "root" for the root itself.
    pub source: String,
    /// The module, where it is one; `None` for a state dict.
    pub module: Option<Value>,
}

/// The weights of a file.
pub struct Found {
    pub model: Model,
    pub views: Vec<View>,
    /// Entries of the state dict that are no tensors.
    pub skipped: Vec<String>,
}

/// Keys under which programs keep the smoothed weights, then the plain ones, in the order of preference.
const KEYS: [&str; 13] = [
    "ema",
    "model_ema",
    "ema_state_dict",
    "state_dict_ema",
    "ema_model",
    "model",
    "state_dict",
    "model_state_dict",
    "model_state",
    "net",
    "network",
    "module",
    "params",
];

/// Dictionaries within dictionaries: {"ema": {"module": {…}}} is the deepest in use.
const MAX_NESTING: usize = 2;

/// Finds the weights: smoothed ones before plain ones, modules and state dicts alike.
///
/// # Errors
/// When there are none, or when what holds them is malformed.
pub fn find(graph: &Graph, root: Value) -> Result<Found, CheckpointError> {
    let found = search(graph, root, "", 0)?.ok_or_else(|| {
        let keys = graph.entries(root).unwrap_or_default();
        let keys: Vec<_> = keys.iter().filter_map(|&(k, _)| graph.str(k)).take(12).collect();
        CheckpointError::NoWeights(if keys.is_empty() {
            "its pickle has neither a module nor a dictionary of tensors; save one with torch.save(model.state_dict(), …)".to_owned()
        } else {
            format!(
                "among its entries ({}) is neither a module nor a dictionary of tensors; \
                 save one with torch.save(model.state_dict(), …)",
                keys.join(", ").escape_debug().collect::<String>().chars().take(300).collect::<String>()
            )
        })
    })?;
    if found.views.is_empty() {
        return Err(CheckpointError::NoWeights(
            "its model has no parameters; give a trained or initialised model".to_owned(),
        ));
    }
    Ok(found)
}

fn search(graph: &Graph, v: Value, path: &str, depth: usize) -> Result<Option<Found>, CheckpointError> {
    let source = || if path.is_empty() { "root".to_owned() } else { path.to_owned() };
    if module::is_module(graph, v) {
        let views = module::tensors(graph, v)?;
        return Ok(Some(Found {
            model: Model { source: source(), module: Some(v) },
            views,
            skipped: Vec::new(),
        }));
    }
    let Some(entries) = graph.entries(v) else { return Ok(None) };
    if depth < MAX_NESTING {
        for key in KEYS {
            // In a state dict "model" would be a tensor or absent, so this never mistakes one for a container.
            let Some(&(_, inner)) = entries.iter().rev().find(|(k, _)| graph.str(*k) == Some(key)) else {
                continue;
            };
            let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            if let Some(found) = search(graph, inner, &path, depth + 1)? {
                return Ok(Some(found));
            }
        }
    }
    state_dict(graph, &entries, source())
}

/// A dictionary with text keys and at least one tensor; `None` where it is none.
fn state_dict(
    graph: &Graph,
    entries: &[(Value, Value)],
    source: String,
) -> Result<Option<Found>, CheckpointError> {
    if entries.len() > MAX_TENSORS {
        return Err(CheckpointError::Limit { what: "the number of tensors", limit: MAX_TENSORS as u64 });
    }
    let (mut views, mut skipped) = (Vec::new(), Vec::new());
    let mut opaque = None;
    for &(key, value) in entries {
        let Some(name) = graph.str(key) else { return Ok(None) };
        if name.len() > MAX_TENSOR_NAME {
            return Err(CheckpointError::Limit {
                what: "the length of a tensor's name",
                limit: MAX_TENSOR_NAME as u64,
            });
        }
        match entry(graph, value, name)? {
            Entry::Tensor(view) => views.push(view),
            Entry::Plain => skipped.push(name.to_owned()),
            Entry::Opaque(class) => opaque = Some((name, class)),
        }
    }
    match (views.is_empty(), opaque) {
        (true, _) => Ok(None),
        (false, Some((name, class))) => Err(CheckpointError::NotATensor { entry: name.to_owned(), class }),
        (false, None) => Ok(Some(Found { model: Model { source, module: None }, views, skipped })),
    }
}
