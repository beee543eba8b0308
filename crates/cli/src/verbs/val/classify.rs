//! A classifier's figures on a data set.
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use onsa_tune::data::cache::{CachePolicy, Sizing};
use onsa_tune::data::classify::{self, label_of};
use onsa_tune::data::dataset::{Item, Split};
use onsa_tune::data::val_loader::ValConfig;
use onsa_tune::engine::Inference;
use onsa_tune::evaluate::classify::{ClassifyMetrics, Interval, validate_classifier};
use onsa_tune::evaluate::plots::{class_confusion_plot, write_plot};
use onsa_tune::models::open::Opened;
use onsa_tune::train::recipe::run_dir;
use onsa_tune::train::start::image_cache;

use super::{ValArguments, abridged};
use crate::arguments::Invocation;
use crate::failure::Failure;
use crate::progress::Counting;
use crate::{output, signals};

/// Validates `opened` on the split of the data set, `imgsz` pixels a side.
pub(super) fn run(
    invocation: &Invocation,
    o: &ValArguments,
    split: Split,
    opened: &Opened,
    imgsz: u32,
) -> Result<ExitCode, Failure> {
    let stop = signals::stop_flag()?;
    let loaded = classify::load(&o.data, &o.load_options(opened)).map_err(|e| Failure::from_error(&e))?;
    for fault in loaded.faults.iter().filter(|f| f.is_error()) {
        output::warning(&format!("{fault} (not counted)"));
    }
    let items = renumbered(loaded.dataset.split(split), &loaded.dataset.classes, &opened.names)?;
    if items.is_empty() {
        return Err(Failure::failed(format!("{} has no {} images", o.data.display(), split.name())));
    }
    let place = super::super::place_for(&opened.model, (o.device.as_deref(), o.half, o.threads))?;
    let mut network = Inference::new(&opened.model, opened.params.clone(), place);
    let cache = image_cache(items, imgsz, CachePolicy::None, loaded.dataset.pixels);
    let cache = Arc::new(cache.with_sizing(Sizing::Short));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let loader = ValConfig {
        imgsz,
        batch: o.batch as usize,
        workers: (o.workers as usize).min(cores),
        ..ValConfig::default()
    };
    let mut counting = Counting::new("validating");
    let result = validate_classifier(&mut network, &cache, &opened.names, loader, |done, all| {
        counting.at(done, all);
        !stop.load(Ordering::Relaxed)
    });
    counting.finish();
    let validation = result.map_err(|e| Failure::from_error(&e))?;
    if stop.load(Ordering::Relaxed) {
        return Err(Failure::failed("stopped before all images were seen"));
    }
    if let Some(file) = &o.predictions {
        super::predictions::write_classes(file, &validation.guesses, cache.items(), &opened.names)?;
    }
    let metrics = validation.metrics;
    let folder = if o.plots {
        let folder = run_dir::claim(&o.project, &o.name, o.exist_ok)?;
        for (name, normalised) in [("confusion_matrix", false), ("confusion_matrix_normalized", true)] {
            let drawing = class_confusion_plot(&metrics.confusion, &opened.names, normalised);
            write_plot(&folder, name, &drawing).map_err(|e| Failure::from_error(&e))?;
        }
        Some(folder)
    } else {
        None
    };
    if invocation.json {
        output::document(&metrics);
    } else {
        table_of(&metrics, folder.as_deref());
    }
    Ok(ExitCode::SUCCESS)
}

/// The items with the model's numbers of their classes, which are matched by name.
fn renumbered(items: &[Item], classes: &[String], names: &[String]) -> Result<Vec<Item>, Failure> {
    let numbers: Vec<Option<usize>> = classes
        .iter()
        .map(|class| names.iter().position(|name| name.trim().eq_ignore_ascii_case(class.trim())))
        .collect();
    if let Some(unknown) = numbers.iter().position(Option::is_none) {
        return Err(Failure::failed(format!(
            "the model does not know the class `{}`; its classes are {}",
            classes[unknown],
            abridged(names)
        ))
        .hint(
            "validate with the data set that the model was trained for, or fine-tune it on this one first",
        ));
    }
    let renumber = |item: &Item| {
        let labels = item.labels.iter().filter_map(|label| numbers[label.class as usize]);
        Item { labels: labels.map(|number| label_of(number as u32)).collect(), ..item.clone() }
    };
    Ok(items.iter().map(renumber).collect())
}

fn table_of(metrics: &ClassifyMetrics, folder: Option<&Path>) {
    let figure = |name: &str, value: f64, interval: Option<Interval>| {
        let range =
            interval.map_or(String::new(), |i| format!("   95 % interval {:.3} to {:.3}", i.low, i.high));
        output::line(&format!("{name:<18} {value:.3}{range}"));
    };
    figure("top1", metrics.top1, metrics.intervals.top1);
    figure("top5", metrics.top5, metrics.intervals.top5);
    figure("balanced accuracy", metrics.balanced_accuracy, metrics.intervals.balanced_accuracy);
    if let Some(auc) = metrics.auc {
        figure("AUC", auc, metrics.intervals.auc);
    }
    output::line(&format!(
        "\n{:<24} {:>7} {:>9} {:>7} {:>7}",
        "class", "images", "precision", "recall", "F1"
    ));
    for c in metrics.per_class.iter().filter(|c| c.images > 0) {
        output::line(&format!(
            "{:<24} {:>7} {:>9.3} {:>7.3} {:>7.3}",
            c.name, c.images, c.precision, c.recall, c.f1
        ));
    }
    if let Some(folder) = folder {
        output::line(&format!("plots  {}", folder.display()));
    }
}
