//! The copy that serves, and the streams to its mirrors.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use mailcluster_failover::mirror::InSync;
use mailcluster_net::grpc;
use mailcluster_replication::{Begun, Ended, Progress, Snapshots, Source};
use mailcluster_store::{Follower, Identity, OpenGate, Repairs, Replica, Store, StoreKind};
use mailcluster_types::{ReplicaId, StoreName};
use tokio::task::JoinSet;

use crate::{
    certificates::{self, CLUSTER, STORE},
    lag::Written,
    mirror::{Mirror, certificates_in},
};

const EPOCH: u64 = 1;
/// As with `leaseSeconds: 8`.
const BEAT: Duration = Duration::from_millis(500);
/// Between two looks at what mirrors have.
const LOOK: Duration = Duration::from_millis(5);
/// A deadline, not an expectation.
const LIMIT: Duration = Duration::from_secs(30);

/// Copy `number` of the store.
pub fn identity(number: u128) -> Identity {
    Identity {
        cluster: CLUSTER,
        store: StoreName::from(STORE),
        replica: ReplicaId(number),
        kind: StoreKind::Mail,
    }
}

/// It serves.
pub struct Primary {
    /// Its store.
    pub store: Store,
    /// Where its mirrors' confirmations meet.
    pub progress: Arc<Progress>,
    /// What it has written, and when.
    pub written: Arc<Written>,
    repairs: Arc<Repairs>,
    dir: PathBuf,
    streams: JoinSet<Ended>,
}

/// Feeds the mirrors of the primary in `dir`, one stream each.
fn feed(
    (dir, mirrors): (&Path, &[Mirror]),
    (progress, repairs): (&Arc<Progress>, &Arc<Repairs>),
    snapshots: Snapshots,
    streams: &mut JoinSet<Ended>,
) -> Result<()> {
    let source = Arc::new(Source {
        dir: dir.join("1"),
        identity: identity(1),
        epoch: EPOCH,
        progress: progress.clone(),
        beat: BEAT,
        snapshots,
        repairs: repairs.clone(),
        comparing: Arc::default(),
    });
    for mirror in mirrors {
        let own = certificates::load(&certificates_in(dir))?;
        let (source, channel) = (source.clone(), grpc::channel(mirror.at, own, certificates::copy()));
        streams.spawn(async move { source.feed(channel).await });
    }
    Ok(())
}

impl Primary {
    /// A store in an empty folder, every mirror in its in-sync set.
    pub async fn start(dir: &Path, mirrors: &[Mirror]) -> Result<Self> {
        let count = 1 + u128::try_from(mirrors.len())?;
        let ids: Vec<ReplicaId> = (1..=count).map(ReplicaId).collect();
        let mut replica = Follower::new(Replica::initialise(&dir.join("1"), &identity(1))?)?;
        replica.promise(EPOCH)?;
        let (_, start) = replica.begin(EPOCH, &ids)?;
        let set = InSync::new(ids.iter().map(ToString::to_string), 1);
        let log = Begun { epochs: replica.epochs()?, end: start, commit: 0 };
        let progress = Arc::new(Progress::new(ReplicaId(1).to_string(), set, log));
        let written = Arc::new(Written::new(progress.clone()));
        replica.tell(written.clone());
        let repairs = replica.repairs();
        let mut streams = JoinSet::new();
        feed((dir, mirrors), (&progress, &repairs), Snapshots::default(), &mut streams)?;
        tokio::select! {
            () = progress.reached(start) => {}
            ended = ended(&mut streams) => bail!("a mirror does not follow: {ended}"),
            () = tokio::time::sleep(LIMIT) => bail!("the mirrors do not confirm the first record"),
        }
        replica.advance(start)?;
        let store = replica.into_replica().go_on(Arc::new(OpenGate))?;
        Ok(Self { store, progress, written, repairs, dir: dir.to_owned(), streams })
    }

    /// Feeds one more mirror, which is not in the in-sync set.
    pub fn add(&mut self, mirror: &Mirror, snapshots: Snapshots) -> Result<()> {
        let mirror = (self.dir.as_path(), std::slice::from_ref(mirror));
        feed(mirror, (&self.progress, &self.repairs), snapshots, &mut self.streams)
    }

    /// Waits until every mirror's index has all that is committed.
    pub async fn until_level(&mut self) -> Result<()> {
        let (begun, committed) = (Instant::now(), self.store.committed().1);
        while self.progress.heard().values().any(|heard| heard.applied < committed) {
            self.all_fed()?;
            ensure!(begun.elapsed() < LIMIT, "the mirrors' indexes are behind after {} s", LIMIT.as_secs());
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Fails when a stream has ended.
    pub fn all_fed(&mut self) -> Result<()> {
        match self.streams.try_join_next() {
            Some(ended) => bail!("a mirror was not fed to the end: {ended:?}"),
            None => Ok(()),
        }
    }

    /// Ends it; every stream was open all the time.
    pub async fn stop(mut self) -> Result<()> {
        self.all_fed()?;
        let everything = self.store.committed().1;
        ensure!(self.progress.commit() >= everything, "not all that was confirmed is on the mirrors");
        self.streams.shutdown().await;
        drop(self.store.stop().await);
        Ok(())
    }
}

/// How the first stream ended; never, where there is none.
async fn ended(streams: &mut JoinSet<Ended>) -> String {
    match streams.join_next().await {
        Some(ended) => format!("{ended:?}"),
        None => std::future::pending().await,
    }
}
