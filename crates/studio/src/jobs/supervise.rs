//! Watches one worker: its progress while it lives, and what became of the job when it has ended.
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use tokio::process::Child;

use super::record::{self, State};
use crate::protocol::{BUSY, ErrorText, Event, Line, Outcome, files, reasons};
use crate::store::{blocking, now};
use crate::{App, Problem, library};

/// The worker's progress is read this often.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Workers in a row that may end without an outcome or a new epoch before the job counts as failed.
const CRASHES: u32 = 8;
/// Most bytes of progress that are taken at once.
const READ: u64 = 4 << 20;

/// A worker at work.
pub(super) enum Worker {
    /// Started by this studio.
    Child(Child),
    /// Started by a studio that is gone: it lives for as long as it holds its lock.
    Adopted,
}

/// Follows a worker to its end and writes what became of the job.
pub(super) async fn follow(app: App, id: i64, mut worker: Worker, from: u64) {
    let dir = super::folder(&app, id);
    let mut tail = Tail { path: dir.join(files::PROGRESS), at: from };
    // What an adopted worker told before is kept, and not told again.
    let mut silent = matches!(worker, Worker::Adopted);
    let status = loop {
        keep(&app, id, &mut tail, silent).await;
        silent = false;
        match &mut worker {
            Worker::Child(child) => match child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) if status.code() == Some(i32::from(BUSY)) => worker = Worker::Adopted,
                Ok(Some(status)) => break Some(status),
                Err(_) => worker = Worker::Adopted,
            },
            Worker::Adopted => {
                if !is_locked(&dir) {
                    break None;
                }
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    keep(&app, id, &mut tail, false).await;
    if let Err(problem) = conclude(&app, id, status).await {
        fail(&app, id, problem).await;
    }
    app.tell(Event::Job { job: id });
    app.wake.notify_one();
}

/// Ends a job that the studio itself could not start or conclude.
pub(super) async fn fail(app: &App, id: i64, problem: Problem) {
    let text = ErrorText { message: problem.message, causes: Vec::new(), hint: problem.hint };
    let text = serde_json::to_string(&text).unwrap_or_default();
    let failed = app.store.write(move |t| {
        t.execute("UPDATE jobs SET error = ?2 WHERE id = ?1", (id, text))?;
        record::change(t, id, &[State::Running, State::Stopping], State::Failed)
    });
    // Where the database itself refuses, the state stays, and the next start of the studio concludes the job.
    let _ = failed.await;
    app.tell(Event::Job { job: id });
}

/// Whether a worker lives.
pub(super) fn is_locked(dir: &Path) -> bool {
    let lock = File::options().create(true).append(true).open(dir.join(files::LOCK));
    lock.is_ok_and(|file| matches!(file.try_lock(), Err(std::fs::TryLockError::WouldBlock)))
}

/// Takes new lines of progress: figures into the database, all of them to the browsers.
async fn keep(app: &App, id: i64, tail: &mut Tail, silent: bool) {
    loop {
        let lines = tail.read();
        if lines.is_empty() {
            return;
        }
        let epochs: Vec<Line> =
            lines.iter().filter(|line| matches!(line, Line::Epoch { .. })).cloned().collect();
        if !epochs.is_empty() {
            let kept = app.store.write(move |t| {
                epochs.iter().try_for_each(|line| record::keep_epoch(t, id, line))?;
                t.execute("UPDATE jobs SET crashes = 0 WHERE id = ?1", [id])?;
                Ok(())
            });
            if kept.await.is_err() {
                // The lines stay in the file; the figures are taken again when the job is next adopted.
                return;
            }
        }
        if !silent {
            lines.into_iter().for_each(|line| app.tell(Event::Progress { job: id, line }));
        }
    }
}

/// Reads a growing file of lines.
struct Tail {
    path: PathBuf,
    at: u64,
}

impl Tail {
    /// The whole lines that came since the last call. Lines that are none of ours (half-written ones) are passed over.
    fn read(&mut self) -> Vec<Line> {
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.at))?;
            file.take(READ).read_to_end(&mut bytes)
        });
        let Some(end) = read.ok().and_then(|_| bytes.iter().rposition(|b| *b == b'\n')) else {
            return Vec::new();
        };
        self.at += end as u64 + 1;
        bytes[..end].split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }
}

/// What became of a job whose worker has ended.
enum Verdict {
    Done(serde_json::Value),
    Stopped,
    /// Goes on at the queue's next turn.
    Again,
    Failed(ErrorText),
    /// Ended without a word.
    Crashed(String),
}

