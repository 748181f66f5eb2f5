//! What comes in, whole or in pieces, and hostile.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use bytes::Bytes;
use mailcluster_proto_managesieve::{
    Capabilities, Code, Command, CommandError, Decoder, Event, Limits, Secret, no, ok, string,
};

const LIMITS: Limits = Limits { line: 200, literals: 64, skip: 1000 };

fn events(pieces: &[&[u8]]) -> Vec<Event> {
    let mut decoder = Decoder::new(LIMITS);
    let mut all = Vec::new();
    for piece in pieces {
        decoder.feed(piece);
        while let Some(event) = decoder.next_event() {
            all.push(event);
        }
    }
    all
}

fn command(text: &str) -> Result<Command, CommandError> {
    let whole = events(&[text.as_bytes()]);
    let octets: Vec<&[u8]> = text.as_bytes().chunks(1).collect();
    assert_eq!(whole, events(&octets), "{text:?} octet by octet");
    match whole.as_slice() {
        [Event::Command(command)] => Ok(command.clone()),
        [Event::Invalid(error)] => Err(*error),
        other => panic!("{text:?}: {other:?}"),
    }
}

#[test]
fn commands_of_the_rfc() {
    let text = Bytes::from_static;
    let name = str::to_owned;
    for (line, expected) in [
        ("CAPABILITY\r\n", Command::Capability),
        ("starttls\r\n", Command::StartTls),
        ("Logout\r\n", Command::Logout),
        ("UNAUTHENTICATE\r\n", Command::Unauthenticate),
        ("LISTSCRIPTS\n", Command::ListScripts),
        ("HAVESPACE \"my\\\"script\" 435\r\n", Command::HaveSpace { name: name("my\"script"), size: 435 }),
        (
            "PUTSCRIPT \"foo\" {6+}\r\nkeep;\n\r\n",
            Command::PutScript { name: name("foo"), script: text(b"keep;\n") },
        ),
        ("PutScript {3}\r\nfö \"\"\r\n", Command::PutScript { name: name("fö"), script: text(b"") }),
        ("CHECKSCRIPT {0+}\r\n\r\n", Command::CheckScript(text(b""))),
        ("SETACTIVE \"\"\r\n", Command::SetActive(None)),
        ("SETACTIVE  \"x\" \r\n", Command::SetActive(Some(name("x")))),
        ("GETSCRIPT \"x\"\r\n", Command::GetScript(name("x"))),
        ("DELETESCRIPT {1+}\r\nx\r\n", Command::DeleteScript(name("x"))),
        ("RENAMESCRIPT \"a\" \"b\"\r\n", Command::RenameScript { from: name("a"), to: name("b") }),
        ("NOOP\r\n", Command::Noop(None)),
        ("NOOP \"STARTTLS-SYNC-42\"\r\n", Command::Noop(Some(text(b"STARTTLS-SYNC-42")))),
        ("AUTHENTICATE \"plain\"\r\n", Command::Authenticate { mechanism: name("PLAIN"), initial: None }),
        (
            "AUTHENTICATE \"PLAIN\" \"QQ==\"\r\n",
            Command::Authenticate { mechanism: name("PLAIN"), initial: Some(Secret(text(b"QQ=="))) },
        ),
    ] {
        assert_eq!(command(line), Ok(expected), "{line:?}");
    }
}

