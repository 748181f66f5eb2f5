//! Sections of FETCH BODY[...] (RFC 3501 section 6.4.5).

use bytes::Bytes;

use crate::{
    header::header_fields,
    message::{Message, Part, PartKind},
};

/// What of a part is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SectionText<'a> {
    /// Everything: of the message with its header, of a part its body.
    All,
    /// HEADER, of a message.
    Header,
    /// HEADER.FIELDS
    Fields(&'a [Vec<u8>]),
    /// HEADER.FIELDS.NOT
    FieldsNot(&'a [Vec<u8>]),
    /// TEXT, of a message.
    Text,
    /// MIME: a part's own header.
    Mime,
}

impl Message {
    /// The section's octets; `None` when the message has no such part.
    #[must_use]
    pub fn section(&self, path: &[u32], text: SectionText<'_>) -> Option<Bytes> {
        if path.is_empty() {
            return match text {
                SectionText::All => Some(self.raw().clone()),
                SectionText::Mime => None,
                text => Some(self.of_message(self.root(), text)),
            };
        }
        let part = self.find(path)?;
        match text {
            SectionText::All => Some(self.slice(&part.body)),
            SectionText::Mime => Some(self.slice(&part.header)),
            text => match &part.kind {
                PartKind::Message(inner) => Some(self.of_message(inner, text)),
                _ => None,
            },
        }
    }

    /// HEADER, its fields and TEXT of a message: the outermost one or one inside a message/rfc822 part.
    fn of_message(&self, part: &Part, text: SectionText<'_>) -> Bytes {
        match text {
            SectionText::Header => self.slice(&part.header),
            SectionText::Fields(names) => self.fields(part, names, true),
            SectionText::FieldsNot(names) => self.fields(part, names, false),
            _ => self.slice(&part.body),
        }
    }

    /// The fields named (or not named), in order, and the empty line.
    fn fields(&self, part: &Part, names: &[Vec<u8>], wanted: bool) -> Bytes {
        let mut out = Vec::new();
        for field in header_fields(self.octets(&part.header)) {
            if names.iter().any(|name| field.is(name)) == wanted {
                out.extend_from_slice(field.raw);
                if !field.raw.ends_with(b"\n") {
                    out.extend_from_slice(b"\r\n");
                }
            }
        }
        out.extend_from_slice(b"\r\n");
        Bytes::from(out)
    }

    /// The part with this path. In a message that is no multipart, part 1 is its body.
    fn find(&self, path: &[u32]) -> Option<&Part> {
        let mut part = self.root();
        let mut is_message_root = true;
        for &number in path {
            let container = match &part.kind {
                _ if is_message_root => part,
                PartKind::Multipart(_) => part,
                PartKind::Message(inner) => inner,
                PartKind::Leaf => return None,
            };
            is_message_root = false;
            part = match &container.kind {
                PartKind::Multipart(parts) => parts.get(usize::try_from(number).ok()?.checked_sub(1)?)?,
                _ if number == 1 => container,
                _ => return None,
            };
        }
        Some(part)
    }
}
