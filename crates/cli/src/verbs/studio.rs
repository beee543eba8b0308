//! `onsa studio`: fine-tuning in a browser.
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use onsa_studio::{Config, Problem, Studio};
use onsa_tune::models::open;
use onsa_tune::train::recipe::table::any;

use super::{Verb, nothing_more};
use crate::arguments::Invocation;
use crate::failure::Failure;
use crate::output;

onsa_tune::arguments! {
    /// The arguments of `studio` that a person gave.
    StudioArgs,
    /// The arguments of `studio`.
    StudioSettings {
        "Studio" {
            /// The port on this machine; 0 takes any free one.
            port: u32 = 8787, port_number;
            /// The folder for the database, data sets, models and runs.
            dir: PathBuf = PathBuf::from("onsa-studio"), any;
            /// Folders that data sets may be taken from, separated by commas.
            roots: String = ".".to_owned(), any;
            /// The address to listen on; only addresses of this machine itself are allowed.
            host: String = "127.0.0.1".to_owned(), any;
            /// Trainings that run at once.
            jobs: u32 = 1, onsa_tune::train::recipe::table::at_least_one;
        }
    }
}

/// The verb.
pub const VERB: Verb = Verb {
    name: "studio",
    about: "Fine-tune in a browser: data sets, training, comparison, trial",
    positional: None,
    tables: &[StudioArgs::TABLE],
    also_known: nothing_more,
    examples: &["onsa studio", "onsa studio port=0 dir=my-studio roots=photos,/data"],
    run,
};

fn port_number(port: &u32) -> onsa_tune::train::recipe::table::Check {
    if *port <= u32::from(u16::MAX) { Ok(()) } else { Err("from 0 to 65535") }
}

fn run(invocation: &Invocation) -> Result<ExitCode, Failure> {
    let mut args = StudioArgs::default();
    invocation.each(|name, text| args.set(name, text))?;
    let settings = args.fill();
    let host: IpAddr = settings.host.parse().map_err(|_| {
        Failure::usage(format!("host={} is not an address", settings.host)).hint("leave it at 127.0.0.1")
    })?;
    let program = std::env::current_exe().map_err(|e| Failure::from_error(&e))?;
    let port = u16::try_from(settings.port).expect("the table allows ports only");
    let mut config = Config::new(&settings.dir, host, port, program)?;
    for root in settings.roots.split(',').filter(|root| !root.is_empty()) {
        config.allow(root.as_ref())?;
    }
    config.at_once = settings.jobs as usize;
    // The current folder is for data; models are looked for where `onsa demo` keeps them.
    config.assets = open::default_folders().into_iter().filter(|folder| folder.is_absolute()).collect();
    config.exports = super::find("export").is_ok();
    let runtime = tokio::runtime::Runtime::new().map_err(|e| Failure::from_error(&e))?;
    runtime.block_on(async {
        let studio = Studio::bind(config).await?;
        let link = studio.app.config.link();
        if invocation.json {
            output::document(&serde_json::json!({ "address": link }));
        } else {
            output::line(&format!(
                "The studio is at\n\n  {link}\n\nCtrl-C ends it; runs save and go on at the next start."
            ));
        }
        onsa_studio::serve(studio, interrupted()).await
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Resolves at Ctrl-C or SIGTERM.
async fn interrupted() {
    let interrupt = tokio::signal::ctrl_c();
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => tokio::select! {
                _ = interrupt => {}
                _ = terminate.recv() => {}
            },
            Err(_) => drop(interrupt.await),
        }
    }
    #[cfg(not(unix))]
    drop(interrupt.await);
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Failure {
        let failure = Failure::failed(problem.message);
        match problem.hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}
