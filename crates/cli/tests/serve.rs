//! `onsa serve`: the real binary over real sockets.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use onsa::serve::openapi::ROUTES;
use serde_json::Value;

const KEY: &str = "a-key-of-twenty-four-signs";

fn model() -> String {
    let root: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models");
    root.join("yolo11n_tiny.weights.safetensors").display().to_string()
}

/// A server on a free port; killed when the test ends.
struct Server {
    child: Child,
    address: String,
    folder: tempfile::TempDir,
}

impl Server {
    fn start(more: &[&str], key: Option<&str>) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let model = format!("model=tiny:{}", model());
        let mut line = vec!["serve", "port=0", "--json"];
        if !more.iter().any(|m| m.starts_with("model=")) {
            line.push(&model);
        }
        if !more.iter().any(|m| m.starts_with("imgsz=")) {
            line.push("imgsz=64");
        }
        line.extend(more);
        let mut command = common::command(folder.path(), &line);
        command.stdout(Stdio::piped()).stderr(Stdio::null()).env_remove("ONSA_API_KEY");
        if let Some(key) = key {
            command.env("ONSA_API_KEY", key);
        }
        let mut child = command.spawn().unwrap();
        let mut text = String::new();
        for line in BufReader::new(child.stdout.as_mut().unwrap()).lines() {
            text.push_str(&line.unwrap());
            if text.ends_with('}') {
                break;
            }
        }
        let started: Value = serde_json::from_str(&text).unwrap();
        Server { child, address: started["address"].as_str().unwrap().to_owned(), folder }
    }

    fn send(&self, head: &str, body: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        // A server that has refused the head may not take the body.
        let _ = stream.write_all(body);
        Answer::read(stream)
    }

    fn request(&self, method: &str, target: &str, headers: &str, body: &[u8]) -> Answer {
        let host = if headers.to_lowercase().contains("host:") {
            String::new()
        } else {
            "Host: localhost\r\n".into()
        };
        let length = body.len();
        let head = format!(
            "{method} {target} HTTP/1.1\r\n{host}{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        self.send(&head, body)
    }

    fn predict(&self, query: &str, body: &[u8]) -> Answer {
        self.request("POST", &format!("/v1/predict{query}"), "", body)
    }

    fn terminate(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    }

    fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + Duration::from_secs(40);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the server does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Answer {
    status: u16,
    body: Vec<u8>,
}

impl Answer {
    fn read(mut stream: TcpStream) -> Answer {
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let status = text.split(' ').nth(1).and_then(|s| s.parse().ok()).unwrap_or(0);
        let start = text.find("\r\n\r\n").map_or(text.len(), |at| at + 4);
        Answer { status, body: text.as_bytes()[start..].to_vec() }
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

fn png(width: u32, height: u32, seed: u32) -> Vec<u8> {
    let picture = image::RgbImage::from_fn(width, height, |x, y| {
        image::Rgb(
            [x * 3 + seed * 40, y * 2 + seed * 90, (x / 9 + y / 7) * 31 + seed].map(|v| (v % 256) as u8),
        )
    });
    let mut out = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut out, image::ImageFormat::Png).unwrap();
    out.into_inner()
}

#[test]
fn an_answer_is_what_predict_says() {
    let server = Server::start(&[], None);
    let mut boxes = 0;
    for (name, width, height) in [("wide", 120, 60), ("tall", 50, 130)] {
        let picture = png(width, height, 1);
        std::fs::write(server.folder.path().join(format!("{name}.png")), &picture).unwrap();
        let answer = server.predict(&format!("?conf=0.001&image={name}.png"), &picture);
        assert_eq!(answer.status, 200);
        let mut answer = answer.json();
        assert_eq!(answer["model"], "tiny");
        answer.as_object_mut().unwrap().remove("model");
        let (source, model) = (format!("source={name}.png"), format!("model={}", model()));
        let line = ["predict", &model, &source, "imgsz=64", "conf=0.001", "save=false", "--json"];
        let ran = common::onsa(server.folder.path(), &line);
        let expected: Value = serde_json::from_str(&ran.stdout).unwrap();
        boxes += expected[0]["boxes"].as_array().unwrap().len();
        assert_eq!(answer, expected[0], "{name}");
    }
    assert!(boxes > 0, "nothing to compare");
}

#[test]
fn a_classifier_answers_with_classes() {
    let models = tempfile::tempdir().unwrap();
    let path = models.path().join(common::small_classifier(models.path()));
    let model = format!("model=tiny:{},leaves:{}", self::model(), path.display());
    let server = Server::start(&[&model, "device=cpu"], None);
    let body = png(90, 60, 5);
    let answer = server.request("POST", "/v1/models/leaves/predict", "", &body);
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    let answer = answer.json();
    std::fs::write(server.folder.path().join("p.png"), &body).unwrap();
    let model = format!("model={}", path.display());
    let line = ["predict", &model, "source=p.png", "imgsz=64", "device=cpu", "save=false", "--json"];
    let said: Value = serde_json::from_str(&common::onsa(server.folder.path(), &line).stdout).unwrap();
    assert_eq!(answer["top5"].as_array().unwrap().len(), 5);
    for (a, b) in answer["top5"].as_array().unwrap().iter().zip(said[0]["top5"].as_array().unwrap()) {
        assert_eq!(a["class"], b["class"]);
        assert!((a["score"].as_f64().unwrap() - b["score"].as_f64().unwrap()).abs() < 1e-6, "{a} {b}");
    }
    let models = server.request("GET", "/v1/models", "", b"").json();
    assert_eq!((&models[0]["task"], &models[1]["task"]), (&"detect".into(), &"classify".into()));
    // Both at once, and many of each: every answer is of the model that was asked.
    std::thread::scope(|scope| {
        for i in 0..8 {
            let (server, body) = (&server, &body);
            scope.spawn(move || {
                let (name, key) = if i % 2 == 0 { ("tiny", "boxes") } else { ("leaves", "top5") };
                let answer = server.request("POST", &format!("/v1/predict?model={name}"), "", body);
                assert_eq!(answer.status, 200);
                let answer = answer.json();
                assert!(answer["model"] == name && answer[key].is_array(), "{answer}");
            });
        }
    });
    // Which of two is meant has to be said.
    assert_eq!(server.predict("", &body).status, 400);
    // The document describes both answers, and the names it gives are those of the answers.
    let document = server.request("GET", "/openapi.json", "", b"").json();
    let described = &document["components"]["schemas"]["Prediction"]["properties"];
    let top5 = &described["top5"]["items"]["properties"];
    for (key, value) in answer["top5"][0].as_object().unwrap() {
        assert!(top5[key].is_object(), "{key}: {value} is not described");
    }
    for key in answer.as_object().unwrap().keys() {
        assert!(described[key].is_object(), "{key} is not described");
    }
}

/// A grey picture of 16 bits, as X-rays are.
fn grey16(width: u32, height: u32) -> Vec<u8> {
    let picture = image::ImageBuffer::<image::Luma<u16>, Vec<u16>>::from_fn(width, height, |x, y| {
        image::Luma([(x * 700 + y * 311 + (x / 8 + y / 8) % 2 * 9000) as u16])
    });
    let mut out = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut out, image::ImageFormat::Png).unwrap();
    out.into_inner()
}

#[test]
fn a_model_of_one_channel_is_served_all_bits() {
    let folder = tempfile::tempdir().unwrap();
    for split in ["train", "val"] {
        for class in ["a", "b"] {
            let place = folder.path().join("scans").join(split).join(class);
            std::fs::create_dir_all(&place).unwrap();
            std::fs::write(place.join(format!("{split}{class}.png")), grey16(40, 36)).unwrap();
        }
    }
    let line = [
        "train",
        "task=classify",
        "model=resnet18",
        "pretrained=false",
        "data=scans",
        "channels=1",
        "epochs=1",
        "imgsz=32",
        "batch=2",
        "workers=0",
        "plots=false",
        "project=out",
        "name=run",
        "device=cpu",
    ];
    let ran = common::onsa(folder.path(), &line);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let best = folder.path().join("out/run/weights/best.safetensors");
    let model = format!("model=scans:{}", best.display());
    let server = Server::start(&[&model, "imgsz=32"], None);
    let body = grey16(50, 40);
    let answer = server.predict("", &body);
    assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
    std::fs::write(folder.path().join("p.png"), &body).unwrap();
    let model = format!("model={}", best.display());
    let line = ["predict", &model, "source=p.png", "imgsz=32", "device=cpu", "save=false", "--json"];
    let said: Value = serde_json::from_str(&common::onsa(folder.path(), &line).stdout).unwrap();
    for (a, b) in answer.json()["top5"].as_array().unwrap().iter().zip(said[0]["top5"].as_array().unwrap()) {
        assert!((a["score"].as_f64().unwrap() - b["score"].as_f64().unwrap()).abs() < 1e-6, "{a} {b}");
    }
    let models = server.request("GET", "/v1/models", "", b"").json();
    assert_eq!(models[0]["channels"], 1);
    // A colour picture is taken grey, as `predict` takes it.
    assert_eq!(server.predict("", &png(40, 40, 1)).status, 200);
}

#[test]
fn a_device_that_is_not_there_is_said_before_anything_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let model = format!("model={}", model());
    let ran = common::onsa(folder.path(), &["serve", &model, "port=0", "device=quantum"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
    assert!(ran.stderr.contains("none of auto, cpu, cuda"), "{}", ran.stderr);
    // No machine has that many.
    let ran = common::onsa(folder.path(), &["serve", &model, "port=0", "device=cuda:99"]);
    assert_eq!((ran.code, ran.stdout.as_str()), (1, ""), "{}", ran.stderr);
    assert!(ran.stderr.contains("device=cuda"), "{}", ran.stderr);
    let server = Server::start(&["device=cpu", "threads=1"], None);
    assert_eq!(server.predict("", &png(40, 40, 1)).status, 200);
}

#[test]
fn every_route_is_guarded() {
    let open = Server::start(&[], None);
    let kept = Server::start(&[], Some(KEY));
    for (path, method, free, ..) in ROUTES {
        let (path, method) = (path.replace("{model}", "tiny"), method.to_uppercase());
        let answered = open.request(&method, &path, "", b"").status;
        assert!(![0, 401, 403, 404, 405].contains(&answered), "{path}: {answered}");
        for foreign in [
            "Host: evil.example\r\n",
            "Host: localhost\r\nOrigin: http://evil.example\r\n",
            "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n",
        ] {
            assert_eq!(open.request(&method, &path, foreign, b"").status, 403, "{path}: {foreign:?}");
        }
        for wrong in ["", "Authorization: Bearer a-key-of-twenty-four-sign5\r\n", "X-Api-Key: \r\n"] {
            let status = kept.request(&method, &path, wrong, b"").status;
            assert_eq!(status, if free { 200 } else { 401 }, "{path}: {wrong:?}");
        }
        let right = format!("Authorization: Bearer {KEY}\r\n");
        assert_ne!(kept.request(&method, &path, &right, b"").status, 401, "{path}");
        for other in ["OPTIONS", "DELETE", "PUT"] {
            let status = kept.request(other, &path, "", b"").status;
            assert_eq!(status, 401, "{other} {path}");
            assert_eq!(open.request(other, &path, "", b"").status, 405, "{other} {path}");
        }
    }
    assert_eq!(open.request("GET", "/v1/../etc/passwd", "", b"").status, 404);
    assert_eq!(kept.request("GET", "/nothing", "", b"").status, 401);
    let upgrade = "Host: evil.example\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
    assert_eq!(open.request("GET", "/v1/models", upgrade, b"").status, 403);
    // The document describes just these routes.
    let document = open.request("GET", "/openapi.json", "", b"").json();
    assert_eq!(document["paths"].as_object().unwrap().len(), ROUTES.len());
}

#[test]
fn bad_requests_are_refused_and_do_no_harm() {
    let server = Server::start(&["max_body=1", "max_pixels=1"], None);
    let whole = png(64, 64, 2);
    // A header that announces 60,000 x 60,000 pixels.
    let mut bomb = whole.clone();
    bomb[16..24].copy_from_slice(&[0, 0, 0xea, 0x60, 0, 0, 0xea, 0x60]);
    let crc = crc32(&bomb[12..29]);
    bomb[29..33].copy_from_slice(&crc.to_be_bytes());
    let large = png(1200, 1000, 3);
    for (what, query, body, status) in [
        ("empty", "", &b""[..], 400),
        ("text", "", b"not a picture at all", 415),
        ("cut off", "", &whole[..whole.len() / 2], 400),
        ("bomb", "", &bomb, 413),
        ("too many pixels", "", &large, 413),
        ("too long", "", &vec![0; 1_000_001], 413),
        ("unknown parameter", "?confidence=0.5", &whole, 400),
        ("no number", "?conf=NaN", &whole, 400),
        ("out of range", "?max_det=0", &whole, 400),
        ("unknown model", "?model=other", &whole, 404),
    ] {
        let answer = server.predict(query, body);
        assert_eq!(answer.status, status, "{what}: {}", String::from_utf8_lossy(&answer.body));
        assert!(answer.json()["error"].is_string(), "{what}");
    }
    // Lengths that lie, and bodies in pieces.
    let chunked = "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    let mut pieces = format!("{:x}\r\n", whole.len()).into_bytes();
    pieces.extend(&whole);
    pieces.extend(b"\r\n0\r\n\r\n");
    assert_eq!(server.send(chunked, &pieces).status, 200);
    let mut endless = b"f4240\r\n".to_vec();
    endless.extend(vec![7; 1_000_000]);
    endless.extend(b"\r\n10\r\n0123456789abcdef\r\n");
    assert_eq!(server.send(chunked, &endless).status, 413);
    assert_eq!(server.send("\x16\x03\x01 nonsense\r\n\r\n", b"").status, 400);
    let long = format!("GET /health HTTP/1.1\r\nHost: localhost\r\nX-Long: {}\r\n\r\n", "x".repeat(40_000));
    assert_eq!(server.send(&long, b"").status, 431);
    assert_eq!(server.predict("", &whole).status, 200);
}

/// CRC-32 of PNG chunks (ISO 3309).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |c, _| if c & 1 == 1 { 0xedb8_8320 ^ (c >> 1) } else { c >> 1 })
    })
}

