//! Messages judged by what a name server says: a published message that others signed, and what an enemy would try.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use hickory_resolver::proto::{
    op::{Message, ResponseCode},
    rr::{RData, Record, RecordType},
};
use mailcluster_verdict::{Action, Check, Checks, List, ListAction, Mail, Outcome, Settings, Text, Verdict};
use tokio::net::UdpSocket;

const ZONE: &str = include_str!("zone.txt");
/// The message of RFC 8463 appendix A.3, with LF line endings.
const SIGNED: &str = include_str!("rfc8463.txt");
const NAME: &str = "mail.example.org";

/// Records of a name and type; `None`: there is no such name.
fn records(name: &str, kind: RecordType) -> Option<Vec<RData>> {
    let mut known = None;
    for line in ZONE.lines().filter(|line| !line.is_empty()) {
        let mut words = line.splitn(3, ' ');
        let (owner, of, data) = (words.next().unwrap(), words.next().unwrap(), words.next().unwrap());
        let is_it = match owner.strip_prefix("*.") {
            Some(zone) => name.ends_with(&format!(".{zone}")),
            None => owner == name,
        };
        if is_it {
            let found: &mut Vec<RData> = known.get_or_insert_default();
            let of: RecordType = of.parse().unwrap();
            if of == kind {
                found.push(RData::try_from_str(kind, data).unwrap());
            }
        }
    }
    known
}

/// A name server that says nothing of `silent.test` and fails for `fail.test`.
async fn name_server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let addr = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let question = Message::from_vec(&buffer[..length]).unwrap();
            let query = question.queries[0].clone();
            let name = query.name().to_ascii().trim_end_matches('.').to_ascii_lowercase();
            if name.ends_with("silent.test") {
                continue;
            }
            let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
            answer.metadata.authoritative = true;
            answer.add_query(query.clone());
            match records(&name, query.query_type()) {
                _ if name.ends_with("fail.test") => answer.metadata.response_code = ResponseCode::ServFail,
                None => answer.metadata.response_code = ResponseCode::NXDomain,
                Some(found) => {
                    let record = |data| Record::from_rdata(query.name().clone(), 1, data);
                    answer.add_answers(found.into_iter().map(record));
                }
            }
            let _gone = socket.send_to(&answer.to_vec().unwrap(), from).await;
        }
    });
    addr
}

/// A body that comes in pieces of 7 octets.
struct Pieces(String);

#[async_trait]
impl Text for Pieces {
    async fn piece(&self, offset: u64) -> io::Result<Bytes> {
        let start = usize::try_from(offset).unwrap();
        let end = (start + 7).min(self.0.len());
        Ok(Bytes::copy_from_slice(&self.0.as_bytes()[start..end]))
    }
}

fn enforce() -> Settings {
    Settings { spf: Check::Enforce, dmarc: Check::Enforce, ..Settings::mark() }
}

struct From<'a> {
    client: &'a str,
    helo: &'a str,
    sender: &'a str,
}

const OPEN: From<'static> = From { client: "192.0.2.1", helo: "mx.open.test", sender: "joe@open.test" };

/// Judges a message with LF line endings.
async fn judge(checks: &Checks, from: &From<'_>, text: &str) -> Verdict {
    let text = text.replace('\n', "\r\n");
    let (header, body) = text.split_once("\r\n\r\n").unwrap();
    let header = format!("{header}\r\n");
    let mail = Mail {
        client: from.client.parse().unwrap(),
        helo: from.helo,
        sender: from.sender,
        header: header.as_bytes(),
        listed: Vec::new(),
    };
    checks.judge(&mail, &Pieces(body.to_owned())).await.unwrap()
}

async fn checks(settings: Settings) -> Checks {
    Checks::new(settings, NAME, &[name_server().await]).unwrap()
}

fn refused(verdict: &Verdict) -> &str {
    match &verdict.action {
        Action::Refuse(text) => text.split(' ').next().unwrap(),
        Action::Junk => "junk",
        Action::Deliver => "",
        Action::Later => "later",
    }
}

