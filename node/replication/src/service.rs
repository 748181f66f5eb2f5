//! The mirror's side of a stream.

use std::sync::Arc;

use futures::FutureExt;
use mailcluster_rpc::mirror::v1::{
    Batch, Commit, Compare, FromMirror, FromPrimary, Hello, Lent, Refused, Table, Wanted, from_mirror,
    from_primary,
    mirror_server::{Mirror, MirrorServer},
};
use mailcluster_store::{FollowError, Follower, Identity, LoggedBatch, Offer, Slice, machine};
use mailcluster_types::Epoch;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    compare::Question,
    lend::Lending,
    standby::{Greeting, Over, Standby, confirm},
    wire::{Assembly, OutOfPlace, Said, place, position, row},
};

/// Batches are synced as one until they have so many octets together.
const AS_ONE: usize = 4 << 20;
/// Answers on their way.
const ANSWERS: usize = 16;
/// Largest message: a part of a batch, with what is around it.
const LARGEST: usize = 1 << 20;

/// The service of a replica that may be fed.
#[must_use]
pub fn service(standby: Arc<Standby>, identity: Identity) -> MirrorServer<impl Mirror> {
    let identity = Arc::new(identity);
    let lending = Lending::new(standby.clone(), identity.clone());
    MirrorServer::new(Service { standby, identity, lending }).max_decoding_message_size(LARGEST)
}

struct Service {
    standby: Arc<Standby>,
    identity: Arc<Identity>,
    lending: Lending,
}

#[tonic::async_trait]
impl Mirror for Service {
    type FollowStream = ReceiverStream<Result<FromMirror, Status>>;

    async fn follow(
        &self,
        request: Request<Streaming<FromPrimary>>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let (answers, stream) = mpsc::channel(ANSWERS);
        let fed = Fed {
            standby: self.standby.clone(),
            identity: self.identity.clone(),
            inbound: request.into_inner(),
            answers,
            stream: 0,
        };
        tokio::spawn(fed.run());
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    type LendStream = ReceiverStream<Result<Lent, Status>>;

    async fn lend(&self, request: Request<Wanted>) -> Result<Response<Self::LendStream>, Status> {
        self.lending.lend(request.into_inner()).await.map(Response::new)
    }
}

/// One stream.
pub(crate) struct Fed {
    pub(crate) standby: Arc<Standby>,
    identity: Arc<Identity>,
    inbound: Streaming<FromPrimary>,
    answers: mpsc::Sender<Result<FromMirror, Status>>,
    /// Its number, once it was greeted.
    pub(crate) stream: u64,
}

impl Fed {
    async fn run(mut self) {
        let ended = self.follow().await;
        self.standby.left(self.stream);
        if let Err(status) = ended {
            tracing::info!(store = %self.identity.store, %status, "a primary's stream has ended");
            let _ = self.answers.send(Err(status)).await;
        }
    }

    async fn follow(&mut self) -> Result<(), Status> {
        let Some(from_primary::Message::Hello(hello)) = self.next().await? else {
            return Err(out_of_place());
        };
        let Some(stream) = self.greet(hello).await? else { return Ok(()) };
        self.stream = stream;
        let start = match self.next().await? {
            Some(from_primary::Message::Start(start)) => start,
            Some(from_primary::Message::Snapshot(snapshot)) => return self.receive(snapshot).await,
            Some(from_primary::Message::Forked(forked)) => {
                self.standby.fork(stream, place(forked.after));
                return Ok(());
            }
            _ => return Err(out_of_place()),
        };
        self.work(stream, move |follower, _| {
            follower.cut(start.after)?;
            follower.forget_snapshot();
            Ok(())
        })
        .await?;
        let mut assembly = Assembly::default();
        while let Some(first) = self.next().await? {
            let mut arrived = Arrived::default();
            arrived.take(&mut assembly, first)?;
            // What waits already is synced with it.
            while arrived.octets < AS_ONE
                && arrived.question.is_none()
                && let Some(Ok(Some(message))) = self.next().now_or_never()
            {
                arrived.take(&mut assembly, message)?;
            }
            self.take(stream, arrived).await?;
        }
        Ok(())
    }

    /// Confirms what is synced; the index is brought up to what is committed meanwhile: a client waits for the former.
    async fn take(&self, stream: u64, arrived: Arrived) -> Result<(), Status> {
        let Arrived { batches, said, question, .. } = arrived;
        let standby = self.standby.clone();
        let confirm = blocking(move || standby.append(stream, &batches, said)).await?;
        self.say(from_mirror::Message::Confirm(confirm)).await?;
        if let Some(compare) = question {
            self.ask(stream, &compare)?;
        }
        if self.standby.begin_catching_up() {
            tokio::spawn(catch_up(self.standby.clone(), self.answers.clone()));
        }
        Ok(())
    }

    /// The answer comes when the index has come so far.
    fn ask(&self, stream: u64, compare: &Compare) -> Result<(), Status> {
        let (question, answer) = Question::of(compare).ok_or_else(out_of_place)?;
        let answers = self.answers.clone();
        tokio::spawn(async move {
            // A newer stream has begun, or the replica is not here any more.
            let Ok(compared) = answer.await else { return };
            let message = Some(from_mirror::Message::Compared(compared));
            let _ = answers.send(Ok(FromMirror { message })).await;
        });
        self.standby.ask(stream, question);
        Ok(())
    }