#[test]
fn who_is_refused_in_the_midst_of_a_body_reads_why() {
    // More than the buffers between both ends hold: without a reader the client would still be writing.
    let body = vec![7; 12_000_000];
    let server = Server::start(&["max_body=20"], Some(KEY));
    for _ in 0..5 {
        let answer = server.request("POST", "/v1/predict", "", &body);
        assert_eq!(answer.status, 401);
        let key = format!("x-api-key: {KEY}\r\n");
        let answer = server.request("POST", "/v1/models/none/predict", &key, &body);
        assert_eq!(answer.status, 404);
    }
    // What is a little too long is taken to its end; what is far too long is not.
    let small = Server::start(&["max_body=11"], None);
    for _ in 0..5 {
        assert_eq!(small.predict("", &body).status, 413);
    }
}

#[test]
fn slow_clients_are_let_go_and_hold_up_nobody() {
    let server = Server::start(&["timeout=1", "queue=2"], None);
    let body =
        "POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\nConnection: close\r\n\r\nabc";
    let started = Instant::now();
    let slow: Vec<_> = ["POST /v1/predict HTTP/1.1\r\nHost: local", body, body, body, body]
        .into_iter()
        .map(|part| {
            let mut stream = TcpStream::connect(&server.address).unwrap();
            stream.write_all(part.as_bytes()).unwrap();
            stream
        })
        .collect();
    assert_eq!(server.predict("", &png(64, 64, 4)).status, 200);
    assert!(started.elapsed() < Duration::from_secs(20));
    let statuses: Vec<u16> = slow.into_iter().map(|stream| Answer::read(stream).status).collect();
    // Without whole headers there is nothing to answer; the connection is closed.
    assert!(statuses[0] == 0 || statuses[0] == 408, "{statuses:?}");
    assert_eq!(statuses[1..], [408; 4]);
}

