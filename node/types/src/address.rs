//! Mail addresses as RFC 5321 section 4.1.2 writes them.

use std::{fmt, str::FromStr};

/// Longest local part in octets (RFC 5321 section 4.5.3.1.1).
const MAX_LOCAL: usize = 64;
/// Longest domain in octets (RFC 5321 section 4.5.3.1.2).
const MAX_DOMAIN: usize = 255;

/// `local-part@domain`. The local part keeps its case and its quoting as sent; the domain is lower case.
/// The domain may be an address literal such as `[192.0.2.1]`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    local: String,
    domain: String,
}

/// Why a text is not a mail address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// There is no `@` outside of quotes, or nothing before or after it.
    #[error("address must be local-part@domain")]
    Shape,
    /// The local part is longer than 64 octets or has a character that needs quoting.
    #[error("local part is not a dot-string or quoted string of at most 64 octets")]
    Local,
    /// The domain is longer than 255 octets or not made of labels, nor an address literal.
    #[error("domain is not a host name or address literal of at most 255 octets")]
    Domain,
}

impl Address {
    /// The local part as written, with quotes when it has any.
    #[must_use]
    pub fn local(&self) -> &str {
        &self.local
    }

    /// The domain in lower case.
    #[must_use]
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Is it whoever runs the domain, who must be within reach (RFC 5321 section 4.5.1)?
    #[must_use]
    pub fn is_postmaster(&self) -> bool {
        self.local().eq_ignore_ascii_case("postmaster")
    }

    /// The form used as a key: unquoted where quoting changes nothing, in lower case.
    /// Mailboxes here do not differ by case (RFC 5321 section 2.4 lets the receiver decide).
    #[must_use]
    pub fn key(&self) -> String {
        let unquoted: String = match self.local.strip_prefix('"').and_then(|l| l.strip_suffix('"')) {
            Some(inner) => unescape(inner),
            None => return format!("{}@{}", self.local.to_lowercase(), self.domain),
        };
        if is_dot_string(&unquoted) {
            format!("{}@{}", unquoted.to_lowercase(), self.domain)
        } else {
            format!("\"{}\"@{}", escape(&unquoted).to_lowercase(), self.domain)
        }
    }
}

fn unescape(quoted: &str) -> String {
    let mut out = String::with_capacity(quoted.len());
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    out
}

fn escape(text: &str) -> String {
    text.chars().flat_map(|c| if matches!(c, '"' | '\\') { vec!['\\', c] } else { vec![c] }).collect()
}

fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c) || !c.is_ascii()
}

fn is_dot_string(text: &str) -> bool {
    !text.is_empty() && text.split('.').all(|atom| !atom.is_empty() && atom.chars().all(is_atext))
}

fn is_quoted_string(text: &str) -> bool {
    let Some(inner) = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) else { return false };
    let mut escaped = false;
    for c in inner.chars() {
        if c.is_control() || (!escaped && c == '"') {
            return false;
        }
        escaped = !escaped && c == '\\';
    }
    text.len() >= 2 && !escaped
}

fn is_domain(text: &str) -> bool {
    if let Some(literal) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        let ip = literal.strip_prefix("ipv6:").unwrap_or(literal);
        return ip.parse::<std::net::IpAddr>().is_ok();
    }
    text.split('.').all(|label| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_' || !c.is_ascii())
    })
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (local, domain) = text.rsplit_once('@').ok_or(AddressError::Shape)?;
        if local.is_empty() || domain.is_empty() {
            return Err(AddressError::Shape);
        }
        if local.len() > MAX_LOCAL || !(is_dot_string(local) || is_quoted_string(local)) {
            return Err(AddressError::Local);
        }
        let domain = domain.to_lowercase();
        if domain.len() > MAX_DOMAIN || !is_domain(&domain) {
            return Err(AddressError::Domain);
        }
        Ok(Self { local: local.to_owned(), domain })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.local, self.domain)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{self}>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_an_address() {
        for good in
            ["a@b.c", "A.b+c@Ex.org", "\"q q\"@b.c", "\"a@x\"@b.c", "a@[127.0.0.1]", "a@[IPv6:::1]", "ü@b.c"]
        {
            assert!(good.parse::<Address>().is_ok(), "{good}");
        }
        for bad in [
            "",
            "a",
            "@b",
            "a@",
            "a b@c",
            "a..b@c",
            ".a@c",
            "a@b..c",
            "a@-b.c",
            "a\r\n@b.c",
            "\"a\"b\"@c",
            "a@[x]",
            "\"\\\"@c",
        ] {
            assert!(bad.parse::<Address>().is_err(), "{bad:?}");
        }
        assert_eq!(format!("{}@b.c", "x".repeat(65)).parse::<Address>(), Err(AddressError::Local));
    }

    #[test]
    fn keys_are_equal_when_the_mailbox_is() {
        let key = |t: &str| t.parse::<Address>().unwrap().key();
        assert_eq!(key("Ann@Example.ORG"), key("\"ann\"@example.org"));
        assert_eq!(key("\"a\\n\\n\"@b.c"), key("ann@b.c"));
        assert_ne!(key("\"a@x\"@b.c"), key("a@x.b.c"));
    }
}
