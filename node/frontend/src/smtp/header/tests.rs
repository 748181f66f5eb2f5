use mailcluster_types::{SessionId, TlsFacts};

use super::*;

fn client(tls: bool) -> ClientInfo {
    let facts = || TlsFacts { version: "TLSv1.3".into(), cipher: "AES".into(), sni: None };
    ClientInfo {
        remote: "192.0.2.7:4000".parse().unwrap(),
        local: "127.0.0.1:25".parse().unwrap(),
        tls: tls.then(facts),
        session: SessionId(1),
    }
}

fn trace(client: &ClientInfo, service: Service) -> Trace<'_> {
    Trace {
        service,
        client,
        sender: "ann@example.org",
        hello: "client.example",
        extended: true,
        authenticated: service == Service::Submission,
        utf8: false,
        hostname: "mail.example.org",
        id: DeliveryId(5),
        only: Some("ann@example.org"),
        at: 0,
    }
}

fn rewritten(header: &str, service: Service) -> String {
    let client = client(true);
    let out = Header::parse(header.as_bytes()).rewrite(&trace(&client, service), "");
    String::from_utf8(out.to_vec()).unwrap()
}

#[test]
fn a_header_ends_at_an_empty_line_or_at_what_is_no_field() {
    for (text, end) in [
        ("A: b\r\n\r\nbody\r\n", Some(6)),
        ("\r\nbody\r\n", Some(0)),
        ("just text\r\n", Some(0)),
        (" folded first\r\n", Some(0)),
        ("A: b\r\n c\r\n\td\r\ntext\r\n", Some(14)),
        ("A: b\r\n", None),
        ("A: b\r\nC: d", None),
        ("", None),
    ] {
        assert_eq!(end_of_header(text.as_bytes(), &mut 0), end, "{text:?}");
    }
}

#[test]
fn received_tells_who_how_and_for_whom() {
    let expected = "Received: from client.example ([192.0.2.7])\r\n\t(using TLSv1.3 with AES)\r\n\tby \
                    mail.example.org with ESMTPSA id 00000000000000000000000005\r\n\tfor \
                    <ann@example.org>;\r\n\tThu, 1 Jan 1970 00:00:00 +0000\r\n";
    assert!(rewritten("A: b\r\n", Service::Submission).starts_with(expected));
    let client = client(false);
    let odd = Trace { hello: "a(b)\u{e4};", extended: false, only: None, ..trace(&client, Service::Mx) };
    let line = odd.received();
    assert!(
        line.starts_with("Received: from [192.0.2.7] ([192.0.2.7])\r\n\tby mail.example.org with SMTP id")
    );
    assert!(!line.contains("for <"));
}

#[test]
fn submission_gets_what_is_missing_and_loses_bcc() {
    let text = "Subject: x\r\nBcc: a@b,\r\n c@d\r\nreturn-path: <x@y>\r\nTo: z@y\r\n";
    let sent = rewritten(text, Service::Submission);
    assert!(
        sent.contains("\r\nSubject: x\r\nTo: z@y\r\nFrom: <ann@example.org>\r\nDate: Thu, 1 Jan 1970 00:00:00 +0000\r\nMessage-ID: <")
    );
    assert!(!sent.to_lowercase().contains("bcc") && !sent.contains("c@d") && !sent.contains("Return-Path"));
    let whole = rewritten("from: a@b\r\ndate: d\r\nMESSAGE-ID: <i@j>\r\n", Service::Submission);
    assert!(whole.ends_with("\r\nfrom: a@b\r\ndate: d\r\nMESSAGE-ID: <i@j>\r\n"));
    let foreign = rewritten(text, Service::Mx);
    assert!(foreign.ends_with("\r\nSubject: x\r\nBcc: a@b,\r\n c@d\r\nTo: z@y\r\n"), "{foreign}");
}

#[test]
fn what_claims_to_be_our_verdict_is_taken_out_and_others_stay() {
    let text = "authentication-results : (x) mail.example.org; spf=pass\r\nSubject: x\r\n\
                Authentication-Results: mail.example.org;\r\n\tdmarc=pass\r\n\
                Authentication-Results: other.example; spf=pass\r\n\
                ARC-Authentication-Results: i=1; mail.example.org; spf=pass\r\n";
    let rest = "\r\nSubject: x\r\nAuthentication-Results: other.example; spf=pass\r\n\
                ARC-Authentication-Results: i=1; mail.example.org; spf=pass\r\n";
    let foreign = rewritten(text, Service::Mx);
    assert!(foreign.ends_with(rest), "{foreign}");
    let own = rewritten(text, Service::Submission);
    assert!(own.contains(rest) && !own.contains("dmarc"), "{own}");
    let client = client(true);
    let field = "Authentication-Results: mail.example.org; none\r\n";
    let out = Header::parse(text.as_bytes()).rewrite(&trace(&client, Service::Mx), field);
    assert!(out.starts_with(format!("{field}Received: ").as_bytes()));
}

#[test]
fn fifty_hops_are_a_journey_fifty_one_a_loop() {
    let hops = |n: usize| "Received: by x;\r\n\tdate\r\n".repeat(n);
    assert!(!Header::parse(hops(50).as_bytes()).is_loop());
    assert!(Header::parse(hops(51).as_bytes()).is_loop());
}
