//! What is written is read again, from whatever is left of it.

use super::*;

fn key(name: &str) -> Key {
    Key::of(&[name.as_bytes()])
}

fn filled(dir: &Path) -> PathBuf {
    let mut journal = Journal::open(dir, "ann@example.test").unwrap();
    let inbox = journal.mailbox("INBOX", 7).unwrap();
    journal.brought(inbox, key("a"), 1, &Flags::parse("\\Seen Work")).unwrap();
    let odd = journal.mailbox("A\tb%/c\u{e4}", 8).unwrap();
    journal.brought(odd, key("a"), 5, &Flags::default()).unwrap();
    journal.brought(inbox, key("b"), 2, &Flags::default()).unwrap();
    journal.brought(inbox, key("a"), 1, &Flags::parse("\\Flagged")).unwrap();
    journal.subscribed("A\tb%/c\u{e4}").unwrap();
    journal.path.clone()
}

#[test]
fn what_was_written_is_known_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = filled(dir.path());
    assert!(path.ends_with("ann@example.test.journal"));
    let mut journal = Journal::open(dir.path(), "ann@example.test").unwrap();
    let inbox = journal.mailbox("INBOX", 7).unwrap();
    assert_eq!(journal.known(inbox, key("a")), Some((1, &Flags::parse("\\Flagged"))), "the last line counts");
    assert_eq!(journal.known(inbox, key("b")), Some((2, &Flags::default())));
    assert_eq!(journal.known(inbox, key("c")), None);
    assert_eq!(journal.last_uid(inbox), 2);
    let odd = journal.mailbox("A\tb%/c\u{e4}", 8).unwrap();
    assert_eq!((odd, journal.last_uid(odd), journal.count()), (1, 5, 3));
    assert!(journal.is_subscribed("A\tb%/c\u{e4}") && !journal.is_subscribed("INBOX"));

    // The mailbox was made anew: what was in it is not.
    assert_eq!(journal.mailbox("INBOX", 9).unwrap(), inbox);
    drop(journal);
    let journal = Journal::open(dir.path(), "ann@example.test").unwrap();
    assert_eq!((journal.known(inbox, key("a")), journal.last_uid(inbox)), (None, 0));
}

#[test]
fn every_prefix_is_a_journal_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = filled(dir.path());
    let whole = fs::read(&path).unwrap();
    for end in 0..=whole.len() {
        fs::write(&path, &whole[..end]).unwrap();
        let mut journal = Journal::open(dir.path(), "ann@example.test").unwrap();
        let inbox = journal.mailbox("INBOX", 7).unwrap();
        journal.brought(inbox, key("later"), 9, &Flags::default()).unwrap();
        drop(journal);
        let journal = Journal::open(dir.path(), "ann@example.test").unwrap();
        assert_eq!(journal.known(inbox, key("later")), Some((9, &Flags::default())), "{end}");
        let lines = whole[..end].iter().filter(|b| **b == b'\n').count();
        assert_eq!(journal.known(inbox, key("a")).is_some(), lines >= 3, "{end}");
    }
}

#[test]
fn what_is_no_journal_is_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let path = filled(dir.path());
    let whole = fs::read_to_string(&path).unwrap();
    for (text, line) in [
        ("hello\n".to_owned(), 1),
        (whole.replace("ann@", "bob@"), 1),
        (whole.replace("\t1\tann", "\t2\tann"), 1),
        (whole.replace("b\t1", "b\t3"), 4),
        (whole.replace("m\t1\t5", "m\t1\tfive"), 5),
        (format!("{whole}?\n"), 9),
        (format!("{whole}{}\n", "x".repeat(70_000)), 9),
    ] {
        fs::write(&path, &text).unwrap();
        match Journal::open(dir.path(), "ann@example.test") {
            Err(JournalError::Damaged { line: found, .. }) => assert_eq!(found, line, "{text:.200}"),
            other => panic!("{other:?}"),
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
    }
}

#[test]
fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let first = Journal::open(dir.path(), "ann@example.test").unwrap();
    assert!(matches!(Journal::open(dir.path(), "ann@example.test"), Err(JournalError::InUse(_))));
    assert!(Journal::open(dir.path(), "bob@example.test").is_ok());
    drop(first);
    assert!(Journal::open(dir.path(), "ann@example.test").is_ok());
    assert!(Journal::open(dir.path(), "../x@example.test").unwrap().path.parent() == Some(dir.path()));
}
