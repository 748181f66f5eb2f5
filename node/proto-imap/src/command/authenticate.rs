//! AUTHENTICATE (RFC 3501 section 6.2.2, RFC 4959).

use base64::{Engine as _, engine::general_purpose::STANDARD};

use super::Secret;
use crate::{cursor::Cursor, error::SyntaxError};

/// AUTHENTICATE's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authenticate {
    /// The SASL mechanism in capitals.
    pub mechanism: String,
    /// The initial response, decoded; `=` stands for an empty one.
    pub initial: Option<Secret>,
}

/// ```text
/// authenticate     = "AUTHENTICATE" SP auth-type [SP (base64 / "=")]
/// auth-type        = atom
/// ```
pub(super) fn arguments(cursor: &mut Cursor<'_>) -> Result<Authenticate, SyntaxError> {
    cursor.space()?;
    let mechanism = cursor.keyword("a SASL mechanism")?;
    if cursor.at_end() {
        return Ok(Authenticate { mechanism, initial: None });
    }
    cursor.space()?;
    let start = cursor.position();
    let octets = cursor.take_while("base 64", |b| b.is_ascii_alphanumeric() || b"+/=".contains(&b))?;
    let initial = if octets == b"=" {
        Vec::new()
    } else {
        STANDARD.decode(octets).map_err(|_| SyntaxError::at(start, "base 64"))?
    };
    Ok(Authenticate { mechanism, initial: Some(Secret(initial)) })
}
