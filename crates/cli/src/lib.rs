//! The `onsa` command: `onsa VERB key=value ...`, one file a verb.
#![forbid(unsafe_code)]

pub mod arguments;
pub mod demo;
pub mod failure;
pub mod help;
pub mod output;
pub mod progress;
pub mod signals;
pub mod verbs;

use std::ffi::OsString;
use std::process::ExitCode;

use failure::Failure;

/// Exit code of a command that failed.
pub const FAILED: u8 = 1;
/// Exit code of a command that was used wrongly.
pub const WRONG_USAGE: u8 = 2;

/// Runs one command line (without the program's own name) and says how it went.
pub fn run(tokens: impl Iterator<Item = OsString>) -> ExitCode {
    match dispatch(tokens) {
        Ok(code) => code,
        Err(failure) => {
            failure.print();
            ExitCode::from(if failure.usage { WRONG_USAGE } else { FAILED })
        }
    }
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
