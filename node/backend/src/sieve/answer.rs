//! The messages that scripts write: answers of `vacation`, notifications, and what tells a user that a script fails.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use mailcluster_message::{Message, addresses};
use mailcluster_proto_smtp::rfc5322_date;
use mailcluster_sieve::{Notify, Vacation};
use mailcluster_types::DeliveryId;

/// Octets of an encoded word before they are encoded: 75 characters at most (RFC 2047 section 2).
const WORD: usize = 42;
/// Octets of a line that needs no encoding, far from the 998 of RFC 5322.
const PLAIN_LINE: usize = 900;
/// Longest Message-ID that is answered to, and most of them in References.
const MAX_ID: usize = 250;
const MAX_REFERENCES: usize = 20;

/// What all of them have.
pub(super) struct Head<'a> {
    pub(super) id: DeliveryId,
    pub(super) hostname: &'a str,
    /// Seconds since 1970.
    pub(super) at: i64,
    /// For From: an address, with a name or without.
    pub(super) from: &'a str,
}

impl Head<'_> {
    fn write(&self, to: &[String], subject: &str, automatic: &str) -> String {
        let (id, hostname, date) = (self.id, self.hostname, rfc5322_date(self.at));
        let to: Vec<String> = to.iter().map(|address| format!("<{address}>")).collect();
        let (from, to, subject) = (sender(self.from), to.join(",\r\n "), unstructured(subject));
        format!(
            "Date: {date}\r\nFrom: {from}\r\nTo: {to}\r\nSubject: {subject}\r\nMessage-ID: <{id}@{hostname}>\r\n\
             Auto-Submitted: {automatic}\r\n"
        )
    }
}

/// An answer of `vacation` (RFC 5230 section 5).
pub(super) fn vacation(head: &Head<'_>, vacation: &Vacation, original: &Message) -> Bytes {
    let mut text =
        head.write(std::slice::from_ref(&vacation.to), &vacation.subject, "auto-replied (vacation)");
    if let Some(id) = ids(original, "message-id").pop() {
        let mut references = ids(original, "references");
        references.drain(..references.len().saturating_sub(MAX_REFERENCES));
        references.push(id.clone());
        text.push_str(&format!("In-Reply-To: {id}\r\nReferences: {}\r\n", references.join("\r\n ")));
    }
    text.push_str("MIME-Version: 1.0\r\n");
    if vacation.mime {
        text.push_str(&crlf(&vacation.reason));
    } else {
        text.push_str(&plain(&vacation.reason));
    }
    text.into()
}

/// A notification (RFC 5436 section 2.7).
pub(super) fn notification(head: &Head<'_>, notify: &Notify) -> Bytes {
    let mut text = head.write(&notify.to, &notify.subject, "auto-notified");
    if !notify.cc.is_empty() {
        let cc: Vec<String> = notify.cc.iter().map(|address| format!("<{address}>")).collect();
        text.push_str(&format!("Cc: {}\r\n", cc.join(",\r\n ")));
    }
    match notify.importance {
        1 => text.push_str("Importance: High\r\nX-Priority: 1\r\n"),
        3 => text.push_str("Importance: Low\r\nX-Priority: 5\r\n"),
        _ => {}
    }
    text.push_str("MIME-Version: 1.0\r\n");
    text.push_str(&plain(&notify.body));
    text.into()
}

/// Tells a user why all mail is kept.
pub(super) fn failure(head: &Head<'_>, to: &str, (script, why): (&str, &str)) -> Bytes {
    let mut text = head.write(&[to.to_owned()], "Your Sieve script fails", "auto-generated");
    text.push_str("MIME-Version: 1.0\r\n");
    text.push_str(&plain(&format!(
        "The Sieve script {script:?} could not do what it should with a message:\r\n\r\n{why}\r\n\r\n\
         The message was kept in INBOX instead, and so will others be while the script fails.\r\n\
         You are told of this once a day.\r\n"
    )));
    text.into()
}

/// Content-Type and text.
fn plain(text: &str) -> String {
    let text = crlf(text);
    let end = if text.ends_with("\r\n") { "" } else { "\r\n" };
    if text.is_ascii() && text.lines().all(|line| line.len() <= PLAIN_LINE) {
        return format!("Content-Type: text/plain; charset=us-ascii\r\n\r\n{text}{end}");
    }
    let encoded = STANDARD.encode(format!("{text}{end}"));
    let mut out =
        "Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n".to_owned();
    for line in encoded.as_bytes().chunks(76) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push_str("\r\n");
    }
    out
}

/// Line ends as mail has them, wherever the script came from.
fn crlf(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n")
}

/// A text for a header field: no control characters, encoded words where it is not US-ASCII.
fn unstructured(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if plain.is_ascii() && plain.len() <= PLAIN_LINE && !plain.contains("=?") {
        return plain;
    }
    let mut words = Vec::new();
    let mut word = String::new();
    for c in plain.chars() {
        if word.len() + c.len_utf8() > WORD {
            words.push(std::mem::take(&mut word));
        }
        word.push(c);
    }
    words.push(word);
    let encoded = words.iter().map(|word| format!("=?utf-8?B?{}?=", STANDARD.encode(word)));
    encoded.collect::<Vec<_>>().join("\r\n ")
}

