//! Why a command could not be understood.

use std::{borrow::Cow, fmt};

/// A command that is not what the grammar asks for; answered with BAD and this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct SyntaxError {
    /// What the grammar asks for here.
    pub expected: Cow<'static, str>,
    /// Octets from the start of the command; `None` when the place says nothing (an unknown command, a limit).
    pub position: Option<usize>,
    /// The client sent more than is taken (RFC 7889 TOOBIG).
    pub too_big: bool,
}

impl SyntaxError {
    /// Something else was expected at this octet.
    pub(crate) fn at(position: usize, expected: impl Into<Cow<'static, str>>) -> Self {
        Self { expected: expected.into(), position: Some(position), too_big: false }
    }

    /// The command as a whole is wrong.
    pub(crate) fn whole(text: impl Into<Cow<'static, str>>) -> Self {
        Self { expected: text.into(), position: None, too_big: false }
    }

    /// A limit was passed.
    pub(crate) fn too_big(text: impl Into<Cow<'static, str>>) -> Self {
        Self { expected: text.into(), position: None, too_big: true }
    }
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.position {
            Some(position) => write!(f, "expected {} at octet {}", self.expected, position + 1),
            None => f.write_str(&self.expected),
        }
    }
}
