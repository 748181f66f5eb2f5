//! RENAME (RFC 3501 section 6.3.5).

use crate::{
    cursor::Cursor,
    error::SyntaxError,
    mailbox::{MailboxName, mailbox},
};

/// RENAME's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rename {
    /// The old name.
    pub from: MailboxName,
    /// The new name.
    pub to: MailboxName,
}

/// ```text
/// rename = "RENAME" SP mailbox SP mailbox
/// ```
pub(super) fn arguments(cursor: &mut Cursor<'_>) -> Result<Rename, SyntaxError> {
    cursor.space()?;
    let from = mailbox(cursor)?;
    cursor.space()?;
    let to = mailbox(cursor)?;
    Ok(Rename { from, to })
}
