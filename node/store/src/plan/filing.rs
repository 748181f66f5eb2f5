//! What a script wants done with a message, as records. The script ran over a snapshot of before: mailboxes are found by
//! their names as they are now, and ids that were remembered meanwhile make it run again.

use bytes::Bytes;
use rusqlite::params;

use super::{Plan, PlanError, mailbox, message, queue, quota_allows, take_uids};
use crate::{
    apply::AccountHot,
    error::Refusal,
    model::Flags,
    names,
    ops::{DeliveryTarget, Filing, InMailbox, SeenId},
    record::{CreateMailbox, NewMailbox, Placed, Record, Seen, Stored},
};

/// Most copies, and most messages sent, of one account.
const MOST: usize = 64;

/// Octets that a target brings, for the limits of a batch.
pub fn weight(target: &DeliveryTarget) -> usize {
    let of_filing = |filing: &Filing| {
        let sent = filing.sends.iter().map(|send| send.message.body.len() + 512);
        sent.sum::<usize>() + filing.into.len() * 512 + filing.seen.len() * 32
    };
    target.prefix.len() + 256 + target.filing.as_deref().map_or(0, of_filing)
}

/// A target's part of a delivery.
pub struct Filed {
    pub stored: Stored,
    /// Records that stand before it.
    pub before: Vec<(Record, Bytes)>,
    /// Records that stand behind it.
    pub behind: Vec<(Record, Bytes)>,
}

/// What becomes of a target, of which nothing is done when it is refused.
pub type Outcome = Result<Filed, Refusal>;

/// Decides for one account, whose part without its places `stored` is.
pub fn file(
    cx: &mut Plan<'_>,
    account: AccountHot,
    (mut stored, filing): (Stored, Filing),
    size: u64,
) -> Result<Outcome, PlanError> {
    if filing.into.len() > MOST || filing.sends.len() > MOST {
        return Ok(Err(Refusal::NotAllowed("a script wants too much")));
    }
    for seen in &filing.seen {
        if is_seen(cx, account.local, seen)? {
            return Err(Refusal::Stale.into());
        }
    }
    let mut before = Vec::new();
    match places(cx, account, (&stored.account, filing.into), size, &mut before) {
        Ok(places) => put_places(&mut stored, places),
        Err(PlanError::Refused(refusal)) => return Ok(Err(refusal)),
        Err(error) => return Err(error),
    }
    stored.filtered = stored.mailbox == 0;
    stored.detail = filing.detail;
    stored.seen = filing.seen.iter().map(record_of).collect();
    let mut behind = Vec::new();
    for send in filing.sends {
        if let Some(unless) = send.unless {
            if is_seen(cx, account.local, &unless)? {
                continue;
            }
            stored.seen.push(record_of(&unless));
        }
        let crc = crc32c::crc32c(&send.message.body);
        behind.extend(queue::put(cx, send.message, crc)?.records);
    }
    Ok(Ok(Filed { stored, before, behind }))
}

fn record_of(seen: &SeenId) -> Seen {
    Seen { id: seen.id.to_vec(), until: seen.until }
}

fn put_places(stored: &mut Stored, mut places: Vec<Placed>) {
    if places.is_empty() {
        return;
    }
    let Placed { mailbox, uid, modseq, system, keywords } = places.remove(0);
    *stored = Stored { mailbox, uid, modseq, system, keywords, also: places, ..std::mem::take(stored) };
}

fn is_seen(cx: &Plan<'_>, account: i64, seen: &SeenId) -> Result<bool, PlanError> {
    let sql = "SELECT EXISTS(SELECT 1 FROM seen WHERE account=? AND id=? AND until>?)";
    Ok(cx.conn.prepare_cached(sql)?.query_row(params![account, &seen.id[..], cx.now], |r| r.get(0))?)
}

/// One place for each mailbox, which is made if it is asked for.
fn places(
    cx: &mut Plan<'_>,
    account: AccountHot,
    (owner, into): (&[u8], Vec<InMailbox>),
    size: u64,
    before: &mut Vec<(Record, Bytes)>,
) -> Result<Vec<Placed>, PlanError> {
    let mut made: Vec<NewMailbox> = Vec::new();
    let mut wanted: Vec<(u64, Flags)> = Vec::new();
    for into in into {
        let id = find_or_make(cx, account, &into, &mut made)?;
        match wanted.iter_mut().find(|(known, _)| *known == id) {
            Some((_, flags)) => {
                flags.system |= into.flags.system;
                flags.keywords.extend(into.flags.keywords);
            }
            None => wanted.push((id, into.flags)),
        }
    }
    let used: u64 = cx
        .conn
        .prepare_cached("SELECT octets FROM used WHERE account=?")?
        .query_row([account.local], |r| r.get(0))?;
    quota_allows(account.quota, used, size.saturating_mul(wanted.len() as u64))?;
    let mut places = Vec::with_capacity(wanted.len());
    for (id, flags) in wanted {
        // No mail is lost for a keyword that is too long.
        let keywords = message::check_keywords(&flags.keywords)
            .map_or_else(|_| Vec::new(), |()| flags.keywords.into_iter().collect());
        let uid_next = if made.iter().any(|new| new.id == id) {
            1
        } else {
            cx.conn
                .prepare_cached("SELECT uid_next FROM counter WHERE mailbox=?")?
                .query_row([id], |r| r.get(0))?
        };
        places.push(Placed {
            mailbox: id,
            uid: take_uids(uid_next, 1)?,
            modseq: cx.next.next_modseq(cx.epoch),
            system: flags.system.into(),
            keywords,
        });
    }
    if !made.is_empty() {
        let create = CreateMailbox { account: owner.to_vec(), mailboxes: made };
        before.push((create.into(), Bytes::new()));
    }
    Ok(places)
}

/// Mail is never lost for a name: what cannot be found or made is INBOX.
fn find_or_make(
    cx: &mut Plan<'_>,
    account: AccountHot,
    into: &InMailbox,
    made: &mut Vec<NewMailbox>,
) -> Result<u64, PlanError> {
    let name = names::canonical(&into.mailbox);
    if name == names::INBOX {
        return Ok(account.inbox);
    }
    if let Some(new) = made.iter().find(|new| new.name == name) {
        return Ok(new.id);
    }
    if let Some(id) = mailbox::find(cx, account.local, &name)? {
        return Ok(id);
    }
    let Ok(name) = names::normalise(&into.mailbox) else { return Ok(account.inbox) };
    if !into.create {
        return Ok(account.inbox);
    }
    let parents = match mailbox::missing_parents(cx, account.local, &name) {
        Ok(parents) => parents,
        Err(PlanError::Refused(_)) => return Ok(account.inbox),
        Err(error) => return Err(error),
    };
    let parents: Vec<_> = parents.into_iter().filter(|p| made.iter().all(|new| new.name != p.name)).collect();
    made.extend(parents);
    let new = mailbox::new_mailbox(cx, &name, None, true);
    let id = new.id;
    made.push(new);
    Ok(id)
}
