//! Reads a stopped copy, and writes what only its line has. Of the copy nothing is changed: what its log has beyond what is
//! known to be committed is applied to its index in a transaction that is never committed.

use std::{io::Write, path::Path};

use mailcluster_types::{Epoch, Seq};
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    Head, HeadEpoch, Item, MadeMailbox, Queued, What,
    file::{self, Part},
    log::Log,
    objects::Objects,
};
use crate::{
    apply::{Changed, Hot},
    description::ReplicaDescription,
    engine::Engine,
    error::{OpenError, ReadError},
    log_reader::LoggedBatch,
    model::{Account, EpochMark},
    record::{Framed, Mark, PutAccount, PutSieve, QueuePut, Record},
    replay::Index,
    replica::Replica,
    schema::{self, State},
    segment::{Found, Reader},
    tools::{self, ToolError},
    view::View,
};

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gathered {
    /// Items.
    pub items: u64,
    /// Octets of the file, without what stands around its items.
    pub octets: u64,
    /// Messages whose text is damaged; each is reported.
    pub damaged: u64,
}

/// Where items go.
pub struct Sink<'a> {
    out: &'a mut dyn Write,
    done: Gathered,
    progress: &'a mut dyn FnMut(&Gathered, Option<&str>),
}

impl Sink<'_> {
    /// Writes one.
    pub fn item(&mut self, key: Option<Mark>, what: What) -> Result<(), ToolError> {
        let item = Item { key, what: Some(what) };
        self.done.octets += item.octets() as u64;
        file::write(self.out, Part::Item(item))?;
        self.done.items += 1;
        if self.done.items.is_multiple_of(1000) {
            (self.progress)(&self.done, None);
        }
        Ok(())
    }

    /// Tells of a text that cannot be read.
    pub fn damaged(&mut self, what: &str) {
        self.done.damaged += 1;
        (self.progress)(&self.done, Some(what));
    }
}

/// Writes to `out` what the copy in `dir` has behind record `after`, which is the last one of both lines. `progress` is
/// called now and then, with a line about each message that is damaged.
///
/// # Errors
/// As [`ToolError`] says: also when the store is damaged, since of that it cannot be told what went and what is lost.
pub fn gather(
    dir: &Path,
    (epoch, after): (Epoch, Seq),
    out: &mut dyn Write,
    progress: &mut dyn FnMut(&Gathered, Option<&str>),
) -> Result<Gathered, ToolError> {
    let replica = tools::open(dir)?;
    let (view, state) = whole(&replica)?;
    let described = replica.describe();
    let epochs = view.epochs()?;
    let is_there =
        epochs.iter().rev().find(|mark| mark.first_seq <= after).is_some_and(|mark| mark.epoch == epoch);
    if !(is_there && after <= described.end.1) {
        return Err(ToolError::NotFound(format!("record {epoch}/{after} in this copy")));
    }
    let log = Log { dir, identity: &described.identity, end: described.end.1 };
    let shared = log.shared(after)?;
    file::begin(out)?;
    file::write(out, Part::Head(head(&described, &epochs, (after, shared.modseq))))?;
    let mut sink = Sink { out, done: Gathered::default(), progress };
    let conn = view.connection()?;
    let made = Made { view: &view, conn };
    log.each(after, log.end, &mut |batch, records| made.batch(batch, records, &mut sink))?;
    let body = state.body.saturating_sub(shared.bodies_since);
    Objects { view: &view, conn, modseq: shared.modseq, body }.gather(&mut sink)?;
    let done = sink.done;
    file::write(out, Part::End(super::End { items: done.items }))?;
    out.flush()?;
    Ok(done)
}

fn head(copy: &ReplicaDescription, epochs: &[EpochMark], (after, modseq): (Seq, u64)) -> Head {
    let epoch =
        |mark: &EpochMark| HeadEpoch { epoch: mark.epoch, first: mark.first_seq, forced: mark.forced };
    Head {
        cluster: copy.identity.cluster.to_bytes().to_vec(),
        store: copy.identity.store.to_string(),
        replica: copy.identity.replica.to_bytes().to_vec(),
        epochs: epochs.iter().map(epoch).collect(),
        end_epoch: copy.end.0,
        end: copy.end.1,
        after,
        modseq,
    }
}

/// The index with all of the log, in a transaction that ends with the view.
fn whole(replica: &Replica) -> Result<(View, State), ToolError> {
    let engine = &replica.engine;
    let failed = |e: rusqlite::Error| OpenError::Index(e.to_string());
    let ids = (engine.identity.cluster.to_bytes(), engine.identity.replica.to_bytes());
    let conn = schema::open_writer(&engine.dir, (&ids.0, &ids.1)).map_err(failed)?;
    conn.execute_batch("BEGIN IMMEDIATE").map_err(failed)?;
    let mut state = State::load(&conn).map_err(failed)?;
    let mut hot = Hot::new(&engine.identity.store);
    let mut reader: Option<Reader> = None;
    for placed in engine.tail.up_to(Seq::MAX) {
        if reader.as_ref().is_none_or(|open| open.head.first != placed.segment) {
            reader = Reader::open(&Engine::log_dir(&engine.dir), placed.segment, &engine.identity)?;
        }
        let found = reader.as_ref().map(|segment| segment.batch(placed.offset)).transpose()?;
        let Some(Found::Batch(_, payload)) = found else {
            return Err(OpenError::Damaged("the log's end: a batch is gone".into()).into());
        };
        let changed = &mut Changed::default();
        Index { conn: &conn, state: &mut state, hot: &mut hot, changed }.apply(placed, &payload)?;
    }
    Ok((View::over(conn, &replica.pool()), state))
}

