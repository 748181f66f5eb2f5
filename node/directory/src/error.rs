//! Why an administrator's wish was not carried out.

use mailcluster_store::{Fenced, ReadError, Refusal, WriteError};
use mailcluster_types::Unavailable;
use tonic::{Code, Status};

/// Why the directory cannot say now, told apart by what a frontend must make of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CannotSay {
    /// It does not serve here (any more): whoever asks should look for it elsewhere.
    Away(String),
    /// It serves, and has too much of this to do; other questions are answered.
    Busy(String),
    /// It serves, and has no answer to this question yet.
    NotYet(String),
}

impl From<ReadError> for CannotSay {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::NotServing => Self::Away(error.to_string()),
            other => Self::NotYet(other.to_string()),
        }
    }
}

impl From<mailcluster_auth::Overloaded> for CannotSay {
    fn from(error: mailcluster_auth::Overloaded) -> Self {
        Self::Busy(error.to_string())
    }
}

impl From<CannotSay> for Unavailable {
    fn from(error: CannotSay) -> Self {
        let (CannotSay::Away(text) | CannotSay::Busy(text) | CannotSay::NotYet(text)) = error;
        Self(text)
    }
}

impl From<CannotSay> for AdminError {
    fn from(error: CannotSay) -> Self {
        Unavailable::from(error).into()
    }
}

impl From<CannotSay> for Status {
    fn from(error: CannotSay) -> Self {
        match error {
            CannotSay::Away(text) => Self::unavailable(text),
            CannotSay::Busy(text) => Self::resource_exhausted(text),
            CannotSay::NotYet(text) => Self::failed_precondition(text),
        }
    }
}

/// Is this status an answer of a directory that serves? Then only the one question failed.
pub(crate) fn is_answer(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument | Code::ResourceExhausted | Code::FailedPrecondition | Code::Unimplemented
    )
}

/// Why a change or question of an administrator failed. The text is for the person who asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// What was named is not here.
    #[error("{0}")]
    NotFound(String),
    /// What should be made is here already.
    #[error("{0}")]
    Exists(String),
    /// What was said makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// It makes sense, but not in this state.
    #[error("{0}")]
    Refused(String),
    /// The directory cannot answer now. A change may have been made or not: look, then try again.
    #[error("{0}")]
    Unavailable(String),
}

impl AdminError {
    pub(crate) fn no_account(address: &str) -> Self {
        Self::NotFound(format!("there is no account {address}"))
    }
}

impl From<ReadError> for AdminError {
    fn from(error: ReadError) -> Self {
        Self::Unavailable(format!("the directory cannot read: {error}"))
    }
}

impl From<WriteError> for AdminError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Refused(Refusal::Full) => {
                Self::Refused("the directory's volume is nearly full".into())
            }
            WriteError::Refused(refusal) => Self::Refused(refusal.to_string()),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

impl From<Fenced> for AdminError {
    fn from(error: Fenced) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<Unavailable> for AdminError {
    fn from(error: Unavailable) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<mailcluster_auth::Overloaded> for AdminError {
    fn from(error: mailcluster_auth::Overloaded) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<AdminError> for Status {
    fn from(error: AdminError) -> Self {
        let code = match error {
            AdminError::NotFound(_) => Code::NotFound,
            AdminError::Exists(_) => Code::AlreadyExists,
            AdminError::Invalid(_) => Code::InvalidArgument,
            AdminError::Refused(_) => Code::FailedPrecondition,
            AdminError::Unavailable(_) => Code::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_directory_that_does_not_serve_is_away() {
        let text = String::new;
        for (error, away) in [
            (CannotSay::from(ReadError::NotServing), true),
            (CannotSay::from(ReadError::NotFound), false),
            (CannotSay::from(mailcluster_auth::Overloaded), false),
            (CannotSay::NotYet(text()), false),
        ] {
            assert_eq!(is_answer(Status::from(error.clone()).code()), !away, "{error:?}");
        }
    }
}
