//! FETCH responses (RFC 3501 section 7.4.2). Large texts are slices of the message, not copies.

use bytes::Bytes;
use mailcluster_message as mime;
use mailcluster_proto_imap::{
    command::{BodySection, Fetch, FetchItem, SectionText},
    date, encode,
};
use mailcluster_store::{Message, ReadError, View};

use super::structure;
use crate::imap::flags;

/// Octets rendered in one go, if one message is not larger.
const BATCH: usize = 256 << 10;
/// Texts from this size on are not copied.
const SLICE: usize = 8 << 10;

/// A message to be told.
pub(in crate::imap) struct Row {
    /// Its message number.
    pub number: u32,
    pub message: Message,
    /// Its flags changed by this command: told even if not asked for.
    pub tell_flags: bool,
}

/// Responses for some of the rows.
pub(super) struct Rendered {
    pub pieces: Vec<Bytes>,
    /// How many rows were done.
    pub rows: usize,
    /// Some do not exist any more.
    pub gone: bool,
    /// Some could not be read.
    pub damaged: bool,
}

/// Must the message's text be read for this?
pub(super) fn needs_body(item: &FetchItem) -> bool {
    match item {
        FetchItem::Envelope | FetchItem::Body | FetchItem::BodyStructure | FetchItem::Section(_) => true,
        FetchItem::Flags | FetchItem::InternalDate | FetchItem::Size | FetchItem::Uid | FetchItem::ModSeq => {
            false
        }
    }
}

/// A response that needs no text.
pub(super) fn plain(out: &mut Vec<u8>, row: &Row, fetch: &Fetch, condstore: bool) {
    let mut writer = Writer { done: Vec::new(), current: std::mem::take(out) };
    writer.response(row, None, fetch, condstore);
    *out = writer.current;
}

/// Octets of the messages that [`with_bodies`] will read in one go.
pub(super) fn octets_at_once(rows: &[Row]) -> u64 {
    let mut octets = 0;
    for row in rows {
        octets += u64::from(row.message.size);
        if octets >= BATCH as u64 {
            break;
        }
    }
    octets
}

/// Responses for as many rows as fit into one batch.
pub(super) fn with_bodies(
    view: &View,
    rows: &[Row],
    fetch: &Fetch,
    condstore: bool,
) -> Result<Rendered, ReadError> {
    let mut writer = Writer { done: Vec::new(), current: Vec::new() };
    let mut rendered = Rendered { pieces: Vec::new(), rows: 0, gone: false, damaged: false };
    let mut octets = 0;
    for row in rows {
        rendered.rows += 1;
        match view.body(row.message.body) {
            Ok(body) => {
                octets += body.len();
                let message = mime::Message::parse(body);
                writer.response(row, Some(&message), fetch, condstore);
            }
            Err(ReadError::NotFound) => rendered.gone = true,
            Err(ReadError::NotServing) => return Err(ReadError::NotServing),
            Err(error @ (ReadError::Damaged(_) | ReadError::Io(_))) => {
                tracing::error!(uid = row.message.uid, %error, "message cannot be read");
                rendered.damaged = true;
            }
        }
        if octets >= BATCH {
            break;
        }
    }
    rendered.pieces = writer.finish();
    Ok(rendered)
}

struct Writer {
    done: Vec<Bytes>,
    current: Vec<u8>,
}

impl Writer {
    fn finish(mut self) -> Vec<Bytes> {
        self.done.push(Bytes::from(self.current));
        self.done
    }

    /// `* n FETCH (item value ...)`
    fn response(&mut self, row: &Row, message: Option<&mime::Message>, fetch: &Fetch, condstore: bool) {
        self.put(format!("* {} FETCH (", row.number).as_bytes());
        let mut first = true;
        for item in &fetch.items {
            self.separate(&mut first);
            self.item(item, row, message);
        }
        if row.tell_flags && !fetch.items.contains(&FetchItem::Flags) {
            self.separate(&mut first);
            self.item(&FetchItem::Flags, row, None);
            if condstore && !fetch.items.contains(&FetchItem::ModSeq) {
                self.separate(&mut first);
                self.item(&FetchItem::ModSeq, row, None);
            }
        }
        self.put(b")\r\n");
    }

    fn separate(&mut self, first: &mut bool) {
        if !std::mem::take(first) {
            self.put(b" ");
        }
    }

    fn put(&mut self, octets: &[u8]) {
        self.current.extend_from_slice(octets);
    }

    fn item(&mut self, item: &FetchItem, row: &Row, message: Option<&mime::Message>) {
        let meta = &row.message;
        match (item, message) {
            (FetchItem::Flags, _) => {
                self.put(b"FLAGS ");
                flags::write(&mut self.current, &meta.flags);
            }
            (FetchItem::InternalDate, _) => {
                let date = date::format_date_time(meta.internal_date, meta.zone_minutes);
                self.put(format!("INTERNALDATE \"{date}\"").as_bytes());
            }
            (FetchItem::Size, _) => self.put(format!("RFC822.SIZE {}", meta.size).as_bytes()),
            (FetchItem::Uid, _) => self.put(format!("UID {}", meta.uid).as_bytes()),
            (FetchItem::ModSeq, _) => self.put(format!("MODSEQ ({})", meta.modseq).as_bytes()),
            (FetchItem::Envelope, Some(message)) => {
                self.put(b"ENVELOPE ");
                structure::envelope(&mut self.current, &message.envelope());
            }
            (FetchItem::Body, Some(message)) => {
                self.put(b"BODY ");
                structure::body(&mut self.current, message, message.root(), false);
            }
            (FetchItem::BodyStructure, Some(message)) => {
                self.put(b"BODYSTRUCTURE ");
                structure::body(&mut self.current, message, message.root(), true);
            }
            (FetchItem::Section(section), Some(message)) => self.section(section, message),
            // `needs_body` says when there is a message.
            (
                FetchItem::Envelope | FetchItem::Body | FetchItem::BodyStructure | FetchItem::Section(_),
                None,
            ) => {}
        }
    }

    fn section(&mut self, section: &BodySection, message: &mime::Message) {
        let label = section.label();
        self.put(&label);
        self.put(b" ");
        let text = match &section.text {
            SectionText::All => mime::SectionText::All,
            SectionText::Header => mime::SectionText::Header,
            SectionText::HeaderFields(names) => mime::SectionText::Fields(names),
            SectionText::HeaderFieldsNot(names) => mime::SectionText::FieldsNot(names),
            SectionText::Text => mime::SectionText::Text,
            SectionText::Mime => mime::SectionText::Mime,
        };
        let Some(octets) = message.section(&section.path, text) else {
            self.put(b"NIL");
            return;
        };
        let octets = match section.partial {
            Some(partial) => {
                let from = usize::try_from(partial.offset).unwrap_or(usize::MAX).min(octets.len());
                let length = usize::try_from(partial.length).unwrap_or(usize::MAX);
                octets.slice(from..from.saturating_add(length).min(octets.len()))
            }
            None => octets,
        };
        encode::literal_header(&mut self.current, octets.len());
        if octets.len() < SLICE {
            self.put(&octets);
        } else {
            self.done.push(Bytes::from(std::mem::take(&mut self.current)));
            self.done.push(octets);
        }
    }
}
