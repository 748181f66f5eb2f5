//! The primary's side of a stream.

use std::{path::PathBuf, sync::Arc, time::Duration};

use mailcluster_failover::{
    Position,
    mirror::{EpochEntry, Join, JoinView, LogShape, join},
};
use mailcluster_rpc::mirror::v1::{
    Commit, Confirm, Forked, FromMirror, FromPrimary, Hello, Start, Table, from_mirror, from_primary,
    mirror_client::MirrorClient,
};
use mailcluster_store::{
    Claim, Identity, IndexMoment, LogReader, LoggedBatch, Mirrors, Offer, ReadError, Repairs, Room, machine,
};
use mailcluster_types::{Epoch, Seq};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, transport::Channel};

use crate::{
    compare::{Comparing, Comparison},
    copy::{Copying, Snapshots},
    progress::{Confirmed, Progress},
    wire::{entry, parts, place, position, received},
};

/// Messages on their way to a mirror, each at most a part of a batch.
const AHEAD: usize = 8;
/// Batches are read from the log until they have so many octets together.
const READ: usize = 1 << 20;

/// Beats without a word after which a mirror is given up.
const SILENT: u32 = 4;

/// A primary's log, for one epoch.
pub struct Source {
    /// The root of its volume.
    pub dir: PathBuf,
    /// Whose volume it is.
    pub identity: Identity,
    /// The primary's epoch.
    pub epoch: Epoch,
    /// Where the mirrors' confirmations go.
    pub progress: Arc<Progress>,
    /// What is committed is said at least so often.
    pub beat: Duration,
    /// What mirrors get that need more than the log has.
    pub snapshots: Snapshots,
    /// What is damaged in the log is restored so, before it goes to a mirror.
    pub repairs: Arc<Repairs>,
    /// How often the mirrors' indexes are compared with the own, and what has come of it.
    pub comparing: Arc<Comparing>,
}

/// How a stream ended.
#[derive(Debug)]
pub enum Ended {
    /// The mirror has promised a higher epoch.
    Refused {
        /// The promise.
        promise: Epoch,
    },
    /// This log no longer has what the mirror needs, and the mirror cannot use this replica's index.
    NoSnapshot,
    /// The mirror needs a snapshot, and one of the two sides cannot make it, or does not take it.
    NotCopied(Status),
    /// A forced promotion has left records of the mirror behind, which it keeps.
    Forked {
        /// The last record of both logs.
        after: Position,
    },
    /// The mirror has committed what this log does not have: this replica must not serve.
    Yield {
        /// The last record of both logs.
        after: Position,
    },
    /// The connection, or one of the two sides, failed: to be tried again.
    Lost(Status),
}

impl From<Status> for Ended {
    fn from(status: Status) -> Self {
        Self::Lost(status)
    }
}

impl Source {
    /// Feeds the mirror at the other end of `channel` until something ends it. Dropping this ends the stream.
    pub async fn feed(&self, channel: Channel) -> Ended {
        loop {
            if let Err(ended) = self.stream(channel.clone()).await {
                return ended;
            }
        }
    }

    /// One stream, to its end; without an error when the mirror has got a snapshot, and is to be joined anew.
    async fn stream(&self, channel: Channel) -> Result<(), Ended> {
        let (out, outbound) = mpsc::channel(AHEAD);
        say(&out, from_primary::Message::Hello(self.hello())).await?;
        let mut client = MirrorClient::new(channel);
        let followed = self.in_time(client.follow(ReceiverStream::new(outbound))).await?;
        let mut inbound = followed.into_inner();
        let table = match self.in_time(next(&mut inbound)).await? {
            from_mirror::Message::Table(table) => table,
            from_mirror::Message::Refused(refused) => {
                return Err(Ended::Refused { promise: refused.promise });
            }
            _ => return Err(unexpected().into()),
        };
        let mirror = table.replica.as_str();
        let after = match self.join(&table) {
            Ok(Way::Stream(after)) => after,
            Ok(Way::Snapshot(at_least)) => {
                let copying = Copying { source: self, mirror, out: &out, inbound: &mut inbound };
                return copying.run(at_least).await.map_err(not_copied);
            }
            Err(Ended::Forked { after }) => {
                let forked = Forked { after: Some(position((after.epoch, after.seq))) };
                say(&out, from_primary::Message::Forked(forked)).await?;
                // It closes the stream when it has taken that in.
                let _ = self.in_time(inbound.message()).await;
                return Err(Ended::Forked { after });
            }
            Err(ended) => return Err(ended),
        };
        self.snapshots.forget(mirror);
        say(&out, from_primary::Message::Start(Start { after })).await?;
        let same_index = table.index_version == Offer::INDEX_VERSION;
        let digests = if same_index { table.digest_version } else { 0 };
        let comparison = Arc::new(Comparison::new(mirror, &self.comparing, digests));
        tokio::select! {
            ended = self.send(after, &out, &comparison) => ended.map(|never| match never {}),
            ended = self.hear(&comparison, mirror, &mut inbound) => ended.map(|never| match never {}),
        }
    }

