//! Measures, at the end of a classifier's run, what the old classes lost.

use std::sync::Arc;

use super::{Added, Measured};
use crate::data::cache::{CachePolicy, Sizing};
use crate::data::dataset::Item;
use crate::engine::Inference;
use crate::evaluate::classify::{ClassifyMetrics, Guess, top_classes, validate_classifier};
use crate::evaluate::kept::{AGREED, Basis, ClassKept, Kept};
use crate::train::error::TrainError;
use crate::train::start::image_cache;

/// The old classes before and after: against labels where there are some, else against what the starting model says. On the
/// new data's own images the new classes are left out of the answer, for these are right there. `progress(done, all)` ends it
/// early, with nothing, by returning false.
///
/// # Errors
/// An image that cannot be read.
pub fn measure_images(
    added: &Added,
    new: &Measured<'_, ClassifyMetrics>,
    mut progress: impl FnMut(usize, usize) -> bool,
) -> Result<Option<Kept>, TrainError> {
    let (old, start) = (added.old(), &added.start);
    let (source, mut items, labels, heard) = match &added.old_val {
        Some(val) => {
            let labels = val.labelled[..old].contains(&true);
            (format!("{}=", val.argument), val.items.clone(), labels, new.names.len())
        }
        None => ("the new data's validation set".to_owned(), new.val.to_vec(), false, old),
    };
    let class_of = |item: &Item| item.labels.first().map(|label| label.class as usize);
    let truths: Vec<Option<usize>> = match labels {
        true => {
            items.retain(|item| class_of(item).is_some_and(|class| class < old));
            items.iter().map(class_of).collect()
        }
        false => Vec::new(),
    };
    // The figures here are counted below, by class.
    items.iter_mut().for_each(|item| item.labels.clear());
    let cache = image_cache(items.clone(), new.loader.imgsz, CachePolicy::None, added.pixels);
    let cache = Arc::new(cache.with_sizing(Sizing::Short));
    let mut ended = false;
    let mut run = |network: &mut Inference, names: &[String]| {
        let found = validate_classifier(network, &cache, names, new.loader.clone(), |done, all| {
            let goes_on = progress(done, all);
            ended |= !goes_on;
            goes_on
        })?;
        let mut guesses = found.guesses;
        guesses.sort_by_key(|guess| guess.item);
        Ok::<Vec<Guess>, TrainError>(guesses)
    };
    let mut network = Inference::new(&start.model, start.params.clone(), Arc::clone(&new.pool));
    let before = run(&mut network, &start.names)?;
    let mut network = Inference::new(new.model, new.params.clone(), Arc::clone(&new.pool));
    let after = run(&mut network, new.names)?;
    if ended {
        return Ok(None);
    }
    let likeliest = |guess: &Guess, heard: usize| top_classes(&guess.scores[..heard], 1)[0];
    let truths = match labels {
        true => truths,
        false => {
            let sure = |guess: &Guess| {
                let class = likeliest(guess, old);
                (guess.scores[class] >= f64::from(AGREED)).then_some(class)
            };
            before.iter().map(sure).collect()
        }
    };
    let share = |guesses: &[Guess], class: usize, heard: usize| {
        let of_class = guesses.iter().filter(|guess| truths[guess.item] == Some(class));
        let (right, all) = of_class.fold((0u64, 0u64), |(right, all), guess| {
            (right + u64::from(likeliest(guess, heard) == class), all + 1)
        });
        (right as f64 / all.max(1) as f64, all)
    };
    let kept = (0..old).filter_map(|class| {
        let (after, count) = share(&after, class, heard);
        let before = labels.then(|| share(&before, class, old).0);
        (count > 0).then(|| ClassKept { name: start.names[class].clone(), count, before, after })
    });
    let basis = if labels { Basis::Labels } else { Basis::Agreement };
    let images = items.len() as u64;
    Ok(Some(Kept::of_images((basis, source, images), new.names, old, kept.collect(), new.metrics)))
}
