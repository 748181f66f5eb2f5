//! ENVELOPE (RFC 3501 section 7.4.2).

use crate::{
    address::{EnvelopeAddress, addresses},
    header::{header_fields, unfold},
};

/// The parts of ENVELOPE in its order. Texts are unfolded and otherwise as sent; `None` is NIL.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Date
    pub date: Option<Vec<u8>>,
    /// Subject
    pub subject: Option<Vec<u8>>,
    /// From
    pub from: Vec<EnvelopeAddress>,
    /// Sender; From when there is none.
    pub sender: Vec<EnvelopeAddress>,
    /// Reply-To; From when there is none.
    pub reply_to: Vec<EnvelopeAddress>,
    /// To
    pub to: Vec<EnvelopeAddress>,
    /// Cc
    pub cc: Vec<EnvelopeAddress>,
    /// Bcc
    pub bcc: Vec<EnvelopeAddress>,
    /// In-Reply-To
    pub in_reply_to: Option<Vec<u8>>,
    /// Message-ID
    pub message_id: Option<Vec<u8>>,
}

impl Envelope {
    /// Reads a header. Of a text field given twice the first counts; address fields given twice are joined.
    #[must_use]
    pub fn parse(header: &[u8]) -> Self {
        let mut envelope = Self::default();
        for field in header_fields(header) {
            let name = field.name.to_ascii_lowercase();
            let text = match name.as_slice() {
                b"date" => &mut envelope.date,
                b"subject" => &mut envelope.subject,
                b"in-reply-to" => &mut envelope.in_reply_to,
                b"message-id" => &mut envelope.message_id,
                name => {
                    let list = match name {
                        b"from" => &mut envelope.from,
                        b"sender" => &mut envelope.sender,
                        b"reply-to" => &mut envelope.reply_to,
                        b"to" => &mut envelope.to,
                        b"cc" => &mut envelope.cc,
                        b"bcc" => &mut envelope.bcc,
                        _ => continue,
                    };
                    list.extend(addresses(field.value));
                    continue;
                }
            };
            text.get_or_insert_with(|| unfold(field.value));
        }
        if envelope.sender.is_empty() {
            envelope.sender.clone_from(&envelope.from);
        }
        if envelope.reply_to.is_empty() {
            envelope.reply_to.clone_from(&envelope.from);
        }
        envelope
    }
}
