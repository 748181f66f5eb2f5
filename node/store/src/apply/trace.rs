//! The bounded tables: history of messages, ids seen. They lose their oldest rows bit by bit, never all at once.

use mailcluster_types::Seq;
use rusqlite::params;

use super::{Apply, ApplyError};

/// Lines of history that are kept.
pub const HISTORY: u64 = 1_000_000;
/// Lines of the audit log that are kept.
pub const AUDIT: u64 = 100_000;
/// Ids are kept this long after their record's time: five days in a queue at most, and one more.
pub const DEDUPE_SECONDS: i64 = 6 * 24 * 3600;
/// Rows looked at, one time in [`TRIM_EVERY`] records: enough for records that add [`FEW`] rows each.
const TRIM_ROWS: i64 = 256;
const TRIM_EVERY: u64 = 64;
/// A record that adds more rows than this looks after them itself.
const FEW: usize = 2;

/// What happened to a message; the numbers are in the index only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// Stored in a mailbox.
    Delivered = 1,
    /// It was here already.
    Duplicate = 2,
    /// Into the queue.
    Queued = 3,
    /// Out of the queue.
    HandedOn = 4,
    /// To another mailbox.
    Moved = 5,
    /// Gone.
    Expunged = 6,
    /// In the queue, not tried.
    Held = 7,
    /// Expunged, and brought back.
    Restored = 8,
    /// In no mailbox, as its account's script says.
    Filtered = 9,
}

impl Event {
    /// As people read it.
    pub fn name(code: i64) -> &'static str {
        match code {
            1 => "delivered",
            2 => "duplicate",
            3 => "queued",
            4 => "handed-on",
            5 => "moved",
            6 => "expunged",
            7 => "held",
            8 => "restored",
            9 => "filtered",
            _ => "unknown",
        }
    }
}

/// A line to be written.
pub struct Line<'a> {
    pub at: i64,
    pub delivery: &'a [u8],
    pub event: Event,
    pub recipient: &'a str,
    /// Mailbox id and UID; zeros when it is not about one.
    pub place: (u64, u32),
    pub detail: Option<&'a str>,
}

/// Adds a line of history.
pub fn history(cx: &mut Apply<'_>, line: &Line<'_>) -> Result<(), ApplyError> {
    cx.state.history += 1;
    let id = cx.state.history;
    cx.conn.prepare_cached("INSERT INTO history VALUES(?,?,?,?,?,?,?,?)")?.execute(params![
        id,
        line.at,
        line.delivery,
        line.event as i64,
        line.recipient,
        line.place.0,
        line.place.1,
        line.detail
    ])?;
    if id > HISTORY && id.is_multiple_of(TRIM_EVERY) {
        let below = id - HISTORY;
        cx.conn.prepare_cached("DELETE FROM history WHERE id<=?")?.execute([below])?;
    }
    Ok(())
}

/// Remembers that this account has this delivery.
pub fn delivered(cx: &mut Apply<'_>, delivery: &[u8], account: i64, at: i64) -> Result<(), ApplyError> {
    cx.conn.prepare_cached("INSERT INTO delivered VALUES(?,?,?)")?.execute(params![delivery, account, at])?;
    Ok(())
}

/// Now and then, and after a record that added many rows, removes ids that are too old to come again: always more
/// than came. Ids sort by time, so the first rows are the oldest; some that came late may stand before others that
/// could go, for as long as mail may wait in a queue.
pub fn trim(cx: &mut Apply<'_>, added: usize) -> Result<(), ApplyError> {
    let Some(rows) = rows_to_trim(cx.seq, added) else { return Ok(()) };
    let oldest = cx.state.clock - DEDUPE_SECONDS;
    for (table, key) in [("delivered", "account"), ("queued", "address")] {
        let sql = format!(
            "DELETE FROM {table} WHERE (delivery, {key}) IN (SELECT delivery, {key} FROM \
             (SELECT delivery, {key}, at FROM {table} ORDER BY delivery, {key} LIMIT ?) WHERE at<?)"
        );
        cx.conn.prepare_cached(&sql)?.execute([rows, oldest])?;
    }
    Ok(())
}

/// How many rows to look at after the record at `seq`, which added so many.
fn rows_to_trim(seq: Seq, added: usize) -> Option<i64> {
    let own = if added > FEW { i64::try_from(added).unwrap_or(i64::MAX).saturating_mul(2) } else { 0 };
    let turn = if seq.is_multiple_of(TRIM_EVERY) { TRIM_ROWS } else { 0 };
    Some(own.max(turn)).filter(|rows| *rows > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_can_go_than_comes() {
        for added in [1, 2, FEW, FEW + 1, 1000, 10_000] {
            let turn: i64 = (1..=TRIM_EVERY).filter_map(|seq| rows_to_trim(seq, added)).sum();
            let came = i64::try_from(added).unwrap() * i64::try_from(TRIM_EVERY).unwrap();
            assert!(turn >= came * 2, "{added} rows a record: {turn} of {came}");
        }
    }
}
