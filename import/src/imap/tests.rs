//! Conversations, octet by octet.

use super::{
    script::{greeted, script},
    *,
};

#[test]
fn a_login_looks_at_what_is_offered() {
    let offered = "* CAPABILITY IMAP4rev1 LITERAL+ UIDPLUS UNSELECT APPENDLIMIT=1000\r\na2 OK\r\n";
    let mut client = greeted(&format!("a1 OK [CAPABILITY X] in\r\n{offered}"), 7);
    assert_eq!(client.log_in("AAA=").unwrap(), None);
    assert_eq!(client.max_message, 1000);
    assert_eq!(client.stream.get_ref().heard, b"a1 AUTHENTICATE PLAIN AAA=\r\na2 CAPABILITY\r\n");

    let mut client = greeted("a1 NO [UNAVAILABLE] later\r\n", 7);
    let refused = client.log_in("AAA=").unwrap().unwrap();
    assert_eq!(
        (refused.condition, refused.code.as_str(), refused.text.as_str()),
        (Condition::No, "UNAVAILABLE", "later")
    );

    let mut client = greeted("a1 OK in\r\n* CAPABILITY IMAP4rev1 UIDPLUS\r\na2 OK\r\n", 7);
    assert!(matches!(client.log_in("AAA="), Err(ImapError::Unable("LITERAL+"))));
}

#[test]
fn appends_follow_each_other_and_answers_are_told_apart() {
    let says = "* 5 EXISTS\r\na1 OK [APPENDUID 7 41] done\r\na2 NO [TOOBIG] no\r\na3 BAD what\r\n";
    let mut client = greeted(says, 1000);
    let flags = Flags::parse("\\Seen Work");
    let message = Appending {
        mailbox: "Entw\u{fc}rfe/a \"b\"",
        flags: &flags,
        date: 1_700_211_901,
        octets: b"A: b\r\n\r\n",
    };
    assert_eq!(client.append(&message).unwrap(), 1);
    let message = Appending { mailbox: "INBOX", flags: &Flags::default(), ..message };
    assert_eq!((client.append(&message).unwrap(), client.append(&message).unwrap()), (2, 3));
    let answers: Vec<_> = (0..3).map(|_| client.answer(&mut |_| ()).unwrap()).collect();
    assert_eq!(answers[0].append_uid(), Some((7, 41)));
    assert_eq!((answers[1].condition, answers[1].code.as_str()), (Condition::No, "TOOBIG"));
    assert_eq!((answers[2].condition, answers[2].append_uid()), (Condition::Bad, None));
    let heard = String::from_utf8(client.stream.get_ref().heard.clone()).unwrap();
    let first = "a1 APPEND \"Entw&APw-rfe/a \\\"b\\\"\" (\\Seen Work) \"17-Nov-2023 09:05:01 +0000\" {8+}\r\nA: b\r\n\r\n\r\n";
    assert!(heard.starts_with(first), "{heard}");
    assert!(
        heard.contains("a2 APPEND INBOX () \"17-Nov-2023") || heard.contains("a2 APPEND \"INBOX\" ()"),
        "{heard}"
    );
}

#[test]
fn fetches_are_read_whatever_pieces_they_come_in() {
    let says = "* 1 FETCH (UID 9 RFC822.SIZE 123 INTERNALDATE \" 7-Nov-2023 09:05:01 +0200\")\r\n\
                * 2 FETCH (UID 10 BODY[] {13}\r\na\r\n* 3 OK {9})\r\n* OK [UIDNEXT 44] next\r\na1 OK done\r\n";
    let at = "2023-11-07T07:05:01Z".parse::<jiff::Timestamp>().unwrap().as_second();
    for at_once in [1, 2, 5, 1000] {
        let mut client = greeted(says, at_once);
        let mut told = Vec::new();
        let numbers = |t: &Untagged| ["UID", "RFC822.SIZE", "UIDNEXT"].map(|name| t.number(name));
        client
            .command("X", &mut |t| {
                told.push((numbers(t), t.internal_date(), t.literal().map(<[u8]>::to_vec)))
            })
            .unwrap();
        let expected = [
            ([Some(9), Some(123), None], Some(at), None),
            ([Some(10), None, None], None, Some(b"a\r\n* 3 OK {9}".to_vec())),
            ([None, None, Some(44)], None, None),
        ];
        assert_eq!(told, expected, "{at_once}");
    }
}

#[test]
fn what_no_answer_is_ends_the_conversation() {
    for (says, part) in [
        ("", "connection was lost"),
        ("* BYE [UNAVAILABLE] going\r\n", "ended the session"),
        ("a2 OK another\r\n", "another command"),
        ("a1 MAYBE\r\n", "cannot be read"),
        ("b1 OK\r\n", "cannot be read"),
        ("\u{fc}\r\n", "cannot be read"),
        ("* 1 FETCH (BODY[] {99999999999}\r\n", "too long"),
        (&format!("* {}", "x".repeat(300_000)), "too long"),
        ("* 1 FETCH (BODY[] {5}\r\nab", "connection was lost"),
    ] {
        let mut client = greeted(says, 50_000);
        let error = client.command("NOOP", &mut |_| ()).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
    assert!(Client::greeted(script(b"* PREAUTH hi\r\n", 9)).is_err());
}
