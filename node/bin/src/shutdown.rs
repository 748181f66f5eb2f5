//! SIGTERM and SIGINT end the process gracefully; a second one at once.

use anyhow::{Context, Result};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled at the first SIGTERM or SIGINT; the second one ends the process.
pub fn on_signal() -> Result<CancellationToken> {
    let mut term = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut int = signal(SignalKind::interrupt()).context("SIGINT")?;
    let token = CancellationToken::new();
    let cancel = token.clone();
    tokio::spawn(async move {
        for round in 0..2 {
            tokio::select! {
                _ = term.recv() => {}
                _ = int.recv() => {}
            }
            if round == 0 {
                tracing::info!("stopping: finishing what is in flight");
                cancel.cancel();
            }
        }
        tracing::warn!("second signal: ending now");
        std::process::exit(1);
    });
    Ok(token)
}
