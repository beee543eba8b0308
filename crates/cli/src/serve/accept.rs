//! Connections: accepted up to a number, given so much time for their headers, let finish at the end.
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::routes::{Client, Shared};

/// Largest head of a request, bytes.
const HEAD: usize = 16 << 10;

/// Serves until `stop` is ready, then lets what is under way finish. Returns how many requests were cut off.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    shared: &Shared,
    stop: impl Future<Output = ()>,
) -> u64 {
    let config = &shared.config;
    let graceful = GracefulShutdown::new();
    let room = Arc::new(Semaphore::new(config.connections));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(config.patience).max_buf_size(HEAD);
    tokio::pin!(stop);
    loop {
        let place = tokio::select! {
            () = &mut stop => break,
            place = Arc::clone(&room).acquire_owned() => place,
        };
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            // Out of file handles, or a client that gave up: neither is a reason to end.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        // Answers are small, and waited for.
        let _ = stream.set_nodelay(true);
        let service = TowerToHyperService::new(router.clone().layer(Extension(Client(address.ip()))));
        let connection = graceful.watch(builder.serve_connection(TokioIo::new(stream), service));
        tokio::spawn(async move {
            // What breaks off on the client's side concerns the client alone.
            let _ = connection.await;
            drop(place);
        });
    }
    drop(listener);
    tokio::select! {
        () = graceful.shutdown() => 0,
        () = tokio::time::sleep(config.grace) => shared.metrics.in_flight.load(Ordering::Relaxed),
    }
}