#[tokio::test]
async fn the_published_message_passes_and_any_change_of_it_does_not() {
    let checks = checks(enforce()).await;
    let verdict = judge(&checks, &OPEN, SIGNED).await;
    assert_eq!(refused(&verdict), "", "{verdict:?}");
    let signatures = verdict.results.dkim.as_ref().unwrap();
    assert_eq!(signatures.len(), 2);
    assert!(signatures.iter().all(|s| s.outcome == Outcome::Pass), "{signatures:?}");
    assert!(
        verdict.field.contains("dmarc=pass (p=reject) header.from=football.example.com"),
        "{}",
        verdict.field
    );
    for (was, is, why) in [
        ("We lost", "We won", "the body was changed"),
        ("Joe.", "Joe.\n\nbuy this", "the body was changed"),
        ("Is dinner ready", "Is lunch ready", "the signature does not hold"),
        ("From: Joe SixPack", "From: Jane SixPack", "the signature does not hold"),
        ("s=brisbane", "s=perth", "no key"),
    ] {
        let changed = SIGNED.replacen(was, is, 1);
        let verdict = judge(&checks, &OPEN, &changed).await;
        let first = &verdict.results.dkim.as_ref().unwrap()[0];
        assert_eq!((first.outcome == Outcome::Pass, first.why), (false, why), "{is}");
    }
    let header = SIGNED.replacen("Is dinner ready", "Is lunch ready", 1);
    assert_eq!(refused(&judge(&checks, &OPEN, &header).await), "5.7.26");
    let twice = format!("From: boss@example.org\n{SIGNED}");
    assert_eq!(refused(&judge(&checks, &OPEN, &twice).await), "5.7.1");
}

#[tokio::test]
async fn spf_says_who_may_send() {
    let checks = checks(Settings { dmarc: Check::Mark, ..enforce() }).await;
    for (domain, expected, action) in [
        ("open.test", Outcome::Pass, ""),
        ("closed.test", Outcome::Fail, "5.7.23"),
        ("soft.test", Outcome::SoftFail, ""),
        ("neutral.test", Outcome::Neutral, ""),
        ("unknown.test", Outcome::None, ""),
        ("included.test", Outcome::Pass, ""),
        ("redirected.test", Outcome::Fail, "5.7.23"),
        ("by-mx.test", Outcome::Pass, ""),
        ("two-void.test", Outcome::Pass, ""),
        ("void.test", Outcome::PermError, ""),
        ("void-mx.test", Outcome::PermError, ""),
        ("loop.test", Outcome::PermError, ""),
        ("eleven.test", Outcome::PermError, ""),
        ("broken.test", Outcome::PermError, ""),
        ("x.fail.test", Outcome::TempError, ""),
        ("[192.0.2.1]", Outcome::None, ""),
    ] {
        let sender = format!("joe@{domain}");
        let from = From { sender: &sender, ..OPEN };
        let verdict = judge(&checks, &from, "From: joe@unknown.test\n\nhello\n").await;
        assert_eq!((verdict.results.spf, refused(&verdict)), (Some(expected), action), "{domain}");
    }
    // The null sender is postmaster at the HELO name.
    let from = From { helo: "closed.test", sender: "", ..OPEN };
    let verdict = judge(&checks, &from, "From: joe@unknown.test\n\nhello\n").await;
    assert_eq!((verdict.results.spf, refused(&verdict)), (Some(Outcome::Fail), "5.7.23"));
}

#[tokio::test]
async fn dmarc_looks_at_every_author_and_at_alignment() {
    let checks = checks(Settings { spf: Check::Mark, ..enforce() }).await;
    for (author, sender, action) in [
        ("joe@football.example.com", "joe@open.test", "5.7.26"),
        ("joe@open.test", "joe@open.test", ""),
        ("joe@strict.test", "joe@sub.strict.test", "5.7.26"),
        ("joe@relaxed.test", "joe@sub.relaxed.test", ""),
        ("joe@sub.relaxed.test", "joe@relaxed.test", ""),
        ("joe@sub.relaxed.test", "joe@open.test", "5.7.26"),
        ("joe@unknown.test", "joe@open.test", ""),
        ("joe@unknown.test, eve@football.example.com", "joe@open.test", "5.7.26"),
        ("joe@quarantine.test", "joe@open.test", "junk"),
        ("joe@quarantine.test, eve@football.example.com", "joe@open.test", "5.7.26"),
        ("joe@trying.test", "joe@open.test", "junk"),
        ("joe@x.fail.test", "joe@open.test", ""),
        ("somebody", "joe@open.test", "junk"),
    ] {
        let verdict = judge(&checks, &From { sender, ..OPEN }, &format!("From: {author}\n\nhello\n")).await;
        assert_eq!(refused(&verdict), action, "{author} {sender}: {}", verdict.field);
    }
    let nobody = judge(&checks, &OPEN, "Subject: x\n\nhello\n").await;
    assert_eq!(refused(&nobody), "junk");
}

