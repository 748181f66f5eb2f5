//! The queue, the history, the audit log.

use std::collections::HashSet;

use mailcluster_types::{DeliveryId, StoreName};
use rusqlite::{Row, params};

use super::{View, delivery_id, limit};
use crate::{
    apply::trace::Event,
    error::ReadError,
    model::{HistoryEvent, HistoryKey, OutDue, QueueItem, QueueRecipient, QueueStats},
};

fn history_event(r: &Row<'_>) -> rusqlite::Result<HistoryEvent> {
    let (uid, mailbox): (u32, Option<String>) = (r.get(4)?, r.get(5)?);
    let detail: Option<String> = r.get(6)?;
    let place = (uid != 0).then(|| match mailbox {
        Some(name) => format!("{name} {uid}"),
        None => format!("a mailbox since deleted, {uid}"),
    });
    Ok(HistoryEvent {
        at: r.get(0)?,
        delivery: delivery_id(r, 1)?,
        event: Event::name(r.get(2)?).to_owned(),
        recipient: r.get(3)?,
        detail: [place, detail].into_iter().flatten().collect::<Vec<_>>().join("; "),
    })
}

/// What [`history_event`] reads, in its order.
macro_rules! history {
    ($rest:literal) => {
        concat!(
            "SELECT h.at, h.delivery, h.event, h.recipient, h.uid, m.name, h.detail FROM history h \
             LEFT JOIN mailbox m ON m.id=h.mailbox ",
            $rest
        )
    };
}

#[allow(clippy::missing_errors_doc, reason = "every read fails only as ReadError says")]
impl View {
    /// Stores that mail is due for at `now` (not held). One step of the index for each store, however many wait.
    pub fn queue_stores(&self, now: i64) -> Result<Vec<StoreName>, ReadError> {
        self.all(
            "WITH RECURSIVE each(store) AS (SELECT min(store) FROM recipient WHERE held=0 UNION ALL \
             SELECT (SELECT min(r.store) FROM recipient r WHERE r.held=0 AND r.store>each.store) FROM each \
             WHERE each.store IS NOT NULL) \
             SELECT store FROM each WHERE store IS NOT NULL AND EXISTS(SELECT 1 FROM recipient r WHERE r.held=0 \
             AND r.store=each.store AND r.next_attempt<=?)",
            [now],
            |r| Ok(StoreName::from(r.get::<_, String>(0)?)),
        )
    }

    /// Messages with a recipient due at `now` for `store` (not held), those due longest first. At most `max`
    /// recipients are looked at.
    pub fn queue_due(&self, now: i64, store: &StoreName, max: usize) -> Result<Vec<QueueItem>, ReadError> {
        let due = self.all(
            "SELECT delivery FROM recipient INDEXED BY recipient_due WHERE held=0 AND store=? AND next_attempt<=? \
             ORDER BY next_attempt LIMIT ?",
            params![store.as_str(), now, limit(max)],
            |r| delivery_id(r, 0),
        )?;
        let mut seen = HashSet::new();
        let due = due.into_iter().filter(|delivery| seen.insert(*delivery));
        due.filter_map(|delivery| self.queue_item(delivery).transpose()).collect()
    }

    /// Recipients at other sites that are due at `now` (not held), behind `after`, in their order, at most `max`.
    pub fn queue_out(&self, after: &OutDue, now: i64, max: usize) -> Result<Vec<OutDue>, ReadError> {
        self.all(
            "SELECT next_attempt, delivery, address FROM recipient INDEXED BY recipient_due WHERE held=0 \
             AND store IS NULL AND next_attempt<=?1 AND (next_attempt, delivery, address)>(?2, ?3, ?4) \
             ORDER BY next_attempt, delivery, address LIMIT ?5",
            params![now, after.since, &after.delivery.to_bytes()[..], after.address, limit(max)],
            |r| Ok(OutDue { since: r.get(0)?, delivery: delivery_id(r, 1)?, address: r.get(2)? }),
        )
    }

    /// A queued message; nothing when it is not here (any more).
    pub fn queued(&self, delivery: DeliveryId) -> Result<Option<QueueItem>, ReadError> {
        self.queue_item(delivery)
    }

