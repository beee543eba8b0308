//! `onsa check`: every fault of a data set, with file and line.
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};
use onsa_tune::data::audit::{self, Audit, AuditTask, CheckOptions, Fault};
use onsa_tune::data::dataset::PixelOptions;
use onsa_tune::data::division::{Splitting, VAL_FRACTION};
use onsa_tune::data::groups::GroupBy;
use onsa_tune::data::index::{LoadOptions, Progress, Stage};
use onsa_tune::train::recipe::table::{self, any};

use super::{Verb, nothing_more};
use crate::FAILED;
use crate::arguments::Invocation;
use crate::failure::Failure;
use crate::output;

onsa_tune::arguments! {
    /// The arguments of `check` that a person gave.
    CheckArgs,
    /// The arguments of `check`.
    CheckSettings {
        "Check" {
            /// The data set: a data.yaml, a COCO JSON file, or a folder with Pascal VOC or YOLO labels; of classified images a
            /// folder with one folder a class, a .csv table, or a folder of IDX files. Required.
            data: PathBuf = PathBuf::new(), any;
            /// What the data set is for; auto goes by its form.
            task: AuditTask = AuditTask::Auto, any;
            /// Images that belong together (a patient, a field): a pattern of their names with {group} and *, a .csv file with
            /// the columns image and group, or a column of the data set's own table. A group on both sides is an error.
            group: Option<GroupBy> = None, any;
            /// The share that validation gets where the data have no validation images.
            val_fraction: f64 = VAL_FRACTION, table::share;
            /// Divide the training and validation images anew, by group and val_fraction.
            resplit: bool = false, any;
            /// Channels of the images: by default what data.yaml says, or three.
            channels: Option<u32> = None, table::channels_or_none;
            /// Treat every object as of one class.
            single_cls: bool = false, any;
            /// Look for nearly equal images across splits too, not only for equal ones.
            near: bool = true, any;
            /// Write a copy without the faults into the folder `output`, with a list of what was done; the data set stays as it is.
            fix: bool = false, any;
            /// Where `fix` writes: a folder that does not exist yet.
            output: Option<PathBuf> = None, any;
        }
    }
}

/// The verb.
pub const VERB: Verb = Verb {
    name: "check",
    about: "Find every fault of a data set, with file and line",
    positional: None,
    tables: &[CheckArgs::TABLE],
    also_known: nothing_more,
    examples: &[
        "onsa check data=trees/data.yaml",
        "onsa check data=annotations.json --json",
        "onsa check data=trees/data.yaml --fix output=trees-fixed",
        "onsa check data=scans group={group}_*",
    ],
    run,
};

fn run(invocation: &Invocation) -> Result<ExitCode, Failure> {
    let mut args = CheckArgs::default();
    invocation.each(|name, text| args.set(name, text))?;
    let settings = args.fill();
    if settings.data.as_os_str().is_empty() {
        return Err(Failure::usage("`data` is missing").hint("give it as data=my-data/data.yaml"));
    }
    let output_folder = match (settings.fix, settings.output) {
        (true, None) => {
            return Err(Failure::usage("`fix` needs a folder to write to").hint("give it as output=FOLDER"));
        }
        (false, Some(_)) => {
            return Err(Failure::usage("`output` has no effect without `fix`")
                .hint("add --fix to write a corrected copy"));
        }
        (_, folder) => folder,
    };
    let (group, val_fraction, resplit) = (settings.group, settings.val_fraction, settings.resplit);
    let splitting = Splitting { group, val_fraction, resplit };
    let pixels = PixelOptions { channels: settings.channels, eight_bits: false };
    let load = LoadOptions { single_cls: settings.single_cls, splitting, pixels, ..LoadOptions::default() };
    let options = CheckOptions { task: settings.task, load, near: settings.near };
    let (audit, checked) = watched(|report| audit::check_keeping(&settings.data, &options, report));
    if let Some(folder) = output_folder {
        let fixed = audit::write_fixed(&audit, checked.as_ref(), &folder)
            .map_err(|e| Failure::from_error(&e).hint(e.hint()))?;
        if invocation.json {
            output::document(&serde_json::json!({"audit": audit, "fixed": fixed}));
        } else {
            output::line(&describe(&audit));
            let boxes = match audit.task {
                "classify" => String::new(),
                _ => format!(" with {} boxes", fixed.boxes),
            };
            output::line(&format!(
                "{}: {} images{boxes}, {} left out; {} lists what was done",
                folder.display(),
                fixed.images,
                fixed.left_out,
                folder.join("changes.csv").display()
            ));
        }
        return Ok(ExitCode::SUCCESS);
    }
    if invocation.json {
        output::document(&audit);
    } else {
        output::line(&describe(&audit));
    }
    Ok(if audit.ok { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

/// Runs the check with a progress bar on stderr.
fn watched<T>(check: impl FnOnce(onsa_tune::data::index::Report<'_>) -> T) -> T {
    let bar = ProgressBar::new(0);
    let style = ProgressStyle::with_template("{prefix} {bar:24} {pos}/{len}  left {eta}");
    bar.set_style(style.expect("the template is a constant and valid"));
    let decoding = AtomicBool::new(false);
    let report = |progress: Progress| {
        if progress.stage == Stage::Decode && !decoding.swap(true, Ordering::Relaxed) {
            bar.reset();
        }
        bar.set_prefix(match progress.stage {
            Stage::Scan => "reading",
            Stage::Decode => "decoding",
        });
        bar.set_length(progress.total as u64);
        bar.set_position(progress.done as u64);
    };
    let checked = check(&report);
    bar.finish_and_clear();
    checked
}

/// One line a fault, as compilers write them, then the figures.
fn describe(audit: &Audit) -> String {
    let mut lines: Vec<String> = audit.faults.iter().map(fault_line).collect();
    for split in &audit.splits {
        let (name, images) = (split.split.name(), split.images);
        lines.push(match audit.task {
            "classify" => format!("{name}: {images} images"),
            _ => format!(
                "{name}: {images} images ({} without a box), {} boxes",
                split.backgrounds, split.boxes
            ),
        });
    }
    for (name, boxes) in audit.classes.iter().zip(&audit.boxes_per_class) {
        lines.push(format!("class {name}: {boxes} boxes"));
    }
    if audit.task == "classify" {
        for (class, name) in audit.classes.iter().enumerate() {
            let images: Vec<String> = audit
                .splits
                .iter()
                .map(|s| format!("{} {}", s.split.name(), s.images_per_class[class]))
                .collect();
            lines.push(format!("class {name}: {}", images.join(", ")));
        }
    }
    let errors = audit.faults.iter().filter(|fault| fault.is_error()).count();
    let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    lines.push(format!(
        "{} and {}",
        counted(errors, "error"),
        counted(audit.faults.len() - errors, "warning")
    ));
    lines.join("\n")
}

fn fault_line(fault: &Fault) -> String {
    let line = fault.line.map_or(String::new(), |line| format!(":{line}"));
    let grave = if fault.is_error() { "error" } else { "warning" };
    format!("{}{line}: {grave}: {}", fault.path.display(), fault.message)
}
