//! The octets of a report.

use std::fmt::{Arguments, Write};

use mailcluster_proto_smtp::{OriginalRecipient, Ret, rfc5322_date, utf8_address_in_ascii};
use memchr::memmem;

use super::{Action, Report, Reported, is_wanted};

/// Of the message's header section at most so many octets come back.
const MAX_HEADER: usize = 16 << 10;
/// Larger messages do not come back whole.
pub const MAX_WHOLE: u64 = 1 << 20;
/// Boundaries that are thought of.
const MAX_BOUNDARIES: u32 = 32;
/// Octets that are kept of what came from elsewhere: a line has two of them at most, and may have 998 (RFC 5322 section
/// 2.1.1).
const MAX_TEXT: usize = 450;

/// A report, to be sent without a sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// The message.
    pub octets: Vec<u8>,
    /// It has UTF-8 outside of what is quoted: it needs SMTPUTF8.
    pub utf8: bool,
    /// It has octets above 127.
    pub eight_bit: bool,
}

/// Writes a report; nothing when nobody wants one.
#[must_use]
pub fn write(report: &Report<'_>) -> Option<Notification> {
    let wanted = |reported: &&Reported| is_wanted(report.sender, reported.notify, report.action);
    let recipients: Vec<&Reported> = report.recipients.iter().filter(wanted).collect();
    if recipients.is_empty() {
        return None;
    }
    let mut quoted = quoted(report);
    let boundary = boundary(report.id, quoted).or_else(|| {
        quoted = &[];
        boundary(report.id, quoted)
    })?;
    let mut text = Text { out: String::with_capacity(4096), utf8: report.utf8 };
    text.header(report, &boundary, quoted.is_ascii());
    text.for_people(report, &recipients, &boundary);
    text.for_programs(report, &recipients, &boundary);
    let utf8 = !text.out.is_ascii();
    text.original(report, &boundary, quoted);
    let mut octets = text.out.into_bytes();
    octets.extend_from_slice(quoted);
    octets.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    let eight_bit = !octets.is_ascii();
    Some(Notification { octets, utf8, eight_bit })
}

/// What comes back of the message.
fn quoted<'a>(report: &Report<'a>) -> &'a [u8] {
    if comes_back_whole(report) { report.message } else { header(report.message) }
}

