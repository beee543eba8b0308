//! Who may ask. Every request passes here first, whatever its path and method:
//!
//! 1. `Host` must name this server: a page that had its name resolved to 127.0.0.1 has another one (DNS rebinding).
//! 2. `Origin`, where there is one, must be this server's own, also for GET.
//! 3. `Sec-Fetch-Site`, where there is one, must be `same-origin`, or `none` for an address that a person typed.
//! 4. The token, as a cookie (SameSite=Strict, HttpOnly) or as `Authorization: Bearer`; one route takes it from the
//!    address, once.
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::answer;
use crate::App;
use crate::config::Config;

/// Scripts, styles and pictures come from this server alone; nothing is evaluated, framed or sent elsewhere. `blob:` is
/// for pictures that the person dropped on the page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; \
    connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// A year in seconds.
const COOKIE_AGE: u32 = 31_536_000;

pub(super) async fn guard(State(app): State<App>, request: Request, next: Next) -> Response {
    let mut response = match verdict(&app.config, request.method(), request.uri(), request.headers()) {
        Verdict::Pass => next.run(request).await,
        Verdict::SignIn => signed_in(&app.config),
        Verdict::Forbidden(why) => answer::refused(StatusCode::FORBIDDEN, why),
        Verdict::Unknown if is_navigation(request.headers()) => answer::sign_in_page(),
        Verdict::Unknown => answer::refused(
            StatusCode::UNAUTHORIZED,
            "open the address that `onsa studio` printed: it has the token",
        ),
    };
    harden(response.headers_mut());
    response
}

