//! The HTTP side: one table of routes, one guard before all of them.
mod answer;
mod assets;
mod events;
mod guard;
pub mod openapi;
mod routes;

mod comparison;
mod data;
mod endpoints;
mod home;
mod models;
mod runs;
mod uploads;

use axum::Router;
use axum::http::Method;
use axum::routing::MethodRouter;
use schemars::{Schema, SchemaGenerator};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;

pub(crate) use home::OWN;
pub use routes::routes;

use crate::App;

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Only who holds the token: as a cookie, or as `Authorization: Bearer`.
    Token,
    /// Who brings the token in the address, once; the answer is a cookie and the address without it.
    TokenInAddress,
}

/// Gives the schema of a type.
pub type SchemaOf = fn(&mut SchemaGenerator) -> Schema;

/// One route. There is no other way into the router than the table of these.
pub struct Route {
    /// GET, POST, ...
    pub method: Method,
    /// With `{parameters}`.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
    /// One line for the documentation.
    pub summary: &'static str,
    /// The JSON that is sent.
    pub request: Option<SchemaOf>,
    /// The parameters of the address's query.
    pub query: Option<SchemaOf>,
    /// The JSON that is answered.
    pub response: Option<SchemaOf>,
    /// Most bytes that are sent.
    pub most_bytes: usize,
    /// What runs.
    pub handler: fn() -> MethodRouter<App>,
}

/// The whole server.
pub fn router(app: App) -> Router {
    let mut router = Router::new();
    for route in routes() {
        let limit = RequestBodyLimitLayer::new(route.most_bytes);
        router = router.route(route.path, (route.handler)().layer(limit));
    }
    router
        .fallback(answer::nothing_here)
        .layer(axum::extract::DefaultBodyLimit::disable())
        .layer(CatchPanicLayer::custom(answer::panicked))
        // The guard is outermost: what it refuses reaches no route, and an unknown path tells a stranger nothing.
        .layer(axum::middleware::from_fn_with_state(app.clone(), guard::guard))
        .with_state(app)
}
