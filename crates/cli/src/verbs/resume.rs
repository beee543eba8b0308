//! `onsa resume`: continue an interrupted run.
use std::process::ExitCode;

use onsa_tune::train::recipe::table::any;
use onsa_tune::train::resume;

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
            /// Show progress.
            verbose: bool = true, any;
        }
    }
}

/// The verb.
pub const VERB: Verb = Verb {
    name: "resume",
    about: "Continue an interrupted run exactly where it stopped",
    positional: Some(Positional { name: "RUN_DIR", help: "The run's folder, such as runs/detect/train." }),
    tables: &[ResumeArgs::TABLE],
    also_known: nothing_more,
    examples: &["onsa resume runs/detect/train"],
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
    let stop = signals::stop_flag()?;
    let outcome = resume(run_dir, &mut Progress::new(options.verbose), stop)?;
    super::train::report(invocation, &outcome);
    Ok(ExitCode::SUCCESS)
}
