//! Follows the directory's invalidations.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mailcluster_rpc::directory::v1::{self as pb, watch_client::WatchClient};
use mailcluster_types::AccountId;
use tokio_util::sync::CancellationToken;

use super::{RemoteDirectory, cache::Changed};

/// The directory sends something every 4 s; silence for longer than this is a lost connection.
const SILENCE: Duration = Duration::from_secs(10);
/// The first and the longest pause before connecting again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(3));

pub(super) async fn run(directory: Arc<RemoteDirectory>, shutdown: CancellationToken) {
    let mut position = (0, 0);
    let mut pause = PAUSE.0;
    loop {
        let before = Instant::now();
        let ended = tokio::select! {
            ended = follow(&directory, &mut position) => ended,
            () = shutdown.cancelled() => return,
        };
        directory.state().cache.watch_ended();
        directory.source.failed();
        tracing::info!(reason = ended, "directory watch ended; trying again");
        pause = if before.elapsed() > PAUSE.1 { PAUSE.0 } else { (pause * 2).min(PAUSE.1) };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

/// Answers why it ended.
async fn follow(directory: &RemoteDirectory, position: &mut (u64, u64)) -> String {
    let request = pb::InvalidationsRequest { epoch: position.0, after: position.1 };
    let opened = tokio::time::timeout(SILENCE, async {
        let channel = directory.source.channel().await.map_err(|e| e.to_string())?;
        let mut client = WatchClient::new(channel).max_decoding_message_size(crate::serve::MAX_MESSAGE);
        client.invalidations(request).await.map_err(|s| s.message().to_owned())
    });
    let mut stream = match opened.await {
        Ok(Ok(stream)) => stream.into_inner(),
        Ok(Err(error)) => return error,
        Err(_) => return "no answer in time".to_owned(),
    };
    loop {
        let told = match tokio::time::timeout(SILENCE, stream.message()).await {
            Ok(Ok(Some(told))) => told,
            Ok(Ok(None)) => return "the directory ended it".to_owned(),
            Ok(Err(status)) => return status.message().to_owned(),
            Err(_) => return "silence".to_owned(),
        };
        *position = (told.epoch, told.position);
        heed(directory, told);
    }
}

fn heed(directory: &RemoteDirectory, told: pb::Invalidation) {
    let changed = Changed {
        addresses: told.addresses.into_iter().collect(),
        accounts: told.accounts.iter().filter_map(|id| AccountId::from_slice(id)).collect(),
        domains: told.domains.into_iter().collect(),
    };
    let mut state = directory.state();
    state.cache.watch_began(Instant::now(), told.reset);
    state.away_until = None;
    let reset = told.reset;
    let anything =
        !(changed.addresses.is_empty() && changed.accounts.is_empty() && changed.domains.is_empty());
    if anything {
        state.cache.forget(&changed);
        state.logins.forget(|id| changed.accounts.contains(&id));
        // Rights to send follow from addresses, aliases and domains alike.
        state.senders.clear();
    }
    if anything || reset {
        directory.news.notify_one();
    }
}
