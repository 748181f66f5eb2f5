//! Modified UTF-7, the form of mailbox names on the wire (RFC 3501 section 5.1.3).

use base64::{
    Engine as _,
    alphabet::IMAP_MUTF7,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

/// RFC 3501: `,` in place of `/`, no padding; left-over bits must be zero.
const ENGINE: GeneralPurpose = GeneralPurpose::new(
    &IMAP_MUTF7,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(DecodePaddingMode::RequireNone),
);

/// Reads a name; `None` when it is broken: 8-bit octets, an open shift, bad base 64, an unpaired surrogate, or
/// printable US-ASCII hidden in a shift (which would give one mailbox two names).
#[must_use]
pub fn decode(wire: &[u8]) -> Option<String> {
    let mut out = String::with_capacity(wire.len());
    let mut rest = wire;
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'&' {
            if !first.is_ascii() {
                return None;
            }
            out.push(char::from(first));
            rest = tail;
            continue;
        }
        let end = memchr::memchr(b'-', tail)?;
        if end == 0 {
            out.push('&');
        } else {
            shifted(&tail[..end], &mut out)?;
        }
        rest = &tail[end + 1..];
    }
    Some(out)
}

fn shifted(encoded: &[u8], out: &mut String) -> Option<()> {
    let bytes = ENGINE.decode(encoded).ok()?;
    if bytes.is_empty() || bytes.len() % 2 != 0 {
        return None;
    }
    let units = bytes.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    for c in char::decode_utf16(units) {
        let c = c.ok()?;
        if matches!(c, ' '..='~') {
            return None;
        }
        out.push(c);
    }
    Some(())
}

/// Writes a name.
#[must_use]
pub fn encode(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut pending: Vec<u8> = Vec::new();
    for c in name.chars() {
        if matches!(c, ' '..='~') {
            unshift(&mut pending, &mut out);
            out.push(c);
            if c == '&' {
                out.push('-');
            }
        } else {
            let mut units = [0; 2];
            pending.extend(c.encode_utf16(&mut units).iter().flat_map(|unit| unit.to_be_bytes()));
        }
    }
    unshift(&mut pending, &mut out);
    out
}

fn unshift(pending: &mut Vec<u8>, out: &mut String) {
    if !pending.is_empty() {
        out.push('&');
        ENGINE.encode_string(&*pending, out);
        out.push('-');
        pending.clear();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_names() {
        for (wire, name) in [
            ("INBOX", "INBOX"),
            ("~peter/mail/&U,BTFw-/&ZeVnLIqe-", "~peter/mail/台北/日本語"),
            ("Entw&APw-rfe", "Entwürfe"),
            ("A&-B", "A&B"),
            ("&2D3eAA-", "😀"),
        ] {
            assert_eq!(decode(wire.as_bytes()).as_deref(), Some(name));
            assert_eq!(encode(name), wire);
        }
    }

    #[test]
    fn broken_names() {
        let broken: [&[u8]; 8] =
            [b"&", b"&abc", b"&AGE-", b"&2D0-", b"&A-", b"&APx-", b"a\xc3\xbc", b"&AP/8-"];
        for wire in broken {
            assert_eq!(decode(wire), None, "{:?}", String::from_utf8_lossy(wire));
        }
    }

    proptest! {
        #[test]
        fn round_trip(name in "\\PC{0,40}") {
            prop_assert_eq!(decode(encode(&name).as_bytes()), Some(name));
        }

        #[test]
        fn no_panic(wire in proptest::collection::vec(any::<u8>(), 0..60)) {
            if let Some(name) = decode(&wire) {
                prop_assert_eq!(decode(encode(&name).as_bytes()), Some(name));
            }
        }
    }
}
