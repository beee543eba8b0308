//! The routes: bodies in, within their limits; JSON out.
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use axum::body::{Body, Bytes};
use axum::extract::{Path as UrlPath, Query, Request, State};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HeaderValue, RETRY_AFTER};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use http_body_util::BodyExt;
use onsa_intake::picture::{self, PictureError};
use onsa_tune::evaluate::Postprocess;
use onsa_tune::predict::View;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, oneshot};

use super::config::Config;
use super::guard::Guard;
use super::metrics::Metrics;
use super::model::{Found, Job, Served};
use super::openapi::{self, ROUTES};
use crate::verbs::predict::{boxes, top5};

/// Bodies held at a time, in bytes, over all requests.
const BODIES: usize = 512 << 20;
/// A permit stands for so many bytes.
const PERMIT: usize = 1 << 10;

/// Everything that requests share.
pub struct Shared {
    /// Limits.
    pub config: Config,
    /// The models, in the order in which they were given.
    pub models: Vec<Served>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    guard: Guard,
    bodies: Arc<Semaphore>,
    /// Decoders at work: each may take as much memory as the largest picture needs.
    decoders: Semaphore,
}

impl Shared {
    /// Ready to serve these models.
    pub fn new(config: Config, models: Vec<Served>, metrics: Arc<Metrics>) -> Shared {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Shared {
            guard: Guard::new(&config),
            bodies: Arc::new(Semaphore::new(BODIES / PERMIT)),
            decoders: Semaphore::new(cores),
            config,
            models,
            metrics,
        }
    }
}

/// The client's address, put beside each request.
#[derive(Clone, Copy, Debug)]
pub struct Client(pub IpAddr);

/// The routes over what they share.
pub fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(describe))
        .route("/v1/models", get(models))
        .route("/v1/predict", post(predict))
        .route("/v1/models/{model}/predict", post(predict_named))
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "there is no such route; see /openapi.json") })
        .method_not_allowed_fallback(|| async {
            refuse(StatusCode::METHOD_NOT_ALLOWED, "this route has another method; see /openapi.json")
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&shared), watch))
        .with_state(shared)
}

/// An answer that is no success: `{"error": …}`.
fn refuse(status: StatusCode, reason: impl Into<String>) -> Response {
    let mut response = (status, Json(json!({"error": reason.into()}))).into_response();
    if status == StatusCode::TOO_MANY_REQUESTS || status == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Guards every route, known or not, and counts the answers.
async fn watch(
    State(shared): State<Arc<Shared>>,
    Extension(client): Extension<Client>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let (route, open) = known(request.uri().path());
    // A browser's question before a cross-site request gets no permission.
    let open = open && request.method() == Method::GET;
    let metrics = Arc::clone(&shared.metrics);
    metrics.in_flight.fetch_add(1, Ordering::Relaxed);
    let response = match shared.guard.check(request.headers(), client.0, open) {
        Ok(()) => next.run(request).await,
        Err(refusal) => {
            let (head, body) = request.into_parts();
            forget(&head.headers, body, &shared.config).await;
            refuse(refusal.status, refusal.reason)
        }
    };
    metrics.in_flight.fetch_sub(1, Ordering::Relaxed);
    metrics.answered(route, response.status().as_u16(), started.elapsed());
    response
}

/// A path's name in the metrics, and whether it needs no key. Unknown paths share one name.
fn known(path: &str) -> (&'static str, bool) {
    let same = |route: &str| match route.split_once("{model}") {
        Some((before, after)) => path.starts_with(before) && path.ends_with(after),
        None => path == route,
    };
    ROUTES.iter().find(|(route, ..)| same(route)).map_or(("other", false), |r| (r.3, r.2))
}

async fn health(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let names: Vec<&str> = shared.models.iter().map(|m| m.name.as_str()).collect();
    Json(json!({"status": "ok", "models": names}))
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    let queued: Vec<(String, usize)> = shared.models.iter().map(|m| (m.name.clone(), m.waiting())).collect();
    let text = shared.metrics.text(&queued);
    ([(CONTENT_TYPE, HeaderValue::from_static("text/plain; version=0.0.4"))], text).into_response()
}

async fn describe(State(shared): State<Arc<Shared>>) -> Json<Value> {
    Json(openapi::document(shared.config.max_body))
}

async fn models(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let list: Vec<Value> = shared
        .models
        .iter()
        .map(|m| {
            json!({
                "name": m.name, "architecture": m.architecture, "task": m.task.name(), "imgsz": m.imgsz,
                "channels": m.channels,
                "classes": m.names, "licence": m.licence,
            })
        })
        .collect();
    Json(Value::Array(list))
}

/// What a prediction may be asked with.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    model: Option<String>,
    image: Option<String>,
    conf: Option<f32>,
    iou: Option<f32>,
    max_det: Option<usize>,
}

