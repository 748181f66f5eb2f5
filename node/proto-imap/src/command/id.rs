//! ID (RFC 2971).

use crate::{cursor::Cursor, error::SyntaxError};

/// A field and its value; `None` for NIL.
pub type IdPair = (Vec<u8>, Option<Vec<u8>>);

/// Most field-value pairs (RFC 2971 section 3.3).
const MAX_PAIRS: usize = 30;

/// ```text
/// id              = "ID" SP id-params-list
/// id-params-list  = "(" #(string SP nstring) ")" / nil
/// ```
pub(super) fn arguments(cursor: &mut Cursor<'_>) -> Result<Vec<IdPair>, SyntaxError> {
    cursor.space()?;
    let mut pairs = Vec::new();
    if cursor.eat_word("NIL") {
        return Ok(pairs);
    }
    cursor.list(|c| {
        let field = c.string("a field's name")?;
        c.space()?;
        let value = c.nstring("a string or NIL")?;
        if pairs.len() == MAX_PAIRS {
            return Err(SyntaxError::too_big("ID takes at most 30 pairs"));
        }
        pairs.push((field, value));
        Ok(())
    })?;
    Ok(pairs)
}
