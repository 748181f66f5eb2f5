//! Delivery status notifications (RFC 3464): how a sender learns what became of its mail. Their octets are
//! `mailcluster_outbound::dsn`'s.

use bytes::Bytes;
use mailcluster_lmtp::Wishes;
use mailcluster_outbound::{
    Status,
    dsn::{self, Action, Report, Reported},
};
use mailcluster_proto_smtp::{MailDsn, MailParams, RcptDsn, RcptParams};
use mailcluster_store::{QueueItem, QueueRecipient};
use mailcluster_types::DeliveryId;

/// Why a recipient did not get its mail (yet).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reason {
    /// RFC 3463.
    pub(crate) status: Status,
    /// One sentence, for people.
    pub(crate) text: String,
    /// The server that was asked, by name, when it is not one of ours.
    pub(crate) remote: Option<String>,
    /// What a server said, if one did.
    pub(crate) diagnostic: Option<String>,
    /// Until when it will be tried; of interest for what is delayed.
    pub(crate) retry_until: Option<i64>,
}

impl Reason {
    /// One that no server gave.
    pub(crate) fn new(status: Status, text: &str) -> Self {
        Self { status, text: text.to_owned(), remote: None, diagnostic: None, retry_until: None }
    }
}

/// A notification that is to be queued.
pub(crate) struct Notification {
    pub(crate) id: DeliveryId,
    /// Parameters of MAIL that it needs.
    pub(crate) params: String,
    pub(crate) body: Bytes,
}

/// Writes the notification about a recipient: the same at each call, as far as its id goes, so that no crash makes two
/// of one. `message` is the beginning of the message. None when nobody is to be told.
pub(crate) fn write(
    (item, recipient): (&QueueItem, &QueueRecipient),
    (action, reason): (Action, &Reason),
    message: &[u8],
    (hostname, now): (&str, i64),
) -> Option<Notification> {
    let id = DeliveryId(dsn::report_id(item.delivery.0, &recipient.address, action));
    let (mail, rcpt) = (of_mail(item), of_recipient(recipient));
    let reported = Reported {
        address: recipient.address.clone(),
        original: rcpt.original,
        notify: rcpt.notify,
        status: reason.status,
        text: reason.text.clone(),
        remote: reason.remote.clone(),
        diagnostic: reason.diagnostic.clone(),
        last_attempt: None,
        retry_until: reason.retry_until,
    };
    let report = Report {
        id: &id.to_string(),
        hostname,
        sender: &item.sender,
        accepted_as: &item.delivery.to_string(),
        envelope_id: mail.envelope_id.as_deref(),
        arrived: item.queued_at,
        now,
        utf8: is_utf8(item),
        ret: mail.ret,
        message,
        is_whole: message.len() as u64 >= u64::from(item.size),
        action,
        recipients: &[reported],
    };
    let written = dsn::write(&report)?;
    let params = if written.utf8 { UTF8.to_owned() } else { String::new() };
    Some(Notification { id, params, body: written.octets.into() })
}

/// Was it accepted with SMTPUTF8?
pub(crate) fn is_utf8(item: &QueueItem) -> bool {
    item.params.split(' ').any(|param| param == UTF8)
}

/// What its sender asks for reports on it.
pub(crate) fn of_mail(item: &QueueItem) -> MailDsn {
    MailParams::parse(&item.params).map(|params| params.dsn).unwrap_or_default()
}

/// What its sender asks for reports on this recipient.
pub(crate) fn of_recipient(recipient: &QueueRecipient) -> RcptDsn {
    RcptParams::parse(&recipient.params).map(|params| params.dsn).unwrap_or_default()
}

/// The same, as stores are told of it.
pub(crate) fn wishes(item: &QueueItem) -> Wishes {
    let asked = item.recipients.iter().map(|r| (r.address.clone(), of_recipient(r)));
    Wishes { mail: of_mail(item), recipients: asked.filter(|(_, dsn)| !dsn.is_empty()).collect() }
}

/// Is its sender to be told?
pub(crate) fn is_wanted(item: &QueueItem, recipient: &QueueRecipient, action: Action) -> bool {
    dsn::is_wanted(&item.sender, of_recipient(recipient).notify, action)
}

const UTF8: &str = "SMTPUTF8";

#[cfg(test)]
mod tests {
    use super::*;

    fn item(params: &str) -> QueueItem {
        QueueItem {
            delivery: DeliveryId(77),
            sender: "ann@example.org".into(),
            queued_at: 0,
            size: 1,
            body: 1,
            params: params.into(),
            recipients: Vec::new(),
        }
    }

    #[test]
    fn a_notification_tells_people_and_programs() {
        let reason = Reason {
            diagnostic: Some("552 5.2.2 over quota\r\n\r\n--evil".into()),
            remote: Some("mx.example.net".into()),
            ..Reason::new(Status::new(5, 2, 2), "The mailbox refused it")
        };
        let bob = QueueRecipient::new("bob@example.net".into(), 0);
        let message = b"Subject: hello\r\nX: y\r\n\r\nsecret body\r\n";
        let at = ("mail.example.org", 60);
        let written = write((&item(""), &bob), (Action::Failed, &reason), message, at).unwrap();
        let text = String::from_utf8(written.body.to_vec()).unwrap();
        for part in [
            "To: <ann@example.org>\r\n",
            "report-type=delivery-status",
            "Auto-Submitted: auto-replied\r\n",
            "Final-Recipient: rfc822; bob@example.net\r\nAction: failed\r\nStatus: 5.2.2\r\n",
            "Remote-MTA: dns; mx.example.net\r\n",
            "Diagnostic-Code: smtp; 552 5.2.2 over quota    --evil\r\n",
            "Arrival-Date: Thu, 1 Jan 1970 00:00:00 +0000\r\n",
            "\r\n\r\nSubject: hello\r\nX: y\r\n\r\n--=_",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert!(!text.contains("secret body") && text.ends_with("--\r\n"));
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
        assert_eq!(written.params, "");
    }

    #[test]
    fn a_report_on_mail_with_utf8_needs_smtputf8_only_where_it_has_some() {
        let reason = Reason::new(Status::new(5, 1, 1), "There is no such mailbox");
        for (params, address, needs) in [
            ("", "b\u{f6}b@example.net", ""),
            ("SMTPUTF8", "b\u{f6}b@example.net", "SMTPUTF8"),
            ("SMTPUTF8", "bob@example.net", ""),
        ] {
            let bob = QueueRecipient::new(address.into(), 0);
            let written =
                write((&item(params), &bob), (Action::Failed, &reason), b"", ("mail.example.org", 60))
                    .unwrap();
            assert_eq!(written.params, needs, "{params} {address}");
            assert!(needs == "SMTPUTF8" || written.body.is_ascii());
        }
    }

    #[test]
    fn the_same_failure_has_the_same_id_and_a_delay_has_another() {
        let reason = Reason::new(Status::new(4, 4, 1), "no answer");
        let bob = QueueRecipient::new("bob@example.net".into(), 0);
        let id = |action| write((&item(""), &bob), (action, &reason), b"", ("h", 1)).unwrap().id;
        assert_eq!(id(Action::Failed), id(Action::Failed));
        assert_ne!(id(Action::Failed), id(Action::Delayed));
        let nobody = QueueItem { sender: String::new(), ..item("") };
        assert!(write((&nobody, &bob), (Action::Failed, &reason), b"", ("h", 1)).is_none());
    }
}
