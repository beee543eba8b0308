//! How a command fails: one message, its causes, and what to do about it.
use std::error::Error;

use onsa_tune::durable::WriteError;
use onsa_tune::train::recipe::RecipeError;
use onsa_tune::train::recipe::run_dir::RunDirError;
use onsa_tune::train::recipe::table::ArgumentError;

use crate::output::{self, Style};

/// A failed command. Handled once: printed at the top, nowhere else.
#[derive(Debug)]
pub struct Failure {
    /// What went wrong, in one sentence.
    pub message: String,
    /// Why, from the nearest cause to the farthest.
    pub causes: Vec<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// True where the command line itself is wrong (exit code 2).
    pub usage: bool,
}

impl Failure {
    /// A command that could not do its work.
    pub fn failed(message: impl Into<String>) -> Failure {
        Failure { message: message.into(), causes: Vec::new(), hint: None, usage: false }
    }

    /// A command line that is wrong.
    pub fn usage(message: impl Into<String>) -> Failure {
        Failure { usage: true, ..Failure::failed(message) }
    }

    /// A library's error with its causes; a cause that the message above it already quotes is left out.
    pub fn from_error(error: &dyn Error) -> Failure {
        let mut failure = Failure::failed(error.to_string());
        let mut said = failure.message.clone();
        let mut next = error.source();
        while let Some(cause) = next {
            let text = cause.to_string();
            if !said.contains(&text) {
                said.push_str(&text);
                failure.causes.push(text);
            }
            next = cause.source();
        }
        failure
    }

    /// Adds what to do about it.
    pub fn hint(self, hint: impl Into<String>) -> Failure {
        Failure { hint: Some(hint.into()), ..self }
    }

    /// Writes the failure to stderr.
    pub fn print(&self) {
        output::note(&format!("{} {}", output::styled("error:", Style::Error), self.message));
        for cause in &self.causes {
            output::note(&format!("  cause: {cause}"));
        }
        if let Some(hint) = &self.hint {
            output::note(&format!("{} {hint}", output::styled("hint:", Style::Hint)));
        }
    }
}

impl From<ArgumentError> for Failure {
    fn from(error: ArgumentError) -> Failure {
        Failure { hint: error.hint(), ..Failure::usage(error.to_string()) }
    }
}

impl From<RecipeError> for Failure {
    fn from(error: RecipeError) -> Failure {
        Failure { hint: error.hint(), ..Failure::usage(error.to_string()) }
    }
}

impl From<RunDirError> for Failure {
    fn from(error: RunDirError) -> Failure {
        Failure::from_error(&error).hint("choose another place with project=DIR name=NAME")
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Failure {
        Failure::from_error(&error).hint(error.hint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_that_the_message_quotes_is_said_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read x: {0}")]
        struct Quoting(#[source] std::io::Error);
        #[derive(Debug, thiserror::Error)]
        #[error("cannot load the model")]
        struct Outer(#[source] Quoting);
        let failure = Failure::from_error(&Outer(Quoting(std::io::Error::other("disk gone"))));
        assert_eq!(failure.message, "cannot load the model");
        assert_eq!(failure.causes, ["cannot read x: disk gone"]);
    }
}
