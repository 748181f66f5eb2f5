//! ENVELOPE and BODYSTRUCTURE on the wire (RFC 3501 sections 7.4.2 and 9).

use mailcluster_message::{Envelope, EnvelopeAddress, Message, Part, PartKind};
use mailcluster_proto_imap::encode::{nstring, string};

/// ```text
/// envelope = "(" env-date SP env-subject SP env-from SP env-sender SP env-reply-to SP env-to SP env-cc SP
///            env-bcc SP env-in-reply-to SP env-message-id ")"
/// ```
pub(super) fn envelope(out: &mut Vec<u8>, envelope: &Envelope) {
    out.push(b'(');
    nstring(out, envelope.date.as_deref());
    out.push(b' ');
    nstring(out, envelope.subject.as_deref());
    let lists =
        [&envelope.from, &envelope.sender, &envelope.reply_to, &envelope.to, &envelope.cc, &envelope.bcc];
    for list in lists {
        out.push(b' ');
        addresses(out, list);
    }
    out.push(b' ');
    nstring(out, envelope.in_reply_to.as_deref());
    out.push(b' ');
    nstring(out, envelope.message_id.as_deref());
    out.push(b')');
}

/// ```text
/// address = "(" addr-name SP addr-adl SP addr-mailbox SP addr-host ")"
/// ```
fn addresses(out: &mut Vec<u8>, list: &[EnvelopeAddress]) {
    if list.is_empty() {
        out.extend_from_slice(b"NIL");
        return;
    }
    out.push(b'(');
    for address in list {
        out.push(b'(');
        nstring(out, address.name.as_deref());
        out.extend_from_slice(b" NIL ");
        nstring(out, address.mailbox.as_deref());
        out.push(b' ');
        nstring(out, address.host.as_deref());
        out.push(b')');
    }
    out.push(b')');
}

/// ```text
/// body           = "(" (body-type-1part / body-type-mpart) ")"
/// body-type-mpart = 1*body SP media-subtype [SP body-ext-mpart]
/// body-type-1part = (body-type-basic / body-type-msg / body-type-text) [SP body-ext-1part]
/// ```
pub(super) fn body(out: &mut Vec<u8>, message: &Message, part: &Part, extended: bool) {
    out.push(b'(');
    if let PartKind::Multipart(parts) = &part.kind {
        for part in parts {
            body(out, message, part, extended);
        }
        out.push(b' ');
        string(out, part.content_type.subtype.as_bytes());
        if extended {
            out.push(b' ');
            parameters(out, &part.content_type.parameters);
            extension(out, message, part);
        }
    } else {
        single(out, message, part, extended);
    }
    out.push(b')');
}

/// ```text
/// body-fields     = body-fld-param SP body-fld-id SP body-fld-desc SP body-fld-enc SP body-fld-octets
/// body-type-text  = media-text SP body-fields SP body-fld-lines
/// body-type-msg   = media-message SP body-fields SP envelope SP body SP body-fld-lines
/// ```
fn single(out: &mut Vec<u8>, message: &Message, part: &Part, extended: bool) {
    let (kind, subtype) = shown_type(part);
    string(out, kind.as_bytes());
    out.push(b' ');
    string(out, subtype.as_bytes());
    out.push(b' ');
    parameters(out, &part.content_type.parameters);
    for name in ["content-id", "content-description"] {
        out.push(b' ');
        nstring(out, message.field(part, name).as_deref());
    }
    out.push(b' ');
    string(out, part.encoding.as_bytes());
    out.extend_from_slice(format!(" {}", part.body.len()).as_bytes());
    if let PartKind::Message(inner) = &part.kind {
        out.push(b' ');
        envelope(out, &message.envelope_of(inner));
        out.push(b' ');
        body(out, message, inner, extended);
    }
    if kind == "text" || matches!(part.kind, PartKind::Message(_)) {
        out.extend_from_slice(format!(" {}", message.lines(&part.body)).as_bytes());
    }
    if extended {
        out.push(b' ');
        nstring(out, message.field(part, "content-md5").as_deref());
        extension(out, message, part);
    }
}

