//! Addresses of scripts and envelopes. Those of a message's header are parsed by who implements [`crate::Mail`].

use std::borrow::Cow;

/// An address, in the parts that tests ask for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A valid one: its local part without the quotes of a quoted string, and its domain.
    Valid {
        /// Left of the last `@`.
        local: String,
        /// Right of it; empty for `postmaster` alone.
        domain: String,
    },
    /// Something else that stands where an address should; only `:all` sees it.
    Invalid(String),
}

/// The part of an address that a test looks at (RFC 5228 section 2.7.4, RFC 5233 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressPart {
    All,
    Localpart,
    Domain,
    User,
    Detail,
}

impl Address {
    /// The address of a MAIL or RCPT command, without `<>` and without a source route.
    #[must_use]
    pub fn from_path(path: &str) -> Self {
        let path = match path.split_once(':') {
            Some((route, rest)) if route.starts_with('@') => rest,
            _ => path,
        };
        match addr_spec(path) {
            Some((local, domain)) => Self::Valid { local: unquoted(local), domain: domain.to_owned() },
            None if is_local(path) => Self::Valid { local: unquoted(path), domain: String::new() },
            None => Self::Invalid(path.to_owned()),
        }
    }

    /// A part of it; `None` when it has none, so that no key matches. `separator` stands between user and detail.
    pub(crate) fn part(&self, part: AddressPart, separator: &str) -> Option<Cow<'_, str>> {
        let (local, domain) = match (self, part) {
            (Self::Invalid(text), AddressPart::All) => return Some(text.into()),
            (Self::Invalid(_), _) => return None,
            (Self::Valid { local, domain }, _) => (local, domain),
        };
        let detail = if separator.is_empty() { None } else { local.split_once(separator) };
        match part {
            AddressPart::All if domain.is_empty() => Some(local.into()),
            AddressPart::All => Some(format!("{local}@{domain}").into()),
            AddressPart::Localpart => Some(local.into()),
            AddressPart::Domain => Some(domain.into()),
            AddressPart::User => Some(detail.map_or(local.as_str(), |(user, _)| user).into()),
            AddressPart::Detail => detail.map(|(_, detail)| detail.into()),
        }
    }
}

/// `addr-spec = local-part "@" domain`, without comments and white space.
pub fn addr_spec(text: &str) -> Option<(&str, &str)> {
    let (local, domain) = text.rsplit_once('@')?;
    (is_local(local) && is_domain(domain)).then_some((local, domain))
}

/// `sieve-address = addr-spec / phrase "<" addr-spec ">"` (RFC 5228 section 2.4.2.3): the addr-spec.
pub fn sieve_address(text: &str) -> Option<&str> {
    let text = text.trim_matches([' ', '\t']);
    let spec = match text.strip_suffix('>') {
        None => text,
        Some(text) => {
            let (phrase, spec) = text.rsplit_once('<')?;
            is_phrase(phrase).then_some(spec)?
        }
    };
    addr_spec(spec).map(|_| spec)
}

/// The addresses of a list that commas separate, each as [`sieve_address`] takes them; at least one.
pub fn address_list(text: &str) -> Option<Vec<&str>> {
    let mut quoted = false;
    let mut escaped = false;
    let commas = |character: char| {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' => return !quoted,
            _ => {}
        }
        false
    };
    text.split(commas).map(sieve_address).collect()
}

/// Whether two addresses lead to the same mailbox: domains in any case, local parts exactly.
pub fn same(a: &str, b: &str) -> bool {
    match (a.rsplit_once('@'), b.rsplit_once('@')) {
        (Some((a, a_domain)), Some((b, b_domain))) => a == b && a_domain.eq_ignore_ascii_case(b_domain),
        _ => a == b,
    }
}

fn is_atom(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| !c.is_ascii() || c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c))
        && !text.chars().any(char::is_control)
}

