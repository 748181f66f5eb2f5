//! How a session of IMAP, POP3 or ManageSieve ends before its login.

use std::{io, time::Duration};

/// Longest wait for the last words to go out.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(2);

/// Ends the session.
pub(crate) enum Stop {
    /// Everything was said, or nobody listens.
    Quiet,
    /// With these last words.
    Bye(&'static str),
}

impl From<io::Error> for Stop {
    fn from(_: io::Error) -> Self {
        Self::Quiet
    }
}

pub(crate) type Flow<T = ()> = Result<T, Stop>;
