//! What a checkpoint says about itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::tensor::Tensor;

/// Everything beside the tensors. A field is `None` where the file does not say.
///
/// In a safetensors file each field that is set stands in the `__metadata__` map under `onsa.<field>`, its value as JSON
/// text: `onsa.names` is `["person","bicycle"]`, `onsa.task` is `"detect"`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// Architecture dictionary (Ultralytics: backbone, head, scale, nc …), integer keys as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub yaml: Option<serde_json::Value>,
    /// Class names, by class index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<String>>,
    /// Number of classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nc: Option<u32>,
    /// "detect", "classify", "segment", "pose" or "obb".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// Strides of the detection levels, pixels; ONNX files give the largest alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stride: Option<Vec<f32>>,
    /// Licence, as the file words it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub licence: Option<String>,
    /// Version of the program that wrote the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// When it was written, as the file words it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub date: Option<String>,
    /// Epoch; -1 where training has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<i64>,
    /// Training arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub train_args: Option<serde_json::Value>,
    /// Program that wrote the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub producer: Option<String>,
    /// Class of the model object, `module.Class`, where the file holds a whole module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model_class: Option<String>,
    /// Input height and width, pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub imgsz: Option<[u32; 2]>,
    /// Batch norms are folded into the convolutions: there are biased convolutions and no norm is left.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub norm_folded: bool,
    /// Where the tensors were taken from: "ema", "model", "state_dict", "root" (the file is the state dict or module itself),
    /// a path such as "ema.module", or "initializers".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// Entries beside the tensors that are no tensors (a state dict's counters and settings).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<String>,
    /// Convolutions of an ONNX graph, in the order of its nodes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub convs: Vec<ConvInfo>,
    /// Metadata that has no field here, as it stands in the file.
    #[serde(skip)]
    pub extra: BTreeMap<String, String>,
}

impl Meta {
    /// Names of the fields that a safetensors file carries under `onsa.`.
    pub(super) const FIELDS: [&str; 17] = [
        "yaml",
        "names",
        "nc",
        "task",
        "stride",
        "licence",
        "version",
        "date",
        "epoch",
        "train_args",
        "producer",
        "model_class",
        "imgsz",
        "norm_folded",
        "source",
        "skipped",
        "convs",
    ];
}

/// A convolution of an ONNX graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConvInfo {
    /// Dotted name of the module ("model.0.conv"), or the node's own name where it is no path.
    pub name: String,
    /// Name of its weight among the tensors.
    pub weight: String,
    /// Name of its bias among the tensors.
    pub bias: Option<String>,
    /// Kernel height and width.
    pub kernel: Vec<usize>,
    /// Strides, height and width.
    pub strides: Vec<i64>,
    /// Padding: top, left, bottom, right.
    pub pads: Vec<i64>,
    /// Dilations, height and width.
    pub dilations: Vec<i64>,
    /// Groups.
    pub group: i64,
    /// `auto_pad` where it is set and not NOTSET: "SAME_UPPER", "SAME_LOWER", "VALID".
    pub auto_pad: Option<String>,
}

/// By names alone: a module called `conv` has a bias, and there is neither a `bn` module nor a running mean.
pub(super) fn norm_folded(tensors: &[Tensor]) -> bool {
    let mut biased = false;
    for t in tensors {
        if t.name.contains(".bn.") || t.name.ends_with("running_mean") {
            return false;
        }
        biased |= t.name.ends_with(".conv.bias");
    }
    biased
}
