//! Why an administrator's wish was not carried out.

use mailcluster_store::{Fenced, ReadError, Refusal, WriteError};
use mailcluster_types::Unavailable;
use tonic::{Code, Status};

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
