//! What can go wrong in the studio, as a person is told it. Handled once: at the HTTP response, at the job's record, or
//! by the command that started the studio.
use std::error::Error;
use std::path::Path;

/// Whose matter a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What was asked for makes no sense; the person can correct it.
    Invalid,
    /// There is no such thing (any more).
    Missing,
    /// It contradicts the state of things, such as a page that is out of date.
    Conflict,
    /// The machine, the disk or the database.
    Internal,
}

/// One message, and where there is one, what to do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// Whose matter.
    pub kind: Kind,
    /// What is wrong, with its causes.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    fn new(kind: Kind, message: impl Into<String>) -> Problem {
        Problem { kind, message: message.into(), hint: None }
    }

    /// A request that makes no sense.
    pub fn invalid(message: impl Into<String>) -> Problem {
        Problem::new(Kind::Invalid, message)
    }

    /// Something that does not exist.
    pub fn missing(message: impl Into<String>) -> Problem {
        Problem::new(Kind::Missing, message)
    }

    /// Something that cannot be done now.
    pub fn conflict(message: impl Into<String>) -> Problem {
        Problem::new(Kind::Conflict, message)
    }

    /// A failure of the machine, with its causes.
    pub fn internal(what: impl Into<String>, error: &dyn Error) -> Problem {
        Problem::new(Kind::Internal, format!("{}: {}", what.into(), causes(error)))
    }

    /// A failure at a path.
    pub fn path(what: &str, path: &Path, error: &dyn Error) -> Problem {
        Problem::internal(format!("{what} {}", path.display()), error)
    }

    /// Adds what to do about it.
    pub fn hint(self, hint: impl Into<String>) -> Problem {
        Problem { hint: Some(hint.into()), ..self }
    }
}

/// An error and its causes in one line; a cause that the text above it already quotes is left out.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text
}

impl From<rusqlite::Error> for Problem {
    fn from(error: rusqlite::Error) -> Problem {
        match error {
            rusqlite::Error::QueryReturnedNoRows => Problem::missing("there is no such entry"),
            rusqlite::Error::FromSqlConversionFailure(_, _, cause) => {
                Problem::internal("the studio's database is damaged", &*cause).hint(
                    "nothing was changed: stop the studio and put a copy of studio.sqlite back, or import the data anew \
                     into another folder (dir=FOLDER)",
                )
            }
            error => Problem::internal("the studio's database", &error),
        }
    }
}

impl From<serde_json::Error> for Problem {
    fn from(error: serde_json::Error) -> Problem {
        Problem::internal("a stored document cannot be read", &error)
    }
}

impl From<onsa_tune::durable::WriteError> for Problem {
    fn from(error: onsa_tune::durable::WriteError) -> Problem {
        Problem::new(Kind::Internal, causes(&error)).hint(error.hint())
    }
}
