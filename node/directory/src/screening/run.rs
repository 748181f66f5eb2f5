//! A frontend's two tasks: reports go out, news come in. Nothing that serves clients waits for either.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt;
use mailcluster_screen::Gate;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{ScreeningSource, Told};

/// How often a frontend reports, when it has something to report.
const REPORT: Duration = Duration::from_millis(250);
/// The first and the longest pause before the judge is asked again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

/// Keeps a gate up to date until `shutdown`.
pub async fn run(gate: Gate, source: Arc<dyn ScreeningSource>, shutdown: CancellationToken) {
    let both = async { tokio::join!(report(&gate, source.as_ref()), listen(&gate, source.as_ref())) };
    tokio::select! {
        _ = both => {}
        () = shutdown.cancelled() => {}
    }
}

/// Reports what was seen. While the directory is away what was seen is lost: it is evidence, not mail.
async fn report(gate: &Gate, source: &dyn ScreeningSource) {
    let mut ticks = tokio::time::interval(REPORT);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let seen = gate.take();
        if !seen.is_empty()
            && let Err(error) = source.report(seen, Vec::new()).await
        {
            tracing::debug!(%error, "what was seen of clients could not be reported");
        }
    }
}

/// Heeds what is decided. What is held stays when nothing is heard.
async fn listen(gate: &Gate, source: &dyn ScreeningSource) {
    let (mut pause, mut instance) = (PAUSE.0, None);
    loop {
        let before = Instant::now();
        let ended = follow(gate, source, &mut instance).await;
        tracing::debug!(reason = ended, "screening hears nothing of the directory; trying again");
        pause = if before.elapsed() > PAUSE.1 { PAUSE.0 } else { (pause * 2).min(PAUSE.1) };
        tokio::time::sleep(pause).await;
    }
}

/// Answers why it ended.
async fn follow(gate: &Gate, source: &dyn ScreeningSource, instance: &mut Option<u64>) -> String {
    let mut stream = match source.news(gate.free()).await {
        Ok(stream) => stream,
        Err(error) => return error.to_string(),
    };
    while let Some(told) = stream.next().await {
        let Told { instance: of, is_everything, news } = match told {
            Ok(told) => told,
            Err(error) => return error.to_string(),
        };
        let now = Instant::now();
        if is_everything {
            // A judge that began anew knows nothing of what is held here: it stays, and is given back.
            if instance.is_some_and(|last| last != of) {
                let held = gate.bans(now);
                if let Err(error) = source.report(Vec::new(), held).await {
                    return error.to_string();
                }
                news.into_iter().for_each(|news| gate.heed(now, news));
            } else {
                gate.replace(now, news);
            }
            *instance = Some(of);
        } else {
            news.into_iter().for_each(|news| gate.heed(now, news));
        }
    }
    "it ended".to_owned()
}
