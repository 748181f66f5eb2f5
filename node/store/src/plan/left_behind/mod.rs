//! What a line that was left behind has, put beside what is here: what is decided in [`crate::left_behind::decide`] becomes
//! records, with the marks that keep it from being done again, in one change.

mod came;
mod records;

use bytes::Bytes;
use mailcluster_types::{ModSeq, Uid};
use rusqlite::{OptionalExtension, params};

use super::{MailboxRow, Plan, PlanError, Planned, Value, message::parse_keywords, undelete};
use crate::{
    error::Refusal,
    left_behind::{
        Gone, Item, MadeMailbox, NewFlags, Salvaged, What,
        decide::{self, Here, Verdict},
    },
    model::Flags,
    record::{self, FlagGroup, Mark, Record, SetFlags},
};

/// What an item becomes.
#[derive(Default)]
struct Out {
    records: Vec<(Record, Bytes)>,
    marks: Vec<Mark>,
    done: Salvaged,
}

impl Out {
    fn push(&mut self, record: impl Into<Record>) {
        self.records.push((record.into(), Bytes::new()));
    }

    fn keep(&mut self, what: String) {
        self.done.kept.push(what);
    }

    /// The marks stand before what they are for: one batch has both.
    fn finish(mut self) -> Planned {
        if !self.marks.is_empty() {
            self.records.insert(0, (record::Salvaged { marks: self.marks }.into(), Bytes::new()));
        }
        Planned { records: self.records, value: Value::Salvaged(Box::new(self.done)) }
    }
}

/// Decides what `item` becomes; `fork` is the highest MODSEQ of both lines.
pub fn salvage(cx: &mut Plan<'_>, fork: ModSeq, item: Item) -> Result<Planned, PlanError> {
    let mut out = Out::default();
    if let Some(key) = item.key {
        if is_marked(cx, &key)? {
            return Ok(out.finish());
        }
        out.marks.push(key);
    }
    match item.what {
        Some(What::Mailbox(made)) => mailbox(cx, &made, &mut out)?,
        Some(What::Renamed(made)) => renamed(cx, &made, &mut out)?,
        Some(What::Subscribed(made)) => subscribed(cx, &made, &mut out)?,
        Some(What::Came(came)) => came::came(cx, fork, came, &mut out)?,
        Some(What::Flags(flags)) => set_flags(cx, fork, flags, &mut out)?,
        Some(What::Gone(gone)) => expunge(cx, fork, &gone, &mut out)?,
        Some(other) => records::record(cx, other, &mut out)?,
        None => return Err(Refusal::NotAllowed("an item of a kind that this version does not know").into()),
    }
    Ok(out.finish())
}

fn is_marked(cx: &Plan<'_>, mark: &Mark) -> Result<bool, PlanError> {
    Ok(cx
        .conn
        .prepare_cached("SELECT EXISTS(SELECT 1 FROM salvaged WHERE place=? AND number=? AND born=?)")?
        .query_row(params![mark.place, mark.number, mark.born], |r| r.get(0))?)
}

/// A live account of this store, by the octets of its id.
fn account(cx: &mut Plan<'_>, id: &[u8]) -> Result<(i64, mailcluster_types::AccountId), PlanError> {
    let id = mailcluster_types::AccountId::from_slice(id);
    let id = id.ok_or(Refusal::NotAllowed("an account's id has 16 octets"))?;
    Ok((cx.own_account(id)?, id))
}

/// Made if nothing has its name.
fn mailbox(cx: &mut Plan<'_>, made: &MadeMailbox, out: &mut Out) -> Result<(), PlanError> {
    let (local, id) = account(cx, &made.account)?;
    if super::mailbox::find(cx, local, &made.name)?.is_some() {
        return Ok(());
    }
    let special_use = super::special_use(made.special_use);
    // The new line's own mailbox keeps its use.
    let special_use = if super::mailbox::has_use(cx, local, special_use)? { None } else { special_use };
    let create = crate::ops::CreateMailbox { account: id, name: made.name.clone(), special_use };
    out.records.extend(super::mailbox::create(cx, &create)?.records);
    out.done.counts.mailboxes += 1;
    Ok(())
}

/// A mailbox keeps the name that it has here: clients of the new line know it by that.
fn renamed(cx: &Plan<'_>, made: &MadeMailbox, out: &mut Out) -> Result<(), PlanError> {
    if let Ok(row) = cx.mailbox(made.id)
        && row.name != made.name
    {
        // It is told each time.
        out.marks.clear();
        let address = address(cx, row.account)?;
        out.keep(format!("{address}: mailbox {} was renamed to {}: it keeps its name", row.name, made.name));
    }
    Ok(())
}

