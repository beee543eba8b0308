//! From a description of a network to its graph.

use std::ops::Range;

use onsa_compute::graph::{Adapter, Graph, Params, Role, Value};

use super::blocks::{BOX_BINS, ClassBranch, Head, area_heads, detect, psa_heads};
use super::branch::Branch;
use super::error::ModelError;
use super::lora::LowRank;
use super::normalise::Normalise;
use super::registry::{Family, Task};
use super::scaling::{Scale, Scaling};
use super::{efficientnet_lite, mobilenet_v3, resnet, yolo11, yolo12, yolov8};

/// Steps, in pixels, between the positions of the three levels.
pub const STRIDES: [usize; 3] = [8, 16, 32];

/// Everything that decides which parameters a network has.
#[derive(Clone, Debug, PartialEq)]
pub struct Architecture {
    /// Line of models.
    pub family: Family,
    /// What it predicts. A YOLO backbone serves both tasks; the other families classify.
    pub task: Task,
    /// The published scale, where it is one.
    pub scale: Option<Scale>,
    /// Multiples of depth and width.
    pub scaling: Scaling,
    /// Every C3k2 block chains C3k blocks (YOLO11 and YOLO12 at scales m, l, x; without effect on YOLOv8).
    pub all_c3k: bool,
    /// Attending blocks are residual with a scale a channel, and their feed-forward networks are narrower (YOLO12 at
    /// scales l and x; without effect on the others).
    pub residual: bool,
    /// Number of classes, those of the branches not counted.
    pub classes: usize,
    /// Hidden channels of the head's class branch; None: what a fresh head of so many classes has. A pretrained head
    /// keeps its width when its classes change.
    pub class_width: Option<usize>,
    /// Channels of the image.
    pub image_channels: usize,
    /// Further classes, with layers of their own.
    pub branches: Vec<Branch>,
}

impl Architecture {
    /// A published model, with a head for `classes` classes and three image channels.
    pub fn published(family: Family, scale: Scale, classes: usize) -> Architecture {
        let mut architecture = Architecture::custom(family, family.scaling(scale), Some(scale), classes);
        architecture.scale = Some(scale);
        architecture
    }

    /// A published classification network.
    pub fn published_classifier(family: Family, scale: Scale, classes: usize) -> Architecture {
        let scaling = family.classifier_scaling(scale);
        let classifier = Architecture::custom_classifier(family, scaling, Some(scale), classes);
        Architecture { scale: Some(scale), ..classifier }
    }

    /// A classification network of other multiples; see [`Architecture::custom`].
    pub fn custom_classifier(
        family: Family,
        scaling: Scaling,
        behaves_as: Option<Scale>,
        classes: usize,
    ) -> Architecture {
        let all_c3k = family == Family::Yolo11 && behaves_as.unwrap_or(Scale::N) >= Scale::M;
        let detector = Architecture::custom(family, scaling, behaves_as, classes);
        Architecture { task: Task::Classify, all_c3k, ..detector }
    }

    /// A network of other multiples. Some blocks differ by scale, not by multiples: `behaves_as` says which they are
    /// (None: as in scale n).
    pub fn custom(
        family: Family,
        scaling: Scaling,
        behaves_as: Option<Scale>,
        classes: usize,
    ) -> Architecture {
        let scale = behaves_as.unwrap_or(Scale::N);
        Architecture {
            family,
            task: Task::Detect,
            scale: None,
            scaling,
            all_c3k: family != Family::Yolov8 && scale >= Scale::M,
            residual: family == Family::Yolo12 && scale >= Scale::L,
            classes,
            class_width: None,
            image_channels: 3,
            branches: Vec::new(),
        }
    }

    /// `yolo11n`, `resnet18`, or for other multiples `yolo11 (depth 0.5, width 0.125)`.
    pub fn name(&self) -> String {
        let Scaling { depth, width, .. } = self.scaling;
        match self.scale {
            Some(scale) => self.family.model_name(scale, self.task),
            None => format!("{} (depth {depth}, width {width})", self.family.name()),
        }
    }

    /// Index of the head among a YOLO network's top-level modules.
    pub fn head_index(&self) -> usize {
        match (self.family, self.task) {
            (Family::Yolov8, Task::Detect) => yolov8::HEAD,
            (Family::Yolov8, Task::Classify) => yolov8::CLASSIFY_HEAD,
            (Family::Yolo11, Task::Detect) => yolo11::HEAD,
            (Family::Yolo11, Task::Classify) => yolo11::CLASSIFY_HEAD,
            (Family::Yolo12, _) => yolo12::HEAD,
            _ => self.modules().len() - 1,
        }
    }

