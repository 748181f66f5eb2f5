//! The committer: one thread per store that takes all that waits and makes it durable at once.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mailcluster_types::{Epoch, ModSeq, Seq};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

use crate::{
    apply::Changed,
    checkpoint::Checkpointer,
    engine::{BatchError, Engine, Outcome},
    error::{OpenError, Refusal, WriteError},
    machine,
    plan::{Op, Value},
    replica::{Gate, Identity, Replica},
    rewrite::{self, Answer, Chore, Parts, Reclaimed, Rewriter},
    space::Space,
    stats::Stats,
    store::Store,
    view::Pool,
};

/// Changes that may wait.
const QUEUE: usize = 4096;
/// Octets that may wait or be worked on.
const QUEUE_OCTETS: usize = 256 << 20;
/// Changes in one batch.
const BATCH: usize = 1024;
/// Octets in one batch (one change may have more).
const BATCH_OCTETS: u64 = 8 << 20;
/// Views at a time.
const READERS: usize = 16;

/// A confirmed change: value, epoch, sequence.
pub type Confirmed = (Value, Epoch, Seq);
/// Answers one change.
pub type Reply = oneshot::Sender<Result<Confirmed, WriteError>>;

/// What the committer is asked.
pub enum Job {
    /// A change; the permit bounds the octets that wait.
    Change(Box<Op>, Reply, OwnedSemaphorePermit),
    /// Something that is no change.
    Aside(Aside),
    /// Stop, and give the replica back.
    Stop(oneshot::Sender<Replica>),
}

/// What the committer does between two batches.
pub enum Aside {
    /// For the rewriter.
    Chore(Chore, oneshot::Sender<Result<(), String>>),
    /// The rewriter is to begin now.
    Reclaim(Answer),
    /// Something may have failed: that is seen behind each batch.
    Look,
}

/// What the handles share with the committer.
pub struct Shared {
    pub identity: Identity,
    pub gate: Arc<dyn Gate>,
    pub pool: Arc<Pool>,
    pub space: Arc<Space>,
    pub stats: Arc<Stats>,
    pub committed: Mutex<(Epoch, Seq)>,
    pub serving: AtomicBool,
    pub stopped: watch::Sender<bool>,
    pub mailboxes: Mutex<HashMap<u64, watch::Sender<ModSeq>>>,
    pub directory: watch::Sender<u64>,
    pub queue: watch::Sender<u64>,
    pub flushed: watch::Sender<u64>,
    pub octets: Arc<Semaphore>,
    pub readers: Arc<Semaphore>,
    /// For how long what is expunged can be brought back.
    pub undelete: Duration,
}

impl Shared {
    fn notify(&self, changed: &Changed) {
        if !changed.mailboxes.is_empty() {
            let mut watched = self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner);
            if !watched.is_empty() {
                for (mailbox, modseq) in &changed.mailboxes {
                    notify_mailbox(&mut watched, *mailbox, *modseq);
                }
            }
        }
        if changed.directory {
            self.directory.send_modify(|n| *n += 1);
        }
        if changed.queue {
            self.queue.send_modify(|n| *n += 1);
        }
        if changed.flushed {
            self.flushed.send_modify(|n| *n += 1);
        }
    }
}

fn notify_mailbox(watched: &mut HashMap<u64, watch::Sender<ModSeq>>, mailbox: u64, modseq: ModSeq) {
    let Some(sender) = watched.get(&mailbox) else { return };
    if sender.is_closed() {
        watched.remove(&mailbox);
    } else {
        sender.send_modify(|m| *m = (*m).max(modseq));
    }
}