    fn hello(&self) -> Hello {
        Hello {
            cluster: self.identity.cluster.to_string(),
            store: self.identity.store.to_string(),
            epoch: self.epoch,
        }
    }

    /// How the mirror gets what this log has.
    fn join(&self, table: &Table) -> Result<Way, Ended> {
        let (epochs, written) = self.progress.log();
        let own: Vec<EpochEntry> = epochs.iter().map(entry).collect();
        let theirs: Vec<EpochEntry> = table.epochs.iter().map(received).collect();
        let end = Position { epoch: own.last().map_or(0, |last| last.epoch), seq: written };
        let first = LogReader::first(&self.dir).map_err(|e| lost(&e))?;
        let takes_snapshots = table.index_version == Offer::INDEX_VERSION;
        let joined = join(&JoinView {
            own: LogShape { epochs: &own, end },
            contiguous_from: first,
            mirror: LogShape { epochs: &theirs, end: place(table.end) },
            mirror_commit: place(table.applied),
            log_octets: LogReader::octets(&self.dir).map_err(|e| lost(&e))?,
            snapshot_from: if takes_snapshots { self.snapshots.from } else { u64::MAX },
        });
        match joined {
            Join::Stream { after } => Ok(Way::Stream(after.seq)),
            Join::Snapshot { after } if takes_snapshots => Ok(Way::Snapshot(after.seq)),
            Join::Snapshot { .. } => Err(Ended::NoSnapshot),
            Join::Forked { after } => Err(Ended::Forked { after }),
            Join::Yield { after } => Err(Ended::Yield { after }),
        }
    }

    /// Sends what is written, as it is written, and what is committed.
    async fn send(
        &self,
        after: Seq,
        out: &mpsc::Sender<FromPrimary>,
        comparison: &Arc<Comparison>,
    ) -> Result<std::convert::Infallible, Ended> {
        let (dir, identity) = (self.dir.clone(), self.identity.clone());
        let mut reader = blocking(move || LogReader::after(&dir, identity, after)).await?;
        let mut news = self.progress.news();
        let mut told = 0;
        loop {
            let written = news.borrow_and_update().written;
            loop {
                let repairs = self.repairs.clone();
                let (back, batches) = blocking(move || read(reader, &repairs, written)).await?;
                reader = back;
                if batches.is_empty() {
                    break;
                }
                for batch in batches {
                    told = self.progress.commit();
                    for part in parts(batch, told, machine::boottime()) {
                        out.send(part).await.map_err(|_| gone())?;
                    }
                }
            }
            told = self.compare(comparison, told, out).await?;
            let commit = self.progress.commit();
            if commit > told {
                told = commit;
                say(out, committed(commit, &self.progress)).await?;
            }
            match tokio::time::timeout(comparison.pause(self.beat), news.changed()).await {
                Ok(changed) => changed.map_err(|_| gone())?,
                Err(_) => say(out, committed(told, &self.progress)).await?,
            }
        }
    }