#[derive(Debug, PartialEq)]
enum Verdict {
    Pass,
    /// The address has the token: a cookie for it.
    SignIn,
    Forbidden(&'static str),
    Unknown,
}

fn verdict(config: &Config, method: &Method, uri: &Uri, headers: &HeaderMap) -> Verdict {
    let text = |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"));
    let hosts = own_hosts(config);
    if !text(header::HOST).is_some_and(|host| hosts.iter().any(|own| own.eq_ignore_ascii_case(host))) {
        return Verdict::Forbidden("this server does not go by that name");
    }
    let own_origin =
        |origin: &str| hosts.iter().any(|host| origin.eq_ignore_ascii_case(&format!("http://{host}")));
    if text(header::ORIGIN).is_some_and(|origin| !own_origin(origin)) {
        return Verdict::Forbidden("another site may not ask this server");
    }
    let site = headers.get("sec-fetch-site").map(HeaderValue::as_bytes);
    if site.is_some_and(|site| site != b"same-origin" && site != b"none") {
        return Verdict::Forbidden("another site may not ask this server");
    }
    if method == Method::GET && uri.path() == "/" {
        let given = uri.query().into_iter().flat_map(|query| query.split('&'));
        if given.filter_map(|pair| pair.strip_prefix("token=")).any(|token| config.admits(token)) {
            return Verdict::SignIn;
        }
    }
    let bearer = text(header::AUTHORIZATION).and_then(|value| value.strip_prefix("Bearer "));
    let name = config.cookie();
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut cookies = cookies.flat_map(|all| all.split(';')).filter_map(|pair| pair.trim().split_once('='));
    let cookie = cookies.any(|(key, value)| key == name && config.admits(value));
    if cookie || bearer.is_some_and(|token| config.admits(token)) { Verdict::Pass } else { Verdict::Unknown }
}

/// The names under which this server is asked.
fn own_hosts(config: &Config) -> Vec<String> {
    let port = config.address.port();
    let mut hosts = vec![format!("localhost:{port}"), config.address.to_string()];
    if port == 80 {
        hosts.extend(["localhost".to_owned(), config.address.ip().to_string()]);
    }
    hosts
}

/// Whether a person opens a page, rather than a page asking for data.
fn is_navigation(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

fn signed_in(config: &Config) -> Response {
    let cookie = format!(
        "{}={}; Path=/; Max-Age={COOKIE_AGE}; HttpOnly; SameSite=Strict",
        config.cookie(),
        config.token
    );
    (StatusCode::SEE_OTHER, [(header::LOCATION, "/".to_owned()), (header::SET_COOKIE, cookie)])
        .into_response()
}

fn harden(headers: &mut HeaderMap) {
    let fixed = [
        ("content-security-policy", POLICY),
        ("x-content-type-options", "nosniff"),
        // The address has the token once: it must not travel on in a Referer.
        ("referrer-policy", "no-referrer"),
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("permissions-policy", "camera=(), microphone=(), geolocation=()"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> (tempfile::TempDir, Config) {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::new(dir.path(), crate::config::LOOPBACK, 8787, Default::default()).unwrap();
        (dir, config)
    }

    fn judge(config: &Config, target: &str, headers: &[(&'static str, &str)]) -> Verdict {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, value.parse().unwrap());
        }
        verdict(config, &Method::GET, &target.parse().unwrap(), &map)
    }

    #[test]
    fn the_cookie_or_the_bearer_token_opens_and_nothing_else() {
        let (_dir, config) = config();
        let cookie = format!("a=b; onsa_8787={}", config.token);
        let host = ("host", "127.0.0.1:8787");
        assert_eq!(judge(&config, "/api/x", &[host, ("cookie", &cookie)]), Verdict::Pass);
        assert_eq!(
            judge(&config, "/api/x", &[("host", "LocalHost:8787"), ("cookie", &cookie)]),
            Verdict::Pass
        );
        let bearer = format!("Bearer {}", config.token);
        assert_eq!(judge(&config, "/api/x", &[host, ("authorization", &bearer)]), Verdict::Pass);
        for cookie in ["", "onsa_8787=", "onsa_8788=TOKEN", "xonsa_8787=TOKEN", "onsa_8787=TOKENx"] {
            let cookie = cookie.replace("TOKEN", &config.token);
            assert_eq!(judge(&config, "/api/x", &[host, ("cookie", &cookie)]), Verdict::Unknown, "{cookie}");
        }
    }

    #[test]
    fn the_token_in_the_address_counts_at_the_front_door_only() {
        let (_dir, config) = config();
        let host = ("host", "127.0.0.1:8787");
        let at = |path: &str| format!("{path}?token={}", config.token);
        assert_eq!(judge(&config, &at("/"), &[host]), Verdict::SignIn);
        assert_eq!(judge(&config, &at("/"), &[host, ("sec-fetch-site", "none")]), Verdict::SignIn);
        assert_eq!(judge(&config, &at("/api/datasets"), &[host]), Verdict::Unknown);
        assert_eq!(judge(&config, "/?token=", &[host]), Verdict::Unknown);
    }

    #[test]
    fn a_request_of_another_site_is_forbidden_even_with_the_token() {
        let (_dir, config) = config();
        let cookie = format!("onsa_8787={}", config.token);
        let own = [("host", "127.0.0.1:8787"), ("cookie", cookie.as_str())];
        for foreign in [
            ("origin", "http://evil.example"),
            ("origin", "null"),
            ("origin", "https://127.0.0.1:8787"),
            ("origin", "http://127.0.0.1:8788"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            let verdict = judge(&config, "/api/x", &[own[0], own[1], foreign]);
            assert!(matches!(verdict, Verdict::Forbidden(_)), "{foreign:?}");
        }
        for host in [
            "evil.example",
            "evil.example:8787",
            "127.0.0.1",
            "127.0.0.1:8788",
            "localhost.evil.example:8787",
        ] {
            let verdict = judge(&config, "/api/x", &[("host", host), own[1]]);
            assert!(matches!(verdict, Verdict::Forbidden(_)), "{host}");
        }
        assert!(matches!(judge(&config, "/api/x", &[own[1]]), Verdict::Forbidden(_)), "no Host");
    }
}
