//! Search in what a person would read (RFC 3501 section 6.4.4): decoded, without regard to case.

use mail_parser::{DateTime, HeaderValue, parsers::MessageStream};

use crate::{
    header::{header_fields, unfold},
    message::{Message, Part, PartKind},
    text,
};

/// Octets of a header field that are looked at: longer ones are no text for people.
const MAX_FIELD: usize = 256 << 10;

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
        self.is_in_lower(haystack.to_lowercase().as_bytes())
    }

    fn is_in_lower(&self, haystack: &[u8]) -> bool {
        self.0.is_empty() || memchr::memmem::find(haystack, self.0.as_bytes()).is_some()
    }
}

/// Where a text is in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// In a field of the header.
    pub header: bool,
    /// In a text part, of this message or of one inside it, or in the header of one inside.
    pub body: bool,
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

    /// Where each of these texts is, found in one pass that decodes a piece of the message at a time.
    #[must_use]
    pub fn look_for(&self, needles: &[Needle]) -> Vec<Sighting> {
        let (mut header, mut body) = (Seeker::new(needles), Seeker::new(needles));
        self.look_in_header(self.root(), &mut header);
        self.look_in_part(self.root(), &mut body);
        header.found.into_iter().zip(body.found).map(|(header, body)| Sighting { header, body }).collect()
    }

    /// When the sender says it was sent.
    #[must_use]
    pub fn sent_date(&self) -> Option<SentDate> {
        sent_date(self.octets(&self.root().header))
    }

    fn look_in_header(&self, part: &Part, seeker: &mut Seeker<'_>) {
        for field in header_fields(self.octets(&part.header)) {
            if seeker.is_done() {
                return;
            }
            let line = format!("{}: {}", String::from_utf8_lossy(field.name), decoded_value(field.value));
            seeker.look_at(line.to_lowercase().as_bytes());
        }
    }

    fn look_in_part(&self, part: &Part, seeker: &mut Seeker<'_>) {
        if seeker.is_done() {
            return;
        }
        match &part.kind {
            PartKind::Multipart(parts) => parts.iter().for_each(|part| self.look_in_part(part, seeker)),
            PartKind::Message(inner) => {
                self.look_in_header(inner, seeker);
                self.look_in_part(inner, seeker);
            }
            PartKind::Leaf if part.content_type.kind == "text" => self.look_in_text(part, seeker),
            PartKind::Leaf => {}
        }
    }

    fn look_in_text(&self, part: &Part, seeker: &mut Seeker<'_>) {
        let charset = part.content_type.parameter("charset").unwrap_or(b"us-ascii");
        // The end of the piece before, for what lies across two of them.
        let mut seam = Vec::new();
        text::show(self.octets(&part.body), &part.encoding, charset, |piece| {
            seam.extend_from_slice(piece.to_lowercase().as_bytes());
            seeker.look_at(&seam);
            seam.drain(..seam.len().saturating_sub(seeker.longest));
            seeker.is_done()
        });
    }
}

/// Looks for several texts at once.
struct Seeker<'a> {
    needles: &'a [Needle],
    found: Vec<bool>,
    /// Octets of the longest one.
    longest: usize,
}

impl<'a> Seeker<'a> {
    fn new(needles: &'a [Needle]) -> Self {
        let longest = needles.iter().map(|needle| needle.0.len()).max().unwrap_or(0);
        Self { needles, found: vec![false; needles.len()], longest }
    }

    fn look_at(&mut self, lower: &[u8]) {
        for (needle, found) in self.needles.iter().zip(&mut self.found) {
            *found = *found || needle.is_in_lower(lower);
        }
    }

    fn is_done(&self) -> bool {
        self.found.iter().all(|found| *found)
    }
}

/// A field's value with its encoded words (RFC 2047) decoded.
#[must_use]
pub fn decoded_value(value: &[u8]) -> String {
    let mut line = unfold(value.get(..MAX_FIELD).unwrap_or(value));
    if memchr::memmem::find(&line, b"=?").is_none() {
        return String::from_utf8_lossy(&line).into_owned();
    }
    line.push(b'\n');
    match MessageStream::new(&line).parse_unstructured() {
        HeaderValue::Text(text) => text.into_owned(),
        _ => String::from_utf8_lossy(&line).into_owned(),
    }
}
