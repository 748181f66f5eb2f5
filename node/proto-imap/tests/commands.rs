//! Known commands decode to what the RFCs say.

#![allow(clippy::panic, reason = "a test may")]

use mailcluster_proto_imap::{
    Bound, Command, CommandBody, Decoder, Event, Flag, Limits, SequenceSet,
    command::{FetchItem, Partial, SearchKey, SectionText, StatusItem, StoreOp},
    date::Day,
};

fn decode(line: &str) -> CommandBody {
    let mut decoder = Decoder::new(Limits::default());
    decoder.feed(format!("A1 {line}\r\n").as_bytes());
    match decoder.next_event() {
        Some(Event::Command(Command { body, .. })) => body,
        other => panic!("{line}: {other:?}"),
    }
}

fn refused(line: &str) -> String {
    let mut decoder = Decoder::new(Limits::default());
    decoder.feed(format!("A1 {line}\r\n").as_bytes());
    match decoder.next_event() {
        Some(Event::Invalid { tag: Some(tag), error }) if tag == "A1" => error.to_string(),
        other => panic!("{line}: {other:?}"),
    }
}

fn ranges(set: &SequenceSet) -> Vec<(u32, u32)> {
    set.resolve(100).into_iter().map(|r| (*r.start(), *r.end())).collect()
}

#[test]
fn simple_commands() {
    for (line, body) in [
        ("capability", CommandBody::Capability),
        ("Noop", CommandBody::Noop),
        ("LOGOUT", CommandBody::Logout),
        ("STARTTLS", CommandBody::StartTls),
        ("NAMESPACE", CommandBody::Namespace),
        ("CHECK", CommandBody::Check),
        ("CLOSE", CommandBody::Close),
        ("UNSELECT", CommandBody::Unselect),
        ("EXPUNGE", CommandBody::Expunge),
        ("IDLE", CommandBody::Idle),
        ("ID NIL", CommandBody::Id(vec![])),
        ("ENABLE condstore X-y", CommandBody::Enable(vec!["CONDSTORE".into(), "X-Y".into()])),
    ] {
        assert_eq!(decode(line), body, "{line}");
    }
    let CommandBody::Id(pairs) = decode("ID (\"name\" \"mutt\" \"version\" NIL)") else { panic!() };
    assert_eq!(pairs, [(b"name".to_vec(), Some(b"mutt".to_vec())), (b"version".to_vec(), None)]);
    for line in ["ID", "ID (\"name\")", "ENABLE", "NOOP x", "UID NOOP", "SELECT", "SELECT x y", "DELETE a b"]
    {
        refused(line);
    }
}

#[test]
fn logins() {
    let CommandBody::Login(login) = decode("LOGIN \"a\\\"b\" pass]") else { panic!() };
    assert_eq!((login.user.as_slice(), login.password.0.as_slice()), (&b"a\"b"[..], &b"pass]"[..]));
    let CommandBody::Authenticate(auth) = decode("AUTHENTICATE plain AGFubgBwdw==") else { panic!() };
    assert_eq!((auth.mechanism.as_str(), auth.initial.unwrap().0.as_slice()), ("PLAIN", &b"\0ann\0pw"[..]));
    let CommandBody::Authenticate(auth) = decode("AUTHENTICATE EXTERNAL =") else { panic!() };
    assert_eq!(auth.initial.unwrap().0, b"");
    assert!(matches!(decode("AUTHENTICATE PLAIN"), CommandBody::Authenticate(a) if a.initial.is_none()));
    refused("AUTHENTICATE PLAIN A");
    refused("LOGIN a");
    refused("LOGIN \"a\\b\" c");
}

#[test]
fn mailboxes() {
    let CommandBody::Select(select) = decode("SELECT inbox/&AOQ- (CONDSTORE)") else { panic!() };
    assert_eq!((select.mailbox.as_str(), select.condstore), ("INBOX/ä", true));
    let CommandBody::Create(create) = decode("CREATE \"a b/\" (USE (\\Sent \\All))") else { panic!() };
    assert_eq!((create.mailbox.as_str(), create.special_use.len()), ("a b/", 2));
    let CommandBody::Rename(rename) = decode("RENAME a ../../b") else { panic!() };
    assert_eq!((rename.from.as_str(), rename.to.as_str()), ("a", "../../b"));
    let CommandBody::Status(status) = decode("STATUS x (MESSAGES uidnext SIZE)") else { panic!() };
    assert_eq!(status.items, [StatusItem::Messages, StatusItem::UidNext, StatusItem::Size]);
    refused("STATUS x ()");
    refused("STATUS x (FOO)");
    refused("CREATE a (USE Sent)");
}

#[test]
fn lists() {
    let CommandBody::List(list) = decode("LIST \"\" *") else { panic!() };
    assert!(!list.extended && list.patterns[0].0 == "*" && list.reference.as_str().is_empty());
    let CommandBody::List(list) = decode(
        "LIST (SUBSCRIBED RECURSIVEMATCH) \"\" (\"%\" inbox) RETURN (CHILDREN STATUS (UNSEEN) SUBSCRIBED)",
    ) else {
        panic!()
    };
    assert!(
        list.extended && list.select.subscribed && list.select.recursive_match && list.returns.subscribed
    );
    assert_eq!(list.patterns[1].0, "INBOX");
    assert_eq!(list.returns.status, Some(vec![StatusItem::Unseen]));
    let CommandBody::Lsub(lsub) = decode("LSUB \"#news.\" %]x") else { panic!() };
    assert_eq!((lsub.reference.as_str(), lsub.pattern.0.as_str()), ("#news.", "%]x"));
    refused("LIST (RECURSIVEMATCH) \"\" *");
    refused("LIST \"\" ()");
    refused("LIST \"\" * RETURN (FOO)");
}

