//! A message and its MIME parts.

use std::ops::Range;

use bytes::Bytes;

use crate::{
    content::{ContentType, Disposition},
    envelope::Envelope,
    structure,
};

/// A message with its structure.
#[derive(Debug, Clone)]
pub struct Message {
    raw: Bytes,
    root: Part,
}

/// An entity of RFC 2045: a header and a body, as places in the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The header with its empty line.
    pub header: Range<usize>,
    /// The body, undecoded.
    pub body: Range<usize>,
    /// Its type; the default when none is given.
    pub content_type: ContentType,
    /// Content-Transfer-Encoding in lower case; `7bit` when none is given.
    pub encoding: String,
    /// What is inside.
    pub kind: PartKind,
}

/// What is inside a part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartKind {
    /// Nothing to descend into.
    Leaf,
    /// multipart/*: at least one part.
    Multipart(Vec<Part>),
    /// message/rfc822: a message.
    Message(Box<Part>),
}

impl Message {
    /// Finds the structure. Never fails: what is broken becomes a leaf.
    #[must_use]
    pub fn parse(raw: Bytes) -> Self {
        let root = structure::parse(&raw);
        Self { raw, root }
    }

    /// The message's octets.
    #[must_use]
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The outermost part.
    #[must_use]
    pub fn root(&self) -> &Part {
        &self.root
    }

    /// The octets of a range, which share the message's memory.
    #[must_use]
    pub fn slice(&self, range: &Range<usize>) -> Bytes {
        self.raw.slice(range.start.min(self.raw.len())..range.end.min(self.raw.len()))
    }

    /// The message's envelope.
    #[must_use]
    pub fn envelope(&self) -> Envelope {
        self.envelope_of(&self.root)
    }

    /// The envelope of the message that begins with this part (message/rfc822).
    #[must_use]
    pub fn envelope_of(&self, part: &Part) -> Envelope {
        Envelope::parse(self.octets(&part.header))
    }

    /// How many lines a range has.
    #[must_use]
    pub fn lines(&self, range: &Range<usize>) -> usize {
        crate::header::lines(&self.raw, range)
    }

    /// A header field of a part, unfolded: Content-ID, Content-Description, Content-MD5, ...
    #[must_use]
    pub fn field(&self, part: &Part, name: &str) -> Option<Vec<u8>> {
        crate::header::first(self.octets(&part.header), name.as_bytes())
    }

    /// A part's Content-Disposition.
    #[must_use]
    pub fn disposition(&self, part: &Part) -> Option<Disposition> {
        Disposition::parse(&self.field(part, "content-disposition")?)
    }

    /// A part's Content-Language tags.
    #[must_use]
    pub fn languages(&self, part: &Part) -> Vec<Vec<u8>> {
        let value = self.field(part, "content-language").unwrap_or_default();
        value
            .split(|&b| b == b',')
            .map(|tag| tag.trim_ascii().to_vec())
            .filter(|tag| !tag.is_empty())
            .take(20)
            .collect()
    }

    pub(crate) fn octets(&self, range: &Range<usize>) -> &[u8] {
        self.raw.get(range.clone()).unwrap_or_default()
    }
}
