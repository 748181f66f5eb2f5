//! Names in a Maildir: of folders, and of the files that messages are.

use mailcluster_proto_imap::mutf7;

/// The mailbox that a Maildir++ name (`Lists.Rust`, without the leading dot) stands for. Dovecot and Courier write
/// modified UTF-7, newer ones UTF-8, our own export `.` and `%` inside a level as `%2e` and `%25`.
pub(crate) fn mailbox(folder: &[u8]) -> Option<String> {
    let text = mutf7::decode(folder).or_else(|| String::from_utf8(folder.to_vec()).ok())?;
    let level = |level: &str| level.replace("%2e", ".").replace("%2E", ".").replace("%25", "%");
    let levels: Vec<String> = text.split('.').map(level).collect();
    let is_name = levels.iter().all(|level| !level.is_empty() && !level.contains(['/', '\0']));
    is_name.then(|| levels.join("/"))
}

/// What stays of a file's name when flags or sizes in it change: what stands before the first `,` or `:`.
pub(crate) fn unique(name: &[u8]) -> &[u8] {
    let end = name.iter().position(|b| matches!(b, b',' | b':'));
    match end {
        // A name that is nothing else: whoever made it, it is one.
        Some(0) | None => name,
        Some(end) => name.get(..end).unwrap_or(name),
    }
}

/// The letters after `:2,`.
pub(crate) fn letters(name: &[u8]) -> &str {
    let at = memchr::memmem::rfind(name, b":2,");
    at.and_then(|at| std::str::from_utf8(name.get(at + 3..)?).ok()).unwrap_or_default()
}

/// Sorts as messages arrived: names begin with the seconds since 1970.
pub(crate) fn arrival(name: &[u8]) -> u64 {
    let digits = name.iter().take_while(|b| b.is_ascii_digit()).take(18);
    digits.fold(0, |number, digit| number * 10 + u64::from(digit - b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_become_mailboxes() {
        for (folder, expected) in [
            (&b"Sent"[..], Some("Sent")),
            (b"Lists.Rust", Some("Lists/Rust")),
            (b"Entw&APw-rfe", Some("Entwürfe")),
            ("Entwürfe".as_bytes(), Some("Entwürfe")),
            (b"A &- B", Some("A & B")),
            (b"AT&T", Some("AT&T")),
            (b"Lists.%2e%2e.rust%2elang", Some("Lists/../rust.lang")),
            (b"a%25", Some("a%")),
            (b"", None),
            (b"a..b", None),
            (b"a.", None),
            (b"\xff\xfe", None),
            (b"a/b", None),
        ] {
            assert_eq!(mailbox(folder).as_deref(), expected, "{folder:?}");
        }
    }

    #[test]
    fn file_names_have_a_unique_part_flags_and_a_time() {
        for (name, unique_part, flags, time) in [
            (&b"1700000000.M1P2.host,S=5,W=6:2,FS"[..], &b"1700000000.M1P2.host"[..], "FS", 1_700_000_000),
            (b"1700000000.M1P2.host:2,", b"1700000000.M1P2.host", "", 1_700_000_000),
            (b"1700000000.M1P2.host", b"1700000000.M1P2.host", "", 1_700_000_000),
            (b"x\xff\n:2,\xff", b"x\xff\n", "", 0),
            (b":2,S", b":2,S", "S", 0),
            (b",S=1", b",S=1", "", 0),
            (b"99999999999999999999999", b"99999999999999999999999", "", 999_999_999_999_999_999),
        ] {
            assert_eq!(unique(name), unique_part, "{name:?}");
            assert_eq!(letters(name), flags, "{name:?}");
            assert_eq!(arrival(name), time, "{name:?}");
        }
    }
}
