//! APPEND, FETCH, STORE, COPY, MOVE, EXPUNGE.

mod imap_support;

use imap_support::World;

const MAIL: &str = concat!(
    "From: Ann <ann@example.org>\r\nTo: \"Bob, B\" <bob@example.net>\r\nSubject: Gr\u{fc}\u{df}e\r\n",
    "Date: Mon, 7 Feb 1994 21:52:25 -0800\r\nMessage-ID: <1@example.org>\r\n\r\nHello\r\nworld\r\n"
);

#[tokio::test]
async fn append_and_fetch_back() {
    let world = World::new().await;
    let mut client = world.inbox().await;
    client
        .script(
            "C: a APPEND INBOX (\\Seen Work) \" 7-Feb-1994 21:52:25 -0800\" {18}
             S: + …
             C: Subject: x
             C:
             C: ab
             C:
             S: * 1 EXISTS
             S: * 0 RECENT
             S: a OK [APPENDUID … 1] appended",
        )
        .await;
    client.send(format!("b APPEND INBOX {{{}+}}\r\n{MAIL}\r\n", MAIL.len()).as_bytes()).await;
    client
        .script(
            "S: * 2 EXISTS
             S: * 0 RECENT
             S: b OK [APPENDUID … 2] appended
             C: c FETCH 1 (FLAGS INTERNALDATE RFC822.SIZE UID)
             S: * 1 FETCH (FLAGS (\\Seen Work) INTERNALDATE \" 7-Feb-1994 21:52:25 -0800\" RFC822.SIZE 18 UID 1)
             S: c OK …
             C: d UID FETCH 1:* (BODY.PEEK[HEADER.FIELDS (Subject X)] BODY.PEEK[]<3.5>)
             S: * 1 FETCH (BODY[HEADER.FIELDS (Subject X)] {14}
             S: Subject: x
             S:
             S:  BODY[]<3> {5}
             S: ject: UID 1)
             S: * 2 FETCH (BODY[HEADER.FIELDS (Subject X)] {20}
             S: Subject: Gr\u{fc}\u{df}e
             S:
             S:  BODY[]<3> {5}
             S: m: An UID 2)
             S: d OK …
             C: e FETCH 2 (ENVELOPE BODYSTRUCTURE)
             S: * 2 FETCH (ENVELOPE (\"Mon, 7 Feb 1994 21:52:25 -0800\" {7}
             S: Gr\u{fc}\u{df}e ((\"Ann\" NIL \"ann\" \"example.org\")) ((\"Ann\" NIL \"ann\" \"example.org\")) ((\"Ann\" NIL \"ann\" \"example.org\")) ((\"Bob, B\" NIL \"bob\" \"example.net\")) NIL NIL NIL \"<1@example.org>\") BODYSTRUCTURE (\"text\" \"plain\" NIL NIL NIL \"7bit\" 14 2 NIL NIL NIL NIL))
             S: e OK …
             C: f FETCH 2 BODY[TEXT]
             S: * 2 FETCH (BODY[TEXT] {14}
             S: Hello
             S: world
             S:  FLAGS (\\Seen))
             S: f OK …
             C: g FETCH 2 (BODY[9] BODY[1]<100.5> RFC822.HEADER)
             S: * 2 FETCH (BODY[9] NIL BODY[1]<100> {0}
             S:  RFC822.HEADER {…}
             S…
             S: g OK …
             C: h FETCH 3 FLAGS
             S: h BAD there are 2 messages
             C: i UID FETCH 77 FLAGS
             S: i OK …
             C: j FETCH * FAST
             S: * 2 FETCH (FLAGS (\\Seen) INTERNALDATE \"…\" RFC822.SIZE …)
             S: j OK …",
        )
        .await;
}

#[tokio::test]
async fn append_refused() {
    let mut world = World::new().await;
    world.limits.max_message = 1000;
    let mut client = world.login().await;
    client
        .script(
            "C: a APPEND INBOX {1001}
             S: a NO [TOOBIG] …
             C: b APPEND nowhere {3}
             S: b NO [TRYCREATE] …
             C: c APPEND nowhere {3+}
             C: abc
             S: c NO [TRYCREATE] …
             C: d APPEND INBOX (\\Foo) {3+}
             C: abc
             S: d BAD …
             C: e APPEND INBOX {3+}
             C: abcdef
             S: e BAD …",
        )
        .await;
    client.send(b"f APPEND INBOX {3+}\r\na\0b\r\n").await;
    client
        .script("S: f BAD …\nC: g STATUS INBOX (MESSAGES)\nS: * STATUS INBOX (MESSAGES 0)\nS: g OK …")
        .await;
    let keywords = (0..70).map(|i| format!("k{i}")).collect::<Vec<_>>().join(" ");
    client.script(&format!("C: h APPEND INBOX ({keywords}) {{3}}\nS: h NO [LIMIT] …")).await;
    client.send(b"i APPEND INBOX {2000000+}\r\n").await;
    client.script("S: i NO [TOOBIG] …\nS: * BYE too much data after a refused command").await;
    client.closed().await;
}

#[tokio::test]
async fn quota_is_told() {
    let world = World::new().await;
    let small = mailcluster_types::AccountId(5);
    world.put_account(small, "small@example.org", 100).await;
    let mut client = world.connect_as(Some(small));
    client.script("S: * OK …\nC: l AUTHENTICATE EXTERNAL =\nS: l OK …").await;
    client.send(format!("a APPEND INBOX {{{}+}}\r\n{MAIL}\r\n", MAIL.len()).as_bytes()).await;
    client.script("S: a NO [OVERQUOTA] …").await;
}

#[tokio::test]
async fn flags() {
    let world = World::new().await;
    for _ in 0..3 {
        world.deliver(MAIL).await;
    }
    let mut client = world.inbox().await;
    client
        .script(
            "C: a STORE 1:2 +FLAGS (\\Flagged work)
             S: * 1 FETCH (UID 1 FLAGS (\\Flagged work))
             S: * 2 FETCH (UID 2 FLAGS (\\Flagged work))
             S: a OK stored
             C: b STORE 2 -FLAGS.SILENT WORK
             S: b OK stored
             C: c UID STORE 2:3 FLAGS (\\Seen)
             S: * 2 FETCH (UID 2 FLAGS (\\Seen))
             S: * 3 FETCH (UID 3 FLAGS (\\Seen))
             S: c OK stored
             C: d NOOP
             S: d OK done
             C: e FETCH 1:3 FLAGS
             S: * 1 FETCH (FLAGS (\\Flagged work))
             S: * 2 FETCH (FLAGS (\\Seen))
             S: * 3 FETCH (FLAGS (\\Seen))
             S: e OK …
             C: f FETCH 1 (MODSEQ)
             S: * 1 FETCH (MODSEQ (…))
             S: f OK …
             C: g STORE 1:3 (UNCHANGEDSINCE 1) +FLAGS.SILENT (\\Draft)
             S: g OK [MODIFIED 1:3] stored
             C: h UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1)
             S: * 1 FETCH (FLAGS (\\Flagged work) MODSEQ (…) UID 1)
             S…
             S: h OK …
             C: i STORE 1 FLAGS (\\Nope)
             S: i BAD …
             C: j STORE 4 FLAGS ()
             S: j BAD …
             C: k STORE 1 FLAGS ()
             S: * 1 FETCH (UID 1 FLAGS () MODSEQ (…))
             S: k OK stored",
        )
        .await;
}

#[tokio::test]
async fn copy_move_expunge() {
    let world = World::new().await;
    for _ in 0..5 {
        world.deliver(MAIL).await;
    }
    let mut client = world.inbox().await;
    client
        .script(
            "C: a COPY 2:3 Archive
             S: a OK [COPYUID … 2:3 1:2] copied
             C: b COPY 1 nowhere
             S: b NO [TRYCREATE] …
             C: c UID COPY 99 Archive
             S: c OK copied
             C: d UID MOVE 1,3 Trash
             S: * OK [COPYUID … 1,3 1:2] moved
             S: * 3 EXPUNGE
             S: * 1 EXPUNGE
             S: d OK moved
             C: e STORE 1:3 +FLAGS.SILENT (\\Deleted)
             S: e OK stored
             C: f UID EXPUNGE 4
             S: * 2 EXPUNGE
             S: f OK expunged
             C: g EXPUNGE
             S: * 2 EXPUNGE
             S: * 1 EXPUNGE
             S: g OK expunged
             C: h FETCH 1:* FLAGS
             S: h BAD there are 0 messages
             C: i UID FETCH 1:* FLAGS
             S: i OK …
             C: j STATUS Trash (MESSAGES UNSEEN)
             S: * STATUS \"Trash\" (MESSAGES 2 UNSEEN 2)
             S: j OK …
             C: k SELECT Trash
             S…
             S: k OK …
             C: l STORE 1 +FLAGS.SILENT (\\Deleted)
             S: l OK stored
             C: m CLOSE
             S: m OK closed
             C: n STATUS Trash (MESSAGES)
             S: * STATUS \"Trash\" (MESSAGES 1)
             S: n OK …",
        )
        .await;
}

#[tokio::test]
async fn large_messages_stream() {
    let world = World::new().await;
    let body = format!("Subject: big\r\n\r\n{}", "0123456789abcdef\r\n".repeat(150_000));
    let mut client = world.inbox().await;
    client.send(format!("a APPEND INBOX {{{}+}}\r\n", body.len()).as_bytes()).await;
    client.send(body.as_bytes()).await;
    client.send(b"\r\n").await;
    client
        .script("S: * 1 EXISTS\nS: * 0 RECENT\nS: a OK [APPENDUID …] …\nC: b FETCH 1 (BODY.PEEK[] UID)")
        .await;
    client.script(&format!("S: * 1 FETCH (BODY[] {{{}}}", body.len())).await;
    for expected in body.lines() {
        assert_eq!(client.line().await.as_deref(), Some(expected));
    }
    client.script("S:  UID 1)\nS: b OK …").await;
}

#[tokio::test]
async fn store_does_not_deny_the_pages_that_it_has_changed() {
    let world = World::new().await;
    world.deliver("Subject: x\r\n\r\nx\r\n").await;
    let mut client = world.inbox().await;
    for doubling in 0..11 {
        let tag = format!("d{doubling}");
        client.script(&format!("C: {tag} COPY 1:* INBOX\nS…\nS: {tag} OK [COPYUID …] …")).await;
    }
    let keywords: Vec<String> = (0..64).map(|n| format!("k{n}")).collect();
    client
        .script(&format!(
            "C: a STORE 2048 +FLAGS.SILENT ({})
             S…
             S: a OK …
             C: b STORE 1:* +FLAGS.SILENT (extra)
             S…
             S: b OK some messages were not changed
             C: c STORE 2048 +FLAGS.SILENT (extra)
             S…
             S: c NO [CANNOT] …",
            keywords.join(" ")
        ))
        .await;
}
