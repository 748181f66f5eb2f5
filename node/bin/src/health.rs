//! `/healthz`, `/readyz` and `/metrics`. Health never depends on another component, and liveness never on lease,
//! API or peers: a process that lost its lease steps down in itself (failover-schedules F4).

use std::sync::Arc;

use anyhow::Result;
use axum::{Router, extract::State, http::StatusCode, routing::get};
use prometheus::{Registry, TextEncoder};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Says whether this node can serve now, and why not.
pub type Ready = Arc<dyn Fn() -> Result<(), String> + Send + Sync>;

#[derive(Clone)]
struct Health {
    registry: Registry,
    ready: Ready,
}

/// Serves until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    registry: Registry,
    ready: Ready,
    shutdown: CancellationToken,
) -> Result<()> {
    let app = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Health { registry, ready });
    axum::serve(listener, app).with_graceful_shutdown(async move { shutdown.cancelled().await }).await?;
    Ok(())
}

async fn readyz(State(health): State<Health>) -> (StatusCode, String) {
    match (health.ready)() {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    }
}

async fn metrics(State(health): State<Health>) -> (StatusCode, String) {
    match TextEncoder::new().encode_to_string(&health.registry.gather()) {
        Ok(text) => (StatusCode::OK, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}
