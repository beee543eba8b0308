//! How a run fine-tunes: which parameters learn in which epoch, and how fast.
//!
//! | strategy | what learns | learning rate |
//! |---|---|---|
//! | default | all but `freeze` | the recipe's |
//! | head | the layers that give the logits; the rest runs once, its output is kept | the recipe's; a classifier's .002 |
//! | freeze | all but `freeze` (the backbone where that is not given) | the recipe's |
//! | full | everything | a fifth of the recipe's, less for lower layers with `layer_decay` |
//! | lora | low-rank adapters beside the layers (but `freeze`'s), and the layers that give the logits | the recipe's |
//! | gradual | the head first, then a further third of the rest every `unfreeze` epochs, from the top | the recipe's |
//!
//! A learning rate that the person gives holds in every strategy. Where classes are added (`add_classes=true`) the norms stay
//! as they are, and the layers of class logits learn faster than the rest.

use super::optimiser::auto::Choice;
use super::optimiser::{Kind, ParamSlot};
use super::recipe::Recipe;
use super::recipe::values::{self, Strategy};
use crate::models::lora::{LowRank, is_adapter};
use crate::models::{Architecture, Freeze, Model, ModelError, Task, Trainable};

/// Of the recipe's learning rate, what a run takes that changes every layer a little.
const FULL_RATE: f64 = 0.2;
/// Learning rate of a classifier's head on kept features.
const HEAD_RATE: f64 = 0.002;
/// AdamW's learning rate where a starting model teaches. At twice this rate YOLO12n forgets what the new images do not show,
/// in spite of being taught (benches/RESULTS.md); at a third it learns the new class slowly.
const TAUGHT_RATE: f64 = 0.0003;
/// How much faster the layers of class logits learn then: as fast as in a run for one new class alone.
const NEW_ROWS_RATE: f64 = 7.0;
/// Layers that a branch for new classes shares with the model, where the person does not say it: later ones cost accuracy on
/// the new classes, earlier ones time (docs/decisions/adding-classes.md).
const SHARED_LAYERS: usize = 2;
/// Stages of gradual unfreezing: the head, and thirds of the other modules.
pub const STAGES: usize = 4;

/// The stage of an epoch (from 0); only `gradual` has more than one.
pub fn stage_at(recipe: &Recipe, epoch: u32) -> usize {
    match recipe.strategy {
        Strategy::Gradual => ((epoch / unfreeze_every(recipe)) as usize).min(STAGES - 1),
        _ => 0,
    }
}

/// Epochs between two stages: as given, or such that the last stage has five eighths of the run.
pub fn unfreeze_every(recipe: &Recipe) -> u32 {
    if recipe.unfreeze > 0 { recipe.unfreeze } else { (recipe.epochs / 8).max(1) }
}

/// Layers of a detector that a branch for new classes shares with it.
pub fn shared_layers(recipe: &Recipe, architecture: &Architecture) -> usize {
    match &recipe.freeze {
        values::Freeze::First(count) => *count as usize,
        // Of lists only the whole backbone is taken.
        values::Freeze::Modules(_) => architecture.backbone_modules(),
        values::Freeze::Nothing if recipe.is_given("freeze") => 0,
        values::Freeze::Nothing if recipe.strategy == Strategy::Freeze => architecture.backbone_modules(),
        values::Freeze::Nothing => SHARED_LAYERS,
    }
}

/// What stays as it is in every stage.
fn asked(recipe: &Recipe, architecture: &Architecture) -> Freeze {
    match recipe.branches() {
        true => Freeze::First(shared_layers(recipe, architecture)),
        false => recipe.freeze.of_model(),
    }
}

/// The network that is trained: `model`, or with adapters where the strategy has them.
///
/// # Errors
/// A part to freeze that the model does not have.
pub fn network(model: &Model, recipe: &Recipe) -> Result<Model, ModelError> {
    if recipe.strategy != Strategy::Lora {
        return Ok(model.clone());
    }
    let asked = Trainable::new(model, &asked(recipe, &model.architecture))?;
    let free: std::collections::HashSet<&str> = model
        .graph
        .params()
        .iter()
        .zip(&asked.params)
        .filter(|(_, free)| **free)
        .map(|(info, _)| info.name.as_str())
        .collect();
    let (rank, alpha) = (recipe.lora_rank as usize, recipe.lora_alpha);
    Ok(model.adapted(&LowRank::beside(model, rank, alpha, |weight| free.contains(weight))))
}