    /// Asks for a slice of the mirror's index, if one is due. Answers what is told to be committed then: nothing behind the
    /// record at which the indexes are compared.
    async fn compare(
        &self,
        comparison: &Arc<Comparison>,
        told: Seq,
        out: &mpsc::Sender<FromPrimary>,
    ) -> Result<Seq, Ended> {
        let Some(slice) = comparison.due() else { return Ok(told) };
        let dir = self.dir.clone();
        let moment = machine::blocking(move || IndexMoment::now(&dir)).await;
        let moment = match moment.map_err(|e| ReadError::Io(e.to_string())).flatten() {
            // The mirror may be further by now: the own index is about to be.
            Ok(moment) if moment.at().seq < told => None,
            Ok(moment) => Some(moment),
            Err(error) => {
                tracing::warn!(%error, "the index cannot be compared with the mirrors'");
                None
            }
        };
        let Some(moment) = moment else {
            comparison.put_off();
            return Ok(told);
        };
        let at = moment.at().seq;
        if at > told {
            say(out, committed(at, &self.progress)).await?;
        }
        say(out, from_primary::Message::Compare(comparison.begin(moment, slice))).await?;
        Ok(at)
    }

    /// A mirror answers every frame, and has one each beat: one that is silent for long is not there any more, whatever
    /// its connection says.
    pub(crate) async fn in_time<T>(
        &self,
        answer: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let silent = |_| Status::deadline_exceeded("the mirror does not answer");
        tokio::time::timeout(self.beat * SILENT, answer).await.map_err(silent)?
    }

    /// Notes what the mirror confirms.
    async fn hear(
        &self,
        comparison: &Comparison,
        replica: &str,
        inbound: &mut Streaming<FromMirror>,
    ) -> Result<std::convert::Infallible, Ended> {
        loop {
            match self.in_time(next(inbound)).await? {
                from_mirror::Message::Confirm(confirm) => {
                    let Confirm { seq: synced, applied, said_at } = confirm;
                    self.progress.confirm(self.epoch, replica, Confirmed { synced, applied, said_at });
                }
                from_mirror::Message::Compared(compared) => comparison.answered(&compared),
                _ => return Err(unexpected().into()),
            }
        }
    }
}

/// How a mirror gets what it lacks.
enum Way {
    /// As records, from behind this one.
    Stream(Seq),
    /// As files, which have at least this record.
    Snapshot(Seq),
}

fn not_copied(status: Status) -> Ended {
    if Copying::stays(&status) { Ended::NotCopied(status) } else { Ended::Lost(status) }
}

fn committed(seq: Seq, progress: &Progress) -> from_primary::Message {
    // 0, where all is wanted.
    let wanted_from = match progress.claim(Room::Enough) {
        Claim::From(wanted) => wanted,
        Claim::All | Claim::Nothing => 0,
    };
    from_primary::Message::Commit(Commit { seq, said_at: machine::boottime(), wanted_from })
}

/// Some of the batches up to `written`; none when all were read.
fn read(
    mut reader: LogReader,
    repairs: &Repairs,
    written: Seq,
) -> std::io::Result<(LogReader, Vec<LoggedBatch>)> {
    let (mut batches, mut octets) = (Vec::new(), 0);
    while octets < READ {
        let next = match reader.next(written) {
            Err(damaged) if batches.is_empty() => Some(reader.restored(repairs).ok_or(damaged)?),
            // What was read goes first; this is met again.
            Err(_) => break,
            Ok(next) => next,
        };
        let Some(batch) = next else { break };
        octets += batch.payload.len();
        batches.push(batch);
    }
    Ok((reader, batches))
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, Status> {
    let done = machine::blocking(work).await;
    done.map_err(|_| Status::internal("reading the log broke off"))?.map_err(|error| lost(&error))
}

pub(crate) async fn say(
    out: &mpsc::Sender<FromPrimary>,
    message: from_primary::Message,
) -> Result<(), Status> {
    out.send(FromPrimary { message: Some(message) }).await.map_err(|_| gone())
}

pub(crate) async fn next(inbound: &mut Streaming<FromMirror>) -> Result<from_mirror::Message, Status> {
    inbound.message().await?.ok_or_else(gone)?.message.ok_or_else(unexpected)
}

fn gone() -> Status {
    Status::cancelled("the mirror has closed the stream")
}

pub(crate) fn unexpected() -> Status {
    Status::internal("the mirror said something out of place")
}

fn lost(error: &std::io::Error) -> Status {
    Status::internal(format!("the log cannot be read: {error}"))
}
