//! APPEND (RFC 3501 section 6.3.11): what stands before the message.

use crate::{
    cursor::Cursor,
    date,
    error::SyntaxError,
    flag::{Flag, flag_list},
    mailbox::{MailboxName, mailbox},
};

/// An APPEND up to its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendHead {
    /// The completion's tag.
    pub tag: String,
    /// Where to.
    pub mailbox: MailboxName,
    /// Initial flags.
    pub flags: Vec<Flag>,
    /// INTERNALDATE: seconds since 1970 and minutes east of UTC.
    pub date: Option<(i64, i16)>,
}

/// ```text
/// append = "APPEND" SP mailbox [SP flag-list] [SP date-time] SP literal
/// ```
/// Reads a command that ends just before a literal; an error when that literal is not an APPEND's message.
pub(crate) fn head(cursor: &mut Cursor<'_>) -> Result<AppendHead, SyntaxError> {
    let tag = super::tag(cursor)?;
    cursor.space()?;
    if cursor.keyword("a command")? != "APPEND" {
        return cursor.fail("APPEND");
    }
    cursor.space()?;
    let (mailbox, flags, date) = arguments(cursor)?;
    cursor.end()?;
    Ok(AppendHead { tag, mailbox, flags, date })
}

type Arguments = (MailboxName, Vec<Flag>, Option<(i64, i16)>);

pub(super) fn arguments(cursor: &mut Cursor<'_>) -> Result<Arguments, SyntaxError> {
    let mailbox = mailbox(cursor)?;
    cursor.space()?;
    let mut flags = Vec::new();
    if cursor.peek() == Some(b'(') {
        flags = flag_list(cursor)?;
        cursor.space()?;
    }
    let mut date = None;
    if cursor.peek() == Some(b'"') {
        date = Some(date::date_time(cursor)?);
        cursor.space()?;
    }
    Ok((mailbox, flags, date))
}
