//! Which parameters training leaves alone.

use onsa_compute::graph::Role;

use super::architecture::Model;
use super::error::ModelError;

/// What the user asked to freeze.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Freeze {
    /// Nothing.
    #[default]
    None,
    /// The first so many top-level modules.
    First(usize),
    /// Top-level modules by index ("22") and parts of the network by dotted name ("22.cv2", "model.22.cv2").
    Parts(Vec<String>),
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

impl Trainable {
    /// Applies a request to a model.
    ///
    /// # Errors
    /// A part that the model does not have; nothing left to train.
    pub fn new(model: &Model, freeze: &Freeze) -> Result<Trainable, ModelError> {
        let modules = model.architecture.head_index() + 1;
        let prefixes: Vec<String> = match freeze {
            Freeze::None => vec![],
            Freeze::First(n) => {
                if *n > modules {
                    return Err(ModelError::Freeze(format!(
                        "{n} modules are to be frozen, but {} has {modules}",
                        model.architecture.name()
                    )));
                }
                (0..*n).map(|i| format!("model.{i}.")).collect()
            }
            Freeze::Parts(parts) => parts.iter().map(|part| prefix_of(part)).collect(),
        };
        let infos = model.graph.params();
        if let Freeze::Parts(parts) = freeze {
            for (part, prefix) in parts.iter().zip(&prefixes) {
                // A module without parameters (an enlargement, a concatenation) is a part of the model too.
                let is_module = prefix
                    .split('.')
                    .nth(1)
                    .and_then(|i| i.parse::<usize>().ok())
                    .is_some_and(|i| i < modules)
                    && prefix.matches('.').count() == 2;
                if !is_module && !infos.iter().any(|info| is_inside(&info.name, prefix)) {
                    return Err(ModelError::Freeze(format!(
                        "{} has no part `{part}`; give module indices 0 to {} or dotted names such as `{}`",
                        model.architecture.name(),
                        modules - 1,
                        model.logit_names(0).0
                    )));
                }
            }
        }
        let frozen = |name: &str| prefixes.iter().any(|prefix| is_inside(name, prefix));
        let params: Vec<bool> =
            infos.iter().map(|info| info.role.is_trained() && !frozen(&info.name)).collect();
        if !params.contains(&true) {
            return Err(ModelError::Freeze("nothing is left to train; freeze fewer modules".into()));
        }
        let frozen_norms = infos
            .iter()
            .filter(|info| info.role == Role::NormScale && frozen(&info.name))
            .map(|info| info.name.strip_suffix(".weight").unwrap_or(&info.name).to_owned())
            .collect();
        Ok(Trainable { params, frozen_norms })
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

/// `22.cv2` and `model.22.cv2` -> `model.22.cv2.`
fn prefix_of(part: &str) -> String {
    let part = part.trim().trim_end_matches('.');
    let rest = part.strip_prefix("model.").unwrap_or(part);
    format!("model.{rest}.")
}

/// Whether a parameter is that part or belongs to it.
fn is_inside(name: &str, prefix: &str) -> bool {
    name.starts_with(prefix) || prefix.strip_suffix('.') == Some(name)
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
}
