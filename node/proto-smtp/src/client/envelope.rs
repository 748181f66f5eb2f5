//! MAIL and RCPT as a client writes them. Nothing that comes from a message or a user can make a line or a parameter
//! of its own: addresses are read back before they are sent, values are encoded (RFC 3461 section 4).

use std::fmt::Write;

use super::Terms;
use crate::{Body, Path, dsn::ret_param, path, xtext};

/// Longest address in octets (RFC 5321 section 4.5.3.1 has 64 + 1 + 255; UTF-8 may need more).
const MAX_ADDRESS: usize = 400;
/// Longest envelope id, before it is encoded (RFC 3461 section 4.4).
const MAX_ENVELOPE_ID: usize = 100;
/// Longest ORCPT, encoded (RFC 3461 section 4.2).
const MAX_ORIGINAL: usize = 500;

/// What of a message comes back in a report of failure (RFC 3461 section 4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ret {
    /// All of it.
    Full,
    /// Its header.
    Headers,
}

/// Which reports a sender asks for (RFC 3461 section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notify {
    /// None.
    Never,
    /// Those that are true; at least one is.
    On {
        /// When the mail was delivered.
        success: bool,
        /// When it cannot be delivered.
        failure: bool,
        /// When it is delayed.
        delay: bool,
    },
}

/// The recipient as the sender named it, before any forwarding (RFC 3461 section 4.2), decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginalRecipient {
    /// `rfc822`, `utf-8` (RFC 6533) or another registered type.
    pub kind: String,
    /// The address.
    pub address: String,
}

/// One recipient.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recipient {
    /// Its address.
    pub address: String,
    /// `NOTIFY=`
    pub notify: Option<Notify>,
    /// `ORCPT=`
    pub original: Option<OriginalRecipient>,
}

/// Who sends to whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The sender; empty for the null sender.
    pub sender: String,
    /// `RET=`
    pub ret: Option<Ret>,
    /// `ENVID=`, decoded.
    pub envelope_id: Option<String>,
    /// The recipients.
    pub recipients: Vec<Recipient>,
}

/// Why an envelope cannot be sent to any server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeFault {
    /// The sender is no address.
    #[error("the sender is not an address that can be sent")]
    Sender,
    /// The recipient in this place is no address.
    #[error("recipient {0} is not an address that can be sent")]
    Recipient(usize),
    /// An address has UTF-8, and the envelope's needs did not say so.
    #[error("an address needs SMTPUTF8")]
    Utf8,
    /// The envelope id is empty, too long or not printable US-ASCII.
    #[error("the envelope id cannot be sent")]
    EnvelopeId,
    /// The original recipient in this place has no type, or is too long.
    #[error("the original recipient of recipient {0} cannot be sent")]
    Original(usize),
    /// There is no recipient.
    #[error("there is no recipient")]
    Empty,
}

impl Envelope {
    /// The MAIL command, with what the terms name.
    pub(super) fn mail_line(&self, terms: &Terms) -> Result<String, EnvelopeFault> {
        if !self.sender.is_empty() {
            check(&self.sender, terms, EnvelopeFault::Sender)?;
        }
        let mut line = format!("MAIL FROM:<{}>", self.sender);
        if let Some(size) = terms.size {
            add(&mut line, format_args!(" SIZE={size}"));
        }
        if let Some(body) = terms.body {
            line.push_str(match body {
                Body::SevenBit => " BODY=7BIT",
                Body::EightBitMime => " BODY=8BITMIME",
            });
        }
        line.push_str(if terms.utf8 { " SMTPUTF8" } else { "" });
        line.push_str(if terms.require_tls { " REQUIRETLS" } else { "" });
        if terms.dsn {
            self.dsn_params(&mut line)?;
        }
        line.push_str("\r\n");
        Ok(line)
    }

    fn dsn_params(&self, line: &mut String) -> Result<(), EnvelopeFault> {
        line.push_str(ret_param(self.ret));
        if let Some(id) = &self.envelope_id {
            line.push_str(&envelope_id_param(id).ok_or(EnvelopeFault::EnvelopeId)?);
        }
        Ok(())
    }

    /// The RCPT command of the recipient in this place.
    pub(super) fn rcpt_line(&self, place: usize, terms: &Terms) -> Result<String, EnvelopeFault> {
        let recipient = self.recipients.get(place).ok_or(EnvelopeFault::Empty)?;
        check(&recipient.address, terms, EnvelopeFault::Recipient(place))?;
        let mut line = format!("RCPT TO:<{}>", recipient.address);
        if terms.dsn {
            line.push_str(&recipient.notify.map_or(String::new(), notify_param));
            if let Some(original) = &recipient.original {
                let param = original.param(terms.utf8).ok_or(EnvelopeFault::Original(place))?;
                line.push_str(&param);
            }
        }
        line.push_str("\r\n");
        Ok(line)
    }
}

