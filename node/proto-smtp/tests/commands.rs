//! What is a command, and what is answered to what is none.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use mailcluster_proto_smtp::{Body, Command, CommandFault, MailDsn, MailParams, Path, RcptParams};

fn path_of(line: &str) -> Result<Path, CommandFault> {
    match Command::parse(line.as_bytes())? {
        Command::Mail(path, _) | Command::Rcpt(path, _) => Ok(path),
        other => panic!("not a path: {other:?}"),
    }
}

#[test]
fn verbs_are_read_in_any_case() {
    for (line, command) in [
        ("quit", Command::Quit),
        ("QuIt  ", Command::Quit),
        ("DATA", Command::Data),
        ("rset", Command::Rset),
        ("NOOP whatever", Command::Noop),
        ("VRFY ann", Command::Vrfy),
        ("HELP me", Command::Help),
        ("STARTTLS", Command::StartTls),
        ("ehlo [127.0.0.1]", Command::Ehlo("[127.0.0.1]".into())),
        ("HELO x", Command::Helo("x".into())),
        ("LHLO x", Command::Lhlo("x".into())),
        ("auth plain", Command::Auth("PLAIN".into(), None)),
        ("AUTH PLAIN =", Command::Auth("PLAIN".into(), Some("=".into()))),
    ] {
        assert_eq!(Command::parse(line.as_bytes()), Ok(command), "{line}");
    }
}

#[test]
fn what_is_not_a_command_is_told_by_code() {
    for (line, code) in [
        (&b""[..], 500),
        (b"GET / HTTP/1.1", 500),
        (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2", 500),
        (b"NO\0OP", 500),
        (b"VRFY \xff\xfe", 500),
        (b"MAIL FROM:<a@b\x01>", 500),
        (b"EXPN list", 502),
        (b"BDAT 5 LAST", 502),
        (b"XCLIENT NAME=x", 502),
        (b"DATA x", 501),
        (b"EHLO", 501),
        (b"EHLO a b", 501),
        (b"MAIL", 501),
        (b"MAIL TO:<a@b>", 501),
        (b"MAIL FROM:a@b", 501),
        (b"MAIL FROM:<a@b", 501),
        (b"MAIL FROM:<a@b>x", 501),
        (b"MAIL FROM:<a@b> SIZE", 501),
        (b"MAIL FROM:<a@b> SIZE=-1", 501),
        (b"MAIL FROM:<a@b> SIZE=99999999999999999999999", 501),
        (b"MAIL FROM:<a@b> SIZE=1 SIZE=2", 501),
        (b"MAIL FROM:<a@b> BODY=BINARYMIME", 501),
        (b"MAIL FROM:<a@b> RET=ALL", 501),
        (b"MAIL FROM:<a@b> HOLDFOR=10", 555),
        (b"RCPT TO:<a@b> NOTIFY=MAYBE", 501),
        (b"RCPT TO:<a@b> NOTIFY=NEVER,DELAY", 501),
        (b"RCPT TO:<a@b> RRVS=2014-04-03T23:01:00Z", 555),
        (b"RCPT TO:<>", 501),
        (b"RCPT TO:<@a>", 501),
        (b"RCPT TO:<@a:>", 501),
        (b"AUTH", 501),
    ] {
        let fault = Command::parse(line).expect_err(&String::from_utf8_lossy(line));
        assert_eq!(fault.reply().code, code, "{}", String::from_utf8_lossy(line));
    }
}

#[test]
fn paths_keep_their_quoting_and_lose_their_route() {
    let mailbox = |m: &str| Ok(Path::Mailbox(m.to_owned()));
    assert_eq!(path_of("MAIL FROM:<>"), Ok(Path::Null));
    assert_eq!(path_of("MAIL FROM:<a@b.c>"), mailbox("a@b.c"));
    assert_eq!(path_of("mail from: <a@b.c>"), mailbox("a@b.c"));
    assert_eq!(path_of("RCPT TO:<\"q q\"@b.c>"), mailbox("\"q q\"@b.c"));
    assert_eq!(path_of("RCPT TO:<\"a>b\\\"c\"@b.c>"), mailbox("\"a>b\\\"c\"@b.c"));
    assert_eq!(path_of("RCPT TO:<@one,@two:a@b.c>"), mailbox("a@b.c"));
    assert_eq!(path_of("RCPT TO:<a@[127.0.0.1]>"), mailbox("a@[127.0.0.1]"));
    assert_eq!(path_of("RCPT TO:<PostMaster>"), Ok(Path::Postmaster));
    assert!(path_of("RCPT TO:<a b@c>").is_err());
    assert!(path_of("RCPT TO:<<a@c>>").is_err());
}

#[test]
fn parameters_are_typed_and_absent_is_not_zero() {
    let Ok(Command::Mail(_, params)) = Command::parse(
        b"MAIL FROM:<a@b> size=0 BODY=8bitmime SMTPUTF8 AUTH=<> MCID=01ARZ3NDEKTSV4RRFFQ69G5FAV MCJUNK=1 MCMET=spf:pass,dmarc:none",
    ) else {
        panic!("refused")
    };
    let expected = MailParams {
        size: Some(0),
        body: Some(Body::EightBitMime),
        utf8: true,
        auth: Some("<>".into()),
        delivery: Some("01ARZ3NDEKTSV4RRFFQ69G5FAV".into()),
        dsn: MailDsn::default(),
        junk: true,
        met: Some("spf:pass,dmarc:none".into()),
    };
    assert_eq!(params, expected);
    assert!(params.any_internal());
    for bad in [
        "MCJUNK=0",
        "MCJUNK",
        "MCJUNK=1 MCJUNK=1",
        "MCMET=a/b",
        "MCMET=A",
        &format!("MCMET={}", "a".repeat(201)),
    ] {
        assert!(Command::parse(format!("MAIL FROM:<a@b> {bad}").as_bytes()).is_err(), "{bad}");
    }
    let Ok(Command::Rcpt(_, params)) = Command::parse(b"RCPT TO:<a@b> MCACCT=ab MCSTORE=demo-1 MCHOLD=1")
    else {
        panic!("refused")
    };
    assert_eq!(
        params,
        RcptParams {
            account: Some("ab".into()),
            store: Some("demo-1".into()),
            hold: true,
            ..RcptParams::default()
        }
    );
}
