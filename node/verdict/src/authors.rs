//! Whom a header names as author (RFC 5322 section 3.6.2, RFC 7489 section 6.6.1).
//!
//! A header with two From fields, or with one that cannot be read, shows readers one author and checks another. So it
//! counts as what it is, and not as "no author, nothing to check".

use crate::results::Authors;

/// Domains of one From field that are looked at; each costs look-ups.
const MAX_DOMAINS: usize = 4;

/// The domains to be checked, each once, and what the header is worth. `fields` counts From fields, `addresses` are
/// those in them.
pub(crate) fn authors(fields: usize, addresses: &[String]) -> (Authors, Vec<String>) {
    let mut domains: Vec<String> = Vec::new();
    for address in addresses {
        let Some((_, domain)) = address.rsplit_once('@') else { continue };
        let domain = domain.trim_end_matches('.').to_ascii_lowercase();
        if !domain.is_empty() && !domains.contains(&domain) {
            domains.push(domain);
        }
    }
    if fields > 1 || domains.len() > MAX_DOMAINS {
        return (Authors::Several, Vec::new());
    }
    match domains.is_empty() {
        true => (Authors::Unreadable, domains),
        false => (Authors::Named, domains),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_field_and_few_domains() {
        for (fields, addresses, expected, domains) in [
            (1, &["ann@example.org"][..], Authors::Named, &["example.org"][..]),
            (1, &["ann@Example.org.", "bob@example.org"], Authors::Named, &["example.org"]),
            (1, &["ann@a.example", "bob@b.example"], Authors::Named, &["a.example", "b.example"]),
            (1, &["\"a@x\"@b.example"], Authors::Named, &["b.example"]),
            (2, &["ann@a.example", "bob@a.example"], Authors::Several, &[]),
            (2, &["ann@a.example"], Authors::Several, &[]),
            (1, &["a@a.b", "a@b.b", "a@c.b", "a@d.b", "a@e.b"], Authors::Several, &[]),
            (0, &[], Authors::Unreadable, &[]),
            (1, &[], Authors::Unreadable, &[]),
            (1, &["ann", "ann@"], Authors::Unreadable, &[]),
        ] {
            let given: Vec<String> = addresses.iter().map(|a| (*a).to_owned()).collect();
            let found = authors(fields, &given);
            assert_eq!(
                (found.0, found.1),
                (expected, domains.iter().map(|d| (*d).to_owned()).collect()),
                "{addresses:?}"
            );
        }
    }
}
