//! One process of an endpoint, from its start to its end.
use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, Command};
use tokio::sync::Notify;

use crate::library::{models::Model, program};
use crate::{App, Problem};

/// Longest that loading a model may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// A process that was told to end has so long to answer what is under way.
const GRACE: Duration = Duration::from_secs(35);
/// Lines of stderr that are kept to say why a process failed.
const LAST_WORDS: usize = 40;

/// What is to be started.
pub(super) struct Wish<'a> {
    pub model: &'a Model,
    pub key: &'a str,
    /// 0: any free one.
    pub port: u16,
}

/// Runs a process until it is told to stop. `answers` is called with its address once it can be asked.
///
/// # Errors
/// It cannot be started, or it ended without being told to.
pub(super) async fn run(
    app: &App,
    wish: Wish<'_>,
    stop: &Notify,
    answers: impl FnOnce(SocketAddr),
) -> Result<(), Problem> {
    let mut child = spawn(app, &wish)?;
    let words = last_words(child.stderr.take());
    // Held here, for waiting for a child closes what it holds of it, and the process ends when its input does.
    let input = child.stdin.take();
    let address = tokio::select! {
        () = stop.notified() => return end(child, input).await,
        address = tokio::time::timeout(PATIENCE, address(&mut child)) => address,
    };
    match address {
        Ok(Some(address)) => answers(address),
        Ok(None) => {
            let status = child.wait().await.map_err(|e| Problem::internal("the endpoint's process", &e))?;
            return Err(ended(app, &words, status).await);
        }
        Err(_) => {
            return Err(Problem::conflict(format!(
                "the model was not loaded within {} s",
                PATIENCE.as_secs()
            )));
        }
    }
    tokio::select! {
        () = stop.notified() => end(child, input).await,
        status = child.wait() => {
            let status = status.map_err(|e| Problem::internal("the endpoint's process", &e))?;
            Err(ended(app, &words, status).await)
        }
    }
}

fn spawn(app: &App, wish: &Wish<'_>) -> Result<Child, Problem> {
    let path = &wish.model.path;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Problem::invalid("the model has no file"));
    };
    let mut command = Command::new(&app.config.program);
    command
        .arg("serve")
        // The folder's path may hold characters that separate models; the file's name alone does not.
        .arg(format!("model=model:{}", name.to_string_lossy()))
        .current_dir(folder)
        .arg(format!("port={}", wish.port))
        // Where the file does not say, `onsa serve` knows what its kind is made for.
        .args(wish.model.about.imgsz.map(|[h, w]| format!("imgsz={}", h.max(w))))
        .args(["host=127.0.0.1", "until_eof=true", "--json"])
        .env("ONSA_API_KEY", wish.key)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    // Ctrl-C at the studio's terminal is for the studio.
    #[cfg(unix)]
    command.process_group(0);
    command.spawn().map_err(|e| Problem::path("cannot start", &app.config.program, &e))
}

/// The address in the document that the process prints when it listens; none where it ends before.
async fn address(child: &mut Child) -> Option<SocketAddr> {
    let mut lines = BufReader::new(child.stdout.as_mut()?).lines();
    let mut text = String::new();
    while let Ok(Some(line)) = lines.next_line().await {
        text.push_str(&line);
        if let Ok(document) = serde_json::from_str::<serde_json::Value>(&text) {
            return document["address"].as_str()?.parse().ok();
        }
    }
    None
}

/// Collects what the process says on stderr, so that it never waits for a reader.
fn last_words(stderr: Option<ChildStderr>) -> Arc<Mutex<Vec<String>>> {
    let words = Arc::new(Mutex::new(Vec::new()));
    if let Some(stderr) = stderr {
        let kept = Arc::clone(&words);
        tokio::spawn(async move {
            let mut lines = BufReader::new(stderr).lines();
            while let Ok(Some(line)) = lines.next_line().await {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() == LAST_WORDS {
                    kept.remove(0);
                }
                kept.push(line);
            }
        });
    }
    words
}

/// What a process that ended by itself said.
async fn ended(app: &App, words: &Mutex<Vec<String>>, status: ExitStatus) -> Problem {
    // Its last lines are on their way through the pipe.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let text = words.lock().unwrap_or_else(PoisonError::into_inner).join("\n");
    program::failure(&text, &app.config.dir, &status.to_string())
}

/// Closes the process's standard input, which tells it to end, and waits.
async fn end(mut child: Child, input: Option<ChildStdin>) -> Result<(), Problem> {
    drop(input);
    if tokio::time::timeout(GRACE, child.wait()).await.is_err() {
        // It was asked and did not: nothing of it is worth keeping.
        let _ = child.kill().await;
    }
    Ok(())
}
