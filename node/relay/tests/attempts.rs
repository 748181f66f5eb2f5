//! Attempts at servers that behave in every way but the expected one: they are played by scripts on loopback.

mod site;

use std::time::Duration;

use mailcluster_outbound::route::{Answer, Smarthost, Way};
use mailcluster_proto_smtp::{MailDsn, Notify, OriginalRecipient, Recipient, Ret};
use mailcluster_relay::{Fate, Settings, SmarthostAccess};
use site::{Play, Site, relay, send, settings};

/// What a well-behaved server says to each command, in its order.
const PLAIN: &[(&str, &str)] = &[
    ("", "220 mx"),
    ("EHLO", "250-mx\r\n250 8BITMIME"),
    ("MAIL", "250 ok"),
    ("RCPT", "250 ok"),
    ("DATA", "354 go on"),
    (".", "250 2.0.0 taken"),
    ("QUIT", "221 bye"),
];

fn with(changes: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    let changed = |(command, reply): &(&'static str, &'static str)| {
        let other = changes.iter().find(|(of, _)| of == command);
        (*command, other.map_or(*reply, |(_, reply)| *reply))
    };
    PLAIN.iter().map(changed).collect()
}

#[tokio::test]
async fn what_a_server_says_decides_over_its_recipient() {
    for (name, changes, fate, status) in [
        ("taken", &[][..], Fate::Delivered, "2.0.0"),
        ("refused", &[("RCPT", "550 5.1.1 nobody here")], Fate::Never, "5.1.1"),
        ("greylisted", &[("RCPT", "451 4.7.1 later")], Fate::Later, "4.7.1"),
        ("refused as spam", &[(".", "554 5.7.1 spam")], Fate::Never, "5.7.1"),
        ("full", &[(".", "452 4.3.1 no room")], Fate::Later, "4.3.1"),
        ("blocked by its greeting", &[("", "554 5.7.1 go away")], Fate::Later, "4.7.1"),
        ("never takes mail", &[("", "521 5.3.2 no mail here")], Fate::Never, "5.3.2"),
        ("no answer to the message", &[(".", "")], Fate::Unknown, "4.4.2"),
        ("no answer to RCPT", &[("RCPT", "")], Fate::Later, "4.4.2"),
        ("takes before it was given", &[("DATA", "250 taken")], Fate::Later, "4.4.2"),
        ("lets in what was not said", &[("MAIL", "354 go on")], Fate::Later, "4.4.2"),
        ("no reply at all", &[("EHLO", "hello yourself")], Fate::Later, "4.4.2"),
    ] {
        let site = Site::open(vec![Play::Script(with(changes)); 3]).await;
        let attempt = send(&relay(&site, &["mx"]), &["joe@a.test"], b"Subject: x\r\n\r\nhi\r\n").await;
        let told = &attempt.told[0];
        assert_eq!((told.fate, told.status.to_string().as_str()), (fate, status), "{name}: {told:?}");
    }
}

#[tokio::test]
async fn a_host_that_fails_is_followed_by_the_next() {
    let failing = [
        Play::Refuse,
        Play::Script(with(&[("", "421 4.3.2 shutting down")])),
        Play::Script(with(&[("MAIL", "421 4.3.2 shutting down")])),
        Play::Script(with(&[("RCPT", "451 4.3.2 busy")])),
    ];
    for first in failing {
        let site = Site::open(vec![first.clone(), Play::Script(PLAIN.to_vec())]).await;
        let attempt = send(&relay(&site, &["one", "two"]), &["joe@a.test"], b"x\r\n").await;
        assert_eq!(attempt.told[0].fate, Fate::Delivered, "{first:?}: {:?}", attempt.told[0]);
        assert_eq!(attempt.told[0].remote.as_deref(), Some("two"));
        assert!(attempt.reached);
    }
}

#[tokio::test]
async fn each_recipient_gets_its_own_answer() {
    let script = vec![
        ("", "220 mx"),
        ("EHLO", "250 mx"),
        ("MAIL", "250 ok"),
        ("RCPT", "250 ok"),
        ("RCPT", "550 5.1.1 nobody"),
        // No more in this transaction: it comes in another one.
        ("RCPT", "452 4.5.3 too many"),
        ("DATA", "354 go on"),
        (".", "250 one"),
        ("MAIL", "250 ok"),
        ("RCPT", "250 ok"),
        ("DATA", "354 go on"),
        (".", "250 two"),
        ("QUIT", "221 bye"),
    ];
    let site = Site::open(vec![Play::Script(script)]).await;
    let attempt = send(&relay(&site, &["mx"]), &["a@a.test", "b@a.test", "c@a.test"], b"x\r\n").await;
    let fates: Vec<Fate> = attempt.told.iter().map(|told| told.fate).collect();
    assert_eq!(fates, [Fate::Delivered, Fate::Never, Fate::Delivered], "{:?}", attempt.told);
}