fn is_quoted(text: &str) -> bool {
    let Some(inner) = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else { return false };
    let mut escaped = false;
    let plain = inner.chars().all(|character| {
        let good = escaped || character != '"';
        escaped = !escaped && character == '\\';
        good && !character.is_control()
    });
    // `"` alone is no quoted string, though it begins and ends with a quote.
    text.len() >= 2 && plain && !escaped
}

fn is_local(text: &str) -> bool {
    text.split('.').all(is_atom) || is_quoted(text)
}

fn is_domain(text: &str) -> bool {
    let literal = text.strip_prefix('[').and_then(|text| text.strip_suffix(']'));
    text.split('.').all(is_atom)
        || literal.is_some_and(|inner| {
            !inner.is_empty() && inner.bytes().all(|b| b.is_ascii_alphanumeric() || b".:-".contains(&b))
        })
}

/// A display name: words and one kind of quoted string, or nothing; dots are what many write.
fn is_phrase(text: &str) -> bool {
    let text = text.trim_matches([' ', '\t']);
    text.is_empty()
        || is_quoted(text)
        || text.split([' ', '\t', '.']).all(|word| word.is_empty() || is_atom(word))
}

fn unquoted(local: &str) -> String {
    let Some(inner) = local.strip_prefix('"').and_then(|text| text.strip_suffix('"')) else {
        return local.to_owned();
    };
    let mut text = String::new();
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        text.extend(if character == '\\' { characters.next() } else { Some(character) });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sieve_addresses() {
        for (text, found) in [
            ("tim@example.com", Some("tim@example.com")),
            ("Tim Example <tim@example.com>", Some("tim@example.com")),
            ("\"Tim, the \\\"Ex\\\"\" <tim@example.com>", Some("tim@example.com")),
            ("T. E. <tim@[192.0.2.1]>", Some("tim@[192.0.2.1]")),
            ("<tim@example.com>", Some("tim@example.com")),
            ("\"a b\"@example.com", Some("\"a b\"@example.com")),
            ("grün@exämple.org", Some("grün@exämple.org")),
            ("tim", None),
            ("", None),
            ("@example.com", None),
            ("tim@", None),
            ("a..b@example.com", None),
            ("tim@example.com, tom@example.com", None),
            ("group: tim@example.com;", None),
            ("<@route:tim@example.com>", None),
            ("tim@example.com\r\nBcc: x@example.com", None),
            ("Tim\r\nX: y <tim@example.com>", None),
            ("tim@exam ple.com", None),
            ("\"@example.com", None),
        ] {
            assert_eq!(sieve_address(text), found, "{text}");
        }
        assert_eq!(address_list("a@b.c, \"x, y\" <d@e.f>"), Some(vec!["a@b.c", "d@e.f"]));
        assert_eq!(address_list("a@b.c,"), None);
    }

    #[test]
    fn parts_of_paths() {
        let parts = |path: &str| {
            let address = Address::from_path(path);
            use AddressPart::{All, Detail, Domain, Localpart, User};
            [All, Localpart, Domain, User, Detail]
                .map(|part| address.part(part, "+").map(Cow::into_owned).unwrap_or_else(|| "-".to_owned()))
        };
        for (path, expected) in [
            ("ken+sieve@example.org", ["ken+sieve@example.org", "ken+sieve", "example.org", "ken", "sieve"]),
            ("ken+@example.org", ["ken+@example.org", "ken+", "example.org", "ken", ""]),
            ("ken+a+b@example.org", ["ken+a+b@example.org", "ken+a+b", "example.org", "ken", "a+b"]),
            ("ken@example.org", ["ken@example.org", "ken", "example.org", "ken", "-"]),
            ("@a,@b:ken@example.org", ["ken@example.org", "ken", "example.org", "ken", "-"]),
            ("postmaster", ["postmaster", "postmaster", "", "postmaster", "-"]),
            ("\"k en\"@example.org", ["k en@example.org", "k en", "example.org", "k en", "-"]),
            ("not an address", ["not an address", "-", "-", "-", "-"]),
        ] {
            assert_eq!(parts(path), expected, "{path}");
        }
    }
}
