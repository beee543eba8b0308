use std::path::PathBuf;

/// Why a `data.yaml` cannot be used: file, line and problem.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {problem}", path.display(), line.map(|l| format!(":{l}")).unwrap_or_default())]
pub struct DataYamlError {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1, where there is one.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a `data.yaml`.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The file system refused.
    #[error("cannot be read: {0}")]
    Read(std::io::Error),
    /// Longer than the cap.
    #[error("has more than {} MiB, which no data.yaml needs: is it the right file?", limit >> 20)]
    TooLarge {
        /// The cap in bytes.
        limit: u64,
    },
    /// Bytes that are not UTF-8.
    #[error("is not UTF-8 text: save it as UTF-8")]
    NotUtf8,
    /// Not YAML.
    #[error("is not valid YAML ({0}): check indentation, colons and quotes")]
    Syntax(String),
    /// YAML that a data.yaml has no use for: anchors, several documents, deep nesting.
    #[error("{0}")]
    Unwanted(&'static str),
    /// A key that means nothing here.
    #[error("unknown key `{key}`{}", match nearest {
        Some(near) => format!(": did you mean `{near}`?"),
        None => format!(": the keys are {}", super::read::KEYS.join(", ")),
    })]
    UnknownKey {
        /// As written.
        key: String,
        /// The known key that looks most like it.
        nearest: Option<&'static str>,
    },
    /// A key or class number given twice.
    #[error("`{0}` is given twice: remove one")]
    Twice(String),
    /// A key that must be there.
    #[error("has no `{key}`: add {remedy}")]
    Missing {
        /// The key.
        key: &'static str,
        /// What to write.
        remedy: &'static str,
    },
    /// A value of the wrong kind.
    #[error("`{key}` must be {expected}")]
    Type {
        /// The key.
        key: String,
        /// What it must be.
        expected: &'static str,
    },
    /// Class numbers that leave one out.
    #[error("`names` has no class {missing}: number the classes 0, 1, 2 … without a gap")]
    Gap {
        /// The first number left out.
        missing: usize,
    },
    /// `nc` and `names` contradict each other.
    #[error("`nc` says {nc} classes but `names` has {names}: correct one, or leave `nc` out")]
    Count {
        /// From `nc`.
        nc: usize,
        /// From `names`.
        names: usize,
    },
    /// More classes than the cap.
    #[error("names more than {limit} classes, the most that is read")]
    TooManyClasses {
        /// The cap.
        limit: usize,
    },
}
