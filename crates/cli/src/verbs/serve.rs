//! `onsa serve`: HTTP inference.
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use onsa_tune::engine::Place;
use onsa_tune::models::{Task, open};
use onsa_tune::train::recipe::CLASSIFY_IMGSZ;
use onsa_tune::train::recipe::table::{self, ArgumentError, any};
use serde_json::json;

use super::{Verb, nothing_more};
use crate::arguments::Invocation;
use crate::failure::Failure;
use crate::output;
use crate::serve::accept;
use crate::serve::config::Config;
use crate::serve::metrics::Metrics;
use crate::serve::model::{Running, Served};
use crate::serve::routes::{Shared, router};

onsa_tune::arguments! {
    /// The arguments of `serve` that a person gave.
    ServeArgs,
    /// The arguments of `serve`.
    ServeArguments {
        "Serve" {
            /// The models: checkpoint files, separated by commas; NAME:FILE names one, else its file does. Required.
            model: String = String::new(), any;
            /// The address to listen on. One that other machines reach needs a key in the environment: ONSA_API_KEY.
            host: String = "127.0.0.1".to_owned(), any;
            /// The port; 0 takes a free one.
            port: u32 = 8080, port_number;
            /// Names by which the server may be addressed when there is no key, separated by commas; loopback always is.
            hosts: String = String::new(), any;
            /// The side of the network's input, in pixels: of a detector the long one, of a classifier both, by default those
            /// that it was trained at.
            imgsz: u32 = 640, table::image_size;
            /// Most pictures of a batch.
            batch: u32 = 8, table::at_least_one;
            /// How long a batch is waited for, in milliseconds.
            batch_wait: u32 = 2, any;
            /// Requests of a model under way; more are answered 429.
            queue: u32 = 32, table::at_least_one;
            /// Requests a second that one client address may make; 0: any number.
            rate: u32 = 0, any;
            /// Largest body, in megabytes.
            max_body: u32 = 20, table::at_least_one;
            /// Largest picture, in megapixels.
            max_pixels: u32 = 50, table::at_least_one;
            /// Seconds that a client has for its headers, and again for its body.
            timeout: u32 = 10, table::at_least_one;
            /// Connections at a time.
            connections: u32 = 512, table::at_least_one;
            /// Where to compute: auto (a GPU where one can be used), cpu, cuda or cuda:N.
            device: Option<String> = None, any;
            /// Compute in bfloat16 on a GPU; otherwise, and on the processor always, in float32.
            half: bool = false, any;
            /// Compute threads; by default all that the machine has.
            threads: Option<u32> = None, table::at_least_one_or_none;
            /// End when standard input ends too: for a program that starts this one and must not leave it behind.
            until_eof: bool = false, any;
        }
    }
}

fn port_number(value: &u32) -> table::Check {
    if *value <= u32::from(u16::MAX) { Ok(()) } else { Err("from 0 to 65535") }
}

/// The verb.
pub const VERB: Verb = Verb {
    name: "serve",
    about: "Answer over HTTP: a picture in, JSON out",
    positional: None,
    tables: &[ServeArgs::TABLE],
    also_known: nothing_more,
    examples: &[
        "onsa serve model=runs/detect/train/weights/best.safetensors",
        "curl --data-binary @photo.jpg http://127.0.0.1:8080/v1/predict",
        "ONSA_API_KEY=$(openssl rand -hex 16) onsa serve model=trees:best.safetensors host=0.0.0.0",
    ],
    run,
};

/// How long requests under way are waited for at the end.
const GRACE: Duration = Duration::from_secs(30);

fn run(invocation: &Invocation) -> Result<ExitCode, Failure> {
    let mut args = ServeArgs::default();
    invocation.each(|name, text| args.set(name, text))?;
    let o = args.fill();
    if o.model.is_empty() {
        return Err(ArgumentError::Missing { name: "model", example: "model=best.safetensors" }.into());
    }
    let ip: IpAddr = o.host.trim_matches(['[', ']']).parse().map_err(|_| {
        Failure::usage(format!("host={} is no address", o.host)).hint("give one such as 127.0.0.1 or 0.0.0.0")
    })?;
    let config = Config {
        address: SocketAddr::new(ip, o.port as u16),
        key: std::env::var("ONSA_API_KEY").ok().filter(|key| !key.is_empty()),
        hosts: list(&o.hosts),
        max_body: o.max_body as usize * 1_000_000,
        max_pixels: u64::from(o.max_pixels) * 1_000_000,
        queue: o.queue as usize,
        batch: o.batch as usize,
        gather: Duration::from_millis(u64::from(o.batch_wait)),
        rate: o.rate,
        patience: Duration::from_secs(u64::from(o.timeout)),
        connections: o.connections as usize,
        grace: GRACE,
    };
    config.check()?;
    let metrics = Arc::new(Metrics::default());
    let models = start(&o, args.imgsz, &config, &metrics)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::from_error(&e))?;
    runtime.block_on(serve(config, models, metrics, o.until_eof, invocation.json))
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(|part| part.trim().to_owned()).filter(|part| !part.is_empty()).collect()
}

