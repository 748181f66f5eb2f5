//! The objects of a line that was left behind, from its index: what has another MODSEQ than both lines can have.

use bytes::Bytes;
use mailcluster_types::{ModSeq, Uid};
use rusqlite::{Connection, Row, params};

use super::{Came, CameBody, CameMessage, Gone, Item, NewFlags, Spot, What, gather::Sink};
use crate::{error::ReadError, plan::parse_keywords, tools::ToolError, view::View};

/// UIDs of one item of what is still there.
const UIDS: i64 = 10_000;
/// Bodies of one item, and octets of their texts from which on it ends.
const BODIES: usize = 128;
const OCTETS: usize = 4 << 20;

impl From<rusqlite::Error> for ToolError {
    fn from(e: rusqlite::Error) -> Self {
        Self::Read(ReadError::from(e))
    }
}

/// An index, all of the log applied.
pub struct Objects<'a> {
    pub view: &'a View,
    pub conn: &'a Connection,
    /// The highest MODSEQ and the last body of both lines.
    pub modseq: ModSeq,
    pub body: u64,
}

struct Changed {
    mailbox: u64,
    uid_next: u64,
}

/// A message, as one of a body.
struct OfBody {
    body: u64,
    message: CameMessage,
    delivery: Vec<u8>,
    held: bool,
}

fn of_body(r: &Row<'_>, modseq: ModSeq) -> rusqlite::Result<OfBody> {
    let born: ModSeq = r.get(4)?;
    Ok(OfBody {
        body: r.get(0)?,
        message: CameMessage {
            mailbox: r.get(1)?,
            name: r.get(2)?,
            uid: r.get(3)?,
            born,
            system: r.get(5)?,
            keywords: parse_keywords(r.get(6)?).into_iter().collect(),
            internal_date: r.get(7)?,
            zone_minutes: r.get(8)?,
        },
        delivery: r.get::<_, Option<Vec<u8>>>(9)?.unwrap_or_default(),
        held: born <= modseq,
    })
}

