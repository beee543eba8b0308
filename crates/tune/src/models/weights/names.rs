//! The names under which checkpoints hold a network's parameters.

use std::collections::HashMap;

use super::TensorInfo;

/// Tensors by the model's parameter names, whatever module the network was wrapped in.
pub(in crate::models) struct Names<'a> {
    /// Place and shape by name as in `model.0.conv.weight`.
    pub(in crate::models) by_name: HashMap<String, (usize, &'a [usize])>,
    /// Names of tensors outside the network's module.
    pub(in crate::models) foreign: Vec<String>,
}

impl<'a> Names<'a> {
    pub(in crate::models) fn new(tensors: &'a [TensorInfo]) -> Names<'a> {
        let wrapper = Wrapper::of(tensors);
        let mut names = Names { by_name: HashMap::new(), foreign: vec![] };
        for (i, tensor) in tensors.iter().enumerate().filter(|(_, tensor)| !is_no_parameter(&tensor.name)) {
            match wrapper.unwrapped(&tensor.name) {
                Some(name) => {
                    names.by_name.insert(name, (i, &tensor.shape));
                }
                None => names.foreign.push(tensor.name.clone()),
            }
        }
        names
    }

    /// Whether the norms are folded into the convolutions.
    pub(in crate::models) fn is_folded(&self) -> bool {
        self.by_name.contains_key("model.0.conv.bias")
            && !self.by_name.keys().any(|name| name.contains(".bn."))
    }

    pub(in crate::models) fn shape(&self, name: &str) -> Option<&'a [usize]> {
        self.by_name.get(name).map(|(_, shape)| *shape)
    }
}

/// What stands before the network's own names.
struct Wrapper {
    prefix: String,
    adds_model: bool,
}

impl Wrapper {
    /// Wrapping modules put one prefix before all names; the first convolution shows it. Saving the inner sequence alone
    /// leaves `model.` out.
    fn of(tensors: &[TensorInfo]) -> Wrapper {
        const FIRST: &str = "0.conv.weight";
        let shortest = |ending: &str| {
            let prefixes = tensors.iter().filter_map(|t| t.name.strip_suffix(ending));
            prefixes.filter(|p| p.is_empty() || p.ends_with('.')).min_by_key(|p| p.len()).map(str::to_owned)
        };
        if let Some(prefix) = shortest(&format!("model.{FIRST}")) {
            Wrapper { prefix, adds_model: false }
        } else if tensors.iter().any(|t| t.name == FIRST) {
            Wrapper { prefix: String::new(), adds_model: true }
        } else {
            let first = ["_conv_stem.weight", "features.0.0.weight", "conv1.weight"];
            let prefix = first.into_iter().find_map(shortest).unwrap_or_default();
            Wrapper { prefix, adds_model: false }
        }
    }

    fn unwrapped(&self, name: &str) -> Option<String> {
        let rest = name.strip_prefix(&self.prefix)?;
        Some(if self.adds_model { format!("model.{rest}") } else { rest.to_owned() })
    }
}

/// Counters, fixed buffers and an exporter's constants stand among the tensors without being parameters.
fn is_no_parameter(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    matches!(last, "num_batches_tracked" | "anchors" | "strides" | "stride" | "anchor_grid")
        || name.ends_with(".dfl.conv.weight")
        || name.contains('/')
        || name.contains("::")
}
