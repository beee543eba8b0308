//! The registered models: names, sizes, preprocessing, licence and provenance.

use super::architecture::Architecture;
use super::error::ModelError;
use super::scaling::{Scale, Scaling};

/// A line of models that share their layer list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Family {
    Yolov8,
    Yolo11,
    Yolo12,
}

impl Family {
    /// Every family, oldest first.
    pub const ALL: [Family; 3] = [Family::Yolov8, Family::Yolo11, Family::Yolo12];

    /// The name without a scale, such as `yolo11`.
    pub fn name(self) -> &'static str {
        match self {
            Family::Yolov8 => "yolov8",
            Family::Yolo11 => "yolo11",
            Family::Yolo12 => "yolo12",
        }
    }

    /// The published multiples of a scale.
    pub fn scaling(self, scale: Scale) -> Scaling {
        let (depth, width, max_channels) = match (self, scale) {
            (Family::Yolov8, Scale::N) => (0.33, 0.25, 1024),
            (Family::Yolov8, Scale::S) => (0.33, 0.5, 1024),
            (Family::Yolov8, Scale::M) => (0.67, 0.75, 768),
            (Family::Yolov8, Scale::L) => (1.0, 1.0, 512),
            (Family::Yolov8, Scale::X) => (1.0, 1.25, 512),
            (_, Scale::N) => (0.5, 0.25, 1024),
            (_, Scale::S) => (0.5, 0.5, 1024),
            (_, Scale::M) => (0.5, 1.0, 512),
            (_, Scale::L) => (1.0, 1.0, 512),
            (_, Scale::X) => (1.0, 1.5, 512),
        };
        Scaling { depth, width, max_channels }
    }
}

/// What a model predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// Boxes with classes and scores.
    Detect,
}

/// How an image becomes a network's input. Channels are RGB, layout `[h, w, 3]`, values 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preprocessing {
    /// Grey value, 0 to 255, that fills what the letterboxed image leaves empty.
    pub fill: u8,
    /// Height and width are multiples of this, pixels.
    pub stride: usize,
    /// Height and width that the published weights were trained at, pixels.
    pub image_size: usize,
}

/// Published results on COCO val2017 at 640 px.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Published {
    /// mAP50-95, 0 to 1.
    pub map50_95: f64,
    /// Parameters, millions.
    pub parameters: f64,
    /// Operations of one forward pass (two a multiply-add), thousand millions.
    pub gflops: f64,
}

/// A registered model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// Registered name, such as `yolo11n`.
    pub name: String,
    /// Line of models.
    pub family: Family,
    /// Size.
    pub scale: Scale,
    /// What it predicts.
    pub task: Task,
    /// How images enter.
    pub preprocessing: Preprocessing,
    /// Licence of the published weights. This program's code for the architecture is its own.
    pub weights_licence: &'static str,
    /// Who made the architecture and the weights.
    pub provenance: &'static str,
    /// Published figures.
    pub published: Published,
}

/// COCO mAP50-95 in percent, parameters in millions, GFLOPs; n, s, m, l, x.
const YOLOV8: [(f64, f64, f64); 5] =
    [(37.3, 3.2, 8.7), (44.9, 11.2, 28.6), (50.2, 25.9, 78.9), (52.9, 43.7, 165.2), (53.9, 68.2, 257.8)];
const YOLO11: [(f64, f64, f64); 5] =
    [(39.5, 2.6, 6.5), (47.0, 9.4, 21.5), (51.5, 20.1, 68.0), (53.4, 25.3, 86.9), (54.7, 56.9, 194.9)];
const YOLO12: [(f64, f64, f64); 5] =
    [(40.6, 2.6, 6.5), (48.0, 9.3, 21.4), (52.5, 20.2, 67.5), (53.7, 26.4, 88.9), (55.2, 59.1, 199.0)];

