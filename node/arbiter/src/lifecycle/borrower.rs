//! What is damaged in a primary's log is asked for at its mirrors.

use std::sync::Arc;

use futures::FutureExt;
use mailcluster_failover::Position;
use mailcluster_replication::Progress;
use mailcluster_store::{Fetched, Identity, Link, Siblings, Wanted, machine};
use tokio::runtime::Handle;

use super::{Life, feeds::Peers, term::Term};

/// The mirrors of a term, at one epoch.
struct Borrower {
    peers: Arc<dyn Peers>,
    identity: Identity,
    epoch: u64,
    progress: Arc<Progress>,
    /// Where the asking is done, while the thread that wants the answer waits; `None` where there is no other thread: peers
    /// answer at once there, or do not.
    runtime: Option<Handle>,
}

impl Life {
    pub(super) fn borrower(&self, term: &Term) -> Arc<dyn Siblings> {
        Arc::new(Borrower {
            peers: self.config.peers.clone(),
            identity: self.config.identity.clone(),
            epoch: term.record.epoch,
            progress: term.progress.clone(),
            runtime: (!machine::is_one_thread()).then(Handle::current),
        })
    }
}

impl Borrower {
    /// Asks one mirror after the other.
    async fn ask(&self, wanted: &Wanted) -> Fetched {
        let Link { epoch, seq, .. } = wanted.link;
        let mut outcome = None;
        for replica in self.progress.askable(Position { epoch, seq }) {
            match self.peers.borrow(&replica, (&self.identity, self.epoch), wanted).await {
                Fetched::Batch(batch) if wanted.is(&batch) => return Fetched::Batch(batch),
                Fetched::Batch(_) => {
                    tracing::error!(
                        replica,
                        seq,
                        "a mirror has lent another record than the one that was asked for"
                    );
                    outcome = outcome.or(Some(Fetched::Nowhere));
                }
                Fetched::Nowhere => outcome = outcome.or(Some(Fetched::Nowhere)),
                Fetched::NoAnswer => outcome = Some(Fetched::NoAnswer),
            }
        }
        // Nobody counts who has it yet: that may change soon.
        outcome.unwrap_or(Fetched::NoAnswer)
    }
}

impl Siblings for Borrower {
    fn fetch(&self, wanted: &Wanted) -> Fetched {
        let asked = self.ask(wanted);
        match &self.runtime {
            Some(runtime) => runtime.block_on(asked),
            None => asked.now_or_never().unwrap_or(Fetched::NoAnswer),
        }
    }
}
