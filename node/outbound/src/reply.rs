//! What an answer means for a recipient: delivered, to be tried again, or sent back (RFC 5321 sections 3.1, 4.2, 4.3.2
//! and 4.5.4; RFC 3463; RFC 7504).
//!
//! Where the RFCs leave room:
//! - A greeting, EHLO or STARTTLS that is refused is the host's matter and not the message's: the next host is tried,
//!   and when there is none the mail waits, also after 5xx (a host that is set up wrong, or a block list, is often set
//!   right within days; the delay notice tells the sender meanwhile). Only 521 of every host, which RFC 7504 made for
//!   it, says that there is no mail there for good.
//! - 4xx is about the recipient or the message, and the mail waits: another host of the same site would greylist it
//!   once more. Only when it names the host's own state (x.3.y, x.4.y) or is 421, another host is tried at once.
//! - 530 and 538 are about how the session was led (no TLS, no AUTH), which may differ next time: the mail waits.
//! - A refused AUTH is a fault of our configuration: the mail waits.
//! - 552 to RCPT is what servers after RFC 821 say when they take no more recipients (RFC 5321 section 4.5.3.1.10):
//!   when others were accepted before, and nothing says that it is the mailbox, it means another transaction.
//! - A connection lost after the end of the message leaves it open whether the message was taken. It is tried again,
//!   as lost mail is worse than mail that comes twice: the one window that SMTP cannot close, so it is counted.

use mailcluster_proto_smtp::{Reply, Stage};

use crate::Status;

/// What becomes of a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// The server has taken it over.
    Delivered,
    /// To the same host, in another transaction.
    Again,
    /// To the next host now, or later when there is none.
    NextHost,
    /// Later.
    Defer,
    /// Never: the sender is told.
    Bounce,
    /// Later, and it may arrive twice.
    Unknown,
}

/// What was heard of a recipient.
#[derive(Debug, Clone, Copy)]
pub struct Heard<'a> {
    /// What the answer is about.
    pub stage: Stage,
    /// The answer; `None` when the connection failed.
    pub reply: Option<&'a Reply>,
    /// Recipients that the same transaction had accepted before this one.
    pub accepted_before: usize,
}

/// An answer, judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// What becomes of the recipient.
    pub action: Action,
    /// Why, for reports.
    pub status: Status,
    /// The host says that it never takes mail (RFC 7504).
    pub host_closed: bool,
}

impl Verdict {
    fn new(action: Action, status: Status) -> Self {
        Self { action, status, host_closed: false }
    }
}

/// Judges an answer.
#[must_use]
pub fn judge(heard: Heard<'_>) -> Verdict {
    let Some(reply) = heard.reply else { return no_answer(heard.stage) };
    let status = status_of(heard.stage, reply);
    match (heard.stage, reply.code) {
        (Stage::Dot, 200..300) => Verdict::new(Action::Delivered, status),
        // No answer that a session hands on; whatever was said, nothing was taken.
        (_, 0..400) => Verdict::new(Action::NextHost, Status::new(4, 5, 0)),
        (Stage::Connect, 521) => {
            Verdict { host_closed: true, ..Verdict::new(Action::NextHost, status.with_class(4)) }
        }
        (Stage::Connect | Stage::Hello | Stage::StartTls, _) | (_, 421 | 530 | 538) => {
            Verdict::new(Action::NextHost, status.with_class(4))
        }
        (Stage::Auth, _) => Verdict::new(Action::Defer, status.with_class(4)),
        (Stage::Rcpt, 452 | 552) if is_too_many(heard, status, reply) => {
            Verdict::new(Action::Again, Status::new(4, 5, 3))
        }
        (_, 400..500) => {
            let host = reply.status().is_some() && matches!(status.subject, 3 | 4);
            Verdict::new(if host { Action::NextHost } else { Action::Defer }, status)
        }
        _ => Verdict::new(Action::Bounce, status),
    }
}

/// Every host was tried, and each said that another should be: what becomes of the recipient now.
#[must_use]
pub fn after_the_last_host(verdicts: &[Verdict]) -> Verdict {
    let Some(last) = verdicts.last() else {
        return Verdict::new(Action::Defer, Status::new(4, 4, 1));
    };
    match verdicts.iter().all(|verdict| verdict.host_closed) {
        true => Verdict::new(Action::Bounce, last.status.with_class(5)),
        false => Verdict::new(Action::Defer, last.status.with_class(4)),
    }
}

fn no_answer(stage: Stage) -> Verdict {
    match stage {
        Stage::Connect => Verdict::new(Action::NextHost, Status::new(4, 4, 1)),
        Stage::Dot => Verdict::new(Action::Unknown, Status::new(4, 4, 2)),
        _ => Verdict::new(Action::NextHost, Status::new(4, 4, 2)),
    }
}

