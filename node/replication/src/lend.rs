//! Batches for a primary whose own are damaged: the mirror's side.

use std::{path::PathBuf, sync::Arc};

use mailcluster_failover::{
    Position,
    mirror::{EpochEntry, LendView, LogShape, may_lend},
};
use mailcluster_rpc::mirror::v1::{Lent, Wanted as Asked};
use mailcluster_store::{Fetched, Identity, Link, LoggedBatch, Wanted, machine};
use mailcluster_types::{Epoch, Seq};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::{
    borrow::refused,
    standby::Standby,
    wire::{entry, lent},
};

/// Batches lent at a time: each is held in memory.
const AT_A_TIME: usize = 2;
/// Parts on their way.
const PARTS: usize = 4;

/// What a replica that stands by says of its log, to decide whether something of it is lent.
pub(crate) struct Shelf {
    pub dir: PathBuf,
    pub promise: Epoch,
    pub epochs: Vec<EpochEntry>,
    pub end: Position,
    pub commit: Seq,
}

impl Shelf {
    fn may_lend(&self, asker: Epoch, wanted: Position) -> bool {
        let own = LogShape { epochs: &self.epochs, end: self.end };
        may_lend(&LendView { promise: self.promise, asker, own, commit: self.commit, wanted })
    }
}

impl Standby {
    /// `None`: the replica is not here, or cannot be read.
    pub(crate) fn shelf(&self) -> Option<Shelf> {
        let inner = self.lock_whole();
        let follower = inner.follower.as_ref()?;
        let end = follower.end();
        Some(Shelf {
            dir: follower.dir(),
            promise: inner.promise.max(follower.promised()),
            epochs: follower.epochs().ok()?.iter().map(entry).collect(),
            end: Position { epoch: end.epoch, seq: end.seq },
            commit: follower.applied().1,
        })
    }
}

impl Standby {
    /// Lends a batch to a primary of this epoch, where there is one thread: it is there at once, or not at all.
    pub fn lend_here(&self, identity: &Identity, asked: (Epoch, &Wanted)) -> Fetched {
        match find(self, identity, asked) {
            Ok(batch) => Fetched::Batch(batch),
            Err(status) => refused(&status),
        }
    }
}

/// Lends batches, a few at a time.
pub(crate) struct Lending {
    standby: Arc<Standby>,
    identity: Arc<Identity>,
    turns: Arc<Semaphore>,
}

impl Lending {
    pub(crate) fn new(standby: Arc<Standby>, identity: Arc<Identity>) -> Self {
        Self { standby, identity, turns: Arc::new(Semaphore::new(AT_A_TIME)) }
    }

    pub(crate) async fn lend(&self, asked: Asked) -> Result<ReceiverStream<Result<Lent, Status>>, Status> {
        let Asked { cluster, store, epoch, first, link } = asked;
        if cluster != self.identity.cluster.to_string() || store != self.identity.store.as_str() {
            return Err(Status::failed_precondition(format!("this is {}", self.identity)));
        }
        let link = link.ok_or_else(|| Status::invalid_argument("no batch is named"))?;
        let link = Link { epoch: link.epoch, seq: link.seq, crc: link.crc };
        let wanted = Wanted { first, link, most: LoggedBatch::MAX_PAYLOAD };
        let busy = |_| Status::unavailable("others are lent something now");
        let turn = self.turns.clone().try_acquire_owned().map_err(busy)?;
        let (standby, identity) = (self.standby.clone(), self.identity.clone());
        let found = machine::blocking(move || find(&standby, &identity, (epoch, &wanted))).await;
        let batch = found.map_err(|_| Status::internal("reading the log broke off"))??;
        let (parts, stream) = mpsc::channel(PARTS);
        tokio::spawn(async move {
            for part in lent(batch) {
                if parts.send(Ok(part)).await.is_err() {
                    break;
                }
            }
            drop(turn);
        });
        Ok(ReceiverStream::new(stream))
    }
}

fn find(
    standby: &Standby,
    identity: &Identity,
    (asker, wanted): (Epoch, &Wanted),
) -> Result<LoggedBatch, Status> {
    let shelf = standby.shelf().ok_or_else(|| Status::unavailable("this replica does not stand by"))?;
    if asker < shelf.promise {
        return Err(Status::aborted(format!("epoch {} is promised", shelf.promise)));
    }
    let missing = || Status::not_found("the batch is not here, committed and whole");
    let Link { epoch, seq, .. } = wanted.link;
    if !shelf.may_lend(asker, Position { epoch, seq }) {
        return Err(missing());
    }
    match mailcluster_store::lend(&shelf.dir, identity, wanted) {
        Ok(found) => found.ok_or_else(missing),
        Err(error) => Err(Status::not_found(format!("the batch cannot be read here: {error}"))),
    }
}
