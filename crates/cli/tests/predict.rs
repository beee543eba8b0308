//! `onsa predict`: the same answers from every kind of source, in batches, and in tiles.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

fn model() -> String {
    let root: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models");
    format!("model={}", root.join("yolov8n_tiny.weights.safetensors").display())
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("in")).unwrap();
    for (i, (width, height)) in [(90, 60), (90, 60), (60, 90), (90, 60), (200, 130)].into_iter().enumerate() {
        let shade = |x: u32, y: u32| {
            let seed = i as u32;
            image::Rgb([x * 3 + seed * 40, y * 2 + seed * 90, (x / 9 + y / 7) * 31].map(|v| (v % 256) as u8))
        };
        let picture = image::RgbImage::from_fn(width, height, shade);
        picture.save(folder.path().join(format!("in/{i}.png"))).unwrap();
    }
    folder
}

fn predict(folder: &Path, more: &[&str], stdin: &[u8]) -> Value {
    let model = model();
    let mut line = vec!["predict", &model, "imgsz=64", "conf=0.001", "save=false", "--json"];
    if !more.iter().any(|m| m.starts_with("max_det=")) {
        line.push("max_det=5");
    }
    line.extend(more);
    let mut command = common::command(folder, &line);
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    let ran = common::ran(folder, child.wait_with_output().unwrap());
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("images/s"), "{}", ran.stderr);
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn every_source_gives_the_same_answers_in_order() {
    let folder = folder();
    let whole = predict(folder.path(), &["source=in"], b"");
    let names: Vec<&str> = whole.as_array().unwrap().iter().map(|d| d["image"].as_str().unwrap()).collect();
    assert_eq!(names, ["in/0.png", "in/1.png", "in/2.png", "in/3.png", "in/4.png"]);
    assert!(whole.as_array().unwrap().iter().all(|d| !d["boxes"].as_array().unwrap().is_empty()));
    let batched = predict(folder.path(), &["source=in", "batch=3", "workers=3"], b"");
    for (one, other) in whole.as_array().unwrap().iter().zip(batched.as_array().unwrap()) {
        assert_eq!(one["image"], other["image"]);
        let pairs = one["boxes"].as_array().unwrap().iter().zip(other["boxes"].as_array().unwrap());
        for (a, b) in pairs {
            let off = a["score"].as_f64().unwrap() - b["score"].as_f64().unwrap();
            assert!(a["class"] == b["class"] && off.abs() < 1e-5, "{a} {b}");
        }
    }
    assert_eq!(predict(folder.path(), &["source=in/*.png"], b""), whole);
    let list = "in/0.png\nin/1.png\nin/2.png\nin/3.png\nin/4.png\n";
    std::fs::write(folder.path().join("list.txt"), list).unwrap();
    assert_eq!(predict(folder.path(), &["source=list.txt"], b""), whole);
    assert_eq!(predict(folder.path(), &["source=-"], list.as_bytes()), whole);
    let bytes = std::fs::read(folder.path().join("in/2.png")).unwrap();
    let alone = predict(folder.path(), &["source=-"], &bytes);
    assert_eq!((&alone[0]["image"], &alone[0]["boxes"]), (&"stdin".into(), &whole[2]["boxes"]));
}

#[test]
fn large_pictures_are_seen_in_tiles() {
    let folder = folder();
    let tiled = predict(folder.path(), &["source=in/4.png", "tile=100", "max_det=300"], b"");
    let boxes = tiled[0]["boxes"].as_array().unwrap();
    let centre = |b: &Value| {
        let at = |i: usize| b["xyxy"][i].as_f64().unwrap();
        ((at(0) + at(2)) / 2.0, (at(1) + at(3)) / 2.0)
    };
    assert!(boxes.iter().all(|b| centre(b).0 <= 200.0 && centre(b).1 <= 130.0));
    for (left, top) in [(true, true), (false, true), (true, false), (false, false)] {
        let there = boxes.iter().map(centre).any(|(x, y)| (x < 100.0) == left && (y < 65.0) == top);
        assert!(there, "nothing was found in one corner of the picture");
    }
    // A picture that fits one tile is seen as without.
    let small = predict(folder.path(), &["source=in/0.png", "tile=100"], b"");
    assert_eq!(small, predict(folder.path(), &["source=in/0.png"], b""));
}

/// ffmpeg, where it is installed; in CI a failure where it is not.
fn ffmpeg(folder: &Path, arguments: &[&str]) -> Option<()> {
    let line = ["-nostdin", "-v", "error", "-y"].iter().chain(arguments);
    match std::process::Command::new("ffmpeg").args(line).current_dir(folder).status() {
        Ok(status) => {
            assert!(status.success());
            Some(())
        }
        Err(_) => {
            assert!(std::env::var_os("CI").is_none(), "ffmpeg is missing; tests/run installs it");
            eprintln!("skipped: ffmpeg is not installed");
            None
        }
    }
}

