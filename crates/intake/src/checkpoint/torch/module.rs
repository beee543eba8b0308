//! A whole `nn.Module` as inert objects: its parameters and buffers under the names of its state dict.

use std::collections::HashSet;

use super::super::error::CheckpointError;
use super::super::pickle::{Graph, Value};
use super::tensors::{Entry, View, entry};
use crate::limits::{MAX_MODULE_DEPTH, MAX_MODULE_ENTRIES, MAX_MODULES, MAX_TENSOR_NAME, MAX_TENSORS};

/// Whether an object is a module: it has parameters, buffers and modules, whatever its class.
pub fn is_module(graph: &Graph, v: Value) -> bool {
    graph.object(v).is_some()
        && ["_parameters", "_buffers", "_modules"].iter().all(|a| graph.attribute(v, a).is_some())
}

/// All tensors of a module, in the order of its state dict; buffers that are not persistent are left out, as there.
pub fn tensors(graph: &Graph, module: Value) -> Result<Vec<View>, CheckpointError> {
    let mut walk = Walk { graph, views: Vec::new(), modules: 0, entries: 0 };
    walk.module(module, "", 0)?;
    Ok(walk.views)
}

struct Walk<'a> {
    graph: &'a Graph,
    views: Vec<View>,
    modules: usize,
    /// Entries of dictionaries looked at: a module shared many times is walked each time.
    entries: usize,
}

impl Walk<'_> {
    fn module(&mut self, module: Value, prefix: &str, depth: usize) -> Result<(), CheckpointError> {
        self.modules += 1;
        if self.modules > MAX_MODULES {
            return Err(CheckpointError::Limit { what: "the number of modules", limit: MAX_MODULES as u64 });
        }
        if depth > MAX_MODULE_DEPTH {
            return Err(CheckpointError::Limit {
                what: "the depth of modules",
                limit: MAX_MODULE_DEPTH as u64,
            });
        }
        let graph = self.graph;
        let place = if prefix.is_empty() { "the model" } else { prefix.trim_end_matches('.') };
        let attributes = graph
            .attributes(module)
            .ok_or_else(|| CheckpointError::bad(place, "its module has no attributes"))?;
        let dictionary = |name: &str| {
            let (_, v) = attributes.iter().rev().find(|(k, _)| graph.str(*k) == Some(name))?;
            graph.entries(*v)
        };
        self.count(attributes.len())?;
        let mut transient = HashSet::new();
        if let Some(set) = graph.attribute(module, "_non_persistent_buffers_set") {
            let names = graph
                .sequence(set)
                .ok_or_else(|| CheckpointError::bad(place, "its list of transient buffers is malformed"))?;
            self.count(names.len())?;
            transient.extend(names.iter().filter_map(|&n| graph.str(n)));
        }
        for (kind, leave_out) in [("_parameters", &HashSet::new()), ("_buffers", &transient)] {
            let entries = dictionary(kind)
                .ok_or_else(|| CheckpointError::bad(place, format!("its module lacks {kind}")))?;
            self.count(entries.len())?;
            for &(key, value) in entries.iter() {
                let name = self.name(prefix, key)?;
                if value == Value::None || graph.str(key).is_some_and(|k| leave_out.contains(k)) {
                    continue;
                }
                match entry(graph, value, &name)? {
                    Entry::Tensor(view) => self.views.push(view),
                    Entry::Plain => {
                        return Err(CheckpointError::bad(name, "a parameter or buffer is no tensor"));
                    }
                    Entry::Opaque(class) => return Err(CheckpointError::NotATensor { entry: name, class }),
                }
                if self.views.len() > MAX_TENSORS {
                    return Err(CheckpointError::Limit {
                        what: "the number of tensors",
                        limit: MAX_TENSORS as u64,
                    });
                }
            }
        }
        let children =
            dictionary("_modules").ok_or_else(|| CheckpointError::bad(place, "its module lacks _modules"))?;
        self.count(children.len())?;
        for &(key, child) in children.iter() {
            if child == Value::None {
                continue;
            }
            let name = self.name(prefix, key)?;
            if !is_module(graph, child) {
                return Err(CheckpointError::bad(name, "it stands among the modules but is none"));
            }
            self.module(child, &format!("{name}."), depth + 1)?;
        }
        Ok(())
    }

    fn count(&mut self, entries: usize) -> Result<(), CheckpointError> {
        self.entries += entries;
        if self.entries > MAX_MODULE_ENTRIES {
            return Err(CheckpointError::Limit {
                what: "the number of the modules' attributes",
                limit: MAX_MODULE_ENTRIES as u64,
            });
        }
        Ok(())
    }

    fn name(&self, prefix: &str, key: Value) -> Result<String, CheckpointError> {
        let key =
            self.graph.str(key).ok_or_else(|| CheckpointError::bad(prefix, "a name within it is no text"))?;
        if prefix.len() + key.len() > MAX_TENSOR_NAME {
            return Err(CheckpointError::Limit {
                what: "the length of a tensor's name",
                limit: MAX_TENSOR_NAME as u64,
            });
        }
        Ok(format!("{prefix}{key}"))
    }
}
