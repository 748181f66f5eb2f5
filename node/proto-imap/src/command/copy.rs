//! COPY (RFC 3501 section 6.4.7) and MOVE (RFC 6851).

use crate::{
    cursor::Cursor,
    error::SyntaxError,
    mailbox::{MailboxName, mailbox},
    sequence::SequenceSet,
};

/// COPY's and MOVE's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyOrMove {
    /// Which messages.
    pub set: SequenceSet,
    /// The set names UIDs.
    pub uid: bool,
    /// Where to.
    pub mailbox: MailboxName,
}

/// ```text
/// copy = "COPY" SP sequence-set SP mailbox
/// move = "MOVE" SP sequence-set SP mailbox
/// ```
pub(super) fn arguments(cursor: &mut Cursor<'_>, uid: bool) -> Result<CopyOrMove, SyntaxError> {
    cursor.space()?;
    let set = SequenceSet::parse(cursor)?;
    cursor.space()?;
    Ok(CopyOrMove { set, uid, mailbox: mailbox(cursor)? })
}
