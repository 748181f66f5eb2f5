//! A store's life under the recorder: what is asked of it, and what must be true after each record of its log.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use mailcluster_types::{AccountId, Epoch, ReplicaId, Seq};
use rusqlite::Connection;

use super::{
    super::{
        rows::rows_of,
        support::{account, delivery, delivery_id, identity, target},
    },
    mail::{Act, Mail},
    rng::Rng,
    tape::{Event, Tape, plain},
};
use crate::{
    Append, CopyKind, CreateMailbox, Delivery, Enqueue, Expunge, FlagChange, FlagOp, Flags, Follower,
    Identity, LogReader, OpenGate, Purge, QueueRecipient, QueueUpdate, RecoverableFilter, Replica, Store,
    Undelete, WriteError,
    schema::{self, State},
};

pub const ME: &[ReplicaId] = &[ReplicaId(9)];
/// What is a replica's own: its id, and where in its segments things lie.
const OWN: [&str; 5] = ["replica", "segment", "offset", "start", "end"];

/// An index at one point: its rows, but for what is a replica's own, and its numbers that only rise.
#[derive(Debug, Clone)]
pub struct Reference {
    pub rows: Arc<Vec<String>>,
    pub state: State,
}

impl Reference {
    pub fn read(dir: &Path) -> Self {
        Self::of(&schema::open_reader(dir).unwrap())
    }

    pub fn of(conn: &Connection) -> Self {
        Self { rows: Arc::new(rows_of(conn, &OWN)), state: State::load(conn).unwrap() }
    }
}

/// What must be there, by the log's sequence.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub mail: BTreeMap<Seq, Mail>,
    pub references: BTreeMap<Seq, Reference>,
}

impl History {
    /// What is there when the log ends at `end`.
    pub fn mail_at(&self, end: Seq) -> Mail {
        self.mail.range(..=end).next_back().map(|(_, mail)| mail.clone()).unwrap_or_default()
    }

    /// Another future begins behind `end`.
    pub fn until(&self, end: Seq) -> Self {
        Self {
            mail: self.mail.range(..=end).map(|(seq, mail)| (*seq, mail.clone())).collect(),
            references: self.references.range(..=end).map(|(seq, r)| (*seq, r.clone())).collect(),
        }
    }
}

async fn find(store: &Store, (who, name): &(u128, String)) -> u64 {
    let (who, name) = (AccountId(*who), name.clone());
    store.read(move |v| v.mailbox_by_name(who, &name)).await.unwrap().unwrap().id
}

/// Mail to INBOX.
pub fn mail_for(act: &Act) -> Option<Delivery> {
    let Act::Deliver { id, to, text } = act else { return None };
    Some(Delivery { id: *id, ..delivery(to.iter().copied().map(target).collect(), text) })
}

fn recipient(address: String) -> QueueRecipient {
    QueueRecipient::new(address, 0)
}

/// What an act is on this store: ids are looked up before anything else is under way.
async fn prepare(store: &Store, act: Act) -> (Act, Vec<u64>) {
    let ids = match &act {
        Act::Append { to: of, .. } | Act::Flags { of, .. } | Act::Expunge { of, .. } | Act::Rename(of, _) => {
            vec![find(store, of).await]
        }
        Act::Copy { of, to, .. } => vec![find(store, of).await, find(store, &(of.0, to.clone())).await],
        Act::Delete(who, name) | Act::Undelete(who, name) => {
            vec![find(store, &(*who, name.clone())).await]
        }
        _ => Vec::new(),
    };
    (act, ids)
}

