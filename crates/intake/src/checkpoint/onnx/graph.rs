//! The nodes that use weights, and what they call them.

use std::collections::{HashMap, HashSet};

use super::super::error::CheckpointError;
use super::super::meta::ConvInfo;
use super::wire::fields;
use crate::limits::{MAX_DIMS, MAX_ONNX_NODES};

/// What a node does, as far as weights go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Conv,
    BatchNorm,
    Gemm,
}

/// A node that takes weights.
pub struct Node<'a> {
    pub kind: Kind,
    pub name: &'a str,
    /// The first five inputs: data, then weights. Empty where absent.
    pub inputs: [&'a str; 5],
    attributes: &'a [u8],
}

/// The nodes that take weights, and the tensors that Constant nodes hold, by the name of their output.
#[derive(Default)]
pub struct Nodes<'a> {
    pub weighted: Vec<Node<'a>>,
    pub constants: HashMap<&'a str, &'a [u8]>,
    seen: usize,
}

impl<'a> Nodes<'a> {
    /// Looks at one NodeProto.
    pub fn add(&mut self, message: &'a [u8]) -> Result<(), CheckpointError> {
        self.seen += 1;
        if self.seen > MAX_ONNX_NODES {
            return Err(CheckpointError::Limit {
                what: "the number of ONNX nodes",
                limit: MAX_ONNX_NODES as u64,
            });
        }
        let (mut inputs, mut input_count) = ([""; 5], 0);
        let (mut output, mut name, mut op, mut domain) = ("", "", "", "");
        for field in fields(message) {
            match field? {
                (1, v) => {
                    if let Some(slot) = inputs.get_mut(input_count) {
                        *slot = v.text()?;
                    }
                    input_count += 1;
                }
                (2, v) if output.is_empty() => output = v.text()?,
                (3, v) => name = v.text()?,
                (4, v) => op = v.text()?,
                (7, v) => domain = v.text()?,
                _ => {}
            }
        }
        if !matches!(domain, "" | "ai.onnx") {
            return Ok(());
        }
        let kind = match op {
            "Conv" | "ConvTranspose" => Kind::Conv,
            "BatchNormalization" => Kind::BatchNorm,
            "Gemm" => Kind::Gemm,
            "Constant" => {
                for field in fields(message) {
                    if let (5, attribute) = field?
                        && let Some(tensor) = attribute_tensor(attribute.bytes()?)?
                    {
                        self.constants.insert(output, tensor);
                    }
                }
                return Ok(());
            }
            _ => return Ok(()),
        };
        self.weighted.push(Node { kind, name, inputs, attributes: message });
        Ok(())
    }

