//! Structure, sections, envelope and search of known and of random messages.

use bytes::Bytes;
use mailcluster_message::{Message, Needle, PartKind, SectionText, SentDate};
use proptest::prelude::*;

/// Shaped like the example of RFC 3501 section 6.4.5.
const NESTED: &str = concat!(
    "From: \"A, B\" <a@x.org>\r\nTo: c@y.org\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n",
    "Date: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\nMessage-ID: <1@x>\r\nMIME-Version: 1.0\r\n",
    "Content-Type: multipart/mixed; boundary=\"o\"\r\n\r\n",
    "preamble\r\n",
    "--o\r\n\r\nplain text\r\n",
    "--o\r\nContent-Type: application/octet-stream; name=x\r\nContent-Transfer-Encoding: base64\r\n\r\nAAAA\r\n",
    "--o\r\nContent-Type: message/rfc822\r\n\r\n",
    "Subject: inner\r\nFrom: i@z\r\n\r\ninner body",
    "\r\n--o\r\nContent-Type: message/rfc822\r\n\r\n",
    "Subject: alt\r\nContent-Type: multipart/alternative; boundary=i\r\n\r\n",
    "--i\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n",
    "caf=E9=20x\r\n--i\r\nContent-Type: text/html; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n",
    "PGI+w5xCRVI8L2I+\r\n--i--\r\n",
    "\r\n--o--\r\nepilogue\r\n",
);

fn nested() -> Message {
    Message::parse(Bytes::from_static(NESTED.as_bytes()))
}

fn text(path: &[u32], text: SectionText<'_>) -> Option<String> {
    nested().section(path, text).map(|octets| String::from_utf8_lossy(&octets).into_owned())
}

#[test]
fn sections_by_number() {
    use SectionText::{All, Header, Mime, Text};
    assert_eq!(text(&[], All).as_deref(), Some(NESTED));
    assert_eq!(text(&[1], All).as_deref(), Some("plain text"));
    assert_eq!(text(&[1], Mime).as_deref(), Some("\r\n"));
    assert_eq!(text(&[2], All).as_deref(), Some("AAAA"));
    assert_eq!(text(&[3], All).as_deref(), Some("Subject: inner\r\nFrom: i@z\r\n\r\ninner body"));
    assert_eq!(text(&[3], Header).as_deref(), Some("Subject: inner\r\nFrom: i@z\r\n\r\n"));
    assert_eq!(text(&[3], Text).as_deref(), Some("inner body"));
    assert_eq!(text(&[3, 1], All).as_deref(), Some("inner body"));
    assert_eq!(text(&[4, 1], All).as_deref(), Some("caf=E9=20x"));
    assert_eq!(text(&[4, 2], All).as_deref(), Some("PGI+w5xCRVI8L2I+"));
    assert_eq!(text(&[4], Mime).as_deref(), Some("Content-Type: message/rfc822\r\n\r\n"));
    for path in [&[0][..], &[5], &[1, 1], &[3, 2], &[3, 1, 1], &[4, 3]] {
        assert_eq!(text(path, All), None, "{path:?}");
    }
    assert_eq!(text(&[1], Header), None);
    let names = [b"subject".to_vec(), b"DATE".to_vec()];
    assert_eq!(
        text(&[], SectionText::Fields(&names)).as_deref(),
        Some("Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\nDate: Wed, 17 Jul 1996 02:23:25 -0700 (PDT)\r\n\r\n")
    );
    assert_eq!(text(&[3], SectionText::FieldsNot(&names)).as_deref(), Some("From: i@z\r\n\r\n"));
}

#[test]
fn messages_without_parts() {
    let plain = Message::parse(Bytes::from_static(b"Subject: x\r\n\r\nbody\r\n"));
    assert_eq!(plain.section(&[1], SectionText::All).unwrap(), "body\r\n");
    assert_eq!(plain.section(&[1], SectionText::Mime).unwrap(), "Subject: x\r\n\r\n");
    assert_eq!(plain.section(&[2], SectionText::All), None);
    assert_eq!(plain.lines(&plain.root().body), 1);
    let empty = Message::parse(Bytes::new());
    assert_eq!(empty.section(&[], SectionText::Text).unwrap(), "");
    let broken =
        Message::parse(Bytes::from_static(b"Content-Type: multipart/mixed; boundary=x\r\n\r\nno parts"));
    assert_eq!(broken.root().kind, PartKind::Leaf);
}

