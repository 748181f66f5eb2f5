//! /healthz, /readyz and /metrics.

use axum::{Router, extract::State, http::StatusCode, routing::get};

use crate::context::Context;

/// Serves until the process is to stop.
///
/// # Errors
/// When the address cannot be listened on.
pub async fn serve(ctx: Context) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(ctx.config.metrics_addr).await?;
    let stop = ctx.stop.clone();
    let app = Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(ctx);
    tokio::select! {
        result = axum::serve(listener, app) => Ok(result?),
        // The server goes on a little longer than the work, so that the work decides when the process ends.
        () = async { stop.cancelled().await; tokio::time::sleep(std::time::Duration::from_secs(5)).await } => Ok(()),
    }
}

/// Ready once the resource definitions are there; a standby is ready too.
async fn ready(State(ctx): State<Context>) -> (StatusCode, &'static str) {
    if ctx.metrics.started.get() == 1 {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "waiting for the resource definitions")
    }
}

async fn metrics(State(ctx): State<Context>) -> (StatusCode, Vec<u8>) {
    match ctx.metrics.render() {
        Ok(text) => (StatusCode::OK, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string().into_bytes()),
    }
}