impl OriginalRecipient {
    /// ` ORCPT=type;address`, or nothing that may be sent.
    pub(crate) fn param(&self, unitext: bool) -> Option<String> {
        let good_kind = (1..=32).contains(&self.kind.len())
            && self.kind.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.'));
        if !good_kind || self.address.is_empty() || self.address.len() > MAX_ORIGINAL {
            return None;
        }
        let utf8 = self.kind.eq_ignore_ascii_case("utf-8");
        if !utf8 && !self.address.is_ascii() {
            return None;
        }
        let mut param = format!(" ORCPT={};", self.kind);
        if utf8 {
            xtext::utf8_address(&self.address, unitext, &mut param);
        } else {
            xtext::xtext(&self.address, &mut param);
        }
        (param.len() <= MAX_ORIGINAL + " ORCPT=".len()).then_some(param)
    }
}

/// ` ENVID=…`, or nothing that may be sent.
pub(crate) fn envelope_id_param(id: &str) -> Option<String> {
    let printable = id.bytes().all(|b| matches!(b, b' '..=b'~'));
    if !printable || !(1..=MAX_ENVELOPE_ID).contains(&id.len()) {
        return None;
    }
    let mut param = " ENVID=".to_owned();
    xtext::xtext(id, &mut param);
    Some(param)
}

pub(crate) fn notify_param(notify: Notify) -> String {
    let Notify::On { success, failure, delay } = notify else { return " NOTIFY=NEVER".to_owned() };
    let asked: Vec<&str> = [(success, "SUCCESS"), (failure, "FAILURE"), (delay, "DELAY")]
        .into_iter()
        .filter_map(|(asked, word)| asked.then_some(word))
        .collect();
    // Asking for nothing is what NEVER says.
    if asked.is_empty() { " NOTIFY=NEVER".to_owned() } else { format!(" NOTIFY={}", asked.join(",")) }
}

/// An address is sent only when reading it gives it back, whole and with nothing behind it.
fn check(address: &str, terms: &Terms, fault: EnvelopeFault) -> Result<(), EnvelopeFault> {
    if address.len() > MAX_ADDRESS || address.chars().any(char::is_control) {
        return Err(fault);
    }
    let wire = format!("<{address}>");
    let read_back = matches!(path::parse(&wire), Ok((Path::Mailbox(read), "")) if read == address);
    let whole = address.rsplit_once('@').is_some_and(|(local, domain)| is_local(local) && is_domain(domain));
    if !read_back || !whole {
        return Err(fault);
    }
    if address.is_ascii() || terms.utf8 { Ok(()) } else { Err(EnvelopeFault::Utf8) }
}

/// A dot-string or a quoted string: a quote in the middle would be read one way here and another way there.
fn is_local(local: &str) -> bool {
    match local.strip_prefix('"') {
        Some(rest) => rest.strip_suffix('"').is_some_and(|inner| {
            let mut escaped = false;
            for c in inner.chars() {
                if c == '"' && !escaped {
                    return false;
                }
                escaped = !escaped && c == '\\';
            }
            !escaped
        }),
        None => !local.is_empty() && !local.contains(|c| " \"\\<>()[],;:@".contains(c)),
    }
}

fn is_domain(domain: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c) || !c.is_ascii();
    match domain.strip_prefix('[').and_then(|d| d.strip_suffix(']')) {
        Some(literal) => literal.chars().all(|c| c.is_ascii_alphanumeric() || "-.:".contains(c)),
        None => !domain.is_empty() && domain.chars().all(plain),
    }
}