/// Does it; answers the sequence that the answer rests on.
async fn perform(store: &Store, (act, ids): (Act, Vec<u64>)) -> Result<Seq, WriteError> {
    let (_, seq) = match act {
        Act::Account(n) => store.put_account(account(n)).await?.position(),
        Act::Deliver { .. } => store.deliver(mail_for(&act).unwrap()).await?.position(),
        Act::Append { flags, text, .. } => {
            let flags = Flags { system: flags, ..Flags::default() };
            let at = 1_700_000_000;
            let append =
                Append { mailbox: ids[0], flags, internal_date: at, zone_minutes: 0, body: text.into() };
            store.append(append).await?.position()
        }
        Act::Flags { uids, add, flags, .. } => {
            let op = if add { FlagOp::Add } else { FlagOp::Remove };
            let flags = Flags { system: flags, ..Flags::default() };
            let change = FlagChange { mailbox: ids[0], uids, op, flags, unchanged_since: None };
            store.set_flags(change).await?.position()
        }
        Act::Copy { uids, moving, .. } => {
            let kind = if moving { CopyKind::Move } else { CopyKind::Copy };
            store.copy(ids[0], uids, ids[1], kind).await?.position()
        }
        Act::Expunge { uids, .. } => store.expunge(ids[0], Expunge::These(uids)).await?.position(),
        Act::Create(who, name) => {
            let create = CreateMailbox { account: AccountId(who), name, special_use: None };
            store.create_mailbox(create).await?.position()
        }
        Act::Rename(_, to) => store.rename_mailbox(ids[0], to).await?.position(),
        Act::Delete(..) => store.delete_mailbox(ids[0]).await?.position(),
        Act::Put { id, to, text } => {
            let to = to.into_iter().map(recipient).collect();
            let message = Enqueue {
                delivery: id,
                sender: "s@example.org".into(),
                at: 1_700_000_000,
                params: String::new(),
                recipients: to,
                body: text.into(),
            };
            store.queue_put(message).await?.position()
        }
        Act::Done { id, address } => {
            let done = QueueUpdate::Done { outcome: "250".into() };
            store.queue_update(id, address, done).await?.position()
        }
        Act::Undelete(who, name) => {
            let filter = RecoverableFilter { mailbox: Some(name), ..RecoverableFilter::default() };
            let found = store.read(move |v| v.recoverable(AccountId(who), &filter, 1000)).await;
            let found = found.map_err(|_| WriteError::NotServing)?;
            let there = found.iter().filter(|gone| gone.mailbox == ids[0]);
            let messages = there.map(|gone| (gone.mailbox, gone.uid)).collect();
            store.undelete(Undelete { account: AccountId(who), messages, into: None }).await?.position()
        }
        Act::Purge => store.purge(Purge { until: i64::MAX, early_octets: 0 }).await?.position(),
        Act::Epoch => {
            store.begin_epoch(store.epoch() + 1, ME).await?;
            store.committed()
        }
    };
    Ok(seq)
}

/// Does these at once, in this order; answers whether the store still serves.
pub async fn perform_all(store: &Store, acts: Vec<Act>, tape: &Tape, history: &mut History) -> bool {
    let mut mail = history.mail_at(Seq::MAX);
    let mut prepared = Vec::new();
    for act in &acts {
        prepared.push(prepare(store, act.clone()).await);
    }
    let tasks: Vec<_> = prepared
        .into_iter()
        .map(|act| {
            let (store, tape) = (store.clone(), tape.clone());
            tokio::spawn(async move {
                let answer = perform(&store, act).await;
                if let Ok(seq) = answer {
                    tape.told(seq);
                }
                answer
            })
        })
        .collect();
    let (mut unknown, mut serves) = (0, true);
    for (task, act) in tasks.into_iter().zip(&acts) {
        let before = mail.clone();
        mail.act(act);
        let seq = match task.await.unwrap() {
            Ok(seq) => seq,
            Err(WriteError::Unknown) => {
                // It may be in the log: one record, if it changes anything.
                unknown += u64::from(mail != before || matches!(act, Act::Epoch));
                serves = false;
                store.committed().1 + unknown
            }
            Err(WriteError::NotServing) => return false,
            Err(e) => panic!("{act:?}: {e}"),
        };
        history.mail.insert(seq, mail.clone());
    }
    serves
}