fn comes_back_whole(report: &Report<'_>) -> bool {
    let asked = report.action == Action::Failed && report.ret == Some(Ret::Full);
    asked && report.is_whole && report.message.len() as u64 <= MAX_WHOLE
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

/// A boundary that what is quoted does not have (RFC 2046 section 5.1.1); none when it has all that are thought of.
fn boundary(id: &str, quoted: &[u8]) -> Option<String> {
    let id: String = id.chars().filter(char::is_ascii_alphanumeric).take(40).collect();
    let numbered = (1..MAX_BOUNDARIES).map(|number| format!("=_{number}_{id}"));
    let mut all = std::iter::once(format!("=_{id}")).chain(numbered);
    all.find(|boundary| memmem::find(quoted, boundary.as_bytes()).is_none())
}

struct Text {
    out: String,
    utf8: bool,
}

impl Text {
    fn add(&mut self, text: Arguments<'_>) {
        let written = self.out.write_fmt(text);
        debug_assert!(written.is_ok(), "writing to a string cannot fail");
    }

    fn header(&mut self, report: &Report<'_>, boundary: &str, quoted_is_ascii: bool) {
        let (host, id) = (self.line(report.hostname), self.line(report.id));
        let to = self.line(report.sender);
        let subject = match report.action {
            Action::Failed => "Undelivered mail returned to sender",
            Action::Delayed => "Delayed mail, still being tried",
            Action::Delivered | Action::Relayed | Action::Expanded => "Your mail was delivered",
        };
        self.add(format_args!(
            "From: Mail Delivery System <MAILER-DAEMON@{host}>\r\nTo: <{to}>\r\nDate: {}\r\n\
             Message-ID: <{id}@{host}>\r\nSubject: {subject}\r\nAuto-Submitted: auto-replied\r\n\
             MIME-Version: 1.0\r\nContent-Type: multipart/report;\r\n\
             \treport-type={}; boundary=\"{boundary}\"\r\n",
            rfc5322_date(report.now),
            if self.utf8 { "global-delivery-status" } else { "delivery-status" }
        ));
        if self.utf8 || !quoted_is_ascii {
            self.out.push_str("Content-Transfer-Encoding: 8bit\r\n");
        }
        self.out.push_str("\r\n");
    }

    fn for_people(&mut self, report: &Report<'_>, recipients: &[&Reported], boundary: &str) {
        let (charset, encoding) = if self.utf8 { ("utf-8", "8bit") } else { ("us-ascii", "7bit") };
        let lead = match report.action {
            Action::Failed => "Your message could not be delivered to",
            Action::Delayed => {
                "Your message could not be delivered yet. You need not send it again: it is still being tried for"
            }
            Action::Delivered => "Your message was delivered to",
            Action::Relayed => "Your message was given to a mail system that sends no reports, for",
            Action::Expanded => "Your message was delivered, and goes on to several addresses, for",
        };
        let host = self.line(report.hostname);
        self.add(format_args!(
            "--{boundary}\r\nContent-Type: text/plain; charset={charset}\r\n\
             Content-Transfer-Encoding: {encoding}\r\n\r\nThis is the mail system at {host}.\r\n\r\n{lead}\r\n"
        ));
        for reported in recipients {
            let (address, why) = (self.line(&reported.address), self.line(&reported.text));
            self.add(format_args!("\r\n    {address}\r\n"));
            if !why.is_empty() {
                self.add(format_args!("\r\n{why}.\r\n"));
            }
            if let Some(said) = &reported.diagnostic {
                let (said, who) =
                    (self.line(said), reported.remote.as_deref().map(|remote| self.line(remote)));
                let by = who.map(|who| format!(" of {who}")).unwrap_or_default();
                self.add(format_args!("The answer{by} was: {said}\r\n"));
            }
            if let (Action::Delayed, Some(until)) = (report.action, reported.retry_until) {
                self.add(format_args!("It will be tried until {}.\r\n", rfc5322_date(until)));
            }
        }
        let accepted = self.line(report.accepted_as);
        self.add(format_args!("\r\nThe message was accepted as {accepted}.\r\n\r\n"));
    }

    /// `message/delivery-status` (RFC 3464 section 2).
    fn for_programs(&mut self, report: &Report<'_>, recipients: &[&Reported], boundary: &str) {
        let kind = match self.utf8 {
            true => "message/global-delivery-status\r\nContent-Transfer-Encoding: 8bit",
            false => "message/delivery-status",
        };
        self.add(format_args!("--{boundary}\r\nContent-Type: {kind}\r\n\r\n"));
        if let Some(id) = report.envelope_id {
            self.field("Original-Envelope-Id", id);
        }
        self.field("Reporting-MTA", &format!("dns; {}", report.hostname));
        self.field("Arrival-Date", &rfc5322_date(report.arrived));
        for reported in recipients {
            self.out.push_str("\r\n");
            if let Some(OriginalRecipient { kind, address }) = &reported.original {
                let address = self.address(address, kind.eq_ignore_ascii_case("utf-8"));
                self.field("Original-Recipient", &format!("{kind}; {address}"));
            }
            let ascii = reported.address.is_ascii();
            let address = self.address(&reported.address, !ascii);
            self.field("Final-Recipient", &format!("{}; {address}", if ascii { "rfc822" } else { "utf-8" }));
            self.field("Action", report.action.word());
            self.field("Status", &reported.status.to_string());
            if let Some(remote) = &reported.remote {
                self.field("Remote-MTA", &format!("dns; {remote}"));
            }
            if let Some(said) = &reported.diagnostic {
                self.field("Diagnostic-Code", &format!("smtp; {said}"));
            }
            if let Some(at) = reported.last_attempt {
                self.field("Last-Attempt-Date", &rfc5322_date(at));
            }
            self.field("Final-Log-ID", report.accepted_as);
            if let (Action::Delayed, Some(until)) = (report.action, reported.retry_until) {
                self.field("Will-Retry-Until", &rfc5322_date(until));
            }
        }
    }

    fn original(&mut self, report: &Report<'_>, boundary: &str, quoted: &[u8]) {
        let kind = match (comes_back_whole(report), self.utf8) {
            (true, false) => "message/rfc822",
            (true, true) => "message/global",
            (false, false) => "text/rfc822-headers",
            (false, true) => "message/global-headers",
        };
        let encoding = if quoted.is_ascii() { "7bit" } else { "8bit" };
        self.add(format_args!(
            "\r\n--{boundary}\r\nContent-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
        ));
    }

    fn field(&mut self, name: &str, value: &str) {
        let value = self.line(value);
        self.add(format_args!("{name}: {value}\r\n"));
    }

    /// An address of the type `utf-8` as this report may write it.
    fn address(&self, address: &str, is_utf8: bool) -> String {
        if is_utf8 && !self.utf8 { utf8_address_in_ascii(address) } else { address.to_owned() }
    }

    /// What came from elsewhere makes no lines of its own, is not endless, and is US-ASCII where all is.
    fn line(&self, text: &str) -> String {
        let mut line = String::new();
        for c in text.chars() {
            let c = match c {
                c if c.is_control() => ' ',
                c if !self.utf8 && !c.is_ascii() => '?',
                c => c,
            };
            if line.len() + c.len_utf8() > MAX_TEXT {
                break;
            }
            line.push(c);
        }
        line
    }
}