#[tokio::test]
async fn what_never_answers_shields_nothing() {
    let checks = checks(enforce()).await;
    // A forged signature of the author's, and one whose key never comes.
    let forged = SIGNED.replacen("Is dinner ready", "Is lunch ready", 1);
    let slow = "DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=x.silent.test; s=s; h=from;\n \
                bh=2jUSOH9NhtVGCQWNr9BrIAPreKQjO6Sn7XIkfJVOzv8=; b=AAAA\n";
    let from = From { sender: "eve@y.silent.test", helo: "z.silent.test", ..OPEN };
    let verdict = judge(&checks, &from, &format!("{slow}{forged}")).await;
    assert_eq!(refused(&verdict), "5.7.26", "{}", verdict.field);
    assert_eq!(verdict.results.spf, Some(Outcome::TempError));
    let outcomes: Vec<_> = verdict.results.dkim.unwrap().iter().map(|s| s.outcome).collect();
    assert_eq!(outcomes, [Outcome::TempError, Outcome::Fail, Outcome::Fail]);
}

#[tokio::test]
async fn mail_comes_in_when_the_dns_is_dead() {
    let silent = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let checks = Checks::new(enforce(), NAME, &[silent.local_addr().unwrap()]).unwrap();
    let start = Instant::now();
    for _ in 0..50 {
        let verdict = judge(&checks, &OPEN, SIGNED).await;
        assert_eq!(refused(&verdict), "", "{verdict:?}");
        assert!(verdict.field.contains("spf=temperror") && verdict.field.contains("dmarc=temperror"));
    }
    assert!(checks.listed("192.0.2.1".parse().unwrap()).await.is_empty());
    // One of them waited, and none of the others: each would have for seconds.
    assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
}

#[tokio::test]
async fn lists_are_believed_while_they_live() {
    let list = |zone: &str, answers: &[u8]| List {
        zone: zone.to_owned(),
        answers: answers.to_vec(),
        action: ListAction::Reject,
    };
    for (zone, answers, client, listed) in [
        ("bl.test", &[][..], "192.0.2.9", true),
        ("bl.test", &[], "192.0.2.1", false),
        ("bl.test", &[4], "192.0.2.9", true),
        ("bl.test", &[5], "192.0.2.9", false),
        ("bl.test", &[], "192.0.2.7", false),
        ("everybody.test", &[], "192.0.2.9", false),
        ("nobody.test", &[], "192.0.2.9", false),
        ("bl.silent.test", &[], "192.0.2.9", false),
        ("bl.fail.test", &[], "192.0.2.9", false),
    ] {
        let settings = Settings { lists: vec![list(zone, answers)], ..Settings::mark() };
        let checks = checks(settings).await;
        let client: IpAddr = client.parse().unwrap();
        let found = checks.listed(client).await;
        assert_eq!(!found.is_empty(), listed, "{zone} {answers:?} {client}");
        assert_eq!(Checks::refusal(&found, client).is_some(), listed);
    }
    let allowed = Settings {
        lists: vec![list("bl.test", &[])],
        allowed: vec!["192.0.2.0/24".parse().unwrap()],
        ..enforce()
    };
    let checks = checks(allowed).await;
    assert!(checks.listed("192.0.2.9".parse().unwrap()).await.is_empty());
    let from = From { sender: "joe@closed.test", ..OPEN };
    let verdict = judge(&checks, &from, "From: joe@football.example.com\n\nhello\n").await;
    assert!(refused(&verdict).is_empty() && verdict.field.contains("dmarc=fail"), "{verdict:?}");
}
