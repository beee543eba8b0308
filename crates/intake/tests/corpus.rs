//! Replays the committed corpus of malicious and awkward files: each is read or refused as its name says, without a
//! panic, within 512 MiB and 10 s. One test, so that nothing else in this process allocates meanwhile.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[path = "../../../fuzz/src/targets.rs"]
mod targets;

const MOST_MEMORY: u64 = 512 << 20;
const MOST_TIME: Duration = Duration::from_secs(10);

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap_or_else(|e| panic!("{}: {e}", folder.display()))
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
}

/// Peak resident bytes that `run` adds; 0 where the system does not say.
fn peak(run: impl FnOnce()) -> u64 {
    let status = |field: &str| -> Option<u64> {
        let text = std::fs::read_to_string("/proc/self/status").ok()?;
        let line = text.lines().find(|l| l.starts_with(field))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    };
    // 5 resets the peak to what is resident now.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    let before = status("VmRSS:");
    run();
    status("VmHWM:").zip(before).map_or(0, |(after, before)| after.saturating_sub(before))
}

#[test]
fn every_file_of_the_corpus_is_read_or_refused_as_its_name_says() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    let mut wrong = Vec::new();
    let (mut count, mut most_memory, mut most_time) = (0, 0, Duration::ZERO);
    for (name, target) in targets::TARGETS {
        for path in files(&corpus.join(name)) {
            let data = std::fs::read(&path).unwrap();
            let file = path.file_name().unwrap().to_string_lossy().into_owned();
            let begun = Instant::now();
            let mut verdict = Ok(());
            let memory = peak(|| verdict = target(&data));
            let time = begun.elapsed();
            count += 1;
            (most_memory, most_time) = (memory.max(most_memory), time.max(most_time));
            if memory > MOST_MEMORY || time > MOST_TIME {
                wrong.push(format!("{name}/{file}: {} MiB, {time:?}", memory >> 20));
            }
            match (&verdict, file.split('_').next().unwrap()) {
                (Ok(()), "read" | "any") | (Err(_), "any") => {}
                (Err(message), "refused") if !message.is_empty() => {}
                (Ok(()), _) => wrong.push(format!("{name}/{file}: read, not refused")),
                (Err(message), _) => wrong.push(format!("{name}/{file}: refused: {message}")),
            }
        }
    }
    println!("{count} files, at most {} MiB and {most_time:?} a file", most_memory >> 20);
    assert!(count >= 400, "only {count} files: is the corpus complete?");
    assert!(wrong.is_empty(), "{} of {count} files:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_target_has_its_corpus_and_its_fuzz_target() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let names = |folder: &str| -> Vec<String> {
        let stem = |p: PathBuf| p.file_stem().unwrap().to_string_lossy().into_owned();
        files(&fuzz.join(folder)).into_iter().map(stem).collect()
    };
    let expected: Vec<&str> = targets::TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names("corpus"), expected);
    assert_eq!(names("fuzz_targets"), expected);
}
