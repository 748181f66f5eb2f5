//! A message and an account as the tests have them: a small MIME reader, right for what the tests send.

use std::{borrow::Cow, ops::ControlFlow};

use mailcluster_sieve::{Address, Context, Host, Mail};

/// A message in one piece.
pub struct Message(Vec<u8>);

impl Message {
    /// Lines may end with LF; they are given CRLF.
    pub fn new(text: impl AsRef<[u8]>) -> Self {
        let mut octets = Vec::new();
        for line in text.as_ref().split_inclusive(|octet| *octet == b'\n') {
            match line.strip_suffix(b"\n") {
                Some(line) => {
                    octets.extend(line.strip_suffix(b"\r").unwrap_or(line));
                    octets.extend(b"\r\n");
                }
                None => octets.extend(line),
            }
        }
        Self(octets)
    }
}

type Fields = Vec<(String, Vec<u8>)>;

/// Header fields and body of an entity.
fn split(entity: &[u8]) -> (Fields, Option<&[u8]>) {
    let mut fields = Fields::new();
    let mut rest = entity;
    loop {
        let end = rest.windows(2).position(|two| two == b"\r\n").map_or(rest.len(), |end| end + 2);
        let (line, after) = rest.split_at(end);
        rest = after;
        let text = line.strip_suffix(b"\r\n").unwrap_or(line);
        if text.is_empty() {
            return (fields, (!line.is_empty()).then_some(rest));
        }
        if let (b' ' | b'\t', Some((_, value))) = (text[0], fields.last_mut()) {
            value.extend(text);
        } else if let Some(colon) = text.iter().position(|octet| *octet == b':') {
            let name = String::from_utf8_lossy(&text[..colon]).trim_end().to_ascii_lowercase();
            fields.push((name, text[colon + 1..].to_vec()));
        }
    }
}

fn field(fields: &[(String, Vec<u8>)], name: &str) -> String {
    let value = fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    String::from_utf8_lossy(&value.unwrap_or_default()).trim().to_ascii_lowercase()
}

fn base64(text: &[u8]) -> Vec<u8> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let (mut octets, mut bits, mut have) = (Vec::new(), 0_u32, 0);
    for digit in text.iter().filter_map(|octet| ALPHABET.iter().position(|known| known == octet)) {
        bits = bits << 6 | u32::try_from(digit).unwrap();
        have += 6;
        if have >= 8 {
            have -= 8;
            octets.push((bits >> have & 0xFF) as u8);
        }
    }
    octets
}

fn quoted_printable(text: &[u8], space: u8) -> Vec<u8> {
    let mut octets = Vec::new();
    let mut rest = text;
    while let Some((&octet, after)) = rest.split_first() {
        rest = after;
        match (octet, after) {
            (b'=', [b'\r', b'\n', after @ ..]) => rest = after,
            (b'=', [high, low, after @ ..]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |octet: u8| char::from(octet).to_digit(16).unwrap();
                octets.push(u8::try_from(digit(*high) << 4 | digit(*low)).unwrap());
                rest = after;
            }
            (b'_', _) => octets.push(space),
            _ => octets.push(octet),
        }
    }
    octets
}

fn to_utf8(charset: &str, octets: Vec<u8>) -> Vec<u8> {
    match charset {
        "iso-8859-1" => octets.into_iter().map(char::from).collect::<String>().into_bytes(),
        _ => octets,
    }
}

/// Encoded words, as far as the tests have them.
fn decode_words(value: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(value).into_owned();
    let mut decoded = Vec::new();
    for (index, word) in text.split(' ').enumerate() {
        if index > 0 {
            decoded.push(b' ');
        }
        let parts: Vec<&str> = word
            .strip_prefix("=?")
            .and_then(|w| w.strip_suffix("?="))
            .map_or(vec![], |w| w.split('?').collect());
        match parts.as_slice() {
            [charset, "B" | "b", text] => {
                decoded.extend(to_utf8(&charset.to_ascii_lowercase(), base64(text.as_bytes())))
            }
            [charset, "Q" | "q", text] => {
                decoded
                    .extend(to_utf8(&charset.to_ascii_lowercase(), quoted_printable(text.as_bytes(), b' ')));
            }
            _ => decoded.extend(word.as_bytes()),
        }
    }
    decoded
}

fn parameter(content_type: &str, name: &str) -> Option<String> {
    let value = content_type.split(';').skip(1).find_map(|parameter| {
        let (known, value) = parameter.split_once('=')?;
        (known.trim() == name).then(|| value.trim().trim_matches('"').to_owned())
    })?;
    Some(value)
}

type Visit<'v> = &'v mut dyn FnMut(&[u8]) -> ControlFlow<()>;