    /// The top-level modules from the image to the head, which is the last: each as the dotted prefixes of its
    /// parameters' names.
    pub fn modules(&self) -> Vec<Vec<String>> {
        match self.family {
            Family::Yolov8 | Family::Yolo11 | Family::Yolo12 => {
                (0..=self.head_index()).map(|i| vec![format!("model.{i}.")]).collect()
            }
            Family::EfficientNetLite => efficientnet_lite::modules(&self.scaling),
            Family::ResNet18 | Family::ResNet34 | Family::ResNet50 => resnet::modules(),
            Family::MobileNetV3Small => mobilenet_v3::modules(mobilenet_v3::Size::Small),
            Family::MobileNetV3Large => mobilenet_v3::modules(mobilenet_v3::Size::Large),
        }
    }

    /// Name of the first convolution's weight, whose inputs are the image's channels.
    pub fn first_weight(&self) -> &'static str {
        match self.family {
            Family::Yolov8 | Family::Yolo11 | Family::Yolo12 => "model.0.conv.weight",
            Family::EfficientNetLite => "_conv_stem.weight",
            Family::ResNet18 | Family::ResNet34 | Family::ResNet50 => "conv1.weight",
            Family::MobileNetV3Small | Family::MobileNetV3Large => "features.0.0.weight",
        }
    }

    /// Names (without `.weight` and `.bias`) of the layers that give the class logits: one a level of a detector.
    pub fn class_layers(&self) -> Vec<String> {
        let head = self.head_index();
        match (self.task, self.family) {
            (Task::Detect, _) => (0..STRIDES.len()).map(|l| format!("model.{head}.cv3.{l}.2")).collect(),
            (_, Family::Yolov8 | Family::Yolo11 | Family::Yolo12) => vec![format!("model.{head}.linear")],
            (_, Family::EfficientNetLite) => vec!["_fc".to_owned()],
            (_, Family::ResNet18 | Family::ResNet34 | Family::ResNet50) => vec!["fc".to_owned()],
            (_, Family::MobileNetV3Small | Family::MobileNetV3Large) => vec!["classifier.3".to_owned()],
        }
    }

    /// How pixel values enter the network.
    pub fn normalise(&self) -> Normalise {
        match self.family {
            Family::Yolov8 | Family::Yolo11 | Family::Yolo12 => Normalise::NONE,
            Family::EfficientNetLite => Normalise::LITE,
            Family::ResNet18
            | Family::ResNet34
            | Family::ResNet50
            | Family::MobileNetV3Small
            | Family::MobileNetV3Large => Normalise::IMAGENET,
        }
    }

    /// Hidden channels of the head's class branch.
    pub fn resolved_class_width(&self) -> usize {
        let first_level = self.scaling.channels(256);
        self.class_width.unwrap_or_else(|| Head::fresh_class_width(first_level, self.classes))
    }

    /// Says what is wrong with the numbers, if anything is.
    fn check(&self, [n, h, w]: [usize; 3]) -> Result<(), ModelError> {
        // A detector's maps must meet where they are enlarged; a classifier takes the mean over whatever is left.
        let largest = STRIDES[2];
        let whole = |side: usize| self.task == Task::Classify || side.is_multiple_of(largest);
        if h < largest || w < largest || !whole(h) || !whole(w) {
            return Err(ModelError::ImageSize { height: h, width: w, stride: largest });
        }
        let refuse = |reason: String| Err(ModelError::Architecture(reason));
        if n == 0 || self.classes == 0 || self.image_channels == 0 || self.class_width == Some(0) {
            return refuse("a model needs at least one image, one class and one channel".into());
        }
        // Factors far outside the published ones are a damaged file, and would overflow sizes.
        let Scaling { depth, width, max_channels } = self.scaling;
        if !(depth > 0.0
            && depth <= 16.0
            && width > 0.0
            && width <= 16.0
            && (8..=65536).contains(&max_channels))
        {
            return refuse(format!(
                "depth {depth}, width {width} and {max_channels} channels make no network: depth and width lie between 0 and 16, the channels between 8 and 65536"
            ));
        }
        if self.task == Task::Detect && !Family::DETECTORS.contains(&self.family) {
            return refuse(format!("{} classifies images; it does not detect", self.family.name()));
        }
        if self.task == Task::Classify && self.family == Family::Yolo12 {
            return refuse("yolo12 has no classification head here; use yolov8 or yolo11".into());
        }
        self.check_branches()?;
        let attending: &[usize] = match self.family {
            Family::Yolo11 => &[1024],
            Family::Yolo12 => &[512, 1024],
            _ => &[],
        };
        for &listed in attending {
            let channels = self.scaling.channels(listed);
            let heads =
                if self.family == Family::Yolo11 { psa_heads(channels) } else { area_heads(channels) };
            if heads.is_none() {
                return refuse(format!(
                    "{}: {channels} channels cannot be cut into attention heads; choose a width that gives a multiple of {}",
                    self.name(),
                    if self.family == Family::Yolo11 { 128 } else { 64 }
                ));
            }
        }
        Ok(())
    }
}

