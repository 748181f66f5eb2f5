//! Whose the bodies are that a pack keeps, as far as the index tells: for those who one day have neither index nor base.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, OptionalExtension, params};

use super::{Halt, survey::MESSAGES};
use crate::record::{KeptMessage, KeptQueued, Recipient};

/// Rows read at a time.
const PAGE: i64 = 10_000;

/// Messages and queued messages by their bodies' rows.
#[derive(Default)]
pub struct Whose {
    messages: HashMap<u64, Vec<KeptMessage>>,
    queued: HashMap<u64, KeptQueued>,
}

impl Whose {
    /// What refers to a row; each is asked for once.
    pub fn take(&mut self, id: u64) -> (Vec<KeptMessage>, Option<KeptQueued>) {
        (self.messages.remove(&id).unwrap_or_default(), self.queued.remove(&id))
    }

    /// Reads it for these rows.
    pub fn read(
        conn: &Connection,
        wanted: &HashSet<u64>,
        go_on: &dyn Fn() -> Result<(), Halt>,
    ) -> Result<Self, Halt> {
        let mut whose = Self::default();
        if wanted.is_empty() {
            return Ok(whose);
        }
        let mut mailboxes = HashMap::new();
        let mut after = (0, 0);
        loop {
            let page = messages(conn, after)?;
            let Some((_, last)) = page.last() else { break };
            after = (last.mailbox, last.uid);
            for (body, mut message) in page.into_iter().filter(|(body, _)| wanted.contains(body)) {
                let known = whose.messages.entry(body).or_default();
                if u64::try_from(known.len()).unwrap_or(MESSAGES) < MESSAGES {
                    put_names(conn, &mut mailboxes, &mut message)?;
                    known.push(message);
                }
            }
            go_on()?;
        }
        whose.read_queue(conn, wanted)?;
        Ok(whose)
    }

    fn read_queue(&mut self, conn: &Connection, wanted: &HashSet<u64>) -> Result<(), Halt> {
        let mut query = conn.prepare("SELECT body, delivery, sender, queued_at, params FROM queue")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let body: u64 = row.get(0)?;
            if !wanted.contains(&body) {
                continue;
            }
            let delivery: Vec<u8> = row.get(1)?;
            let recipients = recipients(conn, &delivery)?;
            let (sender, at, params) = (row.get(2)?, row.get(3)?, row.get(4)?);
            let queued = KeptQueued { delivery, sender, at, recipients, params };
            self.queued.insert(body, queued);
        }
        Ok(())
    }
}

fn messages(conn: &Connection, after: (u64, u32)) -> rusqlite::Result<Vec<(u64, KeptMessage)>> {
    let mut query = conn.prepare_cached(
        "SELECT body, mailbox, uid, modseq, system, keywords, internal_date, zone, delivery FROM message \
         WHERE (mailbox, uid) > (?, ?) ORDER BY mailbox, uid LIMIT ?",
    )?;
    let rows = query.query_map((after.0, after.1, PAGE), |r| {
        let keywords: Option<String> = r.get(5)?;
        let message = KeptMessage {
            mailbox: r.get(1)?,
            uid: r.get(2)?,
            modseq: r.get(3)?,
            system: r.get(4)?,
            keywords: keywords.map(|all| all.split(' ').map(str::to_owned).collect()).unwrap_or_default(),
            internal_date: r.get(6)?,
            zone_minutes: r.get(7)?,
            delivery: r.get::<_, Option<Vec<u8>>>(8)?.unwrap_or_default(),
            ..KeptMessage::default()
        };
        Ok((r.get(0)?, message))
    })?;
    rows.collect()
}

/// A mailbox's owner and name.
#[derive(Clone, Default)]
struct Named {
    account: Vec<u8>,
    address: String,
    name: String,
    uid_validity: u32,
}

fn put_names(
    conn: &Connection,
    known: &mut HashMap<u64, Named>,
    message: &mut KeptMessage,
) -> rusqlite::Result<()> {
    let named = match known.get(&message.mailbox) {
        Some(named) => named.clone(),
        None => {
            let named = named(conn, message.mailbox)?;
            known.insert(message.mailbox, named.clone());
            named
        }
    };
    message.account = named.account;
    message.address = named.address;
    message.name = named.name;
    message.uid_validity = named.uid_validity;
    Ok(())
}

/// Nothing for a mailbox that is gone by now: so is the message.
fn named(conn: &Connection, mailbox: u64) -> rusqlite::Result<Named> {
    let found = conn
        .prepare_cached(
            "SELECT a.id, a.address, m.name, m.uid_validity FROM mailbox m JOIN account a ON a.local=m.account \
             WHERE m.id=?",
        )?
        .query_row([mailbox], |r| {
            Ok(Named { account: r.get(0)?, address: r.get(1)?, name: r.get(2)?, uid_validity: r.get(3)? })
        })
        .optional()?;
    Ok(found.unwrap_or_default())
}

fn recipients(conn: &Connection, delivery: &[u8]) -> rusqlite::Result<Vec<Recipient>> {
    let mut query = conn.prepare_cached(
        "SELECT address, account, store, attempts, next_attempt, last_error, held, noticed, params, returned \
         FROM recipient WHERE delivery=?",
    )?;
    let rows = query.query_map(params![delivery], |r| {
        Ok(Recipient {
            address: r.get(0)?,
            account: r.get::<_, Option<Vec<u8>>>(1)?.unwrap_or_default(),
            store: r.get::<_, Option<String>>(2)?.unwrap_or_default(),
            attempts: r.get(3)?,
            next_attempt: r.get(4)?,
            last_error: r.get(5)?,
            held: r.get(6)?,
            noticed: r.get(7)?,
            params: r.get(8)?,
            returned: r.get(9)?,
        })
    })?;
    rows.collect()
}
