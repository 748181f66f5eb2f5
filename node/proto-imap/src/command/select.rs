//! SELECT and EXAMINE (RFC 3501 sections 6.3.1 and 6.3.2, RFC 7162).

use crate::{
    cursor::Cursor,
    error::SyntaxError,
    mailbox::{MailboxName, mailbox},
};

/// SELECT's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Select {
    /// Which mailbox.
    pub mailbox: MailboxName,
    /// `(CONDSTORE)` was given.
    pub condstore: bool,
}

/// ```text
/// select        = "SELECT" SP mailbox [select-params]
/// select-params = SP "(" select-param *(SP select-param) ")"
/// select-param  = "CONDSTORE"
/// ```
pub(super) fn arguments(cursor: &mut Cursor<'_>) -> Result<Select, SyntaxError> {
    cursor.space()?;
    let mailbox = mailbox(cursor)?;
    let mut condstore = false;
    if !cursor.at_end() {
        cursor.space()?;
        cursor.list(|c| {
            let start = c.position();
            if c.keyword("CONDSTORE")? != "CONDSTORE" {
                return Err(SyntaxError::at(start, "CONDSTORE"));
            }
            condstore = true;
            Ok(())
        })?;
    }
    Ok(Select { mailbox, condstore })
}
