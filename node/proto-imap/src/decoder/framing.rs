//! What a line's octets say before it is parsed: a literal to come, octets that may not be there.

use crate::error::SyntaxError;

/// A literal announced at the end of a line.
pub(super) struct Literal {
    pub(super) size: u64,
    pub(super) synchronizing: bool,
    /// Octets of the announcement itself.
    pub(super) length: usize,
}

pub(super) fn line_too_long() -> SyntaxError {
    SyntaxError::too_big("line too long")
}

/// ```text
/// literal = "{" number64 ["+"] "}" CRLF *CHAR8
/// ```
pub(super) fn literal_at_end(text: &[u8]) -> Option<Literal> {
    let inner = text.strip_suffix(b"}")?;
    let (inner, synchronizing) = match inner.strip_suffix(b"+") {
        Some(inner) => (inner, false),
        None => (inner, true),
    };
    let digits = inner.iter().rev().take_while(|b| b.is_ascii_digit()).count();
    let open = inner.len().checked_sub(digits + 1)?;
    if digits == 0 || inner[open] != b'{' {
        return None;
    }
    let size = inner[open + 1..]
        .iter()
        .fold(0u64, |sum, b| sum.saturating_mul(10).saturating_add(u64::from(b - b'0')));
    Some(Literal { size, synchronizing, length: text.len() - open })
}

/// RFC 3501 section 9: commands are CHARs, 1 to 127, and no CR or LF stands alone.
pub(super) fn forbidden_octet(text: &[u8], offset: usize) -> Option<SyntaxError> {
    let place = text.iter().position(|&b| b == 0 || b == b'\r' || b >= 0x80)?;
    let expected = match text[place] {
        0 => "no NUL",
        b'\r' => "no bare CR",
        _ => "7-bit text",
    };
    Some(SyntaxError::at(offset + place, expected))
}
