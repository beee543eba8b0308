//! The registered models: names, sizes, preprocessing, licence and provenance.

use super::architecture::Architecture;
use super::error::ModelError;
use super::normalise::Normalise;
use super::scaling::{Scale, Scaling};

/// A line of models that share their layer list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)]
pub enum Family {
    Yolov8,
    Yolo11,
    Yolo12,
    EfficientNetLite,
    ResNet18,
    ResNet34,
    ResNet50,
    MobileNetV3Small,
    MobileNetV3Large,
}

impl Family {
    /// Every family that detects, oldest first.
    pub const DETECTORS: [Family; 3] = [Family::Yolov8, Family::Yolo11, Family::Yolo12];

    /// Every family that classifies.
    pub const CLASSIFIERS: [Family; 8] = [
        Family::Yolov8,
        Family::Yolo11,
        Family::EfficientNetLite,
        Family::ResNet18,
        Family::ResNet34,
        Family::ResNet50,
        Family::MobileNetV3Small,
        Family::MobileNetV3Large,
    ];

    /// The name without a scale, such as `yolo11`.
    pub fn name(self) -> &'static str {
        match self {
            Family::Yolov8 => "yolov8",
            Family::Yolo11 => "yolo11",
            Family::Yolo12 => "yolo12",
            Family::EfficientNetLite => "efficientnet_lite",
            Family::ResNet18 => "resnet18",
            Family::ResNet34 => "resnet34",
            Family::ResNet50 => "resnet50",
            Family::MobileNetV3Small => "mobilenet_v3_small",
            Family::MobileNetV3Large => "mobilenet_v3_large",
        }
    }

    /// The published sizes. EfficientNet-Lite's 0 to 4 stand as n to x; a family of one size has n alone.
    pub fn scales(self) -> &'static [Scale] {
        match self {
            Family::Yolov8 | Family::Yolo11 | Family::Yolo12 | Family::EfficientNetLite => &Scale::ALL,
            _ => &[Scale::N],
        }
    }

    /// The registered name of a published size: `yolo11n`, `yolo11n-cls`, `efficientnet_lite0`, `resnet18`.
    pub fn model_name(self, scale: Scale, task: Task) -> String {
        let family = self.name();
        match (self, task) {
            (Family::Yolov8 | Family::Yolo11 | Family::Yolo12, Task::Detect) => format!("{family}{scale}"),
            (Family::Yolov8 | Family::Yolo11 | Family::Yolo12, Task::Classify) => {
                format!("{family}{scale}-cls")
            }
            (Family::EfficientNetLite, _) => format!("{family}{}", scale as usize),
            _ => family.to_owned(),
        }
    }

    /// The published multiples of a classification network's scale.
    pub fn classifier_scaling(self, scale: Scale) -> Scaling {
        match self {
            // Its classification networks have no cap.
            Family::Yolov8 => Scaling { max_channels: 1024, ..self.scaling(scale) },
            _ => self.scaling(scale),
        }
    }

    /// The published multiples of a scale.
    pub fn scaling(self, scale: Scale) -> Scaling {
        const UNCAPPED: usize = 65536;
        let (depth, width, max_channels) = match (self, scale) {
            (Family::EfficientNetLite, Scale::N) => (1.0, 1.0, UNCAPPED),
            (Family::EfficientNetLite, Scale::S) => (1.1, 1.0, UNCAPPED),
            (Family::EfficientNetLite, Scale::M) => (1.2, 1.1, UNCAPPED),
            (Family::EfficientNetLite, Scale::L) => (1.4, 1.2, UNCAPPED),
            (Family::EfficientNetLite, Scale::X) => (1.8, 1.4, UNCAPPED),
            (
                Family::ResNet18
                | Family::ResNet34
                | Family::ResNet50
                | Family::MobileNetV3Small
                | Family::MobileNetV3Large,
                _,
            ) => (1.0, 1.0, UNCAPPED),
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
    /// One class for the whole image.
    Classify,
}

impl Task {
    /// `detect` or `classify`.
    pub fn name(self) -> &'static str {
        match self {
            Task::Detect => "detect",
            Task::Classify => "classify",
        }
    }
}