/// What is done in one go: some acts on messages, or one on mailboxes. Acts on the state that earlier ones leave.
pub fn round(rng: &mut Rng, mail: &Mail) -> Vec<Act> {
    let mut mail = mail.clone();
    let mut acts = Vec::new();
    for _ in 0..1 + rng.below(4) {
        let act = mail.next_act(rng, delivery_id());
        if act.is_alone() && !acts.is_empty() {
            break;
        }
        mail.act(&act);
        let is_alone = act.is_alone();
        acts.push(act);
        if is_alone {
            break;
        }
    }
    acts
}

/// Lives for so many rounds, now and then stopped and opened again.
pub async fn live(dir: &Path, tape: &Tape, rng: &mut Rng, rounds: usize) -> History {
    let mut history = History::default();
    let replica = Replica::initialise_with(dir, &identity(), &tape.options()).unwrap();
    tape.note(Event::Ready);
    let mut store = replica.serve(1, ME, Arc::new(OpenGate)).unwrap();
    tape.note(Event::Told(store.committed().1));
    for n in 0..rounds {
        let acts = round(rng, &history.mail_at(Seq::MAX));
        if !perform_all(&store, acts, tape, &mut history).await {
            break;
        }
        tape.note(Event::Told(store.committed().1));
        history.references.insert(store.committed().1, Reference::read(dir));
        assert_eq!(store.read(|v| v.verify()).await.unwrap(), Vec::<String>::new());
        if n % 7 == 6 {
            let epoch = store.epoch() + 2;
            drop(store.stop().await);
            store = restart(dir, tape, epoch).await;
            history.references.insert(store.committed().1, Reference::read(dir));
        }
    }
    drop(store.stop().await);
    history
}

pub async fn restart(dir: &Path, tape: &Tape, epoch: Epoch) -> Store {
    let mut replica = Replica::open_with(dir, &identity(), &tape.options()).unwrap();
    replica.promise(epoch).unwrap();
    tape.note(Event::Promised(epoch));
    let store = replica.serve(epoch, ME, Arc::new(OpenGate)).unwrap();
    tape.note(Event::Told(store.committed().1));
    store
}

/// Feeds a mirror with the log in `dir` as far as `end`, and answers what its index has after each batch.
pub fn mirrored(dir: &Path, mirror: &Path, end: Seq) -> Result<BTreeMap<Seq, Reference>, String> {
    let mut fed = Fed::new(mirror)?;
    fed.feed(dir, end)?;
    fed.end()
}

/// A mirror that is fed bit by bit.
pub struct Fed<'a> {
    dir: &'a Path,
    follower: Follower,
    references: BTreeMap<Seq, Reference>,
}

impl<'a> Fed<'a> {
    pub fn new(dir: &'a Path) -> Result<Self, String> {
        let other = Identity { replica: ReplicaId(10), ..identity() };
        let replica = Replica::initialise_with(dir, &other, &plain()).map_err(|e| e.to_string())?;
        let follower = Follower::new(replica).map_err(|e| e.to_string())?;
        Ok(Self { dir, follower, references: BTreeMap::new() })
    }

    /// With all that it has not got yet of the log in `dir`, as far as `end`.
    pub fn feed(&mut self, dir: &Path, end: Seq) -> Result<(), String> {
        let told = |e: crate::FollowError| e.to_string();
        let after = self.follower.end().seq;
        let mut reader = LogReader::after(dir, identity(), after).map_err(|e| e.to_string())?;
        while let Some(batch) = reader.next(end).map_err(|e| e.to_string())? {
            self.follower.append(batch.epoch, std::slice::from_ref(&batch)).map_err(told)?;
            self.follower.advance(Seq::MAX).map_err(told)?;
            self.references.insert(self.follower.end().seq, Reference::read(self.dir));
        }
        Ok(())
    }

    pub fn end(self) -> Result<BTreeMap<Seq, Reference>, String> {
        let wrong = self.follower.into_replica().view().verify().map_err(|e| e.to_string())?;
        if wrong.is_empty() {
            Ok(self.references)
        } else {
            Err(format!("a mirror's counters are wrong: {wrong:?}"))
        }
    }
}
