//! The web application, out of the program itself.
use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::answer;

// `FILES`: (name, bytes) of each file of the application; empty where it was not built.
include!(concat!(env!("OUT_DIR"), "/web.rs"));

/// What a build without Node shows instead.
const MISSING: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>onsa studio</title>\
    <h1>onsa studio</h1><p>This onsa was built without its web application, because Node.js was not found. \
    The command line and the API work. To have the application: install Node.js 20 or later and build again.</p></html>";

/// Whether the application was built into this program.
pub(super) fn present() -> bool {
    !FILES.is_empty()
}

fn find(name: &str) -> Option<&'static [u8]> {
    FILES.iter().find(|(known, _)| *known == name).map(|(_, bytes)| *bytes)
}

pub(super) async fn index() -> Response {
    let page = find("index.html").unwrap_or(MISSING.as_bytes());
    ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
}

/// A page's address leads to the application, which shows that page.
pub(super) async fn page(Path(page): Path<String>) -> Response {
    if page == "api" || page.starts_with("api/") {
        return answer::nothing_here().await;
    }
    index().await
}

pub(super) async fn file(Path(name): Path<String>) -> Response {
    let name = format!("assets/{name}");
    let Some(bytes) = find(&name) else {
        return answer::refused(StatusCode::NOT_FOUND, "there is no such file");
    };
    let kind = match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        _ => "application/octet-stream",
    };
    // The names carry a hash of the content.
    let forever = "private, max-age=31536000, immutable";
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, forever)], bytes).into_response()
}
