//! Who may ask, and how often.
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::Instant;

use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, StatusCode};
use sha2::{Digest, Sha256};

use super::config::Config;

/// Addresses whose rates are remembered; beyond, those that have been quiet are forgotten.
const REMEMBERED: usize = 4096;

/// A request that is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 401, 403 or 429.
    pub status: StatusCode,
    /// Why, for the client.
    pub reason: &'static str,
}

const fn refusal(status: StatusCode, reason: &'static str) -> Refusal {
    Refusal { status, reason }
}

/// The rules, with what they remember.
pub struct Guard {
    /// Digests are compared, so the time taken tells nothing of the key.
    key: Option<[u8; 32]>,
    hosts: Vec<String>,
    rate: u32,
    seen: Mutex<HashMap<IpAddr, Bucket>>,
}

/// A client's allowance (a token bucket).
struct Bucket {
    left: f64,
    at: Instant,
}

impl Guard {
    /// The rules of a configuration.
    pub fn new(config: &Config) -> Guard {
        let mut hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "[::1]".to_owned()];
        hosts.push(match config.address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        });
        hosts.extend(config.hosts.iter().map(|host| host.to_ascii_lowercase()));
        Guard {
            key: config.key.as_ref().map(|key| Sha256::digest(key).into()),
            hosts,
            rate: config.rate,
            seen: Mutex::new(HashMap::new()),
        }
    }

    /// Whether a request may pass. `open`: a route that needs no key.
    ///
    /// # Errors
    /// The answer for one that may not.
    pub fn check(&self, headers: &HeaderMap, client: IpAddr, open: bool) -> Result<(), Refusal> {
        // A web page elsewhere could make a browser on this machine ask; programs send none of these.
        if headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin" && site != "none") {
            return Err(refusal(StatusCode::FORBIDDEN, "requests from other web sites are refused"));
        }
        let host = headers.get(HOST).and_then(|h| h.to_str().ok()).unwrap_or_default().to_ascii_lowercase();
        if let Some(origin) = headers.get(ORIGIN) {
            let origin = origin.to_str().unwrap_or_default().to_ascii_lowercase();
            let own = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            if host.is_empty() || own != Some(host.as_str()) {
                return Err(refusal(StatusCode::FORBIDDEN, "requests from other web sites are refused"));
            }
        }
        match &self.key {
            // With a key, the name by which the server is reached says nothing.
            Some(_) if open => {}
            Some(key) => {
                let given = bearer(headers).or_else(|| headers.get("x-api-key")?.to_str().ok());
                let same = given.is_some_and(|given| <[u8; 32]>::from(Sha256::digest(given)) == *key);
                if !same {
                    return Err(refusal(
                        StatusCode::UNAUTHORIZED,
                        "a key is needed: Authorization: Bearer KEY",
                    ));
                }
            }
            // Without one, a foreign name is a page that points its own name at this machine.
            None if !self.hosts.iter().any(|known| known == without_port(&host)) => {
                return Err(refusal(StatusCode::FORBIDDEN, "this host name is not served"));
            }
            None => {}
        }
        if !self.allow(client, Instant::now()) {
            return Err(refusal(StatusCode::TOO_MANY_REQUESTS, "too many requests from this address"));
        }
        Ok(())
    }

    fn allow(&self, client: IpAddr, now: Instant) -> bool {
        if self.rate == 0 {
            return true;
        }
        let rate = f64::from(self.rate);
        // A thread that panicked while it held the map left whole entries in it.
        let mut seen = self.seen.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if seen.len() >= REMEMBERED && !seen.contains_key(&client) {
            seen.retain(|_, bucket| now.duration_since(bucket.at).as_secs_f64() < 1.0);
            if seen.len() >= REMEMBERED {
                return false;
            }
        }
        let bucket = seen.entry(client).or_insert(Bucket { left: rate, at: now });
        bucket.left = (bucket.left + now.duration_since(bucket.at).as_secs_f64() * rate).min(rate);
        bucket.at = now;
        let allowed = bucket.left >= 1.0;
        if allowed {
            bucket.left -= 1.0;
        }
        allowed
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn guard(key: Option<&str>, rate: u32) -> Guard {
        Guard::new(&Config {
            address: "127.0.0.1:8000".parse().unwrap(),
            key: key.map(str::to_owned),
            hosts: vec!["Camera.local".to_owned()],
            max_body: 1,
            max_pixels: 1,
            queue: 1,
            batch: 1,
            gather: Duration::ZERO,
            rate,
            patience: Duration::ZERO,
            connections: 1,
            grace: Duration::ZERO,
        })
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[test]
    fn without_a_key_only_known_hosts_are_answered() {
        let guard = guard(None, 0);
        for host in ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000", "camera.local"] {
            assert_eq!(guard.check(&headers(&[("host", host)]), CLIENT, false), Ok(()), "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example:8000", "localhost.evil", ""] {
            let refused = guard.check(&headers(&[("host", host)]), CLIENT, true).unwrap_err();
            assert_eq!(refused.status, StatusCode::FORBIDDEN, "{host}");
        }
    }

    #[test]
    fn other_web_sites_are_refused() {
        let guard = guard(None, 0);
        for pairs in [
            [("host", "localhost:8000"), ("origin", "http://evil.example")],
            [("host", "localhost:8000"), ("origin", "null")],
            [("host", "localhost:8000"), ("sec-fetch-site", "cross-site")],
            [("host", "localhost:8000"), ("sec-fetch-site", "same-site")],
        ] {
            let refused = guard.check(&headers(&pairs), CLIENT, true).unwrap_err();
            assert_eq!(refused.status, StatusCode::FORBIDDEN, "{pairs:?}");
        }
        let own = headers(&[("host", "localhost:8000"), ("origin", "http://localhost:8000")]);
        assert_eq!(guard.check(&own, CLIENT, false), Ok(()));
    }

    #[test]
    fn a_key_must_be_the_key() {
        let guard = guard(Some("0123456789abcdef"), 0);
        let with = |value: &str| headers(&[("host", "any.example"), ("authorization", value)]);
        assert_eq!(guard.check(&with("Bearer 0123456789abcdef"), CLIENT, false), Ok(()));
        let plain = headers(&[("x-api-key", "0123456789abcdef")]);
        assert_eq!(guard.check(&plain, CLIENT, false), Ok(()));
        for wrong in ["Bearer 0123456789abcdee", "Bearer ", "Basic 0123456789abcdef", "0123456789abcdef"] {
            let refused = guard.check(&with(wrong), CLIENT, false).unwrap_err();
            assert_eq!(refused.status, StatusCode::UNAUTHORIZED, "{wrong}");
        }
        assert!(guard.check(&headers(&[]), CLIENT, false).is_err());
        assert_eq!(guard.check(&headers(&[]), CLIENT, true), Ok(()));
    }

    #[test]
    fn an_allowance_is_used_up_and_comes_back() {
        let guard = guard(None, 2);
        let start = Instant::now();
        let other = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
        assert!(guard.allow(CLIENT, start) && guard.allow(CLIENT, start));
        assert!(!guard.allow(CLIENT, start) && guard.allow(other, start));
        let later = start + Duration::from_millis(600);
        assert!(guard.allow(CLIENT, later) && !guard.allow(CLIENT, later));
    }
}
