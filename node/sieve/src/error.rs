//! Where in a script something is wrong, and what to do about it.

use std::fmt;

/// A place in a script, counted from 1; columns are characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// The line.
    pub line: u32,
    /// The column.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// Why a script cannot be run at all; the message says what to change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {message}")]
pub struct CompileError {
    /// The first token that is wrong.
    pub at: Position,
    /// What is wrong and what would be right.
    pub message: String,
    /// An extension is missing: a script with `ihave` fails only when it gets there (RFC 5463 section 4).
    pub(crate) missing: bool,
}

impl CompileError {
    pub(crate) fn new(at: Position, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), missing: false }
    }

    pub(crate) fn missing(at: Position, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), missing: true }
    }
}

/// Why a script ended before its end: the message is kept, and nothing else is done (RFC 5228 section 2.10.6).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {message}")]
pub struct RunError {
    /// The command or test that failed.
    pub at: Position,
    /// What went wrong.
    pub message: String,
}

/// Something that is allowed and probably not meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    /// The command or test.
    pub at: Position,
    /// What it does, and what may have been meant.
    pub message: String,
}
