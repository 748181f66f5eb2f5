//! LSUB (RFC 3501 section 6.3.9).

use crate::{
    cursor::Cursor,
    error::SyntaxError,
    mailbox::{ListPattern, MailboxName, list_pattern, mailbox},
};

/// LSUB's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lsub {
    /// Stands before the pattern.
    pub reference: MailboxName,
    /// With wildcards.
    pub pattern: ListPattern,
}

/// ```text
/// lsub = "LSUB" SP mailbox SP list-mailbox
/// ```
pub(super) fn arguments(cursor: &mut Cursor<'_>) -> Result<Lsub, SyntaxError> {
    cursor.space()?;
    let reference = mailbox(cursor)?;
    cursor.space()?;
    let pattern = list_pattern(cursor)?;
    Ok(Lsub { reference, pattern })
}
