//! Learns addresses before anyone asks for them, so that a frontend that has just started takes mail when the directory
//! goes away. Passwords are not among it: a login needs the directory once.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mailcluster_rpc::directory::v1 as pb;
use mailcluster_types::{ResolvedAccount, Unavailable};
use tokio_util::sync::CancellationToken;

use super::{Question, RemoteDirectory};
use crate::convert;

/// The shortest pause behind a round; and how many times as long as the round it is, so that directories with many
/// addresses and many frontends are busy with something else.
const PAUSE: Duration = Duration::from_secs(1);
const TIMES: u32 = 20;

/// How far a round came.
enum Learnt {
    Everything,
    AsMuchAsFits,
}

pub(super) async fn run(directory: Arc<RemoteDirectory>, shutdown: CancellationToken) {
    let mut full_in = None;
    loop {
        tokio::select! {
            () = directory.news.notified() => {}
            () = shutdown.cancelled() => return,
        }
        let now = directory.state().cache.run();
        if full_in == Some(now) {
            // Little was forgotten: not worth another round.
            continue;
        }
        let began = Instant::now();
        match round(&directory).await {
            Ok(Learnt::Everything) => {}
            Ok(Learnt::AsMuchAsFits) => full_in = Some(now),
            Err(error) => {
                tracing::debug!(%error, "addresses could not be asked for ahead");
                directory.news.notify_one();
            }
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE.max(began.elapsed() * TIMES)) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

async fn round(directory: &RemoteDirectory) -> Result<Learnt, Unavailable> {
    for aliases in [false, true] {
        let mut after = String::new();
        loop {
            let asked = {
                let state = directory.state();
                if !state.cache.has_room() {
                    return Ok(Learnt::AsMuchAsFits);
                }
                state.cache.asking(Instant::now())
            };
            let request = pb::KnownRequest { aliases, after: after.clone() };
            let page = directory.ask(Question::Page, |mut c| async move { c.known(request).await }).await?;
            let known = page.addresses.into_iter().filter_map(known).collect();
            directory.state().cache.learn_ahead(asked, known);
            match page.next {
                Some(next) if next > after => after = next,
                _ => break,
            }
        }
    }
    Ok(Learnt::Everything)
}

/// `None` for what cannot be read: it is asked for when it is needed.
fn known(address: pb::KnownAddress) -> Option<(String, Vec<ResolvedAccount>)> {
    let accounts: Option<Vec<_>> = address.accounts.into_iter().map(convert::resolved_from_pb).collect();
    accounts.filter(|accounts| !accounts.is_empty()).map(|accounts| (address.key, accounts))
}
