//! ENABLE (RFC 5161).

use crate::{cursor::Cursor, error::SyntaxError};

/// ```text
/// enable = "ENABLE" 1*(SP capability)
/// ```
pub(super) fn arguments(cursor: &mut Cursor<'_>) -> Result<Vec<String>, SyntaxError> {
    let mut names = Vec::new();
    loop {
        cursor.space()?;
        names.push(cursor.keyword("a capability")?);
        if cursor.at_end() {
            return Ok(names);
        }
    }
}
