//! Commands of SMTP and LMTP.

use crate::{MailParams, Path, RcptParams, Reply, path};

/// A command as sent; whether it may be given now is the session's matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `HELO` with its argument.
    Helo(String),
    /// `EHLO` with its argument.
    Ehlo(String),
    /// `LHLO` with its argument (RFC 2033).
    Lhlo(String),
    /// `MAIL FROM:`; never with [`Path::Postmaster`].
    Mail(Path, MailParams),
    /// `RCPT TO:`; never with [`Path::Null`].
    Rcpt(Path, RcptParams),
    /// `DATA`
    Data,
    /// `RSET`
    Rset,
    /// `NOOP`
    Noop,
    /// `QUIT`
    Quit,
    /// `VRFY`
    Vrfy,
    /// `HELP`
    Help,
    /// `STARTTLS` (RFC 3207)
    StartTls,
    /// `AUTH` (RFC 4954): the mechanism in capitals and the initial response.
    Auth(String, Option<String>),
}

/// Why a line is not a command that can be followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommandFault {
    /// Not a command of SMTP, or octets that cannot stand in one (NUL, controls, broken UTF-8).
    #[error("not a command")]
    Unknown,
    /// A command of SMTP that is not offered.
    #[error("not implemented")]
    NotImplemented,
    /// Wrong arguments.
    #[error("{0}")]
    Syntax(&'static str),
    /// A parameter of MAIL or RCPT that was not offered.
    #[error("parameter not offered")]
    Parameter,
}

impl CommandFault {
    /// The reply that tells it.
    #[must_use]
    pub fn reply(self) -> Reply {
        match self {
            Self::Unknown => Reply::new(500, "5.5.2 command not recognized"),
            Self::NotImplemented => Reply::new(502, "5.5.1 command not implemented"),
            Self::Syntax(what) => Reply::with(501, format!("5.5.4 {what}")),
            Self::Parameter => Reply::new(555, "5.5.4 parameter not recognized or not implemented"),
        }
    }
}

impl Command {
    /// Reads a line without its CRLF.
    ///
    /// # Errors
    /// [`CommandFault`], which carries its reply.
    pub fn parse(line: &[u8]) -> Result<Self, CommandFault> {
        let text = std::str::from_utf8(line).map_err(|_| CommandFault::Unknown)?.trim_end_matches(' ');
        if text.chars().any(char::is_control) {
            return Err(CommandFault::Unknown);
        }
        let (verb, rest) = text.split_once(' ').unwrap_or((text, ""));
        match verb.to_ascii_uppercase().as_str() {
            "MAIL" => mail(rest),
            "RCPT" => rcpt(rest),
            "DATA" => bare(rest, Self::Data),
            "RSET" => bare(rest, Self::Rset),
            "QUIT" => bare(rest, Self::Quit),
            "STARTTLS" => bare(rest, Self::StartTls),
            "NOOP" => Ok(Self::Noop),
            "HELP" => Ok(Self::Help),
            "EHLO" => hello(rest).map(Self::Ehlo),
            "HELO" => hello(rest).map(Self::Helo),
            "LHLO" => hello(rest).map(Self::Lhlo),
            "VRFY" if !rest.is_empty() => Ok(Self::Vrfy),
            "VRFY" => Err(CommandFault::Syntax("VRFY needs an argument")),
            "AUTH" => auth(rest),
            "EXPN" | "BDAT" | "BURL" | "ETRN" | "ATRN" | "TURN" | "SEND" | "SOML" | "SAML" | "XCLIENT"
            | "XFORWARD" => Err(CommandFault::NotImplemented),
            _ => Err(CommandFault::Unknown),
        }
    }
}

fn bare(rest: &str, command: Command) -> Result<Command, CommandFault> {
    if rest.is_empty() { Ok(command) } else { Err(CommandFault::Syntax("no argument expected")) }
}

fn hello(rest: &str) -> Result<String, CommandFault> {
    let name = rest.trim();
    let good = (1..=255).contains(&name.len()) && !name.contains(' ');
    if good { Ok(name.to_owned()) } else { Err(CommandFault::Syntax("a host name is expected")) }
}

/// `"MAIL FROM:" Reverse-path [SP Mail-parameters]`
fn mail(rest: &str) -> Result<Command, CommandFault> {
    let (path, rest) = path::parse(after_keyword(rest, "FROM:")?)?;
    match path {
        Path::Postmaster => Err(CommandFault::Syntax("a sender needs a domain")),
        path => Ok(Command::Mail(path, MailParams::parse(rest)?)),
    }
}

/// `"RCPT TO:" Forward-path [SP Rcpt-parameters]`
fn rcpt(rest: &str) -> Result<Command, CommandFault> {
    let (path, rest) = path::parse(after_keyword(rest, "TO:")?)?;
    match path {
        Path::Null => Err(CommandFault::Syntax("a recipient cannot be empty")),
        path => Ok(Command::Rcpt(path, RcptParams::parse(rest)?)),
    }
}

fn after_keyword<'a>(rest: &'a str, keyword: &'static str) -> Result<&'a str, CommandFault> {
    match rest.get(..keyword.len()) {
        Some(found) if found.eq_ignore_ascii_case(keyword) => Ok(&rest[keyword.len()..]),
        _ => Err(CommandFault::Syntax("FROM:<path> or TO:<path> is expected")),
    }
}

/// `"AUTH" SP sasl-mech [SP initial-response]`
fn auth(rest: &str) -> Result<Command, CommandFault> {
    let mut words = rest.split(' ').filter(|w| !w.is_empty());
    match (words.next(), words.next(), words.next()) {
        (Some(mechanism), initial, None) => {
            Ok(Command::Auth(mechanism.to_ascii_uppercase(), initial.map(str::to_owned)))
        }
        _ => Err(CommandFault::Syntax("a mechanism is expected")),
    }
}