/// Writes what became of the job. Doing it twice does nothing more.
pub(super) async fn conclude(app: &App, id: i64, status: Option<ExitStatus>) -> Result<(), Problem> {
    let dir = super::folder(app, id);
    let job = app.store.read(move |c| record::get(c, id)).await?;
    let verdict = blocking(move || Ok(judge(&dir, &job, status))).await?;
    let best = super::folder(app, id).join(files::RUN).join("weights/best.safetensors");
    let done = matches!(verdict, Verdict::Done(_));
    app.store
        .write(move |t| {
            let going = [State::Running, State::Stopping];
            match verdict {
                Verdict::Done(summary) => {
                    let summary = serde_json::to_string(&summary)?;
                    t.execute("UPDATE jobs SET summary = ?2, error = NULL WHERE id = ?1", (id, summary))?;
                    record::change(t, id, &going, State::Done)
                }
                Verdict::Stopped => record::change(t, id, &going, State::Stopped),
                Verdict::Again => record::change(t, id, &going, State::Queued),
                Verdict::Failed(error) => {
                    let error = serde_json::to_string(&error)?;
                    t.execute("UPDATE jobs SET error = ?2 WHERE id = ?1", (id, error))?;
                    record::change(t, id, &going, State::Failed)
                }
                Verdict::Crashed(how) => crashed(t, id, &how),
            }
        })
        .await?;
    if done && best.is_file() {
        library::models::add_run(app, id, &best).await?;
    }
    Ok(())
}

/// A worker that ended without a word: the job goes on, unless it does so again and again without getting anywhere.
fn crashed(t: &rusqlite::Connection, id: i64, how: &str) -> Result<bool, Problem> {
    t.execute("UPDATE jobs SET crashes = crashes + 1 WHERE id = ?1", [id])?;
    let job = record::get(t, id)?;
    if job.state == State::Stopping {
        return record::change(t, id, &[State::Stopping], State::Stopped);
    }
    if job.crashes < CRASHES {
        return record::change(t, id, &[State::Running], State::Queued);
    }
    let error = ErrorText {
        message: format!("the training process ended {CRASHES} times without finishing an epoch: {how}"),
        causes: Vec::new(),
        hint: Some(
            "often the memory is not enough: try a smaller batch or image size; the log has its last words"
                .into(),
        ),
    };
    t.execute("UPDATE jobs SET error = ?2 WHERE id = ?1", (id, serde_json::to_string(&error)?))?;
    t.execute("UPDATE jobs SET finished = ?2 WHERE id = ?1", (id, now()))?;
    record::change(t, id, &[State::Running], State::Failed)
}

fn judge(dir: &Path, job: &record::Job, status: Option<ExitStatus>) -> Verdict {
    let outcome = std::fs::read(dir.join(files::OUTCOME)).ok();
    let outcome: Option<Outcome> = outcome.and_then(|bytes| serde_json::from_slice(&bytes).ok());
    let Some(outcome) = outcome else {
        let how = status.map_or_else(|| "its process is gone".to_owned(), |status| status.to_string());
        return Verdict::Crashed(how);
    };
    if !outcome.ok {
        // Killed after the last epoch was saved and before the end: nothing is left to do, which resuming calls an error.
        // The run's own table counts too: it is written before an epoch is told.
        let done = job.epochs_done.max(tabled_epochs(dir));
        if outcome.attempt > 1 && done >= job.epochs {
            return Verdict::Done(serde_json::json!({ "epochs": done }));
        }
        return Verdict::Failed(outcome.error.unwrap_or_default());
    }
    let document = std::fs::read(dir.join(files::document(outcome.attempt))).ok();
    let document: serde_json::Value =
        document.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    if document["stopped"] != serde_json::Value::Bool(true) {
        return Verdict::Done(document);
    }
    match std::fs::read_to_string(dir.join(files::STOP)) {
        Ok(reason) if reason == reasons::SHUTDOWN => Verdict::Again,
        _ => Verdict::Stopped,
    }
}

/// The last epoch in the run's results.csv; 0 where there is none.
fn tabled_epochs(dir: &Path) -> u32 {
    let text = std::fs::read_to_string(dir.join(files::RUN).join("results.csv")).unwrap_or_default();
    let last = text.lines().last().and_then(|line| line.split(',').next());
    last.and_then(|epoch| epoch.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn the_runs_own_table_says_how_many_epochs_are_done() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(tabled_epochs(dir.path()), 0);
        std::fs::create_dir(dir.path().join(files::RUN)).unwrap();
        let table = dir.path().join(files::RUN).join("results.csv");
        std::fs::write(&table, "epoch,time\n").unwrap();
        assert_eq!(tabled_epochs(dir.path()), 0);
        std::fs::write(&table, "epoch,time\n1,0.5\n2,1.0\n3,1.5\n").unwrap();
        assert_eq!(tabled_epochs(dir.path()), 3);
    }

    #[test]
    fn half_a_line_waits_for_its_end_and_a_torn_one_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("progress");
        let mut file = File::create(&path).unwrap();
        let mut tail = Tail { path, at: 0 };
        let line = Line::Validating { done: 1, images: 2 };
        let text = serde_json::to_string(&line).unwrap();
        write!(file, "{}", &text[..10]).unwrap();
        assert!(tail.read().is_empty());
        writeln!(file, "{}", &text[10..]).unwrap();
        assert_eq!(tail.read(), std::slice::from_ref(&line));
        writeln!(file, "{}\n{text}", &text[..7]).unwrap();
        assert_eq!(tail.read(), [line]);
        assert!(tail.read().is_empty());
    }
}
