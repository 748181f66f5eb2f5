//! Messages that came on the line that was left behind: put where they are there, with new UIDs; moved; or left, since they
//! are here already, or the new line has done something else with them.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use mailcluster_types::{DeliveryId, ModSeq, Uid};
use rusqlite::{OptionalExtension, params};

use super::{Out, address, flags, flags_record, is_marked, known};
use crate::{
    apply::trace::{DEDUPE_SECONDS, Event},
    error::Refusal,
    left_behind::{
        Came, CameBody, CameMessage, Spot,
        decide::{self, CameView, Here, Known, Place},
    },
    model::Flags,
    names,
    plan::{MailboxRow, Plan, PlanError, mailbox, take_uids},
    record::{Append, Copy, CreateMailbox, Deliver, Stored},
};

/// A message of both lines that has one of the bodies.
struct Lost {
    spot: Spot,
    here: Here,
    flags: Flags,
}

/// Where messages go within one change.
struct Target {
    id: u64,
    next: u64,
}

struct Work<'a, 'b, 'c> {
    cx: &'a mut Plan<'b>,
    out: &'c mut Out,
    account: i64,
    id: Vec<u8>,
    address: String,
    /// By the other line's mailbox.
    targets: BTreeMap<u64, Target>,
    /// Made in this change.
    made: BTreeMap<String, u64>,
    /// Deliveries that this change brings.
    brought: BTreeSet<Vec<u8>>,
}

pub fn came(cx: &mut Plan<'_>, fork: ModSeq, item: Came, out: &mut Out) -> Result<(), PlanError> {
    let rises = item.bodies.windows(2).all(|pair| pair[0].body < pair[1].body);
    if !rises {
        return Err(Refusal::NotAllowed("bodies rise").into());
    }
    let (account, _) = super::account(cx, &item.account)?;
    let address = address(cx, account)?;
    let mut lost = lost(cx, account, fork, &item.bodies)?;
    let (targets, made, brought) = Default::default();
    let mut work = Work { cx, out, account, id: item.account, address, targets, made, brought };
    for body in item.bodies {
        let lost = lost.remove(&body.body).unwrap_or_default();
        work.body(body, &lost)?;
    }
    Ok(())
}

/// The messages here of bodies that both lines had, as the two had them, which the other line does not have any more. One
/// look through the account for all.
fn lost(
    cx: &Plan<'_>,
    account: i64,
    fork: ModSeq,
    bodies: &[CameBody],
) -> Result<BTreeMap<u64, Vec<Lost>>, PlanError> {
    let held: BTreeMap<u64, BTreeSet<Spot>> = bodies
        .iter()
        .filter(|body| body.was_there)
        .map(|body| (body.body, body.held.iter().copied().collect()))
        .collect();
    let mut found: BTreeMap<u64, Vec<Lost>> = BTreeMap::new();
    if held.is_empty() {
        return Ok(found);
    }
    let mut query = cx.conn.prepare_cached(
        "SELECT g.body, g.mailbox, g.uid, g.modseq, g.system, g.keywords FROM mailbox m \
         JOIN message g ON g.mailbox=m.id WHERE m.account=? AND g.born<=? ORDER BY g.mailbox, g.uid",
    )?;
    let mut rows = query.query(params![account, fork])?;
    while let Some(row) = rows.next()? {
        let body: u64 = row.get(0)?;
        let spot = Spot { mailbox: row.get(1)?, uid: row.get(2)? };
        if held.get(&body).is_some_and(|held| !held.contains(&spot)) {
            let flags = Flags { system: row.get(4)?, keywords: super::parse_keywords(row.get(5)?) };
            let here = decide::here(Some(row.get(3)?), fork);
            found.entry(body).or_default().push(Lost { spot, here, flags });
        }
    }
    Ok(found)
}