/// What is trained in a stage, of [`network`]'s.
///
/// # Errors
/// A part to freeze that the model does not have; nothing left to train.
pub fn trainable(model: &Model, recipe: &Recipe, stage: usize) -> Result<Trainable, ModelError> {
    let trainable = by_strategy(model, recipe, stage)?;
    Ok(if recipe.teaches() { trainable.with_norms_kept(model) } else { trainable })
}

fn by_strategy(model: &Model, recipe: &Recipe, stage: usize) -> Result<Trainable, ModelError> {
    match recipe.strategy {
        Strategy::Head => Trainable::new(model, &Freeze::AllButLogits),
        Strategy::Lora => {
            let asked = Trainable::new(model, &asked(recipe, &model.architecture))?;
            let logits = Trainable::new(model, &Freeze::AllButLogits)?;
            let infos = model.graph.params();
            let learns: std::collections::HashSet<&str> = infos
                .iter()
                .zip(asked.params.iter().zip(&logits.params))
                .filter(|(info, (asked, logit))| **asked && (**logit || is_adapter(&info.name)))
                .map(|(info, _)| info.name.as_str())
                .collect();
            Trainable::without(model, |name| !learns.contains(name))
        }
        Strategy::Gradual => {
            let modules = model.architecture.modules();
            let below = modules.len() - 1;
            // Thirds of the modules below the head thaw from the top.
            let frozen = below - (below * stage).div_ceil(STAGES - 1).min(below);
            let asked = Trainable::new(model, &asked(recipe, &model.architecture))?;
            let staged = Trainable::new(model, &Freeze::First(frozen))?;
            let infos = model.graph.params();
            let kept: std::collections::HashSet<&str> = infos
                .iter()
                .zip(asked.params.iter().zip(&staged.params))
                .filter(|(info, (a, b))| info.role.is_trained() && !(**a && **b))
                .map(|(info, _)| info.name.as_str())
                .collect();
            Trainable::without(model, |name| kept.contains(name))
        }
        Strategy::Freeze if recipe.freeze == values::Freeze::Nothing && !recipe.branches() => {
            Trainable::new(model, &Freeze::Parts(vec!["backbone".into()]))
        }
        _ => Trainable::new(model, &asked(recipe, &model.architecture)),
    }
}

/// The strategy's learning rate, where the person gave none.
pub fn adjust_rate(recipe: &Recipe, task: Task, choice: Choice) -> Choice {
    if recipe.is_given("lr0") {
        return choice;
    }
    let (lr0, why) = match (recipe.strategy, task) {
        (Strategy::Full, _) => (choice.lr0 * FULL_RATE, "a fifth, for every layer changes"),
        (Strategy::Head, Task::Classify) => (HEAD_RATE, "for the last layer alone"),
        _ if recipe.teaches() && choice.kind == Kind::AdamW => {
            let why = "that the old classes can follow, the class logits 7 times that";
            let reason = format!("{}; add_classes: learning rate {TAUGHT_RATE:.1e}, {why}", choice.reason);
            return Choice { lr0: TAUGHT_RATE, reason, ..choice };
        }
        _ => return choice,
    };
    let reason =
        format!("{}; strategy={}: learning rate {lr0:.3e}, {why}", choice.reason, recipe.strategy.name());
    Choice { lr0, reason, ..choice }
}

/// Multiplies each parameter's learning rate by `decay` for every module between it and the head.
pub fn decay_layers(model: &Model, slots: &mut [ParamSlot], decay: f64) {
    if decay == 1.0 {
        return;
    }
    let modules = model.architecture.modules();
    for info in model.graph.params() {
        let inside =
            |module: &Vec<String>| module.iter().any(|prefix| info.name.starts_with(prefix.as_str()));
        let place = modules.iter().position(inside).unwrap_or(0);
        if let Some(slot) = slots.iter_mut().find(|slot| slot.offset == info.offset) {
            slot.lr_scale *= decay.powi((modules.len() - 1 - place) as i32);
        }
    }
}