impl Wanted {
    fn rules(&self) -> Result<Postprocess, String> {
        let mut rules = Postprocess::prediction();
        for (name, given, value) in [("conf", self.conf, &mut rules.conf), ("iou", self.iou, &mut rules.iou)]
        {
            if let Some(given) = given {
                if !(0.0..=1.0).contains(&given) {
                    return Err(format!("{name} must be from 0 to 1"));
                }
                *value = given;
            }
        }
        if let Some(most) = self.max_det {
            if !(1..=1000).contains(&most) {
                return Err("max_det must be from 1 to 1000".to_owned());
            }
            rules.max_det = most;
        }
        if self.image.as_ref().is_some_and(|name| name.len() > 256) {
            return Err("image must have at most 256 characters".to_owned());
        }
        Ok(rules)
    }
}

type Asked = Result<Query<Wanted>, axum::extract::rejection::QueryRejection>;

async fn predict(
    State(shared): State<Arc<Shared>>,
    asked: Asked,
    headers: HeaderMap,
    body: Body,
) -> Response {
    run(&shared, None, asked, &headers, body).await.unwrap_or_else(|refusal| *refusal)
}

async fn predict_named(
    State(shared): State<Arc<Shared>>,
    UrlPath(model): UrlPath<String>,
    asked: Asked,
    headers: HeaderMap,
    body: Body,
) -> Response {
    run(&shared, Some(model), asked, &headers, body).await.unwrap_or_else(|refusal| *refusal)
}

async fn run(
    shared: &Shared,
    named: Option<String>,
    asked: Asked,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Box<Response>> {
    let no = |status, reason: String| Box::new(refuse(status, reason));
    let (wanted, rules, model) = match wish(shared, named, asked) {
        Ok(wish) => wish,
        Err((status, reason)) => {
            forget(headers, body, &shared.config).await;
            return Err(no(status, reason));
        }
    };
    let full = || no(StatusCode::TOO_MANY_REQUESTS, "the queue is full".to_owned());
    // Before the body: of what will not be answered nothing is kept.
    if model.places.available_permits() == 0 {
        forget(headers, body, &shared.config).await;
        return Err(full());
    }
    let bytes = read(shared, headers, body).await?;
    let place = model.places.try_acquire().map_err(|_| full())?;
    let decoder = shared.decoders.acquire().await.map_err(|_| full())?;
    let (task, imgsz, fit, channels) = (model.task, model.imgsz, model.fit, model.channels);
    let max_pixels = shared.config.max_pixels;
    let prepared = tokio::task::spawn_blocking(move || {
        let image = decode(&bytes, channels, max_pixels)?;
        let (width, height) = image.size();
        Ok((width, height, Served::prepare(task, imgsz, fit, &image)))
    })
    .await
    .map_err(|_| no(StatusCode::INTERNAL_SERVER_ERROR, "the decoder failed".to_owned()))?;
    drop(decoder);
    let (width, height, fitted) = prepared.map_err(|(status, reason)| no(status, reason))?;
    let (reply, answer) = oneshot::channel();
    if !model.send(Job { fitted, rules, reply }) {
        return Err(no(StatusCode::SERVICE_UNAVAILABLE, "the model has stopped".to_owned()));
    }
    let found = match answer.await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return Err(no(StatusCode::INTERNAL_SERVER_ERROR, error)),
        Err(_) => return Err(no(StatusCode::INTERNAL_SERVER_ERROR, "the model has stopped".to_owned())),
    };
    drop(place);
    Ok(Json(document(&wanted, model, (width, height), &found)).into_response())
}

/// What is asked for, and of which model.
fn wish(
    shared: &Shared,
    named: Option<String>,
    asked: Asked,
) -> Result<(Wanted, Postprocess, &Served), (StatusCode, String)> {
    let Query(wanted) = asked.map_err(|e| (StatusCode::BAD_REQUEST, e.body_text()))?;
    let rules = wanted.rules().map_err(|e| (StatusCode::BAD_REQUEST, e))?;
    let model = find(shared, named.or_else(|| wanted.model.clone()))?;
    Ok((wanted, rules, model))
}

