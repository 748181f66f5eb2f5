//! LOGIN (RFC 3501 section 6.2.3).

use std::fmt;

use crate::{cursor::Cursor, error::SyntaxError};

/// Octets that must not be shown in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// LOGIN's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user's name.
    pub user: Vec<u8>,
    /// The password.
    pub password: Secret,
}

/// ```text
/// login = "LOGIN" SP userid SP password
/// userid = astring ; password = astring
/// ```
pub(super) fn arguments(cursor: &mut Cursor<'_>) -> Result<Login, SyntaxError> {
    cursor.space()?;
    let user = cursor.astring("a user name")?;
    cursor.space()?;
    let password = Secret(cursor.astring("a password")?);
    Ok(Login { user, password })
}
