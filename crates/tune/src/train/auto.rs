//! `strategy=auto`: a look at the data, a choice, and the reason for it in plain words.

use std::sync::Arc;

use super::error::TrainError;
use super::observer::Observer;
use super::recipe::Recipe;
use super::recipe::values::Strategy;
use super::start;
use crate::data::cache::{CachePolicy, Sizing};
use crate::data::dataset::{Dataset, Item};
use crate::engine;
use crate::models::open::Opened;
use crate::models::{Freeze, Task, Trainable};

// The thresholds follow what was measured on two sets (benches/RESULTS.md, strategies): 18 photographs a class, where the
// head alone is a little ahead of the default and costs a fraction of it, and 35 aerial tiles for a detector, where nothing
// comes near the default. Between 18 and 200 images a class nothing was measured.

/// Images whose features are compared, at most.
const COMPARED: usize = 512;
/// Images a class below which a whole network learns the images by heart.
const FEW: f64 = 10.0;
/// Images a class above which a whole network has enough to learn from.
const MANY: f64 = 100.0;
/// Share of images whose nearest neighbour is of their class, from which the model's features already tell the classes
/// apart.
const ALIKE: f64 = 0.7;

/// What the choice is made from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Facts {
    /// Detection or classification.
    pub task: Task,
    /// Training images.
    pub images: usize,
    /// Classes.
    pub classes: usize,
    /// Whether the model has weights.
    pub pretrained: bool,
    /// Of a pretrained classifier: the share of training images whose nearest neighbour in the model's features is of
    /// their class.
    pub resemblance: Option<f64>,
}

/// The strategy for these facts, and a sentence that says why.
pub fn choose(facts: &Facts) -> (Strategy, String) {
    let each = facts.images as f64 / facts.classes.max(1) as f64;
    if !facts.pretrained {
        let why =
            "the model has no pretrained weights, so there is nothing to keep and every layer has to learn";
        return (Strategy::Default, why.into());
    }
    match (facts.task, facts.resemblance) {
        (Task::Classify, Some(alike)) => {
            let told = format!(
                "{:.0} images a class; for {:.0} % of them the most similar image, as the pretrained model sees it, is of the same class",
                each,
                alike * 100.0
            );
            if each < FEW || (each < MANY && alike >= ALIKE) {
                (
                    Strategy::Head,
                    format!(
                        "{told}: its features serve as they are, and from so few images the last layer learns more than a whole network does"
                    ),
                )
            } else if each < MANY {
                (
                    Strategy::Gradual,
                    format!("{told}: its features need to change, gently, for there are not many images"),
                )
            } else {
                (Strategy::Default, format!("{told}: that is enough to let every layer learn"))
            }
        }
        _ => (
            Strategy::Default,
            format!(
                "{} images: a detector's neck and backbone gain from learning even on few images, as their mosaics vary them much",
                facts.images
            ),
        ),
    }
}

/// Looks at the data as far as the choice needs it.
///
/// # Errors
/// An image that cannot be read.
pub fn look(
    recipe: &Recipe,
    dataset: &Dataset,
    opened: &Opened,
    observer: &mut dyn Observer,
) -> Result<Facts, TrainError> {
    let (task, items) = (opened.model.task(), &dataset.train);
    let pretrained = opened.weights.is_some();
    let resemblance = if task == Task::Classify && pretrained && items.len() > 1 {
        let count = items.len().min(COMPARED);
        // Spread over the set, which is sorted by class.
        let some: Vec<Item> = (0..count).map(|i| items[i * items.len() / count].clone()).collect();
        let cache = start::image_cache(some, recipe.imgsz, CachePolicy::None, dataset.pixels);
        let cache = Arc::new(cache.with_sizing(Sizing::Short));
        let head: onsa_compute::Trainable = Trainable::new(&opened.model, &Freeze::AllButLogits)?.into();
        let place = engine::threads(recipe.threads)?.into();
        let (model, params) = (&opened.model, &opened.params);
        let features = start::features(recipe, model, params, &head, &cache, &place, observer)?;
        let vectors: Vec<&[f32]> = features.vectors().collect();
        Some(resemblance(&vectors, &features.classes()))
    } else {
        None
    };
    Ok(Facts { task, images: items.len(), classes: opened.names.len(), pretrained, resemblance })
}

/// The share of vectors whose nearest other one, by angle, has their class.
fn resemblance(vectors: &[&[f32]], classes: &[usize]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    let lengths: Vec<f32> = vectors.iter().map(|v| dot(v, v).sqrt().max(f32::MIN_POSITIVE)).collect();
    let alike = (0..vectors.len()).filter(|&i| {
        let angle = |j: usize| dot(vectors[i], vectors[j]) / lengths[j];
        let nearest = (0..vectors.len()).filter(|&j| j != i).max_by(|&a, &b| angle(a).total_cmp(&angle(b)));
        nearest.is_some_and(|j| classes[j] == classes[i])
    });
    alike.count() as f64 / vectors.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_found_by_angle() {
        let vectors: [&[f32]; 4] = [&[1.0, 0.0], &[9.0, 0.5], &[0.0, 2.0], &[0.1, 0.2]];
        assert_eq!(resemblance(&vectors, &[0, 0, 1, 1]), 1.0);
        assert_eq!(resemblance(&vectors, &[0, 1, 1, 1]), 0.5);
    }

    #[test]
    fn every_choice_says_why_with_its_figures() {
        let facts =
            Facts { task: Task::Classify, images: 160, classes: 9, pretrained: true, resemblance: Some(0.8) };
        let (strategy, why) = choose(&facts);
        assert_eq!(strategy, Strategy::Head);
        assert!(why.contains("18 images a class") && why.contains("80 %"), "{why}");
        assert_eq!(choose(&Facts { resemblance: Some(0.4), ..facts }).0, Strategy::Gradual);
        assert_eq!(choose(&Facts { images: 2000, ..facts }).0, Strategy::Default);
        assert_eq!(choose(&Facts { pretrained: false, resemblance: None, ..facts }).0, Strategy::Default);
        let detect =
            Facts { task: Task::Detect, images: 35, classes: 1, pretrained: true, resemblance: None };
        assert_eq!(choose(&detect).0, Strategy::Default);
    }
}
