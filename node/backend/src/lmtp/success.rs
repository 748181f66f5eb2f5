//! Reports of success (RFC 3461): who asked by `NOTIFY=SUCCESS` hears that the mail is in the mailbox.
//!
//! The report is put into this store's own queue, under an id that is derived from what it is about, before the delivery
//! is acknowledged: a message that is given once more makes no second one. Whether its way leads out or to an account
//! of ours is found out when it is tried.

use bytes::Bytes;
use mailcluster_outbound::{
    Status,
    dsn::{self, Action, Report, Reported},
};
use mailcluster_store::{Enqueue, QueueRecipient};
use mailcluster_types::DeliveryId;

use super::envelope::{Envelope, Recipient};
use crate::SessionContext;

/// The report on a recipient that has its mail; nothing where nobody asked for one.
pub(super) fn report(
    envelope: &Envelope,
    recipient: &Recipient,
    message: &Bytes,
    (hostname, now): (&str, i64),
) -> Option<Enqueue> {
    if !recipient.dsn.wants_success() {
        return None;
    }
    let id = DeliveryId(dsn::report_id(envelope.delivery.0, &recipient.address, Action::Delivered));
    let reported = Reported {
        address: recipient.address.clone(),
        original: recipient.dsn.original.clone(),
        notify: recipient.dsn.notify,
        status: Status::new(2, 0, 0),
        text: "It is in the mailbox".to_owned(),
        remote: None,
        diagnostic: None,
        last_attempt: None,
        retry_until: None,
    };
    let report = Report {
        id: &id.to_string(),
        hostname,
        sender: &envelope.sender,
        accepted_as: &envelope.delivery.to_string(),
        envelope_id: envelope.dsn.envelope_id.as_deref(),
        arrived: now,
        now,
        utf8: envelope.utf8,
        ret: envelope.dsn.ret,
        message,
        is_whole: true,
        action: Action::Delivered,
        recipients: &[reported],
    };
    let written = dsn::write(&report)?;
    Some(Enqueue {
        delivery: id,
        sender: String::new(),
        at: now,
        params: if written.utf8 { "SMTPUTF8".to_owned() } else { String::new() },
        recipients: vec![QueueRecipient::new(envelope.sender.clone(), now)],
        body: written.octets.into(),
    })
}

/// Signs it, where the domain of this host has keys. The mail is there already: a report that nobody can sign now goes as
/// it is.
pub(super) async fn signed(context: &SessionContext, report: Enqueue) -> Enqueue {
    let Some(directory) = &context.sending.directory else { return report };
    let unsigned = match directory.signing_keys(&context.hostname).await {
        Ok(keys) => match mailcluster_dkim::sign_whole(&keys, &report.body, report.at) {
            Ok(body) => return Enqueue { body: body.into(), ..report },
            Err(error) => error.to_string(),
        },
        Err(error) => error.to_string(),
    };
    tracing::warn!(id = %report.delivery, why = unsigned, "a report of success goes unsigned");
    report
}

#[cfg(test)]
mod tests {
    use mailcluster_proto_smtp::{MailDsn, MailParams, RcptDsn, RcptParams};

    use super::*;
    use crate::lmtp::envelope::Way;

    fn written(sender: &str, mail: &str, rcpt: &str) -> Option<Enqueue> {
        let dsn: RcptDsn = RcptParams::parse(rcpt).unwrap().dsn;
        let mail: MailDsn = MailParams::parse(mail).unwrap().dsn;
        let envelope = Envelope {
            delivery: DeliveryId(9),
            drawn_here: false,
            sender: sender.into(),
            utf8: false,
            size: 0,
            dsn: mail,
            checked: mailcluster_lmtp::Checked::default(),
            recipients: Vec::new(),
        };
        let (address, way) = ("bob@example.org".into(), Way::Deliver(Vec::new()));
        let recipient = Recipient { address, way, dsn, scripted: Vec::new() };
        let message = Bytes::from_static(b"Subject: hi\r\n\r\nsecret\r\n");
        report(&envelope, &recipient, &message, ("mail.example.org", 60))
    }

    #[test]
    fn only_who_asked_hears_of_success() {
        for (sender, rcpt, asked) in [
            ("ann@example.net", "", false),
            ("ann@example.net", "NOTIFY=NEVER", false),
            ("ann@example.net", "NOTIFY=FAILURE,DELAY", false),
            ("ann@example.net", "NOTIFY=FAILURE,SUCCESS", true),
            ("", "NOTIFY=SUCCESS", false),
        ] {
            assert_eq!(written(sender, "", rcpt).is_some(), asked, "{sender} {rcpt}");
        }
        let rcpt = "NOTIFY=SUCCESS ORCPT=rfc822;b@alias.test";
        let found = written("ann@example.net", "ENVID=Q1 RET=FULL", rcpt).unwrap();
        assert_eq!((found.sender.as_str(), found.recipients[0].address.as_str()), ("", "ann@example.net"));
        assert_eq!(found.delivery, written("ann@example.net", "", rcpt).unwrap().delivery);
        let text = String::from_utf8(found.body.to_vec()).unwrap();
        for part in [
            "Original-Envelope-Id: Q1\r\n",
            "Original-Recipient: rfc822; b@alias.test\r\n",
            "Final-Recipient: rfc822; bob@example.org\r\nAction: delivered\r\nStatus: 2.0.0\r\n",
            "Subject: hi\r\n",
        ] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
        assert!(!text.contains("secret"), "of mail that arrived the text does not come back");
    }
}
