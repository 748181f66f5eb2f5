//! How a command ends: the three kinds of failure, and ends of the connection.

use std::{fmt::Display, io};

use mailcluster_store::{Fenced, ReadError, Refusal, WriteError};

/// A command that succeeded.
#[derive(Debug)]
pub(super) struct Done {
    /// Response code without brackets.
    pub code: Option<String>,
    /// For people.
    pub text: &'static str,
    /// Which changes by others are told before the answer.
    pub news: News,
}

/// What may be told before a tagged answer (RFC 3501 section 7.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum News {
    /// Nothing: told already, or nothing is selected.
    None,
    /// All but EXPUNGE: the command used message numbers.
    NoExpunge,
    /// All.
    All,
}

impl Done {
    pub fn new(text: &'static str) -> Self {
        Self { code: None, text, news: News::All }
    }

    pub fn code(mut self, code: impl Into<String>) -> Self {
        self.code = Some(code.into());
        self
    }

    pub fn news(mut self, news: News) -> Self {
        self.news = news;
        self
    }
}

/// A command that did not succeed.
#[derive(Debug)]
pub(super) enum Fail {
    /// Refused: nothing was changed.
    No {
        /// Response code without brackets.
        code: Option<&'static str>,
        /// For people.
        text: String,
    },
    /// Not understood, or not in this state.
    Bad(String),
    /// The connection ends.
    End(End),
}

impl Fail {
    pub fn no(code: &'static str, text: impl Display) -> Self {
        Self::No { code: Some(code), text: text.to_string() }
    }

    pub fn bad(text: impl Display) -> Self {
        Self::Bad(text.to_string())
    }

    /// Something is broken here: logged, and told as SERVERBUG (RFC 5530).
    pub fn bug(error: impl Display) -> Self {
        tracing::error!(%error, "imap command failed");
        Self::no("SERVERBUG", "this server could not do it; try again or tell its administrator")
    }
}

/// What a command gives back.
pub(super) type Outcome = Result<Done, Fail>;

/// Why a session ends.
#[derive(Debug, thiserror::Error)]
pub(super) enum End {
    /// LOGOUT, or a BYE that was sent.
    #[error("said goodbye")]
    Bye,
    /// The client is gone.
    #[error("connection lost: {0}")]
    Lost(#[from] io::Error),
    /// The client closed the connection.
    #[error("closed by the client")]
    Closed,
    /// Nothing came for too long; BYE is still to be sent.
    #[error("autologout")]
    Idle,
    /// This node stops; BYE is still to be sent.
    #[error("shutdown")]
    Shutdown,
    /// The selected mailbox is gone; BYE is still to be sent.
    #[error("selected mailbox deleted")]
    MailboxDeleted,
    /// The store may not acknowledge, does not serve, or an outcome is unknown: no answer.
    #[error("no answer may be given: {0}")]
    Silent(String),
}

impl End {
    /// The text of the BYE that is still to be sent.
    pub fn bye(&self) -> Option<&'static str> {
        match self {
            Self::Idle => Some("autologout: idle for too long"),
            Self::Shutdown => Some("[UNAVAILABLE] this server is going away; connect again"),
            Self::MailboxDeleted => Some("the selected mailbox was deleted"),
            Self::Bye | Self::Lost(_) | Self::Closed | Self::Silent(_) => None,
        }
    }
}

impl From<End> for Fail {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

impl From<Fenced> for Fail {
    fn from(fenced: Fenced) -> Self {
        Self::End(End::Silent(fenced.to_string()))
    }
}

impl From<WriteError> for Fail {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Refused(refusal) => refusal.into(),
            WriteError::Unknown | WriteError::NotServing => Self::End(End::Silent(error.to_string())),
        }
    }
}

impl From<ReadError> for Fail {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NotServing => Self::End(End::Silent(error.to_string())),
            ReadError::NotFound => Self::no("NONEXISTENT", "it does not exist any more"),
            ReadError::Damaged(_) | ReadError::Io(_) => Self::bug(error),
        }
    }
}

impl From<Refusal> for Fail {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Full => Self::no("UNAVAILABLE", "there is no space left; expunging still works"),
            Refusal::OverQuota => Self::no("OVERQUOTA", "the quota would be exceeded"),
            // Never "no such user": the account may be on its way to another store (invariant I10).
            Refusal::NoSuchAccount(_) | Refusal::AccountDeleted(_) => {
                Self::no("UNAVAILABLE", "the account is not served here now")
            }
            Refusal::NoSuchMailbox => Self::no("NONEXISTENT", "no such mailbox"),
            Refusal::AlreadyExists => Self::no("ALREADYEXISTS", "a mailbox of that name exists"),
            Refusal::UseTaken => Self::no("USEATTR", refusal),
            Refusal::NoSuchScript
            | Refusal::ScriptIsActive
            | Refusal::TooManyScripts { .. }
            | Refusal::BadName(_)
            | Refusal::NotAllowed(_) => Self::no("CANNOT", refusal),
            Refusal::TooLarge { .. } => Self::no("TOOBIG", refusal),
            Refusal::Stale => Self::bug(refusal),
        }
    }
}

/// The same, when the mailbox that is missing is where messages should go (RFC 3501 section 7.1).
pub(super) fn into_target(error: WriteError) -> Fail {
    match error {
        WriteError::Refused(Refusal::NoSuchMailbox) => {
            Fail::no("TRYCREATE", "no such mailbox; create it first")
        }
        error => error.into(),
    }
}
