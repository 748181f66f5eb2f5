//! What is sent for a message, by what the journal and the server have.

use super::*;
use crate::imap::script::greeted;

const DATE: i64 = 1_700_211_901;

fn found(name: &str, octets: &[u8], flags: &str) -> Found {
    let key = Key::of(&[name.as_bytes()]);
    Found { key, name: name.to_owned(), octets: octets.to_vec(), flags: Flags::parse(flags), date: DATE }
}

/// What came of it: what was sent, the journal's messages, what was told, and how it ended.
#[derive(Debug)]
struct Outcome {
    sent: String,
    known: Vec<Option<(u32, String)>>,
    told: Vec<String>,
    end: Result<(), Stop>,
}

/// Brings these messages, twice over where a caller would come again, to a server that says this.
fn bring(says: &str, last_uid: Option<u32>, messages: &[Found]) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path(), "ann@example.test").unwrap();
    let number = journal.mailbox("INBOX", 7).unwrap();
    let mut client = greeted(says, 1000);
    let unsettled =
        last_uid.map_or_else(Unsettled::default, |uid| Unsettled::look(&mut client, uid).unwrap());
    let (progress, mut told, mut refused) = (Progress::default(), Vec::new(), HashSet::new());
    let mut tell = |what: &str, why: &str| told.push(format!("{what}: {why}"));
    let into = Target { name: "INBOX", number, uid_validity: 7, is_open: last_uid.is_some() };
    let mut filling =
        Filling::new(&mut client, &mut journal, &progress, &mut tell, (into, unsettled), &mut refused);
    let mut each = || -> Result<(), Stop> {
        for message in messages {
            if filling.wants(message.key, &message.flags)? {
                filling.message(message.clone())?;
            }
        }
        filling.finish()
    };
    let end = each();
    drop(filling);
    let known =
        messages.iter().map(|m| journal.known(number, m.key).map(|(uid, flags)| (uid, flags.to_string())));
    let known = known.collect();
    let sent = String::from_utf8(client.stream().heard.clone()).unwrap();
    Outcome { sent, known, told, end }
}

fn appends(outcome: &Outcome) -> usize {
    outcome.sent.matches(" APPEND ").count()
}

#[test]
fn what_the_server_has_is_not_sent_again_and_what_only_looks_like_it_is() {
    let fetched = "* 1 FETCH (UID 41 RFC822.SIZE 8 INTERNALDATE \"17-Nov-2023 09:05:01 +0000\")\r\na1 OK\r\n";
    let text = b"A: b\r\n\r\n";
    let same = format!("{fetched}* 1 FETCH (UID 41 BODY[] {{8}}\r\nA: b\r\n\r\n)\r\na2 OK\r\n");
    let outcome = bring(&same, Some(0), &[found("a", text, "\\Seen")]);
    assert!(outcome.end.is_ok() && appends(&outcome) == 0, "{outcome:?}");
    assert_eq!(outcome.known, [Some((41, "\\Seen".to_owned()))]);

    // A second one that is alike is another message.
    let twice = format!("{same}a3 OK [APPENDUID 7 42] done\r\n");
    let outcome = bring(&twice, Some(0), &[found("a", text, ""), found("b", text, "")]);
    assert!(outcome.end.is_ok() && appends(&outcome) == 1, "{outcome:?}");
    assert_eq!(outcome.known, [Some((41, String::new())), Some((42, String::new()))]);

    let other = format!(
        "{fetched}* 1 FETCH (UID 41 BODY[] {{8}}\r\nA: c\r\n\r\n)\r\na2 OK\r\na3 OK [APPENDUID 7 42] done\r\n"
    );
    let outcome = bring(&other, Some(0), &[found("a", text, "")]);
    assert!(outcome.end.is_ok() && appends(&outcome) == 1, "{outcome:?}");
    assert_eq!(outcome.known, [Some((42, String::new()))]);

    // Below the last UID that the journal knows, all is known: `*` may name that one.
    let outcome =
        bring(&format!("{fetched}a2 OK [APPENDUID 7 42] done\r\n"), Some(41), &[found("a", text, "")]);
    assert!(outcome.end.is_ok() && appends(&outcome) == 1, "{outcome:?}");
}