#[tokio::test]
async fn nothing_but_the_message_makes_a_message() {
    let site = Site::open(vec![Play::Script(PLAIN.to_vec())]).await;
    let attempt = send(&relay(&site, &["mx"]), &["joe@a.test"], b"a\r\n.\r\n..b\r\n").await;
    assert_eq!(attempt.told[0].fate, Fate::Delivered);
    assert!(site.heard().await.contains("a\r\n..\r\n...b\r\n.\r\n"), "dots are stuffed");
    for (body, recipient) in [(&b"a\nb\r\n"[..], "joe@a.test"), (b"x\r\n", "joe> NOTIFY=NEVER@a.test")] {
        let site = Site::open(vec![Play::Script(PLAIN.to_vec())]).await;
        let attempt = send(&relay(&site, &["mx"]), &[recipient], body).await;
        assert_eq!(attempt.told[0].fate, Fate::Never, "{body:?} {recipient}");
        assert!(!site.heard().await.contains("NOTIFY"));
    }
}

#[tokio::test]
async fn a_store_that_is_no_longer_ours_ends_no_message() {
    let site = Site::open(vec![Play::Script(PLAIN.to_vec())]).await;
    let attempt = site::send_while(&relay(&site, &["mx"]), &["joe@a.test"], b"x\r\n", &|| false).await;
    assert_eq!(attempt.told[0].fate, Fate::Later);
    assert!(!site.heard().await.contains("\r\n.\r\n"), "its end was not sent");
}

#[tokio::test]
async fn eight_bits_are_told_and_need_a_server_that_takes_them() {
    let body = "Subject: x\r\n\r\n\u{e9}\r\n".as_bytes();
    let site = Site::open(vec![Play::Script(PLAIN.to_vec())]).await;
    assert_eq!(send(&relay(&site, &["mx"]), &["joe@a.test"], body).await.told[0].fate, Fate::Delivered);
    assert!(site.heard().await.contains("BODY=8BITMIME"));
    let site = Site::open(vec![Play::Script(with(&[("EHLO", "250 mx")]))]).await;
    let told = send(&relay(&site, &["mx"]), &["joe@a.test"], body).await.told.remove(0);
    assert_eq!((told.fate, told.status.to_string().as_str()), (Fate::Never, "5.6.3"), "{told:?}");
}

#[tokio::test]
async fn what_the_dns_says_is_kept_apart_from_what_it_cannot_say() {
    for (answer, fate, status) in [
        (Answer::NoName, Fate::Never, "5.1.2"),
        (Answer::Failed, Fate::Later, "4.4.3"),
        (Answer::Records(vec![]), Fate::Later, "4.4.3"),
    ] {
        let site = Site::open(vec![]).await;
        let mut dns = site.names(&[]);
        dns.mx = answer.clone();
        let attempt = send(&site::relay_with(settings(&site), dns), &["joe@a.test"], b"x\r\n").await;
        let told = &attempt.told[0];
        assert_eq!((told.fate, told.status.to_string().as_str()), (fate, status), "{answer:?}: {told:?}");
        assert_eq!(attempt.reached, fate == Fate::Never, "a failure to look up is the destination's matter");
    }
}

#[tokio::test]
async fn tls_is_used_where_it_is_offered_and_given_up_where_it_fails() {
    let offers = ("EHLO", "250-mx\r\n250 STARTTLS");
    let broken = Play::Script(vec![("", "220 mx"), offers, ("STARTTLS", "220 go"), ("\u{16}", "")]);
    let site = Site::open(vec![broken.clone(), Play::Script(PLAIN.to_vec())]).await;
    let attempt = send(&relay(&site, &["mx"]), &["joe@a.test"], b"x\r\n").await;
    assert_eq!(
        attempt.told[0].fate,
        Fate::Delivered,
        "in clear, as nobody demands more: {:?}",
        attempt.told[0]
    );
    let site = Site::open(vec![Play::Tls(offers.1)]).await;
    let attempt = send(&relay(&site, &["mx"]), &["joe@a.test"], b"x\r\n").await;
    assert_eq!(attempt.told[0].fate, Fate::Delivered, "{:?}", attempt.told[0]);
    assert!(!site.heard().await.contains("MAIL"), "nothing was said in clear");
}