impl ModelSpec {
    /// The registered model of a family and scale.
    pub fn new(family: Family, scale: Scale) -> ModelSpec {
        let (table, provenance) = match family {
            Family::Yolov8 => (
                YOLOV8,
                "YOLOv8 by G. Jocher, A. Chaurasia and J. Qiu (Ultralytics, 2023); weights trained on COCO 2017",
            ),
            Family::Yolo11 => {
                (YOLO11, "YOLO11 by G. Jocher and J. Qiu (Ultralytics, 2024); weights trained on COCO 2017")
            }
            Family::Yolo12 => (
                YOLO12,
                "YOLO12 by Y. Tian, Q. Ye and D. Doermann (2025, arXiv:2502.12524); weights published by Ultralytics, trained on COCO 2017",
            ),
        };
        let (map, parameters, gflops) = table[scale as usize];
        ModelSpec {
            name: format!("{}{scale}", family.name()),
            family,
            scale,
            task: Task::Detect,
            preprocessing: Preprocessing { fill: 114, stride: 32, image_size: 640 },
            weights_licence: "AGPL-3.0",
            provenance,
            published: Published { map50_95: map / 100.0, parameters, gflops },
        }
    }

    /// The architecture with a head for `classes` classes.
    pub fn architecture(&self, classes: usize) -> Architecture {
        Architecture::published(self.family, self.scale, classes)
    }
}

/// Every registered model.
pub fn models() -> Vec<ModelSpec> {
    Family::ALL.iter().flat_map(|&f| Scale::ALL.map(|s| ModelSpec::new(f, s))).collect()
}

/// The registered model of a name: `yolo11n`, also `yolov11n`, `YOLO11n.pt`, `yolo11n.yaml`.
///
/// # Errors
/// [`ModelError::UnknownModel`] with the nearest registered name.
pub fn find(name: &str) -> Result<ModelSpec, ModelError> {
    let wanted = canonical(name);
    let all = models();
    if let Some(spec) = all.iter().find(|spec| canonical(&spec.name) == wanted) {
        return Ok(spec.clone());
    }
    let nearest = all
        .iter()
        .map(|spec| (strsim::damerau_levenshtein(&canonical(&spec.name), &wanted), &spec.name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= 2)
        .map(|(_, name)| name.clone());
    Err(ModelError::UnknownModel { name: name.to_owned(), nearest })
}

/// Lower case, no file extension, no `v` before the version: `YOLOv8n.pt` -> `yolo8n`.
fn canonical(name: &str) -> String {
    let lower = name.trim().to_lowercase();
    let stem =
        [".pt", ".yaml", ".yml"].iter().find_map(|ending| lower.strip_suffix(ending)).unwrap_or(&lower);
    match stem.strip_prefix("yolov") {
        Some(rest) => format!("yolo{rest}"),
        None => stem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_their_aliases_are_found() {
        for (typed, name) in [
            ("yolo11n", "yolo11n"),
            ("yolov11n", "yolo11n"),
            ("yolo12x.pt", "yolo12x"),
            ("YOLOv12m.yaml", "yolo12m"),
            ("yolov8n", "yolov8n"),
            ("yolo8s.pt", "yolov8s"),
        ] {
            assert_eq!(find(typed).unwrap().name, name, "{typed}");
        }
    }

    #[test]
    fn an_unknown_name_brings_the_nearest_one() {
        let message = find("yolo11q").unwrap_err().to_string();
        assert!(message.contains("`yolo11q`") && message.contains("did you mean `yolo11"), "{message}");
        assert!(!find("resnet50").unwrap_err().to_string().contains("did you mean"));
    }

    #[test]
    fn every_model_states_licence_and_provenance() {
        let all = models();
        assert_eq!(all.len(), 15);
        for spec in all {
            assert_eq!(spec.weights_licence, "AGPL-3.0");
            assert!(spec.provenance.contains("COCO"));
            assert_eq!(find(&spec.name).unwrap(), spec);
        }
    }
}