fn document(wanted: &Wanted, model: &Served, size: (usize, usize), found: &Found) -> Value {
    let mut document = json!({
        "image": wanted.image.as_deref().unwrap_or_default(),
        "width": size.0,
        "height": size.1,
        "model": model.name,
    });
    let (key, answer) = match found {
        Found::Boxes(detections) => ("boxes", boxes(detections, &model.names).into()),
        Found::Classes(classes) => ("top5", top5(classes, &model.names).into()),
    };
    document[key] = answer;
    document
}

fn find(shared: &Shared, name: Option<String>) -> Result<&Served, (StatusCode, String)> {
    let all = || shared.models.iter().map(|m| m.name.as_str()).collect::<Vec<_>>().join(", ");
    match (name, &shared.models[..]) {
        (None, [only]) => Ok(only),
        (None, _) => {
            Err((StatusCode::BAD_REQUEST, format!("name one of the models: model= one of {}", all())))
        }
        (Some(name), models) => models
            .iter()
            .find(|m| m.name == name)
            .ok_or_else(|| (StatusCode::NOT_FOUND, format!("there is no such model; there are {}", all()))),
    }
}

/// The body, within its length, its time and the memory for bodies.
async fn read(shared: &Shared, headers: &HeaderMap, mut body: Body) -> Result<Bytes, Box<Response>> {
    let no = |status, reason: &str| Box::new(refuse(status, reason));
    let limit = shared.config.max_body;
    let too_large = || no(StatusCode::PAYLOAD_TOO_LARGE, &format!("a body has at most {limit} bytes"));
    let announced = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        forget(headers, body, &shared.config).await;
        return Err(too_large());
    }
    let reserve = announced.unwrap_or(limit).div_ceil(PERMIT).max(1) as u32;
    let Ok(_held) = shared.bodies.try_acquire_many(reserve) else {
        forget(headers, body, &shared.config).await;
        return Err(no(StatusCode::SERVICE_UNAVAILABLE, "too many bodies are under way"));
    };
    let mut bytes = Vec::with_capacity(announced.unwrap_or(0));
    let deadline = tokio::time::Instant::now() + shared.config.patience;
    loop {
        match tokio::time::timeout_at(deadline, body.frame()).await {
            Err(_) => return Err(no(StatusCode::REQUEST_TIMEOUT, "the body took too long")),
            Ok(None) => break,
            Ok(Some(Err(_))) => return Err(no(StatusCode::BAD_REQUEST, "the body broke off")),
            Ok(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    if bytes.len() + data.len() > limit {
                        drop(bytes);
                        forget(headers, body, &shared.config).await;
                        return Err(too_large());
                    }
                    bytes.extend_from_slice(data);
                }
            }
        }
    }
    if bytes.is_empty() {
        return Err(no(StatusCode::BAD_REQUEST, "the body is empty; send the picture's file as it is"));
    }
    Ok(bytes.into())
}

/// Takes what a client still sends and keeps nothing of it: a connection that is closed upon unread bytes is reset, and the
/// client, still writing, never sees the answer. No further than twice what a body may have, and no longer than it may take; a client
/// that asked first whether to send has sent nothing.
async fn forget(headers: &HeaderMap, mut body: Body, config: &Config) {
    if headers.contains_key(EXPECT) {
        return;
    }
    let deadline = tokio::time::Instant::now() + config.patience;
    let mut passed = 0;
    while passed <= 2 * config.max_body {
        match tokio::time::timeout_at(deadline, body.frame()).await {
            Ok(Some(Ok(frame))) => passed += frame.data_ref().map_or(0, Bytes::len),
            _ => return,
        }
    }
}

/// Decodes a body for a network of `channels` channels, its size looked at first: a small file may hold a huge picture.
fn decode(bytes: &[u8], channels: usize, max_pixels: u64) -> Result<View, (StatusCode, String)> {
    let body = Path::new("the body");
    let status = |error: &PictureError| match error {
        PictureError::NotAPicture { .. }
        | PictureError::Unsupported { .. }
        | PictureError::Channels { .. } => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        PictureError::TooLarge { .. } | PictureError::FileTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        _ => StatusCode::BAD_REQUEST,
    };
    let header = picture::header_of(bytes, body).map_err(|e| (status(&e), e.to_string()))?;
    if u64::from(header.width) * u64::from(header.height) > max_pixels {
        let reason = format!("a picture has at most {max_pixels} pixels");
        return Err((StatusCode::PAYLOAD_TOO_LARGE, reason));
    }
    let picture =
        picture::decode_as(bytes, channels as u32, body).map_err(|e| (status(&e), e.to_string()))?;
    View::of(picture, channels).map_err(|e| (StatusCode::BAD_REQUEST, e.to_string()))
}
