//! What was brought from a line that was left behind is remembered for ever: a few octets for each thing.

use rusqlite::params;

use super::{Apply, ApplyError};
use crate::record::Salvaged;

pub fn mark(cx: &Apply<'_>, r: &Salvaged) -> Result<(), ApplyError> {
    let mut insert = cx.conn.prepare_cached("INSERT OR IGNORE INTO salvaged VALUES(?,?,?)")?;
    for mark in &r.marks {
        insert.execute(params![mark.place, mark.number, mark.born])?;
    }
    Ok(())
}