#[test]
fn beyond_the_queue_the_answer_is_429_and_nobody_gets_anothers() {
    let server = Server::start(&["queue=2", "imgsz=640"], None);
    let pictures: Vec<Vec<u8>> = (0..4).map(|i| png(200 + 30 * i, 300 - 20 * i, i)).collect();
    let answers: Vec<(usize, Answer)> = std::thread::scope(|scope| {
        let asked: Vec<_> = (0..24)
            .map(|i| {
                let (server, picture) = (&server, &pictures[i % 4]);
                scope.spawn(move || (i, server.predict(&format!("?image=n{i}"), picture)))
            })
            .collect();
        asked.into_iter().map(|handle| handle.join().unwrap()).collect()
    });
    let mut served = 0;
    for (i, answer) in &answers {
        match answer.status {
            200 => {
                served += 1;
                let json = answer.json();
                assert_eq!(json["image"], format!("n{i}"));
                assert_eq!(json["width"], 200 + 30 * (i % 4));
                assert_eq!(json["height"], 300 - 20 * (i % 4));
            }
            429 => assert!(answer.json()["error"].as_str().unwrap().contains("queue is full")),
            other => panic!("request {i} was answered {other}"),
        }
    }
    assert!((2..24).contains(&served), "{served} of 24 were served");
    let metrics = server.request("GET", "/metrics", "", b"");
    let metrics = String::from_utf8(metrics.body).unwrap();
    assert!(metrics.contains(&format!("route=\"predict\",status=\"200\"}} {served}\n")), "{metrics}");
}

