//! The header section of a message on its way in: trace (RFC 5321 section 4.4), hop count, what submission adds
//! (RFC 6409 section 8) and takes out. Nothing else is touched.

use std::{fmt::Write, net::IpAddr};

use bytes::{Bytes, BytesMut};
use mailcluster_proto_smtp::rfc5322_date;
use mailcluster_types::{ClientInfo, DeliveryId};
use memchr::memmem;

use super::Service;

/// Largest header section in octets.
pub(super) const MAX_HEADER: usize = 256 << 10;
/// More Received fields than this are a loop (RFC 5321 section 6.3).
const MAX_HOPS: usize = 50;

/// Where the header section of what came in so far ends: just before the empty line, or at what cannot be a field.
/// `None` while it may go on. `scanned` is where the first line starts that was not whole at the last look; lines are
/// looked at once, however slowly they come in.
pub(super) fn end_of_header(text: &[u8], scanned: &mut usize) -> Option<usize> {
    while let Some(length) = memmem::find(&text[*scanned..], b"\r\n") {
        let line = &text[*scanned..*scanned + length];
        let folded = *scanned > 0 && matches!(line.first(), Some(b' ' | b'\t'));
        if !(folded || is_field(line)) {
            return Some(*scanned);
        }
        *scanned += length + 2;
    }
    None
}

/// `field-name ":"` of RFC 5322 section 2.2; white space before the colon is tolerated (section 4.5).
fn is_field(line: &[u8]) -> bool {
    let Some(colon) = memchr::memchr(b':', line) else { return false };
    let name = line[..colon].trim_ascii_end();
    !name.is_empty() && name.iter().all(u8::is_ascii_graphic)
}

/// A header section, field by field.
pub(super) struct Header<'a> {
    fields: Vec<&'a [u8]>,
}

impl<'a> Header<'a> {
    /// Parts the octets before [`end_of_header`]; each field keeps its folds and its last CRLF.
    pub(super) fn parse(section: &'a [u8]) -> Self {
        let mut fields = Vec::new();
        let mut start = 0;
        for at in memmem::find_iter(section, b"\r\n").map(|at| at + 2) {
            if !matches!(section.get(at), Some(b' ' | b'\t')) {
                fields.push(&section[start..at]);
                start = at;
            }
        }
        Self { fields }
    }

    fn named(&self, name: &str) -> impl Iterator<Item = &&'a [u8]> {
        self.fields.iter().filter(move |field| name_of(field).eq_ignore_ascii_case(name.as_bytes()))
    }

    /// The values of the fields of this name.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.named(name)
            .map(|field| &field[memchr::memchr(b':', field).map_or(field.len(), |colon| colon + 1)..])
    }

    /// Has it been through so many servers that it must be going round?
    pub(super) fn is_loop(&self) -> bool {
        self.named("Received").count() > MAX_HOPS
    }

    /// Writes the header section that is delivered: the trace line, what checks say, then the fields, without those that
    /// only a final delivery or nobody may add, and for submissions with those that must be there.
    pub(super) fn rewrite(&self, trace: &Trace<'_>, checks: &str) -> Bytes {
        let mut out = BytesMut::new();
        out.extend_from_slice(checks.as_bytes());
        out.extend_from_slice(trace.received().as_bytes());
        let from_user = trace.service == Service::Submission;
        for field in &self.fields {
            let name = name_of(field);
            let dropped = name.eq_ignore_ascii_case(b"Return-Path")
                || claims_to_be_ours(field, trace.hostname)
                || (from_user
                    && (name.eq_ignore_ascii_case(b"Bcc") || name.eq_ignore_ascii_case(b"Resent-Bcc")));
            if !dropped {
                out.extend_from_slice(field);
            }
        }
        if from_user && self.named("From").next().is_none() {
            out.extend_from_slice(format!("From: <{}>\r\n", trace.sender).as_bytes());
        }
        if from_user && self.named("Date").next().is_none() {
            out.extend_from_slice(format!("Date: {}\r\n", rfc5322_date(trace.at)).as_bytes());
        }
        if from_user && self.named("Message-ID").next().is_none() {
            out.extend_from_slice(format!("Message-ID: <{}@{}>\r\n", trace.id, trace.hostname).as_bytes());
        }
        out.freeze()
    }
}

/// Only we say what we found (RFC 8601 section 5).
fn claims_to_be_ours(field: &[u8], hostname: &str) -> bool {
    let name = name_of(field);
    name.eq_ignore_ascii_case(b"Authentication-Results")
        && mailcluster_verdict::is_forged(
            field.splitn(2, |b| *b == b':').nth(1).unwrap_or_default(),
            hostname,
        )
}

fn name_of(field: &[u8]) -> &[u8] {
    field.split(|b| *b == b':').next().unwrap_or_default().trim_ascii_end()
}

/// What the Received field tells.
pub(super) struct Trace<'a> {
    pub(super) service: Service,
    pub(super) client: &'a ClientInfo,
    /// The envelope's sender.
    pub(super) sender: &'a str,
    /// The argument of HELO or EHLO.
    pub(super) hello: &'a str,
    /// EHLO was said.
    pub(super) extended: bool,
    /// The client logged in.
    pub(super) authenticated: bool,
    pub(super) utf8: bool,
    pub(super) hostname: &'a str,
    pub(super) id: DeliveryId,
    /// The recipient, when there is only one.
    pub(super) only: Option<&'a str>,
    /// Seconds since 1970.
    pub(super) at: i64,
}

impl Trace<'_> {
    /// `Received: from … by … with … id … for …; date` (RFC 5321 section 4.4, RFC 3848, RFC 6531).
    fn received(&self) -> String {
        let literal = literal(self.client.remote.ip());
        let harmless = |b: u8| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b);
        let from = if self.hello.bytes().all(harmless) { self.hello } else { &literal };
        let mut line = format!("Received: from {from} ({literal})\r\n");
        let mut add = |text: std::fmt::Arguments<'_>| line.write_fmt(text).is_ok();
        if let Some(tls) = &self.client.tls {
            add(format_args!("\t(using {} with {})\r\n", tls.version, tls.cipher));
        }
        add(format_args!("\tby {} with {} id {}", self.hostname, self.protocol(), self.id));
        if let Some(only) = self.only {
            add(format_args!("\r\n\tfor <{only}>"));
        }
        add(format_args!(";\r\n\t{}\r\n", rfc5322_date(self.at)));
        line
    }

    fn protocol(&self) -> String {
        let base = match (self.utf8, self.extended) {
            (true, _) => "UTF8SMTP",
            (false, true) => "ESMTP",
            (false, false) => "SMTP",
        };
        let tls = if self.client.tls.is_some() && base != "SMTP" { "S" } else { "" };
        let auth = if self.authenticated && base != "SMTP" { "A" } else { "" };
        format!("{base}{tls}{auth}")
    }
}

fn literal(ip: IpAddr) -> String {
    match ip.to_canonical() {
        IpAddr::V4(ip) => format!("[{ip}]"),
        IpAddr::V6(ip) => format!("[IPv6:{ip}]"),
    }
}

#[cfg(test)]
mod tests;
