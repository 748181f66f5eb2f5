//! Lines, message data and replies: where they end, and that it does not matter how they were split on the way.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may fail loudly")]

use bytes::BytesMut;
use mailcluster_proto_smtp::{
    Command, DataDecoder, DataFault, LineDecoder, LineFault, MAX_DATA_LINE, Progress, Reply, ReplyParser,
    Stuffer,
};
use proptest::prelude::*;

/// Decodes `input` in the given pieces: (message, fault, what followed the end or `None` when it never came).
fn decode(pieces: &[&[u8]], max: u64) -> (Vec<u8>, Option<DataFault>, Option<Vec<u8>>) {
    let mut decoder = DataDecoder::new(max);
    let (mut input, mut out, mut ended) = (BytesMut::new(), BytesMut::new(), false);
    for piece in pieces {
        input.extend_from_slice(piece);
        if !ended {
            ended = decoder.feed(&mut input, &mut out) == Progress::End;
        }
    }
    let fault = decoder.fault();
    let message = if fault.is_some() { Vec::new() } else { out.to_vec() };
    (message, fault, ended.then(|| input.to_vec()))
}

fn lines(pieces: &[&[u8]], max: usize) -> Vec<Result<Vec<u8>, LineFault>> {
    let (mut decoder, mut input, mut out) = (LineDecoder::new(max), BytesMut::new(), Vec::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        while let Some(line) = decoder.next(&mut input) {
            out.push(line.map(|l| l.to_vec()));
        }
        assert!(input.len() <= max, "an unfinished line is bounded");
    }
    out
}

#[test]
fn only_crlf_dot_crlf_ends_a_message() {
    let good: &[(&[u8], &[u8])] = &[
        (b".\r\n", b""),
        (b"a\r\n.\r\n", b"a\r\n"),
        (b"..x\r\n.\r\n", b".x\r\n"),
        (b"a\r\n..\r\n...\r\n.\r\n", b"a\r\n.\r\n..\r\n"),
        (b".a\r\n.\r\n", b"a\r\n"),
        (b"\r\n\r\n.\r\n", b"\r\n\r\n"),
        (b"a.\r\n.b.\r\n.\r\n", b"a.\r\nb.\r\n"),
    ];
    for (wire, message) in good {
        assert_eq!(decode(&[wire], 1000), (message.to_vec(), None, Some(vec![])), "{wire:?}");
    }
    let smuggled: &[&[u8]] = &[
        b"\n.\n",
        b"\n.\r\n",
        b"\r\n.\n",
        b"\r.\r",
        b"\r\n.\r",
        b"\r.\r\n",
        b"\n.\r",
        b"\r\n.\r\r\n",
        b"\n\n.\n\n",
        b"\r\r\n.\r\r\n",
        b"\r\n\0.\r\n",
        b"\r\n.\0\r\n",
    ];
    for ending in smuggled {
        let wire = [b"text".as_slice(), ending, b"MAIL FROM:<evil@x>\r\nx\r\n.\r\nQUIT\r\n"].concat();
        let (message, fault, rest) = decode(&[&wire], 1000);
        assert!(fault.is_some(), "{ending:?} is refused");
        assert_eq!(message, b"", "{ending:?}");
        assert_eq!(rest.as_deref(), Some(b"QUIT\r\n".as_slice()), "{ending:?} leaves the session in step");
    }
}

#[test]
fn faults_are_told_apart_and_the_end_is_still_found() {
    let table: &[(&[u8], DataFault)] = &[
        (b"a\nb\r\n.\r\n", DataFault::BareNewline),
        (b"a\rb\r\n.\r\n", DataFault::BareNewline),
        (b"a\0b\r\n.\r\n", DataFault::Nul),
        (b"\0\r\n.\r\n", DataFault::Nul),
        (b"0123456789\r\n.\r\n", DataFault::TooLarge),
    ];
    for (wire, fault) in table {
        assert_eq!(decode(&[wire], 9), (vec![], Some(*fault), Some(vec![])), "{wire:?}");
    }
    let long = |n: usize| [vec![b'x'; n], b"\r\n.\r\n".to_vec()].concat();
    assert_eq!(decode(&[&long(MAX_DATA_LINE - 2)], 1 << 20).1, None);
    assert_eq!(decode(&[&long(MAX_DATA_LINE - 1)], 1 << 20).1, Some(DataFault::LineTooLong));
}

#[test]
fn a_command_line_ends_with_crlf_only() {
    assert_eq!(lines(&[b"QUIT\nNOOP\r\nRSET\r\n"], 100), [Err(LineFault::BareNewline), Ok(b"RSET".to_vec())]);
    assert_eq!(lines(&[b"QUIT\rNOOP\r\n"], 100), [Err(LineFault::BareNewline)]);
    assert_eq!(lines(&[b"QUIT\n"], 100), []);
    assert_eq!(
        lines(&[b"12345678\r\n123456789\r\nok\r\n"], 10),
        [Ok(b"12345678".to_vec()), Err(LineFault::TooLong), Ok(b"ok".to_vec())]
    );
    let flood = vec![b'x'; 100_000];
    assert_eq!(
        lines(&[&flood, &flood, b"\r", b"\nok\r\n"], 2048),
        [Err(LineFault::TooLong), Ok(b"ok".to_vec())]
    );
}

