//! Answers: problems as JSON, files, and the page for who has no token.
use axum::Json;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::json;
use tokio_util::io::ReaderStream;

use crate::Problem;
use crate::problem::Kind;

/// What a handler gives.
pub(super) type Answer<T> = Result<Json<T>, Problem>;

/// The id of something that was made.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Made {
    /// Its id.
    pub id: i64,
}

/// Done, with nothing to say.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(super) struct Done {
    /// Always true.
    pub done: bool,
}

pub(super) fn done() -> Json<Done> {
    Json(Done { done: true })
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = match self.kind {
            Kind::Invalid => StatusCode::BAD_REQUEST,
            Kind::Missing => StatusCode::NOT_FOUND,
            Kind::Conflict => StatusCode::CONFLICT,
            Kind::Internal => {
                // The person in the browser sees it; whoever looks after the machine finds it in the studio's own log.
                eprintln!("error: {}", self.message);
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        (status, Json(json!({"message": self.message, "hint": self.hint}))).into_response()
    }
}

pub(super) fn refused(status: StatusCode, message: &str) -> Response {
    (status, Json(json!({"message": message, "hint": null}))).into_response()
}

pub(super) async fn nothing_here() -> Response {
    refused(StatusCode::NOT_FOUND, "there is nothing at this address")
}

pub(super) fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    refused(StatusCode::INTERNAL_SERVER_ERROR, "the studio made a mistake; it goes on")
}

/// For a person who opens the studio without its token.
pub(super) fn sign_in_page() -> Response {
    let page = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>onsa studio</title>\
        <meta name=\"viewport\" content=\"width=device-width\"><h1>onsa studio</h1>\
        <p>Open the address that <code>onsa studio</code> printed in the terminal: it carries the key to this page.</p>\
        <p lang=\"ja\">端末に <code>onsa studio</code> が表示したアドレスを開いてください。このページを開く鍵が含まれています。</p>\
        <form action=\"/\"><label>Key / 鍵 <input name=\"token\" autocomplete=\"off\" autofocus></label> <button>OK</button></form></html>";
    (StatusCode::UNAUTHORIZED, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
}

/// A file to be saved under `name`.
pub(super) async fn download(
    path: &std::path::Path,
    name: &str,
    kind: &'static str,
) -> Result<Response, Problem> {
    let file =
        tokio::fs::File::open(path).await.map_err(|e| Problem::missing(format!("the file is gone: {e}")))?;
    let length = file.metadata().await.map_err(|e| Problem::path("cannot read", path, &e))?.len();
    let plain: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    let disposition = HeaderValue::from_str(&format!("attachment; filename=\"{plain}\""))
        .map_err(|e| Problem::internal("the file's name", &e))?;
    let body = Body::from_stream(ReaderStream::new(file));
    let headers =
        [(header::CONTENT_TYPE, HeaderValue::from_static(kind)), (header::CONTENT_DISPOSITION, disposition)];
    Ok((headers, [(header::CONTENT_LENGTH, length)], body).into_response())
}

/// Bytes of a picture, which the browser may keep for as long as its address stays the same.
pub(super) fn picture(kind: &'static str, bytes: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "private, max-age=3600")], bytes).into_response()
}