#[test]
fn a_videos_frames_are_predicted_like_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    let drawn = "testsrc=size=95x63:rate=10:duration=2";
    // Without loss, so that its frames are the pictures' to the last byte.
    let Some(()) = ffmpeg(at, &["-f", "lavfi", "-i", drawn, "-c:v", "ffv1", "-pix_fmt", "bgr0", "clip.mkv"])
    else {
        return;
    };
    ffmpeg(at, &["-i", "clip.mkv", "-start_number", "0", "f%02d.png"]).unwrap();
    let frames = predict(at, &["source=clip.mkv", "batch=3"], b"");
    let pictures = predict(at, &["source=f*.png", "batch=3"], b"");
    assert_eq!((frames.as_array().unwrap().len(), pictures.as_array().unwrap().len()), (20, 20));
    for (i, (frame, picture)) in
        frames.as_array().unwrap().iter().zip(pictures.as_array().unwrap()).enumerate()
    {
        assert_eq!((&frame["image"], &frame["frame"]), (&"clip.mkv".into(), &i.into()));
        assert!((frame["seconds"].as_f64().unwrap() - i as f64 / 10.0).abs() < 1e-9, "{frame}");
        assert!(!frame["boxes"].as_array().unwrap().is_empty());
        assert_eq!(frame["boxes"], picture["boxes"], "frame {i}");
    }
    let some = predict(at, &["source=clip.mkv", "vid_stride=8"], b"");
    let some = some.as_array().unwrap();
    assert_eq!(some.iter().map(|f| f["frame"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 8, 16]);
    assert_eq!(some[2]["boxes"], frames[16]["boxes"]);

    let model = model();
    let line = ["predict", &model, "source=clip.mkv", "imgsz=64", "project=out", "threads=1"];
    let ran = common::onsa(at, &line);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("clip.mkv  20 frames: "), "{}", ran.stdout);
    let made = std::fs::read(at.join("out/predict/clip.mp4")).unwrap();
    assert_eq!(&made[4..8], b"ftyp");
    let files = std::fs::read_dir(at.join("out/predict")).unwrap().count();
    assert_eq!(files, 1, "nothing but the video is left");
    let again = predict(at, &["source=out/predict/clip.mp4"], b"");
    assert_eq!(again.as_array().unwrap().len(), 20);
}

#[test]
fn a_video_that_is_none_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let Some(()) = ffmpeg(folder.path(), &["-version"]) else { return };
    // A playlist under a video's name must not make ffmpeg open what it lists.
    for (name, text) in [("a.mp4", "no video"), ("b.ts", "#EXTM3U\n#EXTINF:1,\n/etc/passwd\n"), ("c.mkv", "")]
    {
        std::fs::write(folder.path().join(name), text).unwrap();
        let (model, source) = (model(), format!("source={name}"));
        let ran = common::onsa(folder.path(), &["predict", &model, &source, "imgsz=64"]);
        assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{name}");
        assert!(ran.stderr.contains(name), "{name}: {}", ran.stderr);
        assert!(!folder.path().join("runs").exists());
    }
}

#[test]
fn without_ffmpeg_a_video_is_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("clip.mp4"), "").unwrap();
    let model = model();
    let mut command = common::command(folder.path(), &["predict", &model, "source=clip.mp4", "imgsz=64"]);
    let ran = common::ran(folder.path(), command.env("PATH", folder.path()).output().unwrap());
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""));
    assert!(
        ran.stderr.contains("clip.mp4 is a video") && ran.stderr.contains("install ffmpeg"),
        "{}",
        ran.stderr
    );
}

#[cfg(target_os = "linux")]
#[test]
fn ctrl_c_ends_a_video_and_the_process_that_decodes_it() {
    let folder = tempfile::tempdir().unwrap();
    let drawn = "testsrc=size=96x64:rate=30:duration=600";
    let line = ["-f", "lavfi", "-i", drawn, "-c:v", "mpeg4", "-q:v", "9", "endless.mp4"];
    let Some(()) = ffmpeg(folder.path(), &line) else { return };
    let model = model();
    let line = ["predict", &model, "source=endless.mp4", "imgsz=320", "threads=1", "project=out"];
    let mut command = common::command(folder.path(), &line);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let part = folder.path().join("out/predict/endless.mp4.part");
    let started = std::time::Instant::now();
    while !part.exists() {
        assert!(started.elapsed().as_secs() < 120, "it does not begin");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let pid = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let ran = common::ran(folder.path(), child.wait_with_output().unwrap());
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("stopped after"), "{}", ran.stderr);
    assert!(!part.exists() && !folder.path().join("out/predict/endless.mp4").exists());
    let ours = |entry: std::fs::DirEntry| {
        let words = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&words).contains("file:endless.mp4")
    };
    let running = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).filter(|e| {
        // Only what runs in this test's folder.
        std::fs::read_link(e.path().join("cwd")).is_ok_and(|cwd| cwd == folder.path().canonicalize().unwrap())
    });
    assert_eq!(running.map(ours).filter(|is| *is).count(), 0);
}
