//! The `onsa` command: `onsa VERB key=value ...`, one file a verb.
#![forbid(unsafe_code)]

pub mod arguments;
pub mod demo;
pub mod failure;
pub mod help;
pub mod output;
pub mod progress;
pub mod serve;
pub mod signals;
pub mod verbs;

use std::ffi::OsString;
use std::process::ExitCode;

use failure::Failure;
use onsa_studio::worker;

/// Exit code of a command that failed.
pub const FAILED: u8 = 1;
/// Exit code of a command that was used wrongly.
pub const WRONG_USAGE: u8 = 2;

/// Runs one command line (without the program's own name) and says how it went.
pub fn run(tokens: impl Iterator<Item = OsString>) -> ExitCode {
    let job = match worker::attach() {
        Ok(worker::Attached::Alone) => None,
        Ok(worker::Attached::Working(job)) => Some(job),
        Ok(worker::Attached::Leave(code)) => return ExitCode::from(code),
        Err(problem) => return failed(&Failure::from(problem)),
    };
    let result = dispatch(tokens);
    if let Some(job) = job {
        let error = result.as_ref().err().map(|failure| worker::ErrorText {
            message: failure.message.clone(),
            causes: failure.causes.clone(),
            hint: failure.hint.clone(),
        });
        if let Err(problem) = job.finish(error) {
            return failed(&Failure::from(problem));
        }
    }
    result.unwrap_or_else(|failure| failed(&failure))
}

fn failed(failure: &Failure) -> ExitCode {
    failure.print();
    ExitCode::from(if failure.usage { WRONG_USAGE } else { FAILED })
}

fn dispatch(tokens: impl Iterator<Item = OsString>) -> Result<ExitCode, Failure> {
    let mut tokens = arguments::as_text(tokens)?.into_iter();
    let Some(first) = tokens.next() else {
        help::overview(output::Sink::Error);
        return Ok(ExitCode::from(WRONG_USAGE));
    };
    let rest: Vec<String> = tokens.collect();
    match first.as_str() {
        "help" | "--help" | "-h" => {
            match rest.first() {
                Some(name) => help::verb(verbs::find(name)?),
                None => help::overview(output::Sink::Out),
            }
            Ok(ExitCode::SUCCESS)
        }
        "version" | "--version" | "-V" => {
            output::line(&format!("onsa {}", env!("CARGO_PKG_VERSION")));
            Ok(ExitCode::SUCCESS)
        }
        name => {
            let verb = verbs::find(name)?;
            match arguments::parse(verb, rest)? {
                arguments::Parsed::Help => {
                    help::verb(verb);
                    Ok(ExitCode::SUCCESS)
                }
                arguments::Parsed::Run(invocation) => (verb.run)(&invocation),
            }
        }
    }
}
