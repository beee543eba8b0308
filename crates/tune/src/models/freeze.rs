//! Which parameters training leaves alone.

use onsa_compute::graph::Role;

use super::architecture::{Architecture, Model};
use super::error::ModelError;
use super::registry::Task;

/// What the user asked to freeze.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Freeze {
    /// Nothing.
    #[default]
    None,
    /// The first so many top-level modules.
    First(usize),
    /// Top-level modules by index ("22"), parts of the network by dotted name ("22.cv2", "model.22.cv2", "layer1"),
    /// patterns of parameter names in which `*` stands for any text ("*.bn.*"), or "backbone".
    Parts(Vec<String>),
    /// All but the layers that give the logits.
    AllButLogits,
}

/// What training may change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trainable {
    /// One a parameter of the graph, in its order. Never true for running statistics.
    pub params: Vec<bool>,
    /// Names of the batch norms that stay in evaluation mode: their running statistics neither change nor are replaced by
    /// the batch's.
    pub frozen_norms: Vec<String>,
}

/// Names of parameters that are frozen.
enum Matcher {
    /// That part, or what belongs to it.
    Part(String),
    /// A pattern with `*`.
    Pattern(String),
}

impl Matcher {
    fn covers(&self, name: &str) -> bool {
        match self {
            Matcher::Part(prefix) => is_inside(name, prefix),
            Matcher::Pattern(pattern) => matches(pattern, name),
        }
    }
}

impl Architecture {
    /// How many of the top-level modules are the backbone: what a detector has before its neck, and a classifier before
    /// its last layers.
    pub fn backbone_modules(&self) -> usize {
        use super::registry::Family::*;
        match (self.task, self.family) {
            (Task::Detect, Yolov8) => 10,
            (Task::Detect, Yolo11) => 11,
            (Task::Detect, _) => 9,
            (Task::Classify, MobileNetV3Small | MobileNetV3Large) => self.modules().len() - 2,
            (Task::Classify, _) => self.modules().len() - 1,
        }
    }

    /// Names (without `.weight` and `.bias`) of the layers that give the logits, of a detector those of boxes too.
    pub fn logit_layers(&self) -> Vec<String> {
        let mut layers = self.class_layers();
        if self.task == Task::Detect {
            layers
                .extend((0..super::STRIDES.len()).map(|l| format!("model.{}.cv2.{l}.2", self.head_index())));
        }
        layers
    }

    /// The matchers of a request.
    fn matchers(&self, freeze: &Freeze) -> Result<Vec<Matcher>, ModelError> {
        let modules = self.modules();
        let parts = |modules: &[Vec<String>]| modules.concat().into_iter().map(Matcher::Part).collect();
        match freeze {
            Freeze::None | Freeze::AllButLogits => Ok(vec![]),
            Freeze::First(n) => match modules.get(..*n) {
                Some(first) => Ok(parts(first)),
                None => Err(ModelError::Freeze(format!(
                    "{n} modules are to be frozen, but {} has {}",
                    self.name(),
                    modules.len()
                ))),
            },
            Freeze::Parts(named) => {
                let mut all = Vec::new();
                for part in named {
                    let part = part.trim().trim_end_matches('.');
                    if part == "backbone" {
                        all.extend::<Vec<Matcher>>(parts(&modules[..self.backbone_modules()]));
                    } else if let Some(module) = part.parse().ok().and_then(|i: usize| modules.get(i)) {
                        all.extend::<Vec<Matcher>>(parts(std::slice::from_ref(module)));
                    } else if part.contains('*') {
                        all.push(Matcher::Pattern(part.to_owned()));
                    } else if part.starts_with(|c: char| c.is_ascii_digit()) {
                        all.push(Matcher::Part(format!("model.{part}.")));
                    } else {
                        all.push(Matcher::Part(format!("{part}.")));
                    }
                }
                Ok(all)
            }
        }
    }
}