/// One of the three levels of a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// Name of the graph's output: `[n, height, width, 4 * BOX_BINS + classes.len()]`, box logits before class logits.
    pub output: String,
    /// Pixels of the image between two positions.
    pub stride: usize,
    /// Rows of positions.
    pub height: usize,
    /// Columns of positions.
    pub width: usize,
    /// Which of all classes the class logits are of.
    pub classes: Range<usize>,
}

/// A built network.
#[derive(Clone, Debug)]
pub struct Model {
    /// What it was built from.
    pub architecture: Architecture,
    /// One input, `images` (`[n, h, w, channels]`, RGB, 0 to 1, then through [`Architecture::normalise`]). A detector has
    /// one output a level, in their order, a classifier one, `logits` (`[n, 1, 1, classes]`).
    pub graph: Graph,
    /// The input's shape.
    pub input: [usize; 4],
    /// The head's levels, finest first, then each branch's; none in a classifier.
    pub levels: Vec<Level>,
    /// Bins of each box side's distance distribution.
    pub box_bins: usize,
    /// What adapters stand beside its layers, where some do.
    pub low_rank: Option<LowRank>,
    /// Their parameters.
    pub adapters: Vec<Adapter>,
}

impl Model {
    /// Builds the network for batches of `[n, h, w]` images.
    ///
    /// # Errors
    /// A detector's image size that is no multiple of 32, a classifier's below 32; numbers that make no network.
    pub fn build(architecture: &Architecture, [n, h, w]: [usize; 3]) -> Result<Model, ModelError> {
        architecture.check([n, h, w])?;
        let a = architecture;
        let mut graph = Graph::new();
        let input = [n, h, w, a.image_channels];
        let image = graph.input("images", input);
        if a.task == Task::Classify {
            let logits = classifier(a, &mut graph, image);
            if matches!(a.family, Family::Yolov8 | Family::Yolo11) {
                // The published classifiers have PyTorch's constants, not the detectors'.
                graph.set_norm_constants(1e-5, 0.1);
            }
            graph.output("logits", logits);
            return Ok(Model {
                architecture: a.clone(),
                graph,
                input,
                levels: Vec::new(),
                box_bins: BOX_BINS,
                low_rank: None,
                adapters: Vec::new(),
            });
        }
        let (features, branch) = match a.family {
            Family::Yolov8 => (yolov8::features(&mut graph, image, &a.scaling), ClassBranch::Dense),
            Family::Yolo11 => {
                (yolo11::features(&mut graph, image, &a.scaling, a.all_c3k), ClassBranch::Separable)
            }
            Family::Yolo12 => (
                yolo12::features(&mut graph, image, &a.scaling, a.all_c3k, a.residual),
                ClassBranch::Separable,
            ),
            _ => unreachable!("checked: the other families do not detect"),
        };
        let head = Head {
            name: format!("model.{}", a.head_index()),
            classes: a.classes,
            class_width: a.resolved_class_width(),
            branch,
        };
        let results = detect(&mut graph, &features, &head);
        let mut levels = Vec::with_capacity(results.len());
        for (l, result) in results.into_iter().enumerate() {
            let [_, height, width, _] = graph.shape(result);
            let output = format!("level{l}");
            graph.output(&output, result);
            levels.push(Level { output, stride: STRIDES[l], height, width, classes: 0..a.classes });
        }
        let architecture = a.part(0);
        let (low_rank, adapters) = (None, Vec::new());
        let network = Model { architecture, graph, input, levels, box_bins: BOX_BINS, low_rank, adapters };
        network.branch_out(a, [n, h, w])
    }

    /// The same network for another batch or image size: the parameters, their order and places are the same.
    ///
    /// # Errors
    /// As [`Model::build`].
    pub fn resized(&self, size: [usize; 3]) -> Result<Model, ModelError> {
        let plain = Model::build(&self.architecture, size)?;
        Ok(match &self.low_rank {
            Some(low_rank) => plain.adapted(low_rank),
            None => plain,
        })
    }

    /// Dotted name of the head.
    pub fn head_name(&self) -> String {
        format!("model.{}", self.architecture.head_index())
    }

    /// What the network predicts.
    pub fn task(&self) -> Task {
        self.architecture.task
    }

    /// Names (without `.weight` and `.bias`) of the last convolution of a level's box branch and of its class branch.
    pub fn logit_names(&self, level: usize) -> (String, String) {
        let head = self.head_name();
        (format!("{head}.cv2.{level}.2"), format!("{head}.cv3.{level}.2"))
    }

