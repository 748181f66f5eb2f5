//! Mailbox names: UTF-8, `/` between levels, INBOX in capitals. A name is text and nothing else: no path is ever
//! made of one, so `..` is as good a name as any.

use crate::error::Refusal;

/// Longest level in octets.
const MAX_LEVEL: usize = 200;
/// Longest name in octets.
const MAX_NAME: usize = 1000;
/// The mailbox that always exists.
pub const INBOX: &str = "INBOX";

/// Checks a name and writes INBOX (as first level) in capitals.
///
/// # Errors
/// [`Refusal::BadName`] with what is wrong.
pub fn normalise(name: &str) -> Result<String, Refusal> {
    if name.len() > MAX_NAME {
        return Err(Refusal::BadName("longer than 1000 octets"));
    }
    for level in name.split('/') {
        if level.is_empty() {
            return Err(Refusal::BadName("a level is empty"));
        }
        if level.len() > MAX_LEVEL {
            return Err(Refusal::BadName("a level is longer than 200 octets"));
        }
    }
    if name.chars().any(|c| c.is_control() || matches!(c, '%' | '*')) {
        return Err(Refusal::BadName("control characters, % and * cannot be used"));
    }
    Ok(canonical(name))
}

/// Writes INBOX (as first level) in capitals, without checking anything.
pub fn canonical(name: &str) -> String {
    let (first, rest) = name.split_once('/').map_or((name, None), |(first, rest)| (first, Some(rest)));
    if !first.eq_ignore_ascii_case(INBOX) {
        return name.to_owned();
    }
    rest.map_or_else(|| INBOX.to_owned(), |rest| format!("{INBOX}/{rest}"))
}

/// The names above this one, outermost first.
pub fn parents(name: &str) -> impl Iterator<Item = &str> {
    name.match_indices('/').map(|(at, _)| &name[..at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_inbox_is_one() {
        let good = [
            ("inbox", "INBOX"),
            ("Inbox/Work", "INBOX/Work"),
            ("a/inbox", "a/inbox"),
            ("../../etc/passwd", "../../etc/passwd"),
            ("Entwürfe", "Entwürfe"),
        ];
        for (name, expected) in good {
            assert_eq!(normalise(name).as_deref(), Ok(expected), "{name}");
        }
        let long = "x".repeat(201);
        let deep = vec!["x".repeat(150); 7].join("/");
        for name in ["", "/", "a//b", "/a", "a/", "a\0b", "a\r\nb", "a%", "*", "\u{85}", &long, &deep] {
            assert!(matches!(normalise(name), Err(Refusal::BadName(_))), "{name:?}");
        }
        assert_eq!(parents("a/b/c").collect::<Vec<_>>(), ["a", "a/b"]);
    }
}
