//! How the command ends. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 cannot be reached now.

use std::{fmt, process::ExitCode};

use tonic::{Code, Status};

/// Why the command failed.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// Exit code 1.
    Failed(String),
    /// Exit code 2.
    Usage(String),
    /// Exit code 3.
    NotFound(String),
    /// Exit code 4: try again later.
    Unavailable(String),
}

impl Failure {
    /// The exit code.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::NotFound(_) => 3,
            Self::Unavailable(_) => 4,
        })
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Failed(text) | Self::Usage(text) | Self::NotFound(text) | Self::Unavailable(text)) = self;
        f.write_str(text)
    }
}

impl std::error::Error for Failure {}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let text = status.message().to_owned();
        match status.code() {
            Code::NotFound => Self::NotFound(text),
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Self::Unavailable(text),
            Code::Unauthenticated | Code::PermissionDenied => Self::Failed(format!("not allowed: {text}")),
            _ => Self::Failed(text),
        }
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) if status.code == 404 => Self::NotFound(status.message.clone()),
            kube::Error::Api(status) if status.code == 403 || status.code == 401 => {
                Self::Failed(format!("not allowed: {}", status.message))
            }
            kube::Error::Api(status) if status.code >= 500 => Self::Unavailable(status.message.clone()),
            kube::Error::Api(status) => Self::Failed(status.message.clone()),
            kube::Error::HyperError(_) | kube::Error::Service(_) => {
                Self::Unavailable(format!("the Kubernetes API cannot be reached: {}", chain(&error)))
            }
            _ => Self::Failed(chain(&error)),
        }
    }
}

/// An error and its causes, in one line.
#[must_use]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
