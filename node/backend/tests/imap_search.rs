//! SEARCH.

mod imap_support;

use imap_support::{Client, World};

async fn world() -> (World, Client) {
    let world = World::new().await;
    for (date, subject, body) in [
        ("Mon, 7 Feb 1994 21:52:25 -0800", "first", "apples"),
        ("Tue, 8 Feb 1994 01:00:00 +0000", "=?utf-8?q?Gr=C3=BC=C3=9Fe?=", "pears and apples"),
        ("Wed, 9 Feb 1994 12:00:00 +0000", "third", "=?"),
        ("nonsense", "fourth", "long long text"),
    ] {
        world
            .deliver(&format!(
                "From: Ann <ann@x.org>\r\nDate: {date}\r\nSubject: {subject}\r\n\r\n{body}\r\n"
            ))
            .await;
    }
    let client = world.inbox().await;
    (world, client)
}

#[tokio::test]
async fn keys() {
    let (_world, mut client) = world().await;
    client.script("C: s STORE 2 +FLAGS.SILENT (\\Seen Work)\nS: s OK …").await;
    for (query, found) in [
        ("ALL", "1 2 3 4"),
        ("SEEN", "2"),
        ("UNSEEN", "1 3 4"),
        ("KEYWORD work", "2"),
        ("UNKEYWORD WORK NOT 1", "3 4"),
        ("NEW", ""),
        ("RECENT", ""),
        ("OLD 1:2", "1 2"),
        ("SUBJECT FIRST", "1"),
        ("CHARSET UTF-8 SUBJECT {7+}␍GR\u{dc}\u{df}E", "2"),
        ("FROM \"ann@x\"", "1 2 3 4"),
        ("HEADER Date \"\"", "1 2 3 4"),
        ("HEADER Cc \"\"", ""),
        ("BODY apples", "1 2"),
        ("BODY first", ""),
        ("TEXT first", "1"),
        ("OR BODY pears SUBJECT third", "2 3"),
        ("NOT (BODY apples UNSEEN)", "2 3 4"),
        ("SENTON 7-Feb-1994", "1"),
        ("SENTBEFORE 9-Feb-1994", "1 2"),
        ("SENTSINCE 8-Feb-1994", "2 3"),
        ("ON 14-Nov-2023", "1 2 3 4"),
        ("BEFORE 14-Nov-2023", ""),
        ("SINCE 14-Nov-2023", "1 2 3 4"),
        ("LARGER 10 SMALLER 100000", "1 2 3 4"),
        ("LARGER 5000000000", ""),
        ("UID 3:*", "3 4"),
        ("UID 99:*", "4"),
        ("9:12", ""),
        ("*", "4"),
    ] {
        let answer = format!("* SEARCH {found}");
        client.script(&format!("C: a SEARCH {query}\nS: {}\nS: a OK searched", answer.trim_end())).await;
    }
    client
        .script(
            "C: b SEARCH CHARSET KOI8-R TEXT x
             S: b NO [BADCHARSET (US-ASCII UTF-8)] …
             C: c SEARCH FOO
             S: c BAD …
             C: d UID SEARCH RETURN (MIN MAX COUNT ALL) 2:4
             S: * ESEARCH (TAG \"d\") UID MIN 2 MAX 4 ALL 2:4 COUNT 3
             S: d OK …
             C: e SEARCH RETURN (MIN COUNT) NEW
             S: * ESEARCH (TAG \"e\") COUNT 0
             S: e OK …
             C: f SEARCH MODSEQ 1 SEEN
             S: * SEARCH 2 (MODSEQ …)
             S: f OK …",
        )
        .await;
}

#[tokio::test]
async fn invalid_utf8_is_refused() {
    let (_world, mut client) = world().await;
    client.send(b"a SEARCH TEXT {2+}\r\n\xff\xfe\r\n").await;
    client.script("S: a NO [BADCHARSET (US-ASCII UTF-8)] …").await;
}

#[tokio::test]
async fn a_large_message_is_searched_to_its_end_and_texts_are_bounded() {
    let (world, mut client) = world().await;
    let lines = "filler of a long text\r\n".repeat(100_000);
    world.deliver(&format!("Subject: large\r\n\r\n{lines}The End\r\n")).await;
    client.script("C: n NOOP\nS…\nS: n OK …").await;
    client
        .script(
            "C: a SEARCH BODY \"the end\"
             S: * SEARCH 5
             S: a OK …
             C: b SEARCH OR BODY apples NOT TEXT large
             S: * SEARCH 1 2 3 4
             S: b OK …
             C: c SEARCH BODY FILLER TEXT LARGE NOT BODY large
             S: * SEARCH 5
             S: c OK …",
        )
        .await;
    let many: String = (0..101).map(|n| format!(" BODY t{n}")).collect();
    client.script(&format!("C: d SEARCH{many}\nS: d NO [LIMIT] …")).await;
}