/// Opens the models and starts their threads. `imgsz`: what a person gave.
fn start(
    o: &ServeArguments,
    imgsz: Option<u32>,
    config: &Config,
    metrics: &Arc<Metrics>,
) -> Result<Vec<Served>, Failure> {
    let place = super::place(o.device.as_deref(), o.half, o.threads)?;
    let running = Running { queue: config.queue, batch: config.batch, gather: config.gather };
    let mut models: Vec<Served> = Vec::new();
    for given in list(&o.model) {
        let (name, file) = match given.split_once(':') {
            Some((name, file)) if !name.is_empty() && !Path::new(&given).exists() => {
                (name.to_owned(), file.to_owned())
            }
            _ => {
                let stem = Path::new(&given).file_stem().unwrap_or_default();
                (stem.to_string_lossy().into_owned(), given.clone())
            }
        };
        if models.iter().any(|m| m.name == name) {
            return Err(Failure::usage(format!("two models are named {name}"))
                .hint("name them: model=a:one.safetensors,b:two.safetensors"));
        }
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)) {
            return Err(Failure::usage(format!(
                "a model's name has letters, digits, `.`, `_` and `-`, unlike `{name}`"
            ))
            .hint("name it: model=NAME:FILE"));
        }
        let source = open::find(&file, &open::default_folders(), true)?;
        let side = match source.task() {
            Some(Task::Classify) => imgsz.or(source.imgsz()).unwrap_or(CLASSIFY_IMGSZ),
            _ => o.imgsz,
        } as usize;
        let opened = open::open(&source, None, [side, side], true, 0)?;
        let place = match (&place, opened.model.architecture.image_channels) {
            // Not computed on a GPU yet: the processor takes it, or an error says so.
            (Place::Gpu(..), channels) if channels != 3 => {
                super::place_for(&opened.model, (o.device.as_deref(), o.half, o.threads))?
            }
            (place, _) => place.clone(),
        };
        let served = Served::start(name, &opened, side, running, place, Arc::clone(metrics))
            .map_err(|e| Failure::from_error(&e))?;
        models.push(served);
    }
    Ok(models)
}

async fn serve(
    config: Config,
    models: Vec<Served>,
    metrics: Arc<Metrics>,
    until_eof: bool,
    json: bool,
) -> Result<ExitCode, Failure> {
    let listener = tokio::net::TcpListener::bind(config.address).await.map_err(|e| {
        Failure::failed(format!("cannot listen on {}: {e}", config.address))
            .hint("choose another port=, or port=0 for a free one")
    })?;
    let address = listener.local_addr().map_err(|e| Failure::from_error(&e))?;
    let names: Vec<String> = models.iter().map(|m| m.name.clone()).collect();
    let config = Config { address, ..config };
    if json {
        output::document(&json!({"address": address.to_string(), "models": names}));
    } else {
        output::line(&format!("{} on http://{address}", names.join(", ")));
        output::note(&format!("POST a picture to http://{address}/v1/predict; Ctrl-C stops."));
    }
    let signal = stop_signal()?;
    let stop = async move {
        tokio::select! {
            () = signal => {}
            () = input_ended(), if until_eof => {}
        }
    };
    let shared = Arc::new(Shared::new(config, models, metrics));
    let cut_off = accept::serve(listener, router(Arc::clone(&shared)), &shared, stop).await;
    if cut_off > 0 {
        return Err(Failure::failed(format!("{cut_off} requests were not answered in time at the end")));
    }
    output::note("Stopped; every request was answered.");
    Ok(ExitCode::SUCCESS)
}

/// Ready when standard input has ended, which it does at the latest with the program that holds its other end.
async fn input_ended() {
    let (held, ended) = tokio::sync::oneshot::channel::<()>();
    // A thread of its own: reading standard input cannot be called off.
    std::thread::spawn(move || {
        // An input that cannot be read has ended, too.
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        drop(held);
    });
    let _ = ended.await;
}

/// Ready at the first Ctrl-C or SIGTERM.
fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        let mut term = signal(SignalKind::terminate()).map_err(|e| Failure::from_error(&e))?;
        let mut int = signal(SignalKind::interrupt()).map_err(|e| Failure::from_error(&e))?;
        Ok(async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
        })
    }
    #[cfg(not(unix))]
    {
        Ok(async {
            if tokio::signal::ctrl_c().await.is_err() {
                // Without a handler the system itself ends the process.
                std::future::pending::<()>().await;
            }
        })
    }
}