/// What records made, as it is at the end.
struct Made<'a> {
    view: &'a View,
    conn: &'a Connection,
}

impl Made<'_> {
    fn batch(&self, batch: &LoggedBatch, records: &[Framed], sink: &mut Sink<'_>) -> Result<(), ToolError> {
        for (seq, framed) in (batch.seq..).zip(records) {
            for (number, what) in (0..).zip(self.items(&framed.record, sink)?) {
                let key = Mark { place: batch.epoch, number, born: seq };
                sink.item(Some(key), what)?;
            }
        }
        Ok(())
    }

    fn items(&self, record: &Record, sink: &mut Sink<'_>) -> Result<Vec<What>, ToolError> {
        Ok(match record {
            Record::CreateMailbox(r) => self.mailboxes(&r.account, r.mailboxes.iter().map(|m| m.id))?,
            Record::RenameMailbox(r) => {
                let mut all = self.mailboxes(&r.account, r.created.iter().map(|m| m.id))?;
                let renamed = self.mailboxes(&r.account, r.renames.iter().map(|m| m.mailbox))?;
                all.extend(renamed.into_iter().filter_map(|what| match what {
                    What::Mailbox(mailbox) => Some(What::Renamed(mailbox)),
                    _ => None,
                }));
                all
            }
            Record::Subscribe(r) if r.subscribed => self.subscribed(&r.account, &r.name)?,
            Record::PutSieve(r) => self.sieve(r)?,
            Record::PutAccount(r) => self.account(r)?,
            Record::PutDomain(r) => vec![What::Domain(r.clone())],
            Record::PutAlias(r) => vec![What::Alias(r.clone())],
            Record::Audit(r) => vec![What::Audit(r.clone())],
            Record::QueuePut(r) => self.queued(r, sink)?,
            Record::QueueUpdate(r) if r.retry.is_none() => vec![What::Done(r.clone())],
            _ => Vec::new(),
        })
    }

    fn mailboxes(&self, account: &[u8], ids: impl Iterator<Item = u64>) -> Result<Vec<What>, ToolError> {
        let mut found = Vec::new();
        for id in ids {
            let row = self
                .conn
                .prepare_cached("SELECT name, special_use FROM mailbox WHERE id=?")?
                .query_row([id], |r| Ok((r.get(0)?, r.get(1)?)))
                .optional()?;
            if let Some((name, special_use)) = row {
                found.push(What::Mailbox(MadeMailbox { account: account.to_vec(), id, name, special_use }));
            }
        }
        Ok(found)
    }

    fn subscribed(&self, account: &[u8], name: &str) -> Result<Vec<What>, ToolError> {
        let is: bool = self
            .conn
            .prepare_cached(
                "SELECT EXISTS(SELECT 1 FROM subscription WHERE account=(SELECT local FROM account WHERE id=?) AND name=?)",
            )?
            .query_row(params![account, name], |r| r.get(0))?;
        let name = MadeMailbox { account: account.to_vec(), name: name.to_owned(), ..MadeMailbox::default() };
        Ok(if is { vec![What::Subscribed(name)] } else { Vec::new() })
    }

    fn sieve(&self, r: &PutSieve) -> Result<Vec<What>, ToolError> {
        let row: Option<(Vec<u8>, bool)> = self
            .conn
            .prepare_cached(
                "SELECT script, active FROM sieve WHERE account=(SELECT local FROM account WHERE id=?) AND name=?",
            )?
            .query_row(params![r.account, r.name], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let script = |(script, active): (Vec<u8>, bool)| {
            What::Sieve(PutSieve { script: Some(script.into()), active, ..r.clone() })
        };
        Ok(row.map(script).into_iter().collect())
    }

    /// The record, and the mailboxes that the account got with it.
    fn account(&self, r: &PutAccount) -> Result<Vec<What>, ToolError> {
        let id = mailcluster_types::AccountId::from_slice(&r.id).ok_or(ReadError::NotFound)?;
        let Some(Account {
            address,
            store,
            generation,
            password_hash,
            quota_octets,
            suspended,
            pending,
            tombstone,
            ..
        }) = self.view.account_record(id)?
        else {
            return Ok(Vec::new());
        };
        let mut all = self.mailboxes(&r.id, r.mailboxes.iter().map(|m| m.id))?;
        all.insert(
            0,
            What::Account(PutAccount {
                id: r.id.clone(),
                address,
                store: store.to_string(),
                generation,
                password_hash,
                quota_octets,
                suspended,
                pending,
                tombstone,
                mailboxes: Vec::new(),
            }),
        );
        Ok(all)
    }

    /// A message that waits still, for those whom this record brought and who wait still.
    fn queued(&self, r: &QueuePut, sink: &mut Sink<'_>) -> Result<Vec<What>, ToolError> {
        let Some(delivery) = mailcluster_types::DeliveryId::from_slice(&r.delivery) else {
            return Ok(Vec::new());
        };
        let Some(item) = self.view.queue_item(delivery)? else { return Ok(Vec::new()) };
        let came = |address: &str| r.recipients.iter().any(|other| other.address == address);
        let recipients: Vec<_> =
            item.recipients.into_iter().filter(|left| came(&left.address)).map(Into::into).collect();
        if recipients.is_empty() {
            return Ok(Vec::new());
        }
        let text = match self.view.body(item.body) {
            Ok(text) => text,
            Err(ReadError::Damaged(what)) => {
                sink.damaged(&format!("queued message {delivery} is damaged: {what}"));
                return Ok(Vec::new());
            }
            Err(error) => return Err(error.into()),
        };
        let put = QueuePut { recipients, ..r.clone() };
        Ok(vec![What::Queued(Queued { put: Some(put), text })])
    }
}