    /// Messages queued before `before` with a recipient due at `now` (not held), oldest first, at most `max`.
    pub fn queue_old(&self, before: i64, now: i64, max: usize) -> Result<Vec<QueueItem>, ReadError> {
        let old = self.all(
            "SELECT q.delivery FROM queue q WHERE q.queued_at<? AND EXISTS(SELECT 1 FROM recipient r \
             WHERE r.delivery=q.delivery AND r.held=0 AND r.next_attempt<=?) ORDER BY q.delivery LIMIT ?",
            params![before, now, limit(max)],
            |r| delivery_id(r, 0),
        )?;
        old.into_iter().filter_map(|delivery| self.queue_item(delivery).transpose()).collect()
    }

    /// All queue entries after this delivery id, at most `limit`.
    pub fn queue(&self, after: Option<DeliveryId>, max: usize) -> Result<Vec<QueueItem>, ReadError> {
        let after = after.map(|d| d.to_bytes().to_vec()).unwrap_or_default();
        let found = self.all(
            "SELECT delivery FROM queue WHERE delivery>? ORDER BY delivery LIMIT ?",
            params![after, limit(max)],
            |r| delivery_id(r, 0),
        )?;
        found.into_iter().filter_map(|delivery| self.queue_item(delivery).transpose()).collect()
    }

    /// One entry.
    pub fn queue_item(&self, delivery: DeliveryId) -> Result<Option<QueueItem>, ReadError> {
        let key = delivery.to_bytes();
        let recipients = self.all(
            "SELECT address, account, store, attempts, next_attempt, last_error, held, noticed, params, returned \
             FROM recipient WHERE delivery=? ORDER BY address",
            [&key[..]],
            |r| {
                let account: Option<[u8; 16]> = r.get(1)?;
                Ok(QueueRecipient {
                    address: r.get(0)?,
                    account: account.map(|a| mailcluster_types::AccountId(u128::from_be_bytes(a))),
                    store: r.get::<_, Option<String>>(2)?.map(StoreName::from),
                    attempts: r.get(3)?,
                    next_attempt: r.get(4)?,
                    last_error: r.get(5)?,
                    held: r.get(6)?,
                    noticed: r.get(7)?,
                    params: r.get(8)?,
                    returned: r.get(9)?,
                })
            },
        )?;
        self.one(
            "SELECT sender, queued_at, size, body, params FROM queue WHERE delivery=?",
            [&key[..]],
            |r| {
                Ok(QueueItem {
                    delivery,
                    sender: r.get(0)?,
                    queued_at: r.get(1)?,
                    size: r.get(2)?,
                    body: r.get(3)?,
                    params: r.get(4)?,
                    recipients,
                })
            },
        )
    }

    /// The queue at a glance.
    pub fn queue_stats(&self) -> Result<QueueStats, ReadError> {
        let stats = self.one(
            "SELECT (SELECT count(*) FROM queue), (SELECT count(*) FROM recipient), \
             (SELECT count(*) FROM recipient WHERE held<>0), (SELECT ifnull(min(queued_at), 0) FROM queue)",
            [],
            |r| {
                Ok(QueueStats {
                    messages: r.get(0)?,
                    recipients: r.get(1)?,
                    held: r.get(2)?,
                    oldest: r.get(3)?,
                })
            },
        )?;
        Ok(stats.unwrap_or_default())
    }

    /// A message's or recipient's history, newest first, at most `limit`. By recipient it reads the table from its end:
    /// an index would cost every delivery more than this costs the few who ask.
    pub fn history(&self, key: &HistoryKey, max: usize) -> Result<Vec<HistoryEvent>, ReadError> {
        match key {
            HistoryKey::Delivery(delivery) => self.all(
                history!("WHERE h.delivery=? ORDER BY h.id DESC LIMIT ?"),
                params![&delivery.to_bytes()[..], limit(max)],
                history_event,
            ),
            HistoryKey::Recipient(recipient) => self.all(
                history!("WHERE h.recipient=? ORDER BY h.id DESC LIMIT ?"),
                params![recipient, limit(max)],
                history_event,
            ),
        }
    }

    /// The audit log, newest first: (seconds since 1970, who, what).
    pub fn audit_log(&self, max: usize) -> Result<Vec<(i64, String, String)>, ReadError> {
        self.all("SELECT at, who, what FROM audit ORDER BY id DESC LIMIT ?", [limit(max)], |r| {
            Ok((r.get(0)?, r.get(1)?, r.get(2)?))
        })
    }
}
