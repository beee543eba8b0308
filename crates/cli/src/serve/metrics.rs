//! Counters in Prometheus' text format (exposition format 0.0.4).
use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Upper bounds of the latency buckets, seconds.
const BOUNDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// What is counted.
#[derive(Default)]
pub struct Metrics {
    /// Answers by route and status.
    answers: Mutex<BTreeMap<(&'static str, u16), u64>>,
    latency: Histogram,
    /// Requests being answered.
    pub in_flight: AtomicU64,
    /// Batches that models have run, and the pictures in them.
    batches: AtomicU64,
    pictures: AtomicU64,
}

/// Counts by upper bound.
#[derive(Default)]
struct Histogram {
    buckets: [AtomicU64; BOUNDS.len()],
    count: AtomicU64,
    /// Microseconds.
    sum: AtomicU64,
}

impl Metrics {
    /// Notes an answer. The latency histogram holds successful predictions only: a refusal is fast, and says nothing.
    pub fn answered(&self, route: &'static str, status: u16, took: Duration) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        *answers.entry((route, status)).or_insert(0) += 1;
        drop(answers);
        if route == "predict" && status == 200 {
            for (bound, bucket) in BOUNDS.iter().zip(&self.latency.buckets) {
                if took.as_secs_f64() <= *bound {
                    bucket.fetch_add(1, Ordering::Relaxed);
                }
            }
            self.latency.count.fetch_add(1, Ordering::Relaxed);
            self.latency.sum.fetch_add(took.as_micros() as u64, Ordering::Relaxed);
        }
    }

    /// Notes a batch.
    pub fn ran(&self, pictures: usize) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.pictures.fetch_add(pictures as u64, Ordering::Relaxed);
    }

    /// Everything as text. `queued`: each model's name and how many requests wait before it.
    pub fn text(&self, queued: &[(String, usize)]) -> String {
        let mut out = String::new();
        let head = |out: &mut String, name: &str, kind: &str, help: &str| {
            let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
        };
        head(&mut out, "onsa_requests_total", "counter", "Requests answered, by route and status.");
        for ((route, status), count) in self.answers.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            let _ = writeln!(out, "onsa_requests_total{{route=\"{route}\",status=\"{status}\"}} {count}");
        }
        let name = "onsa_predict_seconds";
        head(&mut out, name, "histogram", "Time from the request's headers to its answer, successes only.");
        for (bound, bucket) in BOUNDS.iter().zip(&self.latency.buckets) {
            let _ = writeln!(out, "{name}_bucket{{le=\"{bound}\"}} {}", bucket.load(Ordering::Relaxed));
        }
        let count = self.latency.count.load(Ordering::Relaxed);
        let sum = self.latency.sum.load(Ordering::Relaxed) as f64 / 1e6;
        let _ = write!(out, "{name}_bucket{{le=\"+Inf\"}} {count}\n{name}_sum {sum}\n{name}_count {count}\n");
        for (name, kind, help, value) in [
            ("onsa_in_flight", "gauge", "Requests being answered.", self.in_flight.load(Ordering::Relaxed)),
            ("onsa_batches_total", "counter", "Batches run.", self.batches.load(Ordering::Relaxed)),
            ("onsa_pictures_total", "counter", "Pictures in them.", self.pictures.load(Ordering::Relaxed)),
        ] {
            head(&mut out, name, kind, help);
            let _ = writeln!(out, "{name} {value}");
        }
        head(&mut out, "onsa_queued", "gauge", "Requests waiting before a model.");
        for (model, count) in queued {
            let _ = writeln!(out, "onsa_queued{{model=\"{}\"}} {count}", label(model));
        }
        if let Some(bytes) = resident_bytes() {
            head(&mut out, "process_resident_memory_bytes", "gauge", "Memory held.");
            let _ = writeln!(out, "process_resident_memory_bytes {bytes}");
        }
        out
    }
}

/// A label's value, its special characters escaped.
fn label(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn resident_bytes() -> Option<u64> {
    const PAGE: u64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    statm.split_whitespace().nth(1)?.parse::<u64>().ok().map(|pages| pages * PAGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_cumulative_and_labels_escaped() {
        let metrics = Metrics::default();
        metrics.answered("predict", 200, Duration::from_millis(30));
        metrics.answered("predict", 200, Duration::from_millis(700));
        metrics.answered("predict", 429, Duration::from_micros(10));
        let text = metrics.text(&[("a\"b".to_owned(), 3)]);
        for line in [
            "onsa_requests_total{route=\"predict\",status=\"200\"} 2",
            "onsa_requests_total{route=\"predict\",status=\"429\"} 1",
            "onsa_predict_seconds_bucket{le=\"0.025\"} 0",
            "onsa_predict_seconds_bucket{le=\"0.05\"} 1",
            "onsa_predict_seconds_bucket{le=\"1\"} 2",
            "onsa_predict_seconds_bucket{le=\"+Inf\"} 2",
            "onsa_predict_seconds_count 2",
            "onsa_queued{model=\"a\\\"b\"} 3",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
