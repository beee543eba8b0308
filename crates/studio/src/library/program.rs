//! One-off work in a process of its own: what reads a file from outside must not be able to take the studio down.
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use crate::{App, Problem};

/// Longest that a trial, an inspection or an export may take.
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs `onsa ARGUMENTS --json` and gives its document.
///
/// # Errors
/// What the command said on stderr, with its hint.
pub async fn onsa(app: &App, arguments: &[String]) -> Result<Value, Problem> {
    let _turn = app.trials.acquire().await.map_err(|e| Problem::internal("the studio ends", &e))?;
    let mut command = Command::new(&app.config.program);
    command.args(arguments).arg("--json").current_dir(&app.config.dir);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let output = tokio::time::timeout(PATIENCE, command.output()).await;
    let output = output
        .map_err(|_| Problem::conflict(format!("this took longer than {} minutes", PATIENCE.as_secs() / 60)))?
        .map_err(|e| Problem::path("cannot start", &app.config.program, &e))?;
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout)?);
    }
    Err(failure(&String::from_utf8_lossy(&output.stderr), &app.config.dir, &output.status.to_string()))
}

/// What a command that failed said: `error: ...`, `cause: ...`, `hint: ...`.
pub(crate) fn failure(stderr: &str, dir: &Path, status: &str) -> Problem {
    // Paths inside the studio's folder mean nothing to a person in a browser.
    let inside = format!("{}/", dir.display());
    let said = |word: &str| {
        let lines = stderr.lines().filter_map(|line| line.trim().strip_prefix(word));
        lines.map(|text| text.trim().replace(&inside, "")).collect::<Vec<_>>().join(": ")
    };
    let (error, cause, hint) = (said("error:"), said("cause:"), said("hint:"));
    let message = match (error.is_empty(), cause.is_empty()) {
        (true, _) => format!("the process ended without a word: {status}"),
        (false, true) => error,
        (false, false) => format!("{error}: {cause}"),
    };
    let problem = Problem::invalid(message);
    if hint.is_empty() { problem } else { problem.hint(hint) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_words_become_the_problem() {
        let text =
            "predicting\nerror: /s/uploads/a.jpg: not an image\n  cause: bad magic\nhint: convert it\n";
        let problem = failure(text, Path::new("/s"), "exit status: 1");
        assert_eq!(problem.message, "uploads/a.jpg: not an image: bad magic");
        assert_eq!(problem.hint.as_deref(), Some("convert it"));
        assert!(failure("", Path::new("/s"), "signal: 9").message.contains("signal: 9"));
    }
}