/// How an image becomes a network's input. Channels are RGB, layout `[h, w, 3]`, values 0 to 1 before `normalise`.
/// Detectors take the image letterboxed, classifiers the middle square of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Preprocessing {
    /// Grey value, 0 to 255, that fills what the letterboxed image leaves empty.
    pub fill: u8,
    /// Height and width are multiples of this, pixels.
    pub stride: usize,
    /// What then happens to the values.
    pub normalise: Normalise,
    /// Height and width that the published weights were trained at, pixels.
    pub image_size: usize,
}

/// A published accuracy, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Accuracy {
    /// mAP50-95 on COCO val2017 at 640 px.
    Map50To95(f64),
    /// Share of ImageNet-1k's validation images whose first guess is right, at the published image size.
    Top1(f64),
}

/// Published figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Published {
    /// How good the published weights are.
    pub accuracy: Accuracy,
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
    /// Published figures, where they are known.
    pub published: Option<Published>,
}

/// COCO mAP50-95 in percent, parameters in millions, GFLOPs; n, s, m, l, x.
const YOLOV8: [(f64, f64, f64); 5] =
    [(37.3, 3.2, 8.7), (44.9, 11.2, 28.6), (50.2, 25.9, 78.9), (52.9, 43.7, 165.2), (53.9, 68.2, 257.8)];
const YOLO11: [(f64, f64, f64); 5] =
    [(39.5, 2.6, 6.5), (47.0, 9.4, 21.5), (51.5, 20.1, 68.0), (53.4, 25.3, 86.9), (54.7, 56.9, 194.9)];
const YOLO12: [(f64, f64, f64); 5] =
    [(40.6, 2.6, 6.5), (48.0, 9.3, 21.4), (52.5, 20.2, 67.5), (53.7, 26.4, 88.9), (55.2, 59.1, 199.0)];

impl ModelSpec {
    /// The registered detector of a family and scale.
    ///
    /// # Panics
    /// If the family does not detect.
    pub fn detector(family: Family, scale: Scale) -> ModelSpec {
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
            _ => unreachable!("the caller names a family that detects"),
        };
        let (map, parameters, gflops) = table[scale as usize];
        ModelSpec {
            name: family.model_name(scale, Task::Detect),
            family,
            scale,
            task: Task::Detect,
            preprocessing: Preprocessing {
                fill: 114,
                stride: 32,
                normalise: Normalise::NONE,
                image_size: 640,
            },
            weights_licence: "AGPL-3.0",
            provenance,
            published: Some(Published { accuracy: Accuracy::Map50To95(map / 100.0), parameters, gflops }),
        }
    }

    /// The registered classifier of a family and scale.
    pub fn classifier(family: Family, scale: Scale) -> ModelSpec {
        let architecture = Architecture::published_classifier(family, scale, 1000);
        let (weights_licence, provenance) = match family {
            Family::Yolov8 => (
                "AGPL-3.0",
                "YOLOv8 by G. Jocher, A. Chaurasia and J. Qiu (Ultralytics, 2023); weights trained on ImageNet-1k",
            ),
            Family::Yolo11 | Family::Yolo12 => (
                "AGPL-3.0",
                "YOLO11 by G. Jocher and J. Qiu (Ultralytics, 2024); weights trained on ImageNet-1k",
            ),
            Family::EfficientNetLite => (
                "Apache-2.0",
                "EfficientNet-Lite by Google (2020; after M. Tan and Q. Le, arXiv:1905.11946); weights trained on ImageNet-1k",
            ),
            Family::ResNet18 | Family::ResNet34 | Family::ResNet50 => (
                "BSD-3-Clause",
                "ResNet by K. He, X. Zhang, S. Ren and J. Sun (2016, arXiv:1512.03385); weights published by torchvision, trained on ImageNet-1k",
            ),
            Family::MobileNetV3Small | Family::MobileNetV3Large => (
                "BSD-3-Clause",
                "MobileNetV3 by A. Howard et al. (2019, arXiv:1905.02244); weights published by torchvision, trained on ImageNet-1k",
            ),
        };
        let image_size = match family {
            Family::EfficientNetLite => super::efficientnet_lite::IMAGE_SIZES[scale as usize],
            _ => 224,
        };
        ModelSpec {
            name: family.model_name(scale, Task::Classify),
            family,
            scale,
            task: Task::Classify,
            preprocessing: Preprocessing {
                fill: 114,
                stride: 1,
                normalise: architecture.normalise(),
                image_size,
            },
            weights_licence,
            provenance,
            published: published_classifier(family, scale),
        }
    }

    /// Names without ending under which files of these weights are known.
    pub fn file_stems(&self) -> Vec<String> {
        let published: &[&str] = match (self.family, self.scale) {
            (Family::EfficientNetLite, Scale::N) => &["efficientnet-lite0-57934424"],
            (Family::ResNet18, _) => &["resnet18-f37072fd"],
            (Family::ResNet34, _) => &["resnet34-b627a593"],
            (Family::ResNet50, _) => &["resnet50-11ad3fa6", "resnet50-0676ba61"],
            (Family::MobileNetV3Small, _) => &["mobilenet_v3_small-047dcff4"],
            (Family::MobileNetV3Large, _) => &["mobilenet_v3_large-5c1a4163", "mobilenet_v3_large-8738ca79"],
            _ => &[],
        };
        let mut stems = vec![self.name.clone(), self.name.replacen("yolo", "yolov", 1)];
        stems.dedup();
        stems.extend(published.iter().map(|&stem| stem.to_owned()));
        stems
    }

    /// The architecture with a head for `classes` classes.
    pub fn architecture(&self, classes: usize) -> Architecture {
        match self.task {
            Task::Detect => Architecture::published(self.family, self.scale, classes),
            Task::Classify => Architecture::published_classifier(self.family, self.scale, classes),
        }
    }
}