fn walk(entity: &[u8], depth: usize, wanted: &dyn Fn(&str) -> bool, visit: Visit<'_>) -> ControlFlow<()> {
    let (fields, body) = split(entity);
    let Some(body) = body.filter(|_| depth < 8) else { return ControlFlow::Continue(()) };
    let content_type = field(&fields, "content-type");
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_owned();
    let kind = if kind.contains('/') { kind } else { "text/plain".to_owned() };
    if kind.starts_with("multipart/") {
        let boundary = format!("--{}", parameter(&content_type, "boundary").unwrap_or_default());
        let (mut pieces, mut closed) = (vec![Vec::new()], false);
        for line in body.split_inclusive(|octet| *octet == b'\n') {
            let text = String::from_utf8_lossy(line).trim_end().to_owned();
            if !closed && (text == boundary || text == format!("{boundary}--")) {
                closed = text != boundary;
                pieces.push(Vec::new());
            } else if let Some(piece) = pieces.last_mut() {
                piece.extend(line);
            }
        }
        let epilogue = if closed { pieces.pop() } else { None };
        if wanted(&kind) {
            visit(&pieces[0])?;
        }
        for piece in &pieces[1..] {
            walk(piece, depth + 1, wanted, visit)?;
        }
        return match epilogue {
            Some(epilogue) if wanted(&kind) => visit(&epilogue),
            _ => ControlFlow::Continue(()),
        };
    }
    if kind == "message/rfc822" {
        if wanted(&kind) {
            let end = body.windows(4).position(|four| four == b"\r\n\r\n").map_or(body.len(), |end| end + 2);
            visit(&body[..end])?;
        }
        return walk(body, depth + 1, wanted, visit);
    }
    if !wanted(&kind) {
        return ControlFlow::Continue(());
    }
    let decoded = match field(&fields, "content-transfer-encoding").as_str() {
        "base64" => base64(body),
        "quoted-printable" => quoted_printable(body, b'_'),
        _ => body.to_vec(),
    };
    visit(&to_utf8(&parameter(&content_type, "charset").unwrap_or_default(), decoded))
}

/// One address of a list: display names and comments are left out.
fn address(text: &str) -> Option<Address> {
    let mut text = text.trim().to_owned();
    while let (Some(open), Some(close)) = (text.find('('), text.find(')')) {
        if open > close {
            break;
        }
        text.replace_range(open..=close, "");
    }
    let text = text.trim();
    let spec = match (text.rfind('<'), text.rfind('>')) {
        (Some(open), Some(close)) if open < close => text[open + 1..close].to_owned(),
        _ => text.to_owned(),
    };
    if spec.is_empty() {
        return None;
    }
    let valid = spec.contains('@') && !spec.contains(' ');
    Some(if valid { Address::from_path(&spec) } else { Address::Invalid(spec) })
}

impl Mail for Message {
    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn header_size(&self) -> u64 {
        let body = self.raw_body().map_or(0, |body| body.len());
        (self.0.len() - body) as u64
    }

    fn raw_header(&self, name: &str) -> Vec<Cow<'_, [u8]>> {
        let fields = split(&self.0).0;
        let name = name.to_ascii_lowercase();
        fields.into_iter().filter(|(known, _)| *known == name).map(|(_, value)| value.into()).collect()
    }

    fn header(&self, name: &str) -> Vec<Cow<'_, [u8]>> {
        self.raw_header(name).into_iter().map(|value| decode_words(&value).into()).collect()
    }

    fn addresses(&self, name: &str) -> Vec<Vec<Address>> {
        let values = self.raw_header(name);
        let list = |value: &Cow<'_, [u8]>| {
            let text = String::from_utf8_lossy(value).into_owned();
            let text = match (text.find(':'), text.trim_end().strip_suffix(';')) {
                (Some(colon), Some(group)) => group[colon + 1..].to_owned(),
                _ => text,
            };
            let mut quoted = false;
            let commas = |c: char| {
                quoted ^= c == '"';
                c == ',' && !quoted
            };
            text.split(commas).filter_map(address).collect()
        };
        values.iter().map(list).collect()
    }

    fn raw_body(&self) -> Option<Cow<'_, [u8]>> {
        split(&self.0).1.map(Cow::Borrowed)
    }

    fn parts(&self, wanted: &dyn Fn(&str) -> bool, visit: &mut dyn FnMut(&[u8]) -> ControlFlow<()>) {
        let _ = walk(&self.0, 0, wanted, visit);
    }
}

/// An account with some mailboxes, some ids that were seen, and a clock that is behind UTC.
pub struct Account {
    pub mailboxes: Vec<&'static str>,
    pub seen: Vec<(&'static str, &'static str)>,
}

impl Host for Account {
    fn mailbox_exists(&self, name: &str) -> bool {
        self.mailboxes.contains(&name)
    }

    fn mailbox_id_exists(&self, id: &str) -> bool {
        id == "F6352ae03-b7f5-463c-896f-d8b48ee3"
    }

    fn seen(&self, handle: &str, id: &[u8]) -> bool {
        self.seen.iter().any(|(h, i)| *h == handle && i.as_bytes() == id)
    }

    fn utc_offset(&self, _: i64) -> i32 {
        -300
    }
}

/// 2026-07-04 21:30:05 UTC, a Saturday; 16:30:05 where the account is.
pub const NOW: i64 = 1_783_200_605;

/// Nothing special.
pub const ACCOUNT: &Account = &Account { mailboxes: vec![], seen: vec![] };

/// Mail from tim to ken+sieve.
pub fn context(host: &dyn Host) -> Context<'_> {
    Context {
        sender: "tim@example.com",
        recipient: "ken+sieve@example.org",
        addresses: &["ken@example.org"],
        separator: "+",
        now: NOW,
        environment: &[
            ("location", "MDA"),
            ("phase", "during"),
            ("domain", "example.org"),
            ("remote-host", ""),
        ],
        host,
    }
}