#[test]
fn envelope_as_sent() {
    let envelope = nested().envelope();
    assert_eq!(envelope.subject.unwrap(), b"=?utf-8?q?Gr=C3=BC=C3=9Fe?=");
    assert_eq!(envelope.from[0].name.as_deref(), Some(&b"A, B"[..]));
    assert_eq!(envelope.sender, envelope.from);
    assert_eq!(envelope.message_id.unwrap(), b"<1@x>");
    assert_eq!((envelope.in_reply_to, envelope.cc.len()), (None, 0));
}

#[test]
fn search_sees_what_people_see() {
    let message = nested();
    for (found, needle) in [
        (true, "CAFÉ X"),
        (true, "über"),
        (true, "plain TEXT"),
        (true, "inner"),
        (false, "preamble"),
        (false, "AAAA"),
    ] {
        assert_eq!(message.look_for(&[Needle::new(needle)])[0].body, found, "{needle}");
    }
    assert!(
        message.header_has(b"subject", &Needle::new("GRÜSSE"))
            || message.header_has(b"subject", &Needle::new("grüße"))
    );
    assert!(message.header_has(b"Message-Id", &Needle::new("")));
    assert!(!message.header_has(b"Cc", &Needle::new("")));
    let needles = ["from: \"a, b\"", "INNER", "nowhere", ""].map(Needle::new);
    let seen = message.look_for(&needles).into_iter().map(|seen| (seen.header, seen.body));
    assert_eq!(seen.collect::<Vec<_>>(), [(true, false), (false, true), (false, false), (true, true)]);
    assert_eq!(message.sent_date(), Some(SentDate { year: 1996, month: 7, day: 17 }));
}

#[test]
fn what_lies_across_two_pieces_of_a_long_text_is_found() {
    // Longer than a piece, whose end falls on each place of the needle in turn.
    for shift in 0..12 {
        let text = format!(
            "{}{}Needle Here{}",
            "y".repeat(shift),
            "x ".repeat((256 << 10) / 2 - 6),
            " z".repeat(300_000)
        );
        let message = Message::parse(Bytes::from(format!("Subject: x\r\n\r\n{text}")));
        let seen = message.look_for(&["needle here", "needle there", "z z"].map(Needle::new));
        assert_eq!(seen.iter().map(|seen| seen.body).collect::<Vec<_>>(), [true, false, true], "{shift}");
    }
}

#[test]
fn hostile_structure_is_bounded() {
    let deep: String =
        (0..200).map(|i| format!("Content-Type: multipart/mixed; boundary=b{i}\r\n\r\n--b{i}\r\n")).collect();
    let _ = Message::parse(Bytes::from(deep));
    let wide =
        format!("Content-Type: multipart/mixed; boundary=b\r\n\r\n{}", "--b\r\n\r\nx\r\n".repeat(100_000));
    let wide = Message::parse(Bytes::from(wide));
    let PartKind::Multipart(parts) = &wide.root().kind else { unreachable!() };
    assert!(parts.len() <= 1001);
    let rfc822 = "Content-Type: message/rfc822\r\n\r\n".repeat(10_000);
    let _ = Message::parse(Bytes::from(rfc822));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn nothing_panics(cut in 0usize..1200, place in 0usize..1200, octet: u8) {
        let mut octets = NESTED.as_bytes()[..cut.min(NESTED.len())].to_vec();
        if let Some(b) = octets.get_mut(place) {
            *b = octet;
        }
        let message = Message::parse(Bytes::from(octets));
        let _ = message.envelope();
        let _ = message.look_for(&[Needle::new("zzz")]);
        let _ = message.sent_date();
        for path in [&[][..], &[1], &[4, 1], &[3, 1]] {
            let _ = message.section(path, SectionText::All);
            let _ = message.section(path, SectionText::Header);
        }
    }
}
