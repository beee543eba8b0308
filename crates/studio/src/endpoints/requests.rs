//! How many requests an endpoint has answered: its own counters, asked for over HTTP.
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The page can do without the figures for a moment.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest answer that is read.
const MOST: u64 = 1 << 20;

/// Requests for predictions so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    pub answered: u64,
    pub refused: u64,
}

/// Asks the process at `address`; none where it does not say.
pub(super) async fn count(address: Option<SocketAddr>, key: &str) -> Option<Counts> {
    let address = address?;
    let text = tokio::time::timeout(PATIENCE, ask(address, key)).await.ok()?.ok()?;
    text.starts_with("HTTP/1.1 200").then(|| counts(&text))
}

async fn ask(address: SocketAddr, key: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!(
        "GET /metrics HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {key}\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.take(MOST).read_to_string(&mut text).await?;
    Ok(text)
}

/// Reads the counters of Prometheus' text format.
fn counts(text: &str) -> Counts {
    let mut counts = Counts { answered: 0, refused: 0 };
    for line in text.lines().filter_map(|line| line.strip_prefix("onsa_requests_total{")) {
        let Some((labels, number)) = line.split_once("} ") else { continue };
        let Ok(number) = number.trim().parse::<u64>() else { continue };
        if labels.contains("route=\"predict\"") && labels.contains("status=\"200\"") {
            counts.answered += number;
        } else if !labels.contains("status=\"200\"") {
            counts.refused += number;
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predictions_count_as_answered_and_all_refusals_as_refused() {
        let text = "HTTP/1.1 200 OK\r\n\r\n# TYPE onsa_requests_total counter\n\
            onsa_requests_total{route=\"metrics\",status=\"200\"} 9\n\
            onsa_requests_total{route=\"predict\",status=\"200\"} 3\n\
            onsa_requests_total{route=\"predict\",status=\"401\"} 2\n\
            onsa_requests_total{route=\"other\",status=\"404\"} 1\nonsa_queued{model=\"m\"} 0\n";
        assert_eq!(counts(text), Counts { answered: 3, refused: 3 });
    }
}
