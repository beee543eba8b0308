//! Starts jobs in the order in which they were queued, and finds those again that an earlier studio left.
use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};
use tokio::task::JoinSet;

use super::record::{self, Job, State};
use super::supervise::{self, Worker, conclude, follow};
use crate::protocol::{ATTEMPT, Event, JOB, files, reasons};
use crate::store::now;
use crate::{App, Problem};

/// The queue looks at the database this often even if nobody wakes it.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Most epochs of a run.
const MOST_EPOCHS: u32 = 100_000;
/// A studio that ends waits this long for its workers to save.
const FAREWELL: Duration = Duration::from_secs(30);

/// Works the queue until it is aborted.
pub async fn run(app: App) {
    let mut workers = JoinSet::new();
    let going = app.store.read(|c| {
        let mut ids = record::in_state(c, State::Running)?;
        ids.extend(record::in_state(c, State::Stopping)?);
        Ok(ids)
    });
    let going = going.await.unwrap_or_else(|problem| {
        eprintln!("error: the runs of the last start cannot be taken up: {problem}");
        Vec::new()
    });
    for id in going {
        // Alive or not: following a dead worker concludes its job at once.
        workers.spawn(follow(app.clone(), id, Worker::Adopted, 0));
    }
    loop {
        while workers.len() < app.config.at_once {
            match start_next(&app).await {
                Ok(Some((id, worker, from))) => {
                    workers.spawn(follow(app.clone(), id, worker, from));
                    app.tell(Event::Job { job: id });
                }
                Ok(None) => break,
                Err(problem) => {
                    eprintln!("error: the next run cannot be started: {problem}");
                    break;
                }
            }
        }
        tokio::select! {
            () = app.wake.notified() => {}
            Some(_) = workers.join_next(), if !workers.is_empty() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Starts the oldest queued job.
async fn start_next(app: &App) -> Result<Option<(i64, Worker, u64)>, Problem> {
    let claimed = app.store.write(|t| {
        let Some(id) = record::in_state(t, State::Queued)?.first().copied() else { return Ok(None) };
        t.execute(
            "UPDATE jobs SET attempt = attempt + 1, started = coalesce(started, ?2), finished = NULL WHERE id = ?1",
            (id, now()),
        )?;
        record::change(t, id, &[State::Queued], State::Running)?;
        match record::get(t, id) {
            Ok(job) => Ok(Some(job)),
            Err(problem) => {
                // Its own record is damaged: it must not stand in the way of those behind it.
                eprintln!("error: run {id} cannot be started: {problem}");
                record::change(t, id, &[State::Running], State::Failed)?;
                Ok(None)
            }
        }
    });
    let Some(job) = claimed.await? else { return Ok(None) };
    let dir = super::folder(app, job.id);
    let from = std::fs::metadata(dir.join(files::PROGRESS)).map_or(0, |data| data.len());
    let worker = match clear(&dir) {
        Cleared::Alive | Cleared::Ended => Worker::Adopted,
        Cleared::Ready => match spawn(app, &job, &dir) {
            Ok(child) => Worker::Child(child),
            Err(problem) => {
                supervise::fail(app, job.id, problem).await;
                return Ok(None);
            }
        },
    };
    Ok(Some((job.id, worker, from)))
}

enum Cleared {
    /// A worker of an earlier studio is at work.
    Alive,
    /// One has ended meanwhile; its outcome is to be taken.
    Ended,
    /// A worker can start.
    Ready,
}

/// Takes away what an earlier stop left. The lock is held meanwhile, so that no worker starts in between.
fn clear(dir: &Path) -> Cleared {
    let lock = std::fs::create_dir_all(dir)
        .and_then(|()| OpenOptions::new().create(true).append(true).open(dir.join(files::LOCK)));
    let Ok(lock) = lock else { return Cleared::Ready };
    if matches!(lock.try_lock(), Err(std::fs::TryLockError::WouldBlock)) {
        return Cleared::Alive;
    }
    if supervise::has_ended(dir) {
        return Cleared::Ended;
    }
    for name in [files::OUTCOME, files::STOP] {
        // Missing is as good as removed.
        let _ = std::fs::remove_file(dir.join(name));
    }
    Cleared::Ready
}

fn spawn(app: &App, job: &Job, dir: &Path) -> Result<Child, Problem> {
    let run = dir.join(files::RUN);
    let mut command = Command::new(&app.config.program);
    if run.join("checkpoint/state.safetensors").is_file() {
        // As many as it was begun with, unless the person asked for more since.
        command.arg("resume").arg(&run).arg(format!("epochs={}", job.epochs));
    } else {
        command.arg("train").arg(format!("model={}", job.model));
        command.arg(format!("data={}", data_of(app, job)?));
        command
            .arg(format!("project={}", dir.display()))
            .arg(format!("name={}", files::RUN))
            .arg("exist_ok=true");
        for (name, text) in &job.arguments {
            command.arg(format!("{name}={text}"));
        }
    }
    let document = dir.join(files::document(job.attempt));
    let document = File::create(&document).map_err(|e| Problem::path("cannot write", &document, &e))?;
    let log = dir.join(files::LOG);
    let log = OpenOptions::new().create(true).append(true).open(&log);
    let log = log.map_err(|e| Problem::path("cannot write the log of", dir, &e))?;
    command.arg("--json").env(JOB, dir).env(ATTEMPT, job.attempt.to_string());
    command.stdin(Stdio::null()).stdout(document).stderr(log);
    // Ctrl-C at the studio's terminal is for the studio, which then asks its workers to save.
    #[cfg(unix)]
    command.process_group(0);
    command.spawn().map_err(|e| Problem::path("cannot start", &app.config.program, &e))
}

/// What a job trains on: the data.yaml of its version, or its folder.
fn data_of(app: &App, job: &Job) -> Result<String, Problem> {
    let Some(data) = &job.data else {
        return Err(Problem::missing("the data set of this run was deleted"));
    };
    let version = data.version;
    let root: String = app.store.read_now(|c| {
        Ok(c.query_row("SELECT root FROM versions WHERE id = ?1", [version], |row| row.get(0))?)
    })?;
    let (root, boxes) = (Path::new(&root), Path::new(&root).join("data.yaml"));
    // Pictures with one class each lie in folders of their classes.
    Ok(if boxes.is_file() { boxes.display().to_string() } else { root.display().to_string() })
}

/// Asks a job's worker to stop, or takes a queued one out of the queue.
///
/// # Errors
/// The job is neither queued nor running.
pub async fn stop(app: &App, id: i64, at_once: bool) -> Result<(), Problem> {
    let dir = super::folder(app, id);
    let stopped = app.store.write(move |t| {
        if record::change(t, id, &[State::Queued], State::Stopped)? {
            return Ok(true);
        }
        if record::change(t, id, &[State::Running, State::Stopping], State::Stopping)? {
            return Ok(false);
        }
        record::get(t, id)?;
        Err(Problem::conflict("the run is not running"))
    });
    if !stopped.await? {
        ask(&dir, if at_once { reasons::NOW } else { reasons::PERSON })?;
    }
    app.tell(Event::Job { job: id });
    Ok(())
}

fn ask(dir: &Path, reason: &str) -> Result<(), Problem> {
    Ok(onsa_tune::durable::write(&dir.join(files::STOP), reason.as_bytes())?)
}

/// Puts a stopped or failed job back into the queue.
///
/// # Errors
/// The job is neither.
pub async fn resume(app: &App, id: i64) -> Result<(), Problem> {
    let resumed = app.store.write(move |t| {
        t.execute("UPDATE jobs SET crashes = 0 WHERE id = ?1", [id])?;
        if record::change(t, id, &[State::Stopped, State::Failed], State::Queued)? {
            return Ok(());
        }
        record::get(t, id)?;
        Err(Problem::conflict("only a stopped or failed run can be resumed"))
    });
    resumed.await?;
    app.tell(Event::Job { job: id });
    app.wake.notify_one();
    Ok(())
}

/// Puts a run that has ended back into the queue, to train on to `epochs` in all.
///
/// # Errors
/// It has not ended, has done as many already, or its checkpoint is gone.
pub async fn extend(app: &App, id: i64, epochs: u32) -> Result<(), Problem> {
    let job = app.store.read(move |c| record::get(c, id)).await?;
    if epochs <= job.epochs_done {
        return Err(Problem::invalid(format!(
            "the run has done {} passes: ask for more in all",
            job.epochs_done
        )));
    }
    if epochs > MOST_EPOCHS {
        return Err(Problem::invalid(format!("at most {MOST_EPOCHS} passes in all")));
    }
    let dir = super::folder(app, id);
    if !dir.join(files::RUN).join("checkpoint/state.safetensors").is_file() {
        return Err(
            Problem::conflict("the run has no save to go on from").hint("start a new run from its model")
        );
    }
    let extended = app.store.write(move |t| {
        let ended = [State::Done, State::Stopped, State::Failed];
        if !record::change(t, id, &ended, State::Queued)? {
            return Err(Problem::conflict("the run has not ended: stop it first"));
        }
        t.execute("UPDATE jobs SET crashes = 0, epochs = ?2 WHERE id = ?1", (id, epochs))?;
        // Under the same transaction: with the old outcome there, the next worker would count as ended.
        match std::fs::remove_file(dir.join(files::OUTCOME)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(Problem::path("cannot remove the outcome in", &dir, &e))
            }
            _ => Ok(()),
        }
    });
    extended.await?;
    app.tell(Event::Job { job: id });
    app.wake.notify_one();
    Ok(())
}

/// Asks every worker to save and end, and waits for it: the jobs go on at the next start.
///
/// # Errors
/// The database refuses.
pub async fn shut_down(app: &App) -> Result<(), Problem> {
    let ids = app.store.read(|c| record::in_state(c, State::Running)).await?;
    for id in &ids {
        ask(&super::folder(app, *id), reasons::SHUTDOWN)?;
    }
    let began = Instant::now();
    for id in ids {
        let dir = super::folder(app, id);
        while supervise::is_locked(&dir) && began.elapsed() < FAREWELL {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        if !supervise::is_locked(&dir) {
            conclude(app, id, None).await?;
        }
    }
    Ok(())
}
