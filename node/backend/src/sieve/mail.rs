//! A message as scripts see it.

use std::{borrow::Cow, ops::ControlFlow};

use mailcluster_message::{EnvelopeAddress, Message, addresses, decoded_value, header_fields, unfold};
use mailcluster_sieve::{Address, Mail};

/// Fields of one name that are looked at.
const MAX_FIELDS: usize = 1000;

/// A parsed message.
pub(super) struct Parsed<'a>(pub(super) &'a Message);

impl Parsed<'_> {
    fn header_octets(&self) -> &[u8] {
        let header = &self.0.root().header;
        self.0.raw().get(header.clone()).unwrap_or_default()
    }

    fn values<'s>(&'s self, name: &'s str) -> impl Iterator<Item = &'s [u8]> {
        let fields = header_fields(self.header_octets()).filter(move |field| field.is(name.as_bytes()));
        fields.map(|field| field.value).take(MAX_FIELDS)
    }
}

impl Mail for Parsed<'_> {
    fn size(&self) -> u64 {
        self.0.raw().len() as u64
    }

    fn header_size(&self) -> u64 {
        self.0.root().header.len() as u64
    }

    fn raw_header(&self, name: &str) -> Vec<Cow<'_, [u8]>> {
        self.values(name).map(|value| unfold(value).into()).collect()
    }

    fn header(&self, name: &str) -> Vec<Cow<'_, [u8]>> {
        self.values(name).map(|value| decoded_value(value).into_bytes().into()).collect()
    }

    fn addresses(&self, name: &str) -> Vec<Vec<Address>> {
        self.values(name).map(|value| addresses(value).into_iter().filter_map(address).collect()).collect()
    }

    fn raw_body(&self) -> Option<Cow<'_, [u8]>> {
        let (header, raw) = (self.header_octets(), self.0.raw());
        let has_end = [&b"\n\r\n"[..], b"\n\n"].iter().any(|end| header.ends_with(end))
            || [&b"\r\n"[..], b"\n"].contains(&header);
        has_end.then(|| Cow::Borrowed(raw.get(header.len()..).unwrap_or_default()))
    }

    fn parts(&self, wanted: &dyn Fn(&str) -> bool, visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) {
        if self.raw_body().is_some() {
            self.0.strings(wanted, visit);
        }
    }
}

/// `None` for what only marks a group's beginning or end.
fn address(entry: EnvelopeAddress) -> Option<Address> {
    let text = |octets: Vec<u8>| String::from_utf8_lossy(&octets).into_owned();
    let (local, domain) = (text(entry.mailbox?), text(entry.host?));
    Some(match (local.is_empty(), domain.is_empty()) {
        (false, false) => Address::Valid { local, domain },
        _ => Address::Invalid(if local.is_empty() { domain } else { local }),
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn message(text: &'static str) -> Message {
        Message::parse(Bytes::from_static(text.as_bytes()))
    }

    #[test]
    fn headers_and_addresses() {
        let parsed = message(
            "To : Friends: \"A, B\" <a@x.org>, c@y.org;, broken\r\nSubject: =?utf-8?q?gr=C3=B6=C3=9Fer?=\r\n and\r\nto: d@z\r\n\r\nbody",
        );
        let mail = Parsed(&parsed);
        let valid = |local: &str, domain: &str| Address::Valid { local: local.into(), domain: domain.into() };
        assert_eq!(
            mail.addresses("TO"),
            [
                vec![valid("a", "x.org"), valid("c", "y.org"), Address::Invalid("broken".into())],
                vec![valid("d", "z")]
            ]
        );
        assert_eq!(String::from_utf8_lossy(&mail.header("subject")[0]), "gr\u{f6}\u{df}er and");
        assert_eq!(&mail.raw_header("Subject")[0][..], b"=?utf-8?q?gr=C3=B6=C3=9Fer?= and");
        assert!(mail.header("x").is_empty());
    }

    #[test]
    fn a_message_may_have_no_body() {
        for (text, expected) in [
            ("A: b\r\n", None),
            ("A: b\r\n\r\n", Some("")),
            ("A: b\r\n\r\nx", Some("x")),
            ("", None),
            ("\r\nx", Some("x")),
        ] {
            let parsed = message(text);
            let body = Parsed(&parsed).raw_body().map(|body| String::from_utf8_lossy(&body).into_owned());
            assert_eq!(body.as_deref(), expected, "{text:?}");
        }
    }
}
