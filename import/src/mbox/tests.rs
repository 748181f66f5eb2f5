//! Files as programs write them, and as they should not be.

use std::fs;

use jiff::tz::Offset;

use super::*;
use crate::Flags;

/// Remembers what it is shown.
#[derive(Default)]
struct Seen {
    found: Vec<Found>,
    unread: Vec<String>,
}

impl Visit for Seen {
    type Stop = ();

    fn expects(&mut self, _: u64) {}

    fn wants(&mut self, key: Key, _: &Flags) -> Result<bool, ()> {
        Ok(self.found.iter().all(|found| found.key != key))
    }

    fn message(&mut self, found: Found) -> Result<(), ()> {
        self.found.push(found);
        Ok(())
    }

    fn unread(&mut self, _: &str, why: &Unread) {
        self.unread.push(why.to_string());
    }
}

fn read(text: &[u8], limit: u64) -> Seen {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mbox");
    fs::write(&path, text).unwrap();
    let mut mbox = Mbox::open(&path).unwrap().unwrap();
    mbox.zone = TimeZone::fixed(Offset::UTC);
    let mut seen = Seen::default();
    mbox.visit(limit, &mut seen).unwrap();
    seen
}

const FROM: &str = "From ann@example.org Fri Nov 17 09:05:01 2023\n";
const AT: i64 = 1_700_211_901;

#[test]
fn messages_are_divided_where_they_were_joined() {
    let f = FROM;
    let table: &[(String, &[&str])] = &[
        (format!("{f}A: b\n\ntext\n\n"), &["A: b\r\n\r\ntext\r\n"]),
        (format!("{f}A: b\n\ntext\n"), &["A: b\r\n\r\ntext\r\n"]),
        (format!("{f}A: b\n\ntext"), &["A: b\r\n\r\ntext"]),
        (format!("{f}A: 1\n\n\n{f}A: 2\n\n\n\n{f}A: 3\n"), &["A: 1\r\n\r\n", "A: 2\r\n\r\n\r\n", "A: 3\r\n"]),
        // mboxo and mboxrd.
        (
            format!("{f}A: b\n\n>From x\n>>From y\n>from z\n> From\n"),
            &["A: b\r\n\r\nFrom x\r\n>From y\r\n>from z\r\n> From\r\n"],
        ),
        // No empty line before it, or no date: text.
        (
            format!("{f}A: b\n\nx\n{f}y\n\nFrom here on\n"),
            &[&format!("A: b\r\n\r\nx\r\n{}\r\ny\r\n\r\nFrom here on\r\n", f.trim_end())],
        ),
        // Content-Length is not believed.
        (format!("{f}Content-Length: 900\nA: 1\n\nx\n\n{f}A: 2\n\n"), &["A: 1\r\n\r\nx\r\n", "A: 2\r\n"]),
        (
            format!("{f}A: b\r\n\r\nx\r\n\r\n{f}A: c\r\n").replace("2023\n", "2023\r\n"),
            &["A: b\r\n\r\nx\r\n", "A: c\r\n"],
        ),
        (String::new(), &[]),
    ];
    for (text, expected) in table {
        let seen = read(text.as_bytes(), 10_000);
        let texts: Vec<_> = seen.found.iter().map(|m| String::from_utf8(m.octets.clone()).unwrap()).collect();
        assert_eq!(texts, *expected, "{text:?}");
        assert!(seen.found.iter().all(|m| m.date == AT), "{text:?}");
        assert!(seen.unread.is_empty(), "{:?}", seen.unread);
    }
}

#[test]
fn a_message_is_the_same_when_only_its_status_differs() {
    let key = |status: &str| {
        let seen = read(format!("{FROM}{status}A: b\n\nx\n").as_bytes(), 1000);
        (seen.found[0].key, seen.found[0].flags.to_string())
    };
    let (plain, read_later) = (key(""), key("Status: RO\nX-UID: 5\n"));
    assert_eq!((plain.0, plain.1.as_str()), (read_later.0, ""));
    assert_eq!(read_later.1, "\\Seen");
    let twice = read(format!("{FROM}A: b\n\nx\n\n{FROM}A: b\n\nx\n\n{FROM}A: c\n").as_bytes(), 1000);
    assert_eq!(twice.found.len(), 3, "two that are alike are two");
    assert_eq!(twice.found[0].key, plain.0);
}

#[test]
fn what_cannot_be_brought_is_told_and_the_rest_is() {
    let long = "x".repeat(200_000);
    let text = format!("{FROM}A: 1\n\n{long}\n{long}\n\n{FROM}\n\n{FROM}A: 2\n\n");
    let seen = read(text.as_bytes(), 300_000);
    assert_eq!(seen.found.iter().map(|m| m.octets.len()).collect::<Vec<_>>(), [2, 6]);
    assert_eq!(seen.unread, ["400009 octets, and the server takes 300000"]);
    let data = format!(
        "{FROM}Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1 2\n\nx\n\n{FROM}A: 2\n"
    );
    let seen = read(data.as_bytes(), 1000);
    assert_eq!((seen.found.len(), seen.unread.len()), (1, 1));
    let seen = read(b"From nobody knows when\nA: b\n\nx\n", 1000);
    assert!(seen.found[0].date > AT, "the file's own time");
    let seen = read(format!("{FROM}A: \0\u{e4}\n").as_bytes(), 1000);
    assert!(!seen.found[0].octets.contains(&0));
}

#[test]
fn what_is_no_mbox_is_not_read_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    for text in ["Subject: a\n\n", "from x", "From", "\n", "%PDF"] {
        fs::write(&path, text).unwrap();
        assert!(Mbox::open(&path).unwrap().is_none(), "{text:?}");
    }
    let fifo = dir.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    assert!(Mbox::open(&fifo).is_err(), "and it does not wait for a writer");
    assert!(Mbox::open(Path::new("/dev/zero")).is_err());
}

proptest::proptest! {
    #[test]
    fn no_octets_end_it(text in proptest::collection::vec(proptest::num::u8::ANY, 0..2000), cut in 0usize..60) {
        let whole = [FROM.as_bytes(), &text, b"\n\n", &FROM.as_bytes()[..cut.min(FROM.len())]].concat();
        let seen = read(&whole, 500);
        for found in &seen.found {
            proptest::prop_assert!(found.octets.len() <= 500 && !found.octets.contains(&0));
        }
    }

    #[test]
    fn quoted_texts_come_out_as_they_went_in(lines in proptest::collection::vec("(>{0,3}From )?[ -~]{0,20}", 0..10)) {
        let body = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
        let quote = |line: &String| {
            let is_quoted = line.trim_start_matches('>').starts_with("From ");
            if is_quoted { format!(">{line}\n") } else { format!("{line}\n") }
        };
        let quoted = lines.iter().map(quote).collect::<String>();
        let seen = read(format!("{FROM}A: b\n\n{quoted}\n{FROM}A: c\n").as_bytes(), 10_000);
        proptest::prop_assert_eq!(seen.found.len(), 2);
        let text = String::from_utf8(seen.found[0].octets.clone()).unwrap();
        proptest::prop_assert_eq!(text, format!("A: b\n\n{body}").replace('\n', "\r\n"));
    }
}