#[test]
fn what_is_no_command_is_told_and_the_next_is_read() {
    for (line, expected) in [
        ("\r\n", CommandError::Syntax("an empty line")),
        ("\"x\"\r\n", CommandError::Syntax("a line begins with a command")),
        ("EHLO x\r\n", CommandError::Unknown),
        ("LOGOUT now\r\n", CommandError::Arguments),
        ("GETSCRIPT x\r\n", CommandError::Arguments),
        ("GETSCRIPT\r\n", CommandError::Arguments),
        ("HAVESPACE \"x\" \"1\"\r\n", CommandError::Arguments),
        ("HAVESPACE \"x\" 99999999999999999999999\r\n", CommandError::Arguments),
        ("GETSCRIPT \"a\nNOOPE\r\n", CommandError::Syntax("a quoted string ends in its line")),
        ("GETSCRIPT {x}\r\n", CommandError::Syntax("not a literal")),
        ("GETSCRIPT {1\r\n", CommandError::Syntax("not a literal")),
        ("A B C D E F G H I J\r\n", CommandError::Syntax("too many words")),
        ("N\u{f6}\r\n", CommandError::Syntax("a character that stands in no word")),
    ] {
        let all = events(&[line.as_bytes(), b"NOOP\r\n"]);
        assert_eq!(all.first(), Some(&Event::Invalid(expected)), "{line:?}");
        assert_eq!(all.last(), Some(&Event::Command(Command::Noop(None))), "{line:?}");
    }
    let all = events(&[b"GETSCRIPT {2+}\r\n\xff\xfe\r\n"]);
    assert_eq!(all, [Event::Invalid(CommandError::NotUtf8)]);
}

#[test]
fn what_is_too_large_is_read_over_or_ends_it() {
    let large = [&b"PUTSCRIPT \"x\" {500+}\r\n"[..], &[b'\n'; 500], b"\r\nNOOP\r\n"].concat();
    let expected = [Event::Invalid(CommandError::TooLarge), Event::Command(Command::Noop(None))];
    assert_eq!(events(&[&large]), expected);
    let pieces: Vec<&[u8]> = large.chunks(7).collect();
    assert_eq!(events(&pieces), expected);
    assert_eq!(events(&[b"PUTSCRIPT \"x\" {1001+}\r\n", b"NOOP\r\n"]), [Event::Fatal("literal too large")]);
    for endless in [&[b'a'; 1000][..], &[b' '; 1000], &[b'x'; 900]] {
        let mut decoder = Decoder::new(LIMITS);
        let mut fatal = false;
        for _ in 0..10 {
            decoder.feed(endless);
            while let Some(event) = decoder.next_event() {
                fatal |= matches!(event, Event::Fatal(_));
            }
        }
        assert!(fatal, "{:?}", endless.first());
        decoder.feed(endless);
        assert_eq!(decoder.next_event(), None);
    }
}

#[test]
fn a_response_is_asked_for() {
    let mut decoder = Decoder::new(LIMITS);
    decoder.expect_response();
    decoder.feed(b"\"QQ==\"\r\nNOOP\r\n\"x\"\r\n");
    assert_eq!(decoder.next_event(), Some(Event::Response(Bytes::from_static(b"QQ=="))));
    assert_eq!(decoder.next_event(), Some(Event::Command(Command::Noop(None))));
    assert!(matches!(decoder.next_event(), Some(Event::Invalid(_))));
    decoder.expect_response();
    decoder.feed(b"NOOP\r\nrest");
    assert!(matches!(decoder.next_event(), Some(Event::Invalid(_))));
    assert_eq!(decoder.next_event(), None);
    assert_eq!(decoder.into_rest(), Bytes::from_static(b"rest"));
}

#[test]
fn replies_are_strings_that_cannot_be_broken_out_of() {
    let mut out = Vec::new();
    ok(&mut out, None, "");
    no(&mut out, Some(Code::QuotaMaxSize), "a \"b\"\r\nOK");
    string(&mut out, b"x\\");
    assert_eq!(String::from_utf8(out).unwrap(), "OK\r\nNO (QUOTA/MAXSIZE) {9}\r\na \"b\"\r\nOK\r\n\"x\\\\\"");
    let mut out = Vec::new();
    let capabilities = Capabilities {
        sieve: "fileinto vacation".into(),
        starttls: true,
        redirects: 4,
        ..Default::default()
    };
    capabilities.write(&mut out);
    let text = String::from_utf8(out).unwrap();
    assert!(text.contains("\"SASL\" \"\"\r\n\"SIEVE\" \"fileinto vacation\"\r\n"), "{text}");
    assert!(text.contains("\"STARTTLS\"\r\n") && text.ends_with("\"VERSION\" \"1.0\"\r\n"), "{text}");
}
