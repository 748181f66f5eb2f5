//! Reverse-path and forward-path (RFC 5321 section 4.1.2).
//!
//! ```text
//! Reverse-path = Path / "<>"
//! Forward-path = Path / "<Postmaster>"
//! Path         = "<" [ A-d-l ":" ] Mailbox ">"
//! A-d-l        = At-domain *( "," At-domain )
//! ```

use crate::CommandFault;

/// Longest path in octets (RFC 5321 section 4.5.3.1.3), with some room for UTF-8.
const MAX_PATH: usize = 512;

/// What stood between the angle brackets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Path {
    /// `<>`
    Null,
    /// `<postmaster>` without a domain, in any case (RFC 5321 section 4.5.1).
    Postmaster,
    /// A mailbox as written, its quoting kept, a source route taken off. Not yet checked as an address.
    Mailbox(String),
}

/// Reads a path off the front of `text`; answers it and what follows.
pub(crate) fn parse(text: &str) -> Result<(Path, &str), CommandFault> {
    const SHAPE: CommandFault = CommandFault::Syntax("path must be <local-part@domain>");
    let inner = text.trim_start_matches(' ').strip_prefix('<').ok_or(SHAPE)?;
    let end = closing_bracket(inner).ok_or(SHAPE)?;
    let (path, rest) = (&inner[..end], &inner[end + 1..]);
    if !(rest.is_empty() || rest.starts_with(' ')) {
        return Err(SHAPE);
    }
    if path.len() > MAX_PATH {
        return Err(CommandFault::Syntax("path too long"));
    }
    let mailbox = match path.strip_prefix('@') {
        Some(_) => {
            let (route, mailbox) = path.split_once(':').ok_or(SHAPE)?;
            let is_hop = |hop: &str| hop.len() > 1 && hop.starts_with('@') && !hop[1..].contains('@');
            if !route.split(',').all(is_hop) {
                return Err(SHAPE);
            }
            mailbox
        }
        None => path,
    };
    let parsed = match mailbox {
        "" if path.is_empty() => Path::Null,
        "" => return Err(SHAPE),
        _ if mailbox.eq_ignore_ascii_case("postmaster") => Path::Postmaster,
        _ => Path::Mailbox(mailbox.to_owned()),
    };
    Ok((parsed, rest))
}

/// The place of the first `>` outside of quotes.
fn closing_bracket(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, octet) in text.bytes().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'>' if !quoted => return Some(at),
            b'<' | b' ' if !quoted => return None,
            _ => {}
        }
    }
    None
}