#[tokio::test]
async fn a_smarthost_gets_credentials_only_over_tls() {
    let secret = tempfile::tempdir().unwrap();
    std::fs::write(secret.path().join("username"), "ann\n").unwrap();
    let access = SmarthostAccess { credentials: Some(secret.path().to_owned()), tls: None };
    let (reached, missing) = (Play::Tls("250-mx\r\n250-AUTH PLAIN\r\n250 STARTTLS"), Fate::Later);
    assert_eq!(through(&access, reached).await, missing, "there is no password");
    std::fs::write(secret.path().join("password"), "secret").unwrap();
    for (play, fate) in [
        (Play::Script(with(&[("EHLO", "250-mx\r\n250 AUTH PLAIN")])), Fate::Later),
        (Play::Tls("250-mx\r\n250-AUTH LOGIN PLAIN\r\n250 STARTTLS"), Fate::Delivered),
        (Play::Tls("250-mx\r\n250-AUTH LOGIN\r\n250 STARTTLS"), Fate::Delivered),
        (Play::Tls("250-mx\r\n250-AUTH CRAM-MD5\r\n250 STARTTLS"), Fate::Later),
    ] {
        assert_eq!(through(&access, play.clone()).await, fate, "{play:?}");
    }
}

/// Sends through a smarthost that plays this.
async fn through(access: &SmarthostAccess, play: Play) -> Fate {
    let site = Site::open(vec![play]).await;
    let mut settings = settings(&site);
    let host = Smarthost { host: "127.0.0.1".into(), port: site.port() };
    settings.smarthosts.insert((host.host.clone(), host.port), access.clone());
    settings.ways.default = Way::Via(host);
    let attempt = send(&site::relay_with(settings, site.names(&[])), &["joe@a.test"], b"x\r\n").await;
    assert!(!site.heard().await.contains("AHNlY3JldA"), "the password was said in clear");
    attempt.told[0].fate
}

#[tokio::test]
async fn what_is_asked_of_reports_goes_on_where_it_is_taken() {
    let dsn = MailDsn { ret: Some(Ret::Headers), envelope_id: Some("Q 1".into()) };
    let original = OriginalRecipient { kind: "rfc822".into(), address: "j+x@alias.test".into() };
    let joe = Recipient {
        address: "joe@a.test".into(),
        notify: Some(Notify::On { success: true, failure: false, delay: false }),
        original: Some(original),
    };
    for (offers, taken) in [("250-mx\r\n250 DSN", true), ("250 mx", false)] {
        let site = Site::open(vec![Play::Script(with(&[("EHLO", offers)]))]).await;
        let message: (&[u8], &(dyn Fn() -> bool + Sync)) = (b"x\r\n", &|| true);
        let attempt = site::send_job(&relay(&site, &["mx"]), &dsn, std::slice::from_ref(&joe), message).await;
        let told = &attempt.told[0];
        assert_eq!((told.fate, told.takes_dsn), (Fate::Delivered, taken), "{told:?}");
        let heard = site.heard().await;
        for param in [" RET=HDRS ENVID=Q+201", " NOTIFY=SUCCESS ORCPT=rfc822;j+2Bx@alias.test"] {
            assert_eq!(heard.contains(param), taken, "{param} in {heard}");
        }
    }
}

/// Two messages, one after the other, to a site that plays these.
async fn two_messages(plays: Vec<Play>) -> (Vec<Fate>, String) {
    let site = Site::open(plays).await;
    let settings = Settings { idle: Duration::from_secs(30), ..settings(&site) };
    let relay = site::relay_with(settings, site.names(&["mx"]));
    let mut fates = Vec::new();
    for _ in 0..2 {
        fates.push(send(&relay, &["joe@a.test"], b"x\r\n").await.told[0].fate);
    }
    (fates, site.heard().await)
}

#[tokio::test]
async fn the_next_message_goes_over_the_same_connection() {
    let again = |rest: &[(&'static str, &'static str)]| Play::Script([&PLAIN[..6], rest].concat());
    let both = vec![Fate::Delivered; 2];
    let (fates, heard) = two_messages(vec![again(&PLAIN[2..])]).await;
    assert_eq!((fates, heard.matches("EHLO").count(), heard.matches("MAIL").count()), (both.clone(), 1, 2));
    // One that the server has closed, or closes now, is no fault of the message.
    for closed in [again(&[]), again(&[("MAIL", "421 4.4.2 idle for too long")]), again(&[("MAIL", "")])] {
        let (fates, heard) = two_messages(vec![closed.clone(), Play::Script(PLAIN.to_vec())]).await;
        assert_eq!(fates, both, "{closed:?}: {heard}");
        assert_eq!(heard.matches("EHLO").count(), 2, "{closed:?}: {heard}");
    }
    // What a message was told counts, on a connection that has carried others, too.
    let refused = again(&[("MAIL", "250 ok"), ("RCPT", "550 5.1.1 nobody")]);
    let (fates, _) = two_messages(vec![refused]).await;
    assert_eq!(fates, [Fate::Delivered, Fate::Never]);
    // A connection that is lost after the end may have carried it.
    let lost = again(&[("MAIL", "250 ok"), ("RCPT", "250 ok"), ("DATA", "354 go on"), (".", "")]);
    let (fates, _) = two_messages(vec![lost]).await;
    assert_eq!(fates, [Fate::Delivered, Fate::Unknown]);
}
