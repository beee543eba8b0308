//! Server-sent events: one stream a browser, with what happens as it happens.
use std::convert::Infallible;

use axum::extract::State;
use axum::response::sse::{self, KeepAlive, Sse};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::{Stream, StreamExt};

use crate::App;
use crate::protocol::Event;

pub(super) async fn stream(
    State(app): State<App>,
) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>>> {
    let events = BroadcastStream::new(app.events.subscribe()).map(|event| {
        // A browser that fell behind has missed events: it loads everything anew.
        let event = event.unwrap_or(Event::Behind);
        let text = serde_json::to_string(&event).unwrap_or_else(|_| r#"{"type":"behind"}"#.to_owned());
        Ok(sse::Event::default().data(text))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}
