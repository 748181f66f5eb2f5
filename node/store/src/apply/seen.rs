//! Ids that an account's scripts remember: answered senders, messages that came before. Bounded for each account: what is
//! over goes now and then, and where there are too many those that end first.

use rusqlite::params;

use super::{Apply, ApplyError};
use crate::record::Seen;

/// Most ids of an account.
const MOST: i64 = 5_000;
/// Those that are over are looked for with one record in so many: it costs a pass over the account's.
const TRIM_EVERY: u64 = 16;

pub fn remember(cx: &Apply<'_>, account: i64, ids: &[Seen], now: i64) -> Result<(), ApplyError> {
    if ids.is_empty() {
        return Ok(());
    }
    let mut put = cx.conn.prepare_cached(
        "INSERT INTO seen VALUES(?,?,?) ON CONFLICT DO UPDATE SET until=max(until, excluded.until)",
    )?;
    for seen in ids {
        put.execute(params![account, seen.id, seen.until])?;
    }
    if !cx.seq.is_multiple_of(TRIM_EVERY) {
        return Ok(());
    }
    cx.conn
        .prepare_cached("DELETE FROM seen WHERE account=? AND until<=?")?
        .execute(params![account, now])?;
    cx.conn
        .prepare_cached(
            "DELETE FROM seen WHERE account=?1 AND id IN (SELECT id FROM seen WHERE account=?1 \
             ORDER BY until DESC, id LIMIT -1 OFFSET ?2)",
        )?
        .execute(params![account, MOST])?;
    Ok(())
}
