//! The commands that replies are waited for.

use super::Stage;

/// The command that a reply is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    Greeting,
    Ehlo,
    Helo,
    StartTls,
    Auth,
    Reset,
    Mail,
    Rcpt(usize),
    Data,
    Chunk,
    End,
    /// The end of a message that nobody is to get.
    LoneDot,
    Quit,
}

impl Asked {
    pub(super) fn stage(self) -> Stage {
        match self {
            Self::Greeting => Stage::Connect,
            Self::Ehlo | Self::Helo => Stage::Hello,
            Self::StartTls => Stage::StartTls,
            Self::Auth => Stage::Auth,
            Self::Reset | Self::Mail | Self::Quit => Stage::Mail,
            Self::Rcpt(_) => Stage::Rcpt,
            Self::Data | Self::LoneDot => Stage::Data,
            Self::Chunk => Stage::Body,
            Self::End => Stage::Dot,
        }
    }

    /// Does the session itself say something after its answer?
    pub(super) fn is_followed(self) -> bool {
        matches!(self, Self::Ehlo | Self::Reset | Self::Mail | Self::Rcpt(_) | Self::Data | Self::Chunk)
    }
}
