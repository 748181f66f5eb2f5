//! Messages as IMAP and POP3 show them: header fields, MIME structure, ENVELOPE, sections, and search in what a
//! person would read.
//!
//! Structure is found by a walk of our own over the octets, bounded in depth and number of parts, since IMAP's
//! section numbers and sizes are about octets as they were sent: nothing is decoded or copied for them.
//! mail-parser (pinned, behind this crate alone) decodes what people read: transfer encodings, charsets,
//! RFC 2047 words and dates.

mod address;
mod content;
mod envelope;
mod header;
mod message;
mod search;
mod section;
mod strings;
mod structure;
mod subject;
mod text;

pub use address::{EnvelopeAddress, addresses};
pub use content::{ContentType, Disposition};
pub use envelope::Envelope;
pub use header::{Field, header_end, header_fields, unfold};
pub use message::{Message, Part, PartKind};
pub use search::{Needle, SentDate, Sighting, decoded_value, sent_date};
pub use section::SectionText;
pub use subject::subject;
