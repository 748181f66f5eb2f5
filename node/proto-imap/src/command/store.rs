//! STORE (RFC 3501 section 6.4.6, RFC 7162 section 3.1.3).

use crate::{
    cursor::Cursor,
    error::SyntaxError,
    flag::{Flag, flag, flag_list},
    sequence::SequenceSet,
};

/// How flags change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreOp {
    /// `FLAGS`
    Replace,
    /// `+FLAGS`
    Add,
    /// `-FLAGS`
    Remove,
}

/// STORE's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Store {
    /// Which messages.
    pub set: SequenceSet,
    /// The set names UIDs.
    pub uid: bool,
    /// Messages changed after this modification sequence stay as they are.
    pub unchanged_since: Option<u64>,
    /// How.
    pub op: StoreOp,
    /// `.SILENT`
    pub silent: bool,
    /// Which flags.
    pub flags: Vec<Flag>,
}

/// ```text
/// store           = "STORE" SP sequence-set [SP "(" "UNCHANGEDSINCE" SP mod-sequence-valzer ")"] SP store-att-flags
/// store-att-flags = (["+" / "-"] "FLAGS" [".SILENT"]) SP (flag-list / (flag *(SP flag)))
/// ```
pub(super) fn arguments(cursor: &mut Cursor<'_>, uid: bool) -> Result<Store, SyntaxError> {
    cursor.space()?;
    let set = SequenceSet::parse(cursor)?;
    cursor.space()?;
    let mut unchanged_since = None;
    if cursor.eat(b'(') {
        if !cursor.eat_word("UNCHANGEDSINCE") {
            return cursor.fail("UNCHANGEDSINCE");
        }
        cursor.space()?;
        unchanged_since = Some(cursor.number64("a modification sequence")?);
        cursor.expect(b')', ")")?;
        cursor.space()?;
    }
    let op = if cursor.eat(b'+') {
        StoreOp::Add
    } else if cursor.eat(b'-') {
        StoreOp::Remove
    } else {
        StoreOp::Replace
    };
    if !cursor.eat_word("FLAGS") {
        return cursor.fail("FLAGS, +FLAGS or -FLAGS");
    }
    let silent = cursor.eat_word(".SILENT");
    cursor.space()?;
    let flags = if cursor.peek() == Some(b'(') { flag_list(cursor)? } else { bare_flags(cursor)? };
    Ok(Store { set, uid, unchanged_since, op, silent, flags })
}

fn bare_flags(cursor: &mut Cursor<'_>) -> Result<Vec<Flag>, SyntaxError> {
    let mut flags = Vec::new();
    loop {
        flags.extend(flag(cursor)?);
        if !cursor.eat(b' ') {
            return Ok(flags);
        }
    }
}