impl Trainable {
    /// Applies a request to a model.
    ///
    /// # Errors
    /// A part that the model does not have; nothing left to train.
    pub fn new(model: &Model, freeze: &Freeze) -> Result<Trainable, ModelError> {
        let architecture = &model.architecture;
        let infos = model.graph.params();
        let matchers = architecture.matchers(freeze)?;
        if let Freeze::Parts(parts) = freeze {
            for part in parts {
                let own = architecture.matchers(&Freeze::Parts(vec![part.clone()]))?;
                let part = part.trim().trim_end_matches('.');
                // A module without parameters (an enlargement, a concatenation) is a part of the model too.
                let index = part.strip_prefix("model.").unwrap_or(part).parse::<usize>();
                let is_module = index.is_ok_and(|i| i < architecture.modules().len());
                if !is_module && !infos.iter().any(|info| own.iter().any(|m| m.covers(&info.name))) {
                    return Err(ModelError::Freeze(format!(
                        "{} has no part `{part}`; give module indices 0 to {}, `backbone`, dotted names such as `{}`, or patterns with *",
                        architecture.name(),
                        architecture.modules().len() - 1,
                        architecture.logit_layers()[0]
                    )));
                }
            }
        }
        let logits: Vec<String> =
            architecture.logit_layers().into_iter().map(|layer| format!("{layer}.")).collect();
        let frozen = |name: &str| match freeze {
            Freeze::AllButLogits => !logits.iter().any(|layer| name.starts_with(layer.as_str())),
            _ => matchers.iter().any(|matcher| matcher.covers(name)),
        };
        Trainable::without(model, frozen)
    }

    /// All but the parameters that `frozen` is true of.
    ///
    /// # Errors
    /// Nothing left to train.
    pub fn without(model: &Model, frozen: impl Fn(&str) -> bool) -> Result<Trainable, ModelError> {
        let infos = model.graph.params();
        let params: Vec<bool> =
            infos.iter().map(|info| info.role.is_trained() && !frozen(&info.name)).collect();
        if !params.contains(&true) {
            return Err(ModelError::Freeze("nothing is left to train; freeze fewer modules".into()));
        }
        // A norm of which the request names any parameter stays as it is whole: half a norm cannot be fixed.
        let frozen_norms: Vec<String> = infos
            .iter()
            .filter(|info| info.role == Role::NormScale)
            .filter_map(|info| info.name.strip_suffix(".weight"))
            .filter(|norm| {
                ["weight", "bias", "running_mean", "running_var"]
                    .iter()
                    .any(|part| frozen(&format!("{norm}.{part}")))
            })
            .map(str::to_owned)
            .collect();
        let mut trainable = Trainable { params, frozen_norms };
        for (info, trained) in infos.iter().zip(&mut trainable.params) {
            let norm = info.name.rsplit_once('.').map_or("", |(norm, _)| norm);
            *trained &= !matches!(info.role, Role::NormScale | Role::NormShift)
                || !trainable.frozen_norms.iter().any(|frozen| frozen == norm);
        }
        Ok(trainable)
    }
}

impl Trainable {
    /// The same with every norm as it is: then the network does in training what it does afterwards, whatever the images.
    pub fn with_norms_kept(mut self, model: &Model) -> Trainable {
        let infos = model.graph.params();
        self.frozen_norms = infos
            .iter()
            .filter(|info| info.role == Role::NormScale)
            .filter_map(|info| info.name.strip_suffix(".weight").map(str::to_owned))
            .collect();
        for (info, trained) in infos.iter().zip(&mut self.params) {
            *trained &= !matches!(info.role, Role::NormScale | Role::NormShift);
        }
        self
    }
}

impl From<Trainable> for onsa_compute::Trainable {
    fn from(trainable: Trainable) -> onsa_compute::Trainable {
        onsa_compute::Trainable {
            params: trainable.params,
            frozen_norms: trainable.frozen_norms.into_iter().collect(),
        }
    }
}

/// Whether a parameter is that part or belongs to it.
fn is_inside(name: &str, prefix: &str) -> bool {
    name.starts_with(prefix) || prefix.strip_suffix('.') == Some(name)
}

