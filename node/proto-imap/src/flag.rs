//! Flags as commands name them (RFC 3501 section 2.3.2).

use crate::{cursor::Cursor, error::SyntaxError};

/// A flag a client may set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flag {
    /// `\Seen`
    Seen,
    /// `\Answered`
    Answered,
    /// `\Flagged`
    Flagged,
    /// `\Deleted`
    Deleted,
    /// `\Draft`
    Draft,
    /// A keyword, as written.
    Keyword(String),
}

/// ```text
/// flag = "\Answered" / "\Flagged" / "\Deleted" / "\Seen" / "\Draft" / flag-keyword / flag-extension
/// ```
/// `\Recent` is passed over: clients send it back although they must not. Other `\` flags are refused.
pub(crate) fn flag(cursor: &mut Cursor<'_>) -> Result<Option<Flag>, SyntaxError> {
    if !cursor.eat(b'\\') {
        return cursor.atom("a flag").map(|atom| Some(Flag::Keyword(atom)));
    }
    let start = cursor.position();
    let name = cursor.atom("a flag's name")?;
    Ok(Some(match name.to_ascii_uppercase().as_str() {
        "SEEN" => Flag::Seen,
        "ANSWERED" => Flag::Answered,
        "FLAGGED" => Flag::Flagged,
        "DELETED" => Flag::Deleted,
        "DRAFT" => Flag::Draft,
        "RECENT" => return Ok(None),
        _ => return Err(SyntaxError::at(start, "a system flag of RFC 3501")),
    }))
}

/// ```text
/// flag-list = "(" [flag *(SP flag)] ")"
/// ```
pub(crate) fn flag_list(cursor: &mut Cursor<'_>) -> Result<Vec<Flag>, SyntaxError> {
    let mut flags = Vec::new();
    cursor.list(|c| {
        flags.extend(flag(c)?);
        Ok(())
    })?;
    Ok(flags)
}
