//! The tiny classifiers of fixtures/classify: description, weights, PyTorch's figures, and the model built from them.

use onsa_compute::Params;
use onsa_tune::models::{ClassMap, Model, WeightSource, identify, load};
use serde_json::Value as Json;

use super::{Tensors, json};

const NAMES: [&str; 7] = [
    "resnet18",
    "resnet50",
    "efficientnet_lite",
    "mobilenet_v3_small",
    "mobilenet_v3_large",
    "yolov8",
    "yolo11",
];

/// One of them.
pub struct Classifier {
    pub name: &'static str,
    pub json: Json,
    pub weights: Tensors,
    pub values: Tensors,
    pub model: Model,
}

/// All of them.
pub fn classifiers() -> impl Iterator<Item = Classifier> {
    NAMES.into_iter().map(|name| {
        let json = json(&format!("classify/{name}_tiny.json"));
        let weights = Tensors::read_file(&format!("classify/{name}_tiny.weights.safetensors"));
        let values = Tensors::read_file(&format!("classify/{name}_tiny.safetensors"));
        let architecture = identify::identify(Some(&json["description"]), &weights.tensors()).unwrap();
        let shape = &values.get("images").0.shape;
        let model = Model::build(&architecture, [shape[0], shape[2], shape[3]]).unwrap();
        Classifier { name, json, weights, values, model }
    })
}

impl Classifier {
    /// Its weights in the model's arena.
    pub fn params(&self) -> Params {
        load(&self.model, &self.weights, &ClassMap::identity(5), 0).unwrap()
    }
}