/// A multipart without parts, or an encoded message/rfc822, is no such thing to a client: it must not look for what
/// these types promise.
fn shown_type(part: &Part) -> (&str, &str) {
    let (kind, subtype) = (part.content_type.kind.as_str(), part.content_type.subtype.as_str());
    match (&part.kind, kind, subtype) {
        (PartKind::Message(_), ..) => ("message", "rfc822"),
        (_, "multipart", _) | (_, "message", "rfc822") => ("application", "octet-stream"),
        _ => (kind, subtype),
    }
}

/// ```text
/// body-fld-param = "(" string SP string *(SP string SP string) ")" / nil
/// ```
fn parameters(out: &mut Vec<u8>, parameters: &[(String, Vec<u8>)]) {
    if parameters.is_empty() {
        out.extend_from_slice(b"NIL");
        return;
    }
    for (i, (name, value)) in parameters.iter().enumerate() {
        out.push(if i == 0 { b'(' } else { b' ' });
        string(out, name.as_bytes());
        out.push(b' ');
        string(out, value);
    }
    out.push(b')');
}

/// ```text
/// SP body-fld-dsp SP body-fld-lang SP body-fld-loc
/// ```
fn extension(out: &mut Vec<u8>, message: &Message, part: &Part) {
    out.push(b' ');
    match message.disposition(part) {
        Some(disposition) => {
            out.push(b'(');
            string(out, disposition.kind.as_bytes());
            out.push(b' ');
            parameters(out, &disposition.parameters);
            out.push(b')');
        }
        None => out.extend_from_slice(b"NIL"),
    }
    out.push(b' ');
    let languages = message.languages(part);
    if languages.is_empty() {
        out.extend_from_slice(b"NIL");
    } else {
        for (i, language) in languages.iter().enumerate() {
            out.push(if i == 0 { b'(' } else { b' ' });
            string(out, language);
        }
        out.push(b')');
    }
    out.push(b' ');
    nstring(out, message.field(part, "content-location").as_deref());
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn shown(raw: &'static [u8], extended: bool) -> String {
        let message = Message::parse(Bytes::from_static(raw));
        let mut out = Vec::new();
        body(&mut out, &message, message.root(), extended);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn structures() {
        assert_eq!(
            shown(b"Subject: x\r\n\r\na\r\nb\r\n", false),
            "(\"text\" \"plain\" NIL NIL NIL \"7bit\" 6 2)"
        );
        let mixed = concat!(
            "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nx\r\n",
            "--b\r\nContent-Type: image/png; name=\"a b\"\r\nContent-Transfer-Encoding: Base64\r\n",
            "Content-ID: <i>\r\nContent-Disposition: attachment; filename=f\r\nContent-Language: en, de\r\n\r\nAAAA\r\n--b--\r\n"
        );
        assert_eq!(
            shown(mixed.as_bytes(), true),
            concat!(
                "((\"text\" \"plain\" NIL NIL NIL \"7bit\" 1 0 NIL NIL NIL NIL)",
                "(\"image\" \"png\" (\"name\" \"a b\") \"<i>\" NIL \"base64\" 4 NIL ",
                "(\"attachment\" (\"filename\" \"f\")) (\"en\" \"de\") NIL)",
                " \"mixed\" (\"boundary\" \"b\") NIL NIL NIL)"
            )
        );
        assert_eq!(
            shown(b"Content-Type: message/rfc822\r\n\r\nSubject: s\r\nFrom: A <a@b>\r\n\r\nhi", false),
            concat!(
                "(\"message\" \"rfc822\" NIL NIL NIL \"7bit\" 31 (NIL \"s\" ((\"A\" NIL \"a\" \"b\")) ",
                "((\"A\" NIL \"a\" \"b\")) ((\"A\" NIL \"a\" \"b\")) NIL NIL NIL NIL NIL) ",
                "(\"text\" \"plain\" NIL NIL NIL \"7bit\" 2 0) 3)"
            )
        );
        assert_eq!(
            shown(b"Content-Type: multipart/mixed\r\n\r\nx", false),
            "(\"application\" \"octet-stream\" NIL NIL NIL \"7bit\" 1)"
        );
    }
}