/// "No more recipients in this transaction", told from "no room in this mailbox".
fn is_too_many(heard: Heard<'_>, status: Status, reply: &Reply) -> bool {
    let said = reply.status().is_some();
    heard.accepted_before > 0 && (!said || (status.subject, status.detail) == (5, 3))
}

/// What the server said, when it fits its code; else what its code says.
fn status_of(stage: Stage, reply: &Reply) -> Status {
    let class = match reply.code {
        0..400 => 2,
        400..500 => 4,
        _ => 5,
    };
    let said = reply.status().and_then(Status::parse).map(|status| status.with_class(class));
    said.unwrap_or_else(|| by_code(stage, reply.code).with_class(class))
}

/// RFC 5321 section 4.2.3 in the words of RFC 3463; the class is the code's own.
fn by_code(stage: Stage, code: u16) -> Status {
    let (subject, detail) = match code {
        421 => (3, 2),
        450 => (2, 0),
        451 => (3, 0),
        452 if stage == Stage::Rcpt => (5, 3),
        452 => (3, 1),
        500 => (5, 2),
        501 | 504 | 555 => (5, 4),
        502 | 503 => (5, 1),
        521 => (3, 2),
        454 | 530 | 534 | 538 => (7, 0),
        535 => (7, 8),
        551 => (1, 6),
        552 if stage == Stage::Rcpt => (2, 2),
        552 => (3, 4),
        553 => (1, 3),
        556 => (1, 10),
        _ => (0, 0),
    };
    Status::new(5, subject, detail)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Action::*, *};

    const STAGES: [Stage; 9] = [
        Stage::Connect,
        Stage::Hello,
        Stage::StartTls,
        Stage::Auth,
        Stage::Mail,
        Stage::Rcpt,
        Stage::Data,
        Stage::Body,
        Stage::Dot,
    ];

    fn verdict(stage: Stage, text: &str, accepted_before: usize) -> (Action, String) {
        let (code, rest) = text.split_at(text.len().min(3));
        let reply = code.parse().ok().map(|code| Reply::with(code, rest.trim_start().to_owned()));
        let verdict = judge(Heard { stage, reply: reply.as_ref(), accepted_before });
        (verdict.action, verdict.status.to_string())
    }

    /// Stage, answer, what becomes of the recipient, and its status.
    const ANSWERS: &[(Stage, &str, Action, &str)] = &[
        // The connection failed.
        (Stage::Connect, "", NextHost, "4.4.1"),
        (Stage::Hello, "", NextHost, "4.4.2"),
        (Stage::Rcpt, "", NextHost, "4.4.2"),
        (Stage::Body, "", NextHost, "4.4.2"),
        (Stage::Dot, "", Unknown, "4.4.2"),
        // The host does not want to talk.
        (Stage::Connect, "421 busy", NextHost, "4.3.2"),
        (Stage::Connect, "450 x", NextHost, "4.2.0"),
        (Stage::Connect, "554 no SMTP service here", NextHost, "4.0.0"),
        (Stage::Connect, "554 5.7.1 you are on a list", NextHost, "4.7.1"),
        (Stage::Connect, "521 never", NextHost, "4.3.2"),
        (Stage::Hello, "550 5.7.1 bad name", NextHost, "4.7.1"),
        (Stage::Hello, "451 later", NextHost, "4.3.0"),
        (Stage::StartTls, "454 4.7.0 no", NextHost, "4.7.0"),
        (Stage::StartTls, "501 no", NextHost, "4.5.4"),
        (Stage::Auth, "535 5.7.8 wrong", Defer, "4.7.8"),
        (Stage::Auth, "454 later", Defer, "4.7.0"),
        // Closing, whenever.
        (Stage::Mail, "421 4.3.2 bye", NextHost, "4.3.2"),
        (Stage::Rcpt, "421 4.7.0 too fast", NextHost, "4.7.0"),
        (Stage::Dot, "421 bye", NextHost, "4.3.2"),
        // Not in the way that the session was led.
        (Stage::Mail, "530 5.7.0 Must issue a STARTTLS command first", NextHost, "4.7.0"),
        (Stage::Rcpt, "538 x", NextHost, "4.7.0"),
        // Not now.
        (Stage::Rcpt, "450 4.7.1 greylisted", Defer, "4.7.1"),
        (Stage::Rcpt, "451 greylisted", Defer, "4.3.0"),
        (Stage::Rcpt, "452 4.2.2 mailbox full", Defer, "4.2.2"),
        (Stage::Rcpt, "451 4.3.0 out of order", NextHost, "4.3.0"),
        (Stage::Mail, "451 4.4.3 no DNS", NextHost, "4.4.3"),
        (Stage::Data, "451 x", Defer, "4.3.0"),
        (Stage::Dot, "452 4.3.1 disk full", NextHost, "4.3.1"),
        (Stage::Dot, "450 4.7.0 content later", Defer, "4.7.0"),
        // Never.
        (Stage::Mail, "550 5.1.8 bad sender", Bounce, "5.1.8"),
        (Stage::Mail, "552 too big", Bounce, "5.3.4"),
        (Stage::Rcpt, "550 5.1.1 who?", Bounce, "5.1.1"),
        (Stage::Rcpt, "550 who?", Bounce, "5.0.0"),
        (Stage::Rcpt, "551 try <x@y>", Bounce, "5.1.6"),
        (Stage::Rcpt, "552 full", Bounce, "5.2.2"),
        (Stage::Rcpt, "553 what?", Bounce, "5.1.3"),
        (Stage::Rcpt, "556 no mail", Bounce, "5.1.10"),
        (Stage::Data, "554 5.5.1 none", Bounce, "5.5.1"),
        (Stage::Body, "552 5.3.4 too big", Bounce, "5.3.4"),
        (Stage::Dot, "554 5.7.1 spam", Bounce, "5.7.1"),
        // What is said must fit its code.
        (Stage::Rcpt, "550 4.1.1 well", Bounce, "5.1.1"),
        (Stage::Rcpt, "450 5.1.1 well", Defer, "4.1.1"),
        (Stage::Rcpt, "550 2.1.5 well", Bounce, "5.1.5"),
        (Stage::Dot, "250 5.0.0 taken", Delivered, "2.0.0"),
        (Stage::Dot, "250 2.6.0 taken", Delivered, "2.6.0"),
        // Nothing is taken before the dot.
        (Stage::Data, "250 taken", NextHost, "4.5.0"),
        (Stage::Dot, "354 go", NextHost, "4.5.0"),
    ];

    #[test]
    fn each_answer_at_each_stage() {
        for (stage, text, action, status) in ANSWERS.iter().copied() {
            assert_eq!(verdict(stage, text, 0), (action, status.to_owned()), "{stage:?} {text}");
        }
        // In a transaction that has recipients already.
        for (text, action, status) in [
            ("452 too many", Again, "4.5.3"),
            ("452 4.5.3 too many", Again, "4.5.3"),
            ("452 4.2.2 mailbox full", Defer, "4.2.2"),
            ("552 too many", Again, "4.5.3"),
            ("552 5.5.3 too many", Again, "4.5.3"),
            ("552 5.2.2 mailbox full", Bounce, "5.2.2"),
        ] {
            assert_eq!(verdict(Stage::Rcpt, text, 3), (action, status.to_owned()), "{text}");
        }
    }

    #[test]
    fn when_no_host_is_left_mail_waits_unless_all_are_closed_for_good() {
        let said =
            |stage, code| judge(Heard { stage, reply: Some(&Reply::new(code, "x")), accepted_before: 0 });
        let (closed, listed) = (said(Stage::Connect, 521), said(Stage::Connect, 554));
        let lost = judge(Heard { stage: Stage::Connect, reply: None, accepted_before: 0 });
        for (verdicts, action, status) in [
            (&[][..], Action::Defer, "4.4.1"),
            (&[listed], Action::Defer, "4.0.0"),
            (&[closed], Action::Bounce, "5.3.2"),
            (&[closed, closed], Action::Bounce, "5.3.2"),
            (&[closed, lost], Action::Defer, "4.4.1"),
            (&[lost, closed], Action::Defer, "4.3.2"),
        ] {
            let verdict = after_the_last_host(verdicts);
            assert_eq!((verdict.action, verdict.status.to_string()), (action, status.to_owned()));
        }
    }

    proptest! {
        /// Whatever is said: the status is of the action's class, and only the end of a message delivers it.
        #[test]
        fn every_answer_has_a_meaning(code in any::<u16>(), text in "\\PC{0,12}|[245]\\.[0-9]{1,4}\\.[0-9]{1,4} x", before in 0usize..3) {
            for stage in STAGES {
                for reply in [Some(Reply::with(code, text.clone())), None] {
                    let verdict = judge(Heard { stage, reply: reply.as_ref(), accepted_before: before });
                    let class = match verdict.action {
                        Action::Delivered => 2,
                        Action::Bounce => 5,
                        Action::Again | Action::NextHost | Action::Defer | Action::Unknown => 4,
                    };
                    prop_assert_eq!(verdict.status.class, class);
                    let taken = stage == Stage::Dot && (200..300).contains(&code) && reply.is_some();
                    prop_assert_eq!(verdict.action == Action::Delivered, taken);
                    prop_assert_eq!(verdict.action == Action::Unknown, stage == Stage::Dot && reply.is_none());
                    prop_assert!(verdict.action != Action::Again || before > 0, "another transaction gets somewhere");
                }
            }
        }
    }
}
