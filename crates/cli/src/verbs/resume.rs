//! `onsa resume`: continue an interrupted run or search, or make a finished run longer.
use std::process::ExitCode;

use onsa_tune::train::recipe::table::{any, at_least_one_or_none};
use onsa_tune::train::recipe::values::SaveEvery;
use onsa_tune::train::{Changes, resume};

use super::{Positional, Verb, nothing_more};
use crate::arguments::Invocation;
use crate::failure::Failure;
use crate::progress::Progress;
use crate::signals;

onsa_tune::arguments! {
    /// The arguments of `resume` that a person gave.
    ResumeArgs,
    /// The arguments of `resume`.
    ResumeOptions {
        "Resume" {
            /// Train on to this many epochs in all; by default as many as the run was begun with.
            epochs: Option<u32> = None, at_least_one_or_none;
            /// Compute threads; by default as many as the run was begun with. The result is the same for any number.
            threads: Option<u32> = None, at_least_one_or_none;
            /// Threads that load and augment; by default as many as the run was begun with.
            workers: Option<u32> = None, any;
            /// When to save within an epoch: auto, epoch, a number of steps (100) or of seconds (60s); by default as the run was begun with.
            save_every: Option<SaveEvery> = None, any;
            /// Show progress.
            verbose: bool = true, any;
        }
    }
}

/// The verb.
pub const VERB: Verb = Verb {
    name: "resume",
    about: "Continue an interrupted run or search exactly where it stopped, or make a finished run longer",
    positional: Some(Positional {
        name: "RUN_DIR",
        help: "The folder of the run, such as runs/detect/train, or of the search, such as runs/detect/tune.",
    }),
    tables: &[ResumeArgs::TABLE],
    also_known: nothing_more,
    examples: &["onsa resume runs/detect/train", "onsa resume runs/detect/train epochs=200"],
    run,
};

fn run(invocation: &Invocation) -> Result<ExitCode, Failure> {
    let mut args = ResumeArgs::default();
    invocation.each(|name, text| args.set(name, text))?;
    let options = args.fill();
    let Some(run_dir) = &invocation.positional else {
        return Err(Failure::usage("which run?").hint("onsa resume runs/detect/train"));
    };
    if !run_dir.is_dir() {
        return Err(Failure::failed(format!("there is no run folder {}", run_dir.display())));
    }
    if onsa_tune::search::is_here(run_dir) {
        if let Some((name, _)) = invocation.given.iter().find(|(name, _)| name != "verbose") {
            return Err(Failure::usage(format!(
                "{} is a search: `{name}` cannot be changed",
                run_dir.display()
            ))
            .hint("a search goes on as it was begun; start another one for other arguments"));
        }
        return super::tune::go_on(invocation, run_dir, options.verbose);
    }
    let changes = Changes {
        epochs: options.epochs,
        threads: options.threads,
        workers: options.workers,
        save_every: options.save_every,
    };
    let stop = signals::stop_flag()?;
    let outcome = resume(run_dir, &changes, &mut Progress::new(options.verbose), stop)?;
    super::train::report(invocation, &outcome);
    Ok(ExitCode::SUCCESS)
}