/// Top-1 accuracy in percent, parameters in millions, GFLOPs of torchvision's first weights and of EfficientNet-Lite's;
/// the YOLO classifiers' are left out.
fn published_classifier(family: Family, scale: Scale) -> Option<Published> {
    let (top1, parameters, gflops) = match family {
        Family::EfficientNetLite => {
            const LITE: [(f64, f64, f64); 5] = [
                (75.1, 4.7, 0.81),
                (76.7, 5.4, 1.26),
                (77.6, 6.1, 1.77),
                (79.8, 8.2, 3.30),
                (81.5, 13.0, 5.12),
            ];
            LITE[scale as usize]
        }
        Family::ResNet18 => (69.8, 11.7, 3.63),
        Family::ResNet34 => (73.3, 21.8, 7.33),
        Family::ResNet50 => (76.1, 25.6, 8.18),
        Family::MobileNetV3Small => (67.7, 2.5, 0.11),
        Family::MobileNetV3Large => (74.0, 5.5, 0.43),
        Family::Yolov8 | Family::Yolo11 | Family::Yolo12 => return None,
    };
    Some(Published { accuracy: Accuracy::Top1(top1 / 100.0), parameters, gflops })
}

/// Every registered detector.
pub fn detectors() -> Vec<ModelSpec> {
    Family::DETECTORS
        .iter()
        .flat_map(|&f| f.scales().iter().map(move |&s| ModelSpec::detector(f, s)))
        .collect()
}

/// Every registered classifier.
pub fn classifiers() -> Vec<ModelSpec> {
    Family::CLASSIFIERS
        .iter()
        .flat_map(|&f| f.scales().iter().map(move |&s| ModelSpec::classifier(f, s)))
        .collect()
}

/// Every registered model.
pub fn models() -> Vec<ModelSpec> {
    detectors().into_iter().chain(classifiers()).collect()
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
        // `efficientnet-lite0`, `efficientnet_lite0` and `EfficientNet-Lite0` are one name.
        None if stem.starts_with("yolo") => stem.to_owned(),
        None => stem.replace(['-', '_'], ""),
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
            ("yolov8n-cls.pt", "yolov8n-cls"),
            ("EfficientNet-Lite0", "efficientnet_lite0"),
            ("ResNet50", "resnet50"),
            ("mobilenet_v3_small", "mobilenet_v3_small"),
        ] {
            assert_eq!(find(typed).unwrap().name, name, "{typed}");
        }
    }

    #[test]
    fn an_unknown_name_brings_the_nearest_one() {
        let message = find("yolo11q").unwrap_err().to_string();
        assert!(message.contains("`yolo11q`") && message.contains("did you mean `yolo11"), "{message}");
        assert!(!find("inception").unwrap_err().to_string().contains("did you mean"));
    }

    #[test]
    fn every_model_states_licence_and_provenance() {
        assert_eq!((detectors().len(), classifiers().len()), (15, 20));
        for spec in models() {
            let trained_on = if spec.task == Task::Detect { "COCO" } else { "ImageNet" };
            assert!(!spec.weights_licence.is_empty() && spec.provenance.contains(trained_on));
            assert_eq!(find(&spec.name).unwrap(), spec);
        }
    }
}
