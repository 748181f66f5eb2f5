//! Logins of IMAP and POP3 clients.

use std::{sync::Arc, time::Duration};

use mailcluster_types::{AccountStatus, AuthOutcome, AuthRequest, ClientInfo, ResolvedAccount};

use crate::{FrontendContext, mailbox_metrics, screened};

/// Longest wait for the directory: the client has its answer within 5 s, unless its account is under attack.
pub(crate) const DIRECTORY_LIMIT: Duration = Duration::from_secs(5);
/// Longest wait for a backend to let the user in.
pub(crate) const BACKEND_LIMIT: Duration = Duration::from_millis(4900);
/// Failed logins of one connection before it is ended.
pub(crate) const MAX_STRIKES: u32 = 3;
/// Longest user name in octets; a longer one is nobody's.
const MAX_USER: usize = 512;

/// A user name and password as sent.
#[derive(Clone)]
pub(crate) struct Credentials {
    user: String,
    password: Arc<str>,
}

/// A SASL response that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PlainFault {
    /// Not of the mechanism's shape.
    Malformed,
    /// It wants to act for another user than the one that logs in.
    ForAnother,
}

/// What became of a login.
pub(crate) enum Verdict {
    /// In.
    Accepted(ResolvedAccount),
    /// Wrong, whatever it is that is wrong.
    Rejected,
    /// Not even looked at; come again after so many seconds.
    Throttled(u32),
    /// The directory cannot say now.
    Unavailable,
}

impl Credentials {
    /// From octets as sent. Names and passwords that are not UTF-8, and names with control characters, are nobody's:
    /// they become credentials that match nothing, and get the answer and the time of any wrong password.
    pub(crate) fn new(user: &[u8], password: &[u8]) -> Self {
        let user = std::str::from_utf8(user)
            .ok()
            .filter(|u| u.len() <= MAX_USER && !u.chars().any(char::is_control));
        match (user, std::str::from_utf8(password)) {
            (Some(user), Ok(password)) => Self { user: user.to_owned(), password: password.into() },
            _ => Self { user: String::new(), password: "".into() },
        }
    }

    /// SASL PLAIN (RFC 4616): `[authzid] NUL authcid NUL passwd`.
    pub(crate) fn from_plain(response: &[u8]) -> Result<Self, PlainFault> {
        let mut parts = response.split(|b| *b == 0);
        let (Some(authorize), Some(user), Some(password), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(PlainFault::Malformed);
        };
        if !authorize.is_empty() && authorize != user {
            return Err(PlainFault::ForAnother);
        }
        Ok(Self::new(user, password))
    }
}

/// Asks the directory.
pub(crate) async fn verify(
    context: &FrontendContext,
    client: &ClientInfo,
    service: &'static str,
    credentials: Credentials,
) -> Verdict {
    let Credentials { user, password } = credentials;
    let request = AuthRequest { user, password, client: client.clone(), service };
    let answer = screened::authenticate(context, &request, DIRECTORY_LIMIT).await;
    drop(request);
    let (verdict, result) = match answer {
        Ok(AuthOutcome::Accepted(account)) => match account.status {
            AccountStatus::Active => (Verdict::Accepted(account), "accepted"),
            AccountStatus::Suspended => (Verdict::Rejected, "rejected"),
            AccountStatus::Pending => (Verdict::Unavailable, "unavailable"),
        },
        Ok(AuthOutcome::Rejected) => (Verdict::Rejected, "rejected"),
        Ok(AuthOutcome::Throttled(seconds)) => (Verdict::Throttled(seconds), "throttled"),
        Err(error) => {
            tracing::warn!(session = %client.session, %error, "no login without the directory");
            (Verdict::Unavailable, "unavailable")
        }
    };
    mailbox_metrics::login(service, result);
    let account = match &verdict {
        Verdict::Accepted(account) => tracing::field::display(account.id.to_string()),
        _ => tracing::field::display(String::new()),
    };
    tracing::info!(session = %client.session, remote = %client.remote.ip(), service, result, account, "login");
    verdict
}

/// How long the answer to the `strikes`-th failed login is held back.
pub(crate) fn penalty(strikes: u32) -> Duration {
    Duration::from_secs(u64::from(strikes.min(8)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_responses() {
        let read = |octets: &[u8]| Credentials::from_plain(octets).map(|c| (c.user, c.password.to_string()));
        assert_eq!(read(b"\0ann\0pa ss"), Ok(("ann".to_owned(), "pa ss".to_owned())));
        assert_eq!(read(b"ann\0ann\0x"), Ok(("ann".to_owned(), "x".to_owned())));
        assert_eq!(read(b"bob\0ann\0x"), Err(PlainFault::ForAnother));
        for bad in [&b""[..], b"ann", b"ann\0x", b"\0a\0b\0c"] {
            assert_eq!(read(bad), Err(PlainFault::Malformed), "{bad:?}");
        }
        // Nobody's.
        for none in [&b"\0a\r\nb\0x"[..], b"\0\xff\0x", b"\0ann\0\xff"] {
            assert_eq!(read(none), Ok((String::new(), String::new())), "{none:?}");
        }
    }
}
