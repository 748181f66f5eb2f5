//! Whatever comes, nothing panics and nothing is said twice.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test may panic")]

use mailcluster_proto_pop3::{DotStuffer, Top, err, parse};
use proptest::prelude::*;

/// What a client does with a multi-line answer.
fn unstuff(answer: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = answer;
    loop {
        let end = rest.windows(2).position(|w| w == b"\r\n")? + 2;
        let (line, after) = rest.split_at(end);
        if line == b".\r\n" {
            return after.is_empty().then_some(out);
        }
        out.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        rest = after;
    }
}

proptest! {
    #[test]
    fn parsing_never_panics(line in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&line);
    }

    #[test]
    fn parsing_likely_lines_never_panics(line in "(?i)(list|retr|top|auth|user|pass|uidl|xx){1}[ 0-9a-z=.-]{0,20}") {
        let _ = parse(line.as_bytes());
    }

    #[test]
    fn a_message_comes_back_however_it_is_cut(
        lines in proptest::collection::vec("[.a\\t ]{0,5}", 0..20),
        cuts in proptest::collection::vec(1usize..9, 1..60),
    ) {
        let message: Vec<u8> = lines.iter().flat_map(|l| [l.as_bytes(), b"\r\n"].concat()).collect();
        let (mut stuffer, mut out, mut rest) = (DotStuffer::new(), Vec::new(), &message[..]);
        for cut in cuts.iter().cycle() {
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            stuffer.push(piece, &mut out);
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        stuffer.finish(&mut out);
        prop_assert_eq!(unstuff(&out), Some(message));
    }

    #[test]
    fn any_octets_end_exactly_once(
        message in proptest::collection::vec(prop::sample::select(b"\r\n.a".to_vec()), 0..60),
        cut in 0usize..60,
    ) {
        let (mut stuffer, mut out) = (DotStuffer::new(), Vec::new());
        let (one, two) = message.split_at(cut.min(message.len()));
        stuffer.push(one, &mut out);
        stuffer.push(two, &mut out);
        stuffer.finish(&mut out);
        // For a reader that takes CRLF only, and for one that takes LF as well.
        prop_assert!(unstuff(&out).is_some());
        let text: Vec<&[u8]> = out.split(|b| *b == b'\n').map(|l| l.strip_suffix(b"\r").unwrap_or(l)).collect();
        let end = text.iter().position(|l| *l == b".");
        prop_assert_eq!(end, Some(text.len() - 2));
    }

    #[test]
    fn top_is_a_beginning(message in proptest::collection::vec(any::<u8>(), 0..200), lines in 0u32..10) {
        prop_assert!(message.starts_with(Top::new(lines).take(&message)));
    }

    #[test]
    fn a_status_line_is_one_line(text in any::<String>()) {
        let mut out = Vec::new();
        err(&mut out, None, &text);
        prop_assert!(out.ends_with(b"\r\n") && out.iter().filter(|b| **b == b'\n').count() == 1);
    }
}
