//! Names as people type them, and the keys they stand for.

use mailcluster_types::Address;

use crate::AdminError;

/// A domain name in lower case.
///
/// # Errors
/// [`AdminError::Invalid`] says what is wrong.
pub(crate) fn domain(text: &str) -> Result<String, AdminError> {
    let text = text.trim().trim_end_matches('.');
    let address: Address = format!("x@{text}")
        .parse()
        .map_err(|_| AdminError::Invalid(format!("{text:?} is not a domain name")))?;
    if text.starts_with('[') || text.contains('@') {
        return Err(AdminError::Invalid(format!("{text:?} is not a domain name")));
    }
    Ok(address.domain().to_owned())
}

/// An address.
///
/// # Errors
/// [`AdminError::Invalid`] says what is wrong.
pub(crate) fn address(text: &str) -> Result<Address, AdminError> {
    text.trim().parse().map_err(|e| AdminError::Invalid(format!("{:?}: {e}", text.trim())))
}

/// The key a login's user name stands for; `None` when it cannot be any account's.
pub(crate) fn login_key(user: &str, default_domain: Option<&str>) -> Option<String> {
    let user = user.trim();
    if user.contains('@') {
        return user.parse().ok().map(|a: Address| a.key());
    }
    let with_domain: Address = format!("{user}@{}", default_domain?).parse().ok()?;
    Some(with_domain.key())
}

/// `user@domain` of a `user+tag@domain` key; `None` when there is no tag. (Subaddressing as RFC 5233 describes it,
/// with `+`; mail for any tag reaches the user, unless the tagged address exists by itself.)
pub(crate) fn without_tag(key: &str) -> Option<String> {
    let (local, domain) = key.rsplit_once('@')?;
    let (user, _) = local.split_once('+')?;
    if user.is_empty() || local.starts_with('"') { None } else { Some(format!("{user}@{domain}")) }
}

/// The domain of an address key.
pub(crate) fn domain_of(key: &str) -> &str {
    key.rsplit_once('@').map_or("", |(_, domain)| domain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_cut_off_where_there_are_any() {
        for (key, expected) in [
            ("a@b.c", None),
            ("a+x@b.c", Some("a@b.c")),
            ("a+x+y@b.c", Some("a@b.c")),
            ("+x@b.c", None),
            ("\"a b+x\"@b.c", None),
            ("a@b+c", None),
            ("", None),
        ] {
            assert_eq!(without_tag(key).as_deref(), expected, "{key}");
        }
    }

    #[test]
    fn logins_get_the_default_domain() {
        for (user, default, expected) in [
            ("Ann@Example.org", None, Some("ann@example.org")),
            ("ann", Some("example.org"), Some("ann@example.org")),
            ("ann", None, None),
            (" ann@b.c ", None, Some("ann@b.c")),
            ("a b", Some("b.c"), None),
            ("a\0@b.c", None, None),
            ("", Some("b.c"), None),
        ] {
            assert_eq!(login_key(user, default).as_deref(), expected, "{user:?}");
        }
    }

    #[test]
    fn domains_are_names() {
        assert_eq!(domain(" Example.ORG. "), Ok("example.org".into()));
        for bad in ["", "a@b", "[127.0.0.1]", "a b", "-x.y", "a..b", "x\n.y"] {
            assert!(domain(bad).is_err(), "{bad:?}");
        }
    }
}
