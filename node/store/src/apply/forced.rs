//! What a forced promotion changes in the index: clients may have seen UIDs and MODSEQs of the line that was left behind.

use rusqlite::params;

use super::{Apply, ApplyError};
use crate::record::EpochStart;

/// So many UIDs of every mailbox are passed over: more messages than come into one mailbox between the last record that the
/// new line has and the end of the old one, and a 4,000th of all that a mailbox has.
pub const UID_SKIP: u32 = 1 << 20;

/// No UID is given anew that somebody may have seen, nor a UIDVALIDITY to a mailbox of an old one's name. MODSEQs go on above
/// the old line's, and as nobody knows what was expunged there, whoever synchronises is told of all that is not here.
pub fn begin(cx: &mut Apply<'_>, start: &EpochStart) -> Result<(), ApplyError> {
    let floor = cx.state.next_modseq(start.epoch);
    let clock = u32::try_from(cx.state.clock.max(0)).unwrap_or(0);
    cx.state.uid_validity = cx.state.uid_validity.max(clock).saturating_add(UID_SKIP);
    cx.conn
        .prepare_cached(
            "UPDATE counter SET uid_next=min(uid_next+?1, ?2), modseq=max(modseq, ?3), expunge_floor=?3",
        )?
        .execute(params![UID_SKIP, u32::MAX, floor])?;
    if start.anew { rename(cx) } else { Ok(()) }
}

/// Another UIDVALIDITY for every mailbox, none like any that was ever given: a mailbox may get another's name.
fn rename(cx: &mut Apply<'_>) -> Result<(), ApplyError> {
    let named = cx
        .conn
        .prepare_cached(
            "UPDATE mailbox SET uid_validity=min(?1+r.n, ?2) FROM (SELECT id, row_number() OVER (ORDER BY id) AS n \
             FROM mailbox) AS r WHERE r.id=mailbox.id",
        )?
        .execute(params![cx.state.uid_validity, u32::MAX])?;
    cx.state.uid_validity = cx.state.uid_validity.saturating_add(u32::try_from(named).unwrap_or(u32::MAX));
    Ok(())
}