    /// New names for the tensors whose own name says nothing, from the nodes that use them: the convolution
    /// "/model.0/conv/Conv" makes "onnx::Conv_841" model.0.conv.weight. `names` are all tensors' names.
    pub fn renamed(&self, names: &HashSet<&'a str>) -> HashMap<&'a str, String> {
        let mut taken: HashSet<String> = names.iter().filter(|n| telling(n)).map(|&n| n.to_owned()).collect();
        let mut renamed = HashMap::new();
        for node in &self.weighted {
            let Some(path) = module_path(node.name) else { continue };
            let leaves: &[&str] = match node.kind {
                Kind::Conv | Kind::Gemm => &["weight", "bias"],
                Kind::BatchNorm => &["weight", "bias", "running_mean", "running_var"],
            };
            for (&input, leaf) in node.inputs[1..].iter().zip(leaves) {
                if !names.contains(input) || telling(input) || renamed.contains_key(input) {
                    continue;
                }
                let name = format!("{path}.{leaf}");
                if taken.insert(name.clone()) {
                    renamed.insert(input, name);
                }
            }
        }
        renamed
    }
}

/// A name that an exporter kept from the model: a path that ends in a parameter's name.
fn telling(name: &str) -> bool {
    !name.contains("::")
        && name.rsplit_once('.').is_some_and(|(path, leaf)| {
            !path.is_empty()
                && matches!(leaf, "weight" | "bias" | "running_mean" | "running_var" | "gamma" | "beta")
        })
}

/// "/model.0/conv/Conv" -> "model.0.conv". PyTorch writes the members of a list with the list's own name before them
/// ("/model.22/cv2.0/cv2.0.1/conv/Conv"), so a step that begins with the one before it replaces that.
fn module_path(node: &str) -> Option<String> {
    let mut steps: Vec<&str> = Vec::new();
    let (path, _operator) = node.strip_prefix('/')?.rsplit_once('/')?;
    for step in path.split('/') {
        if step.is_empty() {
            return None;
        }
        if let Some(last) = steps.last()
            && step.strip_prefix(last).is_some_and(|rest| rest.starts_with('.'))
        {
            steps.pop();
        }
        steps.push(step);
    }
    Some(steps.join("."))
}

/// AttributeProto "value": its tensor (field 5).
fn attribute_tensor(attribute: &[u8]) -> Result<Option<&[u8]>, CheckpointError> {
    let (mut name, mut tensor) = ("", None);
    for field in fields(attribute) {
        match field? {
            (1, v) => name = v.text()?,
            (5, v) => tensor = Some(v.bytes()?),
            _ => {}
        }
    }
    Ok(tensor.filter(|_| name == "value"))
}

impl Node<'_> {
    /// The convolution's geometry; `weight` and `bias` are final names, `kernel` the weight's spatial shape.
    pub fn conv(
        &self,
        weight: String,
        bias: Option<String>,
        kernel: Vec<usize>,
    ) -> Result<ConvInfo, CheckpointError> {
        let sides = kernel.len();
        let mut info = ConvInfo {
            name: module_path(self.name)
                .or_else(|| weight.strip_suffix(".weight").map(str::to_owned))
                .unwrap_or_else(|| self.name.to_owned()),
            weight,
            bias,
            kernel,
            strides: vec![1; sides],
            pads: vec![0; 2 * sides],
            dilations: vec![1; sides],
            group: 1,
            auto_pad: None,
        };
        for field in fields(self.attributes) {
            let (5, attribute) = field? else { continue };
            let (mut name, mut number, mut text, mut numbers) = ("", 0, "", Vec::new());
            for field in fields(attribute.bytes()?) {
                match field? {
                    (1, v) => name = v.text()?,
                    (3, v) => number = v.int()?,
                    (4, v) => text = v.text().unwrap_or(""),
                    (8, v) => v.ints(|i| {
                        if numbers.len() < 2 * MAX_DIMS {
                            numbers.push(i);
                        }
                        Ok(())
                    })?,
                    _ => {}
                }
            }
            let expected = match name {
                "strides" | "dilations" => sides,
                "pads" => 2 * sides,
                _ => numbers.len(),
            };
            if numbers.len() != expected {
                return Err(CheckpointError::bad(
                    &info.weight,
                    format!("its convolution has {} {name}, not {expected}", numbers.len()),
                ));
            }
            match name {
                "strides" => info.strides = numbers,
                "pads" => info.pads = numbers,
                "dilations" => info.dilations = numbers,
                "group" => info.group = number,
                "auto_pad" if !text.is_empty() && text != "NOTSET" => {
                    info.auto_pad = Some(text.chars().take(32).collect())
                }
                _ => {}
            }
        }
        Ok(info)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_names_become_module_paths() {
        for (node, path) in [
            ("/model.0/conv/Conv", Some("model.0.conv")),
            ("/model.2/m.0/cv1/conv/Conv", Some("model.2.m.0.cv1.conv")),
            ("/model.22/cv2.0/cv2.0.1/conv/Conv", Some("model.22.cv2.0.1.conv")),
            ("/model.10/m/m.0/attn/qkv/conv/Conv", Some("model.10.m.0.attn.qkv.conv")),
            ("/model/model.0/conv/Conv", Some("model.0.conv")),
            ("Conv_12", None),
            ("/Conv", None),
            ("//Conv", None),
        ] {
            assert_eq!(module_path(node).as_deref(), path, "{node}");
        }
    }

    #[test]
    fn only_parameters_names_are_telling() {
        for name in ["model.0.conv.weight", "head.bias"] {
            assert!(telling(name), "{name}");
        }
        for name in ["onnx::Conv_841", "841", "weight", "/model.22/Constant_output_0", ".weight", "w.1"] {
            assert!(!telling(name), "{name}");
        }
    }
}
