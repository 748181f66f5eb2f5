//! Mailbox names and LIST patterns as commands carry them: modified UTF-7 outside, UTF-8 inside.

use crate::{cursor::Cursor, error::SyntaxError, mutf7};

/// A mailbox's full name in UTF-8, `/` between levels, the first level `INBOX` in capitals. Not yet checked for
/// control characters or empty levels: that is the session's NO, not the codec's BAD.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MailboxName(String);

impl MailboxName {
    /// Wraps a UTF-8 name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self(with_inbox(name))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A LIST pattern in UTF-8 with its wildcards, the first level `INBOX` in capitals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPattern(pub String);

fn with_inbox(name: &str) -> String {
    let level = name.find('/').unwrap_or(name.len());
    if name[..level].eq_ignore_ascii_case("INBOX") {
        format!("INBOX{}", &name[level..])
    } else {
        name.to_owned()
    }
}

/// ```text
/// mailbox = "INBOX" / astring
/// ```
pub(crate) fn mailbox(cursor: &mut Cursor<'_>) -> Result<MailboxName, SyntaxError> {
    let start = cursor.position();
    let raw = cursor.astring("a mailbox name")?;
    decode(&raw, start).map(|name| MailboxName::new(&name))
}

/// ```text
/// list-mailbox = 1*list-char / string
/// list-char    = ATOM-CHAR / list-wildcards / resp-specials
/// ```
pub(crate) fn list_pattern(cursor: &mut Cursor<'_>) -> Result<ListPattern, SyntaxError> {
    let start = cursor.position();
    let raw = match cursor.peek() {
        Some(b'"' | b'{') => cursor.string("a mailbox pattern")?,
        _ => cursor.take_while("a mailbox pattern", |b| {
            crate::cursor::is_atom_char(b) || matches!(b, b'%' | b'*' | b']')
        })?,
    };
    decode(&raw, start).map(|name| ListPattern(with_inbox(&name)))
}

fn decode(raw: &[u8], start: usize) -> Result<String, SyntaxError> {
    mutf7::decode(raw).ok_or_else(|| SyntaxError::at(start, "a mailbox name in modified UTF-7"))
}
