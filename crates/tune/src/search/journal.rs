//! What a search has decided and measured, on the disk: a search that is continued reads its past from here and goes
//! on, with the answer that it would have had.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::plan::{Cost, Last, Plan};
use crate::durable::{self, WriteError};

/// The journal's file in a search's folder.
pub const FILE: &str = "journal.jsonl";
/// The form of the journal that this program writes and reads.
const VERSION: u32 = 1;

/// The first line: what is searched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// The form of the file.
    pub version: u32,
    /// The command line as it was typed: names and values.
    pub arguments: Vec<(String, String)>,
    /// The hash of the data.
    pub data: String,
}

impl Header {
    /// Of a new search.
    pub fn new(arguments: Vec<(String, String)>, data: String) -> Header {
        Header { version: VERSION, arguments, data }
    }
}

/// Which run of the search: the candidate by its number, the rung (that after the last of the plan is the comparison), and
/// which fold or seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// The rung, from 0.
    pub rung: usize,
    /// The candidate, from 0; 0 is the default.
    pub candidate: usize,
    /// The fold or seed within the rung, from 0.
    pub pair: usize,
    /// Epochs of training.
    pub epochs: u32,
}

/// What a run gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// What candidates are compared by: mAP50-95 of a detector, a classifier's share of images that are right.
    pub value: f64,
    /// The loss on the same images: it decides where the figure is the same.
    pub loss: f64,
    /// All headline figures by name.
    pub metrics: Vec<(String, f64)>,
}

/// Something that was decided or measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// What the default costs.
    Measured(Cost),
    /// What is going to be run.
    Planned(Plan),
    /// A run that was done, or (`failed` says why) cannot be.
    Ran {
        /// Which.
        run: Run,
        /// What it gave.
        figures: Option<Figures>,
        /// Why it gave nothing.
        failed: Option<String>,
        /// What it cost.
        cost: Cost,
    },
    /// There was no time for the rest of this rung.
    Cut {
        /// The rung.
        rung: usize,
    },
    /// How the comparison goes; none where no time is left for it.
    Last(Option<Last>),
}

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Line {
    /// Seconds of the budget that are spent.
    spent: f64,
    event: Event,
}

/// A journal that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file system refuses.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is damaged, or another version's.
    #[error("{}, line {line}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// It could not be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

/// The journal of one search.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    header: Header,
    lines: Vec<Line>,
    /// How many of them the search has gone through again.
    read: usize,
}

impl Journal {
    /// Begins the journal of a search in `folder`.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn begin(folder: &Path, header: Header) -> Result<Journal, JournalError> {
        let journal = Journal { path: folder.join(FILE), header, lines: Vec::new(), read: 0 };
        journal.write()?;
        Ok(journal)
    }

    /// Reads the journal of the search in `folder`.
    ///
    /// # Errors
    /// See [`JournalError`].
    pub fn open(folder: &Path) -> Result<Journal, JournalError> {
        let path = folder.join(FILE);
        let text = std::fs::read_to_string(&path)
            .map_err(|source| JournalError::Read { path: path.clone(), source })?;
        let damaged =
            |line: usize, reason: String| JournalError::Damaged { path: path.clone(), line, reason };
        let mut texts = text.lines().enumerate();
        let (_, first) = texts.next().ok_or_else(|| damaged(1, "the file is empty".into()))?;
        let header: Header = serde_json::from_str(first).map_err(|e| damaged(1, e.to_string()))?;
        if header.version != VERSION {
            let reason =
                format!("form {} is of another version of onsa; this one reads {VERSION}", header.version);
            return Err(damaged(1, reason));
        }
        let lines = texts
            .map(|(i, text)| serde_json::from_str(text).map_err(|e| damaged(i + 1, e.to_string())))
            .collect::<Result<_, _>>()?;
        Ok(Journal { path: path.clone(), header, lines, read: 0 })
    }

    /// What is searched.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Seconds that were spent when the last line was written.
    pub fn spent(&self) -> f64 {
        self.lines.last().map_or(0.0, |line| line.spent)
    }

    /// True once a plan was made.
    pub fn is_planned(&self) -> bool {
        self.lines.iter().any(|line| matches!(line.event, Event::Planned(_)))
    }

    /// The next event of the past, if there is one; with what was spent until then.
    pub fn past(&mut self) -> Option<(Event, f64)> {
        let line = self.lines.get(self.read)?;
        self.read += 1;
        Some((line.event.clone(), line.spent))
    }

    /// True once nothing of the past is left.
    pub fn is_live(&self) -> bool {
        self.read == self.lines.len()
    }

    /// Adds an event, and brings it to the disk.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn push(&mut self, event: Event, spent: f64) -> Result<(), JournalError> {
        debug_assert!(self.is_live(), "the past is not written twice");
        self.lines.push(Line { spent, event });
        self.read = self.lines.len();
        self.write()
    }

    fn write(&self) -> Result<(), JournalError> {
        let mut text = serde_json::to_string(&self.header).expect("plain values are JSON");
        text.push('\n');
        for line in &self.lines {
            text.push_str(&serde_json::to_string(line).expect("plain values are JSON"));
            text.push('\n');
        }
        Ok(durable::write(&self.path, text.as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_damage_names_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let header = Header::new(vec![("model".into(), "yolo11n".into())], "hash".into());
        let mut journal = Journal::begin(folder.path(), header.clone()).unwrap();
        let events = [
            Event::Measured(Cost { epoch: 0.1, overhead: 1.0 / 3.0 }),
            Event::Ran {
                run: Run { rung: 0, candidate: 1, pair: 0, epochs: 3 },
                figures: Some(Figures { value: 0.1 + 0.2, loss: 1e-9, metrics: vec![("mAP50".into(), 0.5)] }),
                failed: None,
                cost: Cost::default(),
            },
            Event::Cut { rung: 0 },
            Event::Last(None),
        ];
        for (i, event) in events.iter().enumerate() {
            journal.push(event.clone(), i as f64).unwrap();
        }
        let mut again = Journal::open(folder.path()).unwrap();
        assert_eq!((again.header(), again.spent()), (&header, 3.0));
        for (i, event) in events.iter().enumerate() {
            assert!(!again.is_live());
            assert_eq!(again.past(), Some((event.clone(), i as f64)));
        }
        assert!(again.is_live() && again.past().is_none());

        let path = folder.path().join(FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, text.replace("\"cut\"", "\"kut\"")).unwrap();
        let error = Journal::open(folder.path()).unwrap_err().to_string();
        assert!(error.contains("journal.jsonl, line 4: "), "{error}");
        std::fs::write(&path, text.replace("\"version\":1", "\"version\":9")).unwrap();
        assert!(Journal::open(folder.path()).unwrap_err().to_string().contains("another version"));
    }
}