/// A From field's value.
fn sender(from: &str) -> String {
    let (name, address) = name_and_address(from);
    match name {
        Some(name) if name.is_ascii() => {
            let quoted: String = name.chars().filter(|c| !c.is_control()).flat_map(escaped).collect();
            format!("\"{quoted}\" <{address}>")
        }
        Some(name) => format!("{} <{address}>", unstructured(&name)),
        None => address,
    }
}

fn escaped(c: char) -> Vec<char> {
    if matches!(c, '"' | '\\') { vec!['\\', c] } else { vec![c] }
}

/// The parts of the value of a `:from`.
pub(super) fn name_and_address(from: &str) -> (Option<String>, String) {
    let text = |octets: Vec<u8>| String::from_utf8_lossy(&octets).into_owned();
    let first = addresses(from.as_bytes()).into_iter().next().unwrap_or_default();
    let address = match (first.mailbox, first.host) {
        (Some(local), Some(domain)) => format!("{}@{}", text(local), text(domain)),
        _ => from.to_owned(),
    };
    (first.name.map(text).filter(|name| !name.is_empty()), address)
}

/// The message ids of a field: only what may stand in one of ours.
fn ids(message: &Message, name: &str) -> Vec<String> {
    let value = message.field(message.root(), name).unwrap_or_default();
    let words = value.split(u8::is_ascii_whitespace).filter(|word| {
        (3..=MAX_ID).contains(&word.len())
            && word.starts_with(b"<")
            && word.ends_with(b">")
            && word.iter().all(u8::is_ascii_graphic)
    });
    words.map(|word| String::from_utf8_lossy(word).into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn original() -> Message {
        Message::parse(Bytes::from_static(
            b"Message-ID: <m@x>\r\nReferences: <a@x>\r\n <b@x> evil\x01 <c c>\r\nSubject: s\r\n\r\nbody\r\n",
        ))
    }

    fn head() -> Head<'static> {
        Head { id: DeliveryId(1 << 100), hostname: "mail.example.org", at: 0, from: "ann@example.org" }
    }

    fn answer(reason: &str, mime: bool) -> String {
        let vacation = Vacation {
            to: "bob@example.net".into(),
            from: None,
            subject: "weg \u{fc}ber\r\nX: y".into(),
            reason: reason.into(),
            mime,
            track: Vec::new(),
            seconds: 1,
        };
        String::from_utf8(super::vacation(&head(), &vacation, &original()).to_vec()).unwrap()
    }

    #[test]
    fn an_answer_is_what_the_rfc_asks_for() {
        let text = answer("I am away.\nBack soon.", false);
        for part in [
            "From: ann@example.org\r\nTo: <bob@example.net>\r\nSubject: =?utf-8?B?",
            "Auto-Submitted: auto-replied (vacation)\r\n",
            "In-Reply-To: <m@x>\r\nReferences: <a@x>\r\n <b@x>\r\n <m@x>\r\n",
            "Message-ID: <",
            "charset=us-ascii\r\n\r\nI am away.\r\nBack soon.\r\n",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        assert!(!text.contains("\r\nX: y") && !text.contains("evil"), "{text}");
        assert!(!text.replace("\r\n", "").contains(['\r', '\n']));
        let mime = answer("Content-Type: text/html\n\n<b>away</b>\n", true);
        assert!(
            mime.ends_with("MIME-Version: 1.0\r\nContent-Type: text/html\r\n\r\n<b>away</b>\r\n"),
            "{mime}"
        );
    }

    #[test]
    fn what_is_not_ascii_or_too_long_is_encoded() {
        let umlauts = "gr\u{f6}\u{df}er ".repeat(40);
        for text in [umlauts.as_str(), &"x".repeat(2000)] {
            let message = answer(text, false);
            assert!(message.is_ascii() && message.lines().all(|line| line.len() <= 78), "{message}");
            let parsed = Message::parse(message.into_bytes().into());
            let mut shown = Vec::new();
            parsed.strings(&|_| true, &mut |string| {
                shown.extend_from_slice(string);
                std::ops::ControlFlow::Continue(())
            });
            assert_eq!(String::from_utf8(shown).unwrap(), format!("{text}\r\n"));
        }
    }

    #[test]
    fn senders() {
        for (from, expected) in [
            ("ann@example.org", "ann@example.org"),
            ("Ann <ann@example.org>", "\"Ann\" <ann@example.org>"),
            ("\"A \\\"B\\\"\" <ann@example.org>", "\"A \\\"B\\\"\" <ann@example.org>"),
            ("J\u{f6}rg <j@x>", "=?utf-8?B?SsO2cmc=?= <j@x>"),
        ] {
            assert_eq!(sender(from), expected, "{from}");
        }
        assert_eq!(name_and_address("Ann <ann@example.org>").1, "ann@example.org");
    }
}
