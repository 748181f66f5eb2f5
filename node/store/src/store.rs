//! A store that serves.

use std::{
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use mailcluster_types::{AccountId, DeliveryId, Epoch, ModSeq, ReplicaId, Seq, StoreName, Uid};
use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    committer::{Aside, Job, Shared},
    error::{ReadError, Refusal, WriteError},
    left_behind::{Item, Salvaged},
    machine,
    model::{Account, Alias, Domain},
    ops::{
        Append, Appended, Copied, CopyKind, CreateMailbox, Delivered, Delivery, Enqueue, Expunge, FlagChange,
        FlagsChanged, Purge, Purged, QueueUpdate, ScriptChange, Undelete, Undeleted,
    },
    plan::{self, Op, Value},
    replica::{Identity, Receipt, Replica, StoreKind},
    rewrite::Reclaimed,
    stats::Stats,
    view::View,
};

/// Has an account an active Sieve script?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HasScript {
    /// It has.
    Yes,
    /// It has none.
    No,
}

/// A store that serves. Cheap to clone; the last clone's drop stops the committer.
#[derive(Clone)]
pub struct Store {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
}

/// Watched mailboxes from which on those that nobody watches any more are looked for.
const WATCHED: usize = 1024;

/// Takes the expected kind of value out of a receipt. The other arm cannot be reached: each change has one kind.
macro_rules! expect {
    ($receipt:expr, $pattern:pat => $value:expr) => {{
        let Receipt { value, epoch, seq, gate } = $receipt;
        match value {
            $pattern => Ok(Receipt { value: $value, epoch, seq, gate }),
            _ => Err(WriteError::Unknown),
        }
    }};
}

impl Store {
    pub(crate) fn new(shared: Arc<Shared>, jobs: mpsc::Sender<Job>) -> Self {
        Self { shared, jobs }
    }