    /// What the primary says next; `None`: it has closed the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<from_primary::Message>, Status> {
        match self.inbound.message().await? {
            None => Ok(None),
            Some(FromPrimary { message: Some(message) }) => Ok(Some(message)),
            Some(FromPrimary { message: None }) => Err(out_of_place()),
        }
    }

    /// Answers Hello; the stream's number, if it goes on.
    async fn greet(&mut self, hello: Hello) -> Result<Option<u64>, Status> {
        let Hello { cluster, store, epoch } = hello;
        if cluster != self.identity.cluster.to_string() || store != self.identity.store.as_str() {
            let why = format!("this is {}, not store {store} of cluster {cluster}", self.identity);
            return Err(Status::failed_precondition(why));
        }
        let standby = self.standby.clone();
        let (stream, answer) = match blocking(move || standby.hello(epoch)).await? {
            Greeting::Refused { promise } => (None, from_mirror::Message::Refused(Refused { promise })),
            Greeting::Table { stream, epochs, end, applied } => {
                let table = Table {
                    replica: self.identity.replica.to_string(),
                    epochs: epochs.iter().map(row).collect(),
                    end: Some(position(end)),
                    applied: Some(position(applied)),
                    index_version: Offer::INDEX_VERSION,
                    digest_version: Slice::VERSION,
                };
                (Some(stream), from_mirror::Message::Table(table))
            }
        };
        self.say(answer).await?;
        Ok(stream)
    }

    /// Does something with the replica, and confirms what it then has.
    async fn work(
        &self,
        stream: u64,
        work: impl FnOnce(&mut Follower, Epoch) -> Result<(), FollowError> + Send + 'static,
    ) -> Result<(), Status> {
        let standby = self.standby.clone();
        let does = move |follower: &mut Follower, epoch| {
            work(follower, epoch)?;
            Ok(confirm(follower, 0))
        };
        let confirm = blocking(move || standby.on(stream, does)).await?;
        self.say(from_mirror::Message::Confirm(confirm)).await
    }

    pub(crate) async fn say(&self, message: from_mirror::Message) -> Result<(), Status> {
        let sent = self.answers.send(Ok(FromMirror { message: Some(message) })).await;
        sent.map_err(|_| Status::cancelled("the primary has gone"))
    }
}

/// What has arrived since it was last worked on.
#[derive(Default)]
struct Arrived {
    batches: Vec<LoggedBatch>,
    octets: usize,
    said: Said,
    /// Asked behind all of it: what comes next is taken by itself.
    question: Option<Compare>,
}

impl Arrived {
    fn note(&mut self, said: Said) {
        self.said = Said {
            commit: self.said.commit.max(said.commit),
            at: self.said.at.max(said.at),
            wanted_from: said.wanted_from.or(self.said.wanted_from),
        };
    }

    fn take(&mut self, assembly: &mut Assembly, message: from_primary::Message) -> Result<(), Status> {
        let batch = match message {
            from_primary::Message::Batch(head) => assembly.begin(limited(head)?),
            from_primary::Message::More(part) => assembly.more(&part),
            from_primary::Message::Commit(commit) => {
                let Commit { seq: commit, said_at: at, wanted_from } = commit;
                self.note(Said { commit, at, wanted_from: Some(wanted_from) });
                return Ok(());
            }
            from_primary::Message::Compare(compare) => {
                self.question = Some(compare);
                return Ok(());
            }
            _ => Err(OutOfPlace),
        };
        if let Some((batch, said)) = batch.map_err(|_| out_of_place())? {
            self.octets += batch.payload.len();
            self.note(said);
            self.batches.push(batch);
        }
        Ok(())
    }
}

/// No batch is taken that a log could not hold.
fn limited(head: Batch) -> Result<Batch, Status> {
    let fits = usize::try_from(head.length).is_ok_and(|length| length <= LoggedBatch::MAX_PAYLOAD);
    if fits { Ok(head) } else { Err(out_of_place()) }
}

/// Brings the index up to what is committed, and tells the primary how far it has come.
async fn catch_up(standby: Arc<Standby>, answers: mpsc::Sender<Result<FromMirror, Status>>) {
    loop {
        let standby = standby.clone();
        let Ok(Some(confirm)) = machine::blocking(move || standby.catch_up()).await else { return };
        // A primary that no longer listens is told nothing.
        let message = Some(from_mirror::Message::Confirm(confirm));
        let _ = answers.send(Ok(FromMirror { message })).await;
    }
}

pub(crate) fn out_of_place() -> Status {
    Status::invalid_argument(OutOfPlace.to_string())
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Over> + Send + 'static,
) -> Result<T, Status> {
    let done = machine::blocking(work).await;
    done.map_err(|_| Status::internal("the replica's work broke off"))?.map_err(|over| status(&over))
}

fn status(over: &Over) -> Status {
    let text = over.to_string();
    match over {
        Over::Taken | Over::Superseded | Over::Follow(FollowError::Promised(_)) => Status::aborted(text),
        Over::Follow(FollowError::Gap | FollowError::Committed { .. } | FollowError::Snapshot(_)) => {
            Status::failed_precondition(text)
        }
        Over::Follow(FollowError::Damaged) => Status::data_loss(text),
        Over::Follow(FollowError::Full | FollowError::NoRoom { .. }) => Status::resource_exhausted(text),
        Over::Follow(FollowError::Index(_) | FollowError::Broken) => Status::internal(text),
    }
}