/// Starts the thread. The epoch's first record is durable already.
pub fn start(
    mut engine: Engine,
    pool: Arc<Pool>,
    epoch: Epoch,
    gate: Arc<dyn Gate>,
) -> Result<Store, OpenError> {
    let checkpointer =
        Checkpointer::start(&engine.dir, &mut engine.conn, engine.log.size).map_err(OpenError::Index)?;
    let shared = Arc::new(Shared {
        identity: engine.identity.clone(),
        gate,
        pool,
        space: engine.space.clone(),
        stats: engine.stats.clone(),
        committed: Mutex::new((epoch, engine.state.link.seq)),
        serving: AtomicBool::new(true),
        stopped: watch::Sender::new(false),
        mailboxes: Mutex::new(HashMap::new()),
        directory: watch::Sender::new(0),
        queue: watch::Sender::new(0),
        flushed: watch::Sender::new(0),
        octets: Arc::new(Semaphore::new(QUEUE_OCTETS)),
        readers: Arc::new(Semaphore::new(READERS)),
        undelete: engine.options.undelete,
    });
    let (sender, receiver) = mpsc::channel(QUEUE);
    let dir = engine.dir.display().to_string();
    let hands = Arc::new(rewrite::Committer {
        jobs: sender.downgrade(),
        gate: shared.gate.clone(),
        mirrors: engine.mirrors.clone(),
    });
    let rewriter = Rewriter::start(Parts::new(&engine, shared.pool.clone(), hands, checkpointer.hold()));
    let rewriter = rewriter.map_err(|source| OpenError::Io { dir: dir.clone(), source })?;
    let mut committer = Committer {
        engine,
        shared: shared.clone(),
        epoch,
        rewriter: Some(rewriter),
        checkpointer: Some(checkpointer),
        deposed: false,
    };
    let work = async move {
        let end = Ended(committer.shared.clone());
        let asked = committer.work(receiver).await;
        committer.finish(asked);
        drop(end);
    };
    machine::thread("store-commit", work).map_err(|source| OpenError::Io { dir, source })?;
    Ok(Store::new(shared, sender))
}

/// However the thread ends, panics too: the store no longer serves.
struct Ended(Arc<Shared>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.serving.store(false, Ordering::Release);
        self.0.stopped.send_replace(true);
    }
}

struct Committer {
    engine: Engine,
    shared: Arc<Shared>,
    epoch: Epoch,
    rewriter: Option<Rewriter>,
    checkpointer: Option<Checkpointer>,
    /// It is no longer the primary.
    deposed: bool,
}

impl Committer {
    /// Works until it is told to stop, all handles are gone, or the log fails. Answers who asked for the replica.
    async fn work(&mut self, mut jobs: mpsc::Receiver<Job>) -> Option<oneshot::Sender<Replica>> {
        let mut asked = None;
        while let Some(first) = jobs.recv().await {
            let mut batch = Batch::default();
            asked = batch.add(first);
            while asked.is_none() && batch.ops.len() < BATCH && batch.octets < BATCH_OCTETS {
                let Ok(job) = jobs.try_recv() else { break };
                asked = batch.add(job);
            }
            let aside = std::mem::take(&mut batch.aside);
            self.commit(batch).await;
            for job in aside {
                self.do_aside(job);
            }
            if asked.is_some() || self.deposed || !self.is_sound() {
                break;
            }
        }
        self.shared.serving.store(false, Ordering::Release);
        if let Some(rewriter) = &self.rewriter {
            // It is waited for when nothing of it is left to be refused.
            rewriter.stop();
        }
        if self.deposed && asked.is_none() {
            self.shared.stopped.send_replace(true);
            asked = wait_to_be_stopped(&mut jobs).await;
        }
        refuse_all(&mut jobs).await;
        asked
    }

    /// What is no change.
    fn do_aside(&mut self, job: Aside) {
        match (job, &self.rewriter) {
            (Aside::Chore(chore, answer), _) => {
                let may = self.shared.gate.may_write();
                let done = if may {
                    self.engine.claim().and_then(|claim| self.engine.do_chore(&chore, claim))
                } else {
                    Err("the volume may not be written".into())
                };
                // It may have been told to stop.
                let _ = answer.send(done);
                self.ask_for_checkpoint();
            }
            (Aside::Reclaim(answer), _) if machine::is_one_thread() => {
                let _ = answer.send(self.reclaim());
            }
            (Aside::Reclaim(answer), Some(rewriter)) => rewriter.ask(answer),
            (Aside::Reclaim(_), None) | (Aside::Look, _) => {}
        }
    }