#[test]
fn replies_are_written_and_read_back() {
    let reply = Reply::with(250, "first\nSIZE 5\n8BITMIME".into());
    let mut wire = BytesMut::new();
    reply.write(&mut wire);
    assert_eq!(&wire[..], b"250-first\r\n250-SIZE 5\r\n250 8BITMIME\r\n");
    let mut parser = ReplyParser::new();
    assert_eq!(parser.next(&mut wire), Ok(Some(reply)));
    assert_eq!(Reply::new(550, "5.1.1 gone").status(), Some("5.1.1"));
    assert_eq!(Reply::new(550, "gone").status(), None);
    let mut hostile = BytesMut::new();
    Reply::with(550, "x\r250 ok\0".into()).write(&mut hostile);
    assert_eq!(&hostile[..], b"550 x?250 ok?\r\n");
    for bad in [b"hello\r\n".as_slice(), b"99 x\r\n", b"250+x\r\n", b"250-a\r\n251 b\r\n", b"150 x\r\n"] {
        assert!(ReplyParser::new().next(&mut BytesMut::from(bad)).is_err(), "{bad:?}");
    }
}

/// Octets that make trouble more often than random ones would.
fn nasty() -> impl Strategy<Value = Vec<u8>> {
    let octet = prop_oneof![
        4 => Just(b'\r'), 4 => Just(b'\n'), 4 => Just(b'.'), 1 => Just(0u8), 3 => Just(b'a'), 1 => any::<u8>()
    ];
    let piece = prop_oneof![
        3 => Just(b"\r\n".to_vec()), 1 => Just(b"\r\n.\r\n".to_vec()), 6 => octet.prop_map(|o| vec![o])
    ];
    proptest::collection::vec(piece, 0..60).prop_map(|p| p.concat())
}

fn split_at(bytes: &[u8], cuts: &[usize]) -> Vec<Vec<u8>> {
    let mut cuts: Vec<usize> = cuts.iter().map(|c| c % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    cuts.windows(2).map(|w| bytes[w[0]..w[1]].to_vec()).collect()
}

/// The slow and obvious decoder: find CRLF.CRLF, judge the whole, unstuff line by line.
fn reference(wire: &[u8]) -> Option<(Option<Vec<u8>>, usize)> {
    let framed = [b"\r\n".as_slice(), wire].concat();
    let end = framed.windows(5).position(|w| w == b"\r\n.\r\n")?;
    let text = &wire[..end];
    let consumed = end + 3;
    let bare = |i: usize| match text[i] {
        b'\r' => text.get(i + 1) != Some(&b'\n'),
        b'\n' => i == 0 || text[i - 1] != b'\r',
        octet => octet == 0,
    };
    if (0..text.len()).any(bare) {
        return Some((None, consumed));
    }
    let mut message = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.windows(2).position(|w| w == b"\r\n") {
        let line = &rest[..at + 2];
        message.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        rest = &rest[at + 2..];
    }
    Some((Some(message), consumed))
}

proptest! {
    #[test]
    fn any_split_of_data_gives_the_same_message(wire in nasty(), cuts in proptest::collection::vec(any::<usize>(), 0..8)) {
        let whole = decode(&[&wire], 1000);
        let pieces = split_at(&wire, &cuts);
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        prop_assert_eq!(&decode(&pieces, 1000), &whole);
        let (message, fault, rest) = whole;
        match reference(&wire) {
            None => prop_assert!(rest.is_none()),
            Some((expected, consumed)) => {
                prop_assert_eq!(rest.as_deref(), Some(&wire[consumed..]));
                prop_assert_eq!(fault.is_none().then_some(message), expected);
            }
        }
    }

    #[test]
    fn any_split_of_commands_gives_the_same_lines(wire in nasty(), cuts in proptest::collection::vec(any::<usize>(), 0..8)) {
        let pieces = split_at(&wire, &cuts);
        let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
        let byte_by_byte: Vec<&[u8]> = wire.chunks(1).collect();
        prop_assert_eq!(lines(&pieces, 400), lines(&byte_by_byte, 400));
    }

    #[test]
    fn stuffing_is_undone_by_decoding(parts in proptest::collection::vec("[.a\r\n]{0,12}", 0..8)) {
        let text = parts.concat().replace('\r', "").replace('\n', "\r\n");
        let (mut stuffer, mut wire) = (Stuffer::new(), BytesMut::new());
        let cut = text.len() / 2;
        for piece in [&text.as_bytes()[..cut], &text.as_bytes()[cut..]] {
            stuffer.push(piece, &mut wire);
        }
        stuffer.end(&mut wire);
        let mut expected = text.clone();
        if !text.is_empty() && !text.ends_with("\r\n") {
            expected.push_str("\r\n");
        }
        prop_assert_eq!(decode(&[&wire], 1000), (expected.into_bytes(), None, Some(vec![])));
    }

    #[test]
    fn no_input_makes_a_parser_panic(wire in proptest::collection::vec(any::<u8>(), 0..300), nasty in nasty()) {
        let _ = Command::parse(&wire);
        let _ = Command::parse(&[b"MAIL FROM:<".as_slice(), &wire].concat());
        let _ = Command::parse(&[b"RCPT TO:".as_slice(), &nasty].concat());
        let _ = ReplyParser::new().next(&mut BytesMut::from(&[b"250 ".as_slice(), &wire, b"\r\n"].concat()[..]));
        let _ = decode(&[&wire, &nasty], 100);
    }
}
