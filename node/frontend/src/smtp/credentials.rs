//! SASL PLAIN (RFC 4616) and LOGIN, as they come in AUTH (RFC 4954).

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::STANDARD};

/// A user name and password as sent.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: Arc<str>,
}

/// Why a response is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AuthFault {
    /// `*`: the client gave up.
    Cancelled,
    /// Not base64, not UTF-8, or not of the mechanism's shape.
    Malformed,
    /// It wants to act for another user than the one it logs in as.
    ForAnother,
}

/// `[authzid] NUL authcid NUL passwd`
pub(super) fn plain(response: &[u8]) -> Result<Credentials, AuthFault> {
    let text = decode(response)?;
    let mut parts = text.split('\0');
    let (Some(authorize), Some(user), Some(password), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(AuthFault::Malformed);
    };
    if user.is_empty() || password.is_empty() {
        return Err(AuthFault::Malformed);
    }
    if !authorize.is_empty() && authorize != user {
        return Err(AuthFault::ForAnother);
    }
    Ok(Credentials { user: user.to_owned(), password: password.into() })
}

/// One answer of LOGIN.
pub(super) fn login(response: &[u8]) -> Result<String, AuthFault> {
    let text = decode(response)?;
    if text.is_empty() || text.contains('\0') { Err(AuthFault::Malformed) } else { Ok(text) }
}

fn decode(response: &[u8]) -> Result<String, AuthFault> {
    match response {
        b"*" => Err(AuthFault::Cancelled),
        // RFC 4954 section 4: an empty initial response.
        b"=" => Ok(String::new()),
        _ => {
            let octets = STANDARD.decode(response).map_err(|_| AuthFault::Malformed)?;
            String::from_utf8(octets).map_err(|_| AuthFault::Malformed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain_of(raw: &str) -> Result<(String, String), AuthFault> {
        plain(STANDARD.encode(raw).as_bytes()).map(|c| (c.user, c.password.to_string()))
    }

    #[test]
    fn plain_responses() {
        assert_eq!(plain_of("\0ann\0secret"), Ok(("ann".into(), "secret".into())));
        assert_eq!(plain_of("ann\0ann\0pässword"), Ok(("ann".into(), "pässword".into())));
        assert_eq!(plain_of("bob\0ann\0secret"), Err(AuthFault::ForAnother));
        for bad in ["", "ann", "\0ann", "\0ann\0", "\0\0x", "\0a\0b\0c"] {
            assert_eq!(plain_of(bad), Err(AuthFault::Malformed), "{bad:?}");
        }
        assert_eq!(plain(b"*").err(), Some(AuthFault::Cancelled));
        assert_eq!(plain(b"not base64!").err(), Some(AuthFault::Malformed));
        assert_eq!(plain(STANDARD.encode(b"\0\xff\0x").as_bytes()).err(), Some(AuthFault::Malformed));
        assert_eq!(login(b"YW5u"), Ok("ann".into()));
        assert_eq!(login(b"="), Err(AuthFault::Malformed));
    }
}
