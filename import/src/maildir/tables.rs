//! Dovecot's own files in a Maildir: keywords, the order of UIDs, subscriptions.

use std::{collections::HashMap, os::fd::AsFd};

use super::{files, names};
use crate::{Key, Unread, maildir::key};

/// Most lines that are read of each.
const MAX_UIDS: usize = super::MAX_MESSAGES;
const MAX_SUBSCRIPTIONS: usize = super::MAX_FOLDERS;

/// The keyword of each small letter.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Keywords([Option<String>; 26]);

impl Keywords {
    pub fn get(&self, letter: char) -> Option<&str> {
        let at = u32::from(letter).checked_sub(u32::from('a'))?;
        self.0.get(usize::try_from(at).ok()?)?.as_deref()
    }
}

/// `dovecot-keywords`: lines of a number and a keyword.
pub(crate) fn keywords(below: &impl AsFd) -> Result<Keywords, Unread> {
    let mut keywords = Keywords::default();
    files::lines(below, "dovecot-keywords", &mut |line| {
        let Some((number, keyword)) = std::str::from_utf8(line).ok().and_then(|l| l.split_once(' ')) else {
            return;
        };
        if let Some(place) = number.parse::<usize>().ok().and_then(|n| keywords.0.get_mut(n)) {
            *place = Some(keyword.trim().to_owned());
        }
    })?;
    Ok(keywords)
}

/// `dovecot-uidlist`: a header, then lines of a UID, extensions, ` :` and a file's name. Read for the order alone.
pub(crate) fn order(below: &impl AsFd) -> Result<HashMap<Key, u32>, Unread> {
    let mut order = HashMap::new();
    let mut is_header = true;
    files::lines(below, "dovecot-uidlist", &mut |line| {
        if !std::mem::take(&mut is_header)
            && order.len() < MAX_UIDS
            && let Some((uid, name)) = uid(line)
        {
            order.insert(key(names::unique(name), 0), uid);
        }
    })?;
    Ok(order)
}

fn uid(line: &[u8]) -> Option<(u32, &[u8])> {
    let blank = memchr::memchr(b' ', line)?;
    let (uid, rest) = line.split_at(blank);
    let name =
        memchr::memmem::find(rest, b" :").and_then(|at| rest.get(at + 2..)).or_else(|| rest.get(1..))?;
    Some((std::str::from_utf8(uid).ok()?.parse().ok()?, name))
}

/// `subscriptions`: a name on each line, levels divided by `.`; in the second version, which says so, by TAB.
pub(crate) fn subscriptions(below: &impl AsFd) -> Result<Option<Vec<String>>, Unread> {
    let mut names = Vec::new();
    let mut is_second = false;
    let is_there = files::lines(below, "subscriptions", &mut |line| {
        if line.starts_with(b"V\t") {
            is_second = true;
        } else if !line.is_empty() && names.len() < MAX_SUBSCRIPTIONS {
            names.extend(subscription(line, is_second));
        }
    })?;
    Ok(is_there.then_some(names))
}

fn subscription(line: &[u8], is_second: bool) -> Option<String> {
    let levels: Vec<u8> = line.iter().map(|b| if is_second && *b == b'\t' { b'.' } else { *b }).collect();
    let name = super::mailbox(&levels)?;
    // What the server calls its namespace is no level of ours.
    if name == "INBOX" { Some(String::new()) } else { Some(name) }
}

#[cfg(test)]
mod tests {
    use std::{fs, fs::File};

    use super::*;

    fn read<T>(name: &str, text: &[u8], read: impl FnOnce(&File) -> T) -> T {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(name), text).unwrap();
        read(&File::open(dir.path()).unwrap())
    }

    #[test]
    fn keywords_have_a_letter_each() {
        let text = b"0 Work\n1 $Forwarded\r\n25 Last\n26 TooMany\n-1 x\nnonsense\n2\n3 \xff\n";
        let keywords = read("dovecot-keywords", text, |dir| keywords(dir).unwrap());
        let got = ['a', 'b', 'c', 'd', 'z', 'A', '{'].map(|letter| keywords.get(letter));
        assert_eq!(got, [Some("Work"), Some("$Forwarded"), None, None, Some("Last"), None, None]);
    }

    #[test]
    fn the_order_is_that_of_uids() {
        let text = b"3 V1700000000 N9 G0123\n2 :1.a.h,S=5\n7 W10 S9 :2.b.h,S=6\n8 3.c.h\nx :4.d.h\n9\n";
        let order = read("dovecot-uidlist", text, |dir| order(dir).unwrap());
        let of = |name: &[u8]| order.get(&key(name, 0)).copied();
        assert_eq!(
            [of(b"1.a.h"), of(b"2.b.h"), of(b"3.c.h"), of(b"4.d.h")],
            [Some(2), Some(7), Some(8), None]
        );
        assert!(read("other", b"", |dir| super::order(dir).unwrap()).is_empty());
    }

    #[test]
    fn subscriptions_of_both_versions() {
        for (text, expected) in [
            (&b"INBOX\nLists.Rust\nEntw&APw-rfe\n\n\xff\n"[..], &["", "Lists/Rust", "Entwürfe"][..]),
            (b"V\t2\n\nINBOX\nLists\tRust\nA%2eb\n", &["", "Lists/Rust", "A.b"]),
            (b"", &[]),
        ] {
            let names = read("subscriptions", text, |dir| subscriptions(dir).unwrap());
            assert_eq!(names.unwrap(), expected, "{text:?}");
        }
        assert_eq!(read("other", b"", |dir| subscriptions(dir).unwrap()), None);
    }
}