impl Objects<'_> {
    /// Everything, account by account: first what came, then what changed, then what went, so that what moved is moved
    /// before it is missed.
    pub fn gather(&self, sink: &mut Sink<'_>) -> Result<(), ToolError> {
        let mut accounts = self.conn.prepare(
            "SELECT DISTINCT a.local, a.id FROM account a JOIN mailbox m ON m.account=a.local \
             JOIN counter c ON c.mailbox=m.id WHERE a.tombstone=0 AND c.modseq>? ORDER BY a.local",
        )?;
        let mut rows = accounts.query([self.modseq])?;
        while let Some(row) = rows.next()? {
            let (local, id): (i64, Vec<u8>) = (row.get(0)?, row.get(1)?);
            self.came(local, &id, sink)?;
            let changed = self.changed(local)?;
            for mailbox in &changed {
                self.flags(mailbox.mailbox, sink)?;
            }
            for mailbox in &changed {
                self.gone(mailbox, sink)?;
            }
        }
        Ok(())
    }

    /// The account's mailboxes in which something changed; an account has a bounded number.
    fn changed(&self, account: i64) -> Result<Vec<Changed>, ToolError> {
        let mut query = self.conn.prepare_cached(
            "SELECT m.id, c.uid_next FROM mailbox m JOIN counter c ON c.mailbox=m.id \
             WHERE m.account=? AND c.modseq>? ORDER BY m.id",
        )?;
        let rows = query.query_map(params![account, self.modseq], |r| {
            Ok(Changed { mailbox: r.get(0)?, uid_next: r.get(1)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn came(&self, account: i64, id: &[u8], sink: &mut Sink<'_>) -> Result<(), ToolError> {
        let mut query = self.conn.prepare_cached(
            "SELECT g.body, g.mailbox, m.name, g.uid, g.born, g.system, g.keywords, g.internal_date, g.zone, \
             g.delivery FROM message g JOIN mailbox m ON m.id=g.mailbox WHERE m.account=?1 AND g.body IN \
             (SELECT n.body FROM message n JOIN mailbox o ON o.id=n.mailbox WHERE o.account=?1 AND n.born>?2) \
             ORDER BY g.body, g.born, g.mailbox, g.uid",
        )?;
        let mut rows = query.query(params![account, self.modseq])?;
        let empty = || Came { account: id.to_vec(), bodies: Vec::new() };
        let (mut part, mut octets) = (empty(), 0);
        while let Some(row) = rows.next()? {
            let OfBody { body, message, delivery, held } = of_body(row, self.modseq)?;
            if part.bodies.last().is_none_or(|last| last.body != body) {
                if part.bodies.len() >= BODIES || octets >= OCTETS {
                    sink.item(None, What::Came(std::mem::replace(&mut part, empty())))?;
                    octets = 0;
                }
                let text = self.text(body, &message, sink)?;
                octets += text.as_ref().map_or(0, Bytes::len);
                let was_there = body <= self.body;
                part.bodies.push(CameBody { body, was_there, text, delivery, ..CameBody::default() });
            }
            match part.bodies.last_mut() {
                Some(last) if held => last.held.push(Spot { mailbox: message.mailbox, uid: message.uid }),
                Some(last) => last.came.push(message),
                None => {}
            }
        }
        if part.bodies.is_empty() { Ok(()) } else { sink.item(None, What::Came(part)) }
    }

    fn text(&self, body: u64, of: &CameMessage, sink: &mut Sink<'_>) -> Result<Option<Bytes>, ToolError> {
        match self.view.body(body) {
            Ok(text) => Ok(Some(text)),
            Err(ReadError::Damaged(what)) => {
                sink.damaged(&format!("message {} of {} is damaged: {what}", of.uid, of.name));
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Messages that both lines had and that are still there, with other flags.
    fn flags(&self, mailbox: u64, sink: &mut Sink<'_>) -> Result<(), ToolError> {
        let mut query = self.conn.prepare_cached(
            "SELECT uid, system, keywords FROM message WHERE mailbox=?1 AND modseq>?2 AND born<=?2 AND modseq<>born \
             ORDER BY uid",
        )?;
        let mut rows = query.query(params![mailbox, self.modseq])?;
        while let Some(row) = rows.next()? {
            let keywords = parse_keywords(row.get(2)?).into_iter().collect();
            let flags = NewFlags { mailbox, uid: row.get(0)?, system: row.get(1)?, keywords };
            sink.item(None, What::Flags(flags))?;
        }
        Ok(())
    }

    /// Of the messages that both lines had, those that are still there; the others went. That needs no history of expunges,
    /// which is bounded.
    fn gone(&self, changed: &Changed, sink: &mut Sink<'_>) -> Result<(), ToolError> {
        let last = u32::try_from(changed.uid_next.saturating_sub(1)).unwrap_or(u32::MAX);
        let mut from: Uid = 1;
        while from <= last {
            let mut query = self.conn.prepare_cached(
                "SELECT uid FROM message WHERE mailbox=? AND born<=? AND uid>=? ORDER BY uid LIMIT ?",
            )?;
            let there = query
                .query_map(params![changed.mailbox, self.modseq, from, UIDS], |r| r.get(0))?
                .collect::<Result<Vec<Uid>, _>>()?;
            let is_full = i64::try_from(there.len()).is_ok_and(|n| n == UIDS);
            let to = there.last().copied().filter(|_| is_full).unwrap_or(last);
            sink.item(None, What::Gone(Gone { mailbox: changed.mailbox, from, to, there }))?;
            let Some(next) = to.checked_add(1) else { break };
            from = next;
        }
        Ok(())
    }
}

impl Item {
    /// Does it need room for mail?
    #[must_use]
    pub fn brings_text(&self) -> bool {
        matches!(self.what, Some(What::Came(_) | What::Queued(_)))
    }

    /// Octets of its texts.
    #[must_use]
    pub fn octets(&self) -> usize {
        match &self.what {
            Some(What::Came(came)) => {
                let of = |body: &CameBody| body.text.as_ref().map_or(0, Bytes::len) + 256 * body.came.len();
                came.bodies.iter().map(of).sum()
            }
            Some(What::Queued(queued)) => queued.text.len(),
            Some(What::Gone(gone)) => gone.there.len() * 4,
            _ => 0,
        }
    }
}