    /// Names of the batch norms, in the order of computation.
    pub fn norm_names(&self) -> Vec<String> {
        norm_names(&self.graph)
    }

    /// Number of trainable values (the running statistics do not count).
    pub fn parameter_count(&self) -> usize {
        self.graph.params().iter().filter(|p| p.role.is_trained()).map(|p| p.len).sum()
    }

    /// Operations of one forward pass of one image (two a multiply-add, convolutions and attention), thousand millions.
    pub fn gflops(&self) -> f64 {
        2.0 * self.graph.multiply_adds() as f64 / self.input[0] as f64 / 1e9
    }

    /// Parameters of this model's layout, not initialised beyond what [`Params::new`] does.
    pub fn blank_params(&self) -> Params {
        Params::new(&self.graph)
    }
}

/// The classification networks: from the image to the logits.
fn classifier(a: &Architecture, g: &mut Graph, image: Value) -> Value {
    use resnet::Block;
    let (scaling, classes) = (&a.scaling, a.classes);
    match a.family {
        Family::Yolov8 => yolov8::classifier(g, image, scaling, classes),
        Family::Yolo11 => yolo11::classifier(g, image, scaling, a.all_c3k, classes),
        Family::Yolo12 => unreachable!("checked: it has no classification head"),
        Family::EfficientNetLite => efficientnet_lite::classifier(g, image, scaling, classes),
        Family::ResNet18 => resnet::classifier(g, image, Block::Basic, resnet::BLOCKS_18, scaling, classes),
        Family::ResNet34 => resnet::classifier(g, image, Block::Basic, resnet::BLOCKS_34, scaling, classes),
        Family::ResNet50 => {
            resnet::classifier(g, image, Block::Bottleneck, resnet::BLOCKS_34, scaling, classes)
        }
        Family::MobileNetV3Small => {
            mobilenet_v3::classifier(g, image, mobilenet_v3::Size::Small, scaling, classes)
        }
        Family::MobileNetV3Large => {
            mobilenet_v3::classifier(g, image, mobilenet_v3::Size::Large, scaling, classes)
        }
    }
}

fn norm_names(graph: &Graph) -> Vec<String> {
    let scales = graph.params().iter().filter(|p| p.role == Role::NormScale);
    scales.map(|p| p.name.strip_suffix(".weight").unwrap_or(&p.name).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_the_image_divided_by_the_strides() {
        for family in Family::DETECTORS {
            let model = Model::build(&Architecture::published(family, Scale::N, 7), [2, 96, 160]).unwrap();
            let sizes: Vec<_> = model.levels.iter().map(|l| (l.stride, l.height, l.width)).collect();
            assert_eq!(sizes, [(8, 12, 20), (16, 6, 10), (32, 3, 5)], "{family:?}");
            for ((name, value), level) in model.graph.outputs().iter().zip(&model.levels) {
                assert_eq!(*name, level.output);
                assert_eq!(model.graph.shape(*value), [2, level.height, level.width, 64 + 7]);
            }
        }
    }

    #[test]
    fn a_class_width_is_kept_and_a_fresh_one_follows_the_classes() {
        let fresh = Architecture::published(Family::Yolo11, Scale::N, 1);
        assert_eq!(fresh.resolved_class_width(), 64);
        assert_eq!(Architecture { classes: 80, ..fresh.clone() }.resolved_class_width(), 80);
        assert_eq!(Architecture { classes: 500, ..fresh.clone() }.resolved_class_width(), 100);
        let kept = Architecture { class_width: Some(80), ..fresh };
        let model = Model::build(&kept, [1, 32, 32]).unwrap();
        let i = model.blank_params().find("model.23.cv3.1.2.weight").unwrap();
        assert_eq!(model.graph.params()[i].shape, [1, 80, 1, 1]);
    }

    #[test]
    fn sizes_that_make_no_network_are_refused() {
        let n = Architecture::published(Family::Yolo12, Scale::N, 80);
        let message = Model::build(&n, [1, 640, 100]).unwrap_err().to_string();
        assert!(message.contains("640x100") && message.contains("multiples of 32"), "{message}");
        let thin = Architecture { scaling: Scaling { width: 0.1, ..n.scaling }, scale: None, ..n.clone() };
        assert!(Model::build(&thin, [1, 64, 64]).unwrap_err().to_string().contains("attention heads"));
        let mad = Architecture { scaling: Scaling { width: f64::NAN, ..n.scaling }, ..n };
        assert!(Model::build(&mad, [1, 64, 64]).is_err());
    }

    #[test]
    fn another_size_has_the_same_parameters() {
        let model = Model::build(&Architecture::published(Family::Yolo12, Scale::N, 3), [1, 64, 64]).unwrap();
        let other = model.resized([4, 96, 32]).unwrap();
        assert_eq!(model.graph.params(), other.graph.params());
    }
}
