//! The decoder: framing, bounds, and that pieces do not matter.

#![allow(clippy::panic, reason = "a test may")]

use mailcluster_proto_imap::{Command, CommandBody, Decoder, Event, Limits};
use proptest::prelude::*;

const LIMITS: Limits = Limits { line: 400, literals: 100, skip: 2000 };

/// Everything the octets mean; APPENDs are accepted when `accept`, their chunks joined.
fn run(chunks: &[&[u8]], accept: bool) -> Vec<Event> {
    let mut decoder = Decoder::new(LIMITS);
    let mut events: Vec<Event> = Vec::new();
    for chunk in chunks {
        decoder.feed(chunk);
        while let Some(event) = decoder.next_event() {
            match (&event, events.last_mut()) {
                (Event::AppendData(more), Some(Event::AppendData(sofar))) => {
                    *sofar = [sofar.as_ref(), more].concat().into();
                    continue;
                }
                (Event::Append(_), _) if accept => decoder.accept_append(),
                (Event::Append(_), _) => decoder.refuse_append(),
                _ => {}
            }
            events.push(event);
        }
    }
    events
}

fn bodies(octets: &[u8]) -> Vec<String> {
    run(&[octets], true)
        .into_iter()
        .map(|event| match event {
            Event::Command(Command { tag, body }) => format!("{tag} {body:?}"),
            Event::Invalid { tag, error } => format!("{} BAD {error}", tag.as_deref().unwrap_or("*")),
            other => format!("{other:?}"),
        })
        .collect()
}

#[test]
fn lines_and_literals() {
    let events = bodies(b"a NOOP\r\nb LOGIN {3}\r\nann {5+}\r\npa\r\ns\r\nc noop\r\n");
    assert_eq!(
        events,
        ["a Noop", "Continue", "b Login(Login { user: [97, 110, 110], password: Secret(..) })", "c Noop",]
    );
}

#[test]
fn what_is_wrong_is_said_and_where() {
    for (octets, expected) in [
        (&b"a FETCH 0 FLAGS\r\n"[..], "a BAD expected a message number or * at octet 9"),
        (b"a NOOP \r\n", "a BAD expected the end of the command at octet 7"),
        (b"a XYZZY\r\n", "a BAD unknown command"),
        (b"\r\n", "* BAD expected a tag at octet 1"),
        (b"+ NOOP\r\n", "* BAD expected a tag at octet 1"),
        (b"a NOOP\n", "a BAD a line must end with CRLF"),
        (b"a SEL\0ECT x\r\n", "a BAD expected no NUL at octet 6"),
        (b"a SELECT \"\xc3\xbc\"\r\n", "a BAD expected 7-bit text at octet 11"),
        (b"a SELECT a\rb\r\n", "a BAD expected no bare CR at octet 11"),
        (b"a SELECT {3+}\r\na\0b\r\n", "a BAD expected no NUL in a literal at octet 17"),
        (b"a SELECT &abc\r\n", "a BAD expected a mailbox name in modified UTF-7 at octet 10"),
        (b"a APPEND INBOX (\\Seen\r\n", "a BAD expected a space or ) at octet 22"),
    ] {
        assert_eq!(bodies(octets), [expected], "{:?}", String::from_utf8_lossy(octets));
    }
}

#[test]
fn nothing_grows_without_bound() {
    let long = [b"a ".as_slice(), &[b'x'; 500], b"\r\nb NOOP\r\n"].concat();
    assert_eq!(bodies(&long), ["a BAD line too long", "b Noop"]);
    assert_eq!(bodies(b"a LOGIN {101}\r\nb NOOP\r\n"), ["a BAD literal too large", "b Noop"]);
    let skipped = [b"a LOGIN {150+}\r\n".as_slice(), &[b'\n'; 150], b" {2+}\r\n\r\n\r\nb NOOP\r\n"].concat();
    assert_eq!(bodies(&skipped), ["a BAD literal too large", "b Noop"]);
    assert_eq!(
        bodies(b"a LOGIN {99999999999999999999999+}\r\n"),
        ["Fatal(\"too much data after a refused command\")"]
    );
    assert_eq!(
        bodies(b"a LOGIN {3}\nabc x\r\n"),
        ["Fatal(\"a literal was announced on a line without CRLF\")"]
    );
    let endless = [b'x'; 3000];
    assert_eq!(bodies(&endless), ["Fatal(\"too much data after a refused command\")"]);
    let deep = [b"a SEARCH ".as_slice(), &[b'('; 60], b"ALL", &[b')'; 60], b"\r\n"].concat();
    assert_eq!(bodies(&deep), ["a BAD a search has at most 1000 keys, nested at most 32 deep"]);
}

