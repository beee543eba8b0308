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
    let failed = app.store.write(move |t| {
        let text = serde_json::to_string(&text)?;
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
    let outcome = match outcome_of(dir) {
        Ok(Some(outcome)) => outcome,
        Ok(None) => {
            let how = status.map_or_else(|| "its process is gone".to_owned(), |status| status.to_string());
            return Verdict::Crashed(how);
        }
        Err(error) => return Verdict::Failed(error),
    };
    if !outcome.ok {
        // Killed after the last epoch was saved and before the end: nothing is left to do, which resuming calls an error.
        // The run's own table counts too: it is written before an epoch is told.
        let done = job.epochs_done.max(tabled_epochs(dir));
        if outcome.attempt > 1 && done >= job.epochs {
            return Verdict::Done(serde_json::json!({ "epochs": done }));
        }
        return Verdict::Failed(outcome.error.unwrap_or_else(|| ErrorText {
            message: "the training process failed and did not say why".into(),
            causes: Vec::new(),
            hint: Some("the log has its last words".into()),
        }));
    }
    let document: serde_json::Value = match stored(&dir.join(files::document(outcome.attempt))) {
        Ok(Some(document)) => document,
        Ok(None) => return Verdict::Failed(damaged(&files::document(outcome.attempt), "the file is gone")),
        Err(error) => return Verdict::Failed(error),
    };
    if document["stopped"] != serde_json::Value::Bool(true) {
        return Verdict::Done(document);
    }
    match std::fs::read_to_string(dir.join(files::STOP)) {
        Ok(reason) if reason == reasons::SHUTDOWN => Verdict::Again,
        _ => Verdict::Stopped,
    }
}

/// How the last worker ended in its own words; none where it left none.
///
/// # Errors
/// The file is there and cannot be read.
pub(super) fn outcome_of(dir: &Path) -> Result<Option<Outcome>, ErrorText> {
    stored(&dir.join(files::OUTCOME))
}

/// Whether the last worker did all its work and its documents are sound.
pub(super) fn has_ended(dir: &Path) -> bool {
    let Ok(Some(outcome)) = outcome_of(dir) else { return false };
    let document = stored::<serde_json::Value>(&dir.join(files::document(outcome.attempt)));
    outcome.ok && matches!(document, Ok(Some(_))) && !dir.join(files::STOP).exists()
}

/// A JSON file of a job's folder; none where there is no file.
fn stored<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, ErrorText> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| damaged(&name, &e.to_string())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(damaged(&name, &e.to_string())),
    }
}

fn damaged(name: &str, why: &str) -> ErrorText {
    ErrorText {
        message: format!("what the training process wrote at its end is damaged: {name}: {why}"),
        causes: Vec::new(),
        hint: Some("go on with the run: it continues from its last save".into()),
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
    fn a_damaged_outcome_or_document_is_a_failure_and_neither_success_nor_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let store = crate::store::Store::open(&dir.path().join("s.sqlite")).unwrap();
        let job = store.write_now(|t| {
            t.execute(
                "INSERT INTO jobs (name, state, model, model_name, strategy, arguments, epochs, created)
                 VALUES ('a', 'running', 'm', 'm', 'gentle', '[]', 3, 0)",
                [],
            )?;
            record::get(t, t.last_insert_rowid())
        });
        let job = job.unwrap();
        let judged = || judge(dir.path(), &job, None);
        assert!(matches!(judged(), Verdict::Crashed(_)), "no outcome: it was killed");
        let outcome = dir.path().join(files::OUTCOME);
        std::fs::write(&outcome, "{\"attempt\": 1, \"ok").unwrap();
        assert!(matches!(judged(), Verdict::Failed(error) if error.message.contains("outcome.json")));
        assert!(!has_ended(dir.path()));
        std::fs::write(&outcome, r#"{"attempt": 1, "ok": true, "error": null}"#).unwrap();
        assert!(matches!(judged(), Verdict::Failed(error) if error.message.contains("document-1.json")));
        std::fs::write(dir.path().join(files::document(1)), "{\"epochs\": ").unwrap();
        assert!(matches!(judged(), Verdict::Failed(error) if error.message.contains("document-1.json")));
        assert!(!has_ended(dir.path()), "going on starts a worker, which continues from the last save");
        std::fs::write(dir.path().join(files::document(1)), "{\"epochs\": 3}").unwrap();
        assert!(matches!(judged(), Verdict::Done(_)));
        assert!(has_ended(dir.path()));
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
