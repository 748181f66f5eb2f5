//! The strings of MIME parts, as Sieve's `body` test looks at them (RFC 5173 section 5.2).

use std::ops::{ControlFlow, Range};

use crate::{
    message::{Message, Part, PartKind},
    text,
};

/// Octets of a part's decoded text that are shown; the rest is left out.
const MAX_STRING: usize = 4 << 20;

type Visit<'v> = &'v mut dyn FnMut(&[u8]) -> ControlFlow<()>;

impl Message {
    /// Calls `visit` with each string of the parts whose type (`type/subtype`, in lower case) is `wanted`, until it breaks: of
    /// a multipart what stands before its first and behind its last part, of a message/rfc822 its header, of others all of it,
    /// decoded, and in UTF-8 where it is text.
    pub fn strings(&self, wanted: &dyn Fn(&str) -> bool, visit: Visit<'_>) {
        let _ = self.strings_of(self.root(), wanted, visit);
    }

    fn strings_of(&self, part: &Part, wanted: &dyn Fn(&str) -> bool, visit: Visit<'_>) -> ControlFlow<()> {
        let is_wanted = wanted(&format!("{}/{}", part.content_type.kind, part.content_type.subtype));
        match &part.kind {
            PartKind::Multipart(parts) => {
                let (before, behind) = self.around(part, parts);
                if is_wanted {
                    visit(before)?;
                }
                for inner in parts {
                    self.strings_of(inner, wanted, visit)?;
                }
                if is_wanted { visit(behind) } else { ControlFlow::Continue(()) }
            }
            PartKind::Message(inner) => {
                if is_wanted {
                    visit(self.octets(&inner.header))?;
                }
                self.strings_of(inner, wanted, visit)
            }
            PartKind::Leaf if is_wanted => self.leaf(part, visit),
            PartKind::Leaf => ControlFlow::Continue(()),
        }
    }

    fn leaf(&self, part: &Part, visit: Visit<'_>) -> ControlFlow<()> {
        let raw = self.octets(&part.body);
        if part.content_type.kind != "text" {
            let decoded = text::transfer_decoded(raw.get(..MAX_STRING).unwrap_or(raw), &part.encoding);
            return visit(&decoded);
        }
        let charset = part.content_type.parameter("charset").unwrap_or(b"us-ascii");
        let mut whole = String::new();
        text::show(raw, &part.encoding, charset, |piece| {
            whole.push_str(piece);
            whole.len() >= MAX_STRING
        });
        visit(whole.as_bytes())
    }

    /// Prologue and epilogue, without the delimiter lines.
    fn around(&self, part: &Part, parts: &[Part]) -> (&[u8], &[u8]) {
        let body = &part.body;
        let start = parts.first().map_or(body.end, |first| first.header.start);
        let end = parts.last().map_or(body.end, |last| last.body.end);
        let before = self.octets(&Range { start: body.start, end: start });
        let line = before.strip_suffix(b"\n").unwrap_or(before);
        let before = memchr::memrchr(b'\n', line).map_or(&[][..], |lf| &before[..=lf]);
        let mut behind = self.octets(&Range { start: end, end: body.end });
        for _ in 0..2 {
            behind = memchr::memchr(b'\n', behind).map_or(&[][..], |lf| &behind[lf + 1..]);
        }
        (before, behind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAIL: &str = "Content-Type: multipart/mixed; boundary=b\r\n\r\nprologue\r\n--b\r\n\
        Content-Type: text/html; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n\
        <b>gr=F6=\r\n=DFer</b>\r\n--b\r\nContent-Type: Message/RFC822\r\n\r\nSubject: inner\r\n\r\ninside\r\n--b\r\n\
        Content-Type: application/x\r\nContent-Transfer-Encoding: base64\r\n\r\n/wA=\r\n--b--\r\nepilogue\r\n";

    fn shown(mail: &str, wanted: &str) -> Vec<String> {
        let mut all = Vec::new();
        Message::parse(bytes::Bytes::copy_from_slice(mail.as_bytes())).strings(
            &|kind| kind.starts_with(wanted),
            &mut |string| {
                all.push(String::from_utf8_lossy(string).into_owned());
                ControlFlow::Continue(())
            },
        );
        all
    }

    #[test]
    fn parts_show_what_the_rfc_says() {
        for (wanted, expected) in [
            ("multipart/", &["prologue\r\n", "epilogue\r\n"][..]),
            ("text/html", &["<b>gr\u{f6}\u{df}er</b>"]),
            ("message/rfc822", &["Subject: inner\r\n\r\n"]),
            ("text/plain", &["inside"]),
            ("application/", &["\u{fffd}\0"]),
            ("image/", &[]),
        ] {
            assert_eq!(shown(MAIL, wanted), expected, "{wanted}");
        }
        assert_eq!(shown("A: b\r\n\r\nplain\r\n", "text/plain"), ["plain\r\n"]);
    }

    #[test]
    fn what_is_enough_ends_it() {
        let mut seen = 0;
        let message = Message::parse(bytes::Bytes::from_static(MAIL.as_bytes()));
        message.strings(&|_| true, &mut |_| {
            seen += 1;
            ControlFlow::Break(())
        });
        assert_eq!(seen, 1);
    }
}