/// Whether a pattern in which `*` stands for any text fits the whole name.
fn matches(pattern: &str, name: &str) -> bool {
    let mut pieces = pattern.split('*');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut last = None;
    for piece in pieces {
        if let Some(previous) = last.replace(piece) {
            let previous: &str = previous;
            let Some(at) = rest.find(previous) else { return false };
            rest = &rest[at + previous.len()..];
        }
    }
    match last {
        Some(last) => rest.ends_with(last),
        None => rest.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{Architecture, Family, Scale};

    fn yolo11() -> Model {
        Model::build(&Architecture::published(Family::Yolo11, Scale::N, 2), [1, 32, 32]).unwrap()
    }

    fn trainable_names(model: &Model, trainable: &Trainable) -> Vec<String> {
        let infos = model.graph.params().iter();
        infos.zip(&trainable.params).filter(|(_, t)| **t).map(|(i, _)| i.name.clone()).collect()
    }

    #[test]
    fn the_first_ten_leave_module_ten_trainable() {
        let model = yolo11();
        let trainable = Trainable::new(&model, &Freeze::First(10)).unwrap();
        let names = trainable_names(&model, &trainable);
        assert_eq!(names[0], "model.10.cv1.conv.weight");
        assert!(trainable.frozen_norms.contains(&"model.9.cv2.bn".to_owned()));
        assert!(trainable.frozen_norms.iter().all(|n| !n.starts_with("model.1") || n == "model.1.bn"));
        assert!(names.iter().all(|n| !n.contains("running")));
    }

    #[test]
    fn parts_are_named_by_index_or_dotted_name() {
        let model = yolo11();
        let parts = |list: &[&str]| Freeze::Parts(list.iter().map(|s| s.to_string()).collect());
        let head = Trainable::new(&model, &parts(&["1", "model.23.cv2", "23.cv3.0.2.bias"])).unwrap();
        let names = trainable_names(&model, &head);
        assert!(names.iter().all(|n| !n.starts_with("model.1.") && !n.starts_with("model.23.cv2.")));
        assert!(
            names.iter().any(|n| n.starts_with("model.10."))
                && names.contains(&"model.0.conv.weight".to_owned())
        );
        assert!(!names.contains(&"model.23.cv3.0.2.bias".to_owned()));
        assert!(names.contains(&"model.23.cv3.0.2.weight".to_owned()));
        assert!(
            Trainable::new(&model, &parts(&["11"])).is_ok(),
            "an enlargement has no parameters but is a module"
        );
        let message = Trainable::new(&model, &parts(&["23.cv9"])).unwrap_err().to_string();
        assert!(message.contains("`23.cv9`"), "{message}");
    }

    #[test]
    fn nothing_frozen_trains_all_but_statistics_and_all_frozen_is_refused() {
        let model = yolo11();
        let all = Trainable::new(&model, &Freeze::None).unwrap();
        let counted: usize =
            model.graph.params().iter().zip(&all.params).filter(|(_, t)| **t).map(|(i, _)| i.len).sum();
        assert_eq!(counted, model.parameter_count());
        assert!(all.frozen_norms.is_empty());
        assert!(Trainable::new(&model, &Freeze::First(24)).is_err());
        assert!(Trainable::new(&model, &Freeze::First(25)).is_err());
    }

    #[test]
    fn the_backbone_and_patterns_can_be_named() {
        let model = yolo11();
        let parts = |list: &[&str]| Freeze::Parts(list.iter().map(|s| s.to_string()).collect());
        let named = Trainable::new(&model, &parts(&["backbone"])).unwrap();
        assert_eq!(named, Trainable::new(&model, &Freeze::First(11)).unwrap());
        let norms = Trainable::new(&model, &parts(&["*.bn.*"])).unwrap();
        assert!(trainable_names(&model, &norms).iter().all(|n| !n.contains(".bn.")));
        assert_eq!(norms.frozen_norms.len(), model.norm_names().len());
        // Half a norm cannot be fixed: its scale alone freezes it whole.
        let scales = Trainable::new(&model, &parts(&["*.bn.weight"])).unwrap();
        assert_eq!(scales, norms);
        let resnet = crate::models::registry::find("resnet18").unwrap().architecture(3);
        let resnet = Model::build(&resnet, [1, 64, 64]).unwrap();
        let names = trainable_names(&resnet, &Trainable::new(&resnet, &parts(&["backbone"])).unwrap());
        assert_eq!(names, ["fc.weight", "fc.bias"]);
        let last = Trainable::new(&resnet, &parts(&["0", "layer1", "layer2.0", "layer*.1.*"])).unwrap();
        let names = trainable_names(&resnet, &last);
        assert!(
            names
                .iter()
                .all(|n| n.starts_with("layer3.0") || n.starts_with("layer4.0") || n.starts_with("fc"))
        );
        assert!(Trainable::new(&resnet, &parts(&["layer9"])).is_err());
    }

    #[test]
    fn all_but_the_logits_leaves_the_last_layers() {
        let model = yolo11();
        let head = Trainable::new(&model, &Freeze::AllButLogits).unwrap();
        let names = trainable_names(&model, &head);
        assert_eq!(names.len(), 2 * 2 * 3);
        assert!(names.iter().all(|n| n.starts_with("model.23.cv") && n.contains(".2.")), "{names:?}");
        assert_eq!(head.frozen_norms.len(), model.norm_names().len());
    }

    #[test]
    fn patterns_fit_whole_names() {
        for (pattern, name, fits) in [
            ("*.bn.*", "model.0.bn.weight", true),
            ("model.*.cv2.*", "model.2.cv2.conv.weight", true),
            ("model.*.cv2", "model.2.cv2.conv.weight", false),
            ("a*a", "a", false),
            ("*", "anything", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXcYb", false),
        ] {
            assert_eq!(matches(pattern, name), fits, "{pattern} {name}");
        }
    }
}
