//! Ways to fine-tune, by name: which layers learn, and how fast. The words for them are the web application's.
use onsa_tune::models::Family;
use schemars::JsonSchema;
use serde::Serialize;

use crate::Problem;

/// A way to fine-tune.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Strategy {
    /// All layers learn, slowly: what the model knows is kept and bent a little.
    Gentle,
    /// The layers that see (the backbone) stay as they are; the rest learns.
    Backbone,
    /// Only the last module, the head, learns: the model serves as a feature extractor.
    Head,
    /// The recipe that the field trains with by default: strong augmentation, all layers.
    Standard,
    /// Arguments set by hand.
    Expert,
}

impl Strategy {
    /// All of them, the gentlest first.
    pub const ALL: [Strategy; 5] =
        [Strategy::Gentle, Strategy::Backbone, Strategy::Head, Strategy::Standard, Strategy::Expert];

    /// As the API has it.
    pub fn name(self) -> &'static str {
        match self {
            Strategy::Gentle => "gentle",
            Strategy::Backbone => "backbone",
            Strategy::Head => "head",
            Strategy::Standard => "standard",
            Strategy::Expert => "expert",
        }
    }

    /// By name.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn named(name: &str) -> Result<Strategy, Problem> {
        let found = Self::ALL.into_iter().find(|strategy| strategy.name() == name);
        found.ok_or_else(|| Problem::invalid(format!("there is no strategy `{name}`")))
    }

    /// The arguments that it sets for a model that classifies.
    pub fn of_classifier(self) -> Vec<(&'static str, String)> {
        let strategy = |name: &str| vec![("strategy", name.to_owned())];
        match self {
            Strategy::Gentle => strategy("full"),
            Strategy::Backbone => strategy("freeze"),
            Strategy::Head => strategy("head"),
            Strategy::Standard | Strategy::Expert => Vec::new(),
        }
    }

    /// The arguments that it sets, for a detector of `family`.
    pub fn arguments(self, family: Option<Family>) -> Vec<(&'static str, String)> {
        let slow = [
            ("optimizer", "AdamW".to_owned()),
            ("lr0", "0.001".to_owned()),
            ("warmup_bias_lr", "0".to_owned()),
        ];
        let frozen = |modules: usize| slow.iter().cloned().chain([("freeze", modules.to_string())]).collect();
        match (self, family.map(modules)) {
            (Strategy::Gentle, _) => slow.into(),
            (Strategy::Backbone, Some((backbone, _))) => frozen(backbone),
            (Strategy::Head, Some((_, head))) => frozen(head),
            // Which modules see is not known: all learn, slowly.
            (Strategy::Backbone | Strategy::Head, None) => slow.into(),
            (Strategy::Standard | Strategy::Expert, _) => Vec::new(),
        }
    }
}

/// Modules of the backbone, and modules before the head.
fn modules(family: Family) -> (usize, usize) {
    match family {
        Family::Yolov8 => (10, 22),
        Family::Yolo11 => (11, 23),
        Family::Yolo12 => (9, 21),
        // The other families classify.
        _ => (0, 0),
    }
}

/// The family of a name such as `yolo11`.
pub fn family(name: &str) -> Option<Family> {
    Family::DETECTORS.into_iter().find(|family| family.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use onsa_tune::models::{Model, ModelSpec, Scale};
    use onsa_tune::train::recipe::TrainArgs;

    #[test]
    fn every_strategy_gives_arguments_that_training_takes() {
        for strategy in Strategy::ALL {
            for family in Family::DETECTORS {
                let mut args = TrainArgs::default();
                for (name, text) in strategy.arguments(Some(family)) {
                    args.set_any(name, &text).unwrap();
                }
            }
            let mut args = TrainArgs::default();
            for (name, text) in [("task", "classify".to_owned())].into_iter().chain(strategy.of_classifier())
            {
                args.set_any(name, &text).unwrap();
            }
        }
    }

    #[test]
    fn the_modules_before_the_head_are_all_but_the_last() {
        for family in Family::DETECTORS {
            let spec = ModelSpec::detector(family, Scale::N);
            let model = Model::build(&spec.architecture(1), [1, 64, 64]).unwrap();
            let number = |name: &str| name.strip_prefix("model.")?.split('.').next()?.parse::<usize>().ok();
            let last = model.graph.params().iter().filter_map(|info| number(&info.name)).max();
            assert_eq!(last, Some(modules(family).1), "{}", family.name());
        }
    }
}
