//! Greeting, login, capabilities, ends of a session, broken input.

mod imap_support;

use std::time::Duration;

use imap_support::World;
use mailcluster_types::AccountId;

#[tokio::test]
async fn login_is_external_and_nothing_else() {
    let world = World::new().await;
    let mut client = world.connect_as(Some(world.account));
    client
        .script(
            "S: * OK [CAPABILITY IMAP4rev1 LITERAL+ SASL-IR ID AUTH=EXTERNAL LOGINDISABLED] mail.example.org ready
             C: a CAPABILITY
             S: * CAPABILITY IMAP4rev1 …
             S: a OK …
             C: b LOGIN ann secret
             S: b NO [AUTHORIZATIONFAILED] …
             C: c AUTHENTICATE PLAIN AGFubgBwdw==
             S: c NO [AUTHORIZATIONFAILED] …
             C: d SELECT INBOX
             S: d BAD log in first
             C: d2 APPEND INBOX {3+}
             C: abc
             S: d2 BAD log in first
             C: e STARTTLS
             S: e BAD …
             C: f ID (\"name\" \"test\")
             S: * ID (\"name\" \"mailcluster\")
             S: f OK …
             C: g AUTHENTICATE EXTERNAL
             S: +…
             C: *
             S: g BAD cancelled
             C: h AUTHENTICATE EXTERNAL
             S: +…
             C: YW5u
             S: h OK [CAPABILITY IMAP4rev1 …UIDPLUS…] logged in
             C: i AUTHENTICATE EXTERNAL =
             S: i BAD already logged in
             C: j ENABLE CONDSTORE FOO
             S: * ENABLED CONDSTORE
             S: j OK …
             C: k NAMESPACE
             S: * NAMESPACE ((\"\" \"/\")) NIL NIL
             S: k OK …
             C: l FETCH 1 FLAGS
             S: l BAD select a mailbox first
             C: z LOGOUT
             S: * BYE …
             S: z OK …",
        )
        .await;
    client.closed().await;
}

#[tokio::test]
async fn accounts_that_cannot_log_in() {
    let world = World::new().await;
    let mut nobody = world.connect_as(None);
    nobody
        .script("S: * OK …\nC: a AUTHENTICATE EXTERNAL =\nS: a NO [AUTHENTICATIONFAILED] …\nC: b LOGIN a b\nS: b NO …")
        .await;
    let mut elsewhere = world.connect_as(Some(AccountId(7)));
    elsewhere.script("S: * OK …\nC: a AUTHENTICATE EXTERNAL =\nS: a NO [UNAVAILABLE] …").await;
}

#[tokio::test]
async fn broken_input_is_answered_and_bounded() {
    let world = World::new().await;
    let mut client = world.login().await;
    client.send(b"a NOOP\nb \0\r\nc SELECT \"\xff\"\r\nd FETCH {3}\r\n").await;
    client
        .script(
            "S: a BAD a line must end with CRLF
             S: b BAD expected no NUL at octet 3
             S: c BAD expected 7-bit text at octet 11
             S: + …
             C: abc
             S: d BAD …
             C: e LOGIN {70000}
             S: e BAD [TOOBIG] literal too large
             C: f NOOP
             S: f OK done",
        )
        .await;
    client.send(&[b"g ".as_slice(), &[b'x'; 70_000], b"\r\n"].concat()).await;
    client.script("S: g BAD [TOOBIG] line too long\nC: h NOOP\nS: h OK done").await;
    client.send(b"i LOGIN {3}\n").await;
    client.script("S: * BYE a literal was announced on a line without CRLF").await;
    client.closed().await;
    let mut noisy = world.login().await;
    for _ in 0..50 {
        noisy.script("C: x FOO\nS: x BAD unknown command").await;
    }
    noisy.script("S: * BYE too many errors").await;
    noisy.closed().await;
}

#[tokio::test]
async fn silence_and_shutdown_end_with_bye() {
    let mut world = World::new().await;
    world.limits.imap_idle = Duration::from_millis(50);
    let mut silent = world.login().await;
    silent.script("S: * BYE autologout…").await;
    silent.closed().await;
    world.limits.imap_idle = Duration::from_secs(60);
    let mut open = world.login().await;
    let mut idling = world.inbox().await;
    idling.script("C: i IDLE\nS: + idling").await;
    world.shutdown.cancel();
    open.script("S: * BYE [UNAVAILABLE] …").await;
    open.closed().await;
    idling.script("S: * BYE [UNAVAILABLE] …").await;
    idling.closed().await;
}