    /// Where there is no thread for it.
    fn reclaim(&mut self) -> Result<Reclaimed, String> {
        let Some(checkpointer) = &self.checkpointer else { return Ok(Reclaimed::default()) };
        let claim = self.engine.claim()?;
        let done = self.engine.give_back((self.shared.pool.clone(), checkpointer.hold()), claim);
        checkpointer.after_commit();
        done
    }

    fn is_sound(&mut self) -> bool {
        let index_failed = self.checkpointer.as_ref().is_some_and(Checkpointer::has_failed)
            || self.rewriter.as_ref().is_some_and(Rewriter::has_failed);
        if index_failed && !self.engine.broken {
            self.engine.broke("the index could not be written or synced");
        }
        !self.engine.broken
    }

    async fn commit(&mut self, batch: Batch) {
        // What the protocol writes is a batch of its own.
        let mut rest = batch;
        while !rest.ops.is_empty() {
            let starts = |op: &Op| op.is_of_the_protocol();
            let cut = match rest.ops.iter().position(starts) {
                Some(0) => 1,
                Some(at) => at,
                None => rest.ops.len(),
            };
            let later = rest.split_off(cut);
            self.commit_all(rest).await;
            rest = later;
        }
    }

    /// One batch; when it cannot be planned as a whole, one change after the other, so that only the culprit fails.
    async fn commit_all(&mut self, batch: Batch) {
        if !self.shared.gate.may_write() {
            // The lease may come back before anyone took it: the store goes on then.
            batch.answer_all(&WriteError::NotServing);
            return;
        }
        let of_clients = batch.ops.first().is_some_and(|op| !op.is_of_the_protocol());
        if of_clients && !self.shared.gate.has_enough_copies() {
            batch.answer_all(&WriteError::NotServing);
            return;
        }
        let epoch = match batch.ops.first() {
            Some(Op::EpochStart(epoch, _)) if *epoch <= self.epoch => {
                batch.answer_all(&WriteError::Refused(Refusal::Stale));
                return;
            }
            Some(Op::EpochStart(epoch, _)) => *epoch,
            _ => self.epoch,
        };
        match self.engine.run(&batch.ops, epoch).await {
            Ok((outcomes, changed)) => self.confirm(batch, epoch, outcomes, &changed),
            Err(BatchError::Full) => batch.answer_all(&WriteError::Refused(Refusal::Full)),
            Err(BatchError::Index(why)) if batch.ops.len() > 1 => {
                tracing::warn!(why, "a batch cannot be applied: trying its changes one by one");
                let mut rest = batch;
                while !rest.ops.is_empty() {
                    let later = rest.split_off(1);
                    Box::pin(self.commit_all(rest)).await;
                    rest = later;
                }
            }
            Err(BatchError::Index(why)) => {
                tracing::error!(why, op = ?batch.ops.first().map(std::mem::discriminant), "a change cannot be applied");
                batch.answer_all(&WriteError::NotServing);
            }
            Err(BatchError::Unconfirmed) => {
                self.shared.serving.store(false, Ordering::Release);
                self.deposed = true;
                batch.answer_all(&WriteError::Unknown);
            }
            Err(BatchError::Broken) => {
                self.shared.serving.store(false, Ordering::Release);
                self.shared.gate.poisoned();
                batch.answer_all(&WriteError::Unknown);
            }
        }
    }

    fn confirm(&mut self, batch: Batch, epoch: Epoch, outcomes: Vec<Outcome>, changed: &Changed) {
        self.epoch = epoch;
        let end = (epoch, self.engine.state.link.seq);
        *self.shared.committed.lock().unwrap_or_else(PoisonError::into_inner) = end;
        for (reply, outcome) in batch.replies.into_iter().zip(outcomes) {
            let answer = match outcome {
                Ok((value, seq)) => Ok((value, epoch, seq)),
                Err(refusal) => Err(WriteError::Refused(refusal)),
            };
            // Who asked may be gone; the change stays.
            let _ = reply.0.send(answer);
        }
        self.shared.notify(changed);
        self.ask_for_checkpoint();
    }

