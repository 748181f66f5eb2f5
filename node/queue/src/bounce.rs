//! Delivery status notifications (RFC 3464): how a sender learns that its mail was not delivered.

use std::fmt::Write;

use bytes::Bytes;
use mailcluster_proto_smtp::rfc5322_date;
use mailcluster_types::DeliveryId;

/// Of the message's header section at most so many octets come back.
const MAX_HEADER: usize = 16 << 10;

/// Why a recipient did not get its mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reason {
    /// RFC 3463.
    pub(crate) status: String,
    /// One line, for people.
    pub(crate) text: String,
    /// What a server said, if one did.
    pub(crate) diagnostic: Option<String>,
}

/// What a notification is about.
pub(crate) struct Failure<'a> {
    pub(crate) delivery: DeliveryId,
    pub(crate) sender: &'a str,
    pub(crate) recipient: &'a str,
    pub(crate) queued_at: i64,
    pub(crate) reason: &'a Reason,
    /// The message that was not delivered, as far as it can be read.
    pub(crate) message: &'a [u8],
}

/// The notification's own id: the same for the same failure, so that no crash makes two of one. Its time is that of
/// the message, its other 80 bits are a hash (FNV-1a, 128 bit) of message and recipient.
pub(crate) fn id_for(delivery: DeliveryId, recipient: &str) -> DeliveryId {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let octets = b"bounce\0".iter().copied().chain(delivery.to_bytes()).chain(recipient.bytes());
    let hash = octets.fold(OFFSET, |hash, octet| (hash ^ u128::from(octet)).wrapping_mul(PRIME));
    let random = (hash ^ (hash >> 80)) & ((1 << 80) - 1);
    DeliveryId(delivery.0 >> 80 << 80 | random)
}

/// Writes the notification: text for people, `message/delivery-status` for programs, and the message's header.
pub(crate) fn write(failure: &Failure<'_>, hostname: &str, now: i64) -> Bytes {
    let id = id_for(failure.delivery, failure.recipient);
    let boundary = format!("=_{id}");
    let date = rfc5322_date(now);
    let Failure { delivery, sender, recipient, reason, .. } = failure;
    let mut out = String::with_capacity(4096);
    let mut add = |text: std::fmt::Arguments<'_>| out.write_fmt(text).is_ok();
    add(format_args!(
        "From: Mail Delivery System <MAILER-DAEMON@{hostname}>\r\nTo: <{sender}>\r\nDate: {date}\r\n\
         Message-ID: <{id}@{hostname}>\r\nSubject: Undelivered mail returned to sender\r\n\
         Auto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report;\r\n\
         \treport-type=delivery-status; boundary=\"{boundary}\"\r\n\r\n\
         --{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    ));
    let text = one_line(&reason.text);
    let said = reason.diagnostic.as_deref().map(one_line);
    add(format_args!(
        "This is the mail system at {hostname}.\r\n\r\nYour message could not be delivered to\r\n\r\n    \
         {recipient}\r\n\r\n{text}.\r\n"
    ));
    if let Some(said) = &said {
        add(format_args!("The answer was: {said}\r\n"));
    }
    add(format_args!("\r\nThe message was accepted as {delivery}. Its header follows.\r\n\r\n"));
    let kind = if recipient.is_ascii() { "rfc822" } else { "utf-8" };
    add(format_args!(
        "--{boundary}\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; {hostname}\r\n\
         Arrival-Date: {}\r\n\r\nFinal-Recipient: {kind}; {recipient}\r\nAction: failed\r\nStatus: {}\r\n",
        rfc5322_date(failure.queued_at),
        reason.status
    ));
    if let Some(said) = &said {
        add(format_args!("Diagnostic-Code: smtp; {said}\r\n"));
    }
    add(format_args!(
        "\r\n--{boundary}\r\nContent-Type: text/rfc822-headers\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    ));
    let mut out = out.into_bytes();
    out.extend_from_slice(header(failure.message));
    out.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    out.into()
}

/// Whole lines of the header section.
fn header(message: &[u8]) -> &[u8] {
    let mut end = 0;
    for line in message.split_inclusive(|b| *b == b'\n') {
        if line == b"\r\n" || end + line.len() > MAX_HEADER {
            break;
        }
        end += line.len();
    }
    &message[..end]
}

/// What came from elsewhere must not make lines of its own.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason() -> Reason {
        Reason {
            status: "5.2.2".into(),
            text: "The mailbox refused it".into(),
            diagnostic: Some("552 5.2.2 over quota\r\n\r\n--evil".into()),
        }
    }

    #[test]
    fn a_notification_tells_people_and_programs() {
        let failure = Failure {
            delivery: DeliveryId(77),
            sender: "ann@example.org",
            recipient: "bob@example.org",
            queued_at: 0,
            reason: &reason(),
            message: b"Subject: hello\r\nX: y\r\n\r\nsecret body\r\n",
        };
        let text = String::from_utf8(write(&failure, "mail.example.org", 60).to_vec()).unwrap();
        for part in [
            "To: <ann@example.org>\r\n",
            "report-type=delivery-status",
            "Auto-Submitted: auto-replied\r\n",
            "Final-Recipient: rfc822; bob@example.org\r\nAction: failed\r\nStatus: 5.2.2\r\n",
            "Diagnostic-Code: smtp; 552 5.2.2 over quota    --evil\r\n",
            "Arrival-Date: Thu, 1 Jan 1970 00:00:00 +0000\r\n",
            "text/rfc822-headers\r\nContent-Transfer-Encoding: 8bit\r\n\r\nSubject: hello\r\nX: y\r\n\r\n--=_",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert!(!text.contains("secret body") && text.ends_with("--\r\n"));
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
    }

    #[test]
    fn the_same_failure_has_the_same_id_and_another_has_another() {
        let (one, two) = (DeliveryId(5 << 80 | 1), DeliveryId(5 << 80 | 2));
        assert_eq!(id_for(one, "a@b"), id_for(one, "a@b"));
        assert_ne!(id_for(one, "a@b"), id_for(one, "a@c"));
        assert_ne!(id_for(one, "a@b"), id_for(two, "a@b"));
        assert_eq!(id_for(one, "a@b").unix_ms(), one.unix_ms());
    }
}