#[test]
fn append_is_streamed() {
    let octets = b"a APPEND {5}\r\nINBOX (\\Seen x) \" 7-Feb-1994 21:52:25 -0800\" {310}\r\n";
    let body = [b'y'; 310];
    let events = run(&[octets, &body, b"\r\nb NOOP\r\n"], true);
    let Event::Append(start) = &events[1] else { panic!("{events:?}") };
    assert_eq!((start.head.tag.as_str(), start.size, start.synchronizing), ("a", 310, true));
    assert_eq!(start.head.date, Some((760_686_745, -480)));
    assert_eq!(start.head.flags.len(), 2);
    assert_eq!(events[2], Event::AppendData(body.to_vec().into()));
    assert_eq!(events[3], Event::AppendEnd);
    assert!(matches!(events[4], Event::Command(_)));
}

#[test]
fn refused_and_broken_appends() {
    let refused = run(&[b"a APPEND INBOX {4+}\r\nabcd\r\nb NOOP\r\n"], false);
    assert!(matches!(refused[..], [Event::Append(_), Event::Command(_)]), "{refused:?}");
    let refused = run(&[b"a APPEND INBOX {4}\r\nb NOOP\r\n"], false);
    assert!(matches!(refused[..], [Event::Append(_), Event::Command(_)]), "{refused:?}");
    let two = bodies(b"a APPEND INBOX {1+}\r\nx {1+}\r\ny\r\nb NOOP\r\n");
    assert_eq!(two[2..], ["a BAD expected the end of the command after the message", "b Noop"]);
}

#[test]
fn answers_to_continuations() {
    let mut decoder = Decoder::new(LIMITS);
    decoder.feed(b"a IDLE\r\nDONE\r\nb NOOP\r\n");
    let first = decoder.next_event();
    assert!(matches!(first, Some(Event::Command(Command { body: CommandBody::Idle, .. }))), "{first:?}");
    decoder.expect_line();
    assert_eq!(decoder.next_event(), Some(Event::Line(b"DONE".to_vec().into())));
    assert!(matches!(decoder.next_event(), Some(Event::Command(_))));
    assert_eq!(decoder.next_event(), None);
}

/// Octets that look like IMAP more often than chance would have it.
fn session() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        &b"a "[..],
        b"APPEND INBOX ",
        b"LOGIN ",
        b"SEARCH ",
        b"FETCH 1 ",
        b"{3}",
        b"{3+}",
        b"{200}",
        b"{200+}",
        b"\r\n",
        b"\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b"(",
        b")",
        b"\"",
        b"\\Seen",
        b" ",
        b"abc",
        b"1:*",
        b"\xff",
        b"NOOP",
        b"UID ",
        b"BODY[1.TEXT]<0.1>",
        b"{99999999999999999999}",
        b"&",
        b"%",
        b"x",
    ]);
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn pieces_do_not_matter(octets in session(), cuts in prop::collection::vec(0usize..200, 0..8), accept: bool) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(octets.len())).collect();
        cuts.extend([0, octets.len()]);
        cuts.sort_unstable();
        let chunks: Vec<&[u8]> = cuts.windows(2).map(|w| &octets[w[0]..w[1]]).collect();
        let single: Vec<&[u8]> = octets.chunks(1).collect();
        let whole = run(&[&octets], accept);
        prop_assert_eq!(&run(&chunks, accept), &whole);
        prop_assert_eq!(&run(&single, accept), &whole);
    }

    #[test]
    fn garbage_does_not_panic(octets in prop::collection::vec(any::<u8>(), 0..600), accept: bool) {
        run(&[&octets], accept);
    }
}

/// Known good sessions with random octets changed: no panic, and the decoder always comes to an end.
#[test]
fn mutations_do_not_panic() {
    let seeds: [&[u8]; 4] = [
        b"a LOGIN \"u\" {3+}\r\npwd\r\nb SELECT INBOX (CONDSTORE)\r\n",
        b"c UID FETCH 1:*,5 (FLAGS BODY.PEEK[1.2.HEADER.FIELDS (From \"X Y\")]<0.99>) (CHANGEDSINCE 5)\r\n",
        b"d SEARCH RETURN (MIN) CHARSET UTF-8 OR (FROM {2+}\r\nab NOT SEEN) SENTON 1-Jan-2020 MODSEQ 3\r\n",
        b"e APPEND &AOQ- (\\Seen a) \"17-Jul-1996 02:44:25 -0700\" {3+}\r\nabc\r\nf LIST (SUBSCRIBED) \"\" (% *) RETURN (STATUS (MESSAGES))\r\n",
    ];
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state % below as u64).unwrap()
    };
    for round in 0..60_000 {
        let mut octets = seeds[round % seeds.len()].to_vec();
        for _ in 0..=random(3) {
            let place = random(octets.len());
            match random(3) {
                0 => octets[place] = u8::try_from(random(256)).unwrap(),
                1 => {
                    octets.remove(place);
                }
                _ => octets.insert(place, b"{}()\"\\\r\n 0+*&"[random(13)]),
            }
        }
        run(&[&octets], random(2) == 0);
    }
}
