//! Measures, at the end of a detector's run, what the old classes lost.

use std::sync::Arc;

use onsa_compute::Params;

use super::{Added, numbers};
use crate::data::cache::CachePolicy;
use crate::data::dataset::Item;
use crate::data::val_loader::ValConfig;
use crate::engine::Inference;
use crate::evaluate::kept::{AGREED, Basis, Kept};
use crate::evaluate::validate::{ValidateOptions, Validation, validate};
use crate::evaluate::{DetectMetrics, Postprocess};
use crate::models::Model;
use crate::train::error::TrainError;
use crate::train::start::image_cache;

/// The new model, and what it is measured on.
pub struct Measured<'a, M> {
    /// The network.
    pub model: &'a Model,
    /// Its values.
    pub params: &'a Params,
    /// All class names.
    pub names: &'a [String],
    /// The new data's validation images.
    pub val: &'a [Item],
    /// The figures on these.
    pub metrics: &'a M,
    /// How images are loaded.
    pub loader: ValConfig,
    /// The threads that compute.
    pub pool: Arc<rayon::ThreadPool>,
}

/// The old classes before and after: against labels where there are some, else against what the starting model finds with
/// some confidence; what it finds with less stands against that too, so even its own figure is a little below 1.
/// `progress(done, all)` ends it early, with nothing, by returning false.
///
/// # Errors
/// An image that cannot be read.
pub fn measure(
    added: &Added,
    new: &Measured<'_, DetectMetrics>,
    mut progress: impl FnMut(usize, usize) -> bool,
) -> Result<Option<Kept>, TrainError> {
    let old = added.old();
    let (source, items, labelled) = match &added.old_val {
        Some(val) => (format!("{}=", val.argument), val.items.clone(), numbers(&val.labelled[..old])),
        None => ("the new data's validation set".to_owned(), new.val.to_vec(), Vec::new()),
    };
    let mut ended = false;
    let mut run = |network: &mut Inference, names: &[String], items: &[Item], postprocess| {
        let cache = Arc::new(image_cache(items.to_vec(), new.loader.imgsz, CachePolicy::None, added.pixels));
        let options = ValidateOptions { loader: new.loader.clone(), postprocess, keep: true };
        let found = validate(network, &cache, names, &options, None, |done, all| {
            let goes_on = progress(done, all);
            ended |= !goes_on;
            goes_on
        });
        Ok::<Validation, TrainError>(found?)
    };
    let start = &added.start;
    let mut before = Inference::new(&start.model, start.params.clone(), Arc::clone(&new.pool));
    let mut after = Inference::new(new.model, new.params.clone(), Arc::clone(&new.pool));
    let all = Postprocess::validation();
    let (basis, figures, metrics) = if labelled.is_empty() {
        let items = unlabelled(items);
        let found = run(
            &mut before,
            &start.names,
            &items,
            Postprocess { conf: AGREED, ..Postprocess::prediction() },
        )?;
        let items = with_detections(items, &found);
        let own = Postprocess { classes: Some((0..old as u32).collect()), ..all };
        let figures = run(&mut before, &start.names, &items, own.clone())?;
        (Basis::Agreement, figures.metrics, run(&mut after, new.names, &items, own)?)
    } else {
        let mut items = items;
        items.iter_mut().for_each(|item| item.labels.retain(|label| (label.class as usize) < old));
        let covered = Postprocess { classes: Some(labelled), ..all };
        let figures = run(&mut before, &start.names, &items, covered.clone())?;
        (Basis::Labels, figures.metrics, run(&mut after, new.names, &items, covered)?)
    };
    if ended {
        return Ok(None);
    }
    let figures = (&figures, &metrics.metrics);
    Ok(Some(Kept::new((basis, source), new.names, old, figures, new.metrics)))
}

fn unlabelled(mut items: Vec<Item>) -> Vec<Item> {
    items.iter_mut().for_each(|item| item.labels.clear());
    items
}

/// The items with what was found on them as their labels.
fn with_detections(mut items: Vec<Item>, found: &Validation) -> Vec<Item> {
    for result in &found.images {
        let item = &mut items[result.item];
        let (width, height) = (item.width as f32, item.height as f32);
        let label = |d: &crate::boxes::Detection| d.bbox.to_label(d.class, width, height);
        item.labels = result.detections.iter().map(label).collect();
    }
    items
}