    /// Whose it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.shared.identity.clone()
    }

    /// The epoch it serves at.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.committed().0
    }

    /// The commit position: the last record that is synced everywhere it must be.
    #[must_use]
    pub fn committed(&self) -> (Epoch, Seq) {
        *self.shared.committed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it counts of its commits.
    #[must_use]
    pub fn stats(&self) -> Arc<Stats> {
        self.shared.stats.clone()
    }

    /// May reads be served now? Ask before each reply that shows state.
    #[must_use]
    pub fn may_read(&self) -> bool {
        self.shared.serving.load(Ordering::Acquire) && self.shared.gate.may_read()
    }

    async fn submit(&self, op: Op) -> Result<Receipt<Value>, WriteError> {
        if !self.shared.serving.load(Ordering::Acquire) {
            return Err(WriteError::NotServing);
        }
        let permits = u32::try_from(op.weight().min(128 << 20)).unwrap_or(1);
        let permit = self.shared.octets.clone().acquire_many_owned(permits).await;
        let permit = permit.map_err(|_| WriteError::NotServing)?;
        let (reply, answer) = oneshot::channel();
        self.jobs.send(Job::Change(Box::new(op), reply, permit)).await.map_err(|_| WriteError::NotServing)?;
        // A committer that dies with the change in hand leaves it open whether it was appended.
        let (value, epoch, seq) = answer.await.map_err(|_| WriteError::Unknown)??;
        Ok(Receipt { value, epoch, seq, gate: self.shared.gate.clone() })
    }

    async fn submit_done(&self, op: Op) -> Result<Receipt<()>, WriteError> {
        expect!(self.submit(op).await?, Value::Done => ())
    }

    /// Begins a higher epoch without closing sessions (protocol: re-epoch).
    ///
    /// # Errors
    /// When the record cannot be synced; `Refused(Stale)` when the epoch is not higher.
    pub async fn begin_epoch(&self, epoch: Epoch, in_sync: &[ReplicaId]) -> Result<(), WriteError> {
        self.submit(Op::EpochStart(epoch, in_sync.to_vec())).await.map(drop)
    }

    /// Notes in the log which replicas must have what is acknowledged from here on. Before a replica is added to that
    /// set anywhere else, and after one was taken out (protocol: `InSync`).
    ///
    /// # Errors
    /// As [`WriteError`] says.
    pub async fn note_in_sync(&self, version: u64, in_sync: &[ReplicaId]) -> Result<(), WriteError> {
        self.submit(Op::InSync(version, in_sync.to_vec())).await.map(drop)
    }

    /// Stops: no further append; waits for what is in flight; closes log and index and gives the replica back.
    /// Sessions see [`WriteError::NotServing`] from now on. `None` when poisoned.
    pub async fn stop(&self) -> Option<Replica> {
        self.shared.serving.store(false, Ordering::Release);
        let (asked, answer) = oneshot::channel();
        self.jobs.send(Job::Stop(asked)).await.ok()?;
        let replica = answer.await.ok();
        self.stopped().await;
        replica
    }

    /// Gives the room of expunged mail back now, as far as it is worth it; by itself a store does so now and then. Ends when
    /// nothing is left that would be.
    ///
    /// # Errors
    /// Why less was given back than could have been, for people; nothing is lost by that.
    pub async fn reclaim(&self) -> Result<Reclaimed, String> {
        let stops = || "the store stops".to_owned();
        let (answer, answered) = oneshot::channel();
        self.jobs.send(Job::Aside(Aside::Reclaim(answer))).await.map_err(|_| stops())?;
        answered.await.map_err(|_| stops())?
    }

    /// Resolves when the store has stopped serving, for whatever reason.
    pub async fn stopped(&self) {
        // The sender lives as long as this handle: waiting cannot fail.
        let _ = self.shared.stopped.subscribe().wait_for(|stopped| *stopped).await;
    }

    /// Delivers one message to several accounts. One record, one body; what scripts want beside it stands in the same batch.
    ///
    /// # Errors
    /// Refused as a whole (full, or `Stale` where a script has to run again) before anything was appended; refusals of one account stand in its outcome.
    pub async fn deliver(&self, delivery: Delivery) -> Result<Receipt<Vec<Delivered>>, WriteError> {
        let crc = crc32c::crc32c(&delivery.body);
        expect!(self.submit(Op::Deliver(delivery, crc)).await?, Value::Delivered(v) => v)
    }

    /// Would a delivery to this account be refused now (RCPT time)? No reservation is made. Answers whether a script is to
    /// be asked where the mail goes.
    ///
    /// # Errors
    /// When the index cannot be read.
    pub async fn check_recipient(
        &self,
        account: AccountId,
        size: u64,
    ) -> Result<Result<HasScript, Refusal>, ReadError> {
        if !self.has_room(size) {
            return Ok(Err(Refusal::Full));
        }
        let Identity { store, kind, .. } = self.identity();
        let found =
            self.read(move |view| Ok((view.account_record(account)?, view.has_active_script(account)?)));
        let (found, has_script) = found.await?;
        let has_script = if has_script { HasScript::Yes } else { HasScript::No };
        Ok(match found.filter(|_| kind == StoreKind::Mail) {
            // With another store's name it would say that the account moved away.
            Some(found) if found.store == store && found.tombstone => Err(Refusal::AccountDeleted(account)),
            Some(found) if found.store == store => {
                plan::quota_allows(found.quota_octets, found.used_octets, size).map(|()| has_script)
            }
            _ => Err(Refusal::NoSuchAccount(account)),
        })
    }

    /// Is there room to take `size` octets of others' mail into the queue?
    #[must_use]
    pub fn has_room(&self, size: u64) -> bool {
        self.shared.space.has_room(size)
    }

    /// IMAP APPEND.
    ///
    /// # Errors
    /// As [`WriteError`] says; so for all that follow.
    pub async fn append(&self, append: Append) -> Result<Receipt<Appended>, WriteError> {
        let crc = crc32c::crc32c(&append.body);
        expect!(self.submit(Op::Append(append, crc)).await?, Value::Appended(v) => v)
    }

    /// IMAP STORE.
    ///
    /// # Errors
    /// As [`WriteError`] says.
    pub async fn set_flags(&self, change: FlagChange) -> Result<Receipt<FlagsChanged>, WriteError> {
        expect!(self.submit(Op::SetFlags(change)).await?, Value::Flags(v) => v)
    }

    /// IMAP EXPUNGE, UID EXPUNGE, CLOSE and POP3's QUIT. Answers the UIDs that went, ascending.
    ///
    /// # Errors
    /// As [`WriteError`] says.
    pub async fn expunge(&self, mailbox: u64, which: Expunge) -> Result<Receipt<Vec<Uid>>, WriteError> {
        expect!(self.submit(Op::Expunge(mailbox, which)).await?, Value::Expunged(v) => v)
    }

    /// IMAP COPY and MOVE: all or nothing.
    ///
    /// # Errors
    /// As [`WriteError`] says.
    pub async fn copy(
        &self,
        from: u64,
        uids: Vec<Uid>,
        to: u64,
        kind: CopyKind,
    ) -> Result<Receipt<Copied>, WriteError> {
        expect!(self.submit(Op::Copy { from, uids, to, kind }).await?, Value::Copied(v) => v)
    }

    /// IMAP CREATE. Answers the new mailbox's id.
    ///
    /// # Errors
    /// As [`WriteError`] says.
    pub async fn create_mailbox(&self, create: CreateMailbox) -> Result<Receipt<u64>, WriteError> {
        expect!(self.submit(Op::Create(create)).await?, Value::Mailbox(v) => v)
    }

    /// IMAP DELETE: the mailbox and its messages; children stay.
    ///
    /// # Errors
    /// As [`WriteError`] says.
    pub async fn delete_mailbox(&self, mailbox: u64) -> Result<Receipt<()>, WriteError> {
        self.submit_done(Op::Delete(mailbox)).await
    }

    /// IMAP RENAME: with its children; renaming INBOX moves its messages and leaves it empty (RFC 3501 6.3.5).
    ///
    /// # Errors
    /// As [`WriteError`] says.
    pub async fn rename_mailbox(&self, mailbox: u64, to: String) -> Result<Receipt<()>, WriteError> {
        self.submit_done(Op::Rename(mailbox, to)).await
    }

    /// IMAP SUBSCRIBE and UNSUBSCRIBE (`subscribed` says which); the mailbox need not exist.
    ///
    /// # Errors
    /// As [`WriteError`] says.
    pub async fn subscribe(
        &self,
        account: AccountId,
        name: String,
        subscribed: bool,
    ) -> Result<Receipt<()>, WriteError> {
        self.submit_done(Op::Subscribe(account, name, subscribed)).await
    }

    /// Changes an account's Sieve scripts.
    ///
    /// # Errors
    /// As [`WriteError`] says.
    pub async fn change_scripts(
        &self,
        account: AccountId,
        change: ScriptChange,
    ) -> Result<Receipt<()>, WriteError> {
        self.submit_done(Op::Script(account, change)).await
    }

    /// Puts an account's record if its generation is newer. On a mail store a new account gets INBOX, Sent, Drafts,
    /// Trash, Junk and Archive; a tombstone removes its mailboxes.
    ///
    /// # Errors
    /// `Refused(Stale)` when an equal or newer generation is here; in the directory `Refused(AlreadyExists)` when
    /// the address is another's.
    pub async fn put_account(&self, account: Account) -> Result<Receipt<()>, WriteError> {
        self.submit_done(Op::PutAccount(account)).await
    }

    /// Puts many accounts in one record batch (import). Answers how many were new or newer.
    ///
    /// # Errors
    /// As [`WriteError`] says.
    pub async fn put_accounts(&self, accounts: Vec<Account>) -> Result<Receipt<u64>, WriteError> {
        expect!(self.submit(Op::PutAccounts(accounts)).await?, Value::Count(v) => v)
    }

    /// Puts a domain's record if its generation is newer.
    ///
    /// # Errors
    /// As [`WriteError`] says.
    pub async fn put_domain(&self, domain: Domain) -> Result<Receipt<()>, WriteError> {
        self.submit_done(Op::PutDomain(domain)).await
    }

    /// Puts an alias's record if its generation is newer.
    ///
    /// # Errors
    /// As [`WriteError`] says.
    pub async fn put_alias(&self, alias: Alias) -> Result<Receipt<()>, WriteError> {
        self.submit_done(Op::PutAlias(alias)).await
    }

    /// Puts the names of the stores whose records a rebuild of the directory had to leave out, in place of those
    /// that were held.
    ///
    /// # Errors
    /// As [`WriteError`] says.
    pub async fn put_gaps(&self, missing: Vec<StoreName>) -> Result<Receipt<()>, WriteError> {
        self.submit_done(Op::PutGaps(missing)).await
    }

    /// Takes a message into the queue. A (delivery, recipient address) that is or was here is passed over.
    ///
    /// # Errors
    /// As [`WriteError`] says.
    pub async fn queue_put(&self, message: Enqueue) -> Result<Receipt<()>, WriteError> {
        let crc = crc32c::crc32c(&message.body);
        self.submit_done(Op::QueuePut(message, crc)).await
    }

    /// Changes one recipient of a queued message.
    ///
    /// # Errors
    /// As [`WriteError`] says.
    pub async fn queue_update(
        &self,
        delivery: DeliveryId,
        address: String,
        update: QueueUpdate,
    ) -> Result<Receipt<()>, WriteError> {
        self.submit_done(Op::QueueUpdate(delivery, address, update)).await
    }

    /// Adds a line to the bounded audit log (directory).
    ///
    /// # Errors
    /// As [`WriteError`] says.
    pub async fn audit(&self, at: i64, who: String, what: String) -> Result<Receipt<()>, WriteError> {
        self.submit_done(Op::Audit(at, who, what)).await
    }

    /// Takes one thing over from a line that a forced promotion has left behind, beside what is here by now; doing so again
    /// does nothing. `fork` is the highest MODSEQ of both lines.
    ///
    /// # Errors
    /// As [`WriteError`] says.
    pub async fn salvage(&self, fork: ModSeq, item: Item) -> Result<Receipt<Salvaged>, WriteError> {
        expect!(self.submit(Op::Salvage(fork, Box::new(item))).await?, Value::Salvaged(v) => *v)
    }

    /// Brings expunged messages back, each at most once.
    ///
    /// # Errors
    /// As [`WriteError`] says.
    pub async fn undelete(&self, asked: Undelete) -> Result<Receipt<Undeleted>, WriteError> {
        let receipt = expect!(self.submit(Op::Undelete(asked)).await?, Value::Undeleted(v) => v)?;
        self.shared.stats.undeleted(receipt.value.messages.len() as u64);
        Ok(receipt)
    }

    /// Takes expunged messages away for good, the oldest first and a bounded number of them.
    ///
    /// # Errors
    /// As [`WriteError`] says.
    pub async fn purge(&self, asked: Purge) -> Result<Receipt<Purged>, WriteError> {
        let receipt = expect!(self.submit(Op::Purge(asked)).await?, Value::Purged(v) => v)?;
        self.shared.stats.purged(receipt.value.messages, receipt.value.early);
        Ok(receipt)
    }

    /// For how long what is expunged can be brought back; zero: it is gone.
    #[must_use]
    pub fn undelete_retention(&self) -> Duration {
        self.shared.undelete
    }

    /// Free octets on the volume, and all.
    pub(crate) fn room(&self) -> (u64, u64) {
        self.shared.space.measure()
    }

    /// Runs `read` on a consistent snapshot of the index, on a bounded pool of threads.
    ///
    /// # Errors
    /// What `read` returns; [`ReadError::NotServing`] when reads may not be served.
    pub async fn read<T, F>(&self, read: F) -> Result<T, ReadError>
    where
        T: Send + 'static,
        F: FnOnce(&View) -> Result<T, ReadError> + Send + 'static,
    {
        if !self.may_read() {
            return Err(ReadError::NotServing);
        }
        let permit = self.shared.readers.clone().acquire_owned().await;
        let permit = permit.map_err(|_| ReadError::NotServing)?;
        let pool = self.shared.pool.clone();
        let task = machine::blocking(move || {
            let outcome = read(&pool.view());
            drop(permit);
            outcome
        });
        let value = task.await.map_err(|e| ReadError::Io(format!("a read failed: {e}")))??;
        // Asked after reading: what was read is only shown by who may still serve it.
        if self.may_read() { Ok(value) } else { Err(ReadError::NotServing) }
    }

    /// A receiver that changes whenever this mailbox has (its HIGHESTMODSEQ); for IDLE.
    #[must_use]
    pub fn watch_mailbox(&self, mailbox: u64) -> watch::Receiver<ModSeq> {
        let mut watched = self.shared.mailboxes.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.len() >= WATCHED && watched.len().is_power_of_two() {
            watched.retain(|_, sender| !sender.is_closed());
        }
        watched.entry(mailbox).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    /// A receiver that changes whenever an account, domain or alias record has (a counter); for the directory.
    #[must_use]
    pub fn watch_directory(&self) -> watch::Receiver<u64> {
        self.shared.directory.subscribe()
    }

    /// A receiver that changes whenever something entered the queue.
    #[must_use]
    pub fn watch_queue(&self) -> watch::Receiver<u64> {
        self.shared.queue.subscribe()
    }

    /// A receiver that changes whenever a person wants something in the queue tried sooner.
    #[must_use]
    pub fn watch_flushed(&self) -> watch::Receiver<u64> {
        self.shared.flushed.subscribe()
    }
}