#[test]
fn one_address_may_ask_only_so_often() {
    let server = Server::start(&["rate=3"], None);
    let statuses: Vec<u16> = (0..6).map(|_| server.request("GET", "/v1/models", "", b"").status).collect();
    assert_eq!(statuses[..3], [200; 3]);
    assert!(statuses.contains(&429), "{statuses:?}");
}

#[test]
fn a_stop_lets_what_is_under_way_finish() {
    let mut server = Server::start(&["imgsz=640"], None);
    let picture = png(640, 640, 5);
    let mut stream = TcpStream::connect(&server.address).unwrap();
    let length = picture.len();
    let head = format!("POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&picture[..length / 2]).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    server.terminate();
    std::thread::sleep(Duration::from_millis(300));
    assert!(TcpStream::connect(&server.address).is_err(), "a stopping server takes new connections");
    stream.write_all(&picture[length / 2..]).unwrap();
    assert_eq!(Answer::read(stream).status, 200);
    assert_eq!(server.ended().code(), Some(0));
}

#[test]
fn others_are_not_served_without_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let model = format!("model={}", model());
    for host in ["0.0.0.0", "::", "192.0.2.1"] {
        let mut command =
            common::command(folder.path(), &["serve", &model, &format!("host={host}"), "port=0"]);
        let ran = common::ran(folder.path(), command.env_remove("ONSA_API_KEY").output().unwrap());
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{host}");
        assert!(ran.stderr.contains("no key is set"), "{host}: {}", ran.stderr);
    }
    let mut command = common::command(folder.path(), &["serve", &model, "host=0.0.0.0", "port=0"]);
    let ran = common::ran(folder.path(), command.env("ONSA_API_KEY", "short").output().unwrap());
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("at least 16 characters"), "{}", ran.stderr);
}