    fn ask_for_checkpoint(&self) {
        if let Some(checkpointer) = &self.checkpointer {
            checkpointer.after_commit();
        }
    }

    fn finish(mut self, asked: Option<oneshot::Sender<Replica>>) {
        if self.engine.broken {
            self.shared.gate.poisoned();
        }
        if !self.shared.gate.may_write() {
            self.engine.leave();
        }
        self.rewriter = None;
        self.checkpointer = None;
        let pool = self.shared.pool.clone();
        if let (Some(asked), false) = (asked, self.engine.broken) {
            let _ = asked.send(Replica::from_parts(self.engine, pool));
        }
    }
}

/// A deposed primary's replica is given back to whoever stops the store; nothing else is done any more.
async fn wait_to_be_stopped(jobs: &mut mpsc::Receiver<Job>) -> Option<oneshot::Sender<Replica>> {
    while let Some(job) = jobs.recv().await {
        let asked = refuse(job);
        if asked.is_some() {
            return asked;
        }
    }
    None
}

/// Nobody is left waiting: neither who has sent something, nor who is about to. (Nobody keeps a place in the queue for long.)
async fn refuse_all(jobs: &mut mpsc::Receiver<Job>) {
    jobs.close();
    while let Some(job) = jobs.recv().await {
        refuse(job);
    }
}

/// The store no longer serves; who wants the replica is answered.
fn refuse(job: Job) -> Option<oneshot::Sender<Replica>> {
    match job {
        Job::Change(_, reply, _) => {
            let _ = reply.send(Err(WriteError::NotServing));
            None
        }
        // Who waits for the answer sees that there will be none.
        Job::Aside(_) => None,
        Job::Stop(asked) => Some(asked),
    }
}

#[derive(Default)]
struct Batch {
    ops: Vec<Op>,
    replies: Vec<(Reply, OwnedSemaphorePermit)>,
    octets: u64,
    aside: Vec<Aside>,
}

impl Batch {
    fn add(&mut self, job: Job) -> Option<oneshot::Sender<Replica>> {
        match job {
            Job::Change(op, reply, permit) => {
                self.octets += op.weight();
                self.ops.push(*op);
                self.replies.push((reply, permit));
                None
            }
            Job::Aside(aside) => {
                self.aside.push(aside);
                None
            }
            Job::Stop(asked) => Some(asked),
        }
    }

    fn split_off(&mut self, at: usize) -> Self {
        Self { ops: self.ops.split_off(at), replies: self.replies.split_off(at), ..Self::default() }
    }

    fn answer_all(self, error: &WriteError) {
        for (reply, _) in self.replies {
            let _ = reply.send(Err(error.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn what_comes_while_the_store_stops_is_refused_and_never_left_waiting() {
        let (sender, mut jobs) = mpsc::channel(4);
        let (answer, mut answered) = oneshot::channel();
        // The other handles of a store keep what nobody takes.
        let other = sender.clone();
        let permit = sender.try_reserve_owned().unwrap();
        let refusing = std::thread::spawn(move || {
            let waits = tokio::runtime::Builder::new_current_thread().build().unwrap();
            waits.block_on(refuse_all(&mut jobs));
        });
        let deadline = Instant::now() + Duration::from_secs(30);
        while !other.is_closed() {
            assert!(Instant::now() < deadline, "it is not closed");
            std::thread::yield_now();
        }
        // The thread has looked by now and found nothing, if it does not wait for those who may still send.
        for _ in 0..1000 {
            std::thread::yield_now();
        }
        permit.send(Job::Aside(Aside::Chore(Chore::ContiguousFrom(1), answer)));
        refusing.join().unwrap();
        let told = answered.try_recv();
        assert!(matches!(told, Err(oneshot::error::TryRecvError::Closed)), "{told:?}");
        drop(other);
    }
}
