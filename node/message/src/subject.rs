//! A message's subject as a person reads it.

use mail_parser::MessageParser;

/// The subject of a header, or of the beginning of a message: RFC 2047 words are decoded. `None`: it has none.
#[must_use]
pub fn subject(header: &[u8]) -> Option<String> {
    // The parser passes over a line that has no end.
    let whole = [header.get(..crate::header_end(header))?, b"\r\n"].concat();
    let parsed = MessageParser::new().header_text(mail_parser::HeaderName::Subject).parse_headers(&whole)?;
    parsed.subject().map(|subject| subject.trim().to_owned()).filter(|subject| !subject.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_decoded() {
        for (header, expected) in [
            (&b"From: a@example.org\r\nSubject: plain\r\n\r\nSubject: body"[..], Some("plain")),
            (
                b"SUBJECT: =?UTF-8?B?R3LDvMOfZQ==?= =?iso-8859-1?Q?_aus_K=F6ln?=\r\n\r\n",
                Some("Gr\u{fc}\u{df}e aus K\u{f6}ln"),
            ),
            (b"Subject: folded\r\n here\r\n", Some("folded here")),
            (b"Subject: cut", Some("cut")),
            (b"From: a@example.org\r\n\r\nSubject: of the body\r\n", None),
            (b"Subject:  \r\n\r\n", None),
            (b"", None),
        ] {
            assert_eq!(subject(header).as_deref(), expected, "{}", String::from_utf8_lossy(header));
        }
    }
}
