//! A studio in this process, and a client that can say what no browser would.
#![allow(dead_code)]
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use onsa_studio::{Config, Studio, config::LOOPBACK};

/// A running studio; it ends with this value.
pub struct Running {
    pub address: SocketAddr,
    pub token: String,
    pub dir: tempfile::TempDir,
    pub root: tempfile::TempDir,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Running {
    /// Starts one that may read `root`; `prepare` fills both folders first.
    pub fn start(prepare: impl FnOnce(&Path, &Path)) -> Running {
        let (dir, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        prepare(dir.path(), root.path());
        let mut config = Config::new(dir.path(), LOOPBACK, 0, "/nonexistent/onsa".into()).unwrap();
        config.allow(root.path()).unwrap();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let studio = runtime.block_on(Studio::bind(config)).unwrap();
        let (address, token) = (studio.app.config.address, studio.app.config.token.clone());
        runtime.spawn(onsa_studio::serve(studio, std::future::pending()));
        Running { address, token, dir, root, runtime: Some(runtime) }
    }

    pub fn host(&self) -> String {
        format!("Host: {}", self.address)
    }

    pub fn cookie(&self) -> String {
        format!("Cookie: onsa_{}={}", self.address.port(), self.token)
    }

    /// Asks as the application does.
    pub fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        self.raw(method, path, &[&self.host(), &self.cookie(), "Content-Type: application/json"], body)
    }

    /// As [`Running::ask`], and reads the JSON.
    pub fn json(&self, method: &str, path: &str, body: &str) -> serde_json::Value {
        let answer = self.ask(method, path, body);
        assert_eq!(answer.status, 200, "{method} {path}: {}", answer.text());
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// Asks with just these header lines.
    pub fn raw(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
        let length = body.len();
        let close = if lines.contains("Upgrade:") { "" } else { "Connection: close\r\n" };
        let text =
            format!("{method} {path} HTTP/1.1\r\n{lines}{close}Content-Length: {length}\r\n\r\n{body}");
        stream.write_all(text.as_bytes()).unwrap();
        Answer::read(&mut stream)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What came back.
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    /// Reads the head, and of the body what came with `Connection: close`; of a stream that stays open, only the head.
    fn read(stream: &mut TcpStream) -> Answer {
        let mut bytes = Vec::new();
        let mut buffer = [0; 1 << 14];
        let end = |bytes: &[u8]| bytes.windows(4).position(|w| w == b"\r\n\r\n");
        loop {
            let count = stream.read(&mut buffer).unwrap();
            bytes.extend_from_slice(&buffer[..count]);
            let Some(at) = end(&bytes) else {
                assert!(count > 0, "the server closed before it answered");
                continue;
            };
            let head = String::from_utf8_lossy(&bytes[..at]).to_lowercase();
            let stays = head.contains("text/event-stream") || !head.contains("connection: close");
            if count == 0 || stays {
                let status = head.split(' ').nth(1).unwrap().parse().unwrap();
                let body = bytes[at + 4..].to_vec();
                return Answer { status, body: unchunked(&head, body), head };
            }
        }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn unchunked(head: &str, body: Vec<u8>) -> Vec<u8> {
    if !head.contains("transfer-encoding: chunked") {
        return body;
    }
    let (mut rest, mut whole) = (&body[..], Vec::new());
    while let Some(at) = rest.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..at]).unwrap().trim(), 16).unwrap();
        if size == 0 || rest.len() < at + 2 + size {
            break;
        }
        whole.extend_from_slice(&rest[at + 2..at + 2 + size]);
        rest = &rest[(at + 4 + size).min(rest.len())..];
    }
    whole
}