impl Work<'_, '_, '_> {
    fn body(&mut self, mut body: CameBody, lost: &[Lost]) -> Result<(), PlanError> {
        let mut came = Vec::with_capacity(body.came.len());
        let mut is_begun = false;
        for message in std::mem::take(&mut body.came) {
            if is_marked(self.cx, &message.mark())? {
                is_begun = true;
            } else {
                came.push(message);
            }
        }
        if came.is_empty() {
            return Ok(());
        }
        // Once one of a delivery's messages was brought, the others are its copies.
        let known = if is_begun { Known::No } else { self.known(&body, &came[0])? };
        let here: Vec<Here> = lost.iter().map(|lost| lost.here).collect();
        let view = CameView {
            was_there: body.was_there,
            came: came.len(),
            held: body.held.len(),
            lost: &here,
            known,
        };
        // The first that was put there anew: the others are copied from it.
        let mut first = None;
        for (message, place) in came.iter().zip(decide::place(&view)) {
            match place {
                Place::Move(at) => self.moved(message, &lost[at])?,
                Place::New => self.put(&body, message, (is_begun, known), &mut first)?,
                Place::Already => {
                    self.out.marks.push(message.mark());
                    self.out.done.counts.already += 1;
                }
                Place::Keep => {
                    let what = "moved: it has been changed or removed since, and is not moved";
                    self.keep(message, what);
                }
                Place::Hold => {
                    let id =
                        DeliveryId::from_slice(&body.delivery).map(|id| id.to_string()).unwrap_or_default();
                    let what = format!(
                        "came by delivery {id}, so long ago that it is not known whether that came here, too: not put here"
                    );
                    self.keep(message, &what);
                }
            }
        }
        Ok(())
    }

    fn keep(&mut self, message: &CameMessage, what: &str) {
        let CameMessage { name, uid, .. } = message;
        self.out.keep(format!("{} {name} {uid} (of the line left behind): {what}", self.address));
    }

    /// Has the delivery that brought this body come here, too?
    fn known(&self, body: &CameBody, first: &CameMessage) -> Result<Known, PlanError> {
        if body.was_there || body.delivery.is_empty() {
            return Ok(Known::No);
        }
        if self.brought.contains(&body.delivery) {
            return Ok(Known::Yes);
        }
        let (is_known, is_told): (bool, bool) = self
            .cx
            .conn
            .prepare_cached(
                "SELECT EXISTS(SELECT 1 FROM delivered WHERE delivery=?1 AND account=?2), \
                 EXISTS(SELECT 1 FROM history h JOIN mailbox m ON m.id=h.mailbox WHERE h.delivery=?1 \
                 AND h.event=?3 AND m.account=?2)",
            )?
            .query_row(params![body.delivery, self.account, Event::Delivered as i64], |r| {
                Ok((r.get(0)?, r.get(1)?))
            })?;
        if is_known || is_told {
            return Ok(Known::Yes);
        }
        let is_recent = first.internal_date >= self.cx.next.clock - DEDUPE_SECONDS;
        Ok(if is_recent || self.history_is_whole()? { Known::No } else { Known::Forgotten })
    }

    /// Is there still a line of every delivery that ever came?
    fn history_is_whole(&self) -> Result<bool, PlanError> {
        let first: Option<u64> =
            self.cx.conn.prepare_cached("SELECT min(id) FROM history")?.query_row([], |r| r.get(0))?;
        Ok(first.is_none_or(|first| first <= 1))
    }

    /// Moves the message that is here, with the flags that it has there.
    fn moved(&mut self, message: &CameMessage, from: &Lost) -> Result<(), PlanError> {
        let to = self.target(message)?;
        let uid = self.uid(message.mailbox)?;
        let copy = Copy {
            from: from.spot.mailbox,
            to,
            uids: vec![from.spot.uid],
            first_uid: uid,
            modseq: self.cx.next.next_modseq(self.cx.epoch),
            moved_modseq: self.cx.next.next_modseq(self.cx.epoch),
            at: self.cx.now,
        };
        self.out.push(copy);
        let new = flags(message.system, message.keywords.clone())?;
        if new != from.flags {
            let record = flags_record(self.cx, to, uid, &new);
            self.out.push(record);
        }
        self.out.marks.push(message.mark());
        self.out.done.counts.moved += 1;
        Ok(())
    }

    fn put(
        &mut self,
        body: &CameBody,
        message: &CameMessage,
        (is_begun, known): (bool, Known),
        first: &mut Option<(Spot, Flags)>,
    ) -> Result<(), PlanError> {
        let new = flags(message.system, message.keywords.clone())?;
        let Some(text) = &body.text else {
            self.keep(message, "its text is damaged there: not put here");
            return Ok(());
        };
        let to = self.target(message)?;
        let uid = self.uid(message.mailbox)?;
        if let Some((from, old)) = first {
            let (from, is_equal) = (*from, *old == new);
            self.copied(from, Spot { mailbox: to, uid });
            if !is_equal {
                let record = flags_record(self.cx, to, uid, &new);
                self.out.push(record);
            }
        } else {
            let is_delivery = !(body.delivery.is_empty() || body.was_there || is_begun || known != Known::No);
            if is_delivery {
                self.delivered(body, message, (to, uid), text);
                if new != Flags::default() {
                    let record = flags_record(self.cx, to, uid, &new);
                    self.out.push(record);
                }
            } else {
                self.appended(message, (to, uid), (&new, text));
            }
            *first = Some((Spot { mailbox: to, uid }, new));
        }
        self.out.marks.push(message.mark());
        self.out.done.counts.messages += 1;
        Ok(())
    }

    fn copied(&mut self, from: Spot, to: Spot) {
        let copy = Copy {
            from: from.mailbox,
            to: to.mailbox,
            uids: vec![from.uid],
            first_uid: to.uid,
            modseq: self.cx.next.next_modseq(self.cx.epoch),
            moved_modseq: 0,
            at: self.cx.now,
        };
        self.out.push(copy);
    }

    /// As a delivery: a queue that tries it again finds it here.
    fn delivered(
        &mut self,
        body: &CameBody,
        message: &CameMessage,
        (mailbox, uid): (u64, Uid),
        text: &Bytes,
    ) {
        self.brought.insert(body.delivery.clone());
        let stored = Stored {
            account: self.id.clone(),
            recipient: self.address.clone(),
            mailbox,
            uid,
            modseq: self.cx.next.next_modseq(self.cx.epoch),
            ..Stored::default()
        };
        let record = Deliver {
            delivery: body.delivery.clone(),
            sender: String::new(),
            at: message.internal_date,
            body_crc: crc32c::crc32c(text),
            targets: vec![stored],
            met: String::new(),
        };
        self.out.records.push((record.into(), text.clone()));
    }

    fn appended(
        &mut self,
        message: &CameMessage,
        (mailbox, uid): (u64, Uid),
        (flags, text): (&Flags, &Bytes),
    ) {
        let record = Append {
            mailbox,
            uid,
            modseq: self.cx.next.next_modseq(self.cx.epoch),
            system: flags.system.into(),
            keywords: flags.keywords.iter().cloned().collect(),
            internal_date: message.internal_date,
            zone_minutes: message.zone_minutes,
            body_crc: crc32c::crc32c(text),
            account: self.id.clone(),
        };
        self.out.records.push((record.into(), text.clone()));
    }

    /// The mailbox that the message belongs into: the same one, or one of its name, which is made when there is none.
    fn target(&mut self, message: &CameMessage) -> Result<u64, PlanError> {
        if let Some(target) = self.targets.get(&message.mailbox) {
            return Ok(target.id);
        }
        let target = match known(self.cx, message.mailbox)?.filter(|row| row.account == self.account) {
            Some(MailboxRow { id, uid_next, .. }) => Target { id, next: uid_next },
            None => self.named(&message.name)?,
        };
        let id = target.id;
        self.targets.insert(message.mailbox, target);
        Ok(id)
    }

    fn named(&mut self, name: &str) -> Result<Target, PlanError> {
        if let Some(id) = mailbox::find(self.cx, self.account, &names::canonical(name))? {
            let next = self
                .cx
                .conn
                .prepare_cached("SELECT uid_next FROM counter WHERE mailbox=?")?
                .query_row([id], |r| r.get(0))
                .optional()?;
            return Ok(Target { id, next: next.unwrap_or(1) });
        }
        let name = names::normalise(name)?;
        if let Some(id) = self.made.get(&name) {
            return Ok(Target { id: *id, next: 1 });
        }
        let mut mailboxes = mailbox::missing_parents(self.cx, self.account, &name)?;
        mailboxes.retain(|parent| !self.made.contains_key(&parent.name));
        mailboxes.push(mailbox::new_mailbox(self.cx, &name, None, false));
        self.made.extend(mailboxes.iter().map(|made| (made.name.clone(), made.id)));
        self.out.done.counts.mailboxes += mailboxes.len() as u64;
        self.out.push(CreateMailbox { account: self.id.clone(), mailboxes });
        let id = self.made.get(&name).copied().unwrap_or_default();
        Ok(Target { id, next: 1 })
    }

    /// The next UID of the mailbox that this one of the other line becomes.
    fn uid(&mut self, mailbox: u64) -> Result<Uid, PlanError> {
        let id = self.targets.get(&mailbox).map(|target| target.id);
        let same = self.targets.values_mut().filter(|target| Some(target.id) == id);
        // Two mailboxes of the other line may have become one.
        let mut next = 1;
        for target in same {
            next = next.max(target.next);
            target.next = next + 1;
        }
        for target in self.targets.values_mut().filter(|target| Some(target.id) == id) {
            target.next = next + 1;
        }
        Ok(take_uids(next, 1)?)
    }
}