fn subscribed(cx: &mut Plan<'_>, made: &MadeMailbox, out: &mut Out) -> Result<(), PlanError> {
    let (_, id) = account(cx, &made.account)?;
    let records = super::mailbox::subscribe(cx, id, &made.name, true)?.records;
    out.done.counts.mailboxes += records.len() as u64;
    out.records.extend(records);
    Ok(())
}

fn address(cx: &Plan<'_>, account: i64) -> Result<String, PlanError> {
    Ok(cx
        .conn
        .prepare_cached("SELECT address FROM account WHERE local=?")?
        .query_row([account], |r| r.get(0))?)
}

/// Names a message for people.
fn named(cx: &Plan<'_>, mailbox: &MailboxRow, uid: Uid) -> Result<String, PlanError> {
    Ok(format!("{} {} {uid}", address(cx, mailbox.account)?, mailbox.name))
}

/// The mailbox of that id, unless it is gone here.
fn known(cx: &Plan<'_>, id: u64) -> Result<Option<MailboxRow>, PlanError> {
    match cx.mailbox(id) {
        Ok(row) => Ok(Some(row)),
        Err(PlanError::Refused(Refusal::NoSuchMailbox)) => Ok(None),
        Err(error) => Err(error),
    }
}

fn set_flags(cx: &mut Plan<'_>, fork: ModSeq, item: NewFlags, out: &mut Out) -> Result<(), PlanError> {
    let Some(mailbox) = known(cx, item.mailbox)? else { return Ok(()) };
    let new = flags(item.system, item.keywords)?;
    let row: Option<(ModSeq, Flags)> = cx
        .conn
        .prepare_cached("SELECT modseq, system, keywords FROM message WHERE mailbox=? AND uid=?")?
        .query_row(params![mailbox.id, item.uid], |r| {
            Ok((r.get(0)?, Flags { system: r.get(1)?, keywords: parse_keywords(r.get(2)?) }))
        })
        .optional()?;
    let here = decide::here(row.as_ref().map(|(modseq, _)| *modseq), fork);
    match decide::flags(here, row.is_some_and(|(_, old)| old == new)) {
        Verdict::Nothing => {}
        Verdict::Apply => {
            out.push(flags_record(cx, mailbox.id, item.uid, &new));
            out.done.counts.flags += 1;
        }
        Verdict::Keep => {
            let message = named(cx, &mailbox, item.uid)?;
            let why = if here == Here::Gone { "removed" } else { "changed" };
            out.keep(format!("{message}: other flags: it has been {why} since"));
        }
    }
    Ok(())
}

fn flags(system: u32, keywords: Vec<String>) -> Result<Flags, PlanError> {
    let system = u8::try_from(system).ok().filter(|system| *system < 32);
    let system = system.ok_or(Refusal::NotAllowed("a message has the five system flags alone"))?;
    let flags = Flags { system, keywords: keywords.into_iter().collect() };
    super::message::check_keywords(&flags.keywords)?;
    Ok(flags)
}

fn flags_record(cx: &mut Plan<'_>, mailbox: u64, uid: Uid, flags: &Flags) -> SetFlags {
    let keywords = flags.keywords.iter().cloned().collect();
    let group = FlagGroup { system: flags.system.into(), keywords, uids: vec![uid] };
    SetFlags { mailbox, modseq: cx.next.next_modseq(cx.epoch), groups: vec![group] }
}

/// What both lines had and the other one no longer has.
fn expunge(cx: &mut Plan<'_>, fork: ModSeq, item: &Gone, out: &mut Out) -> Result<(), PlanError> {
    let Some(mailbox) = known(cx, item.mailbox)? else { return Ok(()) };
    if !item.there.is_sorted() {
        return Err(Refusal::NotAllowed("UIDs that are there rise").into());
    }
    let rows = cx
        .conn
        .prepare_cached(
            "SELECT uid, modseq FROM message WHERE mailbox=? AND uid BETWEEN ? AND ? AND born<=? ORDER BY uid",
        )?
        .query_map(params![mailbox.id, item.from, item.to, fork], |r| Ok((r.get(0)?, r.get(1)?)))?
        .collect::<Result<Vec<(Uid, ModSeq)>, _>>()?;
    let mut uids = Vec::new();
    for (uid, modseq) in rows {
        if item.there.binary_search(&uid).is_ok() {
            continue;
        }
        match decide::gone(decide::here(Some(modseq), fork)) {
            Verdict::Apply => uids.push(uid),
            Verdict::Keep => {
                let message = named(cx, &mailbox, uid)?;
                out.keep(format!("{message}: expunged or moved: it has been changed since, and stays"));
            }
            Verdict::Nothing => {}
        }
    }
    if !uids.is_empty() {
        out.done.counts.expunged += uids.len() as u64;
        let record = undelete::gone(cx, mailbox.id, uids);
        out.push(record);
    }
    Ok(())
}