/// Where a starting model teaches, under AdamW: the layers of class logits, whose new rows start from nothing, learn faster
/// than what has only to bear with them.
pub fn hasten_new_rows(recipe: &Recipe, model: &Model, slots: &mut [ParamSlot], kind: Kind) {
    if !recipe.teaches() || kind != Kind::AdamW {
        return;
    }
    let layers = model.architecture.class_layers();
    for info in model.graph.params() {
        let is_class_logits = layers
            .iter()
            .any(|layer| info.name.strip_prefix(layer.as_str()).is_some_and(|rest| rest.starts_with('.')));
        if let Some(slot) = slots.iter_mut().find(|slot| is_class_logits && slot.offset == info.offset) {
            slot.lr_scale *= NEW_ROWS_RATE;
        }
    }
}

/// One sentence about what learns, for the log and the report.
pub fn describe(model: &Model, trainable: &Trainable) -> String {
    let count = |wanted: bool| -> usize {
        let infos = model.graph.params().iter().zip(&trainable.params);
        let counts =
            |info: &onsa_compute::ParamInfo| info.role.is_trained() && !info.name.ends_with(".lora_scale");
        infos.filter(|(info, t)| counts(info) && **t == wanted).map(|(info, _)| info.len).sum()
    };
    let (frozen, trained) = (count(false), count(true));
    if let Some(low_rank) = &model.low_rank {
        return format!(
            "training {trained} values: {} of adapters of rank {} beside {} layers, the rest in the last layers; {frozen} \
             are frozen, the norms and their statistics too; the saved weights take the adapters in",
            model.adapter_count(),
            low_rank.rank,
            low_rank.layers.len(),
        );
    }
    format!(
        "training {trained} of {} parameters; {frozen} are frozen, their norms' statistics too",
        trained + frozen
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::{Architecture, Family, Scale, registry};
    use crate::train::recipe::TrainArgs;

    fn recipe(pairs: &[(&str, &str)]) -> Recipe {
        let mut args = TrainArgs::default();
        for (name, text) in [("model", "yolo11n"), ("data", "d.yaml")].iter().chain(pairs) {
            args.set_any(name, text).unwrap();
        }
        args.resolve().unwrap()
    }

    fn yolo11() -> Model {
        Model::build(&Architecture::published(Family::Yolo11, Scale::N, 2), [1, 32, 32]).unwrap()
    }

    fn trained(model: &Model, trainable: &Trainable) -> usize {
        model.graph.params().iter().zip(&trainable.params).filter(|(_, t)| **t).map(|(i, _)| i.len).sum()
    }

    #[test]
    fn gradual_thaws_from_the_top_until_all_learns() {
        let recipe = recipe(&[("strategy", "gradual"), ("epochs", "40")]);
        let stages: Vec<usize> = [0, 4, 5, 9, 10, 15, 39].map(|epoch| stage_at(&recipe, epoch)).to_vec();
        assert_eq!(stages, [0, 0, 1, 1, 2, 3, 3]);
        for model in [
            yolo11(),
            Model::build(&registry::find("resnet18").unwrap().architecture(3), [1, 64, 64]).unwrap(),
        ] {
            let counts: Vec<usize> = (0..STAGES)
                .map(|s| trained(&model, &super::trainable(&model, &recipe, s).unwrap()))
                .collect();
            assert!(counts.windows(2).all(|w| w[0] < w[1]), "{counts:?}");
            assert_eq!(counts[STAGES - 1], model.parameter_count());
            let first = super::trainable(&model, &recipe, 0).unwrap();
            let head = &model.architecture.modules().pop().unwrap()[0];
            for (info, t) in model.graph.params().iter().zip(&first.params) {
                assert_eq!(
                    *t,
                    info.role.is_trained() && info.name.starts_with(head.as_str()),
                    "{}",
                    info.name
                );
            }
        }
    }

    #[test]
    fn freeze_means_the_backbone_unless_it_is_said() {
        let model = yolo11();
        let backbone = super::trainable(&model, &recipe(&[("strategy", "freeze")]), 0).unwrap();
        assert_eq!(backbone, Trainable::new(&model, &Freeze::First(11)).unwrap());
        let two = super::trainable(&model, &recipe(&[("strategy", "freeze"), ("freeze", "2")]), 0).unwrap();
        assert_eq!(two, Trainable::new(&model, &Freeze::First(2)).unwrap());
    }

    #[test]
    fn a_branch_shares_two_layers_unless_it_is_said() {
        let model = yolo11();
        for (more, shared) in [
            (vec![], 2),
            (vec![("freeze", "0")], 0),
            (vec![("freeze", "5")], 5),
            (vec![("freeze", "backbone")], 11),
            (vec![("strategy", "freeze")], 11),
            (vec![("strategy", "full")], 2),
        ] {
            let recipe = recipe(&[&[("add_classes", "true")], &more[..]].concat());
            assert_eq!(shared_layers(&recipe, &model.architecture), shared, "{more:?}");
            let trainable = super::trainable(&model, &recipe, 0).unwrap();
            assert_eq!(trainable, Trainable::new(&model, &Freeze::First(shared)).unwrap(), "{more:?}");
        }
        // Adapters beside a shared layer would change it when they are taken in.
        let lora = recipe(&[("add_classes", "true"), ("strategy", "lora"), ("freeze", "4")]);
        let network = network(&model, &lora).unwrap();
        let layers = &network.low_rank.as_ref().unwrap().layers;
        assert!(
            !layers.is_empty() && !layers.iter().any(|layer| layer.starts_with("model.2.")),
            "{layers:?}"
        );
    }

    #[test]
    fn rates_fall_from_the_head_down_and_a_given_rate_holds() {
        let model = yolo11();
        let all = vec![true; model.graph.params().len()];
        let mut slots = crate::train::slots::slots(&model, &all, Kind::AdamW);
        decay_layers(&model, &mut slots, 0.5);
        let scale = |name: &str| {
            let info = model.graph.params().iter().find(|p| p.name == name).unwrap();
            slots.iter().find(|s| s.offset == info.offset).unwrap().lr_scale
        };
        assert_eq!(scale("model.23.cv2.0.2.bias"), 1.0);
        assert_eq!(scale("model.22.cv1.conv.weight"), 0.5);
        assert_eq!(scale("model.0.conv.weight"), 0.5f64.powi(23));

        let added = recipe(&[("add_classes", "distil")]);
        let mut slots = crate::train::slots::slots(&model, &all, Kind::AdamW);
        hasten_new_rows(&added, &model, &mut slots, Kind::AdamW);
        let hastened = slots.iter().filter(|slot| slot.lr_scale == NEW_ROWS_RATE).count();
        assert_eq!(hastened, 6, "weight and bias on three levels");
        assert!(slots.iter().all(|slot| slot.lr_scale == NEW_ROWS_RATE || slot.lr_scale == 1.0));

        let lora = recipe(&[("strategy", "lora"), ("freeze", "2"), ("lora_rank", "4")]);
        let network = network(&model, &lora).unwrap();
        let learns = super::trainable(&network, &lora, 0).unwrap();
        let names: Vec<&str> = (network.graph.params().iter().zip(&learns.params))
            .filter(|(_, learns)| **learns)
            .map(|(info, _)| info.name.as_str())
            .collect();
        let logits = names.iter().filter(|name| !is_adapter(name)).count();
        assert_eq!((logits, names.len() - logits), (12, 2 * network.adapters.len()), "{names:?}");
        assert!(!names.iter().any(|name| name.starts_with("model.0.") || name.starts_with("model.1.")));
        assert_eq!(learns.frozen_norms.len(), model.norm_names().len());

        let choice =
            |pairs: &[(&str, &str)]| crate::train::start::choose_optimiser(&recipe(pairs), 1, 100).lr0;
        assert!((choice(&[("strategy", "full")]) - 0.2 * choice(&[])).abs() < 1e-12);
        assert_eq!(choice(&[("strategy", "full"), ("lr0", "0.003")]), 0.003);
        assert_eq!(choice(&[("add_classes", "distil")]), TAUGHT_RATE);
        assert_eq!(choice(&[("add_classes", "distil"), ("lr0", "0.003")]), 0.003);
        for like_any_other in ["plain", "true"] {
            assert_eq!(choice(&[("add_classes", like_any_other)]), choice(&[]));
        }
    }
}
