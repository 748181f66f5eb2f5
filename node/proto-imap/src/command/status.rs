//! STATUS (RFC 3501 section 6.3.10, RFC 7162, RFC 8438).

use crate::{
    cursor::Cursor,
    error::SyntaxError,
    mailbox::{MailboxName, mailbox},
};

/// Something STATUS tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusItem {
    /// MESSAGES
    Messages,
    /// RECENT
    Recent,
    /// UIDNEXT
    UidNext,
    /// UIDVALIDITY
    UidValidity,
    /// UNSEEN
    Unseen,
    /// DELETED (RFC 9051)
    Deleted,
    /// SIZE (RFC 8438)
    Size,
    /// HIGHESTMODSEQ (RFC 7162)
    HighestModSeq,
}

impl StatusItem {
    /// Its name on the wire.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Messages => "MESSAGES",
            Self::Recent => "RECENT",
            Self::UidNext => "UIDNEXT",
            Self::UidValidity => "UIDVALIDITY",
            Self::Unseen => "UNSEEN",
            Self::Deleted => "DELETED",
            Self::Size => "SIZE",
            Self::HighestModSeq => "HIGHESTMODSEQ",
        }
    }
}

/// STATUS's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Of which mailbox.
    pub mailbox: MailboxName,
    /// What.
    pub items: Vec<StatusItem>,
}

/// ```text
/// status = "STATUS" SP mailbox SP "(" status-att *(SP status-att) ")"
/// ```
pub(super) fn arguments(cursor: &mut Cursor<'_>) -> Result<Status, SyntaxError> {
    cursor.space()?;
    let mailbox = mailbox(cursor)?;
    cursor.space()?;
    Ok(Status { mailbox, items: items(cursor)? })
}

pub(super) fn items(cursor: &mut Cursor<'_>) -> Result<Vec<StatusItem>, SyntaxError> {
    const ALL: [StatusItem; 8] = [
        StatusItem::Messages,
        StatusItem::Recent,
        StatusItem::UidNext,
        StatusItem::UidValidity,
        StatusItem::Unseen,
        StatusItem::Deleted,
        StatusItem::Size,
        StatusItem::HighestModSeq,
    ];
    let mut items = Vec::new();
    cursor.list(|c| {
        let start = c.position();
        let name = c.keyword("a status item")?;
        let item = ALL.into_iter().find(|item| item.name() == name);
        items.push(item.ok_or_else(|| SyntaxError::at(start, "a status item"))?);
        Ok(())
    })?;
    if items.is_empty() { cursor.fail("at least one status item") } else { Ok(items) }
}
