//! CREATE (RFC 3501 section 6.3.3, RFC 6154 section 3).

use crate::{
    cursor::Cursor,
    error::SyntaxError,
    mailbox::{MailboxName, mailbox},
};

/// A special use that a mailbox may be created with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpecialUseFlag {
    /// `\Sent`
    Sent,
    /// `\Drafts`
    Drafts,
    /// `\Trash`
    Trash,
    /// `\Junk`
    Junk,
    /// `\Archive`
    Archive,
    /// `\All`, `\Flagged`: known, not offered here (USEATTR).
    Unsupported,
}

/// CREATE's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create {
    /// Its name; a trailing `/` is still there.
    pub mailbox: MailboxName,
    /// What it is for.
    pub special_use: Vec<SpecialUseFlag>,
}

/// ```text
/// create       = "CREATE" SP mailbox [SP "(" create-param *(SP create-param) ")"]
/// create-param = "USE" SP "(" [use-attr *(SP use-attr)] ")"
/// use-attr     = "\All" / "\Archive" / "\Drafts" / "\Flagged" / "\Junk" / "\Sent" / "\Trash" / use-attr-ext
/// ```
pub(super) fn arguments(cursor: &mut Cursor<'_>) -> Result<Create, SyntaxError> {
    cursor.space()?;
    let mailbox = mailbox(cursor)?;
    let mut special_use = Vec::new();
    if !cursor.at_end() {
        cursor.space()?;
        cursor.expect(b'(', "(")?;
        if !cursor.eat_word("USE") {
            return cursor.fail("USE");
        }
        cursor.space()?;
        cursor.list(|c| {
            c.expect(b'\\', "\\")?;
            special_use.push(match c.keyword("a special use")?.as_str() {
                "SENT" => SpecialUseFlag::Sent,
                "DRAFTS" => SpecialUseFlag::Drafts,
                "TRASH" => SpecialUseFlag::Trash,
                "JUNK" => SpecialUseFlag::Junk,
                "ARCHIVE" => SpecialUseFlag::Archive,
                _ => SpecialUseFlag::Unsupported,
            });
            Ok(())
        })?;
        cursor.expect(b')', ")")?;
    }
    Ok(Create { mailbox, special_use })
}
