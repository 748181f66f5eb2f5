//! An index against itself.

use super::View;
use crate::error::ReadError;

/// What must have no rows.
const CHECKS: &[(&str, &str)] = &[
    (
        "counters of mailbox",
        "SELECT c.mailbox FROM counter c LEFT JOIN (SELECT mailbox, count(*) AS n, \
         sum((system & 1) = 0) AS unseen, sum((system & 8) <> 0) AS deleted, sum(size) AS octets, \
         max(uid) AS top, max(modseq) AS modseq FROM message GROUP BY mailbox) m ON m.mailbox=c.mailbox \
         WHERE c.messages<>ifnull(m.n,0) OR c.unseen<>ifnull(m.unseen,0) OR c.deleted<>ifnull(m.deleted,0) \
         OR c.octets<>ifnull(m.octets,0) OR c.uid_next<=ifnull(m.top,0) OR c.modseq<ifnull(m.modseq,0)",
    ),
    (
        "octets or mailboxes of account",
        "SELECT u.account FROM used u LEFT JOIN (SELECT b.account AS a, sum(c.octets) AS octets, \
         count(*) AS n FROM mailbox b JOIN counter c ON c.mailbox=b.id GROUP BY b.account) s ON s.a=u.account \
         WHERE u.octets<>ifnull(s.octets,0) OR u.mailboxes<>ifnull(s.n,0)",
    ),
    ("message without a body", "SELECT uid FROM message WHERE body NOT IN (SELECT id FROM body)"),
    ("message without a mailbox", "SELECT uid FROM message WHERE mailbox NOT IN (SELECT id FROM mailbox)"),
    (
        "octets of the store",
        "SELECT octets FROM state WHERE octets<>(SELECT ifnull(sum(octets),0) FROM counter)",
    ),
    (
        "accounts of the store",
        "SELECT accounts FROM state WHERE accounts<>(SELECT count(*) FROM account WHERE tombstone=0)",
    ),
    (
        "queued message without recipients",
        "SELECT hex(delivery) FROM queue WHERE delivery NOT IN (SELECT delivery FROM recipient)",
    ),
    (
        "expunged UIDs of mailbox",
        "SELECT c.mailbox FROM counter c LEFT JOIN (SELECT mailbox, count(*) AS n FROM expunged \
         GROUP BY mailbox) e ON e.mailbox=c.mailbox WHERE c.expunged<>ifnull(e.n,0)",
    ),
];

/// Of an index that was not brought up to this version yet.
const OLD: &[(&str, &str)] = &[(
    "references to body",
    "SELECT b.id FROM body b LEFT JOIN (SELECT body, sum(n) AS n FROM (SELECT body, count(*) AS n \
     FROM message GROUP BY body UNION ALL SELECT body, count(*) FROM queue GROUP BY body) GROUP BY body) \
     r ON r.body=b.id WHERE b.refs<>ifnull(r.n,0)",
)];

/// Of one that keeps expunged mail.
const RECOVERABLE: &[(&str, &str)] = &[
    (
        "references to body",
        "SELECT b.id FROM body b LEFT JOIN (SELECT body, sum(n) AS n FROM (SELECT body, count(*) AS n \
         FROM message GROUP BY body UNION ALL SELECT body, count(*) FROM recoverable GROUP BY body \
         UNION ALL SELECT body, count(*) FROM queue GROUP BY body) GROUP BY body) \
         r ON r.body=b.id WHERE b.refs<>ifnull(r.n,0)",
    ),
    (
        "expunged message without a body",
        "SELECT uid FROM recoverable WHERE body NOT IN (SELECT id FROM body)",
    ),
    (
        "expunged message without an account",
        "SELECT uid FROM recoverable WHERE account NOT IN (SELECT local FROM account WHERE tombstone=0)",
    ),
    (
        "expunged message that is still there",
        "SELECT r.uid FROM recoverable r JOIN message m ON m.mailbox=r.mailbox AND m.uid=r.uid",
    ),
    (
        "sum of expunged messages",
        "SELECT s.messages FROM recoverable_sum s WHERE s.messages<>(SELECT count(*) FROM recoverable) \
         OR s.octets<>(SELECT ifnull(sum(size),0) FROM recoverable)",
    ),
];

/// How many texts there are to read, by the index's own counters.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Texts {
    /// Of messages in mailboxes.
    pub(crate) mailboxes: u64,
    /// Of queued messages.
    pub(crate) queued: u64,
    /// Of expunged messages that are kept.
    pub(crate) expunged: u64,
}

impl View {
    /// How much there is to read; to tell how far a reader of all of it is, and for nothing else.
    pub(crate) fn texts(&self) -> Result<Texts, ReadError> {
        let count = |sql: &str| Ok::<u64, ReadError>(self.one(sql, [], |r| r.get(0))?.unwrap_or_default());
        Ok(Texts {
            mailboxes: count("SELECT ifnull(sum(messages),0) FROM counter")?,
            queued: count("SELECT count(*) FROM queue")?,
            expunged: match self.has_recoverable()? {
                true => count("SELECT messages FROM recoverable_sum")?,
                false => 0,
            },
        })
    }

    /// Recomputes every counter from the rows that it counts; answers what differs (nothing, ever).
    ///
    /// # Errors
    /// As [`ReadError`] says.
    pub fn verify(&self) -> Result<Vec<String>, ReadError> {
        let of_version = if self.has_recoverable()? { RECOVERABLE } else { OLD };
        let mut wrong = Vec::new();
        for (what, sql) in CHECKS.iter().chain(of_version) {
            let rows = self.all(sql, [], |r| r.get::<_, rusqlite::types::Value>(0))?;
            wrong.extend(rows.into_iter().map(|row| format!("{what} {row:?}")));
        }
        Ok(wrong)
    }
}