fn add(line: &mut String, text: std::fmt::Arguments<'_>) {
    let written = line.write_fmt(text);
    debug_assert!(written.is_ok(), "writing to a string cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Terms {
        Terms { size: Some(7), body: Some(Body::EightBitMime), utf8: true, require_tls: true, dsn: true }
    }

    fn to(address: &str) -> Envelope {
        let recipient = Recipient { address: address.to_owned(), ..Recipient::default() };
        Envelope { sender: "ann@example.org".into(), recipients: vec![recipient], ..Envelope::default() }
    }

    #[test]
    fn parameters_are_written_as_the_terms_are() {
        let mut envelope = to("bob@example.net");
        envelope.ret = Some(Ret::Headers);
        envelope.envelope_id = Some("Q = 1+1".into());
        envelope.recipients[0].notify = Some(Notify::On { success: true, failure: false, delay: true });
        envelope.recipients[0].original =
            Some(OriginalRecipient { kind: "rfc822".into(), address: "b o+b@example.net".into() });
        assert_eq!(
            envelope.mail_line(&all()).unwrap(),
            "MAIL FROM:<ann@example.org> SIZE=7 BODY=8BITMIME SMTPUTF8 REQUIRETLS RET=HDRS ENVID=Q+20+3D+201+2B1\r\n"
        );
        assert_eq!(
            envelope.rcpt_line(0, &all()).unwrap(),
            "RCPT TO:<bob@example.net> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+20o+2Bb@example.net\r\n"
        );
        let none = Terms::default();
        assert_eq!(envelope.mail_line(&none).unwrap(), "MAIL FROM:<ann@example.org>\r\n");
        assert_eq!(envelope.rcpt_line(0, &none).unwrap(), "RCPT TO:<bob@example.net>\r\n");
        envelope.sender.clear();
        envelope.ret = Some(Ret::Full);
        envelope.recipients[0].notify = Some(Notify::Never);
        assert!(envelope.mail_line(&all()).unwrap().starts_with("MAIL FROM:<> SIZE=7"));
        assert!(envelope.mail_line(&all()).unwrap().contains(" RET=FULL "));
        assert!(envelope.rcpt_line(0, &all()).unwrap().contains(" NOTIFY=NEVER "));
        assert_eq!(
            notify_param(Notify::On { success: false, failure: false, delay: false }),
            " NOTIFY=NEVER"
        );
    }

    #[test]
    fn an_original_recipient_with_utf8_fits_either_server() {
        let mut envelope = to("bob@example.net");
        envelope.recipients[0].original =
            Some(OriginalRecipient { kind: "utf-8".into(), address: "b\u{f6}b@example.net".into() });
        let line = |utf8| envelope.rcpt_line(0, &Terms { utf8, ..all() }).unwrap();
        assert!(line(true).ends_with(" ORCPT=utf-8;b\u{f6}b@example.net\r\n"));
        assert!(line(false).ends_with(" ORCPT=utf-8;b\\x{F6}b@example.net\r\n"));
    }

    #[test]
    fn addresses_are_sent_as_they_are_read_or_not_at_all() {
        for good in [
            "a@b",
            "\"a b\"@c.d",
            "\"a>b\\\"\"@c",
            "a+b=c@d",
            "a@[192.0.2.1]",
            "a@[IPv6:::1]",
            "\u{fc}@\u{fc}.x",
        ] {
            assert_eq!(to(good).rcpt_line(0, &all()), Ok(format!("RCPT TO:<{good}>\r\n")), "{good}");
        }
        let long = format!("{}@b", "x".repeat(MAX_ADDRESS));
        for bad in [
            "",
            "a",
            "@b",
            "a@",
            "postmaster",
            "a@b>",
            "a@b> SIZE=1",
            "a@b\r\nDATA",
            "a b@c",
            "<a@b",
            "a@b c",
            "@x:a@b",
            "\"a@b",
            "a\"@b",
            "\"a\"b\"@c",
            "a\"> NOTIFY=NEVER \"@b",
            "\"a\\\"@b",
            "a@\"b\"",
            "a@b\0",
            "a\u{85}@b",
            "a,b@c",
            "a@[1.2.3.4] x]",
            &long,
        ] {
            assert_eq!(to(bad).rcpt_line(0, &all()), Err(EnvelopeFault::Recipient(0)), "{bad:?}");
            let sender = Envelope { sender: bad.to_owned(), ..to("a@b") };
            let expected = if bad.is_empty() { Ok(()) } else { Err(EnvelopeFault::Sender) };
            assert_eq!(sender.mail_line(&all()).map(|_| ()), expected, "{bad:?}");
        }
        assert_eq!(to("\u{fc}@b").rcpt_line(0, &Terms::default()), Err(EnvelopeFault::Utf8));
    }

    #[test]
    fn ids_and_original_recipients_are_bounded() {
        for (id, good) in
            [("x", true), ("", false), ("a\r\nb", false), ("\u{fc}", false), (&*"x".repeat(101), false)]
        {
            let envelope = Envelope { envelope_id: Some(id.to_owned()), ..to("a@b") };
            assert_eq!(envelope.mail_line(&all()).is_ok(), good, "{id:?}");
        }
        let long = "+".repeat(200);
        for (kind, address, good) in [
            ("rfc822", "a@b", true),
            ("rfc822", "", false),
            ("", "a@b", false),
            ("x y", "a@b", false),
            ("rfc822", "\u{fc}@b", false),
            ("rfc822", &*long, false),
        ] {
            let mut envelope = to("a@b");
            envelope.recipients[0].original =
                Some(OriginalRecipient { kind: kind.to_owned(), address: address.to_owned() });
            assert_eq!(envelope.rcpt_line(0, &all()).is_ok(), good, "{kind:?} {address:?}");
        }
    }
}
