//! Commands (RFC 1939 sections 5 to 7, RFC 2449, RFC 2595, RFC 5034).

use std::fmt;

/// A text that must not be shown in logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A command as sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// CAPA (RFC 2449)
    Capa,
    /// STLS (RFC 2595)
    Stls,
    /// USER name
    User(String),
    /// PASS string; spaces belong to it
    Pass(Secret),
    /// AUTH mechanism \[initial-response\] (RFC 5034); the response still in base 64
    Auth {
        /// In capitals.
        mechanism: String,
        /// `=` stands for an empty one.
        initial: Option<Secret>,
    },
    /// AUTH without a mechanism: list them (an old habit of clients)
    AuthList,
    /// STAT
    Stat,
    /// LIST \[msg\]
    List(Option<u32>),
    /// RETR msg
    Retr(u32),
    /// DELE msg
    Dele(u32),
    /// NOOP
    Noop,
    /// RSET
    Rset,
    /// TOP msg n
    Top {
        /// The message.
        message: u32,
        /// Lines of its body.
        lines: u32,
    },
    /// UIDL \[msg\]
    Uidl(Option<u32>),
    /// QUIT
    Quit,
}

/// Not a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// No command of this name, or not even text.
    #[error("unknown command")]
    Unknown,
    /// The arguments are not what the command takes.
    #[error("expected {0}")]
    Arguments(&'static str),
}

/// Reads one line, without its CRLF.
///
/// ```text
/// command = keyword [SP argument [SP argument]]     ; keywords in any case
/// ```
///
/// # Errors
/// What is wrong with it; the connection can go on.
pub fn parse(line: &[u8]) -> Result<Command, ParseError> {
    let line = std::str::from_utf8(line).map_err(|_| ParseError::Unknown)?;
    if line.chars().any(char::is_control) {
        return Err(ParseError::Unknown);
    }
    let (keyword, rest) = line.split_once(' ').map_or((line, None), |(k, r)| (k, Some(r)));
    if keyword.len() > 4 {
        return Err(ParseError::Unknown);
    }
    // Spaces at the end mean nothing, but for a password.
    let arguments = rest.map(str::trim_end).filter(|r| !r.is_empty());
    let none = |command| match arguments {
        None => Ok(command),
        Some(_) => Err(ParseError::Arguments("no arguments")),
    };
    match keyword.to_ascii_uppercase().as_str() {
        "CAPA" => none(Command::Capa),
        "STLS" => none(Command::Stls),
        "STAT" => none(Command::Stat),
        "NOOP" => none(Command::Noop),
        "RSET" => none(Command::Rset),
        "QUIT" => none(Command::Quit),
        "USER" => match arguments {
            Some(user) => Ok(Command::User(user.to_owned())),
            None => Err(ParseError::Arguments("a user name")),
        },
        "PASS" => match rest {
            Some(password) => Ok(Command::Pass(Secret(password.to_owned()))),
            None => Err(ParseError::Arguments("a password")),
        },
        "AUTH" => auth(arguments),
        "LIST" => optional(arguments).map(Command::List),
        "UIDL" => optional(arguments).map(Command::Uidl),
        "RETR" => number(arguments).map(Command::Retr),
        "DELE" => number(arguments).map(Command::Dele),
        "TOP" => two(arguments),
        _ => Err(ParseError::Unknown),
    }
}

/// ```text
/// auth = "AUTH" [SP mechanism [SP initial-response]]
/// ```
fn auth(arguments: Option<&str>) -> Result<Command, ParseError> {
    let Some(arguments) = arguments else { return Ok(Command::AuthList) };
    let (mechanism, initial) =
        arguments.split_once(' ').map_or((arguments, None), |(m, i)| (m, Some(Secret(i.to_owned()))));
    let known = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if mechanism.len() > 20 || mechanism.is_empty() || !mechanism.bytes().all(known) {
        return Err(ParseError::Arguments("a SASL mechanism"));
    }
    Ok(Command::Auth { mechanism: mechanism.to_ascii_uppercase(), initial })
}

const A_MESSAGE: ParseError = ParseError::Arguments("a message number");

fn digits(text: &str) -> Option<u32> {
    text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

fn number(arguments: Option<&str>) -> Result<u32, ParseError> {
    arguments.and_then(digits).ok_or(A_MESSAGE)
}

fn optional(arguments: Option<&str>) -> Result<Option<u32>, ParseError> {
    arguments.map(|a| digits(a).ok_or(A_MESSAGE)).transpose()
}

fn two(arguments: Option<&str>) -> Result<Command, ParseError> {
    let both = arguments.and_then(|a| a.split_once(' ')).and_then(|(m, n)| Some((digits(m)?, digits(n)?)));
    let (message, lines) = both.ok_or(ParseError::Arguments("a message number and a number of lines"))?;
    Ok(Command::Top { message, lines })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        let secret = |s: &str| Secret(s.to_owned());
        for (line, command) in [
            ("CAPA", Command::Capa),
            ("stls", Command::Stls),
            ("USER ann@example.org ", Command::User("ann@example.org".to_owned())),
            ("PASS  two words ", Command::Pass(secret(" two words "))),
            ("Pass ", Command::Pass(secret(""))),
            ("AUTH", Command::AuthList),
            ("AUTH plain", Command::Auth { mechanism: "PLAIN".to_owned(), initial: None }),
            ("AUTH PLAIN =", Command::Auth { mechanism: "PLAIN".to_owned(), initial: Some(secret("=")) }),
            ("LIST", Command::List(None)),
            ("LIST 3", Command::List(Some(3))),
            ("RETR 4294967295", Command::Retr(u32::MAX)),
            ("DELE 0", Command::Dele(0)),
            ("TOP 1 0", Command::Top { message: 1, lines: 0 }),
            ("uidl 2 ", Command::Uidl(Some(2))),
            ("QUIT", Command::Quit),
        ] {
            assert_eq!(parse(line.as_bytes()), Ok(command), "{line}");
        }
    }

    #[test]
    fn what_is_no_command() {
        for line in ["", " ", "HELO x", "RETRO 1", "\u{1}", "STAT\t", "XLIST"] {
            assert_eq!(parse(line.as_bytes()), Err(ParseError::Unknown), "{line:?}");
        }
        assert_eq!(parse(b"USER \xff"), Err(ParseError::Unknown));
        for line in [
            "STAT 1",
            "QUIT now",
            "USER",
            "USER  ",
            "PASS",
            "RETR",
            "RETR -1",
            "RETR 1 2",
            "RETR 4294967296",
            "RETR +1",
            "LIST x",
            "TOP 1",
            "TOP 1 x",
            "TOP 1  2",
            "AUTH PL@IN",
            "AUTH aaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ] {
            assert!(matches!(parse(line.as_bytes()), Err(ParseError::Arguments(_))), "{line:?}");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        let command = parse(b"PASS hunter2").unwrap();
        assert!(!format!("{command:?}").contains("hunter2"));
    }
}