#[test]
fn only_what_was_confirmed_is_written_down() {
    let two = [found("a", b"A: b\r\n", ""), found("b", b"A: c\r\n", "\\Seen")];
    for (says, known, told, end) in [
        ("a1 OK [APPENDUID 7 1] x\r\na2 OK [APPENDUID 7 2] x\r\n", [Some(1), Some(2)], 0, "done"),
        ("a1 OK [APPENDUID 7 1] x\r\n", [Some(1), None], 0, "again"),
        ("a1 OK [APPENDUID 7 1] x\r\na2 OK [APPENDUID 8 2] x\r\n", [Some(1), None], 0, "again"),
        ("a1 OK [APPENDUID 7 1] x\r\na2 OK x\r\n", [Some(1), None], 0, "again"),
        ("a1 NO [TOOBIG] x\r\na2 OK [APPENDUID 7 2] x\r\n", [None, Some(2)], 1, "done"),
        ("a1 BAD x\r\na2 OK [APPENDUID 7 2] x\r\n", [None, Some(2)], 1, "done"),
        ("a1 NO [UNAVAILABLE] x\r\na2 OK [APPENDUID 7 2] x\r\n", [None, None], 0, "again"),
        ("a1 NO [LIMIT] x\r\n", [None, None], 0, "again"),
        ("a1 NO [OVERQUOTA] x\r\n", [None, None], 0, "account"),
        ("a2 OK [APPENDUID 7 2] x\r\n", [None, None], 0, "again"),
        ("* BYE x\r\n", [None, None], 0, "again"),
    ] {
        let outcome = bring(says, None, &two);
        let ended = match &outcome.end {
            Ok(()) => "done",
            Err(Stop::Again(_)) => "again",
            Err(Stop::Account(_)) => "account",
        };
        let uids: Vec<_> = outcome.known.iter().map(|known| known.as_ref().map(|(uid, _)| *uid)).collect();
        assert_eq!((uids, outcome.told.len(), ended), (known.to_vec(), told, end), "{says}");
        assert_eq!(appends(&outcome), 2, "{says}");
    }
}

#[test]
fn flags_are_changed_by_difference() {
    let says = "a1 OK [APPENDUID 7 1] x\r\n* OK [UIDVALIDITY 7] x\r\n* OK [UIDNEXT 2] x\r\na2 OK x\r\na3 OK x\r\na4 OK x\r\n";
    let (old, new) = (found("a", b"A: b\r\n", "\\Draft Work"), found("a", b"A: b\r\n", "\\Seen Work"));
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path(), "ann@example.test").unwrap();
    let number = journal.mailbox("INBOX", 7).unwrap();
    let mut client = greeted(says, 1000);
    let (progress, mut tell, mut refused) = (Progress::default(), |_: &str, _: &str| (), HashSet::new());
    let into = Target { name: "INBOX", number, uid_validity: 7, is_open: false };
    let unsettled = Unsettled::default();
    let mut filling =
        Filling::new(&mut client, &mut journal, &progress, &mut tell, (into, unsettled), &mut refused);
    filling.message(old).unwrap();
    filling.finish().unwrap();
    assert!(!filling.wants(new.key, &new.flags).unwrap());
    filling.finish().unwrap();
    drop(filling);
    let sent = String::from_utf8(client.stream().heard.clone()).unwrap();
    let lines: Vec<_> = sent.lines().filter(|line| line.contains(" STORE ")).map(|line| &line[3..]).collect();
    let mut lines = lines;
    lines.sort_unstable();
    assert_eq!(lines, ["UID STORE 1 +FLAGS.SILENT (\\Seen)", "UID STORE 1 -FLAGS.SILENT (\\Draft)"]);
    assert_eq!(journal.known(number, new.key), Some((1, &new.flags)));
}
