//! Search in what a person would read (RFC 3501 section 6.4.4): decoded, without regard to case.

use mail_parser::{
    DateTime, HeaderValue,
    decoders::{
        base64::base64_decode, charsets::map::charset_decoder, quoted_printable::quoted_printable_decode,
    },
    parsers::MessageStream,
};

use crate::{
    header::{header_fields, unfold},
    message::{Message, Part, PartKind},
};

/// A text to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needle(String);

impl Needle {
    /// Looks for this text in any case.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_lowercase())
    }

    fn is_in(&self, haystack: &str) -> bool {
        self.0.is_empty()
            || memchr::memmem::find(haystack.to_lowercase().as_bytes(), self.0.as_bytes()).is_some()
    }
}

/// A date as the sender wrote it, without regard to time and zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SentDate {
    /// The year.
    pub year: u16,
    /// The month, from 1.
    pub month: u8,
    /// The day, from 1.
    pub day: u8,
}

/// Reads the Date field of a header.
#[must_use]
pub fn sent_date(header: &[u8]) -> Option<SentDate> {
    let value = header_fields(header).find(|field| field.is(b"date")).map(|field| unfold(field.value))?;
    let date = DateTime::parse_rfc822(std::str::from_utf8(&value).ok()?)?;
    let valid = (1..=12).contains(&date.month) && (1..=31).contains(&date.day) && date.year > 0;
    valid.then_some(SentDate { year: date.year, month: date.month, day: date.day })
}

impl Message {
    /// HEADER: has a field of this name this text? An empty text asks whether there is such a field.
    #[must_use]
    pub fn header_has(&self, name: &[u8], needle: &Needle) -> bool {
        header_fields(self.octets(&self.root().header))
            .filter(|field| field.is(name))
            .any(|field| needle.is_in(&decoded_value(field.value)))
    }

    /// BODY: is this text in a text part, of this message or of one inside it?
    #[must_use]
    pub fn body_has(&self, needle: &Needle) -> bool {
        self.part_has(self.root(), needle)
    }

    /// TEXT: is this text in the header or the body?
    #[must_use]
    pub fn text_has(&self, needle: &Needle) -> bool {
        self.any_header_has(self.root(), needle) || self.body_has(needle)
    }

    /// When the sender says it was sent.
    #[must_use]
    pub fn sent_date(&self) -> Option<SentDate> {
        sent_date(self.octets(&self.root().header))
    }

    fn any_header_has(&self, part: &Part, needle: &Needle) -> bool {
        header_fields(self.octets(&part.header)).any(|field| {
            let line = format!("{}: {}", String::from_utf8_lossy(field.name), decoded_value(field.value));
            needle.is_in(&line)
        })
    }

    fn part_has(&self, part: &Part, needle: &Needle) -> bool {
        match &part.kind {
            PartKind::Multipart(parts) => parts.iter().any(|part| self.part_has(part, needle)),
            PartKind::Message(inner) => self.any_header_has(inner, needle) || self.part_has(inner, needle),
            PartKind::Leaf if part.content_type.kind == "text" => needle.is_in(&self.decoded_text(part)),
            PartKind::Leaf => false,
        }
    }

    /// A text part's content in Unicode; what cannot be decoded is taken as it stands.
    fn decoded_text(&self, part: &Part) -> String {
        let raw = self.octets(&part.body);
        let decoded = match part.encoding.as_str() {
            "base64" => base64_decode(raw),
            "quoted-printable" => quoted_printable_decode(raw),
            _ => None,
        };
        let octets = decoded.as_deref().unwrap_or(raw);
        let charset = part.content_type.parameter("charset").unwrap_or(b"us-ascii");
        if let Ok(text) = std::str::from_utf8(octets)
            && (charset.eq_ignore_ascii_case(b"utf-8") || charset.eq_ignore_ascii_case(b"us-ascii"))
        {
            return text.to_owned();
        }
        match charset_decoder(charset) {
            Some(decode) => decode(octets),
            None => String::from_utf8_lossy(octets).into_owned(),
        }
    }
}

/// A field's value with its encoded words (RFC 2047) decoded.
fn decoded_value(value: &[u8]) -> String {
    let mut line = unfold(value);
    if memchr::memmem::find(&line, b"=?").is_none() {
        return String::from_utf8_lossy(&line).into_owned();
    }
    line.push(b'\n');
    match MessageStream::new(&line).parse_unstructured() {
        HeaderValue::Text(text) => text.into_owned(),
        _ => String::from_utf8_lossy(&line).into_owned(),
    }
}