#[test]
fn fetches() {
    let CommandBody::Fetch(fetch) = decode("UID FETCH 2:4,* FULL") else { panic!() };
    assert_eq!(ranges(&fetch.set), [(2, 4), (100, 100)]);
    assert!(fetch.items.contains(&FetchItem::Body) && fetch.items.contains(&FetchItem::Uid));
    let line = "FETCH 1 (UID BODY.PEEK[4.2.HEADER.FIELDS.NOT (DATE \"a b\")]<10.20> BODY[] RFC822.HEADER)";
    let CommandBody::Fetch(fetch) = decode(line) else { panic!() };
    let FetchItem::Section(section) = &fetch.items[1] else { panic!() };
    assert_eq!((section.path.as_slice(), section.peek), (&[4, 2][..], true));
    assert_eq!(section.partial, Some(Partial { offset: 10, length: 20 }));
    assert_eq!(section.label(), b"BODY[4.2.HEADER.FIELDS.NOT (DATE \"a b\")]<10>");
    let FetchItem::Section(section) = &fetch.items[2] else { panic!() };
    assert_eq!(
        (&section.text, section.peek, section.label()),
        (&SectionText::All, false, b"BODY[]".to_vec())
    );
    let CommandBody::Fetch(fetch) = decode("FETCH 1:* FLAGS (CHANGEDSINCE 12345678901)") else { panic!() };
    assert_eq!((fetch.changed_since, fetch.items.len()), (Some(12_345_678_901), 2));
    let CommandBody::Fetch(fetch) = decode("FETCH 1 BODY[1.MIME]") else { panic!() };
    assert!(matches!(&fetch.items[0], FetchItem::Section(s) if s.text == SectionText::Mime));
    for line in [
        "FETCH 1 ()",
        "FETCH 1 BODY[MIME]",
        "FETCH 1 BODY[0]",
        "FETCH 1 BODY[1.]",
        "FETCH 1 BODY[]<0.0>",
        "FETCH 1 BODY[HEADER.FIELDS ()]",
        "FETCH a FLAGS",
        "FETCH 1 FOO",
        "FETCH 1 FLAGS UID",
        "FETCH 1",
    ] {
        refused(line);
    }
}

#[test]
fn stores_and_copies() {
    let CommandBody::Store(store) = decode("UID STORE 1 +FLAGS.SILENT (\\Deleted $Junk \\Recent)") else {
        panic!()
    };
    assert_eq!((store.op, store.silent, store.uid), (StoreOp::Add, true, true));
    assert_eq!(store.flags, [Flag::Deleted, Flag::Keyword("$Junk".into())]);
    let CommandBody::Store(store) = decode("STORE 1 (UNCHANGEDSINCE 5) FLAGS \\Seen Work") else { panic!() };
    assert_eq!((store.op, store.unchanged_since, store.flags.len()), (StoreOp::Replace, Some(5), 2));
    assert!(matches!(decode("STORE 1 -flags ()"), CommandBody::Store(s) if s.op == StoreOp::Remove));
    assert!(matches!(decode("UID MOVE 1:* Trash"), CommandBody::Move(m) if m.uid));
    assert!(matches!(decode("COPY 1 {5+}\r\nTrash"), CommandBody::Copy(m) if m.mailbox.as_str() == "Trash"));
    assert!(matches!(decode("UID EXPUNGE 3"), CommandBody::UidExpunge(s) if ranges(&s) == [(3, 3)]));
    refused("STORE 1 FLAGS (\\Foo)");
    refused("STORE 1 FLAGS");
    refused("COPY 1");
}

#[test]
fn searches() {
    let CommandBody::Search(search) =
        decode("SEARCH CHARSET utf-8 FLAGGED SINCE 1-Feb-1994 NOT FROM \"Smith\" OR UNSEEN (2:4 KEYWORD x)")
    else {
        panic!()
    };
    assert_eq!(search.charset.as_deref(), Some("UTF-8"));
    assert_eq!(search.keys[0], SearchKey::Flag(Flag::Flagged, true));
    assert_eq!(search.keys[1], SearchKey::Since(Day::from_date(1994, 2, 1)));
    assert_eq!(
        search.keys[2],
        SearchKey::Not(Box::new(SearchKey::Header(b"FROM".to_vec(), b"Smith".to_vec())))
    );
    assert!(
        matches!(&search.keys[3], SearchKey::Or(_, and) if matches!(&**and, SearchKey::And(k) if k.len() == 2))
    );
    let CommandBody::Search(search) =
        decode("UID SEARCH RETURN () UID *:5 MODSEQ \"/flags/\\\\draft\" all 7")
    else {
        panic!()
    };
    assert!(search.uid && search.returns.is_some_and(|r| r.all) && search.keys[1].names_modseq());
    let CommandBody::Search(search) = decode("SEARCH TEXT {4+}\r\n\u{e4}\u{f6}") else { panic!() };
    assert_eq!(search.keys, [SearchKey::Text("äö".as_bytes().to_vec())]);
    for line in [
        "SEARCH",
        "SEARCH FOO",
        "SEARCH NOT",
        "SEARCH OR SEEN",
        "SEARCH ()",
        "SEARCH LARGER x",
        "SEARCH ON 1",
    ] {
        refused(line);
    }
    let _ = Bound::Last;
}
