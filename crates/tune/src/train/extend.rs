//! A run that is made longer than it was begun: in what it differs from one that was that long from the start.

use super::optimiser::auto::Choice;
use super::optimiser::{Group, Kind};
use super::recipe::Recipe;
use super::recipe::values::Optimizer;
use super::start;
use super::state::Counters;
use crate::data::loader::LoaderConfig;

/// Gives `recipe` its new length; the optimiser and its rates stay those that the run began with. Returns in what the
/// epochs that are done differ from those of a run that had `epochs` epochs from the start: nothing, where the schedule of
/// these epochs does not depend on the length (`lrf=1`, and mosaic off or never closed).
pub fn extend(
    recipe: &mut Recipe,
    epochs: u32,
    classes: usize,
    images: usize,
    done: &Counters,
) -> Vec<String> {
    let before = recipe.clone();
    let begun = start::choose_optimiser(recipe, classes, images);
    recipe.epochs = epochs;
    recipe.given.insert("epochs");
    let anew = start::choose_optimiser(recipe, classes, images);
    let mut differences = Vec::new();
    if (begun.kind, begun.lr0, begun.momentum) != (anew.kind, anew.lr0, anew.momentum) {
        differences.push(format!("it would have been trained by {}", anew.reason));
        keep(recipe, &begun);
    }
    let schedules = [&before, &*recipe].map(|recipe| start::schedule(recipe, &begun, images));
    let batches = images.div_ceil((recipe.batch as usize).min(images)) as u64;
    let iterations = u64::from(done.epoch) * batches + u64::from(done.batch);
    let differs = |i: &u64| {
        let [was, is] = schedules.map(|schedule| schedule.at(*i));
        let rates = |r: &super::schedule::Rates| Group::ALL.map(|g| (r.lr(g, 1.0), r.weight_decay(g)));
        (was.momentum, was.accumulate, rates(&was)) != (is.momentum, is.accumulate, rates(&is))
    };
    if let Some(first) = (0..iterations).find(differs) {
        differences.push(format!(
            "from epoch {} on the learning rate followed a schedule of {} epochs",
            first / batches + 1,
            before.epochs
        ));
    }
    let augment = |recipe: &Recipe, epoch| {
        let config = LoaderConfig {
            epochs: recipe.epochs,
            close_mosaic: recipe.close_mosaic,
            rect: recipe.rect,
            augment: start::augmentation(recipe),
            ..LoaderConfig::default()
        };
        config.augment_at(epoch)
    };
    let begun_epochs = done.epoch + u32::from(done.batch > 0);
    if let Some(first) = (0..begun_epochs).find(|&e| augment(&before, e) != augment(recipe, e)) {
        differences.push(format!("from epoch {} on mosaic and mixing were closed", first + 1));
    }
    if !recipe.val && done.epoch >= before.epochs {
        differences.push(format!("epoch {} was validated as the last one", before.epochs));
    }
    differences
}

/// Writes the optimiser that the run began with into its recipe.
fn keep(recipe: &mut Recipe, choice: &Choice) {
    recipe.optimizer = match choice.kind {
        Kind::Sgd => Optimizer::Sgd,
        Kind::MuSgd => Optimizer::MuSgd,
        Kind::Adam | Kind::AdamW => Optimizer::AdamW,
    };
    (recipe.lr0, recipe.momentum) = (choice.lr0, choice.momentum);
    recipe.warmup_bias_lr = choice.warmup_bias_lr;
    recipe.given.extend(["optimizer", "lr0", "momentum", "warmup_bias_lr"]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::recipe::TrainArgs;

    fn recipe(given: &[(&str, &str)]) -> Recipe {
        let mut args = TrainArgs::default();
        for (name, value) in [("model", "yolo11n"), ("data", "d.yaml"), ("epochs", "20")].iter().chain(given)
        {
            args.set(name, value).unwrap();
        }
        args.resolve().unwrap()
    }

    fn extended(given: &[(&str, &str)], epochs: u32, done: u32) -> (Recipe, Vec<String>) {
        let mut recipe = recipe(given);
        let done = Counters { epoch: done, ..Counters::default() };
        let differences = extend(&mut recipe, epochs, 3, 40, &done);
        (recipe, differences)
    }

    #[test]
    fn a_constant_rate_without_closing_mosaic_can_be_extended_exactly() {
        let (recipe, differences) = extended(&[("lrf", "1"), ("close_mosaic", "0")], 50, 20);
        assert_eq!((recipe.epochs, recipe.is_given("epochs")), (50, true));
        assert_eq!(differences, [""; 0]);
    }

    #[test]
    fn what_differs_is_said_with_its_epoch() {
        let (_, differences) = extended(&[], 50, 20);
        assert_eq!(
            differences,
            [
                "from epoch 2 on the learning rate followed a schedule of 20 epochs",
                "from epoch 11 on mosaic and mixing were closed"
            ]
        );
        // Before the rates part nothing differs: one epoch was done, under the first epoch's rate.
        assert_eq!(extended(&[("warmup_epochs", "0")], 50, 1).1, [""; 0]);
        let (_, differences) = extended(&[("lrf", "1"), ("close_mosaic", "0"), ("val", "false")], 50, 20);
        assert_eq!(differences, ["epoch 20 was validated as the last one"]);
    }

    #[test]
    fn the_optimiser_stays_the_one_that_the_checkpoint_is_of() {
        let (recipe, differences) = extended(&[("lrf", "1"), ("close_mosaic", "0")], 20_000, 20);
        assert!(differences[0].starts_with("it would have been trained by MuSGD"), "{differences:?}");
        let choice = start::choose_optimiser(&recipe, 3, 40);
        assert_eq!((choice.kind, choice.lr0, choice.warmup_bias_lr), (Kind::AdamW, 0.001429, 0.0));
    }
}
