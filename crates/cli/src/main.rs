//! The `onsa` command.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    onsa::run(std::env::args_os().skip(1))
}
