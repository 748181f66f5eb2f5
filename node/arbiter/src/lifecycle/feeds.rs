//! A primary's streams to its mirrors: one task for each, as long as the term lasts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use mailcluster_replication::{Ended, Snapshots, Source};
use mailcluster_store::{Fetched, Identity, Wanted};
use mailcluster_types::Epoch;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::Channel;

use super::{Life, POLL, term::Term};

/// A stream that broke is begun anew after so long; one that the mirror cannot take up, after longer.
const AGAIN: Duration = Duration::from_millis(200);
const LATER: Duration = Duration::from_secs(5);

/// The replicas of the store.
#[async_trait]
pub trait Peers: Send + Sync + 'static {
    /// The ids of all that the store has now, this one among them; none before they are known.
    fn all(&self) -> Vec<String>;

    /// A channel to another, which need not be connected yet.
    async fn channel(&self, replica: &str) -> Result<Channel, String>;

    /// Asks another for a batch, on behalf of a primary of this epoch.
    async fn borrow(&self, replica: &str, of: (&Identity, Epoch), wanted: &Wanted) -> Fetched {
        match self.channel(replica).await {
            Ok(channel) => mailcluster_replication::borrow(channel, of, wanted).await,
            Err(_) => Fetched::NoAnswer,
        }
    }
}

/// A single copy has none.
pub struct Alone;

#[async_trait]
impl Peers for Alone {
    fn all(&self) -> Vec<String> {
        Vec::new()
    }

    async fn channel(&self, _: &str) -> Result<Channel, String> {
        Err("this store has one replica".into())
    }
}

/// What a primary must react to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// A mirror has promised this epoch to another.
    Promised(u64),
    /// This mirror has committed what this replica does not have.
    Yield(String),
}

/// Dropping it ends the streams.
pub(super) struct Feeds {
    troubles: mpsc::Receiver<Trouble>,
    /// Keeps the channel open where there is no mirror.
    _sender: mpsc::Sender<Trouble>,
    _task: AbortOnDropHandle<()>,
}

impl Feeds {
    /// Waits for the next trouble.
    pub async fn trouble(&mut self) -> Trouble {
        match self.troubles.recv().await {
            Some(trouble) => trouble,
            None => std::future::pending().await,
        }
    }
}

impl Life {
    /// Keeps a stream to each mirror, at the term's epoch; what is damaged here is asked for there, at that epoch, too.
    pub(super) fn feed(&self, term: &Term) -> Feeds {
        let (sender, troubles) = mpsc::channel(4);
        let (epoch, progress) = (term.record.epoch, &term.progress);
        term.repairs.ask(Some(self.borrower(term)));
        let source = Source {
            dir: self.config.data_dir.clone(),
            identity: self.config.identity.clone(),
            epoch,
            progress: progress.clone(),
            beat: self.config.lease() / 4,
            snapshots: Snapshots::default(),
            repairs: term.repairs.clone(),
            comparing: self.config.comparing.clone(),
        };
        let all = Arc::new(Mirrors {
            me: self.config.identity.replica.to_string(),
            is_mirrored: self.is_mirrored(),
            peers: self.config.peers.clone(),
            source,
            troubles: sender.clone(),
        });
        let task = AbortOnDropHandle::new(tokio::spawn(all.follow()));
        Feeds { troubles, _sender: sender, _task: task }
    }
}

/// All mirrors of a term: one may take another's place meanwhile.
struct Mirrors {
    me: String,
    /// By what was configured; those that are named may be others already, or not known yet.
    is_mirrored: bool,
    peers: Arc<dyn Peers>,
    source: Source,
    troubles: mpsc::Sender<Trouble>,
}

impl Mirrors {
    async fn follow(self: Arc<Self>) {
        let mut fed: BTreeMap<String, AbortOnDropHandle<()>> = BTreeMap::new();
        loop {
            let ids = self.peers.all();
            fed.retain(|id, _| ids.contains(id));
            self.source.snapshots.tidy(&self.source.dir, &ids);
            self.source.progress.set_others(self.others(&ids));
            self.source.comparing.keep(&ids);
            for id in ids.into_iter().filter(|id| *id != self.me) {
                let feed = |id: &String| AbortOnDropHandle::new(tokio::spawn(self.clone().feed(id.clone())));
                fed.entry(id).or_insert_with_key(feed);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Who the others are; `None`: there are some by what was configured, and none is named.
    fn others(&self, ids: &[String]) -> Option<BTreeSet<String>> {
        let others: BTreeSet<String> = ids.iter().filter(|id| **id != self.me).cloned().collect();
        (!self.is_mirrored || !others.is_empty()).then_some(others)
    }

    /// Feeds one of them, for ever.
    async fn feed(self: Arc<Self>, replica: String) {
        let mut said = String::new();
        loop {
            let ended = match self.peers.channel(&replica).await {
                Ok(channel) => self.source.feed(channel).await,
                Err(why) => Ended::Lost(tonic::Status::unavailable(why)),
            };
            let text = format!("{ended:?}");
            if text != said {
                let (mirror, epoch) = (&replica, self.source.epoch);
                tracing::warn!(mirror, epoch, ended = %text, "a mirror is not fed");
                said = text;
            }
            let (trouble, pause) = match ended {
                Ended::Refused { promise } => (Some(Trouble::Promised(promise)), LATER),
                Ended::Yield { .. } => (Some(Trouble::Yield(replica.clone())), LATER),
                Ended::NoSnapshot | Ended::NotCopied(_) | Ended::Forked { .. } => (None, LATER),
                Ended::Lost(_) => (None, AGAIN),
            };
            if let Some(trouble) = trouble {
                // A term that is over listens no more.
                let _ = self.troubles.send(trouble).await;
            }
            tokio::time::sleep(pause).await;
        }
    }
}
