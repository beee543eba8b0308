//! Fuzzes without libFuzzer, on any toolchain: mutates corpus files and hands them to a target.
//!
//!     cargo run --release --bin mutate -- TARGET SECONDS [SEED] [MORE_SEEDS_FOLDER]
//!
//! A panic, more than 512 MiB or more than 10 s ends the run with exit code 1; the input is then written to
//! artifacts/TARGET-N. Equal seeds give equal inputs.
#![allow(clippy::unwrap_used, reason = "a tool for developers")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use onsa_fuzz::targets::TARGETS;

const MOST_MEMORY: u64 = 512 << 20;
const MOST_TIME: Duration = Duration::from_secs(10);
/// Larger seeds would spend the time on copying.
const LARGEST_SEED: u64 = 64 << 10;

/// SplitMix64 (Steele, Lea & Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// Numbers at which parsers err.
const EDGES: [u64; 12] =
    [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0x8000_0000, 0xFFFF_FFFF, 1 << 63, u64::MAX];

fn mutate(data: &mut Vec<u8>, seeds: &[Vec<u8>], random: &mut Random) {
    for _ in 0..=random.below(5) {
        let at = random.below(data.len() + 1);
        match random.below(9) {
            0 if !data.is_empty() => {
                let at = at % data.len();
                data[at] ^= 1 << random.below(8);
            }
            1 if !data.is_empty() => {
                let at = at % data.len();
                data[at] = random.next() as u8;
            }
            2 => data.truncate(at),
            3 => data.insert(at, random.next() as u8),
            4 => {
                let end = (at + 1 + random.below(16)).min(data.len());
                data.drain(at.min(end)..end);
            }
            5 | 6 => {
                let value =
                    EDGES[random.below(EDGES.len())].wrapping_add(random.below(3) as u64).wrapping_sub(1);
                let width = 1 << random.below(4);
                let mut bytes = value.to_le_bytes()[..width].to_vec();
                if random.below(2) == 0 {
                    bytes.reverse();
                }
                for (i, byte) in bytes.into_iter().enumerate() {
                    if let Some(place) = data.get_mut(at + i) {
                        *place = byte;
                    }
                }
            }
            7 => {
                // A piece of another seed.
                let other = &seeds[random.below(seeds.len())];
                let from = random.below(other.len() + 1);
                let piece = &other[from..(from + random.below(64)).min(other.len())];
                data.splice(at..at, piece.iter().copied());
            }
            _ => {
                // A piece of itself, again.
                let from = random.below(data.len() + 1);
                let piece = data[from..(from + random.below(64)).min(data.len())].to_vec();
                data.splice(at..at, piece);
            }
        }
    }
}

fn peak() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with("VmHWM:"));
    line.and_then(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok()).unwrap_or(0) * 1024
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|f| f.metadata().is_ok_and(|m| m.is_file() && m.len() <= LARGEST_SEED));
    files.sort();
    files
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let found = args.first().and_then(|name| TARGETS.iter().find(|(n, _)| n == name));
    let (Some((name, target)), Some(seconds)) = (found, args.get(1).and_then(|s| s.parse().ok())) else {
        eprintln!(
            "usage: mutate TARGET SECONDS [SEED] [MORE_SEEDS_FOLDER]; targets: {:?}",
            TARGETS.map(|t| t.0)
        );
        return ExitCode::from(2);
    };
    let seed = args.get(2).map_or(0, |s| s.parse().unwrap());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = files(&root.join("corpus").join(name));
    paths.extend(args.get(3).map(|folder| files(Path::new(folder))).unwrap_or_default());
    let seeds: Vec<Vec<u8>> = paths.iter().map(|p| std::fs::read(p).unwrap()).collect();
    let mut random = Random(seed);
    let (begun, limit) = (Instant::now(), Duration::from_secs(seconds));
    let (mut runs, mut read, mut slowest) = (0u64, 0u64, Duration::ZERO);
    let base = peak();
    while begun.elapsed() < limit {
        let mut data = seeds[random.below(seeds.len())].clone();
        mutate(&mut data, &seeds, &mut random);
        let start = Instant::now();
        let verdict = catch_unwind(AssertUnwindSafe(|| target(&data)));
        let (took, memory) = (start.elapsed(), peak().saturating_sub(base));
        runs += 1;
        slowest = slowest.max(took);
        if verdict.is_err() || took > MOST_TIME || memory > MOST_MEMORY {
            let artifact = root.join(format!("artifacts/{name}-{runs}"));
            std::fs::create_dir_all(root.join("artifacts")).unwrap();
            std::fs::write(&artifact, &data).unwrap();
            println!(
                "{name}: run {runs}: panicked: {}, {took:?}, {} MiB: {}",
                verdict.is_err(),
                memory >> 20,
                artifact.display()
            );
            return ExitCode::FAILURE;
        }
        read += u64::from(verdict.is_ok_and(|v| v.is_ok()));
    }
    println!(
        "{name}: {runs} runs in {} s, {read} read, the rest refused; 0 panics, slowest {slowest:?}, peak {} MiB",
        begun.elapsed().as_secs(),
        peak().saturating_sub(base) >> 20
    );
    ExitCode::SUCCESS
}
