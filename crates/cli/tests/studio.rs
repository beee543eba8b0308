//! The studio and its workers, killed at random moments: no job is lost, none runs twice, no answered change is gone.
//!
//! `ONSA_KILLS=100 cargo test --release -p onsa --test studio` kills as often as that; by default it is 12 times.
#![allow(clippy::unwrap_used, reason = "helpers outside of test functions may fail the test, too")]
#![cfg(target_os = "linux")]
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const EPOCHS: u64 = 3;
const JOBS: usize = 4;

/// A studio process; dropping it kills it.
struct Studio {
    child: Child,
    address: String,
    token: String,
}

impl Studio {
    fn start(dir: &Path, root: &Path) -> Studio {
        let mut child = Command::new(env!("CARGO_BIN_EXE_onsa"))
            .args(["studio", "port=0", "--json"])
            .arg(format!("dir={}", dir.display()))
            .arg(format!("roots={}", root.display()))
            .env("ONSA_ASSETS", root)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut text = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        while serde_json::from_str::<Value>(&text).is_err() {
            assert!(lines.read_line(&mut text).unwrap() > 0, "the studio ended at its start: {text}");
        }
        let document: Value = serde_json::from_str(&text).unwrap();
        let link = document["address"].as_str().unwrap();
        let (address, token) = link.trim_start_matches("http://").split_once("/?token=").unwrap();
        Studio { child, address: address.to_owned(), token: token.to_owned() }
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let mut stream = TcpStream::connect(&self.address).map_err(|e| e.to_string())?;
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (host, token, length) = (&self.address, &self.token, body.len());
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
             Connection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        stream.write_all(text.as_bytes()).map_err(|e| e.to_string())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).map_err(|e| e.to_string())?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        if !head.starts_with("HTTP/1.1 200") {
            return Err(answer);
        }
        serde_json::from_str(body).map_err(|e| format!("{e}: {body}"))
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Studio {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Processes that work on a job below `dir`.
fn workers(dir: &Path) -> Vec<u32> {
    let marker = format!("ONSA_JOB={}/", dir.join("jobs").display());
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    ids.filter(|id| {
        std::fs::read(format!("/proc/{id}/environ"))
            .is_ok_and(|text| text.split(|b| *b == 0).any(|pair| pair.starts_with(marker.as_bytes())))
    })
    .collect()
}

fn kill(id: u32) {
    // It may have ended meanwhile.
    let _ = Command::new("kill").args(["-9", &id.to_string()]).stderr(Stdio::null()).status();
}

fn draw_data(root: &Path) {
    for i in 0..6_u32 {
        let split = if i < 4 { "train" } else { "val" };
        for kind in ["images", "labels"] {
            std::fs::create_dir_all(root.join("data").join(kind).join(split)).unwrap();
        }
        let picture = image::RgbImage::from_fn(48, 48, |x, y| {
            image::Rgb([(x * 5) as u8, (y * 5) as u8, (i * 40) as u8])
        });
        picture.save(root.join(format!("data/images/{split}/p{i}.png"))).unwrap();
        std::fs::write(root.join(format!("data/labels/{split}/p{i}.txt")), "0 0.5 0.5 0.5 0.5\n").unwrap();
    }
    std::fs::write(root.join("data/data.yaml"), "train: images/train\nval: images/val\nnames: [square]\n")
        .unwrap();
}

/// Small random numbers that differ from run to run; a failing run prints its seed.
struct Random(u64);

impl Random {
    fn below(&mut self, most: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % most.max(1)
    }
}

fn import(studio: &Studio) -> (i64, i64) {
    let top = studio.ask("GET", "/api/folders", &Value::Null).unwrap()["folders"][0]["id"].as_i64().unwrap();
    let listing = studio.ask("GET", &format!("/api/folders/{top}"), &Value::Null).unwrap();
    let folder = listing["folders"][0]["id"].as_i64().unwrap();
    let new = json!({"name": "squares", "from": {"folder": folder}});
    let id = studio.ask("POST", "/api/datasets", &new).unwrap()["id"].as_i64().unwrap();
    let began = Instant::now();
    loop {
        let versions = studio.ask("GET", &format!("/api/datasets/{id}/versions"), &Value::Null).unwrap();
        if versions["versions"].as_array().is_some_and(|all| !all.is_empty()) {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(100));
    }
    let page = studio.ask("GET", &format!("/api/datasets/{id}/images"), &Value::Null).unwrap();
    (id, page["images"][0]["id"].as_i64().unwrap())
}

fn queue(studio: &Studio, dataset: i64) -> i64 {
    let job = json!({
        "name": "squares", "dataset": dataset, "model": {"scratch": "yolov8n"}, "strategy": "expert",
        "arguments": [["epochs", EPOCHS.to_string()], ["imgsz", "32"], ["batch", "4"], ["workers", "1"], ["threads", "1"],
                      ["plots", "false"]],
    });
    studio.ask("POST", "/api/jobs", &job).unwrap()["id"].as_i64().unwrap()
}

fn state(studio: &Studio, job: i64) -> Value {
    studio.ask("GET", &format!("/api/jobs/{job}"), &Value::Null).unwrap()
}

fn wait_until_done(studio: &Studio, job: i64) {
    let began = Instant::now();
    loop {
        let job = state(studio, job);
        match job["state"].as_str().unwrap() {
            "done" => return,
            "queued" | "running" => {}
            other => panic!("{other}: {job}"),
        }
        assert!(began.elapsed() < Duration::from_secs(300), "{job}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Follows a job's own record: attempts begin where the last one had got to, epochs follow one another, and nothing
/// comes after the last.
fn check_record(dir: &Path, job: i64) {
    let text = std::fs::read_to_string(dir.join(format!("jobs/{job}/progress.jsonl"))).unwrap();
    // Starts since an epoch was last told: each may have been killed after saving one and before telling it.
    let (mut expected, mut seen, mut untold) = (1, 0, 0);
    for line in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        match line["type"].as_str() {
            Some("start") => {
                let first = line["first_epoch"].as_u64().unwrap();
                let allowed = seen + 1..=seen + 1 + untold;
                assert!(allowed.contains(&first), "job {job}: began at {first} after {seen}");
                untold += 1;
                expected = first;
            }
            Some("epoch") => {
                let epoch = line["epoch"].as_u64().unwrap();
                assert_eq!(epoch, expected, "job {job}: two workers at once, or an epoch twice");
                expected += 1;
                (seen, untold) = (epoch, 1);
            }
            _ => {}
        }
    }
    assert!(seen <= EPOCHS, "job {job} ran {seen} epochs");
    let outcome = std::fs::read_to_string(dir.join(format!("jobs/{job}/outcome.json"))).unwrap();
    assert!(outcome.contains("\"attempt\""), "{outcome}");
}

#[test]
fn killed_at_random_moments_the_studio_loses_no_job_and_runs_none_twice() {
    let kills: u32 = std::env::var("ONSA_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(12);
    let seed =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64 | 1;
    eprintln!("seed {seed}, {kills} kills");
    let mut random = Random(seed);
    let (dir, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let dir = dir.path().canonicalize().unwrap();
    draw_data(root.path());
    let mut studio = Studio::start(&dir, root.path());
    let (dataset, picture) = import(&studio);
    // How long a job takes here tells when to kill.
    let began = Instant::now();
    let mut jobs = vec![queue(&studio, dataset)];
    wait_until_done(&studio, jobs[0]);
    let whole = began.elapsed().as_millis() as u64;
    let mut boxes = json!([]);
    let mut done = 0;
    while done < kills {
        let waiting = jobs.iter().filter(|job| state(&studio, **job)["state"] != "done").count();
        for _ in waiting..JOBS {
            jobs.push(queue(&studio, dataset));
        }
        let now = studio.ask("GET", &format!("/api/images/{picture}"), &Value::Null).unwrap();
        assert!(done == 0 || now["boxes"] == boxes, "an answered change is gone: {now}");
        boxes = json!([[0, 0.5, 0.5, 0.25, f64::from(done + 1) / f64::from(kills + 1)]]);
        let revision = now["revision"].clone();
        let change = json!({"revision": revision, "boxes": boxes});
        studio.ask("PUT", &format!("/api/images/{picture}/boxes"), &change).unwrap();
        boxes = studio.ask("GET", &format!("/api/images/{picture}"), &Value::Null).unwrap()["boxes"].clone();
        std::thread::sleep(Duration::from_millis(random.below(whole)));
        let what = random.below(3);
        if what != 0 {
            workers(&dir).into_iter().for_each(kill);
        }
        if what != 1 {
            studio.kill();
            std::thread::sleep(Duration::from_millis(random.below(300)));
            studio = Studio::start(&dir, root.path());
        }
        done += 1;
    }
    for job in &jobs {
        wait_until_done(&studio, *job);
        check_record(&dir, *job);
    }
    // A model is taken in just after its run is called done.
    let began = Instant::now();
    let all = loop {
        let all = studio.ask("GET", "/api/jobs", &Value::Null).unwrap();
        let complete = all["jobs"].as_array().unwrap().iter().all(|job| job["result_model"].is_i64());
        if complete || began.elapsed() > Duration::from_secs(60) {
            break all;
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(all["jobs"].as_array().unwrap().len(), jobs.len());
    assert!(
        all["jobs"].as_array().unwrap().iter().all(|job| job["result_model"].is_i64()),
        "each has its model"
    );
}

#[test]
fn a_studio_that_is_asked_to_end_saves_its_run_and_goes_on_at_the_next_start() {
    let (dir, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    draw_data(root.path());
    let mut studio = Studio::start(dir.path(), root.path());
    let (dataset, _) = import(&studio);
    let job = queue(&studio, dataset);
    let began = Instant::now();
    while state(&studio, job)["state"] != "running" {
        assert!(began.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(20));
    }
    let second = Command::new(env!("CARGO_BIN_EXE_onsa"))
        .args(["studio", "port=0"])
        .arg(format!("dir={}", dir.path().display()))
        .output()
        .unwrap();
    assert!(!second.status.success());
    assert!(
        String::from_utf8_lossy(&second.stderr).contains("another studio uses"),
        "one folder has one studio"
    );
    let asked = Command::new("kill").arg(studio.child.id().to_string()).status().unwrap();
    assert!(asked.success());
    assert!(studio.child.wait().unwrap().success());
    assert!(workers(dir.path()).is_empty(), "no training goes on behind the person's back");
    let studio = Studio::start(dir.path(), root.path());
    wait_until_done(&studio, job);
    // Done, it can be made longer, and only longer.
    let extend =
        |epochs: u64| studio.ask("POST", &format!("/api/jobs/{job}/extend"), &json!({"epochs": epochs}));
    assert!(extend(EPOCHS).unwrap_err().contains("the run has done 3 passes"));
    extend(EPOCHS + 1).unwrap();
    wait_until_done(&studio, job);
    let longer = state(&studio, job);
    assert_eq!(
        (&longer["epochs"], &longer["epochs_done"]),
        (&json!(EPOCHS + 1), &json!(EPOCHS + 1)),
        "{longer}"
    );
}

/// A request to an endpoint: the status line and the body.
fn infer(address: &str, key: &str, picture: &[u8]) -> std::io::Result<String> {
    let host = address.trim_start_matches("http://");
    let mut stream = TcpStream::connect(host)?;
    let length = picture.len();
    write!(
        stream,
        "POST /v1/predict HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n"
    )?;
    stream.write_all(picture)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "it never came");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn an_endpoint_answers_with_its_key_comes_back_when_it_dies_and_never_outlives_the_studio() {
    let (dir, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    draw_data(root.path());
    let mut studio = Studio::start(dir.path(), root.path());
    let (dataset, _) = import(&studio);
    let job = queue(&studio, dataset);
    wait_until_done(&studio, job);
    let model = until(|| state(&studio, job)["result_model"].as_i64());
    let at = format!("/api/models/{model}/endpoint");
    assert!(studio.ask("GET", &at, &Value::Null).unwrap()["endpoint"].is_null());
    studio.ask("POST", &at, &Value::Null).unwrap();
    let running = |studio: &Studio| {
        let endpoint = studio.ask("GET", &at, &Value::Null).unwrap()["endpoint"].take();
        assert_ne!(endpoint["state"], "failed", "{endpoint}");
        (endpoint["state"] == "running").then_some(endpoint)
    };
    let endpoint = until(|| running(&studio));
    let again = studio.ask("POST", &at, &Value::Null).unwrap();
    assert_eq!(again["key"], endpoint["key"], "one that runs is not started twice");
    let (address, key) = (endpoint["address"].as_str().unwrap(), endpoint["key"].as_str().unwrap());
    assert!(address.starts_with("http://127.0.0.1:") && key.len() >= 32, "{endpoint}");
    let picture = std::fs::read(root.path().join("data/images/val/p4.png")).unwrap();
    assert!(infer(address, key, &picture).unwrap().starts_with("HTTP/1.1 200"));
    assert!(
        infer(address, "A-key-of-somebody-else-of-that-length", &picture)
            .unwrap()
            .starts_with("HTTP/1.1 401")
    );
    let counted = studio.ask("GET", &at, &Value::Null).unwrap();
    assert_eq!((&counted["endpoint"]["answered"], &counted["endpoint"]["refused"]), (&json!(1), &json!(1)));
    // The key is in the process's environment, not in what other users of the machine can list.
    let marker = format!("ONSA_API_KEY={key}");
    let processes = || {
        let all = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
        all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
            .filter(|id| {
                std::fs::read(format!("/proc/{id}/environ"))
                    .is_ok_and(|text| text.split(|b| *b == 0).any(|pair| pair == marker.as_bytes()))
            })
            .collect::<Vec<u32>>()
    };
    let [process] = processes()[..] else { panic!("one process answers: {:?}", processes()) };
    let line = std::fs::read_to_string(format!("/proc/{process}/cmdline")).unwrap();
    assert!(!line.contains(key), "{line}");
    // It comes back at the same address with the same key.
    kill(process);
    until(|| infer(address, key, &picture).ok().filter(|answer| answer.starts_with("HTTP/1.1 200")));
    studio.kill();
    until(|| processes().is_empty().then_some(()));
    assert!(TcpStream::connect(address.trim_start_matches("http://")).is_err());
}
